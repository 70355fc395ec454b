//! Pages are not a snapshot, and yet nobody who stays is missed or met twice.

use std::collections::BTreeSet;

use proptest::prelude::*;
use sillok_domain::{Selector, Statuses, TicketFilter, TicketPlace};

use crate::{
    Options, Views,
    testing::{Author, steps},
};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_friend_present_throughout_appears_exactly_once_while_others_come_and_go(
        steps in steps(300),
        from in 0usize..40,
        page in 1usize..6,
        stride in 1usize..9,
    ) {
        let author = Author::written(&steps);
        let views = Views::open(Options::in_memory(), |_| true);
        let mut to = from.min(author.entries.len());
        author.fold_to(&views, to);
        let present = |views: &Views| -> BTreeSet<u32> {
            views.with_channel("shop-0", |table| {
                table.map(|table| table.friends(&Selector::of(Statuses::PRESENT), 0, usize::MAX).iter().map(|f| f.number).collect())
            }).unwrap_or_default()
        };
        let mut throughout = present(&views);
        let mut seen = Vec::new();
        loop {
            let listed: Vec<u32> = views.with_channel("shop-0", |table| {
                let after = seen.last().copied().unwrap_or(0);
                table.map(|table| table.friends(&Selector::of(Statuses::PRESENT), after, page).iter().map(|f| f.number).collect())
            }).unwrap_or_default();
            if listed.is_empty() {
                break;
            }
            seen.extend(listed);
            // Others come and go between two pages, one entry at a time.
            for _ in 0..stride {
                to = (to + 1).min(author.entries.len());
                author.fold_to(&views, to);
                throughout = &throughout & &present(&views);
            }
        }
        prop_assert!(seen.is_sorted_by(|a, b| a < b), "{:?}", seen);
        let seen: BTreeSet<u32> = seen.into_iter().collect();
        prop_assert!(seen.is_superset(&throughout));
    }

    #[test]
    fn tickets_page_by_page_are_all_tickets_once(steps in steps(300), page in 1usize..5) {
        let author = Author::written(&steps);
        let views = Views::open(Options::in_memory(), |_| true);
        author.fold_all(&views);
        for (id, model) in author.models.iter().filter(|(_, model)| model.revision > 0) {
            views.with_channel(id, |table| {
                let table = table.unwrap();
                let mut all: Vec<(TicketPlace, String)> = Vec::new();
                loop {
                    let after = all.last().map(|(place, _)| *place);
                    let tickets = table.tickets(&TicketFilter::default(), after, page);
                    if tickets.is_empty() {
                        break;
                    }
                    all.extend(tickets.into_iter().map(|ticket| (ticket.state.place, ticket.id)));
                }
                assert!(all.is_sorted_by(|a, b| a.0 < b.0));
                let ids: Vec<&String> = all.iter().map(|(_, id)| id).collect();
                assert_eq!(ids.len(), model.tickets.len());
                assert!(ids.into_iter().all(|id| model.tickets.contains_key(id)));
            });
        }
    }
}
