//! `sillok coupon …`

use clap::{Args, Subcommand};
use sillok_wire::v1::{self, receipt::Detail};

use super::{AudienceArgs, Session, ask, channel::write_one, missing};
use crate::{
    args::{PageArgs, ReadArgs, WriteArgs},
    failure::Failure,
    format::{count, enum_name, parse_time, thousands, time, window},
    output::{read_line, receipt},
    table::{Card, Rows, clip},
};

#[derive(Subcommand)]
pub(crate) enum CouponCommand {
    /// Define a coupon
    Define(DefineArgs),
    /// Issue one ticket to one friend
    Issue {
        /// The channel's id
        channel: String,
        /// The coupon's id
        coupon: String,
        /// The friend's pseudonymous key
        user_key: String,
        /// The ticket's id; default: made by the leader
        #[arg(long, default_value = "", hide_default_value = true)]
        ticket: String,
        #[command(flatten)]
        write: WriteArgs,
    },
    /// Issue one ticket to each friend of an audience
    IssueMany {
        /// The channel's id
        channel: String,
        /// The coupon's id
        coupon: String,
        #[command(flatten)]
        audience: AudienceArgs,
        #[command(flatten)]
        write: WriteArgs,
    },
    /// Redeem a ticket
    Redeem(OneTicket),
    /// Take a redemption back: the ticket may be redeemed again
    Reverse {
        #[command(flatten)]
        ticket: OneTicket,
        /// At most 500 characters, recorded
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Make a ticket void
    Void {
        #[command(flatten)]
        ticket: OneTicket,
        /// At most 500 characters, recorded
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Record that a ticket's window is over
    Expire(OneTicket),
    /// Issue no more tickets of a coupon; those issued stay valid
    Close {
        /// The channel's id
        channel: String,
        /// The coupon's id
        coupon: String,
        /// At most 500 characters, recorded
        #[arg(long, default_value = "")]
        reason: String,
        #[command(flatten)]
        write: WriteArgs,
    },
    /// One coupon
    Show {
        /// The channel's id
        channel: String,
        /// The coupon's id
        coupon: String,
        #[command(flatten)]
        read: ReadArgs,
    },
    /// Every coupon of a channel
    List {
        /// The channel's id
        channel: String,
        #[command(flatten)]
        page: PageArgs,
        #[command(flatten)]
        read: ReadArgs,
    },
    /// One ticket
    Ticket {
        /// The channel's id
        channel: String,
        /// The ticket's id
        ticket: String,
        #[command(flatten)]
        read: ReadArgs,
    },
    /// Tickets of a coupon, of a friend, or all
    Tickets {
        /// The channel's id
        channel: String,
        /// The coupon's id
        #[arg(long, default_value = "", hide_default_value = true)]
        coupon: String,
        /// Held by this friend
        #[arg(long, default_value = "", hide_default_value = true, value_name = "USER_KEY")]
        friend: String,
        #[command(flatten)]
        page: PageArgs,
        #[command(flatten)]
        read: ReadArgs,
    },
}

#[derive(Args)]
pub(crate) struct DefineArgs {
    /// The channel's id
    channel: String,
    /// The coupon's id; default: made by the leader
    #[arg(default_value = "", hide_default_value = true)]
    coupon: String,
    /// What people see
    #[arg(long)]
    name: String,
    /// Tickets that may ever be issued
    #[arg(long)]
    cap: u64,
    /// Tickets one friend may ever be issued; 0: no limit but the cap
    #[arg(long, default_value_t = 1)]
    per_friend_limit: u32,
    /// First moment at which a ticket may be redeemed
    #[arg(long, value_parser = parse_time, value_name = "TIME")]
    from: Option<prost_types::Timestamp>,
    /// First moment at which it may no longer
    #[arg(long, value_parser = parse_time, value_name = "TIME")]
    until: Option<prost_types::Timestamp>,
    #[command(flatten)]
    write: WriteArgs,
}

#[derive(Args)]
pub(crate) struct OneTicket {
    /// The channel's id
    channel: String,
    /// The ticket's id
    ticket: String,
    #[command(flatten)]
    write: WriteArgs,
}

pub(crate) async fn run(command: CouponCommand, session: &Session) -> Result<(), Failure> {
    match command {
        CouponCommand::Define(define) => self::define(session, define).await,
        CouponCommand::Issue { channel, coupon, user_key, ticket, write } => {
            let request = v1::IssueTicketRequest {
                context: Some(write.context()),
                channel_id: channel,
                coupon_id: coupon,
                user_key: user_key.clone(),
                ticket_id: ticket,
            };
            let answer = session.api.execute(request).await?;
            let done = match &answer.detail {
                Some(Detail::Ticket(made)) => {
                    format!("ticket {} of {} is {user_key}'s", made.ticket_id, made.coupon_id)
                }
                _ => format!("a ticket is {user_key}'s"),
            };
            receipt(session.out, &answer, write.dry_run, &done)
        }
        CouponCommand::IssueMany { channel, coupon, audience, write } => {
            let (context, audience) = (Some(write.context()), Some(audience.audience()?));
            let request = v1::IssueTicketsRequest { context, channel_id: channel, coupon_id: coupon, audience };
            let answer = session.api.execute(request).await?;
            let done = match &answer.detail {
                Some(Detail::Ticket(made)) => issued_text(made),
                _ => "tickets issued".to_owned(),
            };
            receipt(session.out, &answer, write.dry_run, &done)
        }
        CouponCommand::Redeem(OneTicket { channel, ticket, write }) => {
            let done = format!("ticket {ticket} is redeemed");
            let request =
                v1::RedeemTicketRequest { context: Some(write.context()), channel_id: channel, ticket_id: ticket };
            write_one(session, request, &write, &done).await
        }
        CouponCommand::Reverse { ticket: OneTicket { channel, ticket, write }, reason } => {
            let done = format!("the redemption of {ticket} is reversed; it may be redeemed again");
            let context = Some(write.context());
            let request = v1::ReverseRedemptionRequest { context, channel_id: channel, ticket_id: ticket, reason };
            write_one(session, request, &write, &done).await
        }
        CouponCommand::Void { ticket: OneTicket { channel, ticket, write }, reason } => {
            let done = format!("ticket {ticket} is void");
            let context = Some(write.context());
            let request = v1::VoidTicketRequest { context, channel_id: channel, ticket_id: ticket, reason };
            write_one(session, request, &write, &done).await
        }
        CouponCommand::Expire(OneTicket { channel, ticket, write }) => {
            let done = format!("ticket {ticket} is expired");
            let request =
                v1::ExpireTicketRequest { context: Some(write.context()), channel_id: channel, ticket_id: ticket };
            write_one(session, request, &write, &done).await
        }
        CouponCommand::Close { channel, coupon, reason, write } => {
            let done = format!("coupon {coupon} issues no more tickets");
            let context = Some(write.context());
            let request = v1::CloseCouponRequest { context, channel_id: channel, coupon_id: coupon, reason };
            write_one(session, request, &write, &done).await
        }
        CouponCommand::Show { channel, coupon, read } => show(session, channel, coupon, &read).await,
        CouponCommand::List { channel, page, read } => list(session, channel, &page, &read).await,
        CouponCommand::Ticket { channel, ticket, read } => self::ticket(session, channel, ticket, &read).await,
        CouponCommand::Tickets { channel, coupon, friend, page, read } => {
            tickets(session, channel, coupon, friend, &page, &read).await
        }
    }
}

async fn define(session: &Session, define: DefineArgs) -> Result<(), Failure> {
    let request = v1::DefineCouponRequest {
        context: Some(define.write.context()),
        channel_id: define.channel,
        coupon_id: define.coupon,
        name: define.name.clone(),
        cap: define.cap,
        per_friend_limit: define.per_friend_limit,
        window: Some(v1::TimeWindow { from: define.from, until: define.until }),
    };
    let answer = session.api.execute(request).await?;
    let id = match &answer.detail {
        Some(Detail::Coupon(coupon)) => coupon.coupon_id.clone(),
        _ => String::new(),
    };
    let done = format!("coupon {id} ({}): {}", define.name, count(define.cap, "ticket", "tickets"));
    receipt(session.out, &answer, define.write.dry_run, &done)
}

fn issued_text(made: &v1::TicketDetail) -> String {
    let mut text = format!("{} of {} issued", count(made.issued_count, "ticket", "tickets"), made.coupon_id);
    if made.excluded_at_limit > 0 {
        let holders = count(made.excluded_at_limit, "friend", "friends");
        text.push_str(&format!("\nleft out: {holders} already at the limit"));
    }
    text
}

async fn show(session: &Session, channel: String, coupon: String, read: &ReadArgs) -> Result<(), Failure> {
    let request = v1::GetCouponRequest { options: read.options(), channel_id: channel, coupon_id: coupon };
    let answer = ask!(session, get_coupon, request);
    let coupon = answer.coupon.clone().ok_or_else(|| missing("the coupon"))?;
    session.out.answer("GetCouponResponse", &answer, || {
        let mut card = Card::new();
        card.push("coupon", &coupon.coupon_id)
            .push("name", &coupon.name)
            .push("status", if coupon.closed { "closed" } else { "open" })
            .push("redeemable", window(coupon.window.as_ref()))
            .push("per friend", limit(coupon.per_friend_limit))
            .push("issued", format!("{} of {}", thousands(coupon.issued_count), thousands(coupon.cap)))
            .push("redeemed", thousands(coupon.redeemed_count))
            .push("void", thousands(coupon.voided_count))
            .push("expired", thousands(coupon.expired_count))
            .push("defined", format!("revision {}", thousands(coupon.defined_revision)));
        format!("{}\n{}", card.render(), read_line(answer.info.as_ref()))
    })
}

fn limit(per_friend: u32) -> String {
    if per_friend == 0 { "no limit".to_owned() } else { thousands(per_friend.into()) }
}

async fn list(session: &Session, channel: String, page: &PageArgs, read: &ReadArgs) -> Result<(), Failure> {
    let mut answer = v1::ListCouponsResponse { next_page_token: page.page_token.clone(), ..Default::default() };
    loop {
        let request = v1::ListCouponsRequest {
            options: read.options(),
            channel_id: channel.clone(),
            page_size: page.next_size(answer.coupons.len()),
            page_token: answer.next_page_token.clone(),
        };
        let part = ask!(session, list_coupons, request);
        answer.coupons.extend(part.coupons);
        (answer.next_page_token, answer.info) = (part.next_page_token, part.info);
        if page.is_enough(answer.coupons.len(), &answer.next_page_token) {
            break;
        }
    }
    session.out.answer("ListCouponsResponse", &answer, || {
        let mut rows =
            Rows::new(&["coupon", "name", ">cap", ">per friend", ">issued", ">redeemed", "redeemable", "status"]);
        for coupon in &answer.coupons {
            rows.push([
                coupon.coupon_id.clone(),
                clip(&coupon.name, 40),
                thousands(coupon.cap),
                limit(coupon.per_friend_limit),
                thousands(coupon.issued_count),
                thousands(coupon.redeemed_count),
                window(coupon.window.as_ref()),
                if coupon.closed { "closed" } else { "open" }.to_owned(),
            ]);
        }
        page.with_more(rows.render(), &answer.next_page_token, answer.info.as_ref())
    })
}

fn redeemed_text(ticket: &v1::Ticket) -> String {
    match ticket.redeemed_revision {
        0 => "–".to_owned(),
        revision => format!("{}, revision {}", time(ticket.redeemed_at.as_ref()), thousands(revision)),
    }
}

async fn ticket(session: &Session, channel: String, ticket: String, read: &ReadArgs) -> Result<(), Failure> {
    let request = v1::GetTicketRequest { options: read.options(), channel_id: channel, ticket_id: ticket };
    let answer = ask!(session, get_ticket, request);
    let ticket = answer.ticket.clone().ok_or_else(|| missing("the ticket"))?;
    session.out.answer("GetTicketResponse", &answer, || {
        let mut card = Card::new();
        card.push("ticket", &ticket.ticket_id)
            .push("coupon", &ticket.coupon_id)
            .push("held by", format!("{} (friend {})", ticket.user_key, thousands(ticket.friend_number.into())))
            .push("status", enum_name(ticket.status().as_str_name(), "TICKET_STATUS_"))
            .push("issued", format!("revision {}", thousands(ticket.issued_revision)))
            .push("redeemed", redeemed_text(&ticket));
        format!("{}\n{}", card.render(), read_line(answer.info.as_ref()))
    })
}

async fn tickets(
    session: &Session,
    channel: String,
    coupon: String,
    friend: String,
    page: &PageArgs,
    read: &ReadArgs,
) -> Result<(), Failure> {
    let mut answer = v1::ListTicketsResponse { next_page_token: page.page_token.clone(), ..Default::default() };
    loop {
        let request = v1::ListTicketsRequest {
            options: read.options(),
            channel_id: channel.clone(),
            coupon_id: coupon.clone(),
            user_key: friend.clone(),
            page_size: page.next_size(answer.tickets.len()),
            page_token: answer.next_page_token.clone(),
        };
        let part = ask!(session, list_tickets, request);
        answer.tickets.extend(part.tickets);
        (answer.next_page_token, answer.info) = (part.next_page_token, part.info);
        if page.is_enough(answer.tickets.len(), &answer.next_page_token) {
            break;
        }
    }
    session.out.answer("ListTicketsResponse", &answer, || {
        let mut rows = Rows::new(&["ticket", "coupon", "friend", "status", ">issued at", "redeemed"]);
        for ticket in &answer.tickets {
            rows.push([
                ticket.ticket_id.clone(),
                ticket.coupon_id.clone(),
                ticket.user_key.clone(),
                enum_name(ticket.status().as_str_name(), "TICKET_STATUS_"),
                thousands(ticket.issued_revision),
                redeemed_text(ticket),
            ]);
        }
        page.with_more(rows.render(), &answer.next_page_token, answer.info.as_ref())
    })
}
