//! How many each of many friends holds: counters in slices of bits.

use roaring::RoaringBitmap;

/// A count for each of many friends: slice `n` holds the friends whose count has bit `n`.
///
/// ```text
/// friend      1 2 3 4        slice 0: {1, 3}
/// count       1 2 3 0        slice 1: {2, 3}
/// ```
/// A million friends with one ticket each are one bitmap, and one more for all of them is a carry, not a million steps.
#[derive(Debug, Clone, Default)]
pub struct Held {
    slices: Vec<RoaringBitmap>,
}

impl Held {
    /// The count of one friend.
    pub fn get(&self, number: u32) -> u32 {
        let slices = self.slices.iter().enumerate();
        slices.map(|(bit, slice)| u32::from(slice.contains(number)) << bit).sum()
    }

    /// One more for one friend.
    pub(crate) fn add_one(&mut self, number: u32) {
        for slice in &mut self.slices {
            if slice.insert(number) {
                return;
            }
            slice.remove(number);
        }
        self.slices.push(RoaringBitmap::from_iter([number]));
    }

    /// One more for each of these.
    pub(crate) fn add_each(&mut self, numbers: &RoaringBitmap) {
        let mut carry = numbers.clone();
        for slice in &mut self.slices {
            if carry.is_empty() {
                return;
            }
            let next = &*slice & &carry;
            *slice ^= &carry;
            carry = next;
        }
        if !carry.is_empty() {
            self.slices.push(carry);
        }
    }

    /// Sets the count of one friend.
    pub(crate) fn set(&mut self, number: u32, count: u32) {
        let bits = (u32::BITS - count.leading_zeros()) as usize;
        if self.slices.len() < bits {
            self.slices.resize_with(bits, RoaringBitmap::new);
        }
        for (bit, slice) in self.slices.iter_mut().enumerate() {
            if count >> bit & 1 == 1 {
                slice.insert(number);
            } else {
                slice.remove(number);
            }
        }
    }

    /// Takes the counts of `numbers` from `other`; the other counts stay.
    pub(crate) fn replace(&mut self, numbers: &RoaringBitmap, other: &Held) {
        for slice in &mut self.slices {
            *slice -= numbers;
        }
        if self.slices.len() < other.slices.len() {
            self.slices.resize_with(other.slices.len(), RoaringBitmap::new);
        }
        for (slice, theirs) in self.slices.iter_mut().zip(&other.slices) {
            *slice |= theirs & numbers;
        }
    }

    /// Only the counts of these.
    pub(crate) fn of(&self, numbers: &RoaringBitmap) -> Held {
        Held { slices: self.slices.iter().map(|slice| slice & numbers).collect() }
    }

    /// Those whose count is at least `least`, which is not 0.
    pub(crate) fn at_least(&self, least: u32) -> RoaringBitmap {
        let bits = (u32::BITS - least.leading_zeros()) as usize;
        if bits > self.slices.len() {
            return RoaringBitmap::new();
        }
        // From the highest bit down: those above `least` so far, and those equal to it so far (`None`: everybody).
        let mut above = RoaringBitmap::new();
        let mut equal: Option<RoaringBitmap> = None;
        for (bit, slice) in self.slices.iter().enumerate().rev() {
            let within = |set: &Option<RoaringBitmap>| match set {
                Some(set) => set & slice,
                None => slice.clone(),
            };
            if bit < bits && least >> bit & 1 == 1 {
                equal = Some(within(&equal));
            } else {
                above |= within(&equal);
                if let Some(equal) = &mut equal {
                    *equal -= slice;
                }
            }
        }
        above | equal.unwrap_or_default()
    }
}
