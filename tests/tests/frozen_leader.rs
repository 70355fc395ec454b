//! A leader's machine stands still for seconds and then goes on, believing that it still leads, while clients keep writing to
//! it and reading from it. A killed leader cannot say anything false; this one could.

#![expect(clippy::unwrap_used, reason = "a scenario that cannot go on fails where it stands")]

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use sillok_client::{Client, commands};
use sillok_tests::{Cluster, Site, account, eventually};
use sillok_wire::{
    errors::{Outcome, outcome_of},
    v1::{self, commands_client::CommandsClient, queries_client::QueriesClient},
};
use tokio::{task::JoinSet, time::timeout};
use tonic::transport::Channel;

const BINARY: &str = env!("CARGO_BIN_EXE_sillok-under-test");
const SHOP: &str = "frozen";
const WRITERS: usize = 6;
const ROUNDS: u64 = 2;

/// What clients were told, by user key.
#[derive(Default)]
struct Told {
    acknowledged: Mutex<HashMap<String, u64>>,
    not_recorded: Mutex<HashSet<String>>,
    count: AtomicU64,
    /// The highest revision acknowledged so far.
    newest: AtomicU64,
    stale: Mutex<Vec<String>>,
    reads: AtomicU64,
    stop: AtomicBool,
}

impl Told {
    fn acknowledge(&self, user_key: &str, revision: u64) {
        let before = self.acknowledged.lock().unwrap().insert(user_key.to_owned(), revision);
        assert!(before.is_none_or(|before| before == revision), "{user_key} stands at {before:?} and at {revision}");
        self.count.fetch_add(1, Ordering::AcqRel);
        self.newest.fetch_max(revision, Ordering::AcqRel);
    }

    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Acquire)
    }
}

fn add(user_key: &str) -> v1::AddFriendRequest {
    let context = Some(v1::CommandContext { retry_key: user_key.to_owned(), ..Default::default() });
    v1::AddFriendRequest { context, ..commands::add_friend(SHOP, user_key) }
}

/// An ordinary client that is told nothing; every fifth command it also sends through another node at the same time, under
/// the same key, as a person does who loses patience.
async fn write(client: Client, other: Channel, writer: usize, told: Arc<Told>) {
    let mut other = CommandsClient::new(other);
    for n in 0.. {
        if !told.goes_on() {
            return;
        }
        let user_key = format!("w{writer}-{n}");
        let twice = async {
            if n % 5 != 0 {
                return;
            }
            let again = timeout(Duration::from_secs(5), other.add_friend(add(&user_key)));
            if let Ok(Ok(receipt)) = again.await {
                told.acknowledge(&user_key, receipt.into_inner().revision);
            }
        };
        let (receipt, ()) = tokio::join!(client.execute(add(&user_key)), twice);
        let receipt = receipt.unwrap_or_else(|error| panic!("writer {writer} was not answered: {error}"));
        told.acknowledge(&user_key, receipt.revision);
    }
}

