//! Many sealed segments asked at once whether they have a key.
//!
//! A segment's own filter answers in some 25 ns. Every fresh key is asked of all segments, and with ninety of them that was two
//! fifths of a leader's thread. An overview has the segments side by side: a word is one place of 64 neighbouring segments, a bit for
//! each, so that four words say of all 64 which may have a key. One in forty of those that do not is among them, and only they are
//! asked by their own filters.
//!
//! It is made in memory, of the key tables on the disk, segment by segment by the thread that seals, and only where many keys are
//! asked for, which is at a leader. What it does not cover yet is asked one by one.

use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

use parking_lot::RwLock;

use crate::{sealed::Sealed, shared::Shared};

/// Segments side by side: the bits of a word.
const TOGETHER: usize = 64;
/// So few are as quickly asked one by one.
const FEW: usize = 8;
/// So few questions are not worth it.
const FEW_QUESTIONS: u64 = 1_000;
/// Words for each key of a segment: bits a key, for each segment.
const WORDS_A_KEY: u64 = 8;
/// Words for segments with next to no keys, since others may follow.
const WORDS_AT_LEAST: u64 = 1 << 10;
/// Words that are looked at for a key.
const PLACES: usize = 4;

/// See the module.
#[derive(Default)]
pub(crate) struct Overview {
    slices: RwLock<Vec<Arc<Slice>>>,
    /// The oldest so many sealed segments are in the slices.
    covered: AtomicUsize,
    questions: AtomicU64,
}

/// Up to 64 segments.
struct Slice(Box<[AtomicU64]>);

impl Slice {
    fn new(keys: u64) -> Slice {
        Slice((0..(keys * WORDS_A_KEY).max(WORDS_AT_LEAST)).map(|_| AtomicU64::new(0)).collect())
    }

    fn places(&self, key: u64) -> [usize; PLACES] {
        // Keys are hashes, but that is the caller's to know.
        let mut at = key.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        at = (at ^ (at >> 32)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
        let step = at.rotate_left(32) | 1;
        std::array::from_fn(|_| {
            at = at.wrapping_add(step);
            ((u128::from(at) * self.0.len() as u128) >> 64) as usize
        })
    }

    /// By one caller at a time.
    fn add(&self, bit: usize, key: u64) {
        for place in self.places(key) {
            let word = &self.0[place];
            word.store(word.load(Ordering::Relaxed) | 1 << bit, Ordering::Relaxed);
        }
    }

    /// A bit for each segment that may have `key`.
    fn ask(&self, key: u64) -> u64 {
        self.places(key).into_iter().fold(u64::MAX, |may, place| may & self.0[place].load(Ordering::Relaxed))
    }
}

/// Places of the bits that are set, ascending.
fn bits(mut word: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = word.trailing_zeros() as usize;
        word &= word.wrapping_sub(1);
        (bit < TOGETHER).then_some(bit)
    })
}

/// One bit for each of the first so many.
fn ones(count: usize) -> u64 {
    if count >= TOGETHER { u64::MAX } else { (1 << count) - 1 }
}

impl Overview {
    /// Of `keys`, notes those that one of the segments may have.
    pub(crate) fn screen(&self, sealed: &[Arc<Sealed>], keys: &[u64], may_be_there: &mut [bool]) {
        self.questions.fetch_add(keys.len() as u64, Ordering::Relaxed);
        // What is covered was written before it was said to be.
        let covered = self.covered.load(Ordering::Acquire).min(sealed.len());
        let (covered, rest) = sealed.split_at(covered);
        for (slice, segments) in self.slices.read().iter().zip(covered.chunks(TOGETHER)) {
            for (key, may_be_there) in keys.iter().zip(may_be_there.iter_mut()) {
                let may = slice.ask(*key) & ones(segments.len());
                *may_be_there |= bits(may).any(|bit| segments[bit].may_hold(*key));
            }
        }
        rest.iter().for_each(|segment| segment.screen(keys, may_be_there));
    }

