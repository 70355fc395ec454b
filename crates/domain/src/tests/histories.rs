//! Random histories: commands that are often refused, decided and folded one by one.

use proptest::prelude::*;

use super::*;
use crate::{ImportedEvent, Selector, Statuses};

/// One random command, before it is known what there is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    what: u8,
    who: u8,
    which: u8,
    how: u8,
}

pub(super) fn steps(most: usize) -> impl Strategy<Value = Vec<Step>> {
    let step = (0..100u8, 0..7u8, any::<u8>(), any::<u8>());
    prop::collection::vec(step.prop_map(|(what, who, which, how)| Step { what, who, which, how }), 1..most)
}

/// An event as it was recorded.
#[derive(Debug, Clone)]
pub(super) struct Recorded {
    pub(super) revision: u64,
    pub(super) accepted_at: UnixNanos,
    pub(super) occurred_at: Option<UnixNanos>,
    pub(super) backfill: bool,
    pub(super) event: Event,
}

impl Recorded {
    pub(super) fn fold(&self, channel: &mut Channel) {
        channel.apply(self.revision, self.accepted_at, self.occurred_at, &self.event);
    }

    pub(super) fn imported(&self) -> ImportedEvent {
        ImportedEvent {
            occurred_at: self.occurred_at,
            backfill: self.backfill,
            accepted_at: Some(self.accepted_at),
            audience_digest: self.event.audience().map(|audience| crate::audience_digest(&audience.members)),
            ..ImportedEvent::of(self.event.clone())
        }
    }
}

/// One channel that folds everything at once, and all that happened to it.
#[derive(Debug, Default)]
pub(super) struct History {
    pub(super) channel: Channel,
    pub(super) recorded: Vec<Recorded>,
    pub(super) refused: Vec<Refusal>,
    /// Ids of tickets that were issued.
    pub(super) tickets: Vec<String>,
    now: UnixNanos,
}

impl History {
    pub(super) fn of(steps: &[Step]) -> History {
        let mut history = History::default();
        history.open();
        for step in steps {
            history.step(*step);
        }
        history
    }

    pub(super) fn open(&mut self) {
        let command = Command {
            channel_id: "shop".into(),
            context: Context::default(),
            intent: Intent::OpenChannel { name: "초록가게".into() },
        };
        self.run(&command);
    }

    /// Decides a step on the channel and folds it; what was asked and when.
    pub(super) fn step(&mut self, step: Step) -> (Command, UnixNanos) {
        let command = self.command(step);
        self.run(&command);
        (command, self.now)
    }

    fn run(&mut self, command: &Command) {
        self.now += 1;
        match decide(&self.channel, command, self.now) {
            Ok(events) => {
                for event in events {
                    self.record(&command.context, event);
                }
            }
            Err(refusal) => self.refused.push(refusal),
        }
    }

    fn record(&mut self, context: &Context, event: Event) {
        let revision = revision(&self.channel) + 1;
        match &event {
            Event::TicketIssued { ticket_id, .. } => self.tickets.push(ticket_id.clone()),
            Event::TicketsIssued { coupon_id, audience, .. } => {
                self.tickets.extend(audience.members.iter().map(|number| format!("{coupon_id}.{revision}.{number}")));
            }
            _ => {}
        }
        let recorded = Recorded {
            revision,
            accepted_at: self.now,
            occurred_at: context.occurred_at,
            backfill: context.backfill,
            event,
        };
        recorded.fold(&mut self.channel);
        self.recorded.push(recorded);
    }

    pub(super) fn command(&self, step: Step) -> Command {
        let Step { what, how, which, .. } = step;
        let backfill = how.is_multiple_of(7);
        let occurred_at = (how.is_multiple_of(5) || backfill).then(|| self.now - i64::from(which % 40) + 1);
        let expected_revision = (which.is_multiple_of(31)).then_some(u64::from(how));
        let retry_key = "key".to_owned();
        let context = Context { retry_key, actor: String::new(), occurred_at, expected_revision, backfill };
        let intent = match what {
            0..=22 => self.add(step),
            23..=28 => Intent::BlockFriend { user_key: key(step) },
            29..=33 => Intent::UnblockFriend { user_key: key(step) },
            34..=38 => Intent::RemoveFriend { user_key: key(step) },
            39..=45 => Intent::SetAttributes {
                user_key: key(step),
                set: attributes(which),
                clear: if how.is_multiple_of(3) { vec!["own_2".into()] } else { vec![] },
            },
            46..=48 => Intent::GrantConsent { user_key: key(step), consent: consent(how) },
            49..=51 => Intent::WithdrawConsent { user_key: key(step), consent: consent(how) },
            52..=54 => Intent::SendPush { user_key: key(step), body: body(how) },
            55..=58 => Intent::SendNarrowcast { audience: audience(step), body: body(how) },
            59..=60 => Intent::SendBroadcast { body: body(how) },
            61..=65 => self.define(step),
            66..=74 => Intent::IssueTicket {
                coupon_id: coupon_id(which),
                user_key: key(step),
                ticket_id: if how.is_multiple_of(2) { String::new() } else { format!("t{}", how % 16) },
            },
            75..=78 => Intent::IssueTickets { coupon_id: coupon_id(which), audience: audience(step) },
            79..=86 => Intent::RedeemTicket { ticket_id: self.ticket(step) },
            87..=90 => Intent::ReverseRedemption { ticket_id: self.ticket(step), reason: String::new() },
            91..=92 => Intent::VoidTicket { ticket_id: self.ticket(step), reason: String::new() },
            93..=94 => Intent::ExpireTicket { ticket_id: self.ticket(step) },
            95 => Intent::CloseCoupon { coupon_id: coupon_id(which), reason: String::new() },
            96 => Intent::SuspendChannel { reason: String::new() },
            97 => Intent::ResumeChannel,
            98 => Intent::RenameChannel { name: format!("가게 {which}") },
            _ if which < 8 => Intent::CloseChannel { reason: String::new() },
            _ => Intent::ResumeChannel,
        };
        Command { channel_id: "shop".into(), context, intent }
    }

