//! What one channel holds: the domain's state, and beside it what only readers ask for.

use std::{collections::BTreeMap, ops::RangeInclusive, sync::Arc};

use roaring::RoaringBitmap;
use sillok_domain::{Channel, Event, FriendStatus, Load as _, TicketPlace, touched};

use crate::{
    applied::Applied,
    digests::{DigestRing, Digests, SetDigest, Stored},
    locators::{Locator, Locators},
    memory::ChannelPages,
    rows::{CouponPlaces, Dirty, OnDisk},
    sends::{Bulk, SendKind, SendRow, Sends},
};

/// One channel. Read it under [`crate::Views::read_channel`].
#[derive(Debug)]
pub struct ChannelTable {
    pub(crate) channel: Channel,
    /// The newest record that changed anything here.
    pub(crate) changed: Applied,
    pub(crate) locators: Locators,
    pub(crate) digests: DigestRing,
    pub(crate) sends: Sends,
    /// By (field number in `sillok.v1.Command`, number in `sillok.v1.Reason`).
    pub(crate) refused: BTreeMap<(u32, i32), u64>,
    /// Pages of coupons, in memory only.
    pub(crate) coupons: CouponPlaces,
    /// Revisions of issues to an audience, ascending.
    pub(crate) batches: Vec<u64>,
    pub(crate) is_dirty: bool,
    pub(crate) dirty: Dirty,
    pub(crate) on_disk: OnDisk,
}

/// The domain's state: friends, coupons and tickets are listed, counted and asked for there.
impl std::ops::Deref for ChannelTable {
    type Target = Channel;

    fn deref(&self) -> &Channel {
        &self.channel
    }
}

impl Default for ChannelTable {
    fn default() -> ChannelTable {
        ChannelTable {
            channel: Channel::default(),
            changed: Applied::GENESIS,
            locators: Locators::default(),
            digests: DigestRing::default(),
            sends: Sends::default(),
            refused: BTreeMap::new(),
            coupons: CouponPlaces::default(),
            batches: Vec::new(),
            is_dirty: false,
            dirty: Dirty::default(),
            on_disk: OnDisk::default(),
        }
    }
}

impl ChannelTable {
    /// A channel of which nothing is known, whose pages may leave memory.
    pub(crate) fn kept(pages: &Arc<ChannelPages>) -> ChannelTable {
        let mut table = ChannelTable::default();
        table.channel.keep(pages.clone());
        table.locators.pages.keep(Arc::clone(pages));
        table.sends.pages.keep(Arc::clone(pages));
        table
    }

    /// Where the event of this revision is stored.
    pub fn locate(&self, revision: u64) -> Option<Locator> {
        self.locators.get(revision)
    }

    /// Digests at the applied revision or one of the 1,024 before it.
    pub fn digests(&self, revision: u64) -> Option<Digests> {
        self.digests.at(revision)
    }

    /// Accepted sends with revisions below `before_revision` (`u64::MAX`: all), newest first; only what `friend` was
    /// sent, if given.
    pub fn sends(&self, before_revision: u64, limit: usize, friend: Option<u32>) -> Vec<SendRow> {
        self.sends.list(before_revision, friend).take(limit).collect()
    }

    /// One accepted send.
    pub fn send(&self, revision: u64) -> Option<SendRow> {
        self.sends.get(revision)
    }

    /// Who a send went to, frozen.
    pub fn audience(&self, revision: u64) -> Option<Arc<RoaringBitmap>> {
        match self.sends.find_bulk(revision) {
            Some(bulk) => Some(Arc::clone(&bulk.audience)),
            None => self.sends.push_recipient(revision).map(|friend| Arc::new([friend].into_iter().collect())),
        }
    }

    /// How many sends were accepted.
    pub fn message_count(&self) -> u64 {
        self.sends.count()
    }

    /// Σ audience × unit price over every accepted send, saturating.
    pub fn send_cost_won(&self) -> i64 {
        self.sends.cost_won()
    }

    /// Commands that the domain refused since the channel was opened.
    pub fn refused_count(&self) -> u64 {
        self.refused.values().sum()
    }

