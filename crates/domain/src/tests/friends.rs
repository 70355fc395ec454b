use super::*;
use crate::FriendStatus;

fn add(user_key: &str) -> Intent {
    add_with(user_key, &[], &[])
}

fn add_with(user_key: &str, attributes: &[(&str, &str)], consents: &[Consent]) -> Intent {
    Intent::AddFriend {
        user_key: user_key.into(),
        source: FriendSource::Search,
        attributes: attributes.iter().map(|(key, value)| attribute(key, value)).collect(),
        consents: consents.to_vec(),
    }
}

fn set(user_key: &str, set: &[(&str, &str)], clear: &[&str]) -> Intent {
    Intent::SetAttributes {
        user_key: user_key.into(),
        set: set.iter().map(|(key, value)| attribute(key, value)).collect(),
        clear: clear.iter().map(|key| (*key).to_owned()).collect(),
    }
}

fn grant(consent: Consent) -> Intent {
    Intent::GrantConsent { user_key: "a".into(), consent }
}

fn withdraw(consent: Consent) -> Intent {
    Intent::WithdrawConsent { user_key: "a".into(), consent }
}

#[test]
fn numbers_are_given_from_one_on() {
    given([opened()]).when(add("a")).then(added(1, "a"));
    given([opened(), added(1, "a")]).when(add("b")).then(added(2, "b"));
}

#[test]
fn what_is_added_is_recorded_sorted() {
    let all = [Consent::Night, Consent::Advertising, Consent::Night];
    given([opened()]).when(add_with("a", &[("region", "서울"), ("gender", "f")], &all)).then(added_with(
        1,
        "a",
        &[("gender", "f"), ("region", "서울")],
        &[Consent::Advertising, Consent::Night],
    ));
}

#[test]
fn nobody_is_added_twice() {
    given([opened(), added(1, "a")]).when(add("a")).refused_with(Reason::AlreadyFriend, "friend_number", "1");
    given([opened(), added(1, "a"), blocked(1)]).when(add("a")).refused(Reason::FriendBlocked);
}

#[test]
fn a_return_keeps_the_number_and_replaces_attributes_and_consents() {
    let first = added_with(1, "a", &[("grade", "vip"), ("region", "서울")], &[Consent::Advertising]);
    let events = [opened(), first, added(2, "b"), removed(1)];
    let when = given(events).at(77).when(add_with("a", &[("grade", "new")], &[Consent::Night]));
    let (events, channel) = when.accepted();
    assert_eq!(events, [added_with(1, "a", &[("grade", "new")], &[Consent::Night])]);
    let row = channel.friend_row(1).unwrap();
    assert_eq!(row.attributes, [attribute("grade", "new")]);
    assert_eq!(row.consents.iter().collect::<Vec<_>>(), [Consent::Night]);
    assert_eq!((row.added_revision, row.added_at, row.status), (5, 77, FriendStatus::Friend));
}

#[test]
fn blocks_and_unblocks_take_turns() {
    let block = || Intent::BlockFriend { user_key: "a".into() };
    let unblock = || Intent::UnblockFriend { user_key: "a".into() };
    given([opened(), added(1, "a")]).when(block()).then(blocked(1));
    given([opened(), added(1, "a"), blocked(1)]).when(block()).refused(Reason::FriendBlocked);
    given([opened(), added(1, "a"), blocked(1)]).when(unblock()).then(Event::FriendUnblocked { friend_number: 1 });
    given([opened(), added(1, "a")]).when(unblock()).refused(Reason::FriendNotBlocked);
}

#[test]
fn a_friend_is_removed_also_when_blocked_and_only_once() {
    let remove = || Intent::RemoveFriend { user_key: "a".into() };
    given([opened(), added(1, "a")]).when(remove()).then(removed(1));
    given([opened(), added(1, "a"), blocked(1)]).when(remove()).then(removed(1));
    given([opened(), added(1, "a"), removed(1)]).when(remove()).refused(Reason::FriendNotFound);
}