    /// Of the segments but the oldest `passed`, those that may have `key`.
    pub(crate) fn holders(&self, sealed: &[Arc<Sealed>], passed: usize, key: u64) -> Vec<Arc<Sealed>> {
        if passed >= sealed.len() {
            return Vec::new();
        }
        self.questions.fetch_add(1, Ordering::Relaxed);
        let covered = self.covered.load(Ordering::Acquire).min(sealed.len());
        let slices = self.slices.read();
        let in_slices = slices.iter().enumerate().flat_map(|(n, slice)| {
            let first = n * TOGETHER;
            let may = slice.ask(key) & ones(covered.saturating_sub(first)) & !ones(passed.saturating_sub(first));
            bits(may).map(move |bit| first + bit)
        });
        let candidates = in_slices.chain(covered.max(passed)..sealed.len());
        candidates.map(|n| &sealed[n]).filter(|segment| segment.may_hold(key)).cloned().collect()
    }

    /// Whether so many segments should be covered that are not.
    pub(crate) fn wants_more(&self, sealed: usize) -> bool {
        sealed > FEW
            && self.covered.load(Ordering::Acquire) < sealed
            && self.questions.load(Ordering::Relaxed) >= FEW_QUESTIONS
    }

    /// Covers the next segment, one caller at a time.
    fn cover(&self, sealed: &[Arc<Sealed>], keys: impl Iterator<Item = u64>) {
        let covered = self.covered.load(Ordering::Acquire);
        let (n, bit) = (covered / TOGETHER, covered % TOGETHER);
        let known = self.slices.read().get(n).cloned();
        let slice = known.unwrap_or_else(|| {
            // Those to come are taken to be like those that are there.
            let like = &sealed[(n * TOGETHER).saturating_sub(TOGETHER)..];
            let slice = Arc::new(Slice::new(like.iter().map(|segment| segment.trailer.keys).max().unwrap_or_default()));
            let mut slices = self.slices.write();
            slices.push(slice.clone());
            let bytes: usize = slices.iter().map(|slice| size_of_val(&*slice.0)).sum();
            metrics::gauge!("sillok_chronicle_overview_bytes").set(bytes as f64);
            slice
        });
        keys.for_each(|key| slice.add(bit, key));
        self.covered.store(covered + 1, Ordering::Release);
    }
}