/// A client that knows one node only and tries each command once.
async fn write_here(channel: Channel, node: u64, told: Arc<Told>) {
    let mut commands = CommandsClient::new(channel);
    for n in 0.. {
        if !told.goes_on() {
            return;
        }
        let user_key = format!("n{node}-{n}");
        let answer = timeout(Duration::from_secs(8), commands.add_friend(add(&user_key)));
        match answer.await {
            Ok(Ok(receipt)) => told.acknowledge(&user_key, receipt.into_inner().revision),
            Ok(Err(status)) if outcome_of(&status) == Some(Outcome::NotRecorded) => {
                told.not_recorded.lock().unwrap().insert(user_key);
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            // Unknown.
            Ok(Err(_)) | Err(_) => {}
        }
    }
}

/// Linearizable reads at one node, a new one however long the others take: some are asked while it stands still and
/// answered when it goes on.
async fn read_here(channel: Channel, told: Arc<Told>) {
    let mut reading = JoinSet::new();
    while told.goes_on() {
        let (told, mut queries) = (told.clone(), QueriesClient::new(channel.clone()));
        reading.spawn(async move {
            let floor = told.newest.load(Ordering::Acquire);
            let request = v1::GetChannelRequest { options: None, channel_id: SHOP.to_owned() };
            let answer = timeout(Duration::from_secs(8), queries.get_channel(request)).await;
            let Ok(Ok(answer)) = answer else { return };
            let revision = answer.into_inner().channel.unwrap().revision;
            told.reads.fetch_add(1, Ordering::AcqRel);
            if revision < floor {
                told.stale.lock().unwrap().push(format!("revision {revision} after {floor} was acknowledged"));
            }
        });
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    while reading.join_next().await.is_some() {}
}

async fn new_leader(site: &Site, old: u64) {
    eventually("the others have a leader", Duration::from_secs(30), || async {
        let status = timeout(Duration::from_secs(2), site.status()).await.ok()?.ok()?;
        (status.leader_id != 0 && status.leader_id != old).then_some(())
    })
    .await;
}

async fn more(told: &Told, what: &str, by: u64) {
    let goal = told.count.load(Ordering::Acquire) + by;
    let there = || async { (told.count.load(Ordering::Acquire) >= goal).then_some(()) };
    eventually(what, Duration::from_secs(60), there).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_stood_still_says_nothing_false_when_it_goes_on() {
    let cluster = Cluster::start(BINARY).await.unwrap();
    let client = Client::builder()
        .endpoints(cluster.endpoints())
        .request_timeout(Duration::from_secs(2))
        .deadline(Duration::from_secs(60))
        .build()
        .unwrap();
    client.execute(commands::open_channel(SHOP, "가게")).await.unwrap();
    let told = Arc::new(Told::default());
    let mut running = JoinSet::new();
    for writer in 0..WRITERS {
        let other = cluster.sites[writer % 3].connect().await.unwrap();
        running.spawn(write(client.clone(), other, writer, told.clone()));
    }
    for site in &cluster.sites {
        running.spawn(write_here(site.connect().await.unwrap(), site.id, told.clone()));
        running.spawn(read_here(site.connect().await.unwrap(), told.clone()));
    }

    for round in 1..=ROUNDS {
        more(&told, "writes go on", 100).await;
        let old = cluster.leader().await;
        cluster.freeze(old).unwrap();
        let other = cluster.sites.iter().find(|site| site.id != old).unwrap();
        new_leader(other, old).await;
        more(&told, "writes go on without it", 100).await;
        let (reads, before) = (told.reads.load(Ordering::Acquire), told.count.load(Ordering::Acquire));
        cluster.thaw(old).unwrap();
        more(&told, "writes go on with it", 100).await;
        println!("round {round}: node {old} stood still from {before} acknowledgements; {reads} reads so far");
        cluster.leader().await;
    }
    told.stop.store(true, Ordering::Release);
    while let Some(ended) = running.join_next().await {
        ended.unwrap();
    }

    assert_eq!(*told.stale.lock().unwrap(), Vec::<String>::new(), "linearizable reads went back in time");
    assert!(told.reads.load(Ordering::Acquire) > 0);
    cluster.settle().await;
    let acknowledged = told.acknowledged.lock().unwrap().clone();
    let not_recorded = told.not_recorded.lock().unwrap().clone();
    println!("{} acknowledged, {} not recorded", acknowledged.len(), not_recorded.len());
    let mut digests = Vec::new();
    for site in &cluster.sites {
        let mut at: HashMap<String, Vec<u64>> = HashMap::new();
        for event in account::events(site, SHOP).await.unwrap() {
            if let Some(user_key) = friend_added(&event) {
                at.entry(user_key).or_default().push(event.revision);
            }
        }
        for (user_key, revisions) in &at {
            assert_eq!(revisions.len(), 1, "{user_key} stands at {revisions:?}");
            assert!(!not_recorded.contains(user_key), "{user_key} is recorded, and its client was told that it is not");
        }
        for (user_key, revision) in &acknowledged {
            assert_eq!(at.get(user_key), Some(&vec![*revision]), "{user_key} was acknowledged at {revision}");
        }
        digests.push(account::digests(site, SHOP).await.unwrap());
    }
    assert!(digests.windows(2).all(|pair| pair[0] == pair[1]), "nodes disagree: {digests:?}");
}

/// Both other sites stand still. The leader cannot record anything, and says so rather than leaving its writers waiting; what it
/// calls not recorded is not, and what it calls unknown turns out one way or the other when a quorum is back.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_left_alone_answers_its_writers_within_seconds() {
    let cluster = Cluster::start(BINARY).await.unwrap();
    let client = Client::builder().endpoints(cluster.endpoints()).build().unwrap();
    client.execute(commands::open_channel(SHOP, "가게")).await.unwrap();
    let leader = cluster.leader().await;
    let channel = cluster.site(leader).connect().await.unwrap();
    let followers: Vec<u64> = (1..=3).filter(|id| *id != leader).collect();
    for id in &followers {
        cluster.freeze(*id).unwrap();
    }
    let mut writing = JoinSet::new();
    for n in 0..20 {
        let mut commands = CommandsClient::new(channel.clone());
        writing.spawn(async move {
            let user_key = format!("alone-{n}");
            let answer = timeout(Duration::from_secs(5), commands.add_friend(add(&user_key))).await;
            let refused = answer.expect("an answer within seconds").expect_err("there is no quorum");
            assert_eq!(refused.code(), tonic::Code::Unavailable, "{refused}");
            (user_key, outcome_of(&refused))
        });
        // One after another, so that some find the leader already alone.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut not_recorded = HashSet::new();
    while let Some(answered) = writing.join_next().await {
        let (user_key, outcome) = answered.unwrap();
        if outcome == Some(Outcome::NotRecorded) {
            not_recorded.insert(user_key);
        }
    }
    assert!(!not_recorded.is_empty(), "it never says that nothing was recorded");
    for id in &followers {
        cluster.thaw(*id).unwrap();
    }
    let last = client.execute(commands::add_friend(SHOP, "together")).await.unwrap();
    cluster.settle().await;
    let events = account::events(cluster.site(leader), SHOP).await.unwrap();
    assert_eq!(events.last().map(|event| event.revision), Some(last.revision));
    let recorded: HashSet<String> = events.iter().filter_map(friend_added).collect();
    assert!(recorded.is_disjoint(&not_recorded), "recorded, and called not recorded: {recorded:?}");
}

fn friend_added(event: &v1::Event) -> Option<String> {
    let v1::payload::Event::FriendAdded(added) = event.payload.as_ref()?.event.as_ref()? else { return None };
    match added.personal.as_ref()?.form.as_ref()? {
        v1::personal::Form::Plain(plain) => Some(plain.user_key.clone()),
        v1::personal::Form::Sealed(_) => None,
    }
}

/// A node stood still for a moment, some dozens of calls under way at it ran out of time together, and when it went on it
/// closed the connection for it, with everything else on it: HTTP/2 servers take that for an attack.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_gives_up_on_many_calls_at_once_keeps_its_connection() {
    let cluster = Cluster::start(BINARY).await.unwrap();
    let follower = cluster.leader().await % 3 + 1;
    let client = Client::builder().endpoints(cluster.endpoints()).build().unwrap();
    client.execute(commands::open_channel(SHOP, "가게")).await.unwrap();
    let channel = cluster.site(follower).connect().await.unwrap();
    let request = v1::ReadEventsRequest { channel_ids: vec![SHOP.to_owned()], follow: true, ..Default::default() };
    let mut events = QueriesClient::new(channel.clone()).read_events(request).await.unwrap().into_inner();
    while !events.message().await.unwrap().unwrap().caught_up {}

    cluster.freeze(follower).unwrap();
    let mut calls = JoinSet::new();
    for _ in 0..500 {
        let mut queries = QueriesClient::new(channel.clone());
        calls.spawn(async move {
            timeout(
                Duration::from_millis(200),
                queries.get_channel(v1::GetChannelRequest {
                    options: sillok_tests::account::stale(),
                    channel_id: SHOP.to_owned(),
                }),
            )
            .await
        });
    }
    let mut given_up = 0;
    while let Some(call) = calls.join_next().await {
        given_up += usize::from(call.unwrap().is_err());
    }
    // The first may be answered: a process stands still a moment after it was told to.
    assert!(given_up > 100, "only {given_up} calls were given up");
    cluster.thaw(follower).unwrap();
    client.execute(add("after")).await.unwrap();
    loop {
        let response = events.message().await.expect("the connection is still there").expect("the stream goes on");
        if response.items.iter().any(|item| matches!(item.item, Some(v1::read_item::Item::Event(_)))) {
            return;
        }
    }
}
