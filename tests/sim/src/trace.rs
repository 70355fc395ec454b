//! What happened, line by line: two runs of one seed are compared by it, and a failure shows its end.

use std::{cell::RefCell, time::Duration};

/// The lines so far.
#[derive(Default)]
pub struct Trace {
    lines: RefCell<Vec<String>>,
    is_printed: bool,
}

impl Trace {
    /// One that is printed too as it grows, where `SILLOK_SIM_TRACE` is set.
    pub fn new() -> Trace {
        Trace { lines: RefCell::default(), is_printed: std::env::var_os("SILLOK_SIM_TRACE").is_some() }
    }

    /// Takes a line down, at the moment it is in the simulation.
    pub fn say(&self, at: Duration, line: impl AsRef<str>) {
        let line = format!("{:>9.3} {}", at.as_secs_f64(), line.as_ref());
        if self.is_printed {
            println!("{line}");
        }
        self.lines.borrow_mut().push(line);
    }

    /// The last few.
    pub fn end(&self, lines: usize) -> String {
        let all = self.lines.borrow();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// One number for all of it.
    pub fn digest(&self) -> String {
        blake3::hash(self.lines.borrow().join("\n").as_bytes()).to_hex()[..16].to_owned()
    }
}
