//! What a fire would take: said before it burns.

use sillok_wire::v1;
use tokio::time::timeout;

use super::{
    forwarding::open,
    harness::{AT_MOST, Cluster, eventually},
};

/// Two nodes in one building, because the operator said so, and the third building dark: what was written since then stands
/// in one building only, and nobody had said it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_site_that_alone_holds_the_newest_events_is_named_with_their_number() {
    let mut cluster = Cluster::blank(&["chungju", "chungju", "seongju"]);
    for id in 1..=3 {
        cluster.boot(id).await;
    }
    cluster.node(1).initialize(cluster.initialize_request(true)).await.unwrap();
    let leader = cluster.leader().await;
    if leader == 3 {
        // Whoever leads must stand in the building that stays.
        cluster.core(3).raft.trigger().transfer_leader(1).await.unwrap();
        eventually("node 1 leads", || cluster.core(1).leading_term()).await;
    }
    let leader = cluster.leader().await;
    let written = |answers: Vec<v1::Answer>| {
        assert!(matches!(answers[0].outcome, Some(v1::answer::Outcome::Receipt(_))), "{answers:?}");
    };
    written(cluster.node(leader).execute(vec![open("before")]).await);
    let last = cluster.core(leader).chronicle.last().unwrap();
    cluster.all_committed(last.index).await;
    let core = cluster.core(leader).clone();
    eventually("the other building has it", || (core.acks.flushed(3) >= Some(last.index)).then_some(())).await;
    for site in cluster.node(leader).what_if().await.sites {
        assert!(site.data_safe && site.events_at_risk == 0, "{site:?}");
    }

    cluster.stop(3).await;
    eventually("its silence is noticed", || (!crate::status::reachable(&core).contains(&3)).then_some(())).await;
    written(cluster.node(leader).execute(vec![open("after-1")]).await);
    written(cluster.node(leader).execute(vec![open("after-2")]).await);
    let last = core.chronicle.last().unwrap();
    cluster.all_committed(last.index).await;
    for asked in [1, 2] {
        let sites = cluster.node(asked).what_if().await.sites;
        let of = |name: &str| sites.iter().find(|site| site.site == name).unwrap();
        let chungju = of("chungju");
        assert_eq!((chungju.data_safe, chungju.events_at_risk), (false, 2), "{chungju:?}");
        assert!(!chungju.writes_continue && !chungju.reads_continue, "{chungju:?}");
        assert!(chungju.summary.contains("2 acknowledged events are only known to be there"), "{chungju:?}");
        assert!(chungju.summary.contains("writes and reads would stop"), "{chungju:?}");
        let seongju = of("seongju");
        assert!(seongju.data_safe && seongju.writes_continue && seongju.reads_continue, "{seongju:?}");
    }
}

/// The last site that answered said that every event ever acknowledged was at risk, because it had nobody to ask.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_that_hears_nobody_says_that_it_does_not_know() {
    let mut cluster = Cluster::formed().await;
    let leader = cluster.leader().await;
    let answers = cluster.node(leader).execute(vec![open("shop")]).await;
    assert!(matches!(answers[0].outcome, Some(v1::answer::Outcome::Receipt(_))), "{answers:?}");
    let last = cluster.core(leader).chronicle.last().unwrap();
    cluster.all_committed(last.index).await;
    let follower = cluster.follower().await;
    let other = (1..=3).find(|id| *id != leader && *id != follower).unwrap();
    cluster.kill(other).await;
    cluster.kill(leader).await;
    let core = cluster.core(follower);
    eventually("nobody leads", || core.leader().is_none().then_some(())).await;
    let site = core.site.clone();
    let what_if = timeout(AT_MOST, cluster.node(follower).what_if()).await.unwrap();
    let own = what_if.sites.iter().find(|loss| loss.site == site).unwrap();
    assert_eq!((own.data_safe, own.events_at_risk), (false, 0), "{own:?}");
    assert!(own.summary.contains("not known here"), "{own:?}");
    assert!(!own.reads_continue && !own.writes_continue, "{own:?}");
    for others in what_if.sites.iter().filter(|loss| loss.site != site) {
        assert!(others.data_safe && others.reads_continue && !others.writes_continue, "{others:?}");
    }
}
