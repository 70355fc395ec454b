//! What is decided and not yet folded, laid over what is folded.
//!
//! ```text
//! stamps     1 ────────── folded ──────────── decided
//! base       ■■■■■■■■■■■■■■■■■■■■■ ▷ moves on by itself
//! overlay            ░░░░░░░░░■■■■■■■■■■■■■■■■■   ░ may be dropped, and need not be
//! ```
//! A row here is the whole newest value of what it stands for, never a difference, so it does not matter how far the base
//! has come meanwhile: what is touched is answered here, what is not is equal in both. A row goes once the base has
//! folded everything up to the row's newest stamp; keeping one longer costs memory and nothing else.

use std::{borrow::Borrow, collections::VecDeque, hash::Hash, sync::Arc};

use hashbrown::HashMap;
use roaring::RoaringBitmap;
use smallvec::SmallVec;

use crate::{
    Attribute, CouponState, Event, FriendState, FriendStatus, Load, Selector, Summary, TicketPlace, TicketState,
    TicketStatus, UnixNanos,
    channel::{
        apply::{apply_to_summary, defined, opened, pairs, turned},
        coupons::turn_counts,
        held::Held,
    },
    ticket_id,
};

/// What decided but not yet folded events changed in one channel.
#[derive(Debug, Default)]
pub struct Overlay {
    summary: Option<Stamped<Summary>>,
    friends: HashMap<u32, Stamped<Friend>>,
    /// Numbers given out here; they go with the friend's row.
    numbers: HashMap<Arc<str>, u32>,
    coupons: HashMap<Arc<str>, Stamped<Coupon>>,
    tickets: HashMap<Arc<str>, Stamped<TicketState>>,
    batches: HashMap<u64, Stamped<Batch>>,
    /// Every row once, about in the order of stamps: what goes first is in front.
    queue: VecDeque<(u64, Key)>,
}

#[derive(Debug)]
struct Stamped<T> {
    stamp: u64,
    value: T,
}

#[derive(Debug)]
enum Key {
    Friend(u32),
    Coupon(Arc<str>),
    Ticket(Arc<str>),
    Batch(u64),
}

#[derive(Debug)]
struct Friend {
    state: FriendState,
    /// Where the number was given out here.
    user_key: Option<Arc<str>>,
    /// `None`: as in the base.
    attributes: Option<Texts>,
}

#[derive(Debug)]
struct Coupon {
    id: Arc<str>,
    state: CouponState,
    /// Friends whose count of tickets is in `held`; the others' is in the base.
    counted: RoaringBitmap,
    held: Held,
}

#[derive(Debug)]
struct Batch {
    coupon_id: Arc<str>,
    members: RoaringBitmap,
}

/// Attributes, ascending by key, in one piece of memory.
#[derive(Debug, Default)]
struct Texts {
    text: String,
    /// Of key and value, in turn.
    lengths: SmallVec<[u32; 8]>,
}

impl Texts {
    fn push(&mut self, key: &str, value: &str) {
        self.text.push_str(key);
        self.text.push_str(value);
        self.lengths.extend([key.len() as u32, value.len() as u32]);
    }

    fn collect<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)> + Clone) -> Texts {
        let bytes = pairs.clone().map(|(key, value)| key.len() + value.len()).sum();
        let mut texts = Texts { text: String::with_capacity(bytes), lengths: SmallVec::new() };
        pairs.for_each(|(key, value)| texts.push(key, value));
        texts
    }

    fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut rest = &*self.text;
        self.lengths.chunks_exact(2).map(move |lengths| {
            let (key, after) = rest.split_at(lengths[0] as usize);
            let (value, after) = after.split_at(lengths[1] as usize);
            rest = after;
            (key, value)
        })
    }
}

/// An overlay over its base: the state that the next decision sees.
#[derive(Debug)]
pub struct Over<'a, B> {
    overlay: &'a Overlay,
    base: &'a B,
}

impl<B> Clone for Over<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B> Copy for Over<'_, B> {}

