//! A quorum lost for good, and what must come of it: nothing that the survivor has is lost, and nobody who was left behind
//! is ever listened to again.

use std::{path::PathBuf, sync::Arc};

use sillok_chronicle::{Chronicle, Disk};
use sillok_wire::{record::Recovery, v1};

use super::harness::{Cluster, eventually, write};
use crate::{
    FailureKind, NodeOptions, StartError,
    chain::ChainFold,
    recover::{ActError, Missing, Order, Plan, PlanError, Survivor, act, plan, survey},
    types::LogId,
};

fn disk_of(cluster: &Cluster, id: u64) -> Arc<dyn Disk> {
    cluster.disk(id).boot()
}

fn dir_of(cluster: &mut Cluster, id: u64) -> PathBuf {
    cluster.site(id).options.data_dir.join("chronicle")
}

fn look(cluster: &mut Cluster, id: u64) -> Survivor {
    let dir = dir_of(cluster, id);
    survey(&disk_of(cluster, id), &dir, |_| {}).unwrap()
}

fn look_at(cluster: &mut Cluster, ids: &[u64]) -> Result<Plan, PlanError> {
    plan(ids.iter().map(|id| look(cluster, *id)).collect())
}

fn order(plan: &Plan) -> Order {
    Order {
        confirm: plan.cluster_id.clone(),
        actor: "김사관".to_owned(),
        reason: "두 곳이 탔다".to_owned(),
        allow_single_site_quorum: true,
        now: 1_700_000_000_000_000_000,
    }
}

/// Everything of a node's chronicle, byte for byte.
fn bytes(cluster: &mut Cluster, id: u64) -> Vec<(String, Vec<u8>)> {
    let (dir, disk) = (dir_of(cluster, id), disk_of(cluster, id));
    let names = disk.list(&dir).unwrap();
    names.into_iter().map(|name| (name.clone(), cluster.disk(id).bytes(&dir.join(&name)).unwrap_or_default())).collect()
}

/// Every byte is read again and again.
fn small(options: &mut NodeOptions) {
    options.segment_bytes = 1 << 16;
}

async fn boot_blank(cluster: &mut Cluster, site: &str) -> u64 {
    let id = cluster.add_blank(site);
    small(&mut cluster.site(id).options);
    cluster.boot(id).await;
    id
}