    /// The same by (field number in `sillok.v1.Command`, number in `sillok.v1.Reason`).
    pub fn refused_by(&self) -> impl Iterator<Item = ((u32, i32), u64)> + '_ {
        self.refused.iter().map(|(by, count)| (*by, *count))
    }

    /// The newest revision; 0 where nothing was recorded.
    pub fn revision(&self) -> u64 {
        self.locators.len()
    }

    pub(crate) fn changed(&self) -> Applied {
        self.changed
    }

    pub(crate) fn set_changed(&mut self, applied: Applied) {
        self.changed = applied;
        self.is_dirty = true;
    }

    pub(crate) fn is_dirty(&self) -> bool {
        self.is_dirty
    }

    pub(crate) fn refused(&mut self, command_kind: u32, reason: i32) {
        *self.refused.entry((command_kind, reason)).or_default() += 1;
    }

    /// Reads from disk what folding these will change.
    pub(crate) fn bring_in<'a>(&self, events: impl Iterator<Item = &'a Event>) {
        // The revision does not matter for which friend it is.
        let friends = events.filter_map(|event| touched(event, 0).friend);
        for number in friends {
            self.channel.friend(number);
        }
    }

    /// Folds the next event of the channel.
    pub(crate) fn apply(&mut self, locator: Locator, stored: &Stored<'_>, event: &Event, scratch: &mut Vec<u8>) {
        let touched = touched(event, stored.revision);
        if let Some(number) = touched.friend {
            self.friend_list(number, scratch, |digests, row| {
                digests.count -= 1;
                digests.list.subtract(row);
            });
        }
        self.channel.apply(stored.revision, stored.accepted_at, stored.occurred_at, event);
        if let Some(number) = touched.friend {
            self.friend_list(number, scratch, |digests, row| {
                digests.count += 1;
                digests.list.add(row);
            });
        }
        self.touch(&touched);
        self.locators.push(locator);
        self.send_index(stored.revision, event);
        self.digests.push(stored, scratch);
    }

    /// Takes a friend into the digest of the list, or out of it. Whoever is removed is not in the list.
    fn friend_list(&mut self, number: u32, scratch: &mut Vec<u8>, change: impl FnOnce(&mut DigestRing, &[u8; 32])) {
        let friend = self.channel.friend_view(number);
        if let Some(friend) = friend.filter(|friend| friend.state.status != FriendStatus::Removed) {
            scratch.clear();
            friend.digest_input(scratch);
            change(&mut self.digests, blake3::hash(scratch).as_bytes());
        }
    }

    /// Adds these friends to count and digest of a friend list.
    pub(crate) fn add_to_friend_list(&self, numbers: RangeInclusive<u32>, (count, list): &mut (u64, SetDigest)) {
        let mut row = Vec::new();
        for friend in numbers.map_while(|number| self.channel.friend_view(number)) {
            if friend.state.status != FriendStatus::Removed {
                row.clear();
                friend.digest_input(&mut row);
                list.add(blake3::hash(&row).as_bytes());
                *count += 1;
            }
        }
    }

    pub(crate) fn ticket_place(&self, id: &str) -> Option<TicketPlace> {
        self.channel.ticket(id).map(|ticket| ticket.place)
    }

    fn send_index(&mut self, revision: u64, event: &Event) {
        let (kind, audience, unit_price_won) = match event {
            Event::PushAccepted { friend_number, unit_price_won, .. } => {
                self.sends.push(revision, *friend_number, *unit_price_won);
                return;
            }
            Event::NarrowcastAccepted { audience, unit_price_won, .. } => {
                (SendKind::Narrowcast, audience, *unit_price_won)
            }
            Event::BroadcastAccepted { audience, unit_price_won, .. } => {
                (SendKind::Broadcast, audience, *unit_price_won)
            }
            _ => return,
        };
        self.sends.bulk(Bulk {
            revision,
            kind,
            unit_price_won,
            excluded_without_consent: audience.excluded_without_consent,
            excluded_blocked: audience.excluded_blocked,
            audience_count: audience.members.len(),
            audience: Arc::new(audience.members.clone()),
        });
    }
}
