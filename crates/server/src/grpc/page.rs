//! Page tokens: where a list goes on, opaque to clients.
//!
//! ```text
//! lower-case hexadecimal of:
//! 0        1                  9
//! ┌────────┬──────────────────┬───────────────────────────┐
//! │ version│ check            │ last key of the page before│
//! └────────┴──────────────────┴───────────────────────────┘
//! check = the first 8 bytes of BLAKE3(version ‖ the list's scope ‖ last key)
//! ```
//! The scope is the call and everything in the request that decides what is listed, so that a token of one list is no token
//! of another, and a token that was cut or altered is none at all. It is no secret: it grants nothing that the request would
//! not give.

use sillok_wire::{errors::Problem, v1::Reason};
use tonic::Status;

/// Raised where the last key means something else.
const VERSION: u8 = 1;
const CHECK_BYTES: usize = 8;
/// A ticket id of 128 bytes is the longest key; anything much longer is no token.
const TOKEN_BYTES_MAX: usize = 1 + CHECK_BYTES + 256;

/// The default and the largest `page_size`.
const SIZE_DEFAULT: usize = 100;
const SIZE_MAX: usize = 1_000;

/// What one list is: hashed with every part preceded by its length.
pub(crate) struct Scope(blake3::Hasher);

impl Scope {
    /// The list of one call.
    pub(crate) fn of(call: &str) -> Scope {
        Scope(blake3::Hasher::new()).and(call.as_bytes())
    }

    /// Narrowed by one more part of the request.
    pub(crate) fn and(mut self, part: &[u8]) -> Scope {
        self.0.update(&(part.len() as u64).to_le_bytes()).update(part);
        self
    }

    /// The token after the key that the page ended with.
    pub(crate) fn token(&self, last_key: &[u8]) -> String {
        let check = self.check(last_key);
        let bytes = [VERSION].into_iter().chain(check).chain(last_key.iter().copied());
        bytes.flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
    }

    /// The key that the page before ended with; `None`: this is the first.
    pub(crate) fn last_key(&self, token: &str) -> Result<Option<Vec<u8>>, Status> {
        if token.is_empty() {
            return Ok(None);
        }
        let bytes = unhex(token).ok_or_else(|| invalid("it is cut or was not made by this service"))?;
        let (version, rest) = bytes.split_first().ok_or_else(|| invalid("it is empty"))?;
        if *version != VERSION {
            return Err(invalid("it is of another version"));
        }
        let (check, key) = rest.split_at_checked(CHECK_BYTES).ok_or_else(|| invalid("it is cut"))?;
        if check != self.check(key) {
            return Err(invalid("it is of another list, or was altered; keep every other field as it was"));
        }
        Ok(Some(key.to_vec()))
    }

    /// The same for lists ordered by a number.
    pub(crate) fn last_number(&self, token: &str) -> Result<Option<u64>, Status> {
        let Some(key) = self.last_key(token)? else { return Ok(None) };
        let bytes = <[u8; 8]>::try_from(key.as_slice()).map_err(|_| invalid("its key is no number"))?;
        Ok(Some(u64::from_le_bytes(bytes)))
    }

    /// The same for lists ordered by a text.
    pub(crate) fn last_text(&self, token: &str) -> Result<Option<String>, Status> {
        let Some(key) = self.last_key(token)? else { return Ok(None) };
        String::from_utf8(key).map(Some).map_err(|_| invalid("its key is no text"))
    }

    /// The token after a number.
    pub(crate) fn token_after_number(&self, last: u64) -> String {
        self.token(&last.to_le_bytes())
    }

    fn check(&self, key: &[u8]) -> [u8; CHECK_BYTES] {
        let mut hasher = self.0.clone();
        hasher.update(&[VERSION]).update(key);
        let mut check = [0; CHECK_BYTES];
        hasher.finalize_xof().fill(&mut check);
        check
    }
}

/// How many rows a page may have.
pub(crate) fn size(asked: u32) -> Result<usize, Status> {
    match asked as usize {
        0 => Ok(SIZE_DEFAULT),
        size if size <= SIZE_MAX => Ok(size),
        size => Err(Problem::new(Reason::InvalidCommand, format!("page_size {size} is over the limit of {SIZE_MAX}"))
            .violation("page_size", format!("must be 1 to {SIZE_MAX}; 0 means {SIZE_DEFAULT}"))
            .outcome(None)
            .into()),
    }
}

/// A token that cannot be used, and why.
pub(crate) fn invalid(why: &str) -> Status {
    Problem::new(Reason::PageTokenInvalid, format!("the page token cannot be used: {why}; start again without one"))
        .violation("page_token", why)
        .outcome(None)
        .into()
}

fn digit(nibble: u8) -> char {
    char::from(if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let nibble = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    if !text.len().is_multiple_of(2) || text.len() > 2 * TOKEN_BYTES_MAX {
        return None;
    }
    text.as_bytes().chunks_exact(2).map(|pair| Some(nibble(pair[0])? << 4 | nibble(pair[1])?)).collect()
}

#[cfg(test)]
mod tests {
    use sillok_wire::errors::reason_of;
    use tonic::Code;

    use super::*;

    fn scope() -> Scope {
        Scope::of("ListFriends").and(b"shop").and(b"filter")
    }

    #[test]
    fn a_token_comes_back() {
        assert_eq!(scope().last_number("").unwrap(), None);
        for number in [0, 1, 255, u64::MAX] {
            assert_eq!(scope().last_number(&scope().token_after_number(number)).unwrap(), Some(number));
        }
        assert_eq!(scope().last_text(&scope().token("c.1".as_bytes())).unwrap().as_deref(), Some("c.1"));
    }

    #[test]
    fn every_altered_or_cut_token_is_refused() {
        let token = scope().token_after_number(7);
        for at in 0..token.len() {
            let mut altered = token.clone().into_bytes();
            altered[at] = if altered[at] == b'0' { b'1' } else { b'0' };
            let altered = String::from_utf8(altered).unwrap();
            let status = scope().last_number(&altered).unwrap_err();
            assert_eq!(reason_of(&status), Some(Reason::PageTokenInvalid), "{altered}");
            assert_eq!(status.code(), Code::InvalidArgument);
            if at > 0 {
                assert!(scope().last_number(&token[..at]).is_err(), "cut at {at}");
            }
        }
        for other in ["x", "zz", "한글", "0", &"00".repeat(4_000)] {
            assert!(scope().last_number(other).is_err(), "{other}");
        }
    }

    #[test]
    fn a_token_of_another_list_is_refused() {
        let token = scope().token_after_number(7);
        assert!(Scope::of("ListFriends").and(b"shop2").and(b"filter").last_number(&token).is_err());
        assert!(Scope::of("ListTickets").and(b"shop").and(b"filter").last_number(&token).is_err());
        // The parts do not run into each other.
        assert!(Scope::of("ListFriends").and(b"shopf").and(b"ilter").last_number(&token).is_err());
    }

    #[test]
    fn a_page_has_its_bounds() {
        assert_eq!(size(0).unwrap(), 100);
        assert_eq!(size(1_000).unwrap(), 1_000);
        assert_eq!(size(1_001).unwrap_err().code(), Code::InvalidArgument);
    }
}
