//! An overlay over a base that lags and is evicted at will decides exactly as one channel that folds at once.

use proptest::prelude::*;

use super::{
    histories::{History, answers, steps},
    *,
};
use crate::Held;

/// How far the base folds and the overlay is evicted after a step.
#[derive(Debug, Clone, Copy)]
struct Pace {
    fold: usize,
    /// Of what is folded, how much the overlay is told of.
    evict: u8,
    checks: bool,
}

fn paces() -> impl Strategy<Value = Vec<Pace>> {
    // Long lags: mostly nothing is folded, and now and then everything.
    let fold = prop_oneof![6 => Just(0usize), 2 => 1..4usize, 1 => Just(usize::MAX)];
    let pace = (fold, 0..5u8, prop::bool::weighted(0.2));
    prop::collection::vec(pace.prop_map(|(fold, evict, checks)| Pace { fold, evict, checks }), 1..30)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn decides_as_one_channel_would(steps in steps(200), paces in paces()) {
        let mut history = History::default();
        history.open();
        let (mut base, mut overlay) = (Channel::new(), Overlay::new());
        let mut folded = 0;
        let lay = |overlay: &mut Overlay, base: &Channel, history: &History, from: usize| {
            for (at, recorded) in history.recorded.iter().enumerate().skip(from) {
                let (stamp, revision) = (at as u64 + 1, recorded.revision);
                overlay.apply(base, stamp, revision, recorded.accepted_at, recorded.occurred_at, &recorded.event);
            }
        };
        lay(&mut overlay, &base, &history, 0);
        for (step, pace) in steps.into_iter().zip(paces.into_iter().cycle()) {
            let (known, refused) = (history.recorded.len(), history.refused.len());
            let (command, now) = history.step(step);
            match decide(&overlay.over(&base), &command, now) {
                Ok(events) => {
                    let full: Vec<Event> = history.recorded[known..].iter().map(|recorded| recorded.event.clone()).collect();
                    prop_assert_eq!(events, full);
                }
                Err(refusal) => prop_assert_eq!(Some(&refusal), history.refused.get(refused)),
            }
            lay(&mut overlay, &base, &history, known);

            let until = folded + pace.fold.min(history.recorded.len() - folded);
            history.recorded[folded..until].iter().for_each(|recorded| recorded.fold(&mut base));
            folded = until;
            match pace.evict {
                0 => {}
                1 => overlay.evict(folded as u64 / 2),
                _ => overlay.evict(folded as u64),
            }
            if folded == history.recorded.len() && pace.evict > 1 {
                prop_assert!(overlay.is_empty());
            }
            if pace.checks {
                let full = answers(&history.channel, &history.tickets);
                prop_assert_eq!(answers(&overlay.over(&base), &history.tickets), full);
            }
        }
        prop_assert_eq!(answers(&overlay.over(&base), &history.tickets), answers(&history.channel, &history.tickets));
    }

    #[test]
    fn counts_in_slices_are_counts(
        adds in prop::collection::vec(prop_oneof![
            (0..20u32).prop_map(|number| vec![number]),
            prop::collection::vec(0..20u32, 0..20),
        ], 0..60),
        least in 1..40u32,
        within in prop::collection::btree_set(0..20u32, 0..20),
    ) {
        let (mut held, mut counts) = (Held::default(), [0u32; 20]);
        for add in &adds {
            let numbers: RoaringBitmap = add.iter().copied().collect();
            match &add[..] {
                [one] => held.add_one(*one),
                _ => held.add_each(&numbers),
            }
            numbers.iter().for_each(|number| counts[number as usize] += 1);
        }
        let within: RoaringBitmap = within.into_iter().collect();
        let mut replaced = Held::default();
        replaced.add_each(&(0..20).collect());
        replaced.replace(&within, &held);
        for number in 0..20 {
            let count = counts[number as usize];
            prop_assert_eq!(held.get(number), count);
            prop_assert_eq!(held.of(&within).get(number), if within.contains(number) { count } else { 0 });
            prop_assert_eq!(replaced.get(number), if within.contains(number) { count } else { 1 });
            prop_assert_eq!(held.at_least(least).contains(number), count >= least);
        }
        held.set(3, least);
        prop_assert_eq!((held.get(3), held.get(4)), (least, counts[4]));
    }
}

#[test]
fn a_hot_row_stays_while_others_go() {
    let mut base = Channel::new();
    let events = [opened(), added(1, "a"), added(2, "b"), blocked(1)];
    let mut overlay = Overlay::new();
    for (revision, event) in (1..).zip(&events) {
        overlay.apply(&base, revision, revision, 1, None, event);
    }
    for (revision, event) in (1..=3).zip(&events) {
        base.apply(revision, 1, None, event);
    }
    overlay.evict(3);
    assert_eq!(overlay.over(&base).friend(1).unwrap().status, crate::FriendStatus::Blocked);
    assert_eq!(overlay.over(&base).number_of("a"), Some(1));
    assert!(!overlay.is_empty());
    base.apply(4, 1, None, &events[3]);
    overlay.evict(4);
    assert!(overlay.is_empty());
    assert_eq!(base.friend(1).unwrap().status, crate::FriendStatus::Blocked);
}
