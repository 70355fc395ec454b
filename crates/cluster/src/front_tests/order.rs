//! Order holds per channel, however many frames are on their way and whoever dies.

use std::collections::VecDeque;

use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesOrdered};
use sillok_wire::v1;
use tokio::time::{Instant, timeout};

use super::kit::{AT_MOST, Trio, add, history, open, surely};
use crate::{Node, Submitter};

type Answers = Result<Vec<v1::Answer>, tonic::Status>;

/// What a client of `Submit` does: keeps frames in flight, and after a failure resends from the first unanswered one.
struct Pipeline {
    node: Node,
    frames: VecDeque<Vec<Bytes>>,
    answered: usize,
    failures: usize,
}

impl Pipeline {
    async fn run(&mut self, until_answered: usize) {
        let begun = Instant::now();
        while self.answered < until_answered && !self.frames.is_empty() {
            assert!(begun.elapsed() < AT_MOST, "{} frames answered", self.answered);
            let submitter = self.node.submitter().unwrap();
            if !self.stream(&submitter, until_answered).await {
                self.failures += 1;
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        }
    }

    /// One stream; false where it failed.
    async fn stream(&mut self, submitter: &Submitter, until_answered: usize) -> bool {
        let mut sent = 0;
        let mut pending: FuturesOrdered<BoxFuture<'static, Answers>> = FuturesOrdered::new();
        while self.answered < until_answered && !self.frames.is_empty() {
            while pending.len() < 16 && sent < self.frames.len() {
                pending.push_back(submitter.submit(self.frames[sent].clone()).boxed());
                sent += 1;
            }
            let answers = timeout(AT_MOST, pending.next()).await.expect("every frame is answered").unwrap();
            let Ok(answers) = answers else { return false };
            assert!(answers.iter().all(crate::sequencer::is_definite));
            self.frames.pop_front();
            self.answered += 1;
            sent -= 1;
        }
        true
    }
}

async fn in_order_across(kill_the_leader: bool, through_a_follower: bool) {
    let mut trio = Trio::start().await;
    let leader = trio.leader().await;
    surely(&trio, leader, open("shop")).await;
    let at = if through_a_follower { trio.follower().await } else { leader };
    let commands = |frame| (0..5).map(move |n| add("shop", &format!("u{}", frame * 5 + n)));
    let frames = (0..200).map(|frame| v1::SubmitRequest::from_iter(commands(frame)).commands).collect();
    let mut pipeline = Pipeline { node: trio.node(at).clone(), frames, answered: 0, failures: 0 };
    pipeline.run(60).await;
    if kill_the_leader {
        // Frames of the stream are on their way when it dies.
        let mut rest = Pipeline {
            node: pipeline.node.clone(),
            frames: std::mem::take(&mut pipeline.frames),
            answered: 0,
            failures: 0,
        };
        let running = tokio::spawn(async move {
            rest.run(usize::MAX).await;
            rest
        });
        trio.kill(leader).await;
        pipeline = timeout(AT_MOST, running).await.unwrap().unwrap();
    } else {
        pipeline.run(usize::MAX).await;
        assert_eq!(pipeline.failures, 0);
    }
    assert!(pipeline.frames.is_empty());
    let node = trio.up().map(|(_, node)| node).next().unwrap();
    node.read(None).await.unwrap();
    let expected: Vec<(u64, String)> = (0..1_000).map(|n| (n + 2, format!("u{n}"))).collect();
    assert_eq!(history(node, "shop").await, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_are_decided_in_the_order_of_the_calls() {
    in_order_across(false, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forwarded_frames_are_decided_in_the_order_of_the_calls() {
    in_order_across(false, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_overtakes_when_the_leader_dies_under_a_pipeline() {
    in_order_across(true, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_are_ordered_even_if_their_answers_are_awaited_backwards() {
    let trio = Trio::start().await;
    let leader = trio.leader().await;
    surely(&trio, leader, open("shop")).await;
    for at in 0..3 {
        let node = trio.node(at);
        let calls: Vec<_> = (0..20).map(|n| node.submit(vec![add("shop", &format!("n{at}-u{n}"))])).collect();
        let mut revisions = Vec::new();
        for call in calls.into_iter().rev() {
            let answers = timeout(AT_MOST, call).await.unwrap().unwrap();
            revisions.push(super::kit::receipt(&answers[0]).revision);
        }
        assert!(revisions.is_sorted_by(|a, b| a > b), "{revisions:?}");
    }
}
