//! Which pages of friends are in memory.

use std::sync::Arc;

use super::Channel;
use crate::FriendPages;

impl Channel {
    /// Lets pages of friends out of memory, from where `pages` gets them back. Must come before the first friend.
    pub fn keep(&mut self, pages: Arc<dyn FriendPages>) {
        self.friends.pages.keep(pages);
    }

    /// How many pages of friends there are: [`crate::FRIENDS_A_PAGE`] a page, and the last as far as it goes.
    pub fn friend_pages(&self) -> u32 {
        self.friends.count().div_ceil(crate::FRIENDS_A_PAGE)
    }

    /// The rows of this page were taken, to be stored under this digest.
    pub fn friend_page_taken(&mut self, page: u32, digest: u64) {
        self.friends.pages.taken(page, digest);
    }

    /// What was taken of this page stands. Where a friend of it changed meanwhile, nothing follows.
    pub fn friend_page_stored(&mut self, page: u32) {
        self.friends.pages.stored(page);
    }

    /// Drops pages from memory that are stored and were not asked for since the sweep before, from page `from` on and for
    /// as long as it `goes_on`. The page to go on from; [`Channel::friend_pages`] at the end.
    pub fn sweep(&mut self, from: u32, goes_on: impl Fn() -> bool) -> u32 {
        self.friends.pages.sweep(from as usize, goes_on) as u32
    }

    /// Brings every page of friends into memory.
    pub fn recall_friends(&self) {
        self.friends.pages.recall();
    }

    /// Nothing is stored any more. Every page must be in memory.
    pub fn forget_stored_friends(&mut self) {
        self.friends.pages.forget_copies();
    }
}
