//! Removing entries of a deposed leader from the end.

use std::sync::Arc;

use super::{Current, Writer};
use crate::{ahead::Space, error::Failure, layout::segment_name, scan::write_zeros};

impl Writer {
    /// Removes every entry from `from` on: intent, removal, and the end of the intent, each durable before the next.
    pub(super) fn truncate(&mut self, from: u64) -> Result<(), Failure> {
        let target = {
            let log = self.shared.log.read();
            let written = log.open.back().map_or(0, |segment| segment.first + segment.offsets.len() as u64);
            // A segment whose first entry goes is removed altogether, lest the next entry would still have fitted into
            // the one before; only the first segment has none before it.
            let segment = log.open.iter().rev().find(|segment| segment.first < from || segment.ordinal == 0);
            segment.filter(|_| from < written).map(|segment| {
                let end = if from == 0 { 0 } else { segment.offset_of(from) };
                Current::new(segment.ordinal, Arc::clone(&segment.file), end, 0)
            })
        };
        if let Some(target) = target {
            self.meta.meta.truncation = Some(from);
            self.meta.meta.durable = from.checked_sub(1);
            self.save_meta()?;
            self.remove_after(target)?;
            self.meta.meta.truncation = None;
            self.save_meta()?;
        }
        self.shared.log.write().pending_truncations.pop_front();
        Ok(())
    }

    fn remove_after(&mut self, mut target: Current) -> Result<(), Failure> {
        let shared = Arc::clone(&self.shared);
        shared.ahead.reset();
        let newest = self.current.ordinal + 1;
        for ordinal in (target.ordinal + 1..=newest).rev() {
            let name = segment_name(ordinal);
            shared.dir.remove(&name).map_err(|error| Failure::io("remove", name, error))?;
        }
        shared.dir.sync().map_err(|error| Failure::io("sync", ".", error))?;
        let name = || segment_name(target.ordinal);
        target.len = target.file.len().map_err(|error| Failure::io("read", name(), error))?;
        let written = {
            let mut log = shared.log.write();
            log.open.retain(|segment| segment.ordinal <= target.ordinal);
            log.open.back_mut().map_or(target.end, |segment| {
                let keep = segment.offsets.partition_point(|&offset| offset < target.end);
                segment.offsets.truncate(keep);
                std::mem::replace(&mut segment.end, target.end)
            })
        };
        if target.end == 0 {
            shared.log.write().open.clear();
        }
        write_zeros(&*target.file, target.end, written).map_err(|error| Failure::io("write", name(), error))?;
        target.file.sync_data().map_err(|error| Failure::io("sync", name(), error))?;
        shared.ahead.want(target.ordinal + 1, Space::Filled);
        self.current = target;
        Ok(())
    }
}
