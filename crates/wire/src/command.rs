//! A client's command to what the domain decides on.

use std::time::Duration;

use sillok_domain::{
    Attribute, Audience, Command, Condition, Consent, Context, FieldViolation, FriendSource, Intent, MessageBody, Rule,
    TimeWindow, command::ImportedEvent,
};

use crate::{fingerprint, payload, records, time, v1};

/// What `wait_at_most` is where the client says nothing.
pub(crate) const WAIT_DEFAULT: Duration = Duration::from_secs(5);
/// The longest `wait_at_most`.
const WAIT_LONGEST: Duration = Duration::from_secs(60);

/// The number of `import_events` in `sillok.v1.Command`: its events do not show what command they came from.
pub(crate) const IMPORT_EVENTS: u32 = 200;

/// One command, checked, with all that the sequencer needs of its outside.
#[derive(Debug, Clone)]
pub struct Submission {
    /// What the domain decides on.
    pub command: Command,
    /// The field number in `sillok.v1.Command`.
    pub kind: u32,
    /// Of the body: the same key with another fingerprint is a reused key.
    pub fingerprint: [u8; 16],
    /// [`records::key_hash`] of the channel's id and the retry key.
    pub key_hash: u64,
    /// Decide and answer, record nothing.
    pub validate_only: bool,
    /// What the answer waits for; never unspecified.
    pub wait: v1::Wait,
    /// How long beyond the quorum; at most 60 s.
    pub wait_at_most: Duration,
}

/// A command that says nothing the domain could decide on. It is answered and never recorded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the command is malformed: {}", describe(.violations))]
pub struct Malformed {
    /// Every field that is wrong; at least one.
    pub violations: Vec<FieldViolation>,
}

impl Malformed {
    /// What should be a command cannot be read as one.
    pub(crate) fn undecodable(error: &prost::DecodeError) -> Malformed {
        let mut wrong = Wrong::default();
        wrong.add("command", format!("is no protobuf of a sillok.v1.Command: {error}"));
        Malformed { violations: wrong.0 }
    }
}

fn describe(violations: &[FieldViolation]) -> String {
    let mut text = String::new();
    for violation in violations.iter().take(3) {
        if !text.is_empty() {
            text.push_str("; ");
        }
        text.push_str(&violation.field);
        text.push_str(": ");
        text.push_str(&violation.description);
    }
    if violations.len() > 3 {
        text.push_str(&format!("; and {} more", violations.len() - 3));
    }
    text
}

/// What is wrong so far.
#[derive(Default)]
struct Wrong(Vec<FieldViolation>);

impl Wrong {
    fn add(&mut self, field: impl Into<String>, description: impl Into<String>) {
        self.0.push(FieldViolation { field: field.into(), description: description.into() });
    }
}

/// Checks a command and takes it apart; strings are moved, never copied.
///
/// # Errors
/// [`Malformed`] with every violation found.
pub fn command_from_proto(mut message: v1::Command) -> Result<Submission, Malformed> {
    let kind = message.kind();
    let context = message.context_mut().and_then(Option::take);
    let fingerprint = fingerprint::reduced(&mut message, context.as_ref());

    let mut wrong = Wrong::default();
    let context = context.unwrap_or_default();
    let validate_only = context.validate_only;
    let wait = match v1::Wait::try_from(context.wait) {
        Ok(v1::Wait::AllSites) => v1::Wait::AllSites,
        Ok(v1::Wait::Quorum | v1::Wait::Unspecified) => v1::Wait::Quorum,
        Err(_) => {
            wrong.add("context.wait", format!("{} is no Wait this version knows", context.wait));
            v1::Wait::Quorum
        }
    };
    let wait_at_most = match context.wait_at_most.as_ref().map(time::duration) {
        None => WAIT_DEFAULT,
        Some(Ok(wait)) if wait <= WAIT_LONGEST => wait,
        Some(_) => {
            wrong.add("context.wait_at_most", "must be 0 to 60 s");
            WAIT_DEFAULT
        }
    };
    let context = Context {
        occurred_at: moment(context.occurred_at, "context.occurred_at", &mut wrong),
        retry_key: context.retry_key,
        actor: context.actor,
        expected_revision: Some(context.expected_revision).filter(|&revision| revision != 0),
        backfill: context.backfill,
    };

    let Some(command) = message.command else {
        wrong.add("command", "must be set, and of a kind this version knows");
        return Err(Malformed { violations: wrong.0 });
    };
    let (channel_id, intent) = intent(command, &mut wrong);
    let Some(intent) = intent else { return Err(Malformed { violations: wrong.0 }) };
    let command = Command { channel_id, context, intent };
    if let Err(violations) = sillok_domain::validate(&command) {
        wrong.0.extend(violations);
    }
    if !wrong.0.is_empty() {
        return Err(Malformed { violations: wrong.0 });
    }
    let key_hash = records::key_hash(&command.channel_id, &command.context.retry_key);
    Ok(Submission { command, kind, fingerprint, key_hash, validate_only, wait, wait_at_most })
}