impl Overlay {
    /// Nothing changed.
    pub fn new() -> Overlay {
        Overlay::default()
    }

    /// The state that the next decision sees. `base` has folded all that was evicted, and nothing that was not applied
    /// here.
    pub fn over<'a, B: Load>(&'a self, base: &'a B) -> Over<'a, B> {
        Over { overlay: self, base }
    }

    /// Takes a decided event in; `stamp` is its place in the order of all that is decided and rises from call to call.
    pub fn apply<B: Load>(
        &mut self,
        base: &B,
        stamp: u64,
        revision: u64,
        accepted_at: UnixNanos,
        occurred_at: Option<UnixNanos>,
        event: &Event,
    ) {
        let at = occurred_at.unwrap_or(accepted_at);
        self.apply_to_summary(base, stamp, revision, at, event);
        match event {
            Event::ChannelOpened { .. }
            | Event::ChannelRenamed { .. }
            | Event::ChannelSuspended { .. }
            | Event::ChannelResumed
            | Event::ChannelClosed { .. }
            | Event::PushAccepted { .. }
            | Event::NarrowcastAccepted { .. }
            | Event::BroadcastAccepted { .. } => {}

            Event::FriendAdded { friend_number, user_key, source, attributes, consents } => {
                let state = FriendState {
                    status: FriendStatus::Friend,
                    consents: consents.iter().copied().collect(),
                    source: *source,
                    added_revision: revision,
                    added_at: at,
                };
                self.add_friend(base, stamp, *friend_number, user_key, state, attributes);
            }
            Event::FriendBlocked { friend_number } => {
                self.friend(base, stamp, *friend_number, |friend| friend.state.status = FriendStatus::Blocked);
            }
            Event::FriendUnblocked { friend_number } => {
                self.friend(base, stamp, *friend_number, |friend| friend.state.status = FriendStatus::Friend);
            }
            Event::FriendRemoved { friend_number } => {
                self.friend(base, stamp, *friend_number, |friend| friend.state.status = FriendStatus::Removed);
            }
            Event::AttributesSet { friend_number, set, cleared } => {
                let attributes = self.changed(base, *friend_number, set, cleared);
                self.friend(base, stamp, *friend_number, |friend| friend.attributes = Some(attributes));
            }
            Event::ConsentGranted { friend_number, consent } => {
                let with = |friend: &mut Friend| friend.state.consents = friend.state.consents.with(*consent, true);
                self.friend(base, stamp, *friend_number, with);
            }
            Event::ConsentWithdrawn { friend_number, consent } => {
                let without = |friend: &mut Friend| friend.state.consents = friend.state.consents.with(*consent, false);
                self.friend(base, stamp, *friend_number, without);
            }

            Event::CouponDefined { coupon_id, .. } => {
                if let Some(state) = defined(revision, event) {
                    let id: Arc<str> = coupon_id.as_str().into();
                    let coupon = Coupon { id, state, counted: RoaringBitmap::new(), held: Held::default() };
                    self.put_coupon(stamp, coupon);
                }
            }
            Event::CouponClosed { coupon_id, .. } => {
                self.coupon(base, stamp, coupon_id, |coupon| coupon.state.closed = true);
            }
            Event::TicketIssued { coupon_id, ticket_id, friend_number } => {
                let place = TicketPlace { issued_revision: revision, friend_number: *friend_number };
                self.issue(base, stamp, coupon_id, ticket_id, place);
            }
            Event::TicketsIssued { coupon_id, audience, .. } => {
                self.issue_batch(base, stamp, coupon_id, revision, &audience.members);
            }
            Event::TicketRedeemed { ticket_id, .. }
            | Event::RedemptionReversed { ticket_id, .. }
            | Event::TicketVoided { ticket_id, .. }
            | Event::TicketExpired { ticket_id, .. } => self.turn(base, stamp, revision, at, ticket_id, event),
        }
    }

