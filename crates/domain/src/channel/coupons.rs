//! Coupons and their tickets.
//!
//! ```text
//! coupon (by the revision that defined it)
//!   ├─ single tickets: a row each, by place (issued revision, friend)
//!   └─ batches (by the revision that issued them): one bitmap each;
//!        a ticket of a batch gets a row when something happens to it
//! ```

use std::{
    collections::{BTreeMap, btree_map},
    iter::Peekable,
    sync::Arc,
};

use hashbrown::HashMap;
use roaring::RoaringBitmap;
use smallvec::SmallVec;

use super::{TicketFilter, held::Held};
use crate::{CouponState, Redemption, TicketPlace, TicketState, TicketStatus, UnixNanos, ticket_id};

#[derive(Debug, Default)]
pub(super) struct Coupons {
    pub(super) by_revision: BTreeMap<u64, Coupon>,
    by_id: HashMap<Arc<str>, u64>,
    pub(super) tickets: BTreeMap<TicketPlace, Ticket>,
    /// Tickets whose id does not say their place.
    by_ticket_id: HashMap<Arc<str>, TicketPlace>,
    pub(super) batches: BTreeMap<u64, Batch>,
    /// Revisions that issued single tickets to a friend, ascending.
    singles_of: HashMap<u32, SmallVec<[u64; 2]>>,
    /// Tickets ever issued.
    pub(super) issued: u64,
}

#[derive(Debug)]
pub(super) struct Coupon {
    pub(super) id: Arc<str>,
    pub(super) name: Arc<str>,
    pub(super) state: CouponState,
    /// Counted only under a limit per friend.
    pub(super) held: Held,
    /// Revisions that issued single tickets, ascending.
    singles: Vec<u64>,
    /// Revisions of batches, ascending.
    batches: Vec<u64>,
}

#[derive(Debug)]
pub(super) struct Ticket {
    /// The revision that defined the coupon.
    pub(super) coupon: u64,
    /// `None` where the id says the place.
    id: Option<Arc<str>>,
    pub(super) status: TicketStatus,
    /// 0: none.
    redeemed_revision: u64,
    redeemed_at: UnixNanos,
}

#[derive(Debug)]
pub(super) struct Batch {
    pub(super) coupon: u64,
    pub(super) members: RoaringBitmap,
}

impl Ticket {
    fn issued(coupon: u64, id: Option<Arc<str>>) -> Ticket {
        Ticket { coupon, id, status: TicketStatus::Issued, redeemed_revision: 0, redeemed_at: 0 }
    }

    pub(super) fn redemption(&self) -> Option<Redemption> {
        (self.redeemed_revision != 0).then_some(Redemption { revision: self.redeemed_revision, at: self.redeemed_at })
    }

    fn set(&mut self, status: TicketStatus, redemption: Option<Redemption>) {
        let redemption = redemption.unwrap_or(Redemption { revision: 0, at: 0 });
        (self.status, self.redeemed_revision, self.redeemed_at) = (status, redemption.revision, redemption.at);
    }
}

/// What is restored and what was there do not go together.
pub(super) enum Clash {
    Repeated,
    NoCoupon,
}

impl Coupons {
    pub(super) fn coupon(&self, id: &str) -> Option<&Coupon> {
        self.by_revision.get(self.by_id.get(id)?)
    }

    fn coupon_mut(&mut self, id: &str) -> Option<&mut Coupon> {
        self.by_revision.get_mut(self.by_id.get(id)?)
    }

    /// False where the id or the revision is taken.
    pub(super) fn define(&mut self, id: &str, name: &str, state: CouponState) -> bool {
        if self.by_id.contains_key(id) {
            return false;
        }
        let btree_map::Entry::Vacant(entry) = self.by_revision.entry(state.defined_revision) else { return false };
        let id: Arc<str> = id.into();
        self.by_id.insert(Arc::clone(&id), state.defined_revision);
        self.issued += state.issued;
        let (singles, batches) = (Vec::new(), Vec::new());
        entry.insert(Coupon { id, name: name.into(), state, held: Held::default(), singles, batches });
        true
    }

    pub(super) fn close(&mut self, id: &str) {
        if let Some(coupon) = self.coupon_mut(id) {
            coupon.state.closed = true;
        }
    }

    pub(super) fn issue(&mut self, coupon_id: &str, id: &str, place: TicketPlace) {
        if self.find(id).is_none() && self.put_single(coupon_id, id, place).is_ok() {
            self.count_issued(coupon_id, 1);
        }
    }

