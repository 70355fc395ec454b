//! `sillok events …`

use clap::{Args, Subcommand};
use sillok_wire::v1::{
    self, find_by_retry_key_response::Outcome, payload::Event as Kind, read_events_request::Start, read_item::Item,
};

use super::{Session, ask, rule_text};
use crate::{
    args::ReadArgs,
    failure::Failure,
    format::{count, enum_name, thousands, time, won},
    output::{read_line, to_json},
    table::{Rows, clip},
};

#[derive(Subcommand)]
pub(crate) enum EventsCommand {
    /// Recorded events, from any revision or position
    Read(ReadEventsArgs),
    /// What happens from now on; history first with --from-…
    Tail(ReadEventsArgs),
    /// What was recorded under a retry key: was I charged?
    Find {
        /// The channel's id
        channel: String,
        #[arg(long, value_name = "KEY")]
        retry_key: String,
        #[command(flatten)]
        read: ReadArgs,
    },
}

#[derive(Args, Clone)]
pub(crate) struct ReadEventsArgs {
    /// Only of these channels; default: of every channel
    channels: Vec<String>,
    /// This revision is the first; needs exactly one channel
    #[arg(long, value_name = "REVISION", group = "start")]
    from_revision: Option<u64>,
    /// This sequence (of a position) is the first
    #[arg(long, value_name = "SEQUENCE", group = "start")]
    from_sequence: Option<u64>,
    /// After the item that came with this cursor
    #[arg(long, value_name = "CURSOR", value_parser = cursor, group = "start")]
    after: Option<Cursor>,
    /// Only events of these kinds, such as friend_added; default: every kind
    #[arg(long, value_name = "KIND,…", value_delimiter = ',', value_parser = kind_number)]
    kind: Vec<u32>,
    /// Stop after so many
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    limit: u64,
    /// Also what was refused
    #[arg(long)]
    refusals: bool,
    #[command(flatten)]
    read: ReadArgs,
}

#[derive(Debug, Clone)]
struct Cursor(Vec<u8>);

/// As `--output json` prints it: base64.
fn cursor(text: &str) -> Result<Cursor, String> {
    let json = serde_json::json!({ "afterCursor": text }).to_string();
    match sillok_wire::json::from_str::<v1::ReadEventsRequest>("sillok.v1.ReadEventsRequest", &json) {
        Ok(v1::ReadEventsRequest { start: Some(Start::AfterCursor(bytes)), .. }) if !bytes.is_empty() => {
            Ok(Cursor(bytes.to_vec()))
        }
        _ => Err("a cursor is the base64 text that came with an item".to_owned()),
    }
}

/// The same as text.
fn cursor_text(cursor: &[u8]) -> Option<String> {
    let item = v1::ReadItem { cursor: cursor.to_vec().into(), item: None };
    to_json("ReadItem", &item).ok()?.get("cursor")?.as_str().map(str::to_owned)
}

/// The field number in `Payload` of a kind's name.
fn kind_number(name: &str) -> Result<u32, String> {
    let wanted = name.replace('-', "_");
    let payload = sillok_wire::json::pool()
        .get_message_by_name("sillok.v1.Payload")
        .ok_or_else(|| "this build has no descriptor of Payload".to_owned())?;
    let known: Vec<_> = payload.fields().collect();
    known.iter().find(|field| field.name() == wanted).map(|field| field.number()).ok_or_else(|| {
        let names: Vec<&str> = known.iter().map(|field| field.name()).collect();
        format!("there is no kind {name}; there are {}", names.join(", "))
    })
}

pub(crate) async fn run(command: EventsCommand, session: &Session) -> Result<(), Failure> {
    match command {
        EventsCommand::Read(args) => read(session, args, false).await,
        EventsCommand::Tail(args) => read(session, args, true).await,
        EventsCommand::Find { channel, retry_key, read } => find(session, channel, retry_key, &read).await,
    }
}

/// The client goes on at another node where one fails, without a gap or a duplicate.
async fn read(session: &Session, args: ReadEventsArgs, follow: bool) -> Result<(), Failure> {
    if args.from_revision.is_some() && args.channels.len() != 1 {
        return Err(Failure::usage("--from-revision needs exactly one channel: revisions are counted within it"));
    }
    let start = match (args.from_revision, args.from_sequence, args.after) {
        (Some(revision), _, _) => Some(Start::FromRevision(revision)),
        (_, Some(sequence), _) => Some(Start::FromPosition(v1::Position { log: sillok_wire::LOG, sequence, term: 0 })),
        (_, _, Some(cursor)) => Some(Start::AfterCursor(cursor.0.into())),
        _ if follow => Some(Start::FromEnd(true)),
        _ => None,
    };
    // They are of no channel, and would have to be looked for where only one channel is read.
    let include_recoveries = args.channels.is_empty() && args.kind.is_empty();
    let mut events = session.api.client().events(v1::ReadEventsRequest {
        options: args.read.options(),
        start,
        channel_ids: args.channels,
        kinds: args.kind,
        follow,
        limit: args.limit,
        include_refusals: args.refusals,
        include_recoveries,
    });
    let (mut seen, mut info) = (0_u64, None);
    while let Some(part) = events.next().await.map_err(|status| session.api.read_failure(&status))? {
        for item in &part.items {
            print(session, item)?;
        }
        seen += part.items.len() as u64;
        info = part.progress.and_then(|progress| progress.info).or(info);
    }
    session.out.note(&format!("{}, {}", count(seen, "item", "items"), read_line(info.as_ref())));
    if args.limit > 0
        && let Some(text) = events.cursor().and_then(cursor_text)
    {
        session.out.note(&format!("go on with --after {text}"));
    }
    Ok(())
}

