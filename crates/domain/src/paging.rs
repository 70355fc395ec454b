//! Pages that need not be in memory while nobody asks for them.
//!
//! ```text
//!              taken                stored                 sweep
//! changed ───────────────► taken ───────────► stored ◄──────────────► out of memory
//!    ▲ ▲                     │                   │         get
//!    │ └───── get_mut ───────┘                   │
//!    └─────────────────────── get_mut ───────────┘
//! ```
//! Whoever keeps the rows of a page elsewhere says when it took them and when they stood there for certain. Only a page
//! that is there exactly as it is here is dropped, and what is kept of it is a digest, with which it is asked back.

use std::{
    fmt,
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::FriendRow;

/// Where the friends of one channel are while they are not in memory.
pub trait FriendPages: fmt::Debug + Send + Sync {
    /// The friends of a page, ascending by number, exactly as they were stored under this digest. It does not return with
    /// anything else.
    fn friends(&self, page: u32, digest: u64) -> Vec<FriendRow>;

    /// What came back as the friends of a page contradicts what is in memory. Nobody may be answered from it.
    fn contradicted(&self, page: u32) -> !;

    /// Pages in memory grew by so many bytes, or shrank.
    fn resized(&self, by_bytes: isize);

    /// A page of so many bytes left memory.
    fn evicted(&self, bytes: usize);
}

/// How far the copy of a page elsewhere is the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Backing {
    /// It is of an earlier moment, or there is none.
    Old,
    /// It was taken, with this digest, and is not yet known to stand.
    Taken(u64),
    /// It stands, and this is its digest.
    Stored(u64),
}

/// One page. It comes back on a shared reference and goes on an exclusive one, so a reference to it is good for as long as the
/// table is locked for reading.
#[derive(Debug)]
pub struct Slot<P> {
    page: OnceLock<Box<P>>,
    copy: Backing,
    /// Asked for since the last sweep.
    is_used: AtomicBool,
}

impl<P> Slot<P> {
    /// A page that is nowhere else.
    pub fn new(page: P) -> Slot<P> {
        Slot { page: OnceLock::from(Box::new(page)), copy: Backing::Old, is_used: AtomicBool::new(true) }
    }

    /// A page that is not in memory; its copy stands under this digest.
    pub fn away(digest: u64) -> Slot<P> {
        Slot { page: OnceLock::new(), copy: Backing::Stored(digest), is_used: AtomicBool::new(false) }
    }

    /// The page; `read` gets it back by its digest where it is not in memory.
    pub fn get(&self, read: impl FnOnce(u64) -> P) -> &P {
        // Many read at once: written only where it changes something.
        if !self.is_used.load(Ordering::Relaxed) {
            self.is_used.store(true, Ordering::Relaxed);
        }
        // Only a page whose copy stands leaves memory.
        self.page.get_or_init(|| Box::new(read(self.copy().unwrap_or_default())))
    }

    /// The page, to be changed: the copy is old from now on. There always is one.
    pub fn get_mut(&mut self, read: impl FnOnce(u64) -> P) -> Option<&mut P> {
        self.get(read);
        self.copy = Backing::Old;
        self.page.get_mut().map(|page| &mut **page)
    }

    /// The page, if it is in memory.
    pub fn resident(&self) -> Option<&P> {
        self.page.get().map(|page| &**page)
    }

    /// Its rows were taken, to be stored under this digest.
    pub fn taken(&mut self, digest: u64) {
        if self.copy == Backing::Old {
            self.copy = Backing::Taken(digest);
        }
    }

    /// What was taken last stands. Nothing happens where the page changed since.
    pub fn stored(&mut self) {
        if let Backing::Taken(digest) = self.copy {
            self.copy = Backing::Stored(digest);
        }
    }

    /// Under which digest a copy that is the page stands, or will; `None`: there is no such copy.
    pub fn copy(&self) -> Option<u64> {
        match self.copy {
            Backing::Old => None,
            Backing::Taken(digest) | Backing::Stored(digest) => Some(digest),
        }
    }

    /// The copy is gone. The page must be in memory.
    pub fn forget_copy(&mut self) {
        self.copy = Backing::Old;
    }

    /// Takes the page out of memory where its copy stands and it was not asked for since the sweep before.
    pub fn sweep(&mut self) -> Option<Box<P>> {
        let is_stored = matches!(self.copy, Backing::Stored(_));
        let was_used = std::mem::take(self.is_used.get_mut());
        if is_stored && !was_used { self.page.take() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn never(_: u64) -> u32 {
        panic!("it is in memory")
    }

    #[test]
    fn a_page_leaves_only_while_its_copy_stands_and_after_a_second_chance() {
        let mut slot = Slot::new(7);
        assert!(slot.sweep().is_none() && slot.sweep().is_none(), "there is no copy");
        assert_eq!(slot.copy(), None);
        slot.taken(1);
        assert_eq!(slot.copy(), Some(1));
        assert!(slot.sweep().is_none(), "the copy does not stand yet");
        slot.stored();
        assert_eq!(*slot.get(never), 7);
        assert!(slot.sweep().is_none(), "it was asked for");
        assert_eq!(slot.sweep().as_deref(), Some(&7));
        assert!(slot.resident().is_none());
        assert_eq!(*slot.get(|digest| digest as u32 + 10), 11, "asked back by its digest");
        assert_eq!(*slot.get(never), 11);
    }

    #[test]
    fn a_page_that_is_away_is_read_when_it_is_asked_for() {
        let mut slot = Slot::away(5);
        slot.taken(6);
        slot.stored();
        assert!(slot.resident().is_none() && slot.sweep().is_none());
        assert_eq!(*slot.get(|digest| digest as u32), 5);
        assert_eq!(*slot.get(never), 5);
    }

    #[test]
    fn a_page_that_changed_after_it_was_taken_stays() {
        let mut slot = Slot::new(7);
        slot.taken(1);
        *slot.get_mut(never).unwrap() = 8;
        slot.stored();
        assert!(slot.sweep().is_none() && slot.sweep().is_none());
        slot.taken(2);
        slot.stored();
        slot.forget_copy();
        assert!(slot.sweep().is_none(), "the copy is gone");
        assert_eq!(slot.resident(), Some(&8));
    }
}