/// The channel's id, and the intent unless a part without which there is none is missing (which is then among the wrong).
fn intent(command: v1::command::Command, wrong: &mut Wrong) -> (String, Option<Intent>) {
    use v1::command::Command as C;
    match command {
        C::OpenChannel(c) => (c.channel_id, Some(Intent::OpenChannel { name: c.name })),
        C::RenameChannel(c) => (c.channel_id, Some(Intent::RenameChannel { name: c.name })),
        C::SuspendChannel(c) => (c.channel_id, Some(Intent::SuspendChannel { reason: c.reason })),
        C::ResumeChannel(c) => (c.channel_id, Some(Intent::ResumeChannel)),
        C::CloseChannel(c) => (c.channel_id, Some(Intent::CloseChannel { reason: c.reason })),

        C::AddFriend(c) => {
            let source = payload::source(c.source).unwrap_or_else(|| {
                wrong.add("source", format!("{} is no FriendSource this version knows", c.source));
                FriendSource::default()
            });
            let consents = consents(&c.consents, wrong);
            let attributes = payload::attributes(c.attributes);
            (c.channel_id, Some(Intent::AddFriend { user_key: c.user_key, source, attributes, consents }))
        }
        C::BlockFriend(c) => (c.channel_id, Some(Intent::BlockFriend { user_key: c.user_key })),
        C::UnblockFriend(c) => (c.channel_id, Some(Intent::UnblockFriend { user_key: c.user_key })),
        C::RemoveFriend(c) => (c.channel_id, Some(Intent::RemoveFriend { user_key: c.user_key })),
        C::SetAttributes(c) => {
            let set = payload::attributes(c.set);
            (c.channel_id, Some(Intent::SetAttributes { user_key: c.user_key, set, clear: c.clear }))
        }
        C::GrantConsent(c) => {
            let consent = consent(c.consent, "consent", wrong);
            (c.channel_id, consent.map(|consent| Intent::GrantConsent { user_key: c.user_key, consent }))
        }
        C::WithdrawConsent(c) => {
            let consent = consent(c.consent, "consent", wrong);
            (c.channel_id, consent.map(|consent| Intent::WithdrawConsent { user_key: c.user_key, consent }))
        }

        C::SendPush(c) => {
            let body = body(c.body, wrong);
            (c.channel_id, body.map(|body| Intent::SendPush { user_key: c.user_key, body }))
        }
        C::SendNarrowcast(c) => {
            let parts = audience(c.audience, wrong).zip(body(c.body, wrong));
            (c.channel_id, parts.map(|(audience, body)| Intent::SendNarrowcast { audience, body }))
        }
        C::SendBroadcast(c) => {
            let body = body(c.body, wrong);
            (c.channel_id, body.map(|body| Intent::SendBroadcast { body }))
        }

        C::DefineCoupon(c) => {
            let window = window(c.window.as_ref(), wrong);
            let (coupon_id, name, cap, per_friend_limit) = (c.coupon_id, c.name, c.cap, c.per_friend_limit);
            (c.channel_id, Some(Intent::DefineCoupon { coupon_id, name, cap, per_friend_limit, window }))
        }
        C::IssueTicket(c) => {
            let (coupon_id, user_key, ticket_id) = (c.coupon_id, c.user_key, c.ticket_id);
            (c.channel_id, Some(Intent::IssueTicket { coupon_id, user_key, ticket_id }))
        }
        C::IssueTickets(c) => {
            let audience = audience(c.audience, wrong);
            (c.channel_id, audience.map(|audience| Intent::IssueTickets { coupon_id: c.coupon_id, audience }))
        }
        C::RedeemTicket(c) => (c.channel_id, Some(Intent::RedeemTicket { ticket_id: c.ticket_id })),
        C::ReverseRedemption(c) => {
            (c.channel_id, Some(Intent::ReverseRedemption { ticket_id: c.ticket_id, reason: c.reason }))
        }
        C::VoidTicket(c) => (c.channel_id, Some(Intent::VoidTicket { ticket_id: c.ticket_id, reason: c.reason })),
        C::ExpireTicket(c) => (c.channel_id, Some(Intent::ExpireTicket { ticket_id: c.ticket_id })),
        C::CloseCoupon(c) => (c.channel_id, Some(Intent::CloseCoupon { coupon_id: c.coupon_id, reason: c.reason })),

        C::ImportEvents(c) => {
            let events = imported(c.events, wrong);
            let first_revision = c.first_revision;
            (c.channel_id, events.map(|events| Intent::ImportEvents { first_revision, events }))
        }
    }
}