fn print(session: &Session, item: &v1::ReadItem) -> Result<(), Failure> {
    if session.out.is_json() {
        return session.out.line(&to_json("ReadItem", item)?.to_string());
    }
    match &item.item {
        Some(Item::Event(event)) => session.out.line(&event_line(event)),
        Some(Item::Refusal(refusal)) => session.out.line(&refusal_line(refusal)),
        Some(Item::Recovery(recovery)) => session.out.line(&recovery_line(recovery)),
        None => Ok(()),
    }
}

fn sequence(position: Option<&v1::Position>) -> String {
    position.map_or_else(|| "–".to_owned(), |position| thousands(position.sequence))
}

/// One event in one line.
fn event_line(event: &v1::Event) -> String {
    let payload = event.payload.as_ref().and_then(|payload| payload.event.as_ref());
    let when = match &event.occurred_at {
        Some(at) => format!("{} (occurred {})", time(event.accepted_at.as_ref()), time(Some(at))),
        None => time(event.accepted_at.as_ref()),
    };
    format!(
        "{:>10}  {:<20} {:>9}  {}  {}",
        sequence(event.position.as_ref()),
        event.channel_id,
        format!("r{}", thousands(event.revision)),
        when,
        payload.map_or_else(|| "an event of a kind that this version does not know".to_owned(), what),
    )
}

fn refusal_line(refusal: &v1::Refusal) -> String {
    format!(
        "{:>10}  {:<20} {:>9}  {}  refused {}: {}",
        sequence(refusal.position.as_ref()),
        refusal.channel_id,
        "–",
        time(refusal.accepted_at.as_ref()),
        enum_name(refusal.reason().as_str_name(), "REASON_"),
        clip(&refusal.message, 100),
    )
}

/// The last position that was kept is that of the line above.
pub(crate) fn recovery_line(recovery: &v1::Recovery) -> String {
    format!(
        "{:>10}  {:<20} {:>9}  {}  epoch {} begins from node {} at {}, by {}: {}",
        sequence(recovery.kept.as_ref()),
        "(the whole cluster)",
        "–",
        time(recovery.recovered_at.as_ref()),
        recovery.epoch,
        recovery.node_id,
        recovery.site,
        recovery.actor,
        recovery.reason,
    )
}

