//! What a decision may ask.

use roaring::RoaringBitmap;

use crate::{Consent, CouponState, FriendState, Rule, Statuses, Summary, TicketState, channel::held::Held};

/// What a decision may ask of one channel's state. Implemented by [`crate::Channel`] (everything, in memory) and by
/// [`crate::Over`], what is decided and not yet folded laid over it.
pub trait Load {
    /// `None`: never opened.
    fn summary(&self) -> Option<&Summary>;

    /// The number of everybody who ever was a friend.
    fn number_of(&self, user_key: &str) -> Option<u32>;

    /// One friend, removed ones too.
    fn friend(&self, number: u32) -> Option<FriendState>;

    /// The value of one attribute of a friend.
    fn attribute(&self, number: u32, key: &str) -> Option<&str>;

    /// Key and value of each attribute of a friend, ascending by key.
    fn each_attribute(&self, number: u32, each: &mut dyn FnMut(&str, &str));

    /// The numbers of those selected.
    fn select(&self, selector: &Selector<'_>) -> RoaringBitmap;

    /// One coupon.
    fn coupon(&self, id: &str) -> Option<CouponState>;

    /// Tickets of a coupon that a friend was ever issued; counted only where the coupon has a limit per friend, else 0.
    fn held(&self, coupon_id: &str, number: u32) -> u32;

    /// The same for many friends at once.
    fn held_by(&self, coupon_id: &str, numbers: &RoaringBitmap) -> Held;

    /// Friends who hold as many tickets of this coupon as one may.
    fn at_limit(&self, coupon_id: &str) -> RoaringBitmap;

    /// One ticket.
    fn ticket(&self, id: &str) -> Option<TicketState>;
}

/// Which friends are meant: those for whom all of it holds.
#[derive(Debug, Clone, Copy)]
pub struct Selector<'a> {
    /// Of one of these statuses.
    pub statuses: Statuses,
    /// Holding this consent.
    pub consent: Option<Consent>,
    /// For whom this holds; `None`, like an empty rule, asks nothing.
    pub rule: Option<&'a Rule>,
}

impl<'a> Selector<'a> {
    /// Everybody of these statuses.
    pub fn of(statuses: Statuses) -> Selector<'a> {
        Selector { statuses, consent: None, rule: None }
    }

    /// Those for whom the rule holds too.
    pub fn matching(self, rule: &'a Rule) -> Selector<'a> {
        Selector { rule: Some(rule), ..self }
    }

    /// Those who gave this consent too.
    pub fn consenting(self, consent: Consent) -> Selector<'a> {
        Selector { consent: Some(consent), ..self }
    }

    /// Whether one friend is meant, given what is known of them.
    pub(crate) fn admits<'b>(&self, friend: &FriendState, attribute: impl Fn(&str) -> Option<&'b str>) -> bool {
        self.statuses.contains(friend.status)
            && self.consent.is_none_or(|consent| friend.consents.contains(consent))
            && self.rule.is_none_or(|rule| {
                rule.all_of.iter().all(|condition| {
                    let has = attribute(&condition.key)
                        .is_some_and(|value| condition.any_of.iter().any(|wanted| wanted == value));
                    has != condition.negate
                })
            })
    }
}
