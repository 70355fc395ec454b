//! Writes going on while sites are killed and restarted, into a channel of their own, only when asked for.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use sillok_client::{Client, commands};
use sillok_wire::v1;
use tokio::task::JoinHandle;

use crate::format::{duration, thousands};

/// Where they go.
const CHANNEL: &str = "dev-writes";
/// About twenty a second.
const EVERY: Duration = Duration::from_millis(50);

#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    acknowledged: u64,
    last: Option<Instant>,
    longest: Duration,
}

/// One task that writes while it is switched on.
pub(super) struct Writes {
    on: Arc<AtomicBool>,
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

impl Writes {
    pub(super) fn new(client: Client, on: bool) -> Writes {
        let (on, seen) = (Arc::new(AtomicBool::new(on)), Arc::new(Mutex::new(Seen::default())));
        let task = tokio::spawn(write(client, Arc::clone(&on), Arc::clone(&seen)));
        Writes { on, seen, task }
    }

    /// Says what is so now.
    pub(super) fn toggle(&self) -> &'static str {
        match self.on.fetch_xor(true, Ordering::Relaxed) {
            false => "writing about 20 times a second into channel dev-writes",
            true => "writing no more",
        }
    }

    /// For the status line.
    pub(super) fn line(&self) -> String {
        let seen = *self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.acknowledged == 0 && !self.on.load(Ordering::Relaxed) {
            return String::new();
        }
        format!(" · {} writes acknowledged, longest gap {}", thousands(seen.acknowledged), duration(seen.longest))
    }
}

impl Drop for Writes {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn write(client: Client, on: Arc<AtomicBool>, seen: Arc<Mutex<Seen>>) {
    let mut number = 0_u64;
    let mut prepared = false;
    loop {
        if !on.load(Ordering::Relaxed) {
            seen.lock().unwrap_or_else(PoisonError::into_inner).last = None;
            tokio::time::sleep(EVERY).await;
            continue;
        }
        if !prepared {
            // Refused where an earlier start has done it.
            let _ = client.execute(commands::open_channel(CHANNEL, "dev가 쓰는 채널")).await;
            let _ = client.execute(commands::add_friend(CHANNEL, "beat")).await;
            prepared = true;
        }
        number += 1;
        let set = vec![v1::Attribute { key: "beat".to_owned(), value: number.to_string() }];
        let command = v1::SetAttributesRequest {
            channel_id: CHANNEL.to_owned(),
            user_key: "beat".to_owned(),
            set,
            ..Default::default()
        };
        if client.execute(command).await.is_ok() {
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            if let Some(last) = seen.last {
                seen.longest = seen.longest.max(now - last);
            }
            seen.acknowledged += 1;
            seen.last = Some(now);
        }
        tokio::time::sleep(EVERY).await;
    }
}