fn moment(timestamp: Option<prost_types::Timestamp>, field: &str, wrong: &mut Wrong) -> Option<i64> {
    let timestamp = timestamp?;
    time::unix_nanos(&timestamp).map_err(|error| wrong.add(field, error.to_string())).ok()
}

fn consent(number: i32, field: &str, wrong: &mut Wrong) -> Option<Consent> {
    let consent = payload::consent(number);
    if consent.is_none() {
        let what =
            if number == 0 { "must be set".to_owned() } else { format!("{number} is no Consent this version knows") };
        wrong.add(field, what);
    }
    consent
}

fn consents(numbers: &[i32], wrong: &mut Wrong) -> Vec<Consent> {
    let each = numbers.iter().enumerate();
    each.filter_map(|(at, &number)| consent(number, &format!("consents[{at}]"), wrong)).collect()
}

fn body(body: Option<v1::MessageBody>, wrong: &mut Wrong) -> Option<MessageBody> {
    if body.is_none() {
        wrong.add("body", "must be set");
    }
    body.map(|body| MessageBody { text: body.text, is_ad: body.is_ad, unit_price_won: body.unit_price_won })
}

fn audience(audience: Option<v1::Audience>, wrong: &mut Wrong) -> Option<Audience> {
    use v1::audience::Kind;
    match audience.and_then(|audience| audience.kind) {
        Some(Kind::Rule(rule)) => Some(Audience::Rule(rule_from_proto(rule))),
        Some(Kind::UserKeys(keys)) => Some(Audience::UserKeys(keys.user_keys)),
        None => {
            wrong.add("audience", "must be a rule or a list of user keys");
            None
        }
    }
}

fn window(window: Option<&v1::TimeWindow>, wrong: &mut Wrong) -> TimeWindow {
    window.map_or_else(TimeWindow::default, |window| TimeWindow {
        from: moment(window.from, "window.from", wrong),
        until: moment(window.until, "window.until", wrong),
    })
}

/// `None` where an event is wrong: the places of the others would no longer be those of the message.
fn imported(events: Vec<v1::ImportedEvent>, wrong: &mut Wrong) -> Option<Vec<ImportedEvent>> {
    let count = events.len();
    let mut all = Vec::with_capacity(count);
    for (at, imported) in events.into_iter().enumerate() {
        let occurred_at = moment(imported.occurred_at, &format!("events[{at}].occurred_at"), wrong);
        let accepted_at = moment(imported.accepted_at, &format!("events[{at}].accepted_at"), wrong);
        match payload::imported(imported.payload.unwrap_or_default()) {
            Ok((event, audience_digest)) => {
                let backfill = imported.backfill;
                all.push(ImportedEvent { event, occurred_at, backfill, accepted_at, audience_digest });
            }
            Err(error) => wrong.add(format!("events[{at}].payload"), error.to_string()),
        }
    }
    (all.len() == count).then_some(all)
}

