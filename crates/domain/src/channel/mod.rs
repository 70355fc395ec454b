//! Everything a channel is, in memory.
//!
//! About 60 to 130 bytes a friend with four attributes, depending on how many different values there are: the row and
//! the key in pages of 256, the number in an index by key, attributes as one number (see `attributes`), and a bit or two
//! in the bitmaps that answer selections. Pages may be out of memory (see `paging`); everything else stays.

pub(crate) mod apply;
mod attributes;
pub(crate) mod coupons;
mod friends;
pub(crate) mod held;
mod index;
mod pages;
mod paging;
mod read;
mod restore;
pub(crate) mod rows;

use std::fmt;

use roaring::RoaringBitmap;

pub use self::pages::FRIENDS_A_PAGE;
pub use self::read::{CountBy, CouponView, FriendView, TicketFilter, TicketView};
use self::{coupons::Coupons, friends::Friends, held::Held};
use crate::{CouponState, FriendState, Load, Selector, Summary, TicketState};

/// Everything a channel is: folded from its events, nothing else.
#[derive(Default)]
pub struct Channel {
    /// `None`: never opened.
    summary: Option<Summary>,
    friends: Friends,
    coupons: Coupons,
}

impl Channel {
    /// Never opened.
    pub fn new() -> Channel {
        Channel::default()
    }
}

impl fmt::Debug for Channel {
    /// In short: a channel may hold millions of friends.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel").field("summary", &self.summary).field("counts", &self.counts()).finish()
    }
}

impl Load for Channel {
    fn summary(&self) -> Option<&Summary> {
        self.summary.as_ref()
    }

    fn number_of(&self, user_key: &str) -> Option<u32> {
        self.friends.number_of(user_key)
    }

    fn friend(&self, number: u32) -> Option<FriendState> {
        self.friends.state(number)
    }

    fn attribute(&self, number: u32, key: &str) -> Option<&str> {
        self.friends.attributes_of(number).find(|(other, _)| *other == key).map(|(_, value)| value)
    }

    fn each_attribute(&self, number: u32, each: &mut dyn FnMut(&str, &str)) {
        for (key, value) in self.friends.attributes_of(number) {
            each(key, value);
        }
    }

    fn select(&self, selector: &Selector<'_>) -> RoaringBitmap {
        self.friends.select(selector)
    }

    fn coupon(&self, id: &str) -> Option<CouponState> {
        self.coupons.coupon(id).map(|coupon| coupon.state)
    }

    fn held(&self, coupon_id: &str, number: u32) -> u32 {
        self.coupons.coupon(coupon_id).map_or(0, |coupon| coupon.held.get(number))
    }

    fn held_by(&self, coupon_id: &str, numbers: &RoaringBitmap) -> Held {
        self.coupons.coupon(coupon_id).map_or_else(Held::default, |coupon| coupon.held.of(numbers))
    }

    fn at_limit(&self, coupon_id: &str) -> RoaringBitmap {
        match self.coupons.coupon(coupon_id) {
            Some(coupon) if coupon.state.per_friend_limit > 0 => coupon.held.at_least(coupon.state.per_friend_limit),
            _ => RoaringBitmap::new(),
        }
    }

    fn ticket(&self, id: &str) -> Option<TicketState> {
        self.coupons.state(self.coupons.find(id)?)
    }
}
