//! Clients that repeat themselves at every node at once, while leadership wanders, disks stall and quorums come and go.
//! The seed is printed; `SILLOK_SEED` takes it again. The order of events within a run is the machine's.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::Mutex;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use sillok_wire::{
    errors::Outcome,
    v1::{self, Reason},
};
use tokio::time::{Duration, sleep, timeout};

use super::kit::{AT_MOST, Trio, add_as, history, open, receipt, refused, surely, timeless};
use crate::Node;

const WRITERS: u64 = 4;
const ROUNDS: usize = 7;

/// The nodes that are up, for the writers.
type Up = Arc<Mutex<Vec<Node>>>;

/// One key and the two bodies that clients send under it; the first to be recorded is the one that counts.
#[derive(Debug, Clone, Default)]
struct Asked {
    /// Every answer to each body.
    answers: BTreeMap<String, Vec<v1::Answer>>,
}

#[derive(Debug, PartialEq, Eq)]
enum Told {
    /// A receipt, or a refusal of the domain.
    Recorded,
    /// The key belongs to the other body.
    Reused,
    NotRecorded,
    Unknown,
}

fn told(answer: &v1::Answer) -> Told {
    if matches!(answer.outcome, Some(v1::answer::Outcome::Receipt(_))) {
        return Told::Recorded;
    }
    match refused(answer) {
        (_, Some(Outcome::Refused)) => Told::Recorded,
        (Reason::RetryKeyReused, _) => Told::Reused,
        (_, Some(Outcome::NotRecorded)) => Told::NotRecorded,
        (_, None) => Told::Unknown,
    }
}

/// Sends the same few commands again and again, to whoever is up, until told to stop.
async fn write(writer: u64, mut random: StdRng, up: Up, stop: Arc<AtomicBool>) -> BTreeMap<String, Asked> {
    let mut all = BTreeMap::new();
    for n in 0.. {
        if stop.load(Ordering::Acquire) {
            break;
        }
        let key = format!("w{writer}-{n}");
        let mut tries = Vec::new();
        for _ in 0..random.random_range(1..=4) {
            let user = if random.random_bool(0.15) { format!("other-{key}") } else { key.clone() };
            let pause = Duration::from_millis(random.random_range(0..20));
            let node = {
                let up = up.lock();
                up[random.random_range(0..up.len())].clone()
            };
            let command = add_as("shop", &user, &key);
            tries.push(async move {
                sleep(pause).await;
                let answers = timeout(AT_MOST, node.execute(vec![command])).await.expect("a command hangs");
                (user, answers.into_iter().next().unwrap())
            });
        }
        let asked: &mut Asked = all.entry(key).or_default();
        for (user, answer) in futures::future::join_all(tries).await {
            asked.answers.entry(user).or_default().push(answer);
        }
    }
    all
}

/// What goes wrong, one thing after another.
async fn disturb(trio: &mut Trio, random: &mut StdRng, up: &Up) {
    let publish = |trio: &Trio| *up.lock() = trio.up().map(|(_, node)| node.clone()).collect();
    for _ in 0..ROUNDS {
        let leader = trio.leader().await;
        let others: Vec<usize> = (0..3).filter(|at| *at != leader).collect();
        let pause = Duration::from_millis(random.random_range(20..400));
        match random.random_range(0..4) {
            0 => {
                let to = others[random.random_range(0..others.len())] as u64 + 1;
                trio.node(leader).core().raft.trigger().transfer_leader(to).await.unwrap();
            }
            1 => {
                let slow = others[random.random_range(0..others.len())];
                trio.disks[slow].hold_syncs();
                sleep(pause).await;
                trio.disks[slow].release_syncs();
            }
            2 => {
                others.iter().for_each(|at| trio.disks[*at].hold_syncs());
                sleep(3 * pause).await;
                others.iter().for_each(|at| trio.disks[*at].release_syncs());
            }
            _ => {
                for at in &others {
                    trio.kill(*at).await;
                    publish(trio);
                }
                sleep(2 * pause).await;
                for at in &others {
                    trio.boot(*at).await;
                    publish(trio);
                }
            }
        }
        sleep(pause).await;
    }
    trio.leader().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_happens_no_client_is_told_what_is_not_so() {
    let seed = std::env::var("SILLOK_SEED").map_or_else(|_| rand::random(), |seed| seed.parse().unwrap());
    println!("SILLOK_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut trio = Trio::start().await;
    let leader = trio.leader().await;
    surely(&trio, leader, open("shop")).await;

    let up: Up = Arc::new(Mutex::new(trio.up().map(|(_, node)| node.clone()).collect()));
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let random = StdRng::seed_from_u64(seed.wrapping_add(writer + 1));
            tokio::spawn(write(writer, random, up.clone(), stop.clone()))
        })
        .collect();
    disturb(&mut trio, &mut random, &up).await;
    stop.store(true, Ordering::Release);
    let mut asked = BTreeMap::new();
    for writer in writers {
        asked.extend(timeout(AT_MOST, writer).await.expect("a writer hangs").unwrap());
    }

    let leader = trio.leader().await;
    trio.node(leader).read(None).await.unwrap();
    let recorded = history(trio.node(leader), "shop").await;
    let users: BTreeSet<&str> = recorded.iter().map(|(_, user)| &**user).collect();
    assert_eq!(users.len(), recorded.len(), "seed {seed}: an event is there twice");
    let gapless = recorded.iter().enumerate().all(|(n, (revision, _))| *revision == n as u64 + 2);
    assert!(gapless, "seed {seed}: the revisions have gaps");

    let mut counts = BTreeMap::<&str, usize>::new();
    for (key, asked) in &asked {
        for (user, answers) in &asked.answers {
            let context = || format!("seed {seed}, key {key}, user {user}: {answers:#?}");
            let is_there = users.contains(&**user);
            let mut original = None;
            for answer in answers {
                let name = match told(answer) {
                    Told::Recorded => {
                        assert!(is_there, "acknowledged and not there: {}", context());
                        let original = original.get_or_insert_with(|| timeless(answer));
                        assert_eq!(*original, timeless(answer), "two originals: {}", context());
                        "recorded"
                    }
                    Told::Reused => {
                        assert!(!is_there, "recorded, and called another's: {}", context());
                        let bound = asked.answers.keys().any(|other| other != user && users.contains(&**other));
                        assert!(bound, "called another's, which is not there: {}", context());
                        "reused"
                    }
                    Told::NotRecorded => "not recorded",
                    Told::Unknown => "unknown",
                };
                *counts.entry(name).or_default() += 1;
            }
            if answers.iter().all(|answer| told(answer) == Told::NotRecorded) {
                assert!(!is_there, "certainly not recorded, and there: {}", context());
            }
            // Whoever asks again is told what was told before, or learns what is there.
            let again = surely(&trio, leader, add_as("shop", user, key)).await;
            match (&original, is_there) {
                (Some(original), _) => assert_eq!(*original, timeless(&again), "{}", context()),
                (None, true) => assert!(receipt(&again).is_retry(), "doubled: {}", context()),
                (None, false) => {}
            }
        }
        let there = asked.answers.keys().filter(|user| users.contains(&***user)).count();
        assert!(there <= 1, "seed {seed}: key {key} stands for two commands");
    }
    println!("{} keys, {counts:?}, {} events", asked.len(), recorded.len());
    assert!(counts.contains_key("recorded"), "nothing was recorded: the test tests nothing");
    for (_, node) in trio.up() {
        assert!(node.status().await.trouble.is_empty(), "seed {seed}");
    }
}
