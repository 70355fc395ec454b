//! Fresh retry keys.

const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// A key that nobody has used: 128 random bits, as 26 digits of Crockford's base 32, which nobody misreads and no shell
/// misunderstands. It is stored, sent and hashed with its command for ever, so it is short.
///
/// One key is one intent, for ever: a new try after a definite refusal takes a new key, a repetition after an unknown
/// outcome takes the old one.
pub fn retry_key() -> String {
    let bits: u128 = rand::random();
    (0..26).rev().map(|digit| char::from(DIGITS[(bits >> (5 * digit)) as usize % DIGITS.len()])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_of_the_contract_and_differ() {
        let keys: std::collections::HashSet<String> = (0..1000).map(|_| retry_key()).collect();
        assert_eq!(keys.len(), 1000);
        let digits_at =
            |place: usize| keys.iter().map(|key| key.as_bytes()[place]).collect::<std::collections::HashSet<_>>();
        assert_eq!(digits_at(0).len(), 8, "the first digit has the three bits that are left");
        assert!((1..26).all(|place| digits_at(place).len() == 32));
        assert!(keys.iter().all(|key| key.len() == 26 && key.bytes().all(|byte| DIGITS.contains(&byte))));
    }
}
