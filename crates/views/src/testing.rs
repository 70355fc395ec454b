//! Random histories for the tests, with a plain model beside them that says what every answer must be.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use proptest::prelude::*;
use roaring::RoaringBitmap;
use sillok_domain::{Attribute, Consent, Event, FriendSource, FrozenAudience, Reason, Refusal, TimeWindow};
use sillok_wire::records::{self, NewDecision, NewOutcome, RecordBuilder};

use crate::{Folded, Views};

/// One entry of a chronicle.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) kind: u8,
    pub(crate) payload: Bytes,
}

/// A friend as the model has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ModelFriend {
    pub(crate) key: String,
    /// 1 friend, 2 blocked, 3 removed.
    pub(crate) status: u8,
    pub(crate) attributes: BTreeMap<String, String>,
    pub(crate) consents: BTreeSet<Consent>,
}

/// A channel as the model has it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Model {
    pub(crate) revision: u64,
    /// By number, from 1.
    pub(crate) friends: BTreeMap<u32, ModelFriend>,
    pub(crate) sends: Vec<(u64, BTreeSet<u32>)>,
    /// Ticket id → (coupon, friend, 1 issued / 2 redeemed / 3 voided / 4 expired).
    pub(crate) tickets: BTreeMap<String, (String, u32, u8)>,
    pub(crate) coupons: BTreeSet<String>,
    pub(crate) refused: u64,
    pub(crate) at: Vec<(u64, u32)>,
}

/// One thing that is tried.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) channel: u8,
    pub(crate) what: u8,
    pub(crate) who: u32,
    pub(crate) detail: u8,
    /// 0: closes the record after it; 1: and a blank entry follows; 2: and a stray record follows.
    pub(crate) closes: u8,
}

pub(crate) fn steps(max: usize) -> impl Strategy<Value = Vec<Step>> {
    let step = (0u8..3, 0u8..24, 1u32..40, any::<u8>(), 0u8..12)
        .prop_map(|(channel, what, who, detail, closes)| Step { channel, what, who, detail, closes });
    prop::collection::vec(step, 1..max)
}

/// Writes a chronicle and keeps the model beside it.
pub(crate) struct Author {
    builder: RecordBuilder,
    head: [u8; 32],
    sequence: u64,
    keys: u64,
    pub(crate) now: i64,
    pub(crate) entries: Vec<Entry>,
    pub(crate) models: BTreeMap<String, Model>,
}

impl Author {
    pub(crate) fn new() -> Author {
        Author {
            builder: RecordBuilder::new(),
            head: records::GENESIS,
            sequence: 0,
            keys: 0,
            now: 1_665_800_000_000_000_000,
            entries: Vec::new(),
            models: BTreeMap::new(),
        }
    }

    /// Adds events of one command to the open record.
    pub(crate) fn events(&mut self, channel: &str, events: &[Event]) {
        self.events_at(channel, events, None, false);
    }

    pub(crate) fn events_at(&mut self, channel: &str, events: &[Event], occurred_at: Option<i64>, backfill: bool) {
        let model = self.models.entry(channel.to_owned()).or_default();
        let first_revision = model.revision + 1;
        let item = self.builder.positions() as u32;
        for nth in 0..events.len() as u32 {
            model.at.push((self.entries.len() as u64, item + nth));
        }
        for event in events {
            model.revision += 1;
            model.apply(event);
        }
        self.decision(channel, NewOutcome::Events { first_revision, events }, occurred_at, backfill);
    }

    pub(crate) fn refusal(&mut self, channel: &str) {
        if let Some(model) = self.models.get_mut(channel).filter(|model| model.revision > 0) {
            model.refused += 1;
        }
        let refusal = Refusal { reason: Reason::FriendNotFound, message: "no".into(), metadata: Vec::new() };
        self.decision(channel, NewOutcome::Refused(&refusal), None, false);
    }