    pub(super) fn issue_batch(&mut self, coupon_id: &str, revision: u64, members: RoaringBitmap) {
        let count = members.len();
        if self.put_batch(coupon_id, revision, members).is_ok() {
            self.count_issued(coupon_id, count);
        }
    }

    fn count_issued(&mut self, coupon_id: &str, count: u64) {
        if let Some(coupon) = self.coupon_mut(coupon_id) {
            coupon.state.issued += count;
            self.issued += count;
        }
    }

    /// Everything of a single ticket but the counts of its coupon.
    pub(super) fn put_single(&mut self, coupon_id: &str, id: &str, place: TicketPlace) -> Result<(), Clash> {
        let Some(&coupon) = self.by_id.get(coupon_id) else { return Err(Clash::NoCoupon) };
        let btree_map::Entry::Vacant(entry) = self.tickets.entry(place) else { return Err(Clash::Repeated) };
        let id = (!ticket_id::is_of(id, coupon_id, place)).then(|| Arc::<str>::from(id));
        if let Some(id) = &id {
            if self.by_ticket_id.contains_key(id) {
                return Err(Clash::Repeated);
            }
            self.by_ticket_id.insert(Arc::clone(id), place);
        }
        entry.insert(Ticket::issued(coupon, id));
        let of_friend = self.singles_of.entry(place.friend_number).or_default();
        of_friend.insert(spot(of_friend, place.issued_revision), place.issued_revision);
        if let Some(coupon) = self.by_revision.get_mut(&coupon) {
            coupon.singles.insert(spot(&coupon.singles, place.issued_revision), place.issued_revision);
            if coupon.state.per_friend_limit > 0 {
                coupon.held.add_one(place.friend_number);
            }
        }
        Ok(())
    }

    /// Everything of a batch but the counts of its coupon.
    pub(super) fn put_batch(&mut self, coupon_id: &str, revision: u64, members: RoaringBitmap) -> Result<(), Clash> {
        let Some(&defined) = self.by_id.get(coupon_id) else { return Err(Clash::NoCoupon) };
        let btree_map::Entry::Vacant(entry) = self.batches.entry(revision) else { return Err(Clash::Repeated) };
        if let Some(coupon) = self.by_revision.get_mut(&defined) {
            coupon.batches.insert(spot(&coupon.batches, revision), revision);
            if coupon.state.per_friend_limit > 0 {
                coupon.held.add_each(&members);
            }
        }
        entry.insert(Batch { coupon: defined, members });
        Ok(())
    }

    /// Puts back what happened to a ticket that is there.
    pub(super) fn put_state(&mut self, place: TicketPlace, status: TicketStatus, redemption: Option<Redemption>) {
        if let Some(ticket) = self.row_mut(place) {
            ticket.set(status, redemption);
        }
    }

    /// What becomes of a ticket. `redemption` is there exactly for a redemption.
    pub(super) fn turn(&mut self, id: &str, status: TicketStatus, redemption: Option<Redemption>) {
        let Some(place) = self.find(id) else { return };
        let Some(ticket) = self.row_mut(place) else { return };
        let (coupon, old) = (ticket.coupon, ticket.status);
        ticket.set(status, redemption);
        if let Some(coupon) = self.by_revision.get_mut(&coupon) {
            turn_counts(&mut coupon.state, old, status);
        }
    }

    /// The row of a ticket that exists; one of a batch gets its own now.
    fn row_mut(&mut self, place: TicketPlace) -> Option<&mut Ticket> {
        match self.tickets.entry(place) {
            btree_map::Entry::Occupied(entry) => Some(entry.into_mut()),
            btree_map::Entry::Vacant(entry) => {
                let batch = self.batches.get(&place.issued_revision)?;
                batch.members.contains(place.friend_number).then(|| entry.insert(Ticket::issued(batch.coupon, None)))
            }
        }
    }

    /// Where the ticket of this id is.
    pub(super) fn find(&self, id: &str) -> Option<TicketPlace> {
        if let Some((coupon_id, place)) = ticket_id::parse(id) {
            let coupon = match self.tickets.get(&place) {
                Some(ticket) if ticket.id.is_none() => Some(ticket.coupon),
                _ => {
                    let batch = self.batches.get(&place.issued_revision);
                    batch.filter(|batch| batch.members.contains(place.friend_number)).map(|batch| batch.coupon)
                }
            };
            if coupon.is_some() && coupon == self.by_id.get(coupon_id).copied() {
                return Some(place);
            }
        }
        self.by_ticket_id.get(id).copied()
    }

