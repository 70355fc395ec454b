//! Which command comes next.
//!
//! Of what a platform does in a day, the kinds that exist: friend adds 8, redemptions 6, attributes 4, issues of tickets 3,
//! blocks 2, sends 1.5. Each friend and each ticket is in the public's eye for a while, when several clients ask about it at
//! once, and then rests for ever, so that its history stays short enough to be searched for a legal order.

use std::sync::atomic::Ordering;

use rand::{Rng as _, rngs::StdRng};
use sillok_client::commands;
use sillok_wire::v1;

use super::{COUPON, REGULARS, Shared};
use crate::history::{Action, Subject};

/// Friends in the eye at once.
const IN_EYE: u32 = 6;
/// Calls in a channel after which one of them leaves it: about so many are about each.
const TURNS: u64 = 16;
/// Won for each message.
const PRICE_WON: i64 = 15;

/// The user key of a regular.
pub(super) fn regular(number: u32) -> String {
    format!("regular-{number}")
}

/// The user key of a friend.
pub(super) fn friend(number: u32) -> String {
    format!("guest-{number}")
}

/// The id of a ticket.
pub(super) fn ticket(number: u32) -> String {
    format!("ticket-{number}")
}

impl Shared {
    /// Somebody in the public's eye.
    fn in_eye(&self, channel: u32, random: &mut StdRng) -> u32 {
        let turns = self.turns[channel as usize].fetch_add(1, Ordering::Relaxed);
        // A drill makes far fewer calls than 2^32.
        (turns / TURNS) as u32 + random.random_range(0..IN_EYE)
    }

    /// Where and what a writer asks for next.
    pub(super) fn next_action(&self, random: &mut StdRng) -> (u32, Action) {
        let channel = random.random_range(0..self.load.channels.count);
        let number = self.in_eye(channel, random);
        let broadcasting = self.bodies.load(Ordering::Relaxed);
        let action = match random.random_range(0..if broadcasting { 300 } else { 245 }) {
            0..70 => Action::Add(number),
            70..80 => Action::Remove(number),
            80..135 => Action::Redeem(number),
            135..145 => Action::Reverse(number),
            145..180 => Action::Attribute(number),
            180..210 => Action::Issue(number),
            210..222 => Action::Block(number),
            222..230 => Action::Unblock(number),
            230..236 => Action::Push(number),
            236..243 => Action::Narrowcast,
            _ => Action::Broadcast,
        };
        (channel, action)
    }

    /// Where and about what a reader asks next.
    pub(super) fn next_subject(&self, random: &mut StdRng) -> (u32, Subject) {
        let channel = random.random_range(0..self.load.channels.count);
        let number = self.in_eye(channel, random);
        let subject = match random.random_range(0..10) {
            0..4 => Subject::Friend(number),
            4..8 => Subject::Ticket(number),
            _ => Subject::Channel,
        };
        (channel, subject)
    }
}

/// The command of an action, always the same for the same arguments.
pub(super) fn command(id: String, action: Action, serial: u64) -> v1::Command {
    let text = || commands::body(format!("오늘도 정상 영업합니다. 알림 {serial}번입니다."), PRICE_WON);
    match action {
        Action::Add(n) => commands::add_friend(id, friend(n)).into(),
        Action::Block(n) => commands::block_friend(id, friend(n)).into(),
        Action::Unblock(n) => commands::unblock_friend(id, friend(n)).into(),
        Action::Remove(n) => commands::remove_friend(id, friend(n)).into(),
        Action::Attribute(n) => {
            commands::set_attributes(id, friend(n), [("visits".to_owned(), serial.to_string())], []).into()
        }
        Action::Push(n) => commands::send_push(id, friend(n), text()).into(),
        Action::Narrowcast => {
            let first = (serial % u64::from(REGULARS / 2)) as u32;
            let group = (first..first + REGULARS / 2).map(regular);
            commands::send_narrowcast(id, commands::by_keys(group), text()).into()
        }
        Action::Broadcast => commands::send_broadcast(id, text()).into(),
        Action::Issue(n) => {
            let holder = regular(n % REGULARS);
            v1::IssueTicketRequest { ticket_id: ticket(n), ..commands::issue_ticket(id, COUPON, holder) }.into()
        }
        Action::Redeem(n) => commands::redeem_ticket(id, ticket(n)).into(),
        Action::Reverse(n) => commands::reverse_redemption(id, ticket(n), "손님이 취소함").into(),
        // Made where the channel is prepared, and never asked for again.
        Action::Prepare => v1::Command::default(),
    }
}