    fn add(&self, step: Step) -> Intent {
        let consents = [Consent::Advertising, Consent::Night].into_iter();
        Intent::AddFriend {
            user_key: key(step),
            source: FriendSource::Search,
            attributes: attributes(step.which),
            consents: consents.filter(|consent| step.how >> *consent as u8 & 1 == 1).collect(),
        }
    }

    fn define(&self, step: Step) -> Intent {
        let from = (step.how.is_multiple_of(3)).then(|| self.now + i64::from(step.how % 10) - 5);
        let until = (step.how.is_multiple_of(4)).then(|| self.now + i64::from(step.how % 32) + 6);
        Intent::DefineCoupon {
            coupon_id: if step.which % 6 == 5 { String::new() } else { coupon_id(step.which) },
            name: "열 잔".into(),
            cap: u64::from(step.how % 13) + 1,
            per_friend_limit: u32::from(step.how % 4),
            window: TimeWindow { from, until },
        }
    }

    fn ticket(&self, step: Step) -> String {
        match self.tickets.len() {
            0 => "k0.3.1".into(),
            // Mostly of the newest, that something may happen to a ticket twice.
            count => self.tickets[count - 1 - usize::from(step.which) % count.min(6)].clone(),
        }
    }
}

fn key(step: Step) -> String {
    format!("user-{}", step.who)
}

fn coupon_id(which: u8) -> String {
    format!("k{}", which % 3)
}

fn consent(how: u8) -> Consent {
    if how.is_multiple_of(3) { Consent::Night } else { Consent::Advertising }
}

fn body(how: u8) -> MessageBody {
    if how.is_multiple_of(2) { news() } else { ad() }
}

const REGIONS: [&str; 3] = ["서울", "부산", "제주"];

fn attributes(which: u8) -> Vec<Attribute> {
    let mut all = vec![attribute("region", REGIONS[usize::from(which) % 3])];
    if which.is_multiple_of(4) {
        all.push(attribute("grade", if which.is_multiple_of(8) { "vip" } else { "gold" }));
    }
    if which.is_multiple_of(5) {
        all.push(attribute(&format!("own_{}", which % 20), &which.to_string()));
    }
    all
}

pub(super) fn some_rules() -> Vec<Rule> {
    let mut both = rule("region", &["서울", "제주"], false);
    both.all_of.extend(rule("grade", &["vip"], true).all_of);
    vec![
        Rule::default(),
        rule("region", &["서울"], false),
        rule("region", &["부산", "인천"], true),
        rule("grade", &["vip", "gold"], false),
        rule("own_5", &["5", "25", "85"], false),
        both,
    ]
}

fn audience(step: Step) -> Audience {
    let rules = some_rules();
    match usize::from(step.which) % (rules.len() + 3) {
        nth if nth < rules.len() => Audience::Rule(rules[nth].clone()),
        nth => Audience::UserKeys(
            (0..=(nth - rules.len()) as u8).map(|n| key(Step { who: (step.who + n) % 7, ..step })).collect(),
        ),
    }
}

/// Every answer of a state that a decision can ask for, told apart by what was asked.
pub(super) fn answers(state: &impl Load, tickets: &[String]) -> Vec<String> {
    let mut answers = vec![format!("summary {:?}", state.summary())];
    for who in 0..8 {
        let key = format!("user-{who}");
        answers.push(format!("{key} {:?}", state.number_of(&key)));
    }
    for number in 0..10 {
        let mut attributes = Vec::new();
        state.each_attribute(number, &mut |key, value| attributes.push((key.to_owned(), value.to_owned())));
        for (key, value) in &attributes {
            assert_eq!(state.attribute(number, key), Some(value.as_str()));
        }
        assert_eq!(state.attribute(number, "nothing"), None);
        answers.push(format!("friend {number} {:?} {attributes:?}", state.friend(number)));
    }
    for rule in some_rules() {
        for statuses in [Statuses::FRIENDS, Statuses::BLOCKED, Statuses::PRESENT, Statuses::ALL] {
            let of = Selector::of(statuses).matching(&rule);
            let with = of.consenting(Consent::Night);
            answers.push(format!("{of:?} {:?} {:?}", state.select(&of), state.select(&with)));
        }
    }
    let everybody: RoaringBitmap = (1..10).collect();
    for coupon in ["k0", "k1", "k2", "c4", "c9"] {
        let held: Vec<u32> = (0..10).map(|number| state.held(coupon, number)).collect();
        let at_once = state.held_by(coupon, &everybody);
        assert_eq!(held, (0..10).map(|number| at_once.get(number)).collect::<Vec<_>>());
        answers.push(format!("{coupon} {:?} {held:?} {:?}", state.coupon(coupon), state.at_limit(coupon)));
    }
    answers.extend(tickets.iter().map(|id| format!("{id} {:?}", state.ticket(id))));
    answers
}
