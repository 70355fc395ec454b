use super::*;
use crate::TicketPlace;

fn define(coupon_id: &str) -> Intent {
    Intent::DefineCoupon {
        coupon_id: coupon_id.into(),
        name: "열 잔".into(),
        cap: 3,
        per_friend_limit: 0,
        window: TimeWindow::default(),
    }
}

fn issue(user_key: &str, ticket_id: &str) -> Intent {
    Intent::IssueTicket { coupon_id: "k".into(), user_key: user_key.into(), ticket_id: ticket_id.into() }
}

fn issue_to(audience: Audience) -> Intent {
    Intent::IssueTickets { coupon_id: "k".into(), audience }
}

fn everybody() -> Audience {
    Audience::Rule(Rule::default())
}

fn shop(more: impl IntoIterator<Item = Event>) -> Given {
    given([opened(), added(1, "a"), added(2, "b"), added(3, "c")].into_iter().chain(more))
}

#[test]
fn a_coupon_is_defined_once() {
    given([opened()]).when(define("k")).then(coupon("k", 3, 0));
    given([opened(), coupon("k", 3, 0)]).when(define("k")).refused(Reason::CouponAlreadyDefined);
    let end = Event::CouponClosed { coupon_id: "k".into(), reason: String::new() };
    given([opened(), coupon("k", 3, 0), end]).when(define("k")).refused(Reason::CouponAlreadyDefined);
}

#[test]
fn a_coupon_without_an_id_is_named_after_its_revision() {
    given([opened()]).when(define("")).then(coupon("c2", 3, 0));
    given([opened(), coupon("c3", 3, 0)]).when(define("")).then(coupon("c3-2", 3, 0));
}

#[test]
fn a_ticket_without_an_id_is_named_after_its_place() {
    shop([coupon("k", 3, 0)]).when(issue("b", "")).then(issued("k", "k.6.2", 2));
    shop([coupon("k", 3, 0)]).when(issue("b", "mine")).then(issued("k", "mine", 2));
}

#[test]
fn a_ticket_id_is_used_once_in_the_channel() {
    shop([coupon("k", 3, 0), coupon("m", 3, 0), issued("m", "mine", 1)])
        .when(issue("b", "mine"))
        .refused(Reason::TicketAlreadyIssued);
    shop([coupon("k", 3, 0), issued("k", "mine", 1), voided("k", "mine", 1)])
        .when(issue("b", "mine"))
        .refused(Reason::TicketAlreadyIssued);
}

#[test]
fn tickets_are_issued_to_friends_only() {
    let coupon = coupon("k", 3, 0);
    shop([coupon.clone()]).when(issue("nobody", "")).refused(Reason::FriendNotFound);
    shop([coupon.clone(), removed(1)]).when(issue("a", "")).refused(Reason::FriendNotFound);
    shop([coupon, blocked(1)]).when(issue("a", "")).refused(Reason::FriendBlocked);
    shop([]).when(issue("a", "")).refused(Reason::CouponNotFound);
}

#[test]
fn the_cap_holds_for_ever_also_after_voids() {
    let events = [coupon("k", 2, 0), issued("k", "t", 1), voided("k", "t", 1)];
    shop(events.clone()).when(issue("a", "")).accepted();
    let full = events.into_iter().chain([issued("k", "u", 1)]);
    shop(full).when(issue("a", "")).refused_with(Reason::CouponCapReached, "remaining", "0");
}

#[test]
fn one_friend_gets_no_more_than_the_limit() {
    let events = [coupon("k", 9, 2), issued("k", "t", 1), voided("k", "t", 1), issued("k", "u", 1)];
    shop(events.clone()).when(issue("a", "")).refused(Reason::CouponFriendLimitReached);
    shop(events).when(issue("b", "")).accepted();
}

#[test]
fn a_closed_coupon_issues_nothing() {
    let events = [coupon("k", 9, 0), Event::CouponClosed { coupon_id: "k".into(), reason: String::new() }];
    shop(events.clone()).when(issue("a", "")).refused(Reason::CouponClosed);
    shop(events.clone()).when(issue_to(everybody())).refused(Reason::CouponClosed);
    let close = Intent::CloseCoupon { coupon_id: "k".into(), reason: String::new() };
    shop(events).when(close).refused(Reason::CouponClosed);
    let close = Intent::CloseCoupon { coupon_id: "none".into(), reason: String::new() };
    shop([]).when(close).refused(Reason::CouponNotFound);
}

#[test]
fn tickets_are_issued_before_the_window_and_in_it_but_not_after() {
    let events = || shop([coupon_in("k", 9, 0, window(100, 200))]);
    events().at(50).when(issue("a", "")).accepted();
    events().at(199).when(issue("a", "")).accepted();
    events().at(200).when(issue("a", "")).refused(Reason::CouponWindowOver);
    events().at(900).backfill(150).when(issue("a", "")).accepted();
    events().at(200).when(issue_to(everybody())).refused(Reason::CouponWindowOver);
}

#[test]
fn an_audience_gets_a_ticket_each() {
    let (events, channel) = shop([coupon("k", 9, 1), blocked(3)]).when(issue_to(everybody())).accepted();
    let audience = FrozenAudience { excluded_blocked: 1, ..frozen([1, 2], 6) };
    let (coupon_id, rule) = ("k".into(), Some(Rule::default()));
    assert_eq!(events, [Event::TicketsIssued { coupon_id, rule, audience, excluded_at_limit: 0 }]);
    let ticket = channel.ticket("k.7.2").unwrap();
    assert_eq!(ticket.place, TicketPlace { issued_revision: 7, friend_number: 2 });
    assert_eq!(channel.ticket("k.7.3"), None);
    assert_eq!(channel.coupon("k").unwrap().issued, 2);
}

#[test]
fn an_issue_to_an_audience_leaves_out_and_counts_those_at_the_limit() {
    let events = [coupon("k", 9, 1), issued("k", "t", 2)];
    let (events, channel) = shop(events.clone()).when(issue_to(everybody())).accepted();
    let Event::TicketsIssued { audience, excluded_at_limit, .. } = &events[0] else { panic!("{events:?}") };
    assert_eq!((audience, *excluded_at_limit), (&frozen([1, 3], 6), 1));
    assert_eq!(channel.at_limit("k"), [1, 2, 3].into_iter().collect());
    let events = [coupon("k", 9, 1), issued("k", "t", 2)];
    shop(events).when(issue_to(keys(&["b"]))).refused_with(Reason::AudienceEmpty, "excluded_at_limit", "1");
}

#[test]
fn an_issue_beyond_the_cap_issues_nothing() {
    let events = [coupon("k", 4, 0), issued("k", "t", 2), issued("k", "u", 2)];
    let when = shop(events.clone()).when(issue_to(everybody()));
    when.refused_with(Reason::CouponCapReached, "remaining", "2");
    shop(events).when(issue_to(keys(&["a", "b"]))).accepted();
}
