//! Coupons and tickets. Coupons are ordered by the revision that defined them, tickets by the one that issued them and then by
//! friend number.

use sillok_domain::{CouponView, Load as _, TicketFilter, TicketPlace, TicketStatus, TicketView};
use sillok_views::ChannelTable;
use sillok_wire::{
    errors::Problem,
    timestamp,
    v1::{self, Reason},
};
use tonic::Status;

use super::{Queries, ask, friends};
use crate::grpc::page::{self, Scope};

impl Queries {
    pub(super) async fn get_coupon(&self, request: v1::GetCouponRequest) -> Result<v1::GetCouponResponse, Status> {
        ask::channel_id(&request.channel_id)?;
        ask::coupon_id(&request.coupon_id)?;
        let info = self.ready(request.options.as_ref()).await?;
        let (info, coupon) = self.channel(info, &request.channel_id, |table| {
            table.coupon_view(&request.coupon_id).map(coupon).ok_or_else(|| coupon_not_found(&request.coupon_id))
        })?;
        Ok(v1::GetCouponResponse { info: Some(info), coupon: Some(coupon) })
    }

    pub(super) async fn list_coupons(
        &self,
        request: v1::ListCouponsRequest,
    ) -> Result<v1::ListCouponsResponse, Status> {
        ask::channel_id(&request.channel_id)?;
        let size = page::size(request.page_size)?;
        let scope = Scope::of("ListCoupons").and(request.channel_id.as_bytes());
        let after = scope.last_number(&request.page_token)?.unwrap_or(0);
        let info = self.ready(request.options.as_ref()).await?;
        let (info, mut coupons) = self.channel(info, &request.channel_id, |table| {
            Ok(table.coupons(after, size + 1).into_iter().map(coupon).collect::<Vec<_>>())
        })?;
        let more = coupons.len() > size;
        coupons.truncate(size);
        let next = coupons.last().filter(|_| more).map(|last| scope.token_after_number(last.defined_revision));
        Ok(v1::ListCouponsResponse { info: Some(info), coupons, next_page_token: next.unwrap_or_default() })
    }

    pub(super) async fn get_ticket(&self, request: v1::GetTicketRequest) -> Result<v1::GetTicketResponse, Status> {
        ask::channel_id(&request.channel_id)?;
        ask::ticket_id(&request.ticket_id)?;
        let info = self.ready(request.options.as_ref()).await?;
        let (info, ticket) = self.channel(info, &request.channel_id, |table| {
            let state = table.ticket(&request.ticket_id).ok_or_else(|| {
                ask::failed(Reason::TicketNotFound, format!("there is no ticket {:?}", request.ticket_id))
                    .with("ticket_id", &request.ticket_id)
            })?;
            Ok(ticket(table, TicketView { id: request.ticket_id.clone(), state }))
        })?;
        Ok(v1::GetTicketResponse { info: Some(info), ticket: Some(ticket) })
    }

    pub(super) async fn list_tickets(
        &self,
        request: v1::ListTicketsRequest,
    ) -> Result<v1::ListTicketsResponse, Status> {
        ask::channel_id(&request.channel_id)?;
        let of_coupon = (!request.coupon_id.is_empty()).then_some(request.coupon_id.as_str());
        let of_friend = (!request.user_key.is_empty()).then_some(request.user_key.as_str());
        of_coupon.map_or(Ok(()), ask::coupon_id)?;
        of_friend.map_or(Ok(()), ask::user_key)?;
        let size = page::size(request.page_size)?;
        let scope = Scope::of("ListTickets")
            .and(request.channel_id.as_bytes())
            .and(request.coupon_id.as_bytes())
            .and(request.user_key.as_bytes());
        let after = scope.last_key(&request.page_token)?.map(|key| place_of(&key)).transpose()?;

        let info = self.ready(request.options.as_ref()).await?;
        let (info, mut tickets) = self.channel(info, &request.channel_id, |table| {
            if let Some(id) = of_coupon
                && table.coupon(id).is_none()
            {
                return Err(coupon_not_found(id));
            }
            let friend_number = of_friend.map(|key| friends::number(table, key)).transpose()?;
            let filter = TicketFilter { coupon_id: of_coupon, friend_number };
            let views = table.tickets(&filter, after, size + 1);
            Ok(views.into_iter().map(|view| ticket(table, view)).collect::<Vec<_>>())
        })?;
        let more = tickets.len() > size;
        tickets.truncate(size);
        let next = tickets.last().filter(|_| more).map(|last| {
            scope.token(&place_key(TicketPlace {
                issued_revision: last.issued_revision,
                friend_number: last.friend_number,
            }))
        });
        Ok(v1::ListTicketsResponse { info: Some(info), tickets, next_page_token: next.unwrap_or_default() })
    }
}

fn coupon_not_found(id: &str) -> Problem {
    ask::failed(Reason::CouponNotFound, format!("there is no coupon {id:?}")).with("coupon_id", id)
}

/// A place as the last key of a page: revision u64, friend number u32, little endian.
fn place_key(place: TicketPlace) -> [u8; 12] {
    let mut key = [0; 12];
    key[..8].copy_from_slice(&place.issued_revision.to_le_bytes());
    key[8..].copy_from_slice(&place.friend_number.to_le_bytes());
    key
}

fn place_of(key: &[u8]) -> Result<TicketPlace, Status> {
    let parts = key.split_first_chunk::<8>().and_then(|(revision, rest)| {
        Some(TicketPlace {
            issued_revision: u64::from_le_bytes(*revision),
            friend_number: u32::from_le_bytes(<[u8; 4]>::try_from(rest).ok()?),
        })
    });
    parts.ok_or_else(|| page::invalid("its key is no ticket's place"))
}

fn coupon(view: CouponView<'_>) -> v1::Coupon {
    let state = view.state;
    let bounded = state.window.from.is_some() || state.window.until.is_some();
    v1::Coupon {
        coupon_id: view.id.to_owned(),
        name: view.name.to_owned(),
        cap: state.cap,
        per_friend_limit: state.per_friend_limit,
        window: bounded.then(|| v1::TimeWindow {
            from: state.window.from.map(timestamp),
            until: state.window.until.map(timestamp),
        }),
        closed: state.closed,
        issued_count: state.issued,
        redeemed_count: state.redeemed,
        voided_count: state.voided,
        expired_count: state.expired,
        defined_revision: state.defined_revision,
    }
}

fn ticket(table: &ChannelTable, view: TicketView) -> v1::Ticket {
    let state = view.state;
    v1::Ticket {
        ticket_id: view.id,
        coupon_id: state.coupon_id.to_string(),
        friend_number: state.place.friend_number,
        user_key: friends::user_key(table, state.place.friend_number).unwrap_or_default(),
        status: match state.status {
            TicketStatus::Issued => v1::TicketStatus::Issued,
            TicketStatus::Redeemed => v1::TicketStatus::Redeemed,
            TicketStatus::Voided => v1::TicketStatus::Voided,
            TicketStatus::Expired => v1::TicketStatus::Expired,
        }
        .into(),
        issued_revision: state.place.issued_revision,
        redeemed_revision: state.redemption.map_or(0, |redemption| redemption.revision),
        redeemed_at: state.redemption.map(|redemption| timestamp(redemption.at)),
    }
}
