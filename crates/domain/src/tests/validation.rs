use super::*;
use crate::{ImportedEvent, validate};

fn violations(intent: Intent) -> Vec<String> {
    let context = Context { retry_key: "key".into(), ..Context::default() };
    fields(&Command { channel_id: "shop".into(), context, intent })
}

fn fields(command: &Command) -> Vec<String> {
    let violations = validate(command).err().unwrap_or_default();
    violations.into_iter().map(|violation| violation.field).collect()
}

fn add(user_key: &str, attributes: Vec<Attribute>) -> Intent {
    Intent::AddFriend { user_key: user_key.into(), source: FriendSource::Ad, attributes, consents: vec![] }
}

fn define(cap: u64, per_friend_limit: u32, window: TimeWindow) -> Intent {
    Intent::DefineCoupon { coupon_id: String::new(), name: "열 잔".into(), cap, per_friend_limit, window }
}

#[test]
fn the_context_is_checked() {
    let mut command = Command { channel_id: "Shop".into(), context: Context::default(), intent: Intent::ResumeChannel };
    assert_eq!(fields(&command), ["channel_id", "context.retry_key"]);
    command.channel_id = "a".repeat(65);
    command.context = Context { retry_key: "열쇠".into(), actor: "\n".into(), backfill: true, ..Context::default() };
    assert_eq!(fields(&command), ["channel_id", "context.retry_key", "context.actor", "context.occurred_at"]);
    command.channel_id = "shop-1".into();
    command.context = Context { retry_key: "k".repeat(64), backfill: true, occurred_at: Some(0), ..Context::default() };
    assert_eq!(fields(&command), [""; 0]);
}

#[test]
fn names_count_characters_and_not_bytes() {
    let open = |name: String| violations(Intent::OpenChannel { name });
    assert_eq!(open("가".repeat(100)), [""; 0]);
    assert_eq!(open("가".repeat(101)), ["name"]);
    assert_eq!(open("a".repeat(101)), ["name"]);
    assert_eq!(open(String::new()), ["name"]);
    assert_eq!(open("가".into()), [""; 0]);
    assert_eq!(violations(Intent::CloseChannel { reason: "가".repeat(501) }), ["reason"]);
}

#[test]
fn user_keys_are_printable_ascii() {
    assert_eq!(violations(add(&"k".repeat(128), vec![])), [""; 0]);
    for key in [String::new(), "k".repeat(129), "열쇠".into(), "tab\t".into()] {
        assert_eq!(violations(add(&key, vec![])), ["user_key"], "{key:?}");
    }
}

#[test]
fn attributes_are_bounded_pairs() {
    assert_eq!(violations(add("a", vec![attribute("Region", "서울")])), ["attributes[0].key"]);
    assert_eq!(violations(add("a", vec![attribute("region", "")])), ["attributes[0].value"]);
    assert_eq!(violations(add("a", vec![attribute("region", &"가".repeat(65))])), ["attributes[0].value"]);
    let twice = vec![attribute("region", "서울"), attribute("region", "부산")];
    assert_eq!(violations(add("a", twice)), ["attributes[1].key"]);
    let own = |count| (0..count).map(|n| attribute(&format!("own_{n}"), "x")).collect::<Vec<_>>();
    assert_eq!(violations(add("a", own(17))), ["attributes"]);
    let well_known = ["gender", "age_band", "region", "grade"].map(|key| attribute(key, "x"));
    assert_eq!(violations(add("a", own(16).into_iter().chain(well_known).collect())), [""; 0]);
}

#[test]
fn a_change_of_attributes_changes_some_and_does_not_contradict_itself() {
    let set = |set, clear| violations(Intent::SetAttributes { user_key: "a".into(), set, clear });
    assert_eq!(set(vec![], vec![]), ["set"]);
    assert_eq!(set(vec![attribute("region", "x")], vec!["region".into()]), ["clear[0]"]);
    assert_eq!(set(vec![], vec!["Region".into()]), ["clear[0]"]);
    assert_eq!(set(vec![], vec!["region".into(); 21]), ["clear"]);
}

