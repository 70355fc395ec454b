//! Frames of commands as they travel. A command stays the bytes that it came in until it is decided: thousands may wait, and
//! what waits decoded is many small pieces that have left the processor's caches by the time they are looked at. A node that does
//! not lead never decodes one.

use prost::{
    DecodeError, Message,
    bytes::{Buf, BufMut, Bytes},
    encoding::{DecodeContext, WireType, message, skip_field},
};

use crate::{
    command::{Malformed, Submission, command_from_proto},
    fields::{Value, fields, whole},
    send_push, v1,
};

/// `sillok.v1.SubmitRequest`: at most 4,096 commands and 2 MiB.
#[derive(Clone, PartialEq, Message)]
pub struct SubmitRequest {
    /// Each of them a `sillok.v1.Command`.
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub commands: Vec<Bytes>,
}

impl FromIterator<v1::Command> for SubmitRequest {
    fn from_iter<I: IntoIterator<Item = v1::Command>>(commands: I) -> SubmitRequest {
        SubmitRequest { commands: commands.into_iter().map(|command| command.encode_to_vec().into()).collect() }
    }
}

/// `sillok.v1.SubmitResponse`, written by hand: a frame has a thousand answers of thirty small pieces each, which are cheaper to put
/// into plain bytes, and to take out of them, than into and out of what a connection buffers.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SubmitResponse {
    /// In the order of the commands.
    pub answers: Vec<v1::Answer>,
}

/// Field number in the contract.
const ANSWERS: u32 = 1;
/// What an answer takes, about.
const ANSWER_BYTES: usize = 96;

impl Message for SubmitResponse {
    fn encode_raw(&self, buffer: &mut impl BufMut) {
        let mut bytes = Vec::with_capacity(self.answers.len() * ANSWER_BYTES);
        for answer in &self.answers {
            message::encode(ANSWERS, answer, &mut bytes);
        }
        buffer.put_slice(&bytes);
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buffer: &mut impl Buf,
        context: DecodeContext,
    ) -> Result<(), DecodeError> {
        if tag != ANSWERS {
            return skip_field(wire_type, tag, buffer, context);
        }
        if wire_type == WireType::LengthDelimited
            && let Some((head, body)) = whole(buffer.chunk())
        {
            self.answers.push(v1::Answer::decode(body)?);
            let read = head + body.len();
            buffer.advance(read);
            return Ok(());
        }
        message::merge_repeated(wire_type, &mut self.answers, buffer, context)
    }

    fn encoded_len(&self) -> usize {
        message::encoded_len_repeated(ANSWERS, &self.answers)
    }

    fn clear(&mut self) {
        self.answers.clear();
    }
}

/// `sillok.peer.v1.ExecuteRequest`.
#[derive(Clone, PartialEq, Message)]
pub struct ExecuteRequest {
    /// Each of them a `sillok.v1.Command`, decided in order, and in the order of the frames.
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub commands: Vec<Bytes>,
    /// Repeated in the response.
    #[prost(uint64, tag = "2")]
    pub frame: u64,
    /// A pipeline at the sender, 0 for none.
    #[prost(uint64, tag = "3")]
    pub lane: u64,
    /// Nothing more of `lane` will come.
    #[prost(bool, tag = "4")]
    pub lane_ended: bool,
}

/// Reads a command and checks it, as [`command_from_proto`] does.
///
/// # Errors
/// [`Malformed`], also where the bytes are no command at all.
pub fn command_from_bytes(command: Bytes) -> Result<Submission, Malformed> {
    if let Some(submission) = send_push::submission(&command) {
        return Ok(submission);
    }
    match v1::Command::decode(command) {
        Ok(command) => command_from_proto(command),
        Err(error) => Err(Malformed::undecodable(&error)),
    }
}