    /// The ticket at this place.
    pub(super) fn state(&self, place: TicketPlace) -> Option<TicketState> {
        let (coupon, status, redemption) = match self.tickets.get(&place) {
            Some(ticket) => (ticket.coupon, ticket.status, ticket.redemption()),
            None => {
                let batch = self.batches.get(&place.issued_revision)?;
                batch.members.contains(place.friend_number).then_some((batch.coupon, TicketStatus::Issued, None))?
            }
        };
        let coupon_id = Arc::clone(&self.by_revision.get(&coupon)?.id);
        Some(TicketState { coupon_id, place, status, redemption })
    }

    /// The id of the ticket at this place.
    pub(super) fn id_at(&self, coupon_id: &str, place: TicketPlace) -> String {
        match self.tickets.get(&place).and_then(|ticket| ticket.id.as_deref()) {
            Some(id) => id.to_owned(),
            None => ticket_id::make(coupon_id, place),
        }
    }

    /// Tickets at or behind a place, in order.
    pub(super) fn list(&self, filter: &TicketFilter<'_>, from: TicketPlace, limit: usize) -> Vec<TicketState> {
        let first = from.issued_revision;
        let coupon = match filter.coupon_id {
            Some(id) => match self.coupon(id) {
                Some(coupon) => Some(coupon),
                None => return Vec::new(),
            },
            None => None,
        };
        let revisions: Box<dyn Iterator<Item = u64>> = match (filter.friend_number, coupon) {
            (Some(friend), _) => {
                let singles = self.singles_of.get(&friend).map_or(&[][..], |revisions| revisions);
                Box::new(merge(behind(singles, first), self.batches.range(first..).map(|(revision, _)| *revision)))
            }
            (None, Some(coupon)) => Box::new(merge(behind(&coupon.singles, first), behind(&coupon.batches, first))),
            (None, None) => {
                let from = TicketPlace { issued_revision: first, friend_number: 0 };
                let rows = self.tickets.range(from..).map(|(place, _)| place.issued_revision);
                let singles = rows.filter(|revision| !self.batches.contains_key(revision));
                Box::new(merge(singles, self.batches.range(first..).map(|(revision, _)| *revision)))
            }
        };
        let places = revisions.flat_map(|revision| self.places_at(revision, filter.friend_number));
        let states = places.filter(|place| *place >= from).filter_map(|place| self.state(place));
        states.filter(|state| coupon.is_none_or(|coupon| coupon.id == state.coupon_id)).take(limit).collect()
    }

    /// Tickets that one revision issued.
    fn places_at(&self, revision: u64, friend: Option<u32>) -> Box<dyn Iterator<Item = TicketPlace> + '_> {
        let place = move |friend_number| TicketPlace { issued_revision: revision, friend_number };
        match (self.batches.get(&revision), friend) {
            (Some(batch), Some(friend)) => Box::new(batch.members.contains(friend).then(|| place(friend)).into_iter()),
            (Some(batch), None) => Box::new(batch.members.iter().map(place)),
            (None, friend) => {
                let of_revision = self.tickets.range(place(0)..=place(u32::MAX)).map(|(place, _)| *place);
                Box::new(of_revision.filter(move |place| friend.is_none_or(|friend| friend == place.friend_number)))
            }
        }
    }
}

/// What a turn of a ticket does to the counts of its coupon.
pub(crate) fn turn_counts(coupon: &mut CouponState, old: TicketStatus, new: TicketStatus) {
    let mut count = |status, by: i64| {
        let count = match status {
            TicketStatus::Issued => return,
            TicketStatus::Redeemed => &mut coupon.redeemed,
            TicketStatus::Voided => &mut coupon.voided,
            TicketStatus::Expired => &mut coupon.expired,
        };
        *count = count.saturating_add_signed(by);
    };
    count(old, -1);
    count(new, 1);
}

/// Where a revision belongs. Revisions rise, so it is the end but for restorations.
fn spot(sorted: &[u64], revision: u64) -> usize {
    sorted.partition_point(|&other| other < revision)
}

fn behind(sorted: &[u64], first: u64) -> impl Iterator<Item = u64> + '_ {
    sorted[spot(sorted, first)..].iter().copied()
}

/// Two ascending sequences that share nothing, as one.
fn merge<A: Iterator<Item = u64>, B: Iterator<Item = u64>>(a: A, b: B) -> impl Iterator<Item = u64> {
    let (mut a, mut b): (Peekable<A>, Peekable<B>) = (a.peekable(), b.peekable());
    std::iter::from_fn(move || match (a.peek(), b.peek()) {
        (Some(left), Some(right)) if right < left => b.next(),
        (Some(_), _) => a.next(),
        (None, _) => b.next(),
    })
}
