//! What must hold after a drill, checked from two sides: what the clients were told, and what every node has recorded.
//!
//! - `serials`: each intent has a serial number, and each must stand in the record as often as its answers say. Linear in the
//!   number of calls, so it scales to millions.
//! - `order`: the record itself is the order that a linearizable system must be able to show; every answer is held against it
//!   by its position and by its time.
//! - `linear`: some order of the answers alone, record or not, must be legal; searched by stateright, friend by friend and ticket by ticket.
//! - `clock`: what events are stamped with, against the drill's own clock.
//! - `nodes`: every node tells the same story, byte for byte.

mod clock;
mod linear;
mod nodes;
mod order;
mod rules;
mod serials;
#[cfg(test)]
mod tests;

use serde::Serialize;

use crate::{history::History, ledger::Ledger};

/// Examples that are kept of each kind of violation.
const EXAMPLES: usize = 5;

/// One promise, and whether it was kept.
#[derive(Debug, Clone, Serialize)]
pub struct Verdict {
    /// A name for scripts.
    pub name: &'static str,
    /// What is promised, for a person.
    pub promise: String,
    /// How often it was broken.
    pub violations: u64,
    /// How many were looked at: a check of nothing says nothing.
    pub examined: u64,
    /// The first few violations.
    pub examples: Vec<String>,
}

impl Verdict {
    pub(crate) fn new(name: &'static str, promise: impl Into<String>) -> Verdict {
        Verdict { name, promise: promise.into(), violations: 0, examined: 0, examples: Vec::new() }
    }

    pub(crate) fn broken(&mut self, example: impl FnOnce() -> String) {
        self.violations += 1;
        if self.examples.len() < EXAMPLES {
            self.examples.push(example());
        }
    }

    /// Kept.
    pub fn holds(&self) -> bool {
        self.violations == 0
    }
}

/// Holds the clients' history against what every node has recorded. The ledgers are of nodes that have settled.
pub(crate) fn check(history: &History, ledgers: &[Ledger]) -> Vec<Verdict> {
    let Some(reference) = ledgers.first() else { return Vec::new() };
    let mut verdicts = serials::check(history, reference);
    verdicts.push(order::check(history, reference));
    verdicts.push(linear::check(history, reference));
    verdicts.push(clock::check(history, reference));
    verdicts.push(nodes::check(ledgers));
    verdicts
}
