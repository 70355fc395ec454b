//! What must hold for every history.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{
    histories::{History, Recorded, some_rules, steps},
    model::Model,
    *,
};
use crate::{FriendStatus, Selector, Statuses, TicketFilter, TicketPlace, TicketStatus, touched};

fn events(history: &History) -> impl Iterator<Item = &Event> {
    history.recorded.iter().map(|recorded| &recorded.event)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// absent –add→ friend –block→ blocked –unblock→ friend; remove from either.
    #[test]
    fn friends_move_along_their_arrows(steps in steps(150)) {
        use FriendStatus::{Blocked, Friend, Removed};
        let mut status: BTreeMap<u32, FriendStatus> = BTreeMap::new();
        for event in events(&History::of(&steps)) {
            let (number, from, to) = match event {
                Event::FriendAdded { friend_number, .. } => (friend_number, vec![None, Some(Removed)], Friend),
                Event::FriendBlocked { friend_number } => (friend_number, vec![Some(Friend)], Blocked),
                Event::FriendUnblocked { friend_number } => (friend_number, vec![Some(Blocked)], Friend),
                Event::FriendRemoved { friend_number } => (friend_number, vec![Some(Friend), Some(Blocked)], Removed),
                _ => continue,
            };
            let old = status.insert(*number, to);
            prop_assert!(from.contains(&old), "{event:?} from {old:?}");
        }
    }

    #[test]
    fn a_key_keeps_its_number_and_numbers_have_no_gap(steps in steps(150)) {
        let mut numbers: BTreeMap<&str, u32> = BTreeMap::new();
        let history = History::of(&steps);
        for event in events(&history) {
            if let Event::FriendAdded { friend_number, user_key, .. } = event {
                let next = numbers.len() as u32 + 1;
                prop_assert_eq!(*numbers.entry(user_key).or_insert(next), *friend_number);
            }
        }
    }

    #[test]
    fn never_more_is_issued_than_the_cap_and_the_limit_allow(steps in steps(200)) {
        let history = History::of(&steps);
        let model = Model::of(&history.recorded);
        for (id, (cap, limit)) in &model.coupons {
            let of_coupon: Vec<_> = model.tickets.values().filter(|ticket| ticket.coupon == *id).collect();
            prop_assert!(of_coupon.len() as u64 <= *cap);
            let mut held: BTreeMap<u32, u32> = BTreeMap::new();
            of_coupon.iter().for_each(|ticket| *held.entry(ticket.friend).or_default() += 1);
            prop_assert!(*limit == 0 || held.values().all(|held| held <= limit));
            let state = history.channel.coupon(id).unwrap();
            prop_assert_eq!(state.issued, of_coupon.len() as u64);
            let count = |status| of_coupon.iter().filter(|ticket| ticket.status == status).count() as u64;
            prop_assert_eq!(state.redeemed, count(TicketStatus::Redeemed));
            prop_assert_eq!(state.voided, count(TicketStatus::Voided));
            prop_assert_eq!(state.expired, count(TicketStatus::Expired));
        }
    }

    #[test]
    fn a_ticket_has_at_most_one_live_redemption(steps in steps(200)) {
        let mut live: BTreeMap<&str, bool> = BTreeMap::new();
        let history = History::of(&steps);
        for event in events(&history) {
            match event {
                Event::TicketRedeemed { ticket_id, .. } => prop_assert_ne!(live.insert(ticket_id, true), Some(true)),
                Event::RedemptionReversed { ticket_id, .. } => {
                    prop_assert_eq!(live.insert(ticket_id, false), Some(true));
                }
                Event::TicketVoided { ticket_id, .. } | Event::TicketExpired { ticket_id, .. } => {
                    prop_assert_ne!(live.get(ticket_id.as_str()), Some(&true));
                }
                _ => {}
            }
        }
    }

    #[test]
    fn an_audience_is_who_matched_at_its_revision(steps in steps(150)) {
        let history = History::of(&steps);
        let mut model = Model::default();
        for recorded in &history.recorded {
            let (rule, audience, is_ad) = match &recorded.event {
                Event::BroadcastAccepted { audience, is_ad, .. } => (Rule::default(), audience, *is_ad),
                Event::NarrowcastAccepted { rule: Some(rule), audience, is_ad, .. } => (rule.clone(), audience, *is_ad),
                _ => {
                    model.fold(recorded);
                    continue;
                }
            };
            prop_assert_eq!(audience.as_of_revision + 1, recorded.revision);
            let all = model.matching(FriendStatus::Friend, &rule);
            let expected = if is_ad { model.consenting(&all) } else { all.clone() };
            prop_assert_eq!(audience.members.iter().collect::<std::collections::BTreeSet<_>>(), expected.clone());
            prop_assert!(!expected.is_empty());
            prop_assert_eq!(audience.excluded_without_consent, (all.len() - expected.len()) as u64);
            prop_assert_eq!(audience.excluded_blocked, model.matching(FriendStatus::Blocked, &rule).len() as u64);
            model.fold(recorded);
        }
    }

    /// A refusal takes no revision and leaves nothing behind: the same history without the refused commands is the same.
    #[test]
    fn refused_commands_change_nothing(steps in steps(150)) {
        let mut history = History::default();
        let mut accepted_only = Channel::new();
        history.open();
        history.recorded[0].fold(&mut accepted_only);
        for step in steps {
            let recorded = history.recorded.len();
            let before = history.refused.len();
            let (command, now) = history.step(step);
            if history.refused.len() > before {
                prop_assert_eq!(history.recorded.len(), recorded);
                prop_assert_eq!(decide(&accepted_only, &command, now), Err(history.refused[before].clone()));
            } else {
                let events = decide(&accepted_only, &command, now).unwrap();
                for (event, recorded) in events.iter().zip(&history.recorded[recorded..]) {
                    prop_assert_eq!(event, &recorded.event);
                    recorded.fold(&mut accepted_only);
                }
            }
        }
        let revisions: Vec<u64> = history.recorded.iter().map(|recorded| recorded.revision).collect();
        prop_assert_eq!(revisions, (1..=history.recorded.len() as u64).collect::<Vec<_>>());
    }

    #[test]
    fn the_channel_answers_as_a_simple_model_does(steps in steps(200)) {
        let History { channel, recorded, .. } = History::of(&steps);
        let model = Model::of(&recorded);
        check_friends(&channel, &model)?;
        check_tickets(&channel, &model)?;
    }

    #[test]
    fn whatever_changed_is_touched(steps in steps(120)) {
        let history = History::of(&steps);
        let mut channel = Channel::new();
        let mut before = Rows::default();
        for recorded in &history.recorded {
            recorded.fold(&mut channel);
            let after = Rows::of(&channel);
            let touched = touched(&recorded.event, recorded.revision);
            for (number, row) in &after.friends {
                prop_assert!(before.friends.get(number) == Some(row) || touched.friend == Some(*number));
            }
            for (id, row) in &after.coupons {
                prop_assert!(before.coupons.get(id) == Some(row) || touched.coupon == Some(id.as_str()));
            }
            for (id, row) in &after.tickets {
                prop_assert!(before.tickets.get(id) == Some(row) || touched.ticket == Some(id.as_str()));
                if !before.tickets.contains_key(id)
                    && let Some(issued) = touched.issued
                {
                    prop_assert_eq!((row.issued_revision, row.friend_number), (issued.issued_revision, issued.friend_number));
                }
            }
            for (revision, row) in &after.batches {
                prop_assert!(before.batches.get(revision) == Some(row) || touched.batch == Some(*revision));
            }
            before = after;
        }
    }

    /// Folding is total: facts that cannot be, in any order, neither panic nor lose the count.
    #[test]
    fn any_event_folds_onto_any_state(steps in steps(80), order in any::<prop::sample::Index>(), gap in 1..5u64) {
        let history = History::of(&steps);
        let (first, last) = history.recorded.split_at(order.index(history.recorded.len()));
        let mut channel = Channel::new();
        channel.apply(1, 1, None, &opened());
        let mut revision = 1;
        for recorded in last.iter().chain(first).chain(last) {
            revision += gap;
            channel.apply(revision, 1, None, &recorded.event);
        }
        let counts = channel.counts();
        prop_assert_eq!(channel.summary().unwrap().revision, revision);
        prop_assert_eq!(counts.friends + counts.blocked + counts.removed, u64::from(channel.channel_row().unwrap().friend_count));
        let restored = super::restoring::restore(&channel);
        prop_assert_eq!(Rows::of(&restored).friends, Rows::of(&channel).friends);
    }
}

