//! A receipt names only sites that have flushed the record.

use std::time::Duration;

use super::kit::{AT_MOST, SITES, Trio, add, one, open, receipt, surely, wait_all_sites};

fn sites(answer: &sillok_wire::v1::Answer) -> Vec<&str> {
    let durability = receipt(answer).durability.as_ref().unwrap();
    durability.sites.iter().map(|site| &*site.site).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receipt_names_only_sites_that_have_synced() {
    let trio = Trio::start().await;
    let leader = trio.leader().await;
    surely(&trio, leader, wait_all_sites(open("shop"), AT_MOST)).await;
    let slow = trio.follower().await;
    trio.disks[slow].hold_syncs();

    let quorum = one(trio.node(leader), add("shop", "u1")).await;
    assert_eq!(sites(&quorum).len(), 2);
    assert!(!sites(&quorum).contains(&SITES[slow]));
    assert!(!receipt(&quorum).durability.as_ref().unwrap().all_sites);

    let begun = tokio::time::Instant::now();
    let waited = one(trio.node(leader), wait_all_sites(add("shop", "u2"), Duration::from_millis(200))).await;
    assert!(begun.elapsed() >= Duration::from_millis(200));
    assert!(!sites(&waited).contains(&SITES[slow]), "OK with the sites so far");
    assert!(!receipt(&waited).durability.as_ref().unwrap().all_sites);

    // It does not hold up what comes after it.
    let slow_one = trio.node(leader).execute(vec![wait_all_sites(add("shop", "u3"), AT_MOST)]);
    let mut slow_one = std::pin::pin!(slow_one);
    tokio::select! {
        biased;
        answer = &mut slow_one => panic!("answered with a site's disk held: {answer:?}"),
        answer = one(trio.node(leader), add("shop", "u4")) => assert_eq!(receipt(&answer).revision, 5),
    }
    trio.disks[slow].release_syncs();
    let everywhere = slow_one.await.remove(0);
    assert_eq!(sites(&everywhere).len(), 3);
    assert!(receipt(&everywhere).durability.as_ref().unwrap().all_sites);
    // The same answer, and more sites by now.
    let again = one(trio.node(leader), wait_all_sites(add("shop", "u1"), AT_MOST)).await;
    assert!(receipt(&again).is_retry());
    assert_eq!(sites(&again).len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_for_all_sites_through_a_follower_holds_up_nobody() {
    let mut trio = Trio::start().await;
    let leader = trio.leader().await;
    surely(&trio, leader, open("shop")).await;
    let (asked, down) = match leader {
        0 => (1, 2),
        1 => (0, 2),
        _ => (0, 1),
    };
    trio.stop(down).await;
    let node = trio.node(asked);
    let slow = node.submit(vec![wait_all_sites(add("shop", "u1"), Duration::from_secs(20))]);
    let quick = tokio::time::timeout(Duration::from_secs(15), node.submit(vec![add("shop", "u2")])).await;
    let quick = quick.expect("a frame behind one that waits is answered").unwrap();
    assert_eq!(receipt(&quick[0]).revision, 3, "decided in the order of the calls");
    drop(slow);
}
