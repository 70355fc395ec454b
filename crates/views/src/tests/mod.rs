//! What the views promise, told on random histories.

mod aside;
mod budget;
mod fold;
mod listed;
mod paging;
mod speed;
mod spill;

use std::collections::{BTreeMap, BTreeSet};

use sillok_domain::{Condition, FriendView, Rule, Selector, Statuses, TicketFilter};

use crate::{ChannelTable, Views, testing::Model};

/// Everybody who ever was a friend, page by page.
pub(crate) fn friends<'a>(table: &'a ChannelTable, selector: &Selector<'_>, page: usize) -> Vec<FriendView<'a>> {
    let mut all: Vec<FriendView<'a>> = Vec::new();
    loop {
        let after = all.last().map_or(0, |friend| friend.number);
        let friends = table.friends(selector, after, page);
        if friends.is_empty() {
            return all;
        }
        all.extend(friends);
    }
}

/// Everything that can be asked of a channel, as text.
pub(crate) fn answers(table: &ChannelTable) -> Vec<String> {
    let revision = table.locators.len();
    let mut answers = vec![format!("revision {revision} changed {:?}", table.changed())];
    answers.extend(
        (0..=revision + 1).map(|revision| format!("{:?} {:?}", table.locate(revision), table.digests(revision))),
    );
    answers.extend(table.sends(u64::MAX, usize::MAX, None).iter().map(|row| {
        let audience = table.audience(row.revision).map(|audience| audience.iter().collect::<Vec<_>>());
        format!("{row:?} {audience:?}")
    }));
    answers.push(format!(
        "{} {} {:?}",
        table.message_count(),
        table.send_cost_won(),
        table.refused_by().collect::<Vec<_>>()
    ));
    answers
}

/// Friends, coupons and tickets against the model.
pub(crate) fn listings(table: &ChannelTable, model: &Model) {
    for (statuses, numbers) in
        [(Statuses::ALL, &[1, 2, 3][..]), (Statuses::PRESENT, &[1, 2]), (Statuses::BLOCKED, &[2])]
    {
        let listed = friends(table, &Selector::of(statuses), 3);
        let expected: Vec<u32> = model.with_status(numbers).into_iter().collect();
        assert_eq!(listed.iter().map(|friend| friend.number).collect::<Vec<_>>(), expected);
        assert_eq!(table.count(&Selector::of(statuses)), expected.len() as u64);
    }
    for friend in friends(table, &Selector::of(Statuses::ALL), 100) {
        let expected = &model.friends[&friend.number];
        assert_eq!((friend.user_key, friend.state.status as u8), (&expected.key[..], expected.status));
        let attributes = friend.attributes().map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(attributes.collect::<BTreeMap<_, _>>(), expected.attributes);
        assert_eq!(friend.state.consents.iter().collect::<BTreeSet<_>>(), expected.consents);
    }
    let rule = Rule { all_of: vec![Condition { key: "region".into(), any_of: vec!["v1".into()], negate: false }] };
    let matching = friends(table, &Selector::of(Statuses::PRESENT).matching(&rule), 2);
    let expected = model.with_status(&[1, 2]).into_iter();
    let expected = expected.filter(|number| model.friends[number].attributes.get("region").is_some_and(|v| v == "v1"));
    assert_eq!(matching.iter().map(|friend| friend.number).collect::<Vec<_>>(), expected.collect::<Vec<_>>());

    let tickets = table.tickets(&TicketFilter::default(), None, usize::MAX);
    let listed = tickets.iter().map(|ticket| {
        let (coupon, friend) = (ticket.state.coupon_id.to_string(), ticket.state.place.friend_number);
        (ticket.id.clone(), (coupon, friend, ticket.state.status as u8))
    });
    assert_eq!(listed.collect::<BTreeMap<_, _>>(), model.tickets);
    assert_eq!(tickets.len(), model.tickets.len());
    let coupons: BTreeSet<String> = table.coupons(0, usize::MAX).iter().map(|coupon| coupon.id.to_owned()).collect();
    assert_eq!(coupons, model.coupons);
}

/// The same for every channel, and how far the views are.
pub(crate) fn everything(views: &Views) -> Vec<String> {
    let mut all = Vec::new();
    let applied = views.read_channels(None, usize::MAX, |id, table| {
        all.push(id.to_owned());
        all.extend(answers(table));
    });
    all.push(format!("{applied:?}"));
    all
}