/// Whether an encoded command asks for an answer only when all sites have it. Reads nothing else of it, and says no of what
/// cannot be read.
pub fn asks_for_all_sites(command: &[u8]) -> bool {
    let kinds = fields(command).filter_map(nested);
    let contexts = kinds.flat_map(fields).filter(|(number, _)| *number == CONTEXT).filter_map(nested);
    let all_sites = v1::Wait::AllSites as u64;
    let waits = contexts.flat_map(fields).filter(|(number, _)| *number == WAIT);
    waits.map(|(_, wait)| wait).any(|wait| matches!(wait, Value::Varint(wait) if wait == all_sites))
}

fn nested((_, value): (u32, Value<'_>)) -> Option<&[u8]> {
    value.bytes().ok()
}

/// Field numbers in the contract: of the context in a command of any kind, and of what is waited for in a context.
const CONTEXT: u32 = 1;
const WAIT: u32 = 6;

#[cfg(test)]
mod tests {
    use super::*;

    /// As the generated code would have them.
    #[derive(Clone, PartialEq, Message)]
    struct GeneratedSubmit {
        #[prost(message, repeated, tag = "1")]
        commands: Vec<v1::Command>,
    }

    #[derive(Clone, PartialEq, Message)]
    struct GeneratedExecute {
        #[prost(message, repeated, tag = "1")]
        commands: Vec<v1::Command>,
        #[prost(uint64, tag = "2")]
        frame: u64,
        #[prost(uint64, tag = "3")]
        lane: u64,
        #[prost(bool, tag = "4")]
        lane_ended: bool,
    }

    #[derive(Clone, PartialEq, Message)]
    struct GeneratedAnswers {
        #[prost(message, repeated, tag = "1")]
        answers: Vec<v1::Answer>,
    }

    #[test]
    fn answers_are_the_message_of_the_contract_however_the_bytes_lie() {
        let receipt = v1::Receipt {
            revision: 300,
            position: Some(v1::Position { log: 1, sequence: u64::MAX, term: 1 }),
            accepted_at: Some(crate::timestamp(-5)),
            detail: Some(v1::receipt::Detail::Friend(v1::FriendDetail { friend_number: 7 })),
            ..Default::default()
        };
        let answer = |outcome| v1::Answer { outcome: Some(outcome) };
        let answers = vec![
            answer(v1::answer::Outcome::Receipt(receipt)),
            v1::Answer::default(),
            answer(v1::answer::Outcome::Error(tonic_types::Status {
                code: 9,
                message: "아니오".repeat(60),
                details: vec![],
            })),
        ];
        for answers in [&answers[..0], &answers[..1], &answers] {
            let generated = GeneratedAnswers { answers: answers.to_vec() };
            let ours = SubmitResponse { answers: answers.to_vec() };
            let bytes = generated.encode_to_vec();
            assert_eq!((ours.encoded_len(), ours.encode_to_vec()), (bytes.len(), bytes.clone()));
            for cut in 0..=bytes.len() {
                let (one, two) = bytes.split_at(cut);
                assert_eq!(SubmitResponse::decode(one.chain(two)).unwrap(), ours, "in two pieces, of {cut} bytes");
                let expected = GeneratedAnswers::decode(one).map(|read| read.answers);
                assert_eq!(
                    SubmitResponse::decode(one).map(|read| read.answers).ok(),
                    expected.ok(),
                    "{cut} bytes of it"
                );
            }
        }
        let later = [&[0x12, 1, 9][..], &GeneratedAnswers { answers: answers.clone() }.encode_to_vec()].concat();
        assert_eq!(SubmitResponse::decode(&*later).unwrap(), SubmitResponse { answers }, "a field that came later");
        assert!(SubmitResponse::decode(&[0x08, 1][..]).is_err(), "of another wire type");
    }

    fn push(context: Option<v1::CommandContext>) -> v1::Command {
        let body = Some(v1::MessageBody { text: "오늘 문 엽니다".to_owned(), is_ad: false, unit_price_won: 15 });
        v1::SendPushRequest { context, channel_id: "chungju".to_owned(), user_key: "u-1".to_owned(), body }.into()
    }

    fn waiting(wait: v1::Wait) -> Option<v1::CommandContext> {
        Some(v1::CommandContext { retry_key: "k".to_owned(), wait: wait.into(), ..Default::default() })
    }

    #[test]
    fn they_are_the_messages_of_the_contract() {
        for commands in [vec![], vec![v1::Command::default()], vec![push(None), push(waiting(v1::Wait::Quorum))]] {
            let submit = GeneratedSubmit { commands: commands.clone() };
            let bytes = submit.encode_to_vec();
            let ours = SubmitRequest::decode(&*bytes).unwrap();
            assert_eq!(ours, commands.iter().cloned().collect());
            assert_eq!((ours.encoded_len(), ours.encode_to_vec()), (bytes.len(), bytes));
            for (frame, lane, lane_ended) in [(0, 0, false), (7, 300, false), (0, 1, true)] {
                let execute = GeneratedExecute { commands: commands.clone(), frame, lane, lane_ended };
                let bytes = execute.encode_to_vec();
                let ours = ExecuteRequest::decode(&*bytes).unwrap();
                assert_eq!((ours.frame, ours.lane, ours.lane_ended), (frame, lane, lane_ended));
                assert_eq!(SubmitRequest { commands: ours.commands.clone() }, commands.iter().cloned().collect());
                assert_eq!(ours.encode_to_vec(), bytes);
            }
        }
    }

    #[test]
    fn bytes_that_are_no_command_are_malformed_and_take_nothing_else_along() {
        let text = push(waiting(v1::Wait::Quorum)).encode_to_vec();
        let whole = command_from_bytes(text.clone().into()).unwrap();
        assert_eq!(whole.command.channel_id, "chungju");
        for bad in [&text[..text.len() - 1], b"\xff", b"\x0a\x02\xc3\x28"] {
            let malformed = command_from_bytes(Bytes::copy_from_slice(bad)).unwrap_err();
            assert_eq!(malformed.violations.len(), 1, "{malformed}");
            assert_eq!(malformed.violations[0].field, "command");
        }
        let malformed = command_from_bytes(Bytes::new()).unwrap_err();
        assert_eq!(malformed.violations[0].description, "must be set, and of a kind this version knows");
    }

    /// Of every kind, since nobody looks at which it is.
    #[test]
    fn who_asks_for_all_sites_is_seen_without_decoding() {
        for wait in [v1::Wait::Unspecified, v1::Wait::Quorum, v1::Wait::AllSites] {
            let expected = wait == v1::Wait::AllSites;
            let context = waiting(wait);
            let import = v1::ImportEventsRequest { context: context.clone(), ..Default::default() };
            for command in [push(context.clone()), import.into()] {
                assert_eq!(asks_for_all_sites(&command.encode_to_vec()), expected);
            }
        }
        assert!(!asks_for_all_sites(&push(None).encode_to_vec()));
        let waits = push(waiting(v1::Wait::AllSites)).encode_to_vec();
        for cut in 0..waits.len() {
            // Whatever it says: it says it.
            asks_for_all_sites(&waits[..cut]);
        }
        assert!(!asks_for_all_sites(&[]));
    }

    /// The context is the first field of every kind there is, or those who ask for all sites would not be seen.
    #[test]
    fn the_context_stands_first_in_every_kind() {
        let pool = prost_reflect::DescriptorPool::decode(crate::DESCRIPTORS).unwrap();
        let command = pool.get_message_by_name("sillok.v1.Command").unwrap();
        assert!(command.fields().len() > 20);
        for kind in command.fields() {
            let request = kind.kind().as_message().cloned().unwrap();
            let context = request.get_field_by_name("context").unwrap();
            assert_eq!(context.number(), CONTEXT, "{}", request.name());
        }
        let context = pool.get_message_by_name("sillok.v1.CommandContext").unwrap();
        assert_eq!(context.get_field_by_name("wait").unwrap().number(), WAIT);
    }
}
