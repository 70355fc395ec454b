//! The same key and body: the original answer, for ever, whichever leader answers.

use sillok_wire::{errors::Outcome, v1::Reason};

use super::kit::{Trio, add, add_as, one, open, receipt, refused, surely, timeless};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_gets_the_original_answer_fresh_later_elsewhere_and_after_restarts() {
    let mut trio = Trio::start().await;
    let leader = trio.leader().await;
    surely(&trio, leader, open("shop")).await;
    let original = one(trio.node(leader), add("shop", "u1")).await;
    assert!(!receipt(&original).is_retry());

    let again = one(trio.node(leader), add("shop", "u1")).await;
    assert!(receipt(&again).is_retry());
    assert_eq!(timeless(&again), timeless(&original));

    let follower = trio.follower().await;
    let forwarded = one(trio.node(follower), add("shop", "u1")).await;
    assert_eq!(timeless(&forwarded), timeless(&original));

    trio.stop(leader).await;
    let next = trio.leader().await;
    assert_ne!(next, leader);
    let by_another = surely(&trio, next, add("shop", "u1")).await;
    assert_eq!(timeless(&by_another), timeless(&original), "another leader");

    for at in 0..3 {
        trio.stop(at).await;
    }
    for at in 0..3 {
        trio.boot(at).await;
    }
    let last = trio.leader().await;
    let after_restart = surely(&trio, last, add("shop", "u1")).await;
    assert_eq!(timeless(&after_restart), timeless(&original), "after a restart of all");
    assert!(receipt(&after_restart).is_retry());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_with_another_body_is_refused_in_flight_and_later() {
    let trio = Trio::start().await;
    let leader = trio.leader().await;
    surely(&trio, leader, open("shop")).await;
    // One frame: the first is still in flight when the second is decided.
    let answers = trio.node(leader).execute(vec![add_as("shop", "u1", "k"), add_as("shop", "u2", "k")]).await;
    assert_eq!(receipt(&answers[0]).revision, 2);
    assert_eq!(refused(&answers[1]), (Reason::RetryKeyReused, Some(Outcome::NotRecorded)));
    let later = one(trio.node(leader), add_as("shop", "u2", "k")).await;
    assert_eq!(refused(&later), (Reason::RetryKeyReused, Some(Outcome::NotRecorded)));
    // The scope of a key is its channel.
    surely(&trio, leader, open("other")).await;
    assert_eq!(receipt(&one(trio.node(leader), add_as("other", "u2", "k")).await).revision, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_is_recorded_and_a_retry_gets_the_same_one() {
    let mut trio = Trio::start().await;
    let leader = trio.leader().await;
    surely(&trio, leader, open("shop")).await;
    surely(&trio, leader, add("shop", "u1")).await;
    let original = one(trio.node(leader), add_as("shop", "u1", "second")).await;
    assert_eq!(refused(&original), (Reason::AlreadyFriend, Some(Outcome::Refused)));
    assert_eq!(one(trio.node(leader), add_as("shop", "u1", "second")).await, original);

    // It stays refused although the friend is gone by now: one key is one intent.
    let gone = sillok_wire::v1::RemoveFriendRequest {
        context: super::kit::context("gone"),
        channel_id: "shop".to_owned(),
        user_key: "u1".to_owned(),
    };
    let removed = one(trio.node(leader), gone.into()).await;
    assert_eq!(receipt(&removed).revision, 3, "a refusal takes no revision");
    trio.stop(leader).await;
    let next = trio.leader().await;
    assert_eq!(surely(&trio, next, add_as("shop", "u1", "second")).await, original);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_answers_and_records_nothing() {
    let trio = Trio::start().await;
    let leader = trio.leader().await;
    surely(&trio, leader, open("shop")).await;
    let mut rehearsal = add("shop", "u1");
    rehearsal.context_mut().unwrap().as_mut().unwrap().validate_only = true;
    let answer = one(trio.node(leader), rehearsal.clone()).await;
    assert_eq!(receipt(&answer).position, None);
    assert_eq!(receipt(&answer).revision, 2);
    let real = one(trio.node(leader), add("shop", "u1")).await;
    assert_eq!(receipt(&real).revision, 2, "nothing was recorded, not even the key");
    assert!(!receipt(&real).is_retry());
    let mut twice = add_as("shop", "u1", "another");
    twice.context_mut().unwrap().as_mut().unwrap().validate_only = true;
    let refusal = one(trio.node(leader), twice).await;
    assert_eq!(refused(&refusal), (Reason::AlreadyFriend, Some(Outcome::NotRecorded)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_recorded_under_a_key_can_be_found() {
    use sillok_wire::v1::{FindByRetryKeyRequest, find_by_retry_key_response::Outcome as Found};
    let trio = Trio::start().await;
    let leader = trio.leader().await;
    surely(&trio, leader, open("shop")).await;
    surely(&trio, leader, add("shop", "u1")).await;
    surely(&trio, leader, add_as("shop", "u1", "second")).await;
    let follower = trio.follower().await;
    let ask = |retry_key: &str| FindByRetryKeyRequest {
        options: None,
        channel_id: "shop".to_owned(),
        retry_key: retry_key.to_owned(),
    };
    let node = trio.node(follower);
    let Some(Found::Recorded(recorded)) = node.find_by_retry_key(ask("u1")).await.unwrap().outcome else { panic!() };
    assert_eq!(recorded.events.len(), 1);
    assert_eq!(recorded.events[0].revision, 2);
    let Some(Found::Refused(refusal)) = node.find_by_retry_key(ask("second")).await.unwrap().outcome else { panic!() };
    assert_eq!(refusal.reason(), Reason::AlreadyFriend);
    assert_eq!(node.find_by_retry_key(ask("nobody")).await.unwrap().outcome, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_in_sealed_segments_are_found_by_leaders_that_never_saw_them() {
    let mut trio = Trio::start_with(|options| options.segment_bytes = 8 << 10).await;
    let leader = trio.leader().await;
    surely(&trio, leader, open("shop")).await;
    let mut originals = Vec::new();
    for frame in 0..20 {
        let commands: Vec<_> = (0..20).map(|n| add("shop", &format!("u{}", frame * 20 + n))).collect();
        originals.extend(trio.node(leader).execute(commands).await);
    }
    // Sealing follows the commit on a thread of its own.
    let sealed = || trio.up().map(|(_, node)| node.core().chronicle.sealed().len()).min();
    tokio::time::timeout(super::kit::AT_MOST, async {
        while sealed() < Some(3) {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("the test is about sealed segments");
    for at in 0..3 {
        trio.stop(at).await;
    }
    for at in 0..3 {
        trio.boot(at).await;
    }
    let next = trio.leader().await;
    let again: Vec<_> = (0..400).map(|n| add("shop", &format!("u{n}"))).collect();
    let again = trio.node(next).execute(again).await;
    for (again, original) in again.iter().zip(&originals) {
        assert!(receipt(again).is_retry());
        assert_eq!(timeless(again), timeless(original));
    }
    assert_eq!(receipt(&one(trio.node(next), add("shop", "fresh")).await).revision, 402);
    // Old and fresh keys in one frame, which are looked for together.
    let mixed = |n: usize| if n.is_multiple_of(2) { format!("u{}", n * 10) } else { format!("new{n}") };
    let answers = trio.node(next).execute((0..40).map(|n| add("shop", &mixed(n))).collect()).await;
    for (n, answer) in answers.iter().enumerate() {
        match n % 2 {
            0 => assert_eq!(timeless(answer), timeless(&originals[n * 10])),
            _ => assert_eq!((receipt(answer).is_retry(), receipt(answer).revision), (false, 403 + n as u64 / 2)),
        }
    }
}
