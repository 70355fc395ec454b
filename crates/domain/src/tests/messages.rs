use super::*;

fn push(user_key: &str, body: MessageBody) -> Intent {
    Intent::SendPush { user_key: user_key.into(), body }
}

fn narrowcast(audience: Audience, body: MessageBody) -> Intent {
    Intent::SendNarrowcast { audience, body }
}

/// 1 in Seoul consents; 2 in Seoul does not; 3 in Busan consents; 4 in Seoul blocked; 5 in Seoul was removed.
fn shop() -> Vec<Event> {
    let of = |number, key, region, consents: &[Consent]| added_with(number, key, &[("region", region)], consents);
    vec![
        opened(),
        of(1, "a", "서울", &[Consent::Advertising]),
        of(2, "b", "서울", &[Consent::Night]),
        of(3, "c", "부산", &[Consent::Advertising]),
        of(4, "d", "서울", &[Consent::Advertising]),
        of(5, "e", "서울", &[Consent::Advertising]),
        blocked(4),
        removed(5),
    ]
}

fn audience(events: Vec<Event>) -> FrozenAudience {
    match events.into_iter().next() {
        Some(Event::NarrowcastAccepted { audience, .. } | Event::BroadcastAccepted { audience, .. }) => audience,
        other => panic!("no send to an audience: {other:?}"),
    }
}

#[test]
fn a_push_goes_to_one_friend_who_has_not_blocked() {
    let event = Event::PushAccepted { friend_number: 1, text: news().text, is_ad: false, unit_price_won: 15 };
    given(shop()).when(push("a", news())).then(event);
    given(shop()).when(push("d", news())).refused(Reason::FriendBlocked);
    given(shop()).when(push("e", news())).refused(Reason::FriendNotFound);
}

#[test]
fn a_pushed_advertisement_needs_consent_and_its_label() {
    given(shop()).when(push("a", ad())).accepted();
    given(shop()).when(push("b", ad())).refused(Reason::ConsentMissing);
    let unlabelled = MessageBody { is_ad: true, ..news() };
    given(shop()).when(push("a", unlabelled.clone())).refused(Reason::AdLabelMissing);
    given(shop()).when(narrowcast(keys(&["a"]), unlabelled.clone())).refused(Reason::AdLabelMissing);
    given(shop()).when(Intent::SendBroadcast { body: unlabelled }).refused(Reason::AdLabelMissing);
}

#[test]
fn a_broadcast_goes_to_everybody_who_has_not_blocked() {
    let (events, _) = given(shop()).when(Intent::SendBroadcast { body: news() }).accepted();
    let expected = FrozenAudience { excluded_blocked: 1, ..frozen([1, 2, 3], 8) };
    assert_eq!(audience(events), expected);
}

#[test]
fn an_advertisement_leaves_out_who_did_not_consent_and_counts_them() {
    let (events, _) = given(shop()).when(Intent::SendBroadcast { body: ad() }).accepted();
    let expected = FrozenAudience { excluded_without_consent: 1, excluded_blocked: 1, ..frozen([1, 3], 8) };
    assert_eq!(audience(events), expected);
}

#[test]
fn a_narrowcast_by_rule_is_for_those_who_match_now() {
    let seoul = rule("region", &["서울", "인천"], false);
    let (events, _) = given(shop()).when(narrowcast(Audience::Rule(seoul.clone()), ad())).accepted();
    let expected = Event::NarrowcastAccepted {
        rule: Some(seoul),
        audience: FrozenAudience { excluded_without_consent: 1, excluded_blocked: 1, ..frozen([1], 8) },
        text: ad().text,
        is_ad: true,
        unit_price_won: 15,
    };
    assert_eq!(events, [expected]);
}

#[test]
fn conditions_all_hold_and_may_be_negated() {
    let mut both = rule("region", &["서울"], false);
    both.all_of.extend(rule("grade", &["vip"], true).all_of);
    let vip = Event::AttributesSet { friend_number: 2, set: vec![attribute("grade", "vip")], cleared: vec![] };
    let events = shop().into_iter().chain([vip]);
    let (events, _) = given(events).when(narrowcast(Audience::Rule(both), news())).accepted();
    assert_eq!(audience(events), FrozenAudience { excluded_blocked: 1, ..frozen([1], 9) });
}

#[test]
fn a_narrowcast_by_keys_leaves_out_the_blocked_and_counts_everybody_once() {
    let (events, _) = given(shop()).when(narrowcast(keys(&["c", "d", "a", "c", "d"]), news())).accepted();
    let expected = Event::NarrowcastAccepted {
        rule: None,
        audience: FrozenAudience { excluded_blocked: 1, ..frozen([1, 3], 8) },
        text: news().text,
        is_ad: false,
        unit_price_won: 15,
    };
    assert_eq!(events, [expected]);
}

#[test]
fn a_narrowcast_by_keys_names_the_first_that_is_no_friend() {
    let when = given(shop()).when(narrowcast(keys(&["a", "nobody", "e"]), news()));
    when.refused_with(Reason::FriendNotFound, "index", "1");
    let when = given(shop()).when(narrowcast(keys(&["a", "b", "e"]), news()));
    when.refused_with(Reason::FriendNotFound, "friend_number", "5");
}

#[test]
fn nothing_is_sent_to_nobody() {
    let nobody = Audience::Rule(rule("region", &["평양"], false));
    given(shop()).when(narrowcast(nobody, news())).refused(Reason::AudienceEmpty);
    given(shop()).when(narrowcast(keys(&[]), news())).refused(Reason::AudienceEmpty);
    let when = given(shop()).when(narrowcast(keys(&["d"]), news()));
    when.refused_with(Reason::AudienceEmpty, "excluded_blocked", "1");
    let when = given(shop()).when(narrowcast(keys(&["b"]), ad()));
    when.refused_with(Reason::AudienceEmpty, "excluded_without_consent", "1");
    given([opened()]).when(Intent::SendBroadcast { body: news() }).refused(Reason::AudienceEmpty);
}