/// Every row of a channel.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Rows {
    pub(super) channel: Option<crate::ChannelRow>,
    pub(super) friends: BTreeMap<u32, crate::FriendRow>,
    pub(super) coupons: BTreeMap<String, crate::CouponRow>,
    pub(super) tickets: BTreeMap<String, crate::TicketRow>,
    pub(super) batches: BTreeMap<u64, crate::BatchRow>,
}

impl Rows {
    pub(super) fn of(channel: &Channel) -> Rows {
        Rows {
            channel: channel.channel_row(),
            friends: channel.friend_rows(0).map(|row| (row.number, row)).collect(),
            coupons: channel.coupon_rows().map(|row| (row.id.clone(), row)).collect(),
            tickets: channel
                .ticket_rows(TicketPlace { issued_revision: 0, friend_number: 0 })
                .map(|row| (row.id.clone(), row))
                .collect(),
            batches: channel.batch_rows().map(|row| (row.revision, row)).collect(),
        }
    }
}

fn check_friends(channel: &Channel, model: &Model) -> Result<(), TestCaseError> {
    for (number, friend) in &model.friends {
        let view = channel.friend_view(*number).unwrap();
        prop_assert_eq!(view.user_key, &friend.key);
        prop_assert_eq!(channel.number_of(&friend.key), Some(*number));
        prop_assert_eq!(view.state.status, friend.status);
        let attributes: Vec<_> = friend.attributes.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        prop_assert_eq!(view.attributes().collect::<Vec<_>>(), attributes);
        prop_assert!(view.state.consents.iter().eq(friend.consents.iter().copied()));
    }
    prop_assert_eq!(channel.summary().unwrap().next_friend_number, model.friends.len() as u32 + 1);
    for rule in some_rules() {
        for statuses in [Statuses::FRIENDS, Statuses::BLOCKED, Statuses::PRESENT, Statuses::ALL] {
            let selector = Selector::of(statuses).matching(&rule);
            let all = [FriendStatus::Friend, FriendStatus::Blocked, FriendStatus::Removed].into_iter();
            let mut expected: Vec<u32> =
                all.filter(|s| statuses.contains(*s)).flat_map(|s| model.matching(s, &rule)).collect();
            expected.sort_unstable();
            prop_assert!(channel.select(&selector).iter().eq(expected.iter().copied()));
            prop_assert_eq!(channel.count(&selector), expected.len() as u64);
            let mut paged = Vec::new();
            loop {
                let page = channel.friends(&selector, paged.last().copied().unwrap_or(0), 2);
                paged.extend(page.iter().map(|friend| friend.number));
                if page.len() < 2 {
                    break;
                }
            }
            prop_assert_eq!(&paged, &expected);
            let mut by_region: BTreeMap<String, u64> = BTreeMap::new();
            for number in &expected {
                let region = model.friends[number].attributes.get("region").cloned().unwrap_or_default();
                *by_region.entry(region).or_default() += 1;
            }
            let mut counted = channel.count_by(&selector, "region", usize::MAX).counts;
            counted.sort_unstable();
            prop_assert_eq!(counted, by_region.into_iter().collect::<Vec<_>>());
        }
    }
    Ok(())
}

