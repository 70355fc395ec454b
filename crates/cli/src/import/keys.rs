//! Retry keys of rows that have none of their own, so that importing a file twice changes nothing.

use std::collections::HashMap;

use sillok_wire::v1;

/// Gives a row the key of its content and of how often that content stood before it in the same file. A second import of the
/// file, or of the file with rows added anywhere, gives the same rows the same keys.
#[derive(Default)]
pub(super) struct Keys {
    seen: HashMap<[u8; 16], u32>,
}

impl Keys {
    /// Gives the command a key unless it has one; true where the key was made here.
    pub(super) fn complete(&mut self, command: &mut v1::Command) -> bool {
        if command.context().is_some_and(|context| !context.retry_key.is_empty()) {
            return false;
        }
        let content = sillok_wire::fingerprint(command);
        let occurrence = self.seen.entry(content).or_insert(0);
        *occurrence += 1;
        let key = format!("row-{}-{occurrence}", crate::format::hex(&content));
        set(command, key);
        true
    }
}

/// The key of the next try, after this one was refused in an earlier import: a refusal binds its key for ever.
pub(super) fn next_try(command: &mut v1::Command) {
    let Some(key) = command.context().map(|context| context.retry_key.clone()) else { return };
    let (base, tries) = match key.rsplit_once("-try") {
        Some((base, tries)) => (base, tries.parse().unwrap_or(1)),
        None => (key.as_str(), 1_u32),
    };
    set(command, format!("{base}-try{}", tries + 1));
}

fn set(command: &mut v1::Command, key: String) {
    if let Some(context) = command.context_mut() {
        context.get_or_insert_default().retry_key = key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn friend(user_key: &str) -> v1::Command {
        v1::AddFriendRequest { channel_id: "shop".into(), user_key: user_key.into(), ..Default::default() }.into()
    }

    fn keys_of(rows: &[&str]) -> Vec<String> {
        let mut keys = Keys::default();
        rows.iter()
            .map(|row| {
                let mut command = friend(row);
                assert!(keys.complete(&mut command));
                command.context().unwrap().retry_key.clone()
            })
            .collect()
    }

    #[test]
    fn the_same_row_has_the_same_key_in_every_import() {
        assert_eq!(keys_of(&["a", "b", "a"]), keys_of(&["a", "b", "a"]));
        let (first, longer) = (keys_of(&["a", "b"]), keys_of(&["c", "a", "b"]));
        assert_eq!(first, longer[1..]);
    }

    #[test]
    fn a_row_that_stands_twice_has_two_keys() {
        let keys = keys_of(&["a", "a", "b"]);
        assert_ne!(keys[0], keys[1]);
        assert!(keys[0].ends_with("-1") && keys[1].ends_with("-2") && keys[2].ends_with("-1"));
        assert!(keys.iter().all(|key| key.len() <= 64));
    }

    #[test]
    fn a_key_of_the_rows_own_is_kept() {
        let mut command = friend("a");
        set(&mut command, "mine".into());
        assert!(!Keys::default().complete(&mut command));
        assert_eq!(command.context().unwrap().retry_key, "mine");
    }

    #[test]
    fn who_imports_does_not_change_the_key() {
        let mut by_me = friend("a");
        by_me.context_mut().unwrap().get_or_insert_default().actor = "me".into();
        Keys::default().complete(&mut by_me);
        assert_eq!(by_me.context().unwrap().retry_key, keys_of(&["a"])[0]);
    }

    #[test]
    fn tries_are_counted() {
        let mut command = friend("a");
        set(&mut command, "row-x-1".into());
        next_try(&mut command);
        assert_eq!(command.context().unwrap().retry_key, "row-x-1-try2");
        next_try(&mut command);
        assert_eq!(command.context().unwrap().retry_key, "row-x-1-try3");
    }
}
