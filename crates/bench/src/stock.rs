//! A cluster that holds so many events: what restarts, rebuilds and blank nodes have to deal with.

use crate::{
    BenchError, Event, Screen, Target, Work,
    load::feed::{Fed, feed},
};

/// Of a push, in bytes, about.
pub(crate) const EVENT_BYTES: usize = 200;
/// A node's disk holds an event about once and a half, with its views, and each of three nodes does.
const ROOM_BYTES_PER_EVENT: u64 = 3 * 420;
/// Segments are prepared ahead, and views are written in the background.
const ROOM_BYTES: u64 = 1 << 30;

/// Pushes of about [`EVENT_BYTES`] over eight channels of a thousand friends.
pub(crate) struct Stock {
    work: Work,
    lane: crate::work::Lane,
    /// Recorded by now.
    pub(crate) events: u64,
}

impl Stock {
    /// Makes the channels, which are the first events.
    pub(crate) async fn new(target: &Target) -> Result<Stock, BenchError> {
        let work = Work::new(Event::Push, EVENT_BYTES, 8, 1000);
        let events = work.prepare(&target.client()?).await?;
        Ok(Stock { lane: work.lane(0, 1), work, events })
    }

    /// Writes until there are so many, in all; `None` where there are as many.
    pub(crate) async fn fill(
        &mut self,
        target: &mut Target,
        events: u64,
        screen: &dyn Screen,
    ) -> Result<Option<Fed>, BenchError> {
        let more = events.saturating_sub(self.events);
        if more == 0 {
            return Ok(None);
        }
        target.has_room(more * ROOM_BYTES_PER_EVENT + ROOM_BYTES)?;
        let lane = &mut self.lane;
        let fed = feed(&target.client()?, more, "the cluster cannot be filled", screen, |_| lane.next()).await?;
        self.events += more;
        target.all_running()?;
        Ok(Some(fed))
    }

    /// What is written.
    pub(crate) fn work(&self) -> &Work {
        &self.work
    }
}
