//! One entry as it stands in a segment file.
//!
//! ```text
//!  0        2    3        4             8          16          24         28          32
//!  +--------+----+--------+-------------+----------+-----------+----------+-----------+---------------+-----------+
//!  | "\xE5K"|kind|encoding| stored bytes| term     | index     | body     | head      | stored payload| 2..9 times|
//!  |        | u8 | u8     | u32         | u64      | u64       | CRC32C   | CRC32C    |               | 0x5A      |
//!  +--------+----+--------+-------------+----------+-----------+----------+-----------+---------------+-----------+
//!  '------------------------- head: 32 bytes -------------------------------------------'------- body ------------'
//! ```
//! Little-endian. The head's checksum covers its first 28 bytes (and so the body's checksum); the body's covers the
//! stored payload and the padding. A frame's length is a multiple of 8, so frames begin on multiples of 8.
//!
//! **No sector of valid frames is all zeros**, which is how a write that never reached the disk is told from damage.
//! Every run of [`ZERO_RUN`] zeros in a payload is followed by one 0xFF that is not the payload's (encoding 1; payloads
//! without such a run are stored as they are, encoding 0). The first and the last 8 bytes of a frame each lie in one
//! sector and hold two bytes that are never zero, so that no single damaged byte can look like a lost sector.

use bytes::Bytes;

use crate::types::{Entry, LogId};

/// Bytes of a frame's head.
pub(crate) const HEAD_BYTES: usize = 32;
/// Frames begin at multiples of this.
pub(crate) const FRAME_ALIGNMENT: u64 = 8;
/// The longest run of zeros that a stored payload may hold.
pub(crate) const ZERO_RUN: usize = 128;

const MARK: [u8; 2] = [0xE5, b'K'];
const PLAIN: u8 = 0;
const STUFFED: u8 = 1;
const STUFFING: u8 = 0xFF;
const PADDING: u8 = 0x5A;
const MIN_PADDING: usize = 2;

/// How a payload will be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    stuffed: bool,
    stored: usize,
}

impl Plan {
    pub(crate) fn of(payload: &[u8]) -> Self {
        if has_zero_run(payload) {
            Self { stuffed: true, stored: payload.len() + count_stuffing(payload) }
        } else {
            Self { stuffed: false, stored: payload.len() }
        }
    }

    /// The length of the whole frame.
    pub(crate) fn frame_bytes(self) -> u64 {
        frame_bytes(self.stored)
    }
}

fn frame_bytes(stored: usize) -> u64 {
    ((HEAD_BYTES + stored + MIN_PADDING) as u64).next_multiple_of(FRAME_ALIGNMENT)
}

/// Whether there is a run of at least [`ZERO_RUN`] zeros: such a run covers one of every `ZERO_RUN` bytes, so only
/// those are looked at unless they are zero.
fn has_zero_run(payload: &[u8]) -> bool {
    let mut at = ZERO_RUN - 1;
    while at < payload.len() {
        if payload[at] != 0 {
            at += ZERO_RUN;
            continue;
        }
        let begin = payload[..at].iter().rposition(|&byte| byte != 0).map_or(0, |i| i + 1);
        let end = payload[at..].iter().position(|&byte| byte != 0).map_or(payload.len(), |i| at + i);
        if end - begin >= ZERO_RUN {
            return true;
        }
        // `end` is not zero: the next run begins behind it.
        at = end + ZERO_RUN;
    }
    false
}

fn count_stuffing(payload: &[u8]) -> usize {
    let (mut count, mut run) = (0, 0);
    for &byte in payload {
        run = if byte == 0 { run + 1 } else { 0 };
        if run == ZERO_RUN {
            count += 1;
            run = 0;
        }
    }
    count
}

fn stuff(payload: &[u8], out: &mut Vec<u8>) {
    let mut run = 0;
    for &byte in payload {
        out.push(byte);
        run = if byte == 0 { run + 1 } else { 0 };
        if run == ZERO_RUN {
            out.push(STUFFING);
            run = 0;
        }
    }
}

fn unstuff(stored: &[u8]) -> Option<Vec<u8>> {
    let mut payload = Vec::with_capacity(stored.len());
    let mut run = 0;
    let mut bytes = stored.iter();
    while let Some(&byte) = bytes.next() {
        payload.push(byte);
        run = if byte == 0 { run + 1 } else { 0 };
        if run == ZERO_RUN {
            if *bytes.next()? != STUFFING {
                return None;
            }
            run = 0;
        }
    }
    Some(payload)
}

/// Appends the frame of `entry` to `out`; `plan` is that of its payload.
pub(crate) fn encode(entry: &Entry, plan: Plan, out: &mut Vec<u8>) {
    let begin = out.len();
    out.extend_from_slice(&MARK);
    out.push(entry.kind);
    out.push(if plan.stuffed { STUFFED } else { PLAIN });
    // A payload has at most 1 GiB, stuffed 129/128 of that.
    out.extend_from_slice(&(plan.stored as u32).to_le_bytes());
    out.extend_from_slice(&entry.id.term.to_le_bytes());
    out.extend_from_slice(&entry.id.index.to_le_bytes());
    out.extend_from_slice(&[0; 8]);
    if plan.stuffed {
        stuff(&entry.payload, out);
    } else {
        out.extend_from_slice(&entry.payload);
    }
    out.resize(begin + plan.frame_bytes() as usize, PADDING);
    let body = crc32c::crc32c(&out[begin + HEAD_BYTES..]);
    out[begin + 24..begin + 28].copy_from_slice(&body.to_le_bytes());
    let head = crc32c::crc32c(&out[begin..begin + 28]);
    out[begin + 28..begin + 32].copy_from_slice(&head.to_le_bytes());
}

