//! A damaged chronicle gets its entries back from peers, before anything of this node takes part in consensus.
//!
//! ```text
//!   Mending (what is missing, and what shows that a copy is the same)
//!      │ hello: who is there, of this cluster?      ┌ silent ─► asked again, for as long as it takes
//!      ▼                                            │
//!   ReadFrames ── frames, head of the chain ─► mend ┼ refused ─► the next peer; all have refused: beyond repair
//!                                                   └ mended ─► opened as if nothing had happened
//! ```

mod ask;
mod serve;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::Arc,
    time::Duration,
};

use sillok_chronicle::{Damage, MendError, Mended, Mending, Wanted};
use tokio::time::Instant;

use crate::{
    StartError,
    chain::{ChainFold, Following},
    options::NodeOptions,
    types::{Entry, decode_membership, kind},
};

use ask::{AskError, Given, Inquiry};
pub(crate) use serve::frames_here;

/// Between two rounds of asking.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// Whoever has the chronicle open, and is to close it, has this long.
const FREE_WITHIN: Duration = Duration::from_secs(10);
/// How often it is said that nobody answers.
const REMIND_EVERY: Duration = Duration::from_secs(15);

/// What was repaired when the chronicle was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Repaired {
    pub(crate) segments: usize,
    /// Those that came from peers.
    pub(crate) entries: u64,
}

/// Mends what opening the chronicle finds damaged, or the segment of `suspect`, and adds it to `repaired`. Waits for peers as
/// long as one of them has not answered.
pub(crate) async fn repair(
    options: &Arc<NodeOptions>,
    suspect: Option<&Damage>,
    repaired: &mut Repaired,
) -> Result<(), StartError> {
    while let Some(mending) = begin(options, suspect).await? {
        let damage = mending.damage().clone();
        tracing::warn!(
            segment = damage.segment,
            offset = damage.offset,
            "repairing the chronicle from peers: {damage}"
        );
        metrics::gauge!("sillok_repairing").set(1.0);
        let begun = Instant::now();
        let done = mend_with_peers(options, Arc::new(mending)).await;
        metrics::gauge!("sillok_repairing").set(0.0);
        let (done, from) =
            done.inspect_err(|_| metrics::counter!("sillok_repairs_total", "outcome" => "failed").increment(1))?;
        metrics::counter!("sillok_repairs_total", "outcome" => "mended").increment(1);
        metrics::counter!("sillok_repaired_entries_total").increment(done.entries);
        let Mended { segment, entries, bytes, kept_as } = done;
        tracing::warn!(
            segment, entries, bytes, from, kept_as, elapsed = ?begun.elapsed(),
            "repaired the chronicle: what was damaged is again what was written"
        );
        repaired.segments += 1;
        repaired.entries += entries;
    }
    say(options, None);
    Ok(())
}

fn say(options: &NodeOptions, trouble: Option<String>) {
    if let Some(sender) = &options.trouble {
        sender.send_replace(trouble.map(Into::into));
    }
}

async fn blocking<T: Send + 'static>(
    options: &NodeOptions,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, StartError> {
    let done = options.execution.blocking(work).await;
    done.map_err(|error| StartError::Thread { source: io::Error::other(error) })
}

