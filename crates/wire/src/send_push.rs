//! The command of most events, read by hand: the leader's thread decodes every one of them. What the generated code and
//! [`command_from_proto`](crate::command_from_proto) make of the same bytes is the measure.

use sillok_domain::{Command, Context, Intent, MessageBody};

use crate::{
    Submission,
    command::WAIT_DEFAULT,
    fields::{Value, field_len, header, next_field, number_field, number_len, only, text_field, text_len},
    fingerprint, records, v1,
};

/// Field of `sillok.v1.Command`.
const SEND_PUSH: u32 = 60;
/// Fields of `sillok.v1.SendPushRequest`.
const CONTEXT: u32 = 1;
const CHANNEL_ID: u32 = 2;
const USER_KEY: u32 = 3;
const BODY: u32 = 4;
/// Fields of `sillok.v1.CommandContext`.
const RETRY_KEY: u32 = 1;
const ACTOR: u32 = 2;
const WAIT: u32 = 6;
/// Fields of `sillok.v1.MessageBody`.
const TEXT: u32 = 1;
const IS_AD: u32 = 2;
const UNIT_PRICE_WON: u32 = 3;

/// `sillok.v1.SendPushRequest` without conditions, times or trial.
#[derive(Default)]
struct SendPush<'a> {
    retry_key: &'a str,
    actor: &'a str,
    wait: v1::Wait,
    channel_id: &'a str,
    user_key: &'a str,
    text: &'a str,
    is_ad: bool,
    unit_price_won: i64,
}

/// Reads `sillok.v1.Command`. `None` for every other command, and for a push that asks for more or is not sound: what that
/// is, and what is wrong with it, the generated code tells.
pub(crate) fn submission(command: &[u8]) -> Option<Submission> {
    let push = SendPush::read(command)?;
    let command = push.command();
    sillok_domain::validate(&command).ok()?;
    Some(Submission {
        kind: SEND_PUSH,
        fingerprint: fingerprint::of(|bytes| push.append_reduced(bytes)),
        key_hash: records::key_hash(push.channel_id, push.retry_key),
        validate_only: false,
        wait: push.wait,
        wait_at_most: WAIT_DEFAULT,
        command,
    })
}

impl<'a> SendPush<'a> {
    fn read(command: &'a [u8]) -> Option<SendPush<'a>> {
        let mut fields = only(SEND_PUSH, command)?;
        let mut push = SendPush { wait: v1::Wait::Quorum, ..SendPush::default() };
        let (mut has_context, mut has_body) = (false, false);
        while let Some(field) = next_field(&mut fields).ok()? {
            match field {
                (CONTEXT, Value::Bytes(context)) if !has_context => {
                    has_context = true;
                    push.read_context(context)?;
                }
                (CHANNEL_ID, Value::Bytes(text)) => push.channel_id = str::from_utf8(text).ok()?,
                (USER_KEY, Value::Bytes(text)) => push.user_key = str::from_utf8(text).ok()?,
                (BODY, Value::Bytes(body)) if !has_body => {
                    has_body = true;
                    push.read_body(body)?;
                }
                _ => return None,
            }
        }
        has_body.then_some(push)
    }

    fn read_context(&mut self, mut context: &'a [u8]) -> Option<()> {
        while let Some(field) = next_field(&mut context).ok()? {
            match field {
                (RETRY_KEY, Value::Bytes(text)) => self.retry_key = str::from_utf8(text).ok()?,
                (ACTOR, Value::Bytes(text)) => self.actor = str::from_utf8(text).ok()?,
                (WAIT, Value::Varint(0 | 1)) => self.wait = v1::Wait::Quorum,
                (WAIT, Value::Varint(2)) => self.wait = v1::Wait::AllSites,
                _ => return None,
            }
        }
        Some(())
    }

    fn read_body(&mut self, mut body: &'a [u8]) -> Option<()> {
        while let Some(field) = next_field(&mut body).ok()? {
            match field {
                (TEXT, Value::Bytes(text)) => self.text = str::from_utf8(text).ok()?,
                // As prost reads them: any number but 0 is true.
                (IS_AD, Value::Varint(number)) => self.is_ad = number != 0,
                (UNIT_PRICE_WON, Value::Varint(number)) => self.unit_price_won = number as i64,
                _ => return None,
            }
        }
        Some(())
    }

    fn command(&self) -> Command {
        Command {
            channel_id: self.channel_id.to_owned(),
            context: Context {
                retry_key: self.retry_key.to_owned(),
                actor: self.actor.to_owned(),
                occurred_at: None,
                expected_revision: None,
                backfill: false,
            },
            intent: Intent::SendPush {
                user_key: self.user_key.to_owned(),
                body: MessageBody {
                    text: self.text.to_owned(),
                    is_ad: self.is_ad,
                    unit_price_won: self.unit_price_won,
                },
            },
        }
    }

    /// Appends what the fingerprint goes over: the command, of whose context nothing is left.
    fn append_reduced(&self, to: &mut Vec<u8>) {
        let (is_ad, price) = (u64::from(self.is_ad), self.unit_price_won as u64);
        let body = text_len(TEXT, self.text) + number_len(IS_AD, is_ad) + number_len(UNIT_PRICE_WON, price);
        let push = field_len(CONTEXT, 0)
            + text_len(CHANNEL_ID, self.channel_id)
            + text_len(USER_KEY, self.user_key)
            + field_len(BODY, body);
        header(SEND_PUSH, push, to);
        header(CONTEXT, 0, to);
        text_field(CHANNEL_ID, self.channel_id, to);
        text_field(USER_KEY, self.user_key, to);
        header(BODY, body, to);
        text_field(TEXT, self.text, to);
        number_field(IS_AD, is_ad, to);
        number_field(UNIT_PRICE_WON, price, to);
    }
}
