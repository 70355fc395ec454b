//! From the options of a read to the table it is answered from, and the position the answer speaks for.

use sillok_views::{Applied, ChannelTable};
use sillok_wire::{
    errors::Problem,
    v1::{self, Reason},
};
use tonic::Status;

use super::{Queries, ask};

impl Queries {
    /// Waits until the views may answer.
    pub(super) async fn ready(&self, options: Option<&v1::ReadOptions>) -> Result<v1::ReadInfo, Status> {
        ask::options(options)?;
        tokio::time::timeout(self.timeout, self.node.read(options)).await.map_err(|_| {
            let message = format!("this node did not get as far as asked within {} s", self.timeout.as_secs());
            Status::from(ask::failed(Reason::PositionNotReached, message))
        })?
    }

    /// Reads one channel; nothing of it changes meanwhile, so `read` must be short.
    pub(super) fn channel<R>(
        &self,
        info: v1::ReadInfo,
        channel_id: &str,
        read: impl FnOnce(&ChannelTable) -> Result<R, Problem>,
    ) -> Result<(v1::ReadInfo, R), Status> {
        let (answer, applied) = self.node.views().read_channel(channel_id, |table, applied| {
            let answer = table.ok_or_else(|| ask::channel_not_found(channel_id)).and_then(read);
            (answer, applied)
        });
        // The views may have moved on since they were ready: the answer speaks for where they were just now.
        let info = self.speaks_for(&info, applied);
        match answer {
            Ok(answer) => Ok((info, answer)),
            Err(problem) => Err(speaking_for(problem, &info).into()),
        }
    }

    /// What an answer says that was read at `applied`, after waiting as `info` says.
    pub(super) fn speaks_for(&self, info: &v1::ReadInfo, applied: Option<Applied>) -> v1::ReadInfo {
        self.node.read_info(applied, info.consistency())
    }
}

/// That there is nothing is an answer too, and says what it speaks for: the facts of `ReadInfo`, in `ErrorInfo`.
fn speaking_for(mut problem: Problem, info: &v1::ReadInfo) -> Problem {
    if let Some(position) = &info.position {
        problem = problem.with("log", position.log).with("sequence", position.sequence).with("term", position.term);
    }
    for (fact, time) in [("last_event_at", &info.last_event_at), ("current_as_of", &info.current_as_of)] {
        if let Some(time) = time {
            // RFC 3339, as in JSON.
            problem = problem.with(fact, time);
        }
    }
    let consistency = info.consistency().as_str_name().trim_start_matches("READ_CONSISTENCY_");
    problem.with("consistency", consistency).with("node_id", info.node_id).with("site", &info.site)
}

/// A stream that ends because the node stops.
pub(super) fn shutting_down() -> Status {
    ask::failed(Reason::ShuttingDown, "the node stops; ask again at another node").into()
}