#[test]
fn nothing_is_done_to_strangers_and_the_removed() {
    for events in [vec![opened()], vec![opened(), added(1, "a"), removed(1)]] {
        for intent in [
            Intent::BlockFriend { user_key: "a".into() },
            Intent::UnblockFriend { user_key: "a".into() },
            set("a", &[("grade", "x")], &[]),
            grant(Consent::Night),
            withdraw(Consent::Night),
            Intent::SendPush { user_key: "a".into(), body: news() },
        ] {
            given(events.clone()).when(intent).refused(Reason::FriendNotFound);
        }
    }
}

#[test]
fn a_refusal_is_kept_for_ever_and_so_names_no_user_key() {
    let key = "seoul-mina-1990";
    for intent in [add(key), Intent::UnblockFriend { user_key: key.into() }, withdraw_of(key)] {
        let refusal = given([opened(), added(1, key)]).when(intent).outcome.unwrap_err();
        assert!(!format!("{refusal:?}").contains(key), "{refusal:?}");
    }
    let unknown = Intent::SendNarrowcast { audience: keys(&["x", key]), body: news() };
    let refusal = given([opened(), added(1, "x")]).when(unknown).refused(Reason::FriendNotFound);
    assert!(!format!("{refusal:?}").contains(key), "{refusal:?}");
}

fn withdraw_of(user_key: &str) -> Intent {
    Intent::WithdrawConsent { user_key: user_key.into(), consent: Consent::Night }
}

#[test]
fn a_consent_is_given_once_and_withdrawn_once() {
    let held = [opened(), added_with(1, "a", &[], &[Consent::Advertising])];
    given(held.clone()).when(grant(Consent::Advertising)).refused(Reason::ConsentUnchanged);
    given(held.clone())
        .when(grant(Consent::Night))
        .then(Event::ConsentGranted { friend_number: 1, consent: Consent::Night });
    given(held.clone()).when(withdraw(Consent::Night)).refused(Reason::ConsentUnchanged);
    given(held)
        .when(withdraw(Consent::Advertising))
        .then(Event::ConsentWithdrawn { friend_number: 1, consent: Consent::Advertising });
}

#[test]
fn attributes_are_set_and_cleared_and_the_rest_stays() {
    let events = [opened(), added_with(1, "a", &[("gender", "f"), ("grade", "vip"), ("pet", "cat")], &[])];
    let when = given(events).when(set("a", &[("region", "제주"), ("grade", "gold")], &["pet", "never_had"]));
    let (events, channel) = when.accepted();
    let event = Event::AttributesSet {
        friend_number: 1,
        set: vec![attribute("grade", "gold"), attribute("region", "제주")],
        cleared: vec!["never_had".into(), "pet".into()],
    };
    assert_eq!(events, [event]);
    let view = channel.friend_view(1).unwrap();
    assert_eq!(view.attributes().collect::<Vec<_>>(), [("gender", "f"), ("grade", "gold"), ("region", "제주")]);
}

#[test]
fn a_set_that_changes_nothing_is_recorded_all_the_same() {
    given([opened(), added_with(1, "a", &[("grade", "vip")], &[])]).when(set("a", &[("grade", "vip")], &[])).accepted();
}

#[test]
fn a_friend_has_at_most_sixteen_attributes_of_the_shops_own() {
    let own: Vec<String> = (0..16).map(|n| format!("own_{n:02}")).collect();
    let mut all: Vec<(&str, &str)> = own.iter().map(|key| (key.as_str(), "x")).collect();
    all.insert(0, ("gender", "f"));
    let full = [opened(), added_with(1, "a", &all, &[])];
    given(full.clone()).when(set("a", &[("one_more", "x")], &[])).refused(Reason::TooManyAttributes);
    given(full.clone()).when(set("a", &[("region", "서울"), ("own_03", "y")], &[])).accepted();
    given(full).when(set("a", &[("one_more", "x")], &["own_00"])).accepted();
}