async fn begin(options: &Arc<NodeOptions>, suspect: Option<&Damage>) -> Result<Option<Mending>, StartError> {
    let until = Instant::now() + FREE_WITHIN;
    loop {
        let (disk, dir, suspect) = (options.disk.clone(), options.data_dir.join("chronicle"), suspect.cloned());
        match blocking(options, move || Mending::begin(&disk, &dir, suspect.as_ref())).await? {
            // This process may still be closing it.
            Err(MendError::Io { source, .. })
                if source.kind() == io::ErrorKind::WouldBlock && Instant::now() < until =>
            {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            begun => return begun.map_err(start_error),
        }
    }
}

fn start_error(error: MendError) -> StartError {
    match error {
        MendError::Beyond { damage, why } => StartError::BeyondRepair { damage, tried: why },
        other => StartError::Repair(other),
    }
}

/// What was done, and whose entries they are.
async fn mend_with_peers(options: &Arc<NodeOptions>, mending: Arc<Mending>) -> Result<(Mended, String), StartError> {
    let wanted = mending.wanted();
    if wanted.is_empty() {
        let made = mend(options, &mending, &wanted, Vec::new()).await?;
        let done = made.map_err(|error| match error {
            refused @ MendError::Refused { .. } => {
                StartError::BeyondRepair { damage: mending.damage().clone(), tried: refused.to_string() }
            }
            other => start_error(other),
        })?;
        return Ok((done, "nobody, it could be made again".to_owned()));
    }
    let peers = known_peers(options, &mending).await?;
    let Some(inquiry) = Inquiry::new(options, &mending).filter(|_| !peers.is_empty()) else {
        return Err(StartError::Damaged(mending.damage().clone()));
    };
    // Only now: without peers the start fails at once, and that is another trouble.
    say(options, Some(format!("repairing the chronicle: {}", mending.damage())));
    let mut answers: BTreeMap<u64, String> = BTreeMap::new();
    let mut reminded: Option<Instant> = None;
    loop {
        let mut silent = Vec::new();
        for (&id, address) in peers.iter().filter(|(id, _)| !answers.contains_key(id)).collect::<Vec<_>>() {
            match inquiry.ask(id, address, &wanted).await {
                Ok(given) => match mend(options, &mending, &wanted, given).await? {
                    Ok(done) => return Ok((done, format!("node {id}"))),
                    Err(refused @ MendError::Refused { .. }) => {
                        tracing::warn!(from = id, "a peer's copy is not taken: {refused}");
                        answers.insert(id, refused.to_string());
                    }
                    Err(other) => return Err(start_error(other)),
                },
                Err(AskError::Silent(why)) => silent.push(format!("node {id} at {address}: {why}")),
                Err(AskError::Refused(why)) => {
                    tracing::warn!(from = id, "a peer cannot help to repair the chronicle: {why}");
                    answers.insert(id, why);
                }
            }
        }
        if silent.is_empty() {
            let tried: Vec<_> = answers.iter().map(|(id, why)| format!("node {id}: {why}")).collect();
            return Err(StartError::BeyondRepair { damage: mending.damage().clone(), tried: tried.join("; ") });
        }
        if reminded.is_none_or(|at| at.elapsed() > REMIND_EVERY) {
            reminded = Some(Instant::now());
            let waits = format!(
                "waiting for a peer to repair the chronicle from ({}): {}",
                silent.join("; "),
                mending.damage()
            );
            tracing::warn!("{waits}");
            say(options, Some(waits));
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

/// Takes what a peer gave, if the chain of records over it ends as the peer says.
async fn mend(
    options: &NodeOptions,
    mending: &Arc<Mending>,
    wanted: &[Wanted],
    given: Vec<Given>,
) -> Result<Result<Mended, MendError>, StartError> {
    let (mending, indexes) = (mending.clone(), wanted.iter().map(|it| it.last).collect::<Vec<_>>());
    blocking(options, move || {
        let mut following = Following::new(indexes.iter().copied());
        let frames: Vec<_> = given.iter().map(|it| it.frames.clone()).collect();
        mending.mend(&frames, &mut following, |following| {
            let differs = indexes.iter().zip(&given).find(|(index, it)| following.head_after(**index) != Some(it.head));
            match differs {
                None => Ok(()),
                Some((index, _)) => {
                    Err(format!("the chain of records has another head after entry {index} than there"))
                }
            }
        })
    })
    .await
}

/// Peer addresses: those of every membership that can still be read, and of the configuration. A node that stood in a
/// membership and is in none now was removed for good (ids are never used again), and is not waited for, whatever the
/// configuration still names.
async fn known_peers(options: &Arc<NodeOptions>, mending: &Arc<Mending>) -> Result<BTreeMap<u64, String>, StartError> {
    let (mending, own) = (mending.clone(), options.id);
    let (mut peers, seen) = blocking(options, move || {
        let (mut memberships, mut seen) = (Vec::new(), BTreeSet::new());
        let mut in_entries = Vec::new();
        let salvaged = mending.salvage(
            |state| {
                memberships.extend(ChainFold::membership_in(state));
                seen.extend(ChainFold::seen_in(state));
            },
            |entry: &Entry| {
                if entry.kind == kind::MEMBERSHIP {
                    in_entries.push((entry.id, entry.payload.clone()));
                }
            },
        );
        memberships.append(&mut in_entries);
        let readable = memberships.iter().filter_map(|(id, payload)| decode_membership(*id, payload).ok());
        let mut peers = BTreeMap::new();
        for membership in readable {
            // The newest that can be read says who belongs.
            peers = membership.nodes().map(|(&id, member)| (id, member.peer_address.clone())).collect();
            seen.extend(peers.keys().copied());
        }
        salvaged.map(|()| (peers, seen))
    })
    .await?
    .map_err(start_error)?;
    for node in &options.initial {
        if peers.contains_key(&node.id) || !seen.contains(&node.id) {
            peers.insert(node.id, node.peer_address.clone());
        }
    }
    peers.remove(&own);
    Ok(peers)
}
