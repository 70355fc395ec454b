use std::sync::Arc;

use bytes::Bytes;
use sillok_wire::v1;
use tokio::sync::oneshot;

use super::outbox::{Call, Next, Outbox, Waiting};
use crate::sequencer::{Admission, Caller, Lane, Route};

fn call(lane: Option<&Arc<Lane>>) -> (Call, oneshot::Receiver<Vec<v1::Answer>>) {
    let (answer, answers) = oneshot::channel();
    let permit = Admission::new(1).admit(1, false, Caller::Call).unwrap();
    let waiting = Waiting { count: 1, answer, lane: lane.cloned(), _permit: permit };
    (Call { commands: vec![Bytes::new()], bytes: 1, for_sites: false, lane: lane.cloned(), waiting }, answers)
}

/// What is sent, in order: the lane of a frame, or the end of one.
fn sent(outbox: &mut Outbox) -> Vec<(u64, &'static str)> {
    let next = std::iter::from_fn(|| outbox.next());
    next.map(|next| match next {
        Next::Frame { lane, .. } => (lane, "frame"),
        Next::LaneEnded(lane) => (lane, "ended"),
    })
    .collect()
}

/// A stream broke after its first frames had been turned away by a leader that was being replaced, while later ones still
/// waited to be sent. The leader was told of the lane's end before them, took them for a new lane, and decided frames four to
/// nine without one to three.
#[test]
fn the_end_of_a_lane_does_not_overtake_its_own_frames() {
    let mut outbox = Outbox::default();
    let lane = Arc::new(Lane::default());
    let mut answers = Vec::new();
    for _ in 0..3 {
        assert!(lane.enter(Route::There(outbox.stream)));
        let (call, answer) = call(Some(&lane));
        outbox.push(call);
        answers.push(answer);
    }
    assert!(outbox.end(&lane));
    let (other, answer) = call(None);
    outbox.push(other);
    answers.push(answer);
    let id = lane.id;
    assert_eq!(sent(&mut outbox), [(id, "frame"), (id, "frame"), (id, "frame"), (id, "ended"), (0, "frame")]);
}

#[test]
fn a_stream_that_never_saw_a_lane_is_not_told_of_its_end() {
    let mut outbox = Outbox::default();
    let lane = Arc::new(Lane::default());
    assert!(lane.enter(Route::There(outbox.stream)));
    let (first, mut answer) = call(Some(&lane));
    outbox.push(first);
    let refused = outbox.next_stream();
    assert_eq!(refused.len(), 1);
    assert!(!outbox.end(&lane), "the next stream knows nothing of it");
    assert!(outbox.is_empty(), "and is not opened for it");
    drop(refused);
    assert!(answer.try_recv().is_err());
}

#[test]
fn calls_of_no_lane_wait_for_the_next_stream_and_travel_together() {
    let mut outbox = Outbox::default();
    let mut answers = Vec::new();
    for _ in 0..3 {
        let (call, answer) = call(None);
        outbox.push(call);
        answers.push(answer);
    }
    assert!(outbox.next_stream().is_empty());
    assert_eq!(sent(&mut outbox), [(0, "frame")]);
}
