//! Where a reader goes on: opaque to clients, checked when it comes back.
//!
//! ```text
//! 0        1                    17          25         29                    61
//! ┌────────┬────────────────────┬───────────┬──────────┬─────────────────────┐
//! │ 1      │ cluster id         │ index     │ items    │ head                │
//! └────────┴────────────────────┴───────────┴──────────┴─────────────────────┘
//! ```
//! `items` positions of the record at `index` are done, all of them where it is `u32::MAX`; `head` is the head of the
//! chain of records after `index`. Where nothing was read yet, all three are 0. Big endian. Append only: clients keep
//! cursors for years.

const VERSION: u8 = 1;
const LENGTH: usize = 61;
/// All positions of the record.
pub(super) const ALL: u32 = u32::MAX;

/// After so much of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cursor {
    pub(super) cluster_id: [u8; 16],
    pub(super) index: u64,
    pub(super) items: u32,
    pub(super) head: [u8; 32],
}

/// These bytes are no cursor of this cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum CursorError {
    #[error("the cursor is not one that this version makes")]
    Foreign,
    #[error("the cursor is of another cluster")]
    OtherCluster,
}

impl Cursor {
    /// Before everything.
    pub(super) fn beginning(cluster_id: [u8; 16]) -> Cursor {
        Cursor { cluster_id, index: 0, items: 0, head: [0; 32] }
    }

    pub(super) fn is_beginning(&self) -> bool {
        self.index == 0 && self.items == 0 && self.head == [0; 32]
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(LENGTH);
        bytes.push(VERSION);
        bytes.extend_from_slice(&self.cluster_id);
        bytes.extend_from_slice(&self.index.to_be_bytes());
        bytes.extend_from_slice(&self.items.to_be_bytes());
        bytes.extend_from_slice(&self.head);
        bytes
    }

    pub(super) fn decode(bytes: &[u8], cluster_id: [u8; 16]) -> Result<Cursor, CursorError> {
        let (version, rest) = bytes.split_first().ok_or(CursorError::Foreign)?;
        let (cluster, rest) = rest.split_first_chunk::<16>().ok_or(CursorError::Foreign)?;
        let (index, rest) = rest.split_first_chunk::<8>().ok_or(CursorError::Foreign)?;
        let (items, head) = rest.split_first_chunk::<4>().ok_or(CursorError::Foreign)?;
        let head = <[u8; 32]>::try_from(head).map_err(|_| CursorError::Foreign)?;
        if *version != VERSION {
            return Err(CursorError::Foreign);
        }
        if *cluster != cluster_id {
            return Err(CursorError::OtherCluster);
        }
        Ok(Cursor { cluster_id, index: u64::from_be_bytes(*index), items: u32::from_be_bytes(*items), head })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_goes_out_comes_back(index: u64, items: u32, head: [u8; 32], cluster_id: [u8; 16]) {
            let cursor = Cursor { cluster_id, index, items, head };
            prop_assert_eq!(Cursor::decode(&cursor.encode(), cluster_id), Ok(cursor));
        }

        #[test]
        fn other_bytes_are_refused(bytes: Vec<u8>) {
            prop_assume!(bytes.len() != LENGTH);
            prop_assert_eq!(Cursor::decode(&bytes, [0; 16]), Err(CursorError::Foreign));
        }
    }

    #[test]
    fn a_cursor_of_another_cluster_is_told_apart() {
        let cursor = Cursor { cluster_id: [1; 16], index: 7, items: ALL, head: [9; 32] };
        assert_eq!(Cursor::decode(&cursor.encode(), [2; 16]), Err(CursorError::OtherCluster));
    }

    #[test]
    fn the_layout_is_the_one_above() {
        let cursor = Cursor { cluster_id: [0xAA; 16], index: 258, items: 3, head: [0xBB; 32] };
        let mut expected = vec![1];
        expected.extend([0xAA; 16]);
        expected.extend([0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 3]);
        expected.extend([0xBB; 32]);
        assert_eq!(cursor.encode(), expected);
    }
}