fn check_tickets(channel: &Channel, model: &Model) -> Result<(), TestCaseError> {
    prop_assert_eq!(channel.counts().tickets, model.tickets.len() as u64);
    prop_assert_eq!(channel.counts().coupons, model.coupons.len() as u64);
    for (id, ticket) in &model.tickets {
        let state = channel.ticket(id).unwrap();
        prop_assert_eq!(&*state.coupon_id, ticket.coupon.as_str());
        prop_assert_eq!((state.place.friend_number, state.status), (ticket.friend, ticket.status));
        prop_assert_eq!(state.redemption.is_some(), ticket.status == TicketStatus::Redeemed);
    }
    let coupons = model.coupons.keys().map(|id| Some(id.as_str())).chain([None, Some("none")]);
    for coupon_id in coupons {
        for friend_number in [None, Some(1), Some(2), Some(99)] {
            let filter = TicketFilter { coupon_id, friend_number };
            let mut listed = Vec::new();
            loop {
                let page =
                    channel.tickets(&filter, listed.last().map(|ticket: &crate::TicketView| ticket.state.place), 2);
                let is_last = page.len() < 2;
                listed.extend(page);
                if is_last {
                    break;
                }
            }
            prop_assert!(listed.is_sorted_by(|a, b| a.state.place < b.state.place));
            let mut ids: Vec<&str> = listed.iter().map(|ticket| ticket.id.as_str()).collect();
            ids.sort_unstable();
            let expected = model.tickets.iter().filter(|(_, ticket)| {
                coupon_id.is_none_or(|id| id == ticket.coupon) && friend_number.is_none_or(|n| n == ticket.friend)
            });
            prop_assert_eq!(ids, expected.map(|(id, _)| id.as_str()).collect::<Vec<_>>());
            for ticket in &listed {
                prop_assert_eq!(channel.ticket_view(&ticket.id), Some(ticket.clone()));
            }
        }
    }
    let defined: Vec<_> = channel.coupons(0, usize::MAX);
    prop_assert!(defined.is_sorted_by(|a, b| a.state.defined_revision < b.state.defined_revision));
    prop_assert_eq!(defined.len(), model.coupons.len());
    if let [first, rest @ ..] = &defined[..] {
        let after: Vec<_> = channel.coupons(first.state.defined_revision, 100).iter().map(|coupon| coupon.id).collect();
        prop_assert_eq!(after, rest.iter().map(|coupon| coupon.id).collect::<Vec<_>>());
    }
    Ok(())
}

/// The generator must reach what the properties speak of, or they say nothing.
#[test]
fn random_histories_reach_every_event_and_most_refusals() {
    use proptest::{strategy::ValueTree, test_runner::TestRunner};
    let mut runner = TestRunner::deterministic();
    let (mut kinds, mut reasons) = (std::collections::BTreeSet::new(), std::collections::BTreeSet::new());
    for _ in 0..150 {
        let steps = steps(200).new_tree(&mut runner).unwrap().current();
        let history = History::of(&steps);
        let name = |event: &Event| format!("{event:?}").split([' ', '{']).next().unwrap_or_default().to_owned();
        kinds.extend(history.recorded.iter().map(|Recorded { event, .. }| name(event)));
        reasons.extend(history.refused.iter().map(|refusal| format!("{:?}", refusal.reason)));
    }
    assert_eq!(kinds.len(), 23, "{kinds:?}");
    // All but channel not found, too many attributes, label missing, friend and import limits.
    assert!(reasons.len() >= 25, "{} {reasons:?}", reasons.len());
}
