//! Rows out, rows in.

use proptest::prelude::*;

use super::{
    histories::{History, answers, steps},
    invariants::Rows,
    *,
};
use crate::{RestoreError, TicketPlace};

const FIRST: TicketPlace = TicketPlace { issued_revision: 0, friend_number: 0 };

/// Through rows and back; coupons, batches and tickets the other way round.
pub(super) fn restore(channel: &Channel) -> Channel {
    let row = channel.channel_row().unwrap();
    let mut restored = Channel::restore(&row);
    channel.friend_rows(1).for_each(|row| restored.restore_friend(&row).unwrap());
    let backwards = |rows: Vec<_>| rows.into_iter().rev();
    backwards(channel.coupon_rows().collect()).for_each(|row| restored.restore_coupon(&row).unwrap());
    channel.batch_rows().collect::<Vec<_>>().into_iter().rev().for_each(|row| restored.restore_batch(row).unwrap());
    let tickets: Vec<_> = channel.ticket_rows(FIRST).collect();
    tickets.iter().rev().for_each(|row| restored.restore_ticket(row).unwrap());
    restored.restored(&row).unwrap();
    restored
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn a_restored_channel_is_the_same_and_goes_on_the_same(steps in steps(200), cut in any::<prop::sample::Index>()) {
        let cut = cut.index(steps.len());
        let mut history = History::of(&steps[..cut]);
        let mut restored = restore(&history.channel);
        prop_assert_eq!(Rows::of(&restored), Rows::of(&history.channel));
        prop_assert_eq!(restored.counts(), history.channel.counts());
        for step in &steps[cut..] {
            let known = history.recorded.len();
            let (command, now) = history.step(*step);
            let decided = decide(&restored, &command, now).unwrap_or_default();
            prop_assert!(decided.iter().eq(history.recorded[known..].iter().map(|recorded| &recorded.event)));
            history.recorded[known..].iter().for_each(|recorded| recorded.fold(&mut restored));
        }
        prop_assert_eq!(Rows::of(&restored), Rows::of(&history.channel));
        prop_assert_eq!(answers(&restored, &history.tickets), answers(&history.channel, &history.tickets));
        let all = crate::TicketFilter::default();
        prop_assert_eq!(restored.tickets(&all, None, 9_999), history.channel.tickets(&all, None, 9_999));
    }
}

fn shop() -> Channel {
    let mut channel = Channel::new();
    let events = [
        opened(),
        added_with(1, "a", &[("region", "서울")], &[Consent::Night]),
        added(2, "b"),
        coupon("k", 9, 2),
        issued("k", "t", 1),
        batch("k", [1, 2], 5),
        redeemed("k", "k.6.2", 2),
    ];
    for (revision, event) in (1..).zip(&events) {
        channel.apply(revision, 10, None, event);
    }
    channel
}

#[test]
fn only_what_happened_to_a_batch_has_rows_of_its_own() {
    let channel = shop();
    assert_eq!(channel.ticket_row("k.6.1"), None);
    assert!(channel.ticket("k.6.1").is_some());
    assert_eq!(channel.ticket_row("k.6.2").unwrap().friend_number, 2);
    let row = channel.channel_row().unwrap();
    assert_eq!((row.friend_count, row.coupon_count, row.batch_count, row.ticket_row_count), (2, 1, 1, 2));
}

#[test]
fn rows_that_do_not_fit_are_refused() {
    let channel = shop();
    let mut restored = restore(&channel);
    let friend = channel.friend_row(1).unwrap();
    assert_eq!(restored.restore_friend(&friend), Err(RestoreError::FriendOutOfOrder { expected: 3, got: 1 }));
    let twin = crate::FriendRow { number: 3, ..friend };
    assert_eq!(restored.restore_friend(&twin), Err(RestoreError::KeyRepeated { number: 3, other: 1 }));
    let coupon = channel.coupon_row("k").unwrap();
    assert!(matches!(restored.restore_coupon(&coupon), Err(RestoreError::CouponRepeated { .. })));
    let batch = channel.batch_row(6).unwrap();
    assert_eq!(restored.restore_batch(batch.clone()), Err(RestoreError::BatchRepeated { revision: 6 }));
    for id in ["t", "k.6.2"] {
        let ticket = channel.ticket_row(id).unwrap();
        assert_eq!(restored.restore_ticket(&ticket), Err(RestoreError::TicketRepeated { id: id.into() }));
    }
    let stray = crate::BatchRow { revision: 9, coupon_id: "m".into(), ..batch };
    assert!(matches!(restored.restore_batch(stray), Err(RestoreError::CouponMissing { .. })));
    let stray = crate::TicketRow { coupon_id: "m".into(), issued_revision: 9, ..channel.ticket_row("t").unwrap() };
    assert!(matches!(restored.restore_ticket(&stray), Err(RestoreError::CouponMissing { .. })));
}

#[test]
fn missing_rows_are_noticed() {
    let channel = shop();
    let row = channel.channel_row().unwrap();
    let mut restored = Channel::restore(&row);
    restored.restore_friend(&channel.friend_row(1).unwrap()).unwrap();
    let missing = RestoreError::Incomplete { kind: "friends", expected: 2, got: 1 };
    assert_eq!(restored.restored(&row), Err(missing));
}

#[test]
fn the_digest_of_a_friend_has_a_fixed_form() {
    let mut bytes = Vec::new();
    shop().friend_view(1).unwrap().digest_input(&mut bytes);
    let mut expected = vec![1, 0, 0, 0, 1, 2];
    for text in ["a", "region", "서울"] {
        expected.extend((text.len() as u32).to_le_bytes());
        expected.extend(text.as_bytes());
    }
    assert_eq!(bytes, expected);
}