/// The verified head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) id: LogId,
    kind: u8,
    encoding: u8,
    stored: usize,
    body_crc: u32,
}

impl Head {
    /// The head at the beginning of `bytes`, if it is there whole and verifies.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let head: &[u8; HEAD_BYTES] = bytes.first_chunk()?;
        if head[..2] != MARK || head[3] > STUFFED || crc32c::crc32c(&head[..28]) != u32_at(head, 28) {
            return None;
        }
        Some(Self {
            id: LogId::new(u64_at(head, 8), u64_at(head, 16)),
            kind: head[2],
            encoding: head[3],
            stored: u32_at(head, 4) as usize,
            body_crc: u32_at(head, 24),
        })
    }

    /// The length of the whole frame.
    pub(crate) fn frame_bytes(&self) -> u64 {
        frame_bytes(self.stored)
    }

    /// Whether the body of `frame` (a whole frame with this head) verifies.
    pub(crate) fn body_is_good(&self, frame: &[u8]) -> bool {
        crc32c::crc32c(&frame[HEAD_BYTES..]) == self.body_crc
    }

    /// The entry in `frame` (a whole frame with this head), sharing its memory where it can. `None` if the body does
    /// not verify.
    pub(crate) fn decode(&self, frame: &Bytes) -> Option<Entry> {
        self.body_is_good(frame).then(|| self.decode_verified(frame)).flatten()
    }

    /// The entry in `frame`, whose body is known to verify.
    pub(crate) fn decode_verified(&self, frame: &Bytes) -> Option<Entry> {
        let stored = frame.slice(HEAD_BYTES..HEAD_BYTES + self.stored);
        let payload = if self.encoding == STUFFED { Bytes::from(unstuff(&stored)?) } else { stored };
        Some(Entry { id: self.id, kind: self.kind, payload })
    }
}

/// The little-endian u32 at `at`, which must lie within `bytes`.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut value = [0; 4];
    value.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(value)
}

/// The little-endian u64 at `at`, which must lie within `bytes`.
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut value = [0; 8];
    value.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame_of(entry: &Entry) -> Vec<u8> {
        let mut out = Vec::new();
        encode(entry, Plan::of(&entry.payload), &mut out);
        out
    }

    /// Payloads made of runs, many of them zeros of about the forbidden length.
    fn payload() -> impl Strategy<Value = Vec<u8>> {
        let run = (prop_oneof![Just(0u8), any::<u8>()], prop_oneof![1..8usize, 120..135usize, 250..270usize]);
        prop::collection::vec(run, 0..12)
            .prop_map(|runs| runs.into_iter().flat_map(|(byte, n)| std::iter::repeat_n(byte, n)).collect())
    }

    fn longest_zero_run(bytes: &[u8]) -> usize {
        bytes.split(|&byte| byte != 0).map(<[u8]>::len).max().unwrap_or(0)
    }

    proptest! {
        #[test]
        fn a_frame_gives_its_entry_back(payload in payload(), term: u64, index: u64, kind: u8) {
            let entry = Entry { id: LogId::new(term, index), kind, payload: payload.into() };
            let frame = Bytes::from(frame_of(&entry));
            let head = Head::parse(&frame).unwrap();
            prop_assert_eq!(head.frame_bytes(), frame.len() as u64);
            prop_assert_eq!(frame.len() % 8, 0);
            prop_assert_eq!(head.decode(&frame), Some(entry));
        }

        #[test]
        fn no_valid_sector_is_all_zeros_nor_one_byte_from_it(payloads in prop::collection::vec(payload(), 1..6), at: u8) {
            let mut bytes = vec![0xEE; usize::from(at) * 8];
            for payload in payloads {
                let entry = Entry { id: LogId::new(0, 0), kind: 0, payload: payload.into() };
                bytes.extend_from_slice(&frame_of(&entry));
            }
            for sector in bytes.chunks(512) {
                prop_assert!(sector.iter().filter(|&&byte| byte != 0).count() >= 2);
            }
        }

        #[test]
        fn only_long_runs_of_zeros_are_stuffed(payload in payload()) {
            let plan = Plan::of(&payload);
            prop_assert_eq!(plan.stuffed, longest_zero_run(&payload) >= ZERO_RUN);
            let mut stored = Vec::new();
            stuff(&payload, &mut stored);
            if plan.stuffed {
                prop_assert_eq!(stored.len(), plan.stored);
            } else {
                prop_assert_eq!(&stored, &payload);
            }
            prop_assert!(longest_zero_run(&stored) <= ZERO_RUN);
        }

        #[test]
        fn a_flipped_byte_is_noticed(payload in payload(), at: prop::sample::Index, flip in 1..=255u8) {
            let mut frame = frame_of(&Entry { id: LogId::new(7, 9), kind: 1, payload: payload.into() });
            let at = at.index(frame.len());
            frame[at] ^= flip;
            let frame = Bytes::from(frame);
            prop_assert!(Head::parse(&frame).is_none_or(|head| head.decode(&frame).is_none()));
        }
    }
}
