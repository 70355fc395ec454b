//! Fresh retry keys.

/// A key that nobody has used: 128 random bits, as 32 hexadecimal digits.
///
/// One key is one intent, for ever: a new try after a definite refusal takes a new key, a repetition after an unknown
/// outcome takes the old one.
pub fn retry_key() -> String {
    format!("{:032x}", rand::random::<u128>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_of_the_contract_and_differ() {
        let keys: std::collections::HashSet<String> = (0..1000).map(|_| retry_key()).collect();
        assert_eq!(keys.len(), 1000);
        assert!(keys.iter().all(|key| key.len() == 32 && key.bytes().all(|byte| byte.is_ascii_hexdigit())));
    }
}
