//! A channel as rows, and back.

use super::{
    Channel,
    coupons::{Clash, Ticket},
    rows::{BatchRow, ChannelRow, CouponRow, FriendRow, RestoreError, TicketRow},
};
use crate::{Attribute, FriendState, Load, Summary, TicketPlace, channel::apply::pairs};

impl Channel {
    /// The channel's own row; `None`: never opened.
    pub fn channel_row(&self) -> Option<ChannelRow> {
        let summary = self.summary.as_ref()?;
        Some(ChannelRow {
            status: summary.status,
            name: summary.name.to_string(),
            revision: summary.revision,
            opened_at: summary.opened_at,
            friend_count: self.friends.count(),
            coupon_count: self.coupons.by_revision.len() as u64,
            batch_count: self.coupons.batches.len() as u64,
            ticket_row_count: self.coupons.tickets.len() as u64,
        })
    }

    /// A friend's row. Numbers are 1 to [`ChannelRow::friend_count`].
    pub fn friend_row(&self, number: u32) -> Option<FriendRow> {
        let view = self.friend_view(number)?;
        let attributes = view.attributes();
        Some(FriendRow {
            number,
            user_key: view.user_key.to_owned(),
            status: view.state.status,
            source: view.state.source,
            consents: view.state.consents,
            attributes: attributes.map(|(key, value)| Attribute { key: key.into(), value: value.into() }).collect(),
            added_revision: view.state.added_revision,
            added_at: view.state.added_at,
        })
    }

    /// A coupon's row.
    pub fn coupon_row(&self, id: &str) -> Option<CouponRow> {
        let view = self.coupon_view(id)?;
        Some(CouponRow { id: view.id.to_owned(), name: view.name.to_owned(), state: view.state })
    }

    /// A ticket's row; `None` for one of a batch to which nothing happened.
    pub fn ticket_row(&self, id: &str) -> Option<TicketRow> {
        let place = self.coupons.find(id)?;
        self.row_of_ticket(place, self.coupons.tickets.get(&place)?)
    }

    fn row_of_ticket(&self, place: TicketPlace, ticket: &Ticket) -> Option<TicketRow> {
        let coupon = self.coupons.by_revision.get(&ticket.coupon)?;
        Some(TicketRow {
            id: self.coupons.id_at(&coupon.id, place),
            coupon_id: coupon.id.to_string(),
            issued_revision: place.issued_revision,
            friend_number: place.friend_number,
            status: ticket.status,
            redemption: ticket.redemption(),
        })
    }

    /// The row of the issue to an audience at this revision.
    pub fn batch_row(&self, revision: u64) -> Option<BatchRow> {
        let batch = self.coupons.batches.get(&revision)?;
        let coupon_id = self.coupons.by_revision.get(&batch.coupon)?.id.to_string();
        Some(BatchRow { revision, coupon_id, members: batch.members.clone() })
    }