    fn decision(&mut self, channel: &str, outcome: NewOutcome<'_>, occurred_at: Option<i64>, backfill: bool) {
        self.keys += 1;
        let retry_key = format!("key-{}", self.keys);
        self.builder.push(&NewDecision {
            channel_id: channel,
            retry_key: &retry_key,
            key_hash: records::key_hash(channel, &retry_key),
            fingerprint: &[1; 16],
            actor: "tester",
            occurred_at,
            backfill,
            command_kind: 30,
            outcome,
            imported: &[],
        });
    }

    /// Closes the record.
    pub(crate) fn close(&mut self) {
        if self.builder.is_empty() {
            return;
        }
        self.now += 1_000;
        let positions = self.builder.positions();
        let payload = self.builder.finish(&self.head, self.sequence + 1, self.now);
        self.head = records::hash(&payload);
        self.sequence += positions;
        self.entries.push(Entry { kind: 1, payload });
    }

    /// An entry that is no record.
    pub(crate) fn blank(&mut self) {
        self.close();
        self.entries.push(Entry { kind: 0, payload: Bytes::new() });
    }

    /// A record decided upon another head: everybody skips it.
    pub(crate) fn stray(&mut self) {
        self.close();
        let event = [Event::ChannelRenamed { name: "never".into() }];
        let mut builder = RecordBuilder::new();
        builder.push(&NewDecision {
            channel_id: "shop-0",
            retry_key: "stray",
            key_hash: 1,
            fingerprint: &[1; 16],
            actor: "",
            occurred_at: None,
            backfill: false,
            command_kind: 2,
            outcome: NewOutcome::Events { first_revision: 1_000_000, events: &event },
            imported: &[],
        });
        let payload = builder.finish(&[9; 32], self.sequence + 1, self.now);
        self.entries.push(Entry { kind: 1, payload });
    }

    /// Tries one step: what cannot be is refused.
    pub(crate) fn step(&mut self, step: &Step) {
        let channel = format!("shop-{}", step.channel);
        match self.models.get(&channel).map_or(Some(opened()), |model| model.possible(step)) {
            Some(event) => {
                let backfill = step.detail.is_multiple_of(5);
                self.events_at(
                    &channel,
                    &[event],
                    (step.detail.is_multiple_of(3) || backfill).then_some(self.now - 5),
                    backfill,
                );
            }
            None => self.refusal(&channel),
        }
        match step.closes {
            0 => self.close(),
            1 => self.blank(),
            2 => self.stray(),
            _ => {}
        }
    }

    pub(crate) fn written(steps: &[Step]) -> Author {
        let mut author = Author::new();
        steps.iter().for_each(|step| author.step(step));
        author.close();
        author
    }

    /// Folds what the views lack, up to `to` entries.
    pub(crate) fn fold_to(&self, views: &Views, to: usize) -> Vec<Folded> {
        let from = views.applied().map_or(0, |applied| applied.index as usize + 1);
        let entries = self.entries.iter().enumerate().take(to).skip(from);
        entries
            .map(|(index, entry)| views.fold(index as u64, 1, entry.kind, &entry.payload, None).expect("folds"))
            .collect()
    }

    pub(crate) fn fold_all(&self, views: &Views) {
        self.fold_to(views, self.entries.len());
    }
}

pub(crate) fn opened() -> Event {
    Event::ChannelOpened { name: "초록가게".into() }
}

pub(crate) fn added(number: u32, key: &str, region: &str) -> Event {
    Event::FriendAdded {
        friend_number: number,
        user_key: key.to_owned(),
        source: FriendSource::Import,
        attributes: vec![Attribute { key: "region".into(), value: region.to_owned() }],
        consents: vec![Consent::Advertising],
    }
}

pub(crate) fn frozen(members: impl IntoIterator<Item = u32>, as_of_revision: u64) -> FrozenAudience {
    let members: RoaringBitmap = members.into_iter().collect();
    FrozenAudience { members, as_of_revision, excluded_without_consent: 0, excluded_blocked: 0 }
}

