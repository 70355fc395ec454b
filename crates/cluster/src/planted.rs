//! Bugs that the simulation plants to show that it sees them. Only a build with the feature `planted` can have one, and only
//! code that calls [`plant`]; in every other build each is a constant `false`.

#![cfg_attr(not(feature = "planted"), allow(unreachable_pub, reason = "public for the simulation alone"))]

/// What can be planted here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Planted {
    /// A record is taken though it was decided upon another than the head of the chain.
    SkipPredecessor,
    /// A restarted leader goes on in its old term.
    LeaderRestore,
    /// Now and then a record is refused while those behind it enter the log, as consensus does when its lease runs out.
    RefuseOne,
    /// A vote is called durable and is in memory only.
    ForgetVote,
    /// The views fold what is appended and not yet committed.
    ViewsAhead,
    /// No retry key is ever looked up.
    NoRetryTable,
    /// A blank disk comes under the incarnation that its id had, and takes part in whatever cluster calls it.
    BlankVotes,
    /// A linearizable read asks no leader.
    ReadWithoutIndex,
    /// A refusal is answered when it is decided, and not once its record is committed.
    EarlyRefusal,
}

#[cfg(feature = "planted")]
pub use switch::plant;
#[cfg(feature = "planted")]
pub(crate) use switch::{is, look_again, refused_behind};

#[cfg(feature = "planted")]
mod switch {
    use std::{
        sync::atomic::{AtomicU32, Ordering},
        time::Duration,
    };

    use openraft::errors::{ClientWriteError, ForwardToLeader};

    use super::Planted;
    use crate::core::Proposal;

    static PLANTED: AtomicU32 = AtomicU32::new(0);
    static PROPOSALS: AtomicU32 = AtomicU32::new(0);
    /// Every so many proposals one is refused.
    const REFUSED_EVERY: u32 = 10;
    /// By then others stand behind it.
    const REFUSED_AFTER: Duration = Duration::from_millis(40);

    /// This process has the bug from now on, beside those that it has.
    pub fn plant(bug: Planted) {
        PLANTED.fetch_or(1 << bug as u32, Ordering::Relaxed);
    }

    pub(crate) fn is(bug: Planted) -> bool {
        PLANTED.load(Ordering::Relaxed) & 1 << bug as u32 != 0
    }

    /// Nobody tells of an entry that is appended.
    pub(crate) async fn look_again() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }

    /// A proposal that is refused when others stand behind it, if it is this one's turn.
    pub(crate) fn refused_behind() -> Option<Proposal> {
        if PROPOSALS.fetch_add(1, Ordering::Relaxed) % REFUSED_EVERY != REFUSED_EVERY - 1 {
            return None;
        }
        let (refuse, refused) = tokio::sync::oneshot::channel();
        tokio::spawn(async move {
            tokio::time::sleep(REFUSED_AFTER).await;
            // Nobody waits any more only where the node is stopping.
            let _ = refuse.send(Err(ClientWriteError::ForwardToLeader(ForwardToLeader::empty())));
        });
        Some(Proposal(refused))
    }
}

#[cfg(not(feature = "planted"))]
pub(crate) const fn is(_: Planted) -> bool {
    false
}

#[cfg(not(feature = "planted"))]
pub(crate) const fn refused_behind() -> Option<crate::core::Proposal> {
    None
}

#[cfg(not(feature = "planted"))]
pub(crate) fn look_again() -> std::future::Pending<()> {
    std::future::pending()
}
