//! Numbers for an operator.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crate::{
    core::{Core, Leadership},
    execute::Front,
};

const EVERY: Duration = Duration::from_secs(1);

/// Publishes gauges once a second and counts changes of leadership. Runs as long as the node does.
pub(crate) async fn publish(core: Arc<Core>, front: Arc<Front>) {
    let mut leadership = core.leadership.clone();
    let (mut elections, mut lags) = (Elections::default(), Lags::default());
    metrics::gauge!("sillok_node_info", "node" => core.id.to_string(), "site" => core.site.clone()).set(1.0);
    loop {
        let now = *leadership.borrow_and_update();
        if elections.is_new(&now) {
            metrics::counter!("sillok_leader_changes_total").increment(1);
        }
        metrics::gauge!("sillok_raft_term").set(now.term as f64);
        metrics::gauge!("sillok_raft_is_leader").set(f64::from(u8::from(now.is_local)));
        gauges(&core, &front);
        lags.publish(followers(&core));
        tokio::select! {
            () = core.stopping.cancelled() => return,
            changed = leadership.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

fn gauges(core: &Core, front: &Front) {
    let committed = core.commits.borrow().map_or(0, |commit| commit.log_id.index);
    let applied = front.folding().applied().map_or(0, |applied| applied.index);
    metrics::gauge!("sillok_commit_index").set(committed as f64);
    metrics::gauge!("sillok_apply_lag_entries").set(committed.saturating_sub(applied) as f64);
    metrics::gauge!("sillok_chronicle_unflushed_bytes").set(core.chronicle.unflushed_bytes() as f64);
    metrics::gauge!("sillok_chronicle_flush_lag_seconds").set(core.chronicle.flush_lag().as_secs_f64());
    metrics::gauge!("sillok_chronicle_disk_full").set(f64::from(u8::from(core.chronicle.is_disk_full())));
    metrics::gauge!("sillok_sequencer_queue_bytes").set(front.queue_bytes() as f64);
}

/// Site and lag of every member, where this node leads: only a leader knows.
fn followers(core: &Core) -> BTreeMap<u64, (String, u64)> {
    if core.leading_term().is_none() {
        return BTreeMap::new();
    }
    let last = core.chronicle.last().map_or(0, |last| last.index);
    let lag = |id| core.acks.flushed(id).map_or(last + 1, |flushed| last.saturating_sub(flushed));
    core.roster.view().members.iter().map(|(&id, member)| (id, (member.site.clone(), lag(id)))).collect()
}

/// One election has one winner, who may have won the one before as well.
#[derive(Default)]
struct Elections {
    /// Of the newest leader.
    term: Option<u64>,
}

impl Elections {
    /// Somebody leads who did not before, or again in a new term.
    fn is_new(&mut self, now: &Leadership) -> bool {
        let term = now.leader.map(|_| now.term);
        let is_new = term.is_some() && term != self.term;
        self.term = term.or(self.term);
        is_new
    }
}

/// The gauges of replication lag.
#[derive(Default)]
struct Lags {
    /// Site of each node whose gauge shows a number.
    shown: BTreeMap<u64, String>,
}

impl Lags {
    fn publish(&mut self, lags: BTreeMap<u64, (String, u64)>) {
        for (id, site) in &self.shown {
            if !lags.contains_key(id) {
                // A gauge cannot be taken back; a number would stand there for ever, looking like news.
                lag_of(*id, site).set(f64::NAN);
            }
        }
        self.shown = lags
            .into_iter()
            .map(|(id, (site, lag))| {
                lag_of(id, &site).set(lag as f64);
                (id, site)
            })
            .collect();
    }
}

fn lag_of(id: u64, site: &str) -> metrics::Gauge {
    metrics::gauge!("sillok_replication_lag_entries", "node" => id.to_string(), "site" => site.to_owned())
}

#[cfg(test)]
mod tests {
    use metrics::{Counter, Gauge, GaugeFn, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
    use parking_lot::Mutex;

    use super::*;

    /// The last value of each gauge.
    #[derive(Default)]
    struct Shown(Arc<Mutex<BTreeMap<String, f64>>>);

    struct One(Arc<Mutex<BTreeMap<String, f64>>>, String);

    impl GaugeFn for One {
        fn increment(&self, _: f64) {
            unreachable!("gauges are set")
        }

        fn decrement(&self, _: f64) {
            unreachable!("gauges are set")
        }

        fn set(&self, value: f64) {
            self.0.lock().insert(self.1.clone(), value);
        }
    }

    impl Recorder for Shown {
        fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

        fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
            Counter::noop()
        }

        fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
            let node = key.labels().find(|label| label.key() == "node").map_or("", |label| label.value());
            Gauge::from_arc(Arc::new(One(self.0.clone(), node.to_owned())))
        }

        fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
            Histogram::noop()
        }
    }

    /// An operator was woken by the lag of a node that had been removed, on a leader that no longer was one.
    #[test]
    fn nobody_is_shown_as_lagging_by_a_node_that_does_not_know() {
        let shown = Shown::default();
        let of = |node: &str| shown.0.lock()[node];
        let seen = |lags: &[(u64, u64)]| lags.iter().map(|&(id, lag)| (id, ("chungju".to_owned(), lag))).collect();
        metrics::with_local_recorder(&shown, || {
            let mut lags = Lags::default();
            lags.publish(seen(&[(1, 0), (2, 7)]));
            assert_eq!((of("1"), of("2")), (0.0, 7.0));
            lags.publish(seen(&[(1, 3)]));
            assert!(of("1") == 3.0 && of("2").is_nan(), "node 2 was removed");
            lags.publish(seen(&[]));
            assert!(of("1").is_nan(), "this node was deposed");
            lags.publish(seen(&[(2, 5)]));
            assert_eq!(of("2"), 5.0);
        });
    }

    #[test]
    fn a_leader_elected_again_is_an_election() {
        let mut elections = Elections::default();
        let seen = |term, leader| Leadership { term, leader, is_local: false };
        assert!(!elections.is_new(&seen(0, None)));
        assert!(elections.is_new(&seen(1, Some(1))));
        assert!(!elections.is_new(&seen(1, None)), "it is not heard");
        assert!(!elections.is_new(&seen(1, Some(1))), "and heard again: nobody was elected");
        assert!(!elections.is_new(&seen(2, None)));
        assert!(elections.is_new(&seen(2, Some(1))), "the same node, elected again");
    }
}
