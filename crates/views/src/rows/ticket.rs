//! Tickets issued one by one, 256 revisions a page; an issue to an audience as one row; and those of its tickets that
//! are no longer as issued, 256 friend numbers a page:
//! `[[id][coupon id][issued_revision][friend number][status u8][redemption: revision, at]…]`

use bincode::{Decode, Encode};
use sillok_domain::{BatchRow, Channel, Redemption, TicketPlace, TicketRow};

use super::{HOLDERS_A_PAGE, RestoreError, TICKET_REVISIONS_A_PAGE, ticket_status};
use crate::codec::{self, RowError};

#[derive(Encode, Decode)]
struct TicketPart {
    id: String,
    coupon_id: String,
    issued_revision: u64,
    friend_number: u32,
    status: u8,
    redemption: Option<(u64, i64)>,
}

impl TicketPart {
    fn of(row: TicketRow) -> TicketPart {
        TicketPart {
            id: row.id,
            coupon_id: row.coupon_id,
            issued_revision: row.issued_revision,
            friend_number: row.friend_number,
            status: row.status as u8,
            redemption: row.redemption.map(|redemption| (redemption.revision, redemption.at)),
        }
    }
}

#[derive(Encode, Decode)]
struct BatchPart {
    coupon_id: String,
    /// Portable Roaring bitmap.
    members: Vec<u8>,
}

fn before(issued_revision: u64, friend_number: u32) -> TicketPlace {
    TicketPlace { issued_revision, friend_number }
}

/// Tickets issued one by one in these revisions. Batches, whose tickets may be a million, are stepped over.
pub(super) fn page(channel: &Channel, page: u64, batches: &[u64]) -> Result<Vec<u8>, RowError> {
    let end = (page + 1) * TICKET_REVISIONS_A_PAGE;
    let mut from = page * TICKET_REVISIONS_A_PAGE;
    let mut tickets = Vec::new();
    while from < end {
        let batch = batches.get(batches.partition_point(|revision| *revision < from)).copied().unwrap_or(end).min(end);
        let rows = channel.ticket_rows(before(from, 0)).take_while(|row| row.issued_revision < batch);
        tickets.extend(rows.map(TicketPart::of));
        from = batch + 1;
    }
    codec::encode(&tickets)
}

/// Tickets of one batch, held by these friends, that are no longer as issued.
pub(super) fn batch_page(channel: &Channel, page: u64) -> Result<Vec<u8>, RowError> {
    let (revision, friends) = (page >> 24, page as u32 & 0x00ff_ffff);
    let rows = channel.ticket_rows(before(revision, friends * HOLDERS_A_PAGE));
    let rows = rows.take_while(|row| row.issued_revision == revision && row.friend_number / HOLDERS_A_PAGE == friends);
    codec::encode(&rows.map(TicketPart::of).collect::<Vec<_>>())
}

pub(super) fn restore(channel: &mut Channel, bytes: &[u8]) -> Result<bool, RestoreError> {
    for ticket in codec::decode::<Vec<TicketPart>>(bytes)? {
        channel.restore_ticket(&TicketRow {
            id: ticket.id,
            coupon_id: ticket.coupon_id,
            issued_revision: ticket.issued_revision,
            friend_number: ticket.friend_number,
            status: ticket_status(ticket.status)?,
            redemption: ticket.redemption.map(|(revision, at)| Redemption { revision, at }),
        })?;
    }
    Ok(true)
}

/// The issue to an audience at this revision.
pub(super) fn batch(channel: &Channel, revision: u64) -> Result<Vec<u8>, RowError> {
    let row = channel.batch_row(revision);
    codec::encode(&row.map(|row| BatchPart { members: codec::bitmap_bytes(&row.members), coupon_id: row.coupon_id }))
}

pub(super) fn restore_batch(channel: &mut Channel, revision: u64, bytes: &[u8]) -> Result<(), RestoreError> {
    // None: an issue that changed nothing, of a coupon that was never there.
    let Some(BatchPart { coupon_id, members }) = codec::decode(bytes)? else { return Ok(()) };
    let members: Vec<u8> = members;
    let members = codec::bitmap_of(&members).ok_or(RestoreError::Order)?;
    Ok(channel.restore_batch(BatchRow { revision, coupon_id, members })?)
}
