//! Frozen audiences: a portable Roaring bitmap, its count and its digest.

use bytes::Bytes;
use roaring::RoaringBitmap;
use sillok_domain::{FrozenAudience, audience_digest};

use crate::{PayloadError, v1};

/// The same members always give the same bytes, whatever containers the bitmap had.
pub(crate) fn to_proto(audience: &FrozenAudience) -> v1::FrozenAudience {
    let mut members = audience.members.clone();
    members.optimize();
    let mut bytes = Vec::with_capacity(members.serialized_size());
    members.serialize_into(&mut bytes).unwrap_or_else(|_| unreachable!("a Vec takes every write"));
    v1::FrozenAudience {
        members: bytes.into(),
        count: members.len(),
        digest: Bytes::copy_from_slice(&audience_digest(&members)),
        as_of_revision: audience.as_of_revision,
        excluded_without_consent: audience.excluded_without_consent,
        excluded_blocked: audience.excluded_blocked,
    }
}

pub(crate) fn from_proto(audience: v1::FrozenAudience) -> Result<FrozenAudience, PayloadError> {
    let mut rest = &audience.members[..];
    let members = RoaringBitmap::deserialize_from(&mut rest)
        .map_err(|_| PayloadError::Audience("is no portable Roaring bitmap"))?;
    if !rest.is_empty() {
        return Err(PayloadError::Audience("has bytes after its Roaring bitmap"));
    }
    if members.len() != audience.count {
        return Err(PayloadError::Audience("has another count than its bitmap"));
    }
    Ok(FrozenAudience {
        members,
        as_of_revision: audience.as_of_revision,
        excluded_without_consent: audience.excluded_without_consent,
        excluded_blocked: audience.excluded_blocked,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frozen(members: RoaringBitmap) -> FrozenAudience {
        FrozenAudience { members, as_of_revision: 7, excluded_without_consent: 1, excluded_blocked: 2 }
    }

    #[test]
    fn digest_is_over_ascending_little_endian_numbers() {
        let members: RoaringBitmap = [70_000, 3, 9].into_iter().collect();
        let mut bytes = Vec::new();
        for number in [3_u32, 9, 70_000] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        assert_eq!(audience_digest(&members), *blake3::hash(&bytes).as_bytes());
    }

    #[test]
    fn digest_of_many_is_that_of_all_bytes_at_once() {
        let members: RoaringBitmap = (0..20_000).map(|n| n * 3).collect();
        let bytes: Vec<u8> = members.iter().flat_map(u32::to_le_bytes).collect();
        assert_eq!(audience_digest(&members), *blake3::hash(&bytes).as_bytes());
    }

    #[test]
    fn the_same_members_give_the_same_bytes() {
        let one_by_one: RoaringBitmap = (0..100_000).collect();
        let mut as_range = RoaringBitmap::new();
        as_range.insert_range(0..100_000);
        let mut holed: RoaringBitmap = (0..100_001).collect();
        holed.remove(100_000);
        let bytes = to_proto(&frozen(one_by_one)).members;
        assert_eq!(bytes, to_proto(&frozen(as_range)).members);
        assert_eq!(bytes, to_proto(&frozen(holed)).members);
        assert!(bytes.len() < 100, "run-optimised, {} bytes", bytes.len());
    }

    #[test]
    fn decoded_and_encoded_again_it_is_the_same() {
        let members: RoaringBitmap = (0..200_000).filter(|n| n % 7 != 0).chain(500_000..600_000).collect();
        let proto = to_proto(&frozen(members));
        let back = from_proto(proto.clone()).unwrap();
        assert_eq!(to_proto(&back), proto);
    }

    #[test]
    fn a_bad_bitmap_is_an_error() {
        let proto = to_proto(&frozen([1, 2, 3].into_iter().collect()));
        let cut = v1::FrozenAudience { members: proto.members.slice(..proto.members.len() - 1), ..proto.clone() };
        assert!(matches!(from_proto(cut), Err(PayloadError::Audience(_))));
        let mut longer = proto.members.to_vec();
        longer.push(0);
        let longer = v1::FrozenAudience { members: longer.into(), ..proto.clone() };
        assert!(matches!(from_proto(longer), Err(PayloadError::Audience(_))));
        let miscounted = v1::FrozenAudience { count: 4, ..proto };
        assert!(matches!(from_proto(miscounted), Err(PayloadError::Audience(_))));
    }
}