impl Model {
    pub(crate) fn with_status(&self, statuses: &[u8]) -> BTreeSet<u32> {
        self.friends.iter().filter(|(_, f)| statuses.contains(&f.status)).map(|(number, _)| *number).collect()
    }

    fn status(&self, number: u32) -> u8 {
        self.friends.get(&number).map_or(0, |friend| friend.status)
    }

    /// The event of a step, where it is possible.
    fn possible(&self, step: &Step) -> Option<Event> {
        let next = self.friends.len() as u32 + 1;
        let number = step.who;
        let status = self.status(number);
        let attribute = |key: &str| Attribute { key: key.into(), value: format!("v{}", step.detail % 4) };
        let consent = if step.detail.is_multiple_of(2) { Consent::Advertising } else { Consent::Night };
        match step.what {
            0..=6 => {
                let number = if status == 3 { number } else { next };
                let consents = match step.detail % 4 {
                    0 => vec![],
                    1 => vec![Consent::Advertising],
                    2 => vec![Consent::Night],
                    _ => vec![Consent::Advertising, Consent::Night],
                };
                Some(Event::FriendAdded {
                    friend_number: number,
                    user_key: format!("user-{number}"),
                    source: FriendSource::Search,
                    attributes: if step.detail > 60 { vec![attribute("grade"), attribute("region")] } else { vec![] },
                    consents,
                })
            }
            7 if status == 1 => Some(Event::FriendBlocked { friend_number: number }),
            8 if status == 2 => Some(Event::FriendUnblocked { friend_number: number }),
            9 | 10 if status == 1 || status == 2 => Some(Event::FriendRemoved { friend_number: number }),
            11 | 12 if status == 1 || status == 2 => Some(Event::AttributesSet {
                friend_number: number,
                set: vec![attribute("region"), attribute("vip")],
                cleared: if step.detail > 128 { vec!["grade".into()] } else { vec![] },
            }),
            13 if status == 1 && !self.friends[&number].consents.contains(&consent) => {
                Some(Event::ConsentGranted { friend_number: number, consent })
            }
            14 if status == 1 && self.friends[&number].consents.contains(&consent) => {
                Some(Event::ConsentWithdrawn { friend_number: number, consent })
            }
            15 | 16 if status == 1 => Some(Event::PushAccepted {
                friend_number: number,
                text: "안녕하세요".into(),
                is_ad: false,
                unit_price_won: 15,
            }),
            17 if !self.with_status(&[1]).is_empty() => Some(Event::BroadcastAccepted {
                audience: frozen(self.with_status(&[1]), self.revision),
                text: "모두에게".into(),
                is_ad: false,
                unit_price_won: 15,
            }),
            18 if status == 1 => Some(Event::NarrowcastAccepted {
                rule: None,
                audience: frozen([number], self.revision),
                text: "몇 분께".into(),
                is_ad: false,
                unit_price_won: 15,
            }),
            19 => {
                let coupon_id = format!("c{}", step.detail % 4);
                (!self.coupons.contains(&coupon_id)).then(|| Event::CouponDefined {
                    coupon_id,
                    name: "열 잔".into(),
                    cap: 1_000_000,
                    per_friend_limit: 0,
                    window: TimeWindow::default(),
                })
            }
            20 if status == 1 => self.coupons.first().map(|coupon_id| Event::TicketIssued {
                coupon_id: coupon_id.clone(),
                ticket_id: format!("t-{}-{number}", self.revision),
                friend_number: number,
            }),
            21 if !self.with_status(&[1]).is_empty() => self.coupons.last().map(|coupon_id| Event::TicketsIssued {
                coupon_id: coupon_id.clone(),
                rule: None,
                audience: frozen(self.with_status(&[1]), self.revision),
                excluded_at_limit: 0,
            }),
            22 | 23 => self.use_ticket(step),
            _ => None,
        }
    }

