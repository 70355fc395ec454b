//! What readers ask beyond what decisions ask.

use std::ops::Bound;

use super::{Channel, friends::Friends};
use crate::{Counts, CouponState, FriendState, FriendStatus, Load, Selector, TicketPlace, TicketState};

/// One friend, as readers see it.
#[derive(Clone, Copy)]
pub struct FriendView<'a> {
    /// 1, 2, 3 …
    pub number: u32,
    /// Pseudonymous to the channel.
    pub user_key: &'a str,
    /// Everything but the attributes.
    pub state: FriendState,
    friends: &'a Friends,
}

impl<'a> FriendView<'a> {
    /// Key and value of each attribute, ascending by key.
    pub fn attributes(&self) -> impl Iterator<Item = (&'a str, &'a str)> + Clone + use<'a> {
        self.friends.attributes_of(self.number)
    }

    /// Appends the bytes that the digest of the friend list is made of: number u32, status u8, consents u8, then the
    /// key, and each attribute's key and value; texts with their length as u32 before them, everything little endian.
    pub fn digest_input(&self, into: &mut Vec<u8>) {
        into.extend_from_slice(&self.number.to_le_bytes());
        into.push(self.state.status as u8);
        into.push(self.state.consents.bits());
        let mut text = |text: &str| {
            into.extend_from_slice(&(text.len() as u32).to_le_bytes());
            into.extend_from_slice(text.as_bytes());
        };
        text(self.user_key);
        for (key, value) in self.attributes() {
            text(key);
            text(value);
        }
    }
}

impl std::fmt::Debug for FriendView<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut view = f.debug_struct("FriendView");
        view.field("number", &self.number).field("user_key", &self.user_key).field("state", &self.state);
        view.field("attributes", &self.attributes().collect::<Vec<_>>()).finish()
    }
}

/// One coupon, as readers see it.
#[derive(Debug, Clone, Copy)]
pub struct CouponView<'a> {
    /// The client's, or made by the leader.
    pub id: &'a str,
    /// For people.
    pub name: &'a str,
    /// Everything else.
    pub state: CouponState,
}

/// One ticket, as readers see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TicketView {
    /// The client's, or made by the leader.
    pub id: String,
    /// Everything else.
    pub state: TicketState,
}

/// Which tickets are meant.
#[derive(Debug, Clone, Copy, Default)]
pub struct TicketFilter<'a> {
    /// Of this coupon.
    pub coupon_id: Option<&'a str>,
    /// Held by this friend.
    pub friend_number: Option<u32>,
}

/// Friends by the value of one attribute.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CountBy {
    /// Value and how many have it, in no order.
    pub counts: Vec<(String, u64)>,
    /// Values that are not named.
    pub other_values: u64,
    /// Friends that have one of those.
    pub other_friends: u64,
}

impl Channel {
    /// How much it holds.
    pub fn counts(&self) -> Counts {
        Counts {
            friends: self.friends.with_status(FriendStatus::Friend).len(),
            blocked: self.friends.with_status(FriendStatus::Blocked).len(),
            removed: self.friends.with_status(FriendStatus::Removed).len(),
            coupons: self.coupons.by_revision.len() as u64,
            tickets: self.coupons.issued,
        }
    }

    /// The user key of everybody who ever was a friend.
    pub fn user_key(&self, number: u32) -> Option<&str> {
        self.friends.user_key(number)
    }

    /// One friend, removed ones too.
    pub fn friend_view(&self, number: u32) -> Option<FriendView<'_>> {
        let (user_key, state) = (self.friends.user_key(number)?, self.friends.state(number)?);
        Some(FriendView { number, user_key, state, friends: &self.friends })
    }

    /// Those selected with numbers above `after_number` (0: all), ascending, at most `limit`.
    pub fn friends(&self, selector: &Selector<'_>, after_number: u32, limit: usize) -> Vec<FriendView<'_>> {
        let numbers = self.friends.page(selector, after_number, limit);
        numbers.into_iter().filter_map(|number| self.friend_view(number)).collect()
    }

    /// How many are selected.
    pub fn count(&self, selector: &Selector<'_>) -> u64 {
        self.select(selector).len()
    }

    /// How many of those selected have each value of this attribute, in no order; those without under "". Values that none
    /// of them has are left out, and so is "" if everybody has the attribute. Of more than `limit` values only those that
    /// most have are named: an attribute may have as many values as there are friends.
    pub fn count_by(&self, selector: &Selector<'_>, key: &str, limit: usize) -> CountBy {
        let selected = self.select(selector);
        let mut counts: Vec<(&str, u64)> = self.friends.pages.attributes.count_by(key, &selected).collect();
        let with: u64 = counts.iter().map(|(_, count)| count).sum();
        if with < selected.len() {
            counts.push(("", selected.len() - with));
        }
        let mut others = (0, 0);
        if counts.len() > limit {
            // Ties go to the lesser value, so that the same channel gives the same answer. Selecting is no sorting.
            counts.select_nth_unstable_by(limit, |(a, many), (b, more)| more.cmp(many).then_with(|| a.cmp(b)));
            others = counts.drain(limit..).fold((0, 0), |(values, all), (_, count)| (values + 1, all + count));
        }
        CountBy {
            counts: counts.into_iter().map(|(value, count)| (value.to_owned(), count)).collect(),
            other_values: others.0,
            other_friends: others.1,
        }
    }

    /// One coupon.
    pub fn coupon_view(&self, id: &str) -> Option<CouponView<'_>> {
        let coupon = self.coupons.coupon(id)?;
        Some(CouponView { id: &coupon.id, name: &coupon.name, state: coupon.state })
    }

    /// Coupons defined after this revision (0: all), in the order of definition, at most `limit`.
    pub fn coupons(&self, after_revision: u64, limit: usize) -> Vec<CouponView<'_>> {
        let behind = (Bound::Excluded(after_revision), Bound::Unbounded);
        let coupons = self.coupons.by_revision.range(behind).take(limit);
        coupons.map(|(_, coupon)| CouponView { id: &coupon.id, name: &coupon.name, state: coupon.state }).collect()
    }

    /// One ticket.
    pub fn ticket_view(&self, id: &str) -> Option<TicketView> {
        Some(TicketView { id: id.to_owned(), state: self.ticket(id)? })
    }

    /// Tickets behind this place (`None`: all), in the order of places, at most `limit`.
    pub fn tickets(&self, filter: &TicketFilter<'_>, after: Option<TicketPlace>, limit: usize) -> Vec<TicketView> {
        let from = match after {
            None => TicketPlace { issued_revision: 0, friend_number: 0 },
            // u32::MAX is no friend's number.
            Some(place) => TicketPlace { friend_number: place.friend_number.saturating_add(1), ..place },
        };
        let states = self.coupons.list(filter, from, limit).into_iter();
        states.map(|state| TicketView { id: self.coupons.id_at(&state.coupon_id, state.place), state }).collect()
    }
}