#[test]
fn friends_may_change_while_they_block() {
    let events = [opened(), added(1, "a"), blocked(1)];
    given(events.clone()).when(grant(Consent::Night)).accepted();
    given(events).when(set("a", &[("grade", "x")], &[])).accepted();
}

/// A state in which every number but the last is given out.
struct Full(Channel, crate::Summary);

#[test]
fn the_last_number_is_given_and_then_no_more() {
    let mut channel = Channel::new();
    channel.apply(1, 1, None, &opened());
    let mut summary = channel.summary().unwrap().clone();
    summary.next_friend_number = crate::FRIEND_LIMIT;
    let command = |intent| Command { channel_id: "shop".into(), context: Context::default(), intent };
    let mut full = Full(channel, summary);
    assert_eq!(decide(&full, &command(add("a")), NOW), Ok(vec![added(crate::FRIEND_LIMIT, "a")]));
    full.1.next_friend_number += 1;
    assert_eq!(decide(&full, &command(add("a")), NOW).unwrap_err().reason, Reason::FriendLimitReached);
}

impl Load for Full {
    fn summary(&self) -> Option<&crate::Summary> {
        Some(&self.1)
    }
    fn number_of(&self, user_key: &str) -> Option<u32> {
        self.0.number_of(user_key)
    }
    fn friend(&self, number: u32) -> Option<crate::FriendState> {
        self.0.friend(number)
    }
    fn attribute(&self, number: u32, key: &str) -> Option<&str> {
        self.0.attribute(number, key)
    }
    fn each_attribute(&self, number: u32, each: &mut dyn FnMut(&str, &str)) {
        self.0.each_attribute(number, each);
    }
    fn select(&self, selector: &crate::Selector<'_>) -> RoaringBitmap {
        self.0.select(selector)
    }
    fn coupon(&self, id: &str) -> Option<crate::CouponState> {
        self.0.coupon(id)
    }
    fn held(&self, coupon_id: &str, number: u32) -> u32 {
        self.0.held(coupon_id, number)
    }
    fn held_by(&self, coupon_id: &str, numbers: &RoaringBitmap) -> crate::Held {
        self.0.held_by(coupon_id, numbers)
    }
    fn at_limit(&self, coupon_id: &str) -> RoaringBitmap {
        self.0.at_limit(coupon_id)
    }
    fn ticket(&self, id: &str) -> Option<crate::TicketState> {
        self.0.ticket(id)
    }
}

/// Counting a brand's friends by an attribute that is different for everybody made an answer of tens of megabytes, sorted
/// while the channel stood still.
#[test]
fn an_attribute_with_many_values_is_counted_by_its_most_common_ones() {
    let mut channel = Channel::new();
    channel.apply(1, NOW, None, &opened());
    for number in 1..=30 {
        // v01 has 10 friends, v02 has 5, twelve others have one each; three friends have none.
        let value = match number {
            1..=10 => "v01".to_owned(),
            11..=15 => "v02".to_owned(),
            other => format!("w{other}"),
        };
        let attributes = if number > 27 { vec![] } else { vec![Attribute { key: "member".into(), value }] };
        let event = Event::FriendAdded {
            friend_number: number,
            user_key: format!("u{number}"),
            source: FriendSource::Import,
            attributes,
            consents: vec![],
        };
        channel.apply(u64::from(number) + 1, NOW, None, &event);
    }
    let everybody = crate::Selector::of(crate::Statuses::PRESENT);
    let mut counted = channel.count_by(&everybody, "member", 4);
    counted.counts.sort_unstable();
    let pairs: Vec<(&str, u64)> = counted.counts.iter().map(|(value, count)| (&**value, *count)).collect();
    assert_eq!(pairs, [("", 3), ("v01", 10), ("v02", 5), ("w16", 1)]);
    assert_eq!((counted.other_values, counted.other_friends), (11, 11));
}
