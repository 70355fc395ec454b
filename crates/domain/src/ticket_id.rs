//! Ids of tickets that the leader makes: `{coupon_id}.{issued revision}.{friend number}`.
//!
//! Such an id says where its ticket stands, so a million tickets of a batch need no million ids. Clients' own ids never
//! look like that ([`crate::validate`]).

use crate::TicketPlace;

/// The id of the ticket at this place.
pub(crate) fn make(coupon_id: &str, place: TicketPlace) -> String {
    format!("{coupon_id}.{}.{}", place.issued_revision, place.friend_number)
}

/// What an id says; `None` where it is no id that [`make`] makes.
pub(crate) fn parse(id: &str) -> Option<(&str, TicketPlace)> {
    let (rest, friend) = id.rsplit_once('.')?;
    let (coupon_id, revision) = rest.rsplit_once('.')?;
    let canonical = |digits: &str| digits.starts_with(|first| matches!(first, '1'..='9'));
    if !canonical(friend) || !canonical(revision) {
        return None;
    }
    Some((coupon_id, TicketPlace { issued_revision: revision.parse().ok()?, friend_number: friend.parse().ok()? }))
}

/// Whether this is the id that [`make`] makes for this ticket.
pub(crate) fn is_of(id: &str, coupon_id: &str, place: TicketPlace) -> bool {
    parse(id) == Some((coupon_id, place))
}

/// Ends in `.digits.digits`: reserved for the leader.
pub(crate) fn is_reserved(id: &str) -> bool {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let mut parts = id.rsplitn(3, '.');
    let reserved = parts.next().is_some_and(digits) && parts.next().is_some_and(digits);
    reserved && parts.next().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_is_parsed_and_reserved() {
        let place = TicketPlace { issued_revision: 12, friend_number: 7 };
        assert_eq!(make("spring.1.2", place), "spring.1.2.12.7");
        assert_eq!(parse("spring.1.2.12.7"), Some(("spring.1.2", place)));
        assert!(is_reserved("spring.1.2.12.7") && is_of("spring.1.2.12.7", "spring.1.2", place));
    }

    #[test]
    fn other_spellings_name_nothing_and_are_reserved_all_the_same() {
        for id in ["c.012.7", "c.12.07", "c.0.7", "c.12.99999999999", ".1.0"] {
            assert_eq!(parse(id), None, "{id}");
            assert!(is_reserved(id), "{id}");
        }
        for id in ["c", "c.7", "c.x.7", "c.7.x", "7.7", "c.7.", "c..7"] {
            assert_eq!(parse(id), None, "{id}");
            assert!(!is_reserved(id), "{id}");
        }
        assert_eq!(parse("c.+1.7"), None);
    }
}
