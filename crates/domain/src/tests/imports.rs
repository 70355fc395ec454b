//! Exports and imports.

use proptest::prelude::*;

use super::{
    histories::{History, Recorded, answers, steps},
    invariants::Rows,
    *,
};
use crate::{Detail, ImportedEvent, detail};

fn import(first_revision: u64, events: Vec<ImportedEvent>) -> Intent {
    Intent::ImportEvents { first_revision, events }
}

fn facts(events: impl IntoIterator<Item = Event>) -> Vec<ImportedEvent> {
    events.into_iter().map(ImportedEvent::of).collect()
}

#[track_caller]
fn contradicts(state: impl IntoIterator<Item = Event>, event: Event) {
    let state: Vec<Event> = state.into_iter().collect();
    let next = state.len() as u64 + 1;
    let when = given(state).when(import(next, facts([event])));
    when.refused_with(Reason::ImportContradictsState, "revision", &next.to_string());
}

fn command(intent: Intent) -> Command {
    let context = Context { retry_key: "key".into(), ..Context::default() };
    Command { channel_id: "copy".into(), context, intent }
}

/// Exports in pieces of these sizes, imports each.
fn copy(recorded: &[Recorded], pieces: &[usize]) -> Channel {
    let (mut channel, mut rest, mut sizes) = (Channel::new(), recorded, pieces.iter().cycle());
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(rest.len().min(*sizes.next().unwrap()));
        rest = after;
        let command = command(import(revision(&channel) + 1, piece.iter().map(Recorded::imported).collect()));
        assert_eq!(crate::validate(&command), Ok(()), "what is decided is well formed as an import");
        let events = decide(&channel, &command, NOW).expect("what happened may be imported");
        for (event, recorded) in events.iter().zip(piece) {
            assert_eq!(*event, recorded.event);
            // Times of the original, so that the rows can be compared whole.
            channel.apply(recorded.revision, recorded.accepted_at, recorded.occurred_at, event);
        }
    }
    channel
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn an_imported_channel_is_the_same(steps in steps(150), pieces in prop::collection::vec(1..40usize, 1..6)) {
        let history = History::of(&steps);
        let copy = copy(&history.recorded, &pieces);
        prop_assert_eq!(Rows::of(&copy), Rows::of(&history.channel));
        prop_assert_eq!(answers(&copy, &history.tickets), answers(&history.channel, &history.tickets));
    }

    /// An import with a fact left out is refused, or its facts were possible without that one; never does it panic, and
    /// never does it leave half of itself behind.
    #[test]
    fn a_fact_left_out_is_noticed_or_was_not_needed(steps in steps(80), gap in any::<prop::sample::Index>()) {
        let history = History::of(&steps);
        let mut facts: Vec<ImportedEvent> = history.recorded.iter().map(Recorded::imported).collect();
        facts.remove(gap.index(facts.len()));
        if facts.is_empty() {
            return Ok(());
        }
        let count = facts.len();
        match decide(&Channel::new(), &command(import(1, facts)), NOW) {
            Ok(events) => prop_assert_eq!(events.len(), count),
            Err(refusal) => prop_assert_eq!(refusal.reason, Reason::ImportContradictsState),
        }
    }

    #[test]
    fn the_detail_of_an_answer_is_in_its_events(steps in steps(100)) {
        for Recorded { revision, event, .. } in &History::of(&steps).recorded {
            let events = [event.clone()];
            let one = detail(false, *revision, &events);
            let again = events.clone();
            prop_assert_eq!(one, detail(false, *revision, &again));
            prop_assert_eq!(detail(true, *revision, &events), Detail::Import { count: 1 });
            match (one, event) {
                (Detail::Send { message_id, audience_count, cost_won, unit_price_won, .. }, _) => {
                    prop_assert_eq!(message_id, *revision);
                    prop_assert_eq!(cost_won, audience_count as i64 * unit_price_won);
                }
                (Detail::Friend { number }, Event::FriendAdded { friend_number, .. }) => {
                    prop_assert_eq!(number, *friend_number);
                }
                (Detail::Ticket { issued_count, .. }, Event::TicketsIssued { audience, .. }) => {
                    prop_assert_eq!(issued_count, audience.members.len());
                }
                _ => {}
            }
        }
    }
}

