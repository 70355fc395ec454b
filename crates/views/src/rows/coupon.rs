//! 32 coupons a page, in the order of definition: `[[id][name][cap][per_friend_limit][window][closed][counts][revision]…]`

use std::sync::Arc;

use bincode::{Decode, Encode};
use hashbrown::HashMap;
use sillok_domain::{Channel, CouponRow, CouponState, TimeWindow};

use super::{COUPONS_A_PAGE, RestoreError};
use crate::codec::{self, RowError};

/// Which page a coupon is on.
#[derive(Debug, Default)]
pub(crate) struct CouponPlaces {
    ids: Vec<Arc<str>>,
    places: HashMap<Arc<str>, u64>,
}

impl CouponPlaces {
    /// Its place; a coupon seen for the first time takes the next.
    pub(super) fn place(&mut self, id: &str) -> u64 {
        if let Some(place) = self.places.get(id) {
            return *place;
        }
        let (id, place): (Arc<str>, _) = (id.into(), self.ids.len() as u64);
        self.ids.push(Arc::clone(&id));
        self.places.insert(id, place);
        place
    }

    pub(super) fn pages(&self) -> u64 {
        (self.ids.len() as u64).div_ceil(COUPONS_A_PAGE)
    }

    pub(super) fn page(&self, page: u64) -> &[Arc<str>] {
        let first = ((page * COUPONS_A_PAGE) as usize).min(self.ids.len());
        &self.ids[first..(first + COUPONS_A_PAGE as usize).min(self.ids.len())]
    }
}

#[derive(Encode, Decode)]
struct CouponPart {
    id: String,
    name: String,
    cap: u64,
    per_friend_limit: u32,
    from: Option<i64>,
    until: Option<i64>,
    closed: bool,
    issued: u64,
    redeemed: u64,
    voided: u64,
    expired: u64,
    defined_revision: u64,
}

pub(super) fn page(channel: &Channel, ids: &[Arc<str>]) -> Result<Vec<u8>, RowError> {
    let coupons = ids.iter().filter_map(|id| channel.coupon_view(id));
    let coupons = coupons.map(|coupon| CouponPart {
        id: coupon.id.to_owned(),
        name: coupon.name.to_owned(),
        cap: coupon.state.cap,
        per_friend_limit: coupon.state.per_friend_limit,
        from: coupon.state.window.from,
        until: coupon.state.window.until,
        closed: coupon.state.closed,
        issued: coupon.state.issued,
        redeemed: coupon.state.redeemed,
        voided: coupon.state.voided,
        expired: coupon.state.expired,
        defined_revision: coupon.state.defined_revision,
    });
    codec::encode(&coupons.collect::<Vec<_>>())
}

pub(super) fn restore(
    channel: &mut Channel,
    places: &mut CouponPlaces,
    page: u64,
    bytes: &[u8],
) -> Result<bool, RestoreError> {
    for coupon in codec::decode::<Vec<CouponPart>>(bytes)? {
        if places.place(&coupon.id) / COUPONS_A_PAGE != page {
            return Ok(false);
        }
        channel.restore_coupon(&CouponRow {
            id: coupon.id,
            name: coupon.name,
            state: CouponState {
                cap: coupon.cap,
                per_friend_limit: coupon.per_friend_limit,
                window: TimeWindow { from: coupon.from, until: coupon.until },
                closed: coupon.closed,
                issued: coupon.issued,
                redeemed: coupon.redeemed,
                voided: coupon.voided,
                expired: coupon.expired,
                defined_revision: coupon.defined_revision,
            },
        })?;
    }
    Ok(true)
}
