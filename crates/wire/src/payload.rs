//! An event to and from `sillok.v1.Payload`, whose bytes the chronicle holds for ever.
//!
//! Encoding is canonical: one event has one sequence of bytes, so an export written into another channel keeps its
//! content digest. Sub-messages are always present, lists come in the order the domain gives them.

use bytes::BufMut;
use prost::Message as _;
use sillok_domain::{Attribute, Consent, Event, FriendSource, TimeWindow};

use crate::{
    audience,
    command::{attribute, rule_from_proto, rule_to_proto},
    records::Push,
    time, v1,
    v1::payload::Event as P,
};

/// A payload that this version cannot take for an event. A node that meets one stops folding; it never skips.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    /// Not protobuf of a payload.
    #[error("the bytes are no event: {0}")]
    Malformed(#[from] prost::DecodeError),
    /// Empty, or of a kind that came later.
    #[error("the event's kind is unknown to this version; run the version that wrote it, or a later one")]
    UnknownKind,
    /// A value of an enumeration that came later.
    #[error(
        "{field} has the value {value}, which this version does not know; run the version that wrote it, or a later one"
    )]
    UnknownValue {
        /// Which field.
        field: &'static str,
        /// Its number.
        value: i32,
    },
    /// Without a part that every event of its kind has.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// Personal data sealed under a key of its own friend.
    #[error("the personal data is sealed, and this version reads plain ones only; run a later version")]
    Sealed,
    /// The frozen audience contradicts itself.
    #[error("the frozen audience {0}")]
    Audience(&'static str),
    /// A time that does not fit.
    #[error("{0}")]
    Time(#[from] time::OutOfRange),
}

/// The event as the contract has it.
pub fn payload_to_proto(event: &Event) -> v1::Payload {
    let event = match event {
        Event::ChannelOpened { name } => P::ChannelOpened(v1::ChannelOpened { name: name.clone() }),
        Event::ChannelRenamed { name } => P::ChannelRenamed(v1::ChannelRenamed { name: name.clone() }),
        Event::ChannelSuspended { reason } => P::ChannelSuspended(v1::ChannelSuspended { reason: reason.clone() }),
        Event::ChannelResumed => P::ChannelResumed(v1::ChannelResumed {}),
        Event::ChannelClosed { reason } => P::ChannelClosed(v1::ChannelClosed { reason: reason.clone() }),

        Event::FriendAdded { friend_number, user_key, source, attributes, consents } => {
            P::FriendAdded(v1::FriendAdded {
                friend_number: *friend_number,
                source: *source as i32,
                consents: consents.iter().map(|&consent| consent as i32).collect(),
                personal: personal(v1::PersonalPlain {
                    user_key: user_key.clone(),
                    attributes: attributes_to_proto(attributes),
                    ..Default::default()
                }),
            })
        }
        &Event::FriendBlocked { friend_number } => P::FriendBlocked(v1::FriendBlocked { friend_number }),
        &Event::FriendUnblocked { friend_number } => P::FriendUnblocked(v1::FriendUnblocked { friend_number }),
        &Event::FriendRemoved { friend_number } => P::FriendRemoved(v1::FriendRemoved { friend_number }),
        Event::AttributesSet { friend_number, set, cleared } => P::AttributesSet(v1::AttributesSet {
            friend_number: *friend_number,
            personal: personal(v1::PersonalPlain {
                attributes: attributes_to_proto(set),
                cleared: cleared.clone(),
                ..Default::default()
            }),
        }),
        &Event::ConsentGranted { friend_number, consent } => {
            P::ConsentGranted(v1::ConsentGranted { friend_number, consent: consent as i32 })
        }
        &Event::ConsentWithdrawn { friend_number, consent } => {
            P::ConsentWithdrawn(v1::ConsentWithdrawn { friend_number, consent: consent as i32 })
        }

        Event::PushAccepted { friend_number, text, is_ad, unit_price_won } => P::PushAccepted(v1::PushAccepted {
            friend_number: *friend_number,
            is_ad: *is_ad,
            unit_price_won: *unit_price_won,
            personal: text_only(text),
        }),
        Event::NarrowcastAccepted { rule, audience, text, is_ad, unit_price_won } => {
            P::NarrowcastAccepted(v1::NarrowcastAccepted {
                rule: rule.as_ref().map(rule_to_proto),
                audience: Some(audience::to_proto(audience)),
                is_ad: *is_ad,
                unit_price_won: *unit_price_won,
                personal: text_only(text),
            })
        }
        Event::BroadcastAccepted { audience, text, is_ad, unit_price_won } => {
            P::BroadcastAccepted(v1::BroadcastAccepted {
                audience: Some(audience::to_proto(audience)),
                is_ad: *is_ad,
                unit_price_won: *unit_price_won,
                personal: text_only(text),
            })
        }

        Event::CouponDefined { coupon_id, name, cap, per_friend_limit, window } => {
            P::CouponDefined(v1::CouponDefined {
                coupon_id: coupon_id.clone(),
                name: name.clone(),
                cap: *cap,
                per_friend_limit: *per_friend_limit,
                window: Some(window_to_proto(window)),
            })
        }
        Event::TicketIssued { coupon_id, ticket_id, friend_number } => P::TicketIssued(v1::TicketIssued {
            coupon_id: coupon_id.clone(),
            ticket_id: ticket_id.clone(),
            friend_number: *friend_number,
        }),
        Event::TicketsIssued { coupon_id, rule, audience, excluded_at_limit } => P::TicketsIssued(v1::TicketsIssued {
            coupon_id: coupon_id.clone(),
            rule: rule.as_ref().map(rule_to_proto),
            audience: Some(audience::to_proto(audience)),
            excluded_at_limit: *excluded_at_limit,
        }),
        Event::TicketRedeemed { coupon_id, ticket_id, friend_number } => P::TicketRedeemed(v1::TicketRedeemed {
            coupon_id: coupon_id.clone(),
            ticket_id: ticket_id.clone(),
            friend_number: *friend_number,
        }),
        Event::RedemptionReversed { coupon_id, ticket_id, friend_number, reason } => {
            P::RedemptionReversed(v1::RedemptionReversed {
                coupon_id: coupon_id.clone(),
                ticket_id: ticket_id.clone(),
                friend_number: *friend_number,
                personal: text_only(reason),
            })
        }
        Event::TicketVoided { coupon_id, ticket_id, friend_number, reason } => P::TicketVoided(v1::TicketVoided {
            coupon_id: coupon_id.clone(),
            ticket_id: ticket_id.clone(),
            friend_number: *friend_number,
            personal: text_only(reason),
        }),
        Event::TicketExpired { coupon_id, ticket_id, friend_number } => P::TicketExpired(v1::TicketExpired {
            coupon_id: coupon_id.clone(),
            ticket_id: ticket_id.clone(),
            friend_number: *friend_number,
        }),
        Event::CouponClosed { coupon_id, reason } => {
            P::CouponClosed(v1::CouponClosed { coupon_id: coupon_id.clone(), reason: reason.clone() })
        }
    };
    v1::Payload { event: Some(event) }
}

/// Appends the bytes that the chronicle holds for ever.
pub fn encode_payload(event: &Event, to: &mut impl BufMut) {
    payload_to_proto(event).encode_raw(to);
}

/// The event of a payload; strings are moved, never copied.
///
/// # Errors
/// [`PayloadError`] where this version cannot take it for an event.
pub fn payload_from_proto(payload: v1::Payload) -> Result<Event, PayloadError> {
    Ok(match payload.event.ok_or(PayloadError::UnknownKind)? {
        P::ChannelOpened(e) => Event::ChannelOpened { name: e.name },
        P::ChannelRenamed(e) => Event::ChannelRenamed { name: e.name },
        P::ChannelSuspended(e) => Event::ChannelSuspended { reason: e.reason },
        P::ChannelResumed(v1::ChannelResumed {}) => Event::ChannelResumed,
        P::ChannelClosed(e) => Event::ChannelClosed { reason: e.reason },

        P::FriendAdded(e) => {
            let personal = opened(e.personal)?;
            let consents = e.consents.iter().map(|&number| known_consent(number));
            Event::FriendAdded {
                friend_number: e.friend_number,
                user_key: personal.user_key,
                source: source(e.source).ok_or(PayloadError::UnknownValue { field: "source", value: e.source })?,
                attributes: attributes(personal.attributes),
                consents: consents.collect::<Result<_, _>>()?,
            }
        }
        P::FriendBlocked(e) => Event::FriendBlocked { friend_number: e.friend_number },
        P::FriendUnblocked(e) => Event::FriendUnblocked { friend_number: e.friend_number },
        P::FriendRemoved(e) => Event::FriendRemoved { friend_number: e.friend_number },
        P::AttributesSet(e) => {
            let personal = opened(e.personal)?;
            Event::AttributesSet {
                friend_number: e.friend_number,
                set: attributes(personal.attributes),
                cleared: personal.cleared,
            }
        }
        P::ConsentGranted(e) => {
            Event::ConsentGranted { friend_number: e.friend_number, consent: known_consent(e.consent)? }
        }
        P::ConsentWithdrawn(e) => {
            Event::ConsentWithdrawn { friend_number: e.friend_number, consent: known_consent(e.consent)? }
        }

        P::PushAccepted(e) => Event::PushAccepted {
            friend_number: e.friend_number,
            text: opened(e.personal)?.text,
            is_ad: e.is_ad,
            unit_price_won: e.unit_price_won,
        },
        P::NarrowcastAccepted(e) => Event::NarrowcastAccepted {
            rule: e.rule.map(rule_from_proto),
            audience: frozen(e.audience)?,
            text: opened(e.personal)?.text,
            is_ad: e.is_ad,
            unit_price_won: e.unit_price_won,
        },
        P::BroadcastAccepted(e) => Event::BroadcastAccepted {
            audience: frozen(e.audience)?,
            text: opened(e.personal)?.text,
            is_ad: e.is_ad,
            unit_price_won: e.unit_price_won,
        },

        P::CouponDefined(e) => Event::CouponDefined {
            coupon_id: e.coupon_id,
            name: e.name,
            cap: e.cap,
            per_friend_limit: e.per_friend_limit,
            window: window(e.window.as_ref())?,
        },
        P::TicketIssued(e) => {
            Event::TicketIssued { coupon_id: e.coupon_id, ticket_id: e.ticket_id, friend_number: e.friend_number }
        }
        P::TicketsIssued(e) => Event::TicketsIssued {
            coupon_id: e.coupon_id,
            rule: e.rule.map(rule_from_proto),
            audience: frozen(e.audience)?,
            excluded_at_limit: e.excluded_at_limit,
        },
        P::TicketRedeemed(e) => {
            Event::TicketRedeemed { coupon_id: e.coupon_id, ticket_id: e.ticket_id, friend_number: e.friend_number }
        }
        P::RedemptionReversed(e) => Event::RedemptionReversed {
            coupon_id: e.coupon_id,
            ticket_id: e.ticket_id,
            friend_number: e.friend_number,
            reason: opened(e.personal)?.text,
        },
        P::TicketVoided(e) => Event::TicketVoided {
            coupon_id: e.coupon_id,
            ticket_id: e.ticket_id,
            friend_number: e.friend_number,
            reason: opened(e.personal)?.text,
        },
        P::TicketExpired(e) => {
            Event::TicketExpired { coupon_id: e.coupon_id, ticket_id: e.ticket_id, friend_number: e.friend_number }
        }
        P::CouponClosed(e) => Event::CouponClosed { coupon_id: e.coupon_id, reason: e.reason },
    })
}

/// The event of stored bytes.
///
/// # Errors
/// [`PayloadError`] where this version cannot take them for an event.
pub fn decode_payload(bytes: &[u8]) -> Result<Event, PayloadError> {
    payload_from_proto(v1::Payload::decode(bytes)?)
}

/// As [`decode_payload`], for whoever folds: the text of a push, which no state holds, is checked and left out.
///
/// # Errors
/// [`PayloadError`] where this version cannot take them for an event.
pub fn decode_to_fold(bytes: &[u8]) -> Result<Event, PayloadError> {
    match Push::read(bytes) {
        Some(push) => Ok(push.to_fold()),
        None => decode_payload(bytes),
    }
}

/// As [`payload_from_proto`], for a fact that comes from outside, with the digest that came with its audience: only the
/// domain can tell whether it may be walked to be compared.
pub(crate) fn imported(payload: v1::Payload) -> Result<(Event, Option<[u8; 32]>), PayloadError> {
    let audience = match &payload.event {
        Some(P::NarrowcastAccepted(e)) => e.audience.as_ref(),
        Some(P::BroadcastAccepted(e)) => e.audience.as_ref(),
        Some(P::TicketsIssued(e)) => e.audience.as_ref(),
        _ => None,
    };
    let digest = audience.map(|audience| <[u8; 32]>::try_from(&audience.digest[..]));
    let digest = digest.transpose().map_err(|_| PayloadError::Audience("has a digest that is not 32 bytes long"))?;
    Ok((payload_from_proto(payload)?, digest))
}

macro_rules! kinds {
    ($($variant:ident = $number:literal, level $level:literal;)*) => {
        /// The field number of the event's kind in `sillok.v1.Payload`.
        pub fn event_kind(event: &Event) -> u32 {
            match event {
                $(Event::$variant { .. } => $number,)*
            }
        }

        /// The least feature level that knows the event's kind.
        pub(crate) fn event_level(event: &Event) -> u32 {
            match event {
                $(Event::$variant { .. } => $level,)*
            }
        }

        /// The least feature level that knows this field number in `sillok.v1.Payload`; `None` where this version does
        /// not.
        pub fn level_of_kind(kind: u32) -> Option<u32> {
            match kind {
                $($number => Some($level),)*
                _ => None,
            }
        }

        /// The newest level of any kind.
        pub(crate) const NEWEST_KIND_LEVEL: u32 = {
            let levels = [$($level),*];
            let (mut newest, mut at) = (1, 0);
            while at < levels.len() {
                if levels[at] > newest {
                    newest = levels[at];
                }
                at += 1;
            }
            newest
        };
    };
}

// Append only: numbers and levels reach the disk. A kind that is added takes the next level after the last release's, and
// so does a new field or value that an older version would fold wrongly (docs/decisions/009).
kinds! {
    ChannelOpened = 1, level 1;
    ChannelRenamed = 2, level 1;
    ChannelSuspended = 3, level 1;
    ChannelResumed = 4, level 1;
    ChannelClosed = 5, level 1;
    FriendAdded = 20, level 1;
    FriendBlocked = 21, level 1;
    FriendUnblocked = 22, level 1;
    FriendRemoved = 23, level 1;
    AttributesSet = 24, level 1;
    ConsentGranted = 25, level 1;
    ConsentWithdrawn = 26, level 1;
    PushAccepted = 60, level 1;
    NarrowcastAccepted = 61, level 1;
    BroadcastAccepted = 62, level 1;
    CouponDefined = 100, level 1;
    TicketIssued = 101, level 1;
    TicketsIssued = 102, level 1;
    TicketRedeemed = 103, level 1;
    RedemptionReversed = 104, level 1;
    TicketVoided = 105, level 1;
    TicketExpired = 106, level 1;
    CouponClosed = 107, level 1;
}

/// The kind of stored payload bytes without decoding them; `None` where they begin with no field.
pub fn peek_event_kind(mut payload: &[u8]) -> Option<u32> {
    prost::encoding::decode_key(&mut payload).ok().map(|(number, _)| number)
}

fn personal(plain: v1::PersonalPlain) -> Option<v1::Personal> {
    Some(v1::Personal { form: Some(v1::personal::Form::Plain(plain)) })
}

fn text_only(text: &str) -> Option<v1::Personal> {
    personal(v1::PersonalPlain { text: text.to_owned(), ..Default::default() })
}

fn attributes_to_proto(attributes: &[Attribute]) -> Vec<v1::Attribute> {
    attributes.iter().map(|a| v1::Attribute { key: a.key.clone(), value: a.value.clone() }).collect()
}

fn opened(personal: Option<v1::Personal>) -> Result<v1::PersonalPlain, PayloadError> {
    match personal.and_then(|personal| personal.form) {
        Some(v1::personal::Form::Plain(plain)) => Ok(plain),
        Some(v1::personal::Form::Sealed(_)) => Err(PayloadError::Sealed),
        None => Err(PayloadError::Missing("personal")),
    }
}

fn frozen(frozen: Option<v1::FrozenAudience>) -> Result<sillok_domain::FrozenAudience, PayloadError> {
    audience::from_proto(frozen.ok_or(PayloadError::Missing("audience"))?)
}

fn window_to_proto(window: &TimeWindow) -> v1::TimeWindow {
    v1::TimeWindow { from: window.from.map(time::timestamp), until: window.until.map(time::timestamp) }
}

fn window(window: Option<&v1::TimeWindow>) -> Result<TimeWindow, PayloadError> {
    let Some(window) = window else { return Ok(TimeWindow::default()) };
    let from = window.from.as_ref().map(time::unix_nanos).transpose()?;
    let until = window.until.as_ref().map(time::unix_nanos).transpose()?;
    Ok(TimeWindow { from, until })
}

pub(crate) fn attributes(attributes: Vec<v1::Attribute>) -> Vec<Attribute> {
    attributes.into_iter().map(attribute).collect()
}

fn known_consent(number: i32) -> Result<Consent, PayloadError> {
    consent(number).ok_or(PayloadError::UnknownValue { field: "consent", value: number })
}

pub(crate) fn consent(number: i32) -> Option<Consent> {
    match v1::Consent::try_from(number).ok()? {
        v1::Consent::Unspecified => None,
        v1::Consent::Advertising => Some(Consent::Advertising),
        v1::Consent::Night => Some(Consent::Night),
    }
}

pub(crate) fn source(number: i32) -> Option<FriendSource> {
    Some(match v1::FriendSource::try_from(number).ok()? {
        v1::FriendSource::Unspecified => FriendSource::Unspecified,
        v1::FriendSource::OfflineEvent => FriendSource::OfflineEvent,
        v1::FriendSource::FriendEvent => FriendSource::FriendEvent,
        v1::FriendSource::Ad => FriendSource::Ad,
        v1::FriendSource::Search => FriendSource::Search,
        v1::FriendSource::Import => FriendSource::Import,
        v1::FriendSource::Other => FriendSource::Other,
    })
}