pub(crate) fn rule_from_proto(rule: v1::Rule) -> Rule {
    let conditions = rule.all_of.into_iter();
    Rule { all_of: conditions.map(|c| Condition { key: c.key, any_of: c.any_of, negate: c.negate }).collect() }
}

/// A segment rule as the contract has it.
pub fn rule_to_proto(rule: &Rule) -> v1::Rule {
    let conditions = rule.all_of.iter();
    v1::Rule {
        all_of: conditions
            .map(|c| v1::Condition { key: c.key.clone(), any_of: c.any_of.clone(), negate: c.negate })
            .collect(),
    }
}

pub(crate) fn attribute(attribute: v1::Attribute) -> Attribute {
    Attribute { key: attribute.key, value: attribute.value }
}

macro_rules! commands {
    ($($variant:ident($request:ident) = $number:literal, $name:literal;)*) => {
        $(
            impl From<v1::$request> for v1::Command {
                fn from(request: v1::$request) -> v1::Command {
                    v1::Command { command: Some(v1::command::Command::$variant(request)) }
                }
            }
        )*

        impl v1::Command {
            /// Its field number, which is recorded as `command_kind`; 0 where it is of no kind this version knows.
            pub fn kind(&self) -> u32 {
                match &self.command {
                    $(Some(v1::command::Command::$variant(_)) => $number,)*
                    None => 0,
                }
            }

            /// The conditions that ride in it, where it has any.
            pub fn context(&self) -> Option<&v1::CommandContext> {
                match &self.command {
                    $(Some(v1::command::Command::$variant(request)) => request.context.as_ref(),)*
                    None => None,
                }
            }

            /// Where its conditions stand; `None` where it is of no kind.
            pub fn context_mut(&mut self) -> Option<&mut Option<v1::CommandContext>> {
                match &mut self.command {
                    $(Some(v1::command::Command::$variant(request)) => Some(&mut request.context),)*
                    None => None,
                }
            }

            /// The one channel it concerns; empty where none is named.
            pub fn channel_id(&self) -> &str {
                match &self.command {
                    $(Some(v1::command::Command::$variant(request)) => &request.channel_id,)*
                    None => "",
                }
            }
        }

        /// The name of a kind of command, as the field is named in `sillok.v1.Command`.
        pub fn command_name(kind: u32) -> Option<&'static str> {
            match kind {
                $($number => Some($name),)*
                _ => None,
            }
        }
    };
}

commands! {
    OpenChannel(OpenChannelRequest) = 1, "open_channel";
    RenameChannel(RenameChannelRequest) = 2, "rename_channel";
    SuspendChannel(SuspendChannelRequest) = 3, "suspend_channel";
    ResumeChannel(ResumeChannelRequest) = 4, "resume_channel";
    CloseChannel(CloseChannelRequest) = 5, "close_channel";
    AddFriend(AddFriendRequest) = 20, "add_friend";
    BlockFriend(BlockFriendRequest) = 21, "block_friend";
    UnblockFriend(UnblockFriendRequest) = 22, "unblock_friend";
    RemoveFriend(RemoveFriendRequest) = 23, "remove_friend";
    SetAttributes(SetAttributesRequest) = 24, "set_attributes";
    GrantConsent(GrantConsentRequest) = 25, "grant_consent";
    WithdrawConsent(WithdrawConsentRequest) = 26, "withdraw_consent";
    SendPush(SendPushRequest) = 60, "send_push";
    SendNarrowcast(SendNarrowcastRequest) = 61, "send_narrowcast";
    SendBroadcast(SendBroadcastRequest) = 62, "send_broadcast";
    DefineCoupon(DefineCouponRequest) = 100, "define_coupon";
    IssueTicket(IssueTicketRequest) = 101, "issue_ticket";
    IssueTickets(IssueTicketsRequest) = 102, "issue_tickets";
    RedeemTicket(RedeemTicketRequest) = 103, "redeem_ticket";
    ReverseRedemption(ReverseRedemptionRequest) = 104, "reverse_redemption";
    VoidTicket(VoidTicketRequest) = 105, "void_ticket";
    ExpireTicket(ExpireTicketRequest) = 106, "expire_ticket";
    CloseCoupon(CloseCouponRequest) = 107, "close_coupon";
    ImportEvents(ImportEventsRequest) = 200, "import_events";
}