/// Three sites, of which node 1 has everything that was ever written; all stopped.
async fn burnt() -> (Cluster, LogId) {
    let mut cluster = Cluster::formed_with(small).await;
    let leader = cluster.leader().await;
    let mut last = write(cluster.core(leader), 1).await;
    for marker in 2..10 {
        last = write(cluster.core(leader), marker).await;
    }
    cluster.all_committed(last.index).await;
    for id in 1..=3 {
        cluster.stop(id).await;
    }
    (cluster, last)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn survivors_that_are_a_quorum_need_nothing() {
    let (mut cluster, _) = burnt().await;
    let refused = look_at(&mut cluster, &[1, 2]).unwrap_err();
    assert!(matches!(&refused, PlanError::HoldsQuorum { nodes, .. } if nodes == "1, 2"), "{refused}");
    assert!(refused.to_string().contains("start them"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_plan_says_what_is_certain_and_what_can_not_be_known() {
    let (mut cluster, last) = burnt().await;
    let before = bytes(&mut cluster, 1);
    let plan = look_at(&mut cluster, &[1]).unwrap();
    assert_eq!(plan.base().identity.node_id, 1);
    assert!(plan.last().index >= last.index && plan.certain().is_some());
    // One lost node of two could not have acknowledged anything; two could.
    assert_eq!(plan.missing, Missing::Unknown { since: Some(9) });
    assert_eq!(plan.lost.iter().map(|node| node.id).collect::<Vec<_>>(), [2, 3]);
    assert_eq!((plan.epoch().number, plan.next_epoch()), (0, 1));
    assert_eq!(before, bytes(&mut cluster, 1), "looking changes nothing");

    let wrong = Order { confirm: "ab".repeat(16), ..order(&plan) };
    let silent = Order { reason: " ".to_owned(), ..order(&plan) };
    let unsaid = Order { allow_single_site_quorum: false, ..order(&plan) };
    let disk = disk_of(&cluster, 1);
    assert!(matches!(act(&disk, &plan, &wrong), Err(ActError::NotConfirmed { .. })));
    assert!(matches!(act(&disk, &plan, &silent), Err(ActError::Text { what: "reason", .. })));
    assert!(matches!(act(&disk, &plan, &unsaid), Err(ActError::Placement { node: 1, .. })));
    assert_eq!(before, bytes(&mut cluster, 1), "a refusal changes nothing");
}

/// The node that was furthest behind had been chosen because its directory was the first one named.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_freshest_survivor_is_chosen_wherever_it_is_named() {
    let mut cluster = Cluster::formed_with(small).await;
    for site in ["chungju", "seongju"] {
        let id = boot_blank(&mut cluster, site).await;
        let add = v1::AddNodeRequest {
            node: Some(cluster.describe(id)),
            allow_single_site_quorum: true,
            ..Default::default()
        };
        let leader = cluster.leader().await;
        cluster.node(leader).add_node(add).await.unwrap();
    }
    let behind = cluster.follower().await;
    cluster.stop(behind).await;
    let leader = cluster.leader().await;
    for marker in 1..6 {
        write(cluster.core(leader), marker).await;
    }
    for id in 1..=5 {
        cluster.stop(id).await;
    }
    for named in [[behind, leader], [leader, behind]] {
        let plan = look_at(&mut cluster, &named).unwrap();
        assert_eq!(plan.base().identity.node_id, leader);
        // Three of five were lost, which is a quorum.
        assert!(matches!(plan.missing, Missing::Unknown { .. }));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_recovered_cluster_goes_on_and_is_made_whole_by_blank_nodes() {
    let (mut cluster, last) = burnt().await;
    let plan = look_at(&mut cluster, &[1]).unwrap();
    let done = act(&disk_of(&cluster, 1), &plan, &order(&plan)).unwrap();
    assert_eq!((done.epoch, done.index), (1, plan.last().index + 1));
    assert!(done.term > plan.last().term + 100_000, "no lost node has come so far: {}", done.term);

    cluster.boot(1).await;
    assert_eq!(cluster.leader().await, 1);
    let recovery = cluster.node(1).status().await.recovery.unwrap();
    assert_eq!((recovery.epoch, recovery.node_id, &*recovery.actor), (1, 1, "김사관"));
    assert_eq!(recovery.lost_node_ids, [2, 3]);
    assert_eq!(recovery.recovered_at.unwrap().seconds, 1_700_000_000);
    let stamped = cluster.core(1).commits.borrow().unwrap().accepted_at;
    assert_eq!(stamped, 9, "the operator's clock, which may be wrong, moves no event's time");
    for site in ["seongju", "jeonju"] {
        let id = boot_blank(&mut cluster, site).await;
        let add = v1::AddNodeRequest {
            node: Some(cluster.describe(id)),
            allow_single_site_quorum: id == 4,
            ..Default::default()
        };
        cluster.node(1).add_node(add).await.unwrap();
    }
    let newest = write(cluster.core(1), 2_000_000_000_000_000_000).await;
    cluster.all_committed(newest.index).await;
    cluster.assert_same_log(newest.index);
    assert!(newest.index > last.index);
    for id in [1, 4, 5] {
        assert_eq!(cluster.node(id).status().await.recovery.unwrap().epoch, 1);
    }
    // A joined node remembers the epoch, and the survivor does not take itself for one that was interrupted.
    for id in [1, 4] {
        cluster.stop(id).await;
        cluster.boot(id).await;
    }
    cluster.leader().await;
}

/// An old disk was found in the ruins and put back: it must not be listened to, and must not come back again with another
/// one like it, in a place from where the survivor cannot be reached.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_that_was_left_behind_stands_still_for_ever() {
    let (mut cluster, _) = burnt().await;
    let plan = look_at(&mut cluster, &[1]).unwrap();
    act(&disk_of(&cluster, 1), &plan, &order(&plan)).unwrap();
    cluster.boot(1).await;
    cluster.leader().await;
    let term = cluster.core(1).leading_term();

    cluster.boot(2).await;
    let failure = eventually("the old node hears of it", || cluster.core(2).failures.reported()).await;
    assert_eq!((failure.kind, failure.exit_code()), (FailureKind::Superseded, 66));
    for said in ["epoch 1", "김사관", "두 곳이 탔다", "erase it"] {
        assert!(failure.message.contains(said), "{failure}");
    }
    cluster.stop(2).await;
    assert_eq!(cluster.core(1).leading_term(), term, "the leader is not disturbed");
    let again = cluster.try_boot(2).await.unwrap_err();
    assert!(matches!(again, StartError::Superseded { by: 1, epoch: 0 }), "{again}");
    assert_eq!(again.exit_code(), 66);

    // It cannot be added either, erased or not: its id was used.
    cluster.boot(3).await;
    let add = v1::AddNodeRequest { node: Some(cluster.describe(3)), ..Default::default() };
    assert!(cluster.node(1).add_node(add).await.is_err());
}

/// The machine lost power between the record and the membership.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_interrupted_recovery_is_finished_by_the_same_command() {
    let (mut cluster, _) = burnt().await;
    let first = look_at(&mut cluster, &[1]).unwrap();
    let done = act(&disk_of(&cluster, 1), &first, &order(&first)).unwrap();
    let mut options = sillok_chronicle::Options::new(dir_of(&mut cluster, 1));
    options.disk = disk_of(&cluster, 1);
    options.fold = Box::new(ChainFold::default());
    options.segment_bytes = cluster.site(1).options.segment_bytes;
    let chronicle = Chronicle::open(options).unwrap();
    let (cut, gone) = std::sync::mpsc::channel();
    chronicle.truncate_from(done.index + 1, move |result| drop(cut.send(result)));
    gone.recv().unwrap().unwrap();
    chronicle.close();

    let halfway = cluster.try_boot(1).await.unwrap_err();
    assert!(matches!(halfway, StartError::Unfinished { epoch: 1 }), "{halfway}");
    let again = look_at(&mut cluster, &[1]).unwrap();
    assert!(again.unfinished && again.next_epoch() == 1);
    let other = Order { actor: "somebody else".to_owned(), ..order(&again) };
    let finished = act(&disk_of(&cluster, 1), &again, &other).unwrap();
    assert_eq!((finished.epoch, finished.index), (1, done.index));
    cluster.boot(1).await;
    cluster.leader().await;
    let recovery = cluster.node(1).status().await.recovery.unwrap();
    assert_eq!(&*recovery.actor, "김사관", "what is recorded stands");
    let over = look(&mut cluster, 2);
    assert_eq!(over.epoch.number, 0);
}

/// Two operators recovered from two survivors, who never heard of each other.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_recoveries_exclude_each_other() {
    let (mut cluster, _) = burnt().await;
    for id in [1, 2] {
        let plan = look_at(&mut cluster, &[id]).unwrap();
        act(&disk_of(&cluster, id), &plan, &order(&plan)).unwrap();
        cluster.boot(id).await;
        eventually("it leads alone", || cluster.core(id).leading_term()).await;
    }
    let epochs = [1, 2].map(|id| cluster.core(id).peers.local().epoch());
    assert_eq!((epochs[0].number, epochs[1].number), (1, 1));
    assert_ne!(epochs[0].token, epochs[1].token);
    let add =
        v1::AddNodeRequest { node: Some(cluster.describe(2)), allow_single_site_quorum: true, ..Default::default() };
    assert!(cluster.node(1).add_node(add).await.is_err());
    assert!(cluster.core(1).failures.reported().is_none() && cluster.core(2).failures.reported().is_none());
}

/// The survivor burned later, too, and an old disk was all that was left: better than nothing, in an epoch of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_old_disk_can_still_be_gone_on_from_when_nothing_else_is_left() {
    let (mut cluster, _) = burnt().await;
    let plan = look_at(&mut cluster, &[1]).unwrap();
    act(&disk_of(&cluster, 1), &plan, &order(&plan)).unwrap();
    cluster.boot(1).await;
    cluster.leader().await;
    cluster.boot(2).await;
    eventually("the old node hears of it", || cluster.core(2).failures.reported()).await;
    cluster.stop(2).await;
    cluster.stop(1).await;

    assert!(matches!(look_at(&mut cluster, &[2, 1]), Err(PlanError::HoldsQuorum { .. })), "node 1 alone is one");
    let plan = look_at(&mut cluster, &[2]).unwrap();
    assert_eq!((plan.base().superseded_by, plan.next_epoch()), (1, 2));
    act(&disk_of(&cluster, 2), &plan, &order(&plan)).unwrap();
    cluster.boot(2).await;
    eventually("it leads alone", || cluster.core(2).leading_term()).await;
    assert_eq!(cluster.node(2).status().await.recovery.unwrap().epoch, 2);
}

#[test]
fn a_recovery_is_told_in_one_sentence() {
    let recovery = Recovery {
        epoch: 2,
        kept_sequence: 41,
        node_id: 3,
        site: "jeonju".to_owned(),
        actor: "kim".to_owned(),
        reason: "fire".to_owned(),
        ..Recovery::default()
    };
    let recovered = crate::chain::Recovered { at: LogId { term: 1, index: 2 }, recovery };
    assert_eq!(
        recovered.to_string(),
        "this cluster was recovered at epoch 2 from position 41 of node 3 at jeonju by kim: fire"
    );
}
