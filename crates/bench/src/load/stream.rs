//! One stream of commands, whose answers come in order.

use std::{collections::VecDeque, sync::Arc, time::Instant};

use parking_lot::Mutex;
use sillok_client::{Client, SubmitOptions};

use super::Shared;
use crate::work::Lane;

/// Up to `window` unanswered, until the end. The clock of a command runs while it waits for room in the window.
pub(super) async fn run(client: Client, mut lane: Lane, window: usize, shard: usize, shared: Arc<Shared>) {
    let options = SubmitOptions { window_commands: window, ..SubmitOptions::default() };
    let (mut sender, mut answers) = client.submit_with(options).split();
    // When each unanswered command was to begin; noted before it is sent, so that no answer is earlier.
    let begun: Mutex<VecDeque<Instant>> = Mutex::default();
    let send = async {
        while let Some(due) = shared.turn().await {
            let command = lane.next();
            begun.lock().push_back(due);
            if sender.send(command).await.is_err() {
                break;
            }
        }
        sender.close();
    };
    let receive = async {
        let mut batch = Vec::new();
        while answers.next_batch(&mut batch).await {
            for answer in batch.drain(..) {
                let Some(due) = begun.lock().pop_front() else { return };
                match answer.outcome {
                    Ok(_) => shared.recorder.answered(shard, due),
                    Err(error) => shared.unwritten(error),
                }
            }
        }
    };
    tokio::join!(send, receive);
}