/// What happened, in a few words.
fn what(kind: &Kind) -> String {
    use v1::personal::Form;
    let plain = |personal: &Option<v1::Personal>| match personal.as_ref().and_then(|personal| personal.form.clone()) {
        Some(Form::Plain(plain)) => plain,
        _ => v1::PersonalPlain::default(),
    };
    let text = |personal: &Option<v1::Personal>| clip(&plain(personal).text, 40);
    let cost = |audience: &Option<v1::FrozenAudience>, price: i64| {
        let members = audience.as_ref().map_or(0, |audience| audience.count);
        let total = i64::try_from(members).unwrap_or(i64::MAX).saturating_mul(price);
        format!("{} × {} = {}", count(members, "friend", "friends"), won(price), won(total))
    };
    match kind {
        Kind::ChannelOpened(e) => format!("channel opened: {}", e.name),
        Kind::ChannelRenamed(e) => format!("channel renamed: {}", e.name),
        Kind::ChannelSuspended(e) => format!("channel suspended: {}", e.reason),
        Kind::ChannelResumed(_) => "channel resumed".to_owned(),
        Kind::ChannelClosed(e) => format!("channel closed: {}", e.reason),
        Kind::FriendAdded(e) => {
            let source = match e.source() {
                v1::FriendSource::Unspecified => String::new(),
                source => format!(" ({})", enum_name(source.as_str_name(), "FRIEND_SOURCE_")),
            };
            format!("friend {} added: {}{source}", e.friend_number, plain(&e.personal).user_key)
        }
        Kind::FriendBlocked(e) => format!("friend {} blocked the channel", e.friend_number),
        Kind::FriendUnblocked(e) => format!("friend {} unblocked the channel", e.friend_number),
        Kind::FriendRemoved(e) => format!("friend {} removed", e.friend_number),
        Kind::AttributesSet(e) => {
            let personal = plain(&e.personal);
            let mut parts: Vec<String> = personal.attributes.iter().map(|a| format!("{}={}", a.key, a.value)).collect();
            parts.extend(personal.cleared.iter().map(|key| format!("-{key}")));
            format!("friend {}: {}", e.friend_number, clip(&parts.join(" "), 60))
        }
        Kind::ConsentGranted(e) => {
            format!("friend {} consents to {}", e.friend_number, enum_name(e.consent().as_str_name(), "CONSENT_"))
        }
        Kind::ConsentWithdrawn(e) => {
            let name = enum_name(e.consent().as_str_name(), "CONSENT_");
            format!("friend {} withdraws consent to {name}", e.friend_number)
        }
        Kind::PushAccepted(e) => {
            format!("push to friend {}, {}: {}", e.friend_number, won(e.unit_price_won), text(&e.personal))
        }
        Kind::NarrowcastAccepted(e) => {
            let rule = e.rule.as_ref().map(|rule| format!(" where {}", rule_text(rule))).unwrap_or_default();
            format!("narrowcast{rule}, {}: {}", cost(&e.audience, e.unit_price_won), text(&e.personal))
        }
        Kind::BroadcastAccepted(e) => {
            format!("broadcast, {}: {}", cost(&e.audience, e.unit_price_won), text(&e.personal))
        }
        Kind::CouponDefined(e) => {
            format!("coupon {} defined: {}, cap {}", e.coupon_id, clip(&e.name, 40), thousands(e.cap))
        }
        Kind::TicketIssued(e) => format!("ticket {} issued to friend {}", e.ticket_id, e.friend_number),
        Kind::TicketsIssued(e) => {
            let issued = e.audience.as_ref().map_or(0, |audience| audience.count);
            format!("{} of {} issued", count(issued, "ticket", "tickets"), e.coupon_id)
        }
        Kind::TicketRedeemed(e) => format!("ticket {} redeemed by friend {}", e.ticket_id, e.friend_number),
        Kind::RedemptionReversed(e) => format!("redemption of {} reversed: {}", e.ticket_id, text(&e.personal)),
        Kind::TicketVoided(e) => format!("ticket {} void: {}", e.ticket_id, text(&e.personal)),
        Kind::TicketExpired(e) => format!("ticket {} expired", e.ticket_id),
        Kind::CouponClosed(e) => format!("coupon {} closed: {}", e.coupon_id, e.reason),
    }
}

async fn find(session: &Session, channel: String, retry_key: String, read: &ReadArgs) -> Result<(), Failure> {
    let request = v1::FindByRetryKeyRequest {
        options: read.options(),
        channel_id: channel.clone(),
        retry_key: retry_key.clone(),
    };
    let answer = ask!(session, find_by_retry_key, request);
    let found = answer.outcome.is_some();
    session.out.answer("FindByRetryKeyResponse", &answer, || match &answer.outcome {
        Some(Outcome::Recorded(recorded)) => {
            let mut rows = Rows::new(&[">position", ">revision", "accepted", "what"]);
            for event in &recorded.events {
                let payload = event.payload.as_ref().and_then(|payload| payload.event.as_ref());
                rows.push([
                    sequence(event.position.as_ref()),
                    thousands(event.revision),
                    time(event.accepted_at.as_ref()),
                    payload.map_or_else(String::new, what),
                ]);
            }
            format!("Yes, it was recorded.\n{}\n{}", rows.render(), read_line(answer.info.as_ref()))
        }
        Some(Outcome::Refused(refusal)) => {
            format!(
                "It was refused: nothing happened and nothing was charged.\n{}\n{}",
                refusal_line(refusal),
                read_line(answer.info.as_ref())
            )
        }
        None => format!("No: nothing is recorded in {channel} under {retry_key}.\n{}", read_line(answer.info.as_ref())),
    })?;
    if found {
        return Ok(());
    }
    Err(Failure::no("nothing was found"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_named_as_in_the_contract() {
        assert_eq!(kind_number("friend_added"), Ok(20));
        assert_eq!(kind_number("broadcast-accepted"), Ok(62));
        assert!(kind_number("friend").is_err_and(|text| text.contains("friend_added")));
    }

    #[test]
    fn cursors_come_back() {
        let text = cursor_text(&[0, 255, 16]).unwrap();
        assert_eq!(cursor(&text).map(|cursor| cursor.0), Ok(vec![0, 255, 16]));
        for wrong in ["", "!", "한글"] {
            assert!(cursor(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_event_fits_one_line() {
        let added =
            v1::FriendAdded { friend_number: 12, source: v1::FriendSource::Import as i32, ..Default::default() };
        let event = v1::Event {
            channel_id: "shop".into(),
            revision: 1604,
            payload: Some(v1::Payload { event: Some(Kind::FriendAdded(added)) }),
            ..Default::default()
        };
        let line = event_line(&event);
        assert!(line.contains("r1,604") && line.ends_with("friend 12 added:  (import)"), "{line}");
    }
}
