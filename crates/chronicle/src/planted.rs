//! Bugs that the simulation plants to show that it sees them. Only a build with the feature `planted` can have one, and only
//! code that calls [`plant`]; in every other build each is a constant `false`.

#![cfg_attr(not(feature = "planted"), allow(unreachable_pub, reason = "public for the simulation alone"))]

/// What can be planted here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Planted {
    /// Opening reports a tail that it has neither written again nor synced.
    UnsyncedTail,
    /// Damage is taken for a torn tail and cut, whatever was acknowledged behind it.
    CutOnDamage,
}

#[cfg(feature = "planted")]
static PLANTED: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);

/// This process has the bug from now on, beside those that it has.
#[cfg(feature = "planted")]
pub fn plant(bug: Planted) {
    PLANTED.fetch_or(1 << bug as u32, std::sync::atomic::Ordering::Relaxed);
}

#[cfg(feature = "planted")]
pub(crate) fn is(bug: Planted) -> bool {
    PLANTED.load(std::sync::atomic::Ordering::Relaxed) & 1 << bug as u32 != 0
}

#[cfg(not(feature = "planted"))]
pub(crate) const fn is(_: Planted) -> bool {
    false
}