    /// Drops what the base has folded by now: everything up to this stamp.
    pub fn evict(&mut self, folded_stamp: u64) {
        if self.summary.as_ref().is_some_and(|summary| summary.stamp <= folded_stamp) {
            self.summary = None;
        }
        while self.queue.front().is_some_and(|(stamp, _)| *stamp <= folded_stamp) {
            let Some((_, key)) = self.queue.pop_front() else { return };
            let newer = match &key {
                Key::Friend(number) => {
                    let (newer, gone) = drop_folded(&mut self.friends, number, folded_stamp);
                    if let Some(user_key) = gone.and_then(|friend| friend.user_key) {
                        self.numbers.remove(&user_key);
                    }
                    newer
                }
                Key::Coupon(id) => drop_folded(&mut self.coupons, id, folded_stamp).0,
                Key::Ticket(id) => drop_folded(&mut self.tickets, id, folded_stamp).0,
                Key::Batch(revision) => drop_folded(&mut self.batches, revision, folded_stamp).0,
            };
            // Touched again since it was queued. Behind rows of higher stamps it only goes later than it might.
            if let Some(stamp) = newer {
                self.queue.push_back((stamp, key));
            }
        }
    }

    /// Nothing is laid over the base.
    pub fn is_empty(&self) -> bool {
        self.summary.is_none() && self.queue.is_empty()
    }

    fn apply_to_summary(&mut self, base: &impl Load, stamp: u64, revision: u64, at: UnixNanos, event: &Event) {
        if self.summary.is_none() {
            let value = base.summary().cloned().or_else(|| opened(revision, at, event));
            self.summary = value.map(|value| Stamped { stamp, value });
        }
        let Some(summary) = &mut self.summary else { return };
        summary.stamp = stamp;
        apply_to_summary(&mut summary.value, revision, event);
        if let Event::FriendAdded { friend_number, .. } = event {
            summary.value.next_friend_number = summary.value.next_friend_number.max(friend_number + 1);
        }
    }

    fn add_friend(
        &mut self,
        base: &impl Load,
        stamp: u64,
        number: u32,
        user_key: &str,
        state: FriendState,
        attributes: &[Attribute],
    ) {
        let attributes = Some(Texts::collect(pairs(attributes)));
        if let Some(row) = self.friends.get_mut(&number) {
            row.stamp = stamp;
            (row.value.state, row.value.attributes) = (state, attributes);
            return;
        }
        let is_new = base.number_of(user_key).is_none();
        let user_key = is_new.then(|| Arc::<str>::from(user_key));
        if let Some(user_key) = &user_key {
            self.numbers.insert(Arc::clone(user_key), number);
        }
        self.friends.insert(number, Stamped { stamp, value: Friend { state, user_key, attributes } });
        self.queue.push_back((stamp, Key::Friend(number)));
    }

    /// Changes a friend that exists.
    fn friend(&mut self, base: &impl Load, stamp: u64, number: u32, change: impl FnOnce(&mut Friend)) {
        if let Some(row) = self.friends.get_mut(&number) {
            row.stamp = stamp;
            return change(&mut row.value);
        }
        let Some(state) = base.friend(number) else { return };
        let mut value = Friend { state, user_key: None, attributes: None };
        change(&mut value);
        self.friends.insert(number, Stamped { stamp, value });
        self.queue.push_back((stamp, Key::Friend(number)));
    }

    /// A friend's attributes after a change.
    fn changed(&self, base: &impl Load, number: u32, set: &[Attribute], cleared: &[String]) -> Texts {
        let mut all: Vec<(String, String)> = Vec::new();
        self.over(base).each_attribute(number, &mut |key, value| {
            let stays = !cleared.iter().any(|cleared| cleared == key) && !set.iter().any(|set| set.key == key);
            if stays {
                all.push((key.to_owned(), value.to_owned()));
            }
        });
        let mut all: SmallVec<[(&str, &str); 24]> = all.iter().map(|(key, value)| (&**key, &**value)).collect();
        all.extend(pairs(set));
        all.sort_unstable();
        Texts::collect(all.iter().copied())
    }