/// Covers one more segment; false where there is none to be covered.
pub(crate) fn cover_next(shared: &Shared) -> bool {
    let overview = &shared.overview;
    let sealed = {
        let log = shared.log.read();
        if !overview.wants_more(log.sealed.len()) {
            return false;
        }
        log.sealed.clone()
    };
    let Some(segment) = sealed.get(overview.covered.load(Ordering::Acquire)) else { return false };
    match shared.stop_if_damaged(segment.keys(&shared.pool)) {
        Ok(keys) => {
            overview.cover(&sealed, keys.into_iter());
            true
        }
        // Tried again when the next segment is sealed.
        Err(error) => {
            tracing::warn!("retry keys are looked for segment by segment for now, which takes longer: {error}");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{Chronicle, Entry, Fold, Identity, LogId, Options, Workers, sim::SimDisk};

    fn key(segment: u64, n: u64) -> u64 {
        (segment << 32 | n).wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }

    /// Of random keys, and of keys that are no hashes.
    #[test]
    fn a_slice_forgets_no_key_and_names_few_segments_beside() {
        for key in [key, |segment: u64, n: u64| segment << 32 | n] {
            let slice = Slice::new(2_000);
            for segment in 0..64 {
                (0..2_000).for_each(|n| slice.add(segment, key(segment as u64, n)));
            }
            for segment in 0..64 {
                assert!((0..2_000).all(|n| slice.ask(key(segment, n)) & 1 << segment != 0), "segment {segment}");
            }
            let beside: u32 = (0..10_000).map(|n| slice.ask(key(64, n)).count_ones()).sum();
            assert!(beside < 64 * 400, "{beside} of {} answers", 64 * 10_000);
        }
    }

    fn key_of(entry: &Entry, keys: &mut Vec<u64>) {
        keys.push(key(0, entry.id.index));
    }

    struct Keys;

    impl Fold for Keys {
        fn restore(&mut self, _: &[u8]) {}

        fn entry(&mut self, entry: &Entry, keys: &mut Vec<u64>) {
            key_of(entry, keys);
        }

        fn state(&self) -> Vec<u8> {
            Vec::new()
        }
    }

    /// A chronicle whose opener works, of entries with a key each, five of which fill a segment.
    fn opened(sim: &SimDisk) -> Chronicle {
        let mut options = Options::new(std::path::PathBuf::from("/data/chronicle"));
        (options.disk, options.segment_bytes, options.keys) = (sim.boot(), 8 << 10, key_of);
        (options.fold, options.workers) = (Box::new(Keys), Workers::Opener(Arc::new(|| {})));
        Chronicle::open(options).unwrap()
    }

    fn append(chronicle: &Chronicle, indexes: std::ops::Range<u64>) {
        let last = LogId::new(1, indexes.end - 1);
        let entry = |index| Entry { id: LogId::new(1, index), kind: 1, payload: Bytes::from(format!("{index:01500}")) };
        chronicle.append(indexes.map(entry).collect(), |result| result.unwrap());
        chronicle.work();
        chronicle.set_committed(last);
        chronicle.work();
    }

    fn covered(chronicle: &Chronicle) -> usize {
        chronicle.shared().overview.covered.load(Ordering::Acquire)
    }

    /// Everything that is recorded is found, and nothing else, with all that may be passed over and without.
    fn check(chronicle: &Chronicle, entries: u64) {
        let keys: Vec<u64> = (0..entries + 200).map(|index| key(0, index)).collect();
        let passed = chronicle.screen(&keys);
        for (index, (&key, &screened)) in (0..).zip(keys.iter().zip(&passed)) {
            let recorded: Vec<u64> = (index < entries).then_some(index).into_iter().collect();
            for passed in [0, screened] {
                let mut found = Vec::new();
                chronicle.find_from(passed, key, &mut found).unwrap();
                assert_eq!(found, recorded, "{index}, {passed} segments passed over");
            }
            // What is passed over is only what does not have it.
            let holder = chronicle
                .sealed()
                .iter()
                .position(|segment| (segment.first.index..=segment.last.index).contains(&index));
            for passed in 0..=chronicle.sealed().len() {
                let mut found = Vec::new();
                chronicle.find_from(passed, key, &mut found).unwrap();
                let is_passed = holder.is_some_and(|holder| holder < passed);
                assert_eq!(found.is_empty(), is_passed || recorded.is_empty(), "{index}, {passed} passed over");
            }
        }
        let none = passed[entries as usize..].iter().filter(|&&passed| passed == chronicle.sealed().len());
        assert!(none.count() > 195, "a fresh key is looked for nowhere");
    }

    #[test]
    fn keys_are_found_before_while_and_after_segments_are_covered() {
        let sim = SimDisk::new(1);
        let identity = Identity { node_id: 1, incarnation: 1, site: "chungju".to_owned(), cluster_id: None };
        crate::format(&sim.boot(), std::path::Path::new("/data/chronicle"), &identity).unwrap();
        let chronicle = opened(&sim);
        append(&chronicle, 0..30);
        check(&chronicle, 30);
        chronicle.work();
        assert_eq!(covered(&chronicle), 0, "so few segments are asked one by one");
        append(&chronicle, 30..400);
        let sealed = chronicle.sealed().len();
        assert!(sealed > TOGETHER + FEW, "{sealed} segments");
        assert_eq!(covered(&chronicle), sealed, "who seals covers as well, once it is asked for");
        check(&chronicle, 400);
        append(&chronicle, 400..450);
        assert_eq!(covered(&chronicle), chronicle.sealed().len());
        check(&chronicle, 450);
        chronicle.close();

        let chronicle = opened(&sim);
        chronicle.work();
        assert_eq!(covered(&chronicle), 0, "nobody has asked");
        let keys: Vec<u64> = (0..FEW_QUESTIONS).map(|index| key(0, index)).collect();
        chronicle.screen(&keys);
        assert_eq!(covered(&chronicle), 0, "and whoever asks does not wait for it");
        chronicle.work();
        assert_eq!(covered(&chronicle), chronicle.sealed().len());
        check(&chronicle, 450);
        chronicle.close();
    }

    #[test]
    fn bits_are_named_by_their_places() {
        assert_eq!(bits(0).count(), 0);
        assert_eq!(bits(1 << 63 | 0b101).collect::<Vec<_>>(), [0, 2, 63]);
        assert_eq!((ones(0), ones(3), ones(64), ones(70)), (0, 0b111, u64::MAX, u64::MAX));
    }
}