#[test]
fn messages_have_a_text_and_a_price() {
    let send = |text: String, unit_price_won| {
        violations(Intent::SendBroadcast { body: MessageBody { text, is_ad: false, unit_price_won } })
    };
    assert_eq!(send("가".repeat(2_000), 10_000), [""; 0]);
    assert_eq!(send("가".repeat(2_001), 0), ["body.text"]);
    assert_eq!(send("😀".repeat(2_000), 0), [""; 0]);
    assert_eq!(send("😀".repeat(2_049), 0), ["body.text"]);
    assert_eq!(send(String::new(), 0), ["body.text"]);
    assert_eq!(send("a".into(), -1), ["body.unit_price_won"]);
    assert_eq!(send("a".into(), 10_001), ["body.unit_price_won"]);
}

#[test]
fn rules_and_lists_are_bounded() {
    let send = |audience| violations(Intent::SendNarrowcast { audience, body: news() });
    assert_eq!(send(Audience::UserKeys(vec!["a".into(); 10_000])), [""; 0]);
    assert_eq!(send(Audience::UserKeys(vec!["a".into(); 10_001])), ["audience.user_keys.user_keys"]);
    assert_eq!(send(keys(&["a", ""])), ["audience.user_keys.user_keys[1]"]);
    assert_eq!(send(Audience::Rule(rule("region", &[], false))), ["audience.rule.all_of[0].any_of"]);
    assert_eq!(send(Audience::Rule(rule("", &["x"], false))), ["audience.rule.all_of[0].key"]);
    let condition = rule("region", &["x"], false).all_of.remove(0);
    let long = Rule { all_of: vec![condition; 17] };
    assert_eq!(send(Audience::Rule(long.clone())), ["audience.rule.all_of"]);
    let violations = crate::validate_rule(&long, "filter.rule").unwrap_err();
    assert_eq!(violations[0].field, "filter.rule.all_of");
}

#[test]
fn coupons_have_a_cap_a_limit_and_a_window_that_ends_later() {
    assert_eq!(violations(define(1_000_000_000, 1_000, window(1, 2))), [""; 0]);
    assert_eq!(violations(define(0, 1_001, window(2, 2))), ["cap", "per_friend_limit", "window"]);
    assert_eq!(violations(define(1_000_000_001, 0, TimeWindow::default())), ["cap"]);
}

#[test]
fn ids_of_the_leaders_kind_are_the_leaders() {
    let issue = |ticket_id: &str| {
        violations(Intent::IssueTicket { coupon_id: "k".into(), user_key: "a".into(), ticket_id: ticket_id.into() })
    };
    for id in ["", "t", "k.1", "k.1.x", "2026.10.a", "a:b-c_d"] {
        assert_eq!(issue(id), [""; 0], "{id}");
    }
    for id in ["k.1.2", "k.01.02", "k t", "쿠폰"] {
        assert_eq!(issue(id), ["ticket_id"], "{id}");
    }
    // Redeeming them is everybody's.
    assert_eq!(violations(Intent::RedeemTicket { ticket_id: "k.1.2".into() }), [""; 0]);
    assert_eq!(violations(Intent::RedeemTicket { ticket_id: String::new() }), ["ticket_id"]);
}

#[test]
fn imported_facts_are_as_well_formed_as_decided_ones() {
    let import = |event| {
        let events = vec![ImportedEvent::of(event)];
        violations(Intent::ImportEvents { first_revision: 1, events })
    };
    assert_eq!(import(opened()), [""; 0]);
    assert_eq!(import(Event::ChannelOpened { name: String::new() }), ["events[0].payload.name"]);
    let unsorted = added_with(1, "a", &[("region", "x"), ("gender", "f")], &[Consent::Night, Consent::Advertising]);
    assert_eq!(import(unsorted), ["events[0].payload.attributes", "events[0].payload.consents"]);
    assert_eq!(import(batch("k", [0, 1], 3)), ["events[0].payload.audience.members"]);
    assert_eq!(violations(Intent::ImportEvents { first_revision: 0, events: vec![] }), ["first_revision", "events"]);
    let events = vec![ImportedEvent { backfill: true, ..ImportedEvent::of(opened()) }];
    let undated = Intent::ImportEvents { first_revision: 1, events };
    assert_eq!(violations(undated), ["events[0].occurred_at"]);
}
