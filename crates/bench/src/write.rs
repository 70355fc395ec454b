//! Writes: how many are acknowledged a second, and how long each takes.

use crate::{
    BenchError, Event, How, Run, Screen, Target, Work,
    load::{self, Via},
};

/// What is written, and how.
#[derive(Debug, Clone)]
pub struct Write {
    /// One run for each of these numbers of commands in flight.
    pub in_flight: Vec<usize>,
    /// The rest of the load; its own `in_flight` is not used.
    pub how: How,
    /// What.
    pub event: Event,
    /// Bytes of an event, about.
    pub size: usize,
    /// Over how many channels.
    pub channels: usize,
    /// Of each channel, on average; at least 1.
    pub friends: usize,
}

/// One run for each number in flight, into the same channels.
///
/// # Errors
/// A command without a receipt; a node that ended.
pub async fn run(target: &mut Target, write: &Write, screen: &dyn Screen) -> Result<Vec<Run>, BenchError> {
    screen.progress("making the channels");
    let work = Work::new(write.event, write.size, write.channels, write.friends);
    let mut acknowledged = work.prepare(&target.client()?).await?;
    let mut runs = Vec::new();
    for &in_flight in &write.in_flight {
        let connections = write.how.connections.min(in_flight);
        let how = How { in_flight, connections, ..write.how.clone() };
        let measured = load::run(target, &work, &how, screen).await?;
        acknowledged += measured.answered;
        runs.push(describe(Run::of("write", title(&how, write.event), measured), &how, write));
    }
    // What is repeated under its key in a mix is acknowledged again and recorded once.
    if write.event != Event::Mix {
        target.holds(&work, acknowledged).await?;
    }
    Ok(runs)
}

fn title(how: &How, event: Event) -> String {
    let rate = how.rate.map_or_else(String::new, |rate| format!(", {rate} due a second"));
    format!("{} {}, {} in flight{rate}", how.via.name(), event.name(), how.in_flight)
}

fn describe(run: Run, how: &How, write: &Write) -> Run {
    let run = run
        .asked("mode", how.via.name())
        .asked("loop", if how.rate.is_some() { "open" } else { "closed" })
        .asked("event", write.event.name())
        .asked("size_bytes", write.size)
        .asked("in_flight", how.in_flight)
        .asked("connections", how.connections)
        .asked("channels", write.channels);
    match how.rate {
        Some(rate) => run.asked("rate_per_second", rate),
        None => run,
    }
}

impl Write {
    /// Pushes of 200 bytes in a closed loop.
    pub fn short(in_flight: Vec<usize>, via: Via, connections: usize, window: std::time::Duration) -> Write {
        let how = How { via, in_flight: 1, connections, rate: None, warm_up: window / 4, window: window.into() };
        Write { in_flight, how, event: Event::Push, size: 200, channels: 8, friends: 1000 }
    }
}
