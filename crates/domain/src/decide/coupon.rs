//! Coupons and tickets: issued ≤ cap for ever, and one live redemption a ticket at most.

use super::{
    audience::{Drawn, rule_of},
    friend,
};
use crate::{
    Audience, CouponState, Event, Load, Reason, Refusal, Summary, TicketPlace, TicketState, TicketStatus, TimeWindow,
    UnixNanos, ticket_id,
};

pub(super) fn define(
    state: &impl Load,
    summary: &Summary,
    coupon_id: &str,
    name: &str,
    cap: u64,
    per_friend_limit: u32,
    window: TimeWindow,
) -> Result<Event, Refusal> {
    let coupon_id = match coupon_id {
        "" => made_id(state, summary.revision + 1),
        _ if state.coupon(coupon_id).is_some() => {
            let message = format!("coupon {coupon_id} is defined already");
            return Err(Refusal::new(Reason::CouponAlreadyDefined, message).with("coupon_id", coupon_id));
        }
        _ => coupon_id.to_owned(),
    };
    Ok(Event::CouponDefined { coupon_id, name: name.to_owned(), cap, per_friend_limit, window })
}

/// `c{revision}`, or the first of `c{revision}-2`, `-3` … that no client has taken before.
fn made_id(state: &impl Load, revision: u64) -> String {
    let mut id = format!("c{revision}");
    let mut more = 1u64;
    while state.coupon(&id).is_some() {
        more += 1;
        id = format!("c{revision}-{more}");
    }
    id
}

pub(super) fn issue(
    state: &impl Load,
    summary: &Summary,
    now: UnixNanos,
    coupon_id: &str,
    user_key: &str,
    ticket_id: &str,
) -> Result<Event, Refusal> {
    let coupon = issuing(state, now, coupon_id)?;
    let friend_number = friend::not_blocked(state, user_key)?;
    let ticket_id = match ticket_id {
        "" => ticket_id::make(coupon_id, TicketPlace { issued_revision: summary.revision + 1, friend_number }),
        _ if state.ticket(ticket_id).is_some() => {
            let message = format!("ticket {ticket_id} is issued already");
            return Err(Refusal::new(Reason::TicketAlreadyIssued, message).with("ticket_id", ticket_id));
        }
        _ => ticket_id.to_owned(),
    };
    check_cap(&coupon, coupon_id, 1)?;
    let limit = coupon.per_friend_limit;
    if limit > 0 && state.held(coupon_id, friend_number) >= limit {
        let message =
            format!("friend {friend_number} was issued {limit} tickets of coupon {coupon_id}, as many as one may");
        let refusal = Refusal::new(Reason::CouponFriendLimitReached, message);
        return Err(refusal.with("friend_number", friend_number).with("per_friend_limit", limit));
    }
    Ok(Event::TicketIssued { coupon_id: coupon_id.to_owned(), ticket_id, friend_number })
}

pub(super) fn issue_to_audience(
    state: &impl Load,
    summary: &Summary,
    now: UnixNanos,
    coupon_id: &str,
    audience: &Audience,
) -> Result<Event, Refusal> {
    let coupon = issuing(state, now, coupon_id)?;
    let mut drawn = Drawn::draw(state, audience)?;
    let excluded_at_limit = match coupon.per_friend_limit {
        0 => 0,
        _ => drawn.without(&state.at_limit(coupon_id)),
    };
    check_cap(&coupon, coupon_id, drawn.members.len())?;
    let audience_left =
        drawn.freeze(summary).map_err(|refusal| refusal.with("excluded_at_limit", excluded_at_limit))?;
    Ok(Event::TicketsIssued {
        coupon_id: coupon_id.to_owned(),
        rule: rule_of(audience),
        audience: audience_left,
        excluded_at_limit,
    })
}

pub(super) fn redeem(state: &impl Load, now: UnixNanos, id: &str) -> Result<Event, Refusal> {
    let ticket = issued(state, id)?;
    let coupon = found(state, &ticket.coupon_id)?;
    if !coupon.window.has_begun(now) {
        let message = format!("the window of coupon {} has not opened", ticket.coupon_id);
        let refusal = Refusal::new(Reason::CouponWindowNotOpen, message);
        return Err(with_window(refusal, &coupon.window));
    }
    if coupon.window.is_over(now) {
        return Err(over(&ticket.coupon_id, &coupon.window));
    }
    let (coupon_id, ticket_id, friend_number) = parts(ticket, id);
    Ok(Event::TicketRedeemed { coupon_id, ticket_id, friend_number })
}

pub(super) fn reverse(state: &impl Load, id: &str, reason: &str) -> Result<Event, Refusal> {
    let ticket = ticket(state, id)?;
    if ticket.status != TicketStatus::Redeemed {
        let message = format!("ticket {id} has no redemption to reverse");
        return Err(Refusal::new(Reason::TicketNotRedeemed, message).with("ticket_id", id));
    }
    let (coupon_id, ticket_id, friend_number) = parts(ticket, id);
    Ok(Event::RedemptionReversed { coupon_id, ticket_id, friend_number, reason: reason.to_owned() })
}

