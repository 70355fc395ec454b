//! A push to one friend and its bytes, written by hand: most events are pushes, and each is encoded at the leader and
//! folded at every node. What the generated code gives and takes is the measure (`tests/payload.rs`).

use sillok_domain::Event;

use crate::fields::{Value, field_len, header, next_field, number_field, number_len, only, text_field, text_len};

/// Field of `sillok.v1.Payload`.
const PUSH_ACCEPTED: u32 = 60;
/// Fields of `sillok.v1.PushAccepted`.
const FRIEND_NUMBER: u32 = 1;
const IS_AD: u32 = 2;
const UNIT_PRICE_WON: u32 = 3;
const PERSONAL: u32 = 4;
/// Field of `sillok.v1.Personal`.
const PLAIN: u32 = 1;
/// Field of `sillok.v1.PersonalPlain`.
const TEXT: u32 = 3;

/// `sillok.v1.PushAccepted` with a plain text.
#[derive(Default)]
pub(crate) struct Push<'a> {
    friend_number: u32,
    is_ad: bool,
    unit_price_won: i64,
    text: &'a str,
}

impl<'a> Push<'a> {
    /// `None` for every other event.
    pub(crate) fn of(event: &'a Event) -> Option<Push<'a>> {
        let Event::PushAccepted { friend_number, text, is_ad, unit_price_won } = event else { return None };
        Some(Push { friend_number: *friend_number, is_ad: *is_ad, unit_price_won: *unit_price_won, text })
    }

    /// Reads `sillok.v1.Payload`. `None` for every other event, and for whatever is not plainly a push: a part twice, a
    /// field that came later, a text that is not UTF-8. What that is, the generated code tells.
    pub(crate) fn read(payload: &'a [u8]) -> Option<Push<'a>> {
        let mut fields = only(PUSH_ACCEPTED, payload)?;
        let mut push = Push::default();
        let mut has_personal = false;
        while let Some(field) = next_field(&mut fields).ok()? {
            match field {
                // As prost reads them: the low half of a number, and any number but 0 for true.
                (FRIEND_NUMBER, Value::Varint(number)) => push.friend_number = number as u32,
                (IS_AD, Value::Varint(number)) => push.is_ad = number != 0,
                (UNIT_PRICE_WON, Value::Varint(number)) => push.unit_price_won = number as i64,
                (PERSONAL, Value::Bytes(personal)) if !has_personal => {
                    has_personal = true;
                    let plain = only(PLAIN, personal)?;
                    push.text = if plain.is_empty() { "" } else { str::from_utf8(only(TEXT, plain)?).ok()? };
                }
                _ => return None,
            }
        }
        has_personal.then_some(push)
    }

    /// The event without its text, which no state holds.
    pub(crate) fn to_fold(&self) -> Event {
        Event::PushAccepted {
            friend_number: self.friend_number,
            text: String::new(),
            is_ad: self.is_ad,
            unit_price_won: self.unit_price_won,
        }
    }

    /// Appends `sillok.v1.Payload`, as this field of what is being written.
    pub(crate) fn append(&self, field: u32, to: &mut Vec<u8>) {
        let plain = text_len(TEXT, self.text);
        let personal = field_len(PLAIN, plain);
        let price = self.unit_price_won as u64;
        let push = number_len(FRIEND_NUMBER, u64::from(self.friend_number))
            + number_len(IS_AD, u64::from(self.is_ad))
            + number_len(UNIT_PRICE_WON, price)
            + field_len(PERSONAL, personal);
        header(field, field_len(PUSH_ACCEPTED, push), to);
        header(PUSH_ACCEPTED, push, to);
        number_field(FRIEND_NUMBER, u64::from(self.friend_number), to);
        number_field(IS_AD, u64::from(self.is_ad), to);
        number_field(UNIT_PRICE_WON, price, to);
        header(PERSONAL, personal, to);
        header(PLAIN, plain, to);
        text_field(TEXT, self.text, to);
    }
}