    /// Every friend row from this number on, ascending.
    pub fn friend_rows(&self, from_number: u32) -> impl Iterator<Item = FriendRow> + '_ {
        (from_number.max(1)..=self.friends.count()).filter_map(|number| self.friend_row(number))
    }

    /// Every coupon row, in the order of definition.
    pub fn coupon_rows(&self) -> impl Iterator<Item = CouponRow> + '_ {
        self.coupons.by_revision.values().map(|coupon| CouponRow {
            id: coupon.id.to_string(),
            name: coupon.name.to_string(),
            state: coupon.state,
        })
    }

    /// Every batch row, ascending by revision.
    pub fn batch_rows(&self) -> impl Iterator<Item = BatchRow> + '_ {
        self.coupons.batches.keys().filter_map(|revision| self.batch_row(*revision))
    }

    /// Every ticket row at or behind this place, ascending by place.
    pub fn ticket_rows(&self, from: TicketPlace) -> impl Iterator<Item = TicketRow> + '_ {
        self.coupons.tickets.range(from..).filter_map(|(place, ticket)| self.row_of_ticket(*place, ticket))
    }

    /// Begins a restoration. Then come, each kind whole before the next: friends ascending by number; coupons; batches;
    /// tickets (the latter three in any order); and [`Channel::restored`] at the end.
    pub fn restore(row: &ChannelRow) -> Channel {
        let summary = Summary {
            status: row.status,
            name: row.name.as_str().into(),
            revision: row.revision,
            next_friend_number: 1,
            opened_at: row.opened_at,
        };
        Channel { summary: Some(summary), ..Channel::default() }
    }

    /// See [`Channel::restore`].
    ///
    /// # Errors
    /// Where the number is not the next one, or the key is another friend's.
    pub fn restore_friend(&mut self, row: &FriendRow) -> Result<(), RestoreError> {
        let expected = self.friends.count() + 1;
        if row.number != expected {
            return Err(RestoreError::FriendOutOfOrder { expected, got: row.number });
        }
        let state = FriendState {
            status: row.status,
            consents: row.consents,
            source: row.source,
            added_revision: row.added_revision,
            added_at: row.added_at,
        };
        if !self.friends.add(row.number, &row.user_key, state, pairs(&row.attributes)) {
            let other = self.number_of(&row.user_key).unwrap_or_default();
            return Err(RestoreError::KeyRepeated { number: row.number, other });
        }
        if let Some(summary) = &mut self.summary {
            summary.next_friend_number = expected + 1;
        }
        Ok(())
    }

    /// See [`Channel::restore`].
    ///
    /// # Errors
    /// Where its id or its revision is there already.
    pub fn restore_coupon(&mut self, row: &CouponRow) -> Result<(), RestoreError> {
        if self.coupons.define(&row.id, &row.name, row.state) {
            return Ok(());
        }
        Err(RestoreError::CouponRepeated { id: row.id.clone(), revision: row.state.defined_revision })
    }

    /// See [`Channel::restore`].
    ///
    /// # Errors
    /// Where its coupon is missing or its revision is there already.
    pub fn restore_batch(&mut self, row: BatchRow) -> Result<(), RestoreError> {
        let revision = row.revision;
        self.coupons.put_batch(&row.coupon_id, revision, row.members).map_err(|clash| match clash {
            Clash::NoCoupon => RestoreError::CouponMissing { coupon_id: row.coupon_id.clone(), revision },
            Clash::Repeated => RestoreError::BatchRepeated { revision },
        })
    }

    /// See [`Channel::restore`].
    ///
    /// # Errors
    /// Where its coupon is missing or it is there already.
    pub fn restore_ticket(&mut self, row: &TicketRow) -> Result<(), RestoreError> {
        let place = TicketPlace { issued_revision: row.issued_revision, friend_number: row.friend_number };
        let batch = self.coupons.batches.get(&place.issued_revision);
        let of_batch = batch.is_some_and(|batch| batch.members.contains(place.friend_number));
        if of_batch && self.coupons.tickets.contains_key(&place) {
            return Err(RestoreError::TicketRepeated { id: row.id.clone() });
        }
        if !of_batch {
            self.coupons.put_single(&row.coupon_id, &row.id, place).map_err(|clash| match clash {
                Clash::NoCoupon => {
                    RestoreError::CouponMissing { coupon_id: row.coupon_id.clone(), revision: place.issued_revision }
                }
                Clash::Repeated => RestoreError::TicketRepeated { id: row.id.clone() },
            })?;
        }
        self.coupons.put_state(place, row.status, row.redemption);
        Ok(())
    }

    /// Ends a restoration: whether every row that the channel's own row counted has come.
    ///
    /// # Errors
    /// Where rows are missing or left over.
    pub fn restored(&self, row: &ChannelRow) -> Result<(), RestoreError> {
        let kinds = [
            ("friends", u64::from(row.friend_count), u64::from(self.friends.count())),
            ("coupons", row.coupon_count, self.coupons.by_revision.len() as u64),
            ("batches", row.batch_count, self.coupons.batches.len() as u64),
            ("tickets", row.ticket_row_count, self.coupons.tickets.len() as u64),
        ];
        match kinds.into_iter().find(|(_, expected, got)| expected != got) {
            None => Ok(()),
            Some((kind, expected, got)) => Err(RestoreError::Incomplete { kind, expected, got }),
        }
    }
}
