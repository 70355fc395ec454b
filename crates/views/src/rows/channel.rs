//! `[status u8][name][revision][opened_at][friends ever][coupons ever][batches][ticket rows]`

use bincode::{Decode, Encode};
use sillok_domain::{ChannelRow, ChannelStatus};

use super::RestoreError;

/// The channel's own row, inside the header.
#[derive(Debug, Encode, Decode)]
pub(super) struct ChannelPart {
    status: u8,
    name: String,
    revision: u64,
    opened_at: i64,
    friend_count: u32,
    coupon_count: u64,
    batch_count: u64,
    ticket_row_count: u64,
}

impl ChannelPart {
    pub(super) fn of(row: &ChannelRow) -> ChannelPart {
        ChannelPart {
            status: row.status as u8,
            name: row.name.clone(),
            revision: row.revision,
            opened_at: row.opened_at,
            friend_count: row.friend_count,
            coupon_count: row.coupon_count,
            batch_count: row.batch_count,
            ticket_row_count: row.ticket_row_count,
        }
    }

    pub(super) fn row(&self) -> Result<ChannelRow, RestoreError> {
        Ok(ChannelRow {
            status: ChannelStatus::from_number(self.status).ok_or(RestoreError::Number(self.status))?,
            name: self.name.clone(),
            revision: self.revision,
            opened_at: self.opened_at,
            friend_count: self.friend_count,
            coupon_count: self.coupon_count,
            batch_count: self.batch_count,
            ticket_row_count: self.ticket_row_count,
        })
    }
}
