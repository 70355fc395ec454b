//! "The same body": a versioned fingerprint of a decoded command.

use std::cell::RefCell;

use prost::Message as _;

use crate::v1;

/// What is kept for the next one.
const SCRATCH_BYTES: usize = 64 << 10;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The first byte: how the rest was computed. Another way gets another number, and both are compared by their own.
const VERSION: u8 = 1;

/// Version byte 1, then 15 bytes of BLAKE3 over the prost encoding of the decoded command.
///
/// Of the context only what changes the meaning takes part: `expected_revision`, `backfill`, and with `backfill` also
/// `occurred_at`. Everything else of the command stays, the channel's id included. Fields added later do not take part at
/// their default, because proto3 does not encode it.
pub fn fingerprint(command: &v1::Command) -> [u8; 16] {
    let mut command = command.clone();
    let context = command.context_mut().and_then(Option::take);
    reduced(&mut command, context.as_ref())
}

/// The same for a command out of which the context was taken; leaves the reduced context in it.
pub(crate) fn reduced(command: &mut v1::Command, context: Option<&v1::CommandContext>) -> [u8; 16] {
    let kept = context.map_or_else(v1::CommandContext::default, |context| v1::CommandContext {
        expected_revision: context.expected_revision,
        backfill: context.backfill,
        occurred_at: if context.backfill { context.occurred_at } else { None },
        ..Default::default()
    });
    if let Some(place) = command.context_mut() {
        *place = Some(kept);
    }
    of(|bytes| command.encode_raw(bytes))
}

/// Of a reduced command, which `encode` appends.
pub(crate) fn of(encode: impl FnOnce(&mut Vec<u8>)) -> [u8; 16] {
    let hash = SCRATCH.with_borrow_mut(|scratch| {
        scratch.clear();
        encode(scratch);
        let hash = blake3::hash(scratch);
        if scratch.capacity() > SCRATCH_BYTES {
            *scratch = Vec::new();
        }
        hash
    });
    let mut fingerprint = [VERSION; 16];
    fingerprint[1..].copy_from_slice(&hash.as_bytes()[..15]);
    fingerprint
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(context: Option<v1::CommandContext>) -> v1::Command {
        v1::SendPushRequest {
            context,
            channel_id: "chungju".into(),
            user_key: "u-1".into(),
            body: Some(v1::MessageBody { text: "안녕하세요".into(), is_ad: false, unit_price_won: 15 }),
        }
        .into()
    }

    fn context() -> v1::CommandContext {
        v1::CommandContext { retry_key: "k".into(), ..Default::default() }
    }

    /// These bytes are on disks: they never change.
    #[test]
    fn stable() {
        let hex = |bytes: [u8; 16]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        assert_eq!(hex(fingerprint(&command(Some(context())))), "01faa3ad7337e34dbcf92fe677ac1b73");
        let backfill = v1::CommandContext {
            backfill: true,
            occurred_at: Some(crate::timestamp(1_700_000_000_000_000_000)),
            expected_revision: 41,
            ..context()
        };
        assert_eq!(hex(fingerprint(&command(Some(backfill)))), "0163d4301981eab4992823b446580573");
    }

    #[test]
    fn what_does_not_change_the_meaning_does_not_take_part() {
        let plain = fingerprint(&command(Some(context())));
        let others = v1::CommandContext {
            retry_key: "another".into(),
            actor: "someone".into(),
            occurred_at: Some(crate::timestamp(5)),
            validate_only: true,
            wait: v1::Wait::AllSites as i32,
            wait_at_most: Some(prost_types::Duration { seconds: 3, nanos: 0 }),
            ..Default::default()
        };
        assert_eq!(fingerprint(&command(Some(others))), plain);
        assert_eq!(fingerprint(&command(None)), plain);
    }

    #[test]
    fn what_changes_the_meaning_takes_part() {
        let plain = fingerprint(&command(Some(context())));
        let expecting = v1::CommandContext { expected_revision: 1, ..context() };
        let at = |nanos| v1::CommandContext { backfill: true, occurred_at: Some(crate::timestamp(nanos)), ..context() };
        let mut elsewhere = command(Some(context()));
        if let Some(v1::command::Command::SendPush(push)) = &mut elsewhere.command {
            push.channel_id = "seongju".into();
        }
        let mut all = vec![
            plain,
            fingerprint(&command(Some(expecting))),
            fingerprint(&command(Some(at(1)))),
            fingerprint(&command(Some(at(2)))),
            fingerprint(&elsewhere),
        ];
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 5);
    }
}
