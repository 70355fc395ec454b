//! A cluster that holds so many events: what restarts, rebuilds and blank nodes have to deal with.

use crate::{
    BenchError, Event, Screen, Target, Work,
    load::feed::{Fed, feed},
};

/// Of a push, in bytes, about, where nothing else is asked for.
pub(crate) const EVENT_BYTES: usize = 200;
/// What is recorded around an event, what the views keep of it, and its share of segments prepared ahead.
const AROUND_BYTES: usize = 100;
/// Nodes.
const COPIES: usize = 3;
/// Segments are prepared ahead, and views are written in the background.
const ROOM_BYTES: u64 = 1 << 30;

/// Pushes over eight channels of a thousand friends.
pub(crate) struct Stock {
    work: Work,
    lane: crate::work::Lane,
    /// Of an event, about.
    pub(crate) event_bytes: usize,
    /// Recorded by now.
    pub(crate) events: u64,
}

impl Stock {
    /// Makes the channels, which are the first events, for pushes of so many bytes.
    pub(crate) async fn new(target: &Target, event_bytes: usize) -> Result<Stock, BenchError> {
        let work = Work::new(Event::Push, event_bytes, 8, 1000);
        let events = work.prepare(&target.client()?).await?;
        Ok(Stock { lane: work.lane(0, 1), work, event_bytes, events })
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
        target.has_room(more * self.room_bytes() + ROOM_BYTES)?;
        let lane = &mut self.lane;
        let fed = feed(&target.client()?, more, "the cluster cannot be filled", screen, |_| lane.next()).await?;
        self.events += more;
        target.all_running()?;
        Ok(Some(fed))
    }

    /// On the disk, for an event: a quarter more than what it comes to, for what is made anew beside what is there.
    fn room_bytes(&self) -> u64 {
        (COPIES * (self.event_bytes + AROUND_BYTES) * 5 / 4) as u64
    }

    /// What is written.
    pub(crate) fn work(&self) -> &Work {
        &self.work
    }
}