#[test]
fn an_import_begins_where_the_channel_ends() {
    given([]).when(import(1, facts([opened(), added(1, "a")]))).accepted();
    given([]).when(import(2, facts([added(1, "a")]))).refused(Reason::ChannelNotFound);
    given([opened()]).when(import(2, facts([added(1, "a")]))).accepted();
    given([opened()]).when(import(1, facts([opened(), added(1, "a")]))).refused_with(
        Reason::ImportOutOfOrder,
        "expected",
        "2",
    );
    given([opened()]).when(import(3, facts([added(1, "a")]))).refused_with(Reason::ImportOutOfOrder, "expected", "2");
}

#[test]
fn the_first_fact_of_a_channel_opens_it_and_no_other_does() {
    contradicts([], added(1, "a"));
    contradicts([opened()], opened());
}

#[test]
fn the_fact_that_cannot_be_is_named_and_nothing_is_imported() {
    let events = facts([opened(), added(1, "a"), blocked(2), added(2, "b")]);
    given([]).when(import(1, events)).refused_with(Reason::ImportContradictsState, "revision", "3");
}

#[test]
fn friends_follow_their_arrows_and_numbers_also_when_imported() {
    contradicts([opened()], added(2, "a"));
    contradicts([opened(), added(1, "a")], added(2, "a"));
    contradicts([opened(), added(1, "a"), removed(1)], added(2, "a"));
    contradicts([opened(), added(1, "a"), blocked(1)], blocked(1));
    contradicts([opened(), added(1, "a")], Event::FriendUnblocked { friend_number: 1 });
    contradicts([opened(), added(1, "a"), removed(1)], removed(1));
    contradicts([opened(), added(1, "a")], Event::ConsentWithdrawn { friend_number: 1, consent: Consent::Night });
}

#[test]
fn audiences_are_taken_as_they_were_if_they_can_have_been() {
    let send = |members: &[u32], as_of| Event::BroadcastAccepted {
        audience: frozen(members.iter().copied(), as_of),
        text: "(광고) 반값".into(),
        is_ad: true,
        unit_price_won: 15,
    };
    let shop = || [opened(), added(1, "a"), added(2, "b"), blocked(2)];
    // Without consent, and not everybody: rules are never evaluated again.
    given(shop()).when(import(5, facts([send(&[1], 4)]))).accepted();
    contradicts(shop(), send(&[1, 2], 4));
    contradicts(shop(), send(&[1, 3], 4));
    contradicts(shop(), send(&[], 4));
    contradicts(shop(), send(&[1], 3));
    contradicts(shop().into_iter().chain([suspended()]), send(&[1], 5));
    let many = |number| added(number, &format!("u{number}"));
    let crowd: Vec<Event> = [opened()].into_iter().chain((1..=100).map(many)).collect();
    let everybody: Vec<u32> = (1..=100).collect();
    given(crowd.clone()).when(import(102, facts([send(&everybody, 101)]))).accepted();
    contradicts(crowd.into_iter().chain([removed(77)]), send(&everybody, 102));
}