pub(super) fn void(state: &impl Load, id: &str, reason: &str) -> Result<Event, Refusal> {
    let (coupon_id, ticket_id, friend_number) = parts(issued(state, id)?, id);
    Ok(Event::TicketVoided { coupon_id, ticket_id, friend_number, reason: reason.to_owned() })
}

pub(super) fn expire(state: &impl Load, now: UnixNanos, id: &str) -> Result<Event, Refusal> {
    let ticket = issued(state, id)?;
    let coupon = found(state, &ticket.coupon_id)?;
    if !coupon.window.is_over(now) {
        let message = format!("the window of coupon {} is not over", ticket.coupon_id);
        return Err(with_window(Refusal::new(Reason::CouponWindowNotOver, message), &coupon.window));
    }
    let (coupon_id, ticket_id, friend_number) = parts(ticket, id);
    Ok(Event::TicketExpired { coupon_id, ticket_id, friend_number })
}

pub(super) fn close(state: &impl Load, coupon_id: &str, reason: &str) -> Result<Event, Refusal> {
    open(state, coupon_id)?;
    Ok(Event::CouponClosed { coupon_id: coupon_id.to_owned(), reason: reason.to_owned() })
}

fn parts(ticket: TicketState, id: &str) -> (String, String, u32) {
    (ticket.coupon_id.as_ref().to_owned(), id.to_owned(), ticket.place.friend_number)
}

fn found(state: &impl Load, coupon_id: &str) -> Result<CouponState, Refusal> {
    state.coupon(coupon_id).ok_or_else(|| {
        let message = format!("there is no coupon {coupon_id}");
        Refusal::new(Reason::CouponNotFound, message).with("coupon_id", coupon_id)
    })
}

fn open(state: &impl Load, coupon_id: &str) -> Result<CouponState, Refusal> {
    let coupon = found(state, coupon_id)?;
    if coupon.closed {
        let message = format!("coupon {coupon_id} is closed: it issues nothing any more");
        return Err(Refusal::new(Reason::CouponClosed, message).with("coupon_id", coupon_id));
    }
    Ok(coupon)
}

/// A coupon that issues tickets now; they may be issued before the window opens.
fn issuing(state: &impl Load, now: UnixNanos, coupon_id: &str) -> Result<CouponState, Refusal> {
    let coupon = open(state, coupon_id)?;
    if coupon.window.is_over(now) {
        return Err(over(coupon_id, &coupon.window));
    }
    Ok(coupon)
}

fn check_cap(coupon: &CouponState, coupon_id: &str, wanted: u64) -> Result<(), Refusal> {
    let remaining = coupon.remaining();
    if wanted <= remaining {
        return Ok(());
    }
    let message = format!("coupon {coupon_id} may issue {remaining} more of its {} tickets, not {wanted}", coupon.cap);
    let refusal = Refusal::new(Reason::CouponCapReached, message);
    Err(refusal.with("cap", coupon.cap).with("remaining", remaining).with("wanted", wanted))
}

fn ticket(state: &impl Load, id: &str) -> Result<TicketState, Refusal> {
    state.ticket(id).ok_or_else(|| {
        let message = format!("there is no ticket {id}");
        Refusal::new(Reason::TicketNotFound, message).with("ticket_id", id)
    })
}

/// A ticket to which nothing final and no live redemption has happened.
fn issued(state: &impl Load, id: &str) -> Result<TicketState, Refusal> {
    let ticket = ticket(state, id)?;
    let refusal = match ticket.status {
        TicketStatus::Issued => return Ok(ticket),
        TicketStatus::Redeemed => {
            let refusal = Refusal::new(Reason::TicketAlreadyRedeemed, format!("ticket {id} is redeemed already"));
            let revision = ticket.redemption.map_or(0, |redemption| redemption.revision);
            refusal.with("redeemed_revision", revision)
        }
        TicketStatus::Voided => Refusal::new(Reason::TicketVoided, format!("ticket {id} is void")),
        TicketStatus::Expired => Refusal::new(Reason::TicketExpired, format!("ticket {id} has expired")),
    };
    Err(refusal.with("ticket_id", id))
}

fn over(coupon_id: &str, window: &TimeWindow) -> Refusal {
    let message = format!("the window of coupon {coupon_id} is over");
    with_window(Refusal::new(Reason::CouponWindowOver, message), window)
}

fn with_window(mut refusal: Refusal, window: &TimeWindow) -> Refusal {
    if let Some(from) = window.from {
        refusal = refusal.with("window_from_unix_nanos", from);
    }
    if let Some(until) = window.until {
        refusal = refusal.with("window_until_unix_nanos", until);
    }
    refusal
}
