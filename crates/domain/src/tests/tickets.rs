use super::*;
use crate::{Redemption, TicketStatus};

fn redeem(ticket_id: &str) -> Intent {
    Intent::RedeemTicket { ticket_id: ticket_id.into() }
}

fn reverse(ticket_id: &str) -> Intent {
    Intent::ReverseRedemption { ticket_id: ticket_id.into(), reason: String::new() }
}

fn void(ticket_id: &str) -> Intent {
    Intent::VoidTicket { ticket_id: ticket_id.into(), reason: String::new() }
}

fn expire(ticket_id: &str) -> Intent {
    Intent::ExpireTicket { ticket_id: ticket_id.into() }
}

/// Ticket t of coupon k, which may be redeemed from 100 until 200, and what came after.
fn ticket(more: impl IntoIterator<Item = Event>) -> Given {
    let events = [opened(), added(1, "a"), coupon_in("k", 9, 0, window(100, 200)), issued("k", "t", 1)];
    given(events.into_iter().chain(more)).at(150)
}

#[test]
fn a_ticket_is_redeemed_once() {
    ticket([]).when(redeem("t")).then(redeemed("k", "t", 1));
    ticket([redeemed("k", "t", 1)]).when(redeem("t")).refused_with(
        Reason::TicketAlreadyRedeemed,
        "redeemed_revision",
        "5",
    );
    ticket([]).when(redeem("none")).refused(Reason::TicketNotFound);
}

#[test]
fn a_ticket_is_redeemed_in_its_window() {
    ticket([]).at(99).when(redeem("t")).refused(Reason::CouponWindowNotOpen);
    ticket([]).at(100).when(redeem("t")).accepted();
    ticket([]).at(199).when(redeem("t")).accepted();
    ticket([]).at(200).when(redeem("t")).refused(Reason::CouponWindowOver);
}

#[test]
fn a_backfill_is_judged_when_it_occurred_and_other_commands_are_not() {
    ticket([]).at(900).backfill(150).when(redeem("t")).accepted();
    ticket([]).at(900).backfill(250).when(redeem("t")).refused(Reason::CouponWindowOver);
    let mut late = ticket([]).at(900);
    late.context.occurred_at = Some(150);
    late.when(redeem("t")).refused(Reason::CouponWindowOver);
}

#[test]
fn a_reversed_redemption_may_be_redeemed_again() {
    ticket([redeemed("k", "t", 1)]).when(reverse("t")).then(reversed("k", "t", 1));
    ticket([redeemed("k", "t", 1), reversed("k", "t", 1)]).when(redeem("t")).accepted();
    ticket([redeemed("k", "t", 1), reversed("k", "t", 1)]).when(reverse("t")).refused(Reason::TicketNotRedeemed);
    ticket([]).when(reverse("t")).refused(Reason::TicketNotRedeemed);
    ticket([redeemed("k", "t", 1)]).at(999).when(reverse("t")).accepted();
}

#[test]
fn a_void_ticket_is_void_for_ever() {
    ticket([]).when(void("t")).then(voided("k", "t", 1));
    for intent in [redeem("t"), void("t"), expire("t")] {
        ticket([voided("k", "t", 1)]).at(999).when(intent).refused(Reason::TicketVoided);
    }
    ticket([voided("k", "t", 1)]).when(reverse("t")).refused(Reason::TicketNotRedeemed);
    ticket([redeemed("k", "t", 1)]).when(void("t")).refused(Reason::TicketAlreadyRedeemed);
}

#[test]
fn a_ticket_expires_when_its_window_is_over() {
    ticket([]).at(199).when(expire("t")).refused(Reason::CouponWindowNotOver);
    ticket([]).at(200).when(expire("t")).then(expired("k", "t", 1));
    ticket([redeemed("k", "t", 1)]).at(200).when(expire("t")).refused(Reason::TicketAlreadyRedeemed);
    for intent in [redeem("t"), void("t"), expire("t")] {
        ticket([expired("k", "t", 1)]).when(intent).refused(Reason::TicketExpired);
    }
    let endless = [opened(), added(1, "a"), coupon("k", 9, 0), issued("k", "t", 1)];
    given(endless).at(i64::MAX).when(expire("t")).refused(Reason::CouponWindowNotOver);
}

#[test]
fn a_ticket_stays_its_friends_also_when_the_friend_has_gone() {
    ticket([blocked(1)]).when(redeem("t")).accepted();
    ticket([removed(1)]).when(redeem("t")).accepted();
}

#[test]
fn tickets_of_a_closed_coupon_are_redeemed_in_their_window() {
    let close = || Event::CouponClosed { coupon_id: "k".into(), reason: String::new() };
    ticket([close()]).when(redeem("t")).accepted();
    ticket([close()]).at(200).when(redeem("t")).refused(Reason::CouponWindowOver);
}

#[test]
fn a_ticket_of_a_batch_is_a_ticket_like_any_other() {
    let of_batch = |more: Vec<Event>| {
        let events = [opened(), added(1, "a"), added(2, "b"), coupon("k", 9, 0), batch("k", [1, 2], 4)];
        given(events.into_iter().chain(more))
    };
    of_batch(vec![]).when(redeem("k.5.2")).then(redeemed("k", "k.5.2", 2));
    of_batch(vec![redeemed("k", "k.5.2", 2)]).when(redeem("k.5.2")).refused(Reason::TicketAlreadyRedeemed);
    of_batch(vec![redeemed("k", "k.5.2", 2)]).when(redeem("k.5.1")).accepted();
    for id in ["k.5.3", "k.05.2", "k.5.02", "k.4.2", "m.5.2", "5.2"] {
        of_batch(vec![]).when(redeem(id)).refused(Reason::TicketNotFound);
    }
    let (_, channel) = of_batch(vec![redeemed("k", "k.5.2", 2)]).when(void("k.5.1")).accepted();
    let coupon = channel.coupon("k").unwrap();
    assert_eq!((coupon.issued, coupon.redeemed, coupon.voided), (2, 1, 1));
}

#[test]
fn a_redemption_is_dated_when_it_occurred() {
    let (_, channel) = ticket([]).at(900).backfill(150).when(redeem("t")).accepted();
    let ticket = channel.ticket("t").unwrap();
    assert_eq!(ticket.status, TicketStatus::Redeemed);
    assert_eq!(ticket.redemption, Some(Redemption { revision: 5, at: 150 }));
}