    fn put_coupon(&mut self, stamp: u64, coupon: Coupon) {
        let id = Arc::clone(&coupon.id);
        if self.coupons.insert(Arc::clone(&id), Stamped { stamp, value: coupon }).is_none() {
            self.queue.push_back((stamp, Key::Coupon(id)));
        }
    }

    /// Changes a coupon that exists.
    fn coupon(&mut self, base: &impl Load, stamp: u64, id: &str, change: impl FnOnce(&mut Coupon)) {
        if let Some(row) = self.coupons.get_mut(id) {
            row.stamp = stamp;
            return change(&mut row.value);
        }
        let Some(state) = base.coupon(id) else { return };
        let mut coupon = Coupon { id: id.into(), state, counted: RoaringBitmap::new(), held: Held::default() };
        change(&mut coupon);
        self.put_coupon(stamp, coupon);
    }

    /// The id of a coupon as its row has it, to be shared.
    fn coupon_id(&self, id: &str) -> Arc<str> {
        self.coupons.get(id).map_or_else(|| id.into(), |row| Arc::clone(&row.value.id))
    }

    fn issue(&mut self, base: &impl Load, stamp: u64, coupon_id: &str, id: &str, place: TicketPlace) {
        let number = place.friend_number;
        self.coupon(base, stamp, coupon_id, |coupon| {
            coupon.state.issued += 1;
            if coupon.state.per_friend_limit > 0 {
                if coupon.counted.insert(number) {
                    coupon.held.set(number, base.held(coupon_id, number));
                }
                coupon.held.add_one(number);
            }
        });
        let coupon_id = self.coupon_id(coupon_id);
        let ticket = TicketState { coupon_id, place, status: TicketStatus::Issued, redemption: None };
        self.put_ticket(stamp, id, ticket);
    }

    fn issue_batch(&mut self, base: &impl Load, stamp: u64, coupon_id: &str, revision: u64, members: &RoaringBitmap) {
        self.coupon(base, stamp, coupon_id, |coupon| {
            coupon.state.issued += members.len();
            if coupon.state.per_friend_limit > 0 {
                let new = members - &coupon.counted;
                coupon.held.replace(&new, &base.held_by(coupon_id, &new));
                coupon.counted |= new;
                coupon.held.add_each(members);
            }
        });
        let value = Batch { coupon_id: self.coupon_id(coupon_id), members: members.clone() };
        self.batches.insert(revision, Stamped { stamp, value });
        self.queue.push_back((stamp, Key::Batch(revision)));
    }

    fn turn(&mut self, base: &impl Load, stamp: u64, revision: u64, at: UnixNanos, id: &str, event: &Event) {
        let Some((status, redemption)) = turned(revision, at, event) else { return };
        let Some(mut ticket) = self.over(base).ticket(id) else { return };
        let old = std::mem::replace(&mut ticket.status, status);
        ticket.redemption = redemption;
        let coupon_id = Arc::clone(&ticket.coupon_id);
        self.coupon(base, stamp, &coupon_id, |coupon| turn_counts(&mut coupon.state, old, status));
        self.put_ticket(stamp, id, ticket);
    }

    fn put_ticket(&mut self, stamp: u64, id: &str, ticket: TicketState) {
        if let Some(row) = self.tickets.get_mut(id) {
            *row = Stamped { stamp, value: ticket };
            return;
        }
        let id: Arc<str> = id.into();
        self.tickets.insert(Arc::clone(&id), Stamped { stamp, value: ticket });
        self.queue.push_back((stamp, Key::Ticket(id)));
    }
}

/// Drops a row whose newest change is folded; else says when it was last changed.
fn drop_folded<K: Eq + Hash + Borrow<Q>, Q: Eq + Hash + ?Sized, T>(
    rows: &mut HashMap<K, Stamped<T>>,
    key: &Q,
    folded_stamp: u64,
) -> (Option<u64>, Option<T>) {
    match rows.get(key) {
        Some(row) if row.stamp > folded_stamp => (Some(row.stamp), None),
        _ => (None, rows.remove(key).map(|row| row.value)),
    }
}