    fn use_ticket(&self, step: &Step) -> Option<Event> {
        let nth = (step.who as usize * 7 + usize::from(step.detail)) % self.tickets.len().max(1);
        let (ticket_id, (coupon_id, friend_number, status)) = self.tickets.iter().nth(nth)?;
        let (coupon_id, ticket_id, friend_number) = (coupon_id.clone(), ticket_id.clone(), *friend_number);
        let reason = String::new();
        match (status, step.detail % 3) {
            (1, 0) => Some(Event::TicketRedeemed { coupon_id, ticket_id, friend_number }),
            (1, 1) => Some(Event::TicketVoided { coupon_id, ticket_id, friend_number, reason }),
            (1, _) => Some(Event::TicketExpired { coupon_id, ticket_id, friend_number }),
            (2, _) => Some(Event::RedemptionReversed { coupon_id, ticket_id, friend_number, reason }),
            _ => None,
        }
    }

    fn apply(&mut self, event: &Event) {
        match event {
            Event::FriendAdded { friend_number, user_key, attributes, consents, .. } => {
                let attributes = attributes.iter().map(|a| (a.key.clone(), a.value.clone())).collect();
                let consents = consents.iter().copied().collect();
                let friend = ModelFriend { key: user_key.clone(), status: 1, attributes, consents };
                self.friends.insert(*friend_number, friend);
            }
            Event::FriendBlocked { friend_number } => self.set_status(*friend_number, 2),
            Event::FriendUnblocked { friend_number } => self.set_status(*friend_number, 1),
            Event::FriendRemoved { friend_number } => self.set_status(*friend_number, 3),
            Event::AttributesSet { friend_number, set, cleared } => {
                if let Some(friend) = self.friends.get_mut(friend_number) {
                    cleared.iter().for_each(|key| drop(friend.attributes.remove(key)));
                    friend.attributes.extend(set.iter().map(|a| (a.key.clone(), a.value.clone())));
                }
            }
            Event::ConsentGranted { friend_number, consent } => {
                self.friends.get_mut(friend_number).map(|friend| friend.consents.insert(*consent));
            }
            Event::ConsentWithdrawn { friend_number, consent } => {
                self.friends.get_mut(friend_number).map(|friend| friend.consents.remove(consent));
            }
            Event::PushAccepted { friend_number, .. } => {
                self.sends.push((self.revision, BTreeSet::from([*friend_number])));
            }
            Event::NarrowcastAccepted { audience, .. } | Event::BroadcastAccepted { audience, .. } => {
                self.sends.push((self.revision, audience.members.iter().collect()));
            }
            Event::CouponDefined { coupon_id, .. } => drop(self.coupons.insert(coupon_id.clone())),
            Event::TicketIssued { coupon_id, ticket_id, friend_number } => {
                self.tickets.insert(ticket_id.clone(), (coupon_id.clone(), *friend_number, 1));
            }
            Event::TicketsIssued { coupon_id, audience, .. } => {
                for number in &audience.members {
                    let ticket_id = format!("{coupon_id}.{}.{number}", self.revision);
                    self.tickets.insert(ticket_id, (coupon_id.clone(), number, 1));
                }
            }
            Event::TicketRedeemed { ticket_id, .. } => self.set_ticket(ticket_id, 2),
            Event::RedemptionReversed { ticket_id, .. } => self.set_ticket(ticket_id, 1),
            Event::TicketVoided { ticket_id, .. } => self.set_ticket(ticket_id, 3),
            Event::TicketExpired { ticket_id, .. } => self.set_ticket(ticket_id, 4),
            _ => {}
        }
    }

    fn set_status(&mut self, number: u32, status: u8) {
        if let Some(friend) = self.friends.get_mut(&number) {
            friend.status = status;
        }
    }

    fn set_ticket(&mut self, ticket_id: &str, status: u8) {
        if let Some(ticket) = self.tickets.get_mut(ticket_id) {
            ticket.2 = status;
        }
    }
}
