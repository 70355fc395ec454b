//! What must hold, one to a file. Each says what does not, in words.

mod converged;
mod gapless;
mod kept;
mod linearizable;
mod once;
mod one_chain;
mod original;
mod refused;
mod same_bytes;
mod truthful;
mod unrecorded;

#[cfg(test)]
mod tests;

use crate::history::History;

/// Its name, and how it looks.
type Invariant = (&'static str, fn(&History) -> Vec<String>);

/// All of them.
pub const ALL: [Invariant; 11] = [
    ("kept", kept::check),
    ("once", once::check),
    ("original", original::check),
    ("unrecorded", unrecorded::check),
    ("linearizable", linearizable::check),
    ("truthful", truthful::check),
    ("refused", refused::check),
    ("gapless", gapless::check),
    ("one_chain", one_chain::check),
    ("same_bytes", same_bytes::check),
    ("converged", converged::check),
];

/// Everything that does not hold.
pub fn check(history: &History) -> Vec<String> {
    ALL.iter().flat_map(|(name, check)| check(history).into_iter().map(move |line| format!("{name}: {line}"))).collect()
}
