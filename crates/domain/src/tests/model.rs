//! What a channel holds, folded without any cleverness.

use std::collections::{BTreeMap, BTreeSet};

use super::{histories::Recorded, *};
use crate::{FriendStatus, TicketStatus};

#[derive(Debug, Clone, PartialEq)]
pub(super) struct ModelFriend {
    pub(super) key: String,
    pub(super) status: FriendStatus,
    pub(super) attributes: BTreeMap<String, String>,
    pub(super) consents: BTreeSet<Consent>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct ModelTicket {
    pub(super) coupon: String,
    pub(super) friend: u32,
    pub(super) status: TicketStatus,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Model {
    pub(super) friends: BTreeMap<u32, ModelFriend>,
    pub(super) tickets: BTreeMap<String, ModelTicket>,
    /// Cap and limit per friend.
    pub(super) coupons: BTreeMap<String, (u64, u32)>,
}

impl Model {
    pub(super) fn of(recorded: &[Recorded]) -> Model {
        let mut model = Model::default();
        recorded.iter().for_each(|recorded| model.fold(recorded));
        model
    }

    pub(super) fn fold(&mut self, recorded: &Recorded) {
        match &recorded.event {
            Event::FriendAdded { friend_number, user_key, attributes, consents, .. } => {
                let friend = ModelFriend {
                    key: user_key.clone(),
                    status: FriendStatus::Friend,
                    attributes: attributes.iter().map(|a| (a.key.clone(), a.value.clone())).collect(),
                    consents: consents.iter().copied().collect(),
                };
                self.friends.insert(*friend_number, friend);
            }
            Event::FriendBlocked { friend_number } => self.friend(*friend_number).status = FriendStatus::Blocked,
            Event::FriendUnblocked { friend_number } => self.friend(*friend_number).status = FriendStatus::Friend,
            Event::FriendRemoved { friend_number } => self.friend(*friend_number).status = FriendStatus::Removed,
            Event::AttributesSet { friend_number, set, cleared } => {
                let attributes = &mut self.friend(*friend_number).attributes;
                cleared.iter().for_each(|key| drop(attributes.remove(key)));
                attributes.extend(set.iter().map(|a| (a.key.clone(), a.value.clone())));
            }
            Event::ConsentGranted { friend_number, consent } => {
                self.friend(*friend_number).consents.insert(*consent);
            }
            Event::ConsentWithdrawn { friend_number, consent } => {
                self.friend(*friend_number).consents.remove(consent);
            }
            Event::CouponDefined { coupon_id, cap, per_friend_limit, .. } => {
                self.coupons.insert(coupon_id.clone(), (*cap, *per_friend_limit));
            }
            Event::TicketIssued { coupon_id, ticket_id, friend_number } => {
                self.issue(coupon_id, ticket_id.clone(), *friend_number);
            }
            Event::TicketsIssued { coupon_id, audience, .. } => {
                for number in &audience.members {
                    self.issue(coupon_id, format!("{coupon_id}.{}.{number}", recorded.revision), number);
                }
            }
            Event::TicketRedeemed { ticket_id, .. } => self.ticket(ticket_id).status = TicketStatus::Redeemed,
            Event::RedemptionReversed { ticket_id, .. } => self.ticket(ticket_id).status = TicketStatus::Issued,
            Event::TicketVoided { ticket_id, .. } => self.ticket(ticket_id).status = TicketStatus::Voided,
            Event::TicketExpired { ticket_id, .. } => self.ticket(ticket_id).status = TicketStatus::Expired,
            _ => {}
        }
    }

    fn issue(&mut self, coupon: &str, id: String, friend: u32) {
        let ticket = ModelTicket { coupon: coupon.to_owned(), friend, status: TicketStatus::Issued };
        assert_eq!(self.tickets.insert(id, ticket), None, "a ticket id is used once");
    }

    fn friend(&mut self, number: u32) -> &mut ModelFriend {
        self.friends.get_mut(&number).expect("events name friends that exist")
    }

    fn ticket(&mut self, id: &str) -> &mut ModelTicket {
        self.tickets.get_mut(id).expect("events name tickets that exist")
    }

    /// Friends of a status for whom a rule holds.
    pub(super) fn matching(&self, status: FriendStatus, rule: &Rule) -> BTreeSet<u32> {
        let holds = |friend: &ModelFriend| {
            rule.all_of.iter().all(|condition| {
                let value = friend.attributes.get(&condition.key);
                value.is_some_and(|value| condition.any_of.contains(value)) != condition.negate
            })
        };
        let matching = self.friends.iter().filter(|(_, friend)| friend.status == status && holds(friend));
        matching.map(|(number, _)| *number).collect()
    }

    pub(super) fn consenting(&self, numbers: &BTreeSet<u32>) -> BTreeSet<u32> {
        let consents = |number: &&u32| self.friends[*number].consents.contains(&Consent::Advertising);
        numbers.iter().filter(consents).copied().collect()
    }
}