#[test]
fn caps_and_limits_hold_for_imports_and_windows_do_not() {
    let shop = |more: Vec<Event>| {
        let coupon = coupon_in("k", 2, 1, window(1, 2));
        [opened(), added(1, "a"), added(2, "b"), added(3, "c"), coupon].into_iter().chain(more)
    };
    given(shop(vec![])).when(import(6, facts([issued("k", "t", 1), redeemed("k", "t", 1)]))).accepted();
    given(shop(vec![])).when(import(6, facts([issued("k", "t", 1), expired("k", "t", 1)]))).accepted();
    contradicts(shop(vec![issued("k", "t", 1)]), issued("k", "u", 1));
    contradicts(shop(vec![issued("k", "t", 1)]), issued("k", "t", 2));
    contradicts(shop(vec![issued("k", "t", 1), issued("k", "u", 2)]), issued("k", "v", 3));
    contradicts(shop(vec![]), batch("k", [1, 2, 3], 5));
    contradicts(shop(vec![issued("k", "t", 1)]), batch("k", [1, 2], 6));
    contradicts(shop(vec![issued("k", "t", 1)]), redeemed("m", "t", 1));
    contradicts(shop(vec![issued("k", "t", 1)]), redeemed("k", "t", 2));
    contradicts(shop(vec![issued("k", "t", 1), redeemed("k", "t", 1)]), redeemed("k", "t", 1));
    contradicts(shop(vec![issued("k", "t", 1)]), reversed("k", "t", 1));
}

#[test]
fn an_imported_ticket_id_of_the_leaders_kind_names_its_own_place() {
    let shop = || [opened(), added(1, "a"), coupon("k", 9, 0)];
    given(shop()).when(import(4, facts([issued("k", "k.4.1", 1)]))).accepted();
    for id in ["k.5.1", "k.4.2", "k.04.1", "m.4.1"] {
        contradicts(shop(), issued("k", id, 1));
    }
}

/// One import request hung every node it was forwarded to: a bitmap of all 2³² numbers takes less than a megabyte, and
/// its digest was computed before anybody had looked at how many members it claims.
#[test]
fn an_audience_of_billions_is_malformed_before_anybody_walks_it() {
    let mut members = roaring::RoaringBitmap::new();
    members.insert_range(1..=u32::MAX);
    let audience = FrozenAudience { members, as_of_revision: 2, excluded_without_consent: 0, excluded_blocked: 0 };
    let event = Event::BroadcastAccepted { audience, text: "x".into(), is_ad: false, unit_price_won: 0 };
    let bomb = ImportedEvent { audience_digest: Some([0; 32]), ..ImportedEvent::of(event) };
    let violations = crate::validate(&command(import(3, vec![bomb]))).unwrap_err();
    assert_eq!(violations[0].field, "events[0].payload.audience.members");
}

#[test]
fn the_audiences_of_one_import_are_bounded_together() {
    let of = |count: u32| {
        let mut members = roaring::RoaringBitmap::new();
        members.insert_range(1..=count);
        let audience = FrozenAudience { members, as_of_revision: 2, excluded_without_consent: 0, excluded_blocked: 0 };
        Event::BroadcastAccepted { audience, text: "x".into(), is_ad: false, unit_price_won: 0 }
    };
    let limit = crate::IMPORTED_AUDIENCE_LIMIT as u32;
    assert_eq!(crate::validate(&command(import(3, facts([of(limit - 7), of(7)])))), Ok(()));
    let violations = crate::validate(&command(import(3, facts([of(limit - 7), of(8), of(9)])))).unwrap_err();
    assert_eq!(violations.len(), 1);
    assert_eq!(violations[0].field, "events[1].payload.audience.members");
}

#[test]
fn an_audience_with_a_foreign_digest_is_refused_once_its_members_are_known() {
    let members: roaring::RoaringBitmap = [1].into_iter().collect();
    let digest = crate::audience_digest(&members);
    let audience = FrozenAudience { members, as_of_revision: 2, excluded_without_consent: 0, excluded_blocked: 0 };
    let event = Event::BroadcastAccepted { audience, text: "x".into(), is_ad: false, unit_price_won: 0 };
    let fact = |digest| vec![ImportedEvent { audience_digest: Some(digest), ..ImportedEvent::of(event.clone()) }];
    given([opened(), added(1, "a")]).when(import(3, fact(digest))).accepted();
    given([opened(), added(1, "a")]).when(import(3, fact([0; 32]))).refused(Reason::ImportContradictsState);
}
