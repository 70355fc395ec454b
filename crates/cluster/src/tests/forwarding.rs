//! Commands that come to a node that does not lead.

use bytes::Bytes;
use sillok_wire::v1;
use tokio::time::timeout;

use super::harness::{AT_MOST, Cluster};

/// Its retry key is its channel.
/// As a stream brings it.
fn frame(commands: impl IntoIterator<Item = v1::Command>) -> Vec<Bytes> {
    v1::SubmitRequest::from_iter(commands).commands
}

pub(super) fn open(channel_id: &str) -> v1::Command {
    v1::OpenChannelRequest {
        context: Some(v1::CommandContext { retry_key: channel_id.to_owned(), ..Default::default() }),
        channel_id: channel_id.to_owned(),
        name: "가게".to_owned(),
    }
    .into()
}

/// A shop's client sent a frame without commands to a follower. It was taken for the end of the stream's lane and never
/// answered, and with it everything that the client sent behind it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_empty_frame_at_a_follower_is_answered_and_holds_up_nothing() {
    let cluster = Cluster::formed().await;
    let follower = cluster.node(cluster.follower().await);
    let submitter = follower.submitter().unwrap();
    let first = submitter.submit(frame([open("first")]));
    let empty = submitter.submit(Vec::new());
    let second = submitter.submit(frame([open("second")]));
    let mut sequences = Vec::new();
    for (answers, commands) in [(first.await, 1), (timeout(AT_MOST, empty).await.unwrap(), 0), (second.await, 1)] {
        let answers = answers.unwrap();
        assert_eq!(answers.len(), commands);
        for answer in answers {
            let Some(v1::answer::Outcome::Receipt(receipt)) = answer.outcome else { panic!("{answer:?}") };
            sequences.push(receipt.position.unwrap().sequence);
        }
    }
    assert_eq!(sequences, [1, 2]);
}
