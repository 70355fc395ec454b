//! The fire of 2022, small: the leader's process is killed while eight shops write. Nothing acknowledged may be missing,
//! nothing may stand twice, and the writers are ordinary clients that are told nothing.

#![expect(clippy::unwrap_used, reason = "a scenario that cannot go on fails where it stands")]

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use rand::{Rng, SeedableRng, rngs::StdRng};
use sillok_client::{Client, commands};
use sillok_tests::{Cluster, account, eventually};
use sillok_wire::v1;

const BINARY: &str = env!("CARGO_BIN_EXE_sillok-under-test");
const WRITERS: usize = 8;
const CHANNELS: usize = 2;
const ROUNDS: usize = 10;

/// What the writers were told: channel and user key to revision; and when the last answer came.
#[derive(Default)]
struct Told {
    acknowledged: Mutex<HashMap<(usize, String), u64>>,
    count: AtomicU64,
    last: Mutex<Option<Instant>>,
    longest_gap: Mutex<Duration>,
    stop: AtomicBool,
}

impl Told {
    fn note(&self, channel: usize, user_key: String, revision: u64) {
        self.acknowledged.lock().unwrap().insert((channel, user_key), revision);
        self.count.fetch_add(1, Ordering::Relaxed);
        let now = Instant::now();
        if let Some(before) = self.last.lock().unwrap().replace(now) {
            let mut longest = self.longest_gap.lock().unwrap();
            *longest = (*longest).max(now - before);
        }
    }

    fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    fn take_gap(&self) -> Duration {
        std::mem::take(&mut self.longest_gap.lock().unwrap())
    }
}

fn shop(channel: usize) -> String {
    format!("shop-{channel}")
}

async fn write(client: Client, writer: usize, told: Arc<Told>) {
    let channel = writer % CHANNELS;
    for n in 0.. {
        if told.stop.load(Ordering::Relaxed) {
            return;
        }
        let user_key = format!("w{writer}-{n}");
        let receipt = client
            .execute(commands::add_friend(shop(channel), user_key.clone()))
            .await
            .unwrap_or_else(|error| panic!("writer {writer} was not answered: {error}"));
        told.note(channel, user_key, receipt.revision);
    }
}

/// Every acknowledged friend stands exactly once, where its receipt said; every node agrees.
async fn check(cluster: &Cluster, told: &Told) {
    cluster.settle().await;
    let acknowledged = told.acknowledged.lock().unwrap().clone();
    for channel in 0..CHANNELS {
        let events = account::events(cluster.site(1), &shop(channel)).await.unwrap();
        let mut at: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for event in &events {
            let Some(v1::payload::Event::FriendAdded(added)) = event.payload.as_ref().and_then(|p| p.event.as_ref())
            else {
                continue;
            };
            let Some(v1::personal::Form::Plain(plain)) = added.personal.as_ref().and_then(|p| p.form.as_ref()) else {
                panic!("a friend without a key at revision {}", event.revision);
            };
            at.entry(plain.user_key.clone()).or_default().push(event.revision);
        }
        for (user_key, revisions) in &at {
            assert_eq!(revisions.len(), 1, "{user_key} stands at {revisions:?}");
        }
        for ((_, user_key), revision) in acknowledged.iter().filter(|((of, _), _)| *of == channel) {
            assert_eq!(at.get(user_key), Some(&vec![*revision]), "{user_key} was acknowledged at {revision}");
        }
        let mut digests = Vec::new();
        for site in &cluster.sites {
            digests.push(account::digests(site, &shop(channel)).await.unwrap());
        }
        assert!(digests.windows(2).all(|pair| pair[0] == pair[1]), "nodes disagree: {digests:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_killed_leaders_lose_nothing_and_double_nothing() {
    let seed = rand::rng().random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut cluster = Cluster::start(BINARY).await.unwrap();
    let client = Client::builder().endpoints(cluster.endpoints()).build().unwrap();
    for channel in 0..CHANNELS {
        client.execute(commands::open_channel(shop(channel), "가게")).await.unwrap();
    }
    let told = Arc::new(Told::default());
    let writers: Vec<_> = (0..WRITERS).map(|n| tokio::spawn(write(client.clone(), n, told.clone()))).collect();

    let mut gaps = Vec::new();
    for round in 1..=ROUNDS {
        // Killed at a random moment of the writing: after so many more acknowledgements.
        let goal = told.count() + random.random_range(50..400);
        eventually("more acknowledgements", Duration::from_secs(30), || async { (told.count() >= goal).then_some(()) })
            .await;
        let leader = cluster.leader().await;
        told.take_gap();
        cluster.kill(leader).unwrap();
        let goal = told.count() + 200;
        eventually("writes after the kill", Duration::from_secs(30), || async { (told.count() >= goal).then_some(()) })
            .await;
        gaps.push(told.take_gap());
        println!("round {round}: killed node {leader}; longest gap between two acknowledgements {:?}", gaps[round - 1]);
        cluster.spawn(leader).unwrap();
        cluster.leader().await;
    }
    gaps.sort();
    println!("gaps: median {:?}, longest {:?}; {} acknowledged", gaps[ROUNDS / 2], gaps[ROUNDS - 1], told.count());

    // And all three at once, as in one building.
    for id in 1..=3 {
        cluster.kill(id).unwrap();
    }
    for id in 1..=3 {
        cluster.spawn(id).unwrap();
    }
    let goal = told.count() + 200;
    eventually("writes after all three were killed", Duration::from_secs(30), || async {
        (told.count() >= goal).then_some(())
    })
    .await;

    told.stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
    check(&cluster, &told).await;
}