impl<B: Load> Load for Over<'_, B> {
    fn summary(&self) -> Option<&Summary> {
        self.overlay.summary.as_ref().map(|row| &row.value).or_else(|| self.base.summary())
    }

    fn number_of(&self, user_key: &str) -> Option<u32> {
        self.overlay.numbers.get(user_key).copied().or_else(|| self.base.number_of(user_key))
    }

    fn friend(&self, number: u32) -> Option<FriendState> {
        self.overlay.friends.get(&number).map(|row| row.value.state).or_else(|| self.base.friend(number))
    }

    fn attribute(&self, number: u32, key: &str) -> Option<&str> {
        match self.overlay.friends.get(&number).and_then(|row| row.value.attributes.as_ref()) {
            Some(texts) => texts.iter().find(|(other, _)| *other == key).map(|(_, value)| value),
            None => self.base.attribute(number, key),
        }
    }

    fn each_attribute(&self, number: u32, each: &mut dyn FnMut(&str, &str)) {
        match self.overlay.friends.get(&number).and_then(|row| row.value.attributes.as_ref()) {
            Some(texts) => texts.iter().for_each(|(key, value)| each(key, value)),
            None => self.base.each_attribute(number, each),
        }
    }

    fn select(&self, selector: &Selector<'_>) -> RoaringBitmap {
        let mut selected = self.base.select(selector);
        for (&number, row) in &self.overlay.friends {
            if selector.admits(&row.value.state, |key| self.attribute(number, key)) {
                selected.insert(number);
            } else {
                selected.remove(number);
            }
        }
        selected
    }

    fn coupon(&self, id: &str) -> Option<CouponState> {
        self.overlay.coupons.get(id).map(|row| row.value.state).or_else(|| self.base.coupon(id))
    }

    fn held(&self, coupon_id: &str, number: u32) -> u32 {
        match self.overlay.coupons.get(coupon_id).map(|row| &row.value) {
            Some(coupon) if coupon.counted.contains(number) => coupon.held.get(number),
            _ => self.base.held(coupon_id, number),
        }
    }

    fn held_by(&self, coupon_id: &str, numbers: &RoaringBitmap) -> Held {
        let mut held = self.base.held_by(coupon_id, numbers);
        if let Some(row) = self.overlay.coupons.get(coupon_id) {
            held.replace(&(numbers & &row.value.counted), &row.value.held);
        }
        held
    }

    fn at_limit(&self, coupon_id: &str) -> RoaringBitmap {
        let mut at_limit = self.base.at_limit(coupon_id);
        if let Some(Stamped { value: coupon, .. }) = self.overlay.coupons.get(coupon_id)
            && coupon.state.per_friend_limit > 0
        {
            // Counts only rise: who is at the limit below is so here too.
            at_limit |= coupon.held.at_least(coupon.state.per_friend_limit);
        }
        at_limit
    }

    fn ticket(&self, id: &str) -> Option<TicketState> {
        if let Some(row) = self.overlay.tickets.get(id) {
            return Some(row.value.clone());
        }
        self.overlay.ticket_of_batch(id).or_else(|| self.base.ticket(id))
    }
}

impl Overlay {
    /// A ticket of a batch to which nothing has happened since.
    fn ticket_of_batch(&self, id: &str) -> Option<TicketState> {
        if self.batches.is_empty() {
            return None;
        }
        let (coupon_id, place) = ticket_id::parse(id)?;
        let batch = &self.batches.get(&place.issued_revision)?.value;
        let is_there = *batch.coupon_id == *coupon_id && batch.members.contains(place.friend_number);
        is_there.then(|| TicketState {
            coupon_id: Arc::clone(&batch.coupon_id),
            place,
            status: TicketStatus::Issued,
            redemption: None,
        })
    }
}
