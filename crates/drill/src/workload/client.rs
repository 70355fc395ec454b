//! One client that writes.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use sillok_client::{Client, WriteError, commands::Conditions as _};
use sillok_wire::v1;

use super::{Shared, mix::command, retry_key};
use crate::history::{Action, Answer, Call, Serial};

/// Between an answer and the next question.
const THINK: std::ops::Range<u64> = 4..16;
/// Answers that may be asked for again.
const REMEMBERED: usize = 64;

#[derive(Debug, Clone, Copy)]
struct Intent {
    serial: Serial,
    channel: u32,
    action: Action,
}

pub(super) async fn run(shared: Arc<Shared>, client: Client, number: usize, patient: bool) {
    let mut random = StdRng::seed_from_u64(shared.load.seed.wrapping_add(number as u64));
    let mut answered: VecDeque<Intent> = VecDeque::new();
    let mut given_up: VecDeque<Intent> = VecDeque::new();
    let mut storm = shared.storm.subscribe();
    let mut stop = shared.stop.subscribe();
    while !shared.is_stopping() {
        let intent = match random.random_range(0..100) {
            // Two in a hundred repeat what was answered, or what nobody knows.
            0..2 if !answered.is_empty() => answered[random.random_range(0..answered.len())],
            2..20 if !given_up.is_empty() => given_up.pop_front().unwrap_or_else(|| fresh(&shared, &mut random)),
            _ => fresh(&shared, &mut random),
        };
        let started = shared.recorder.now();
        let answer = tokio::select! {
            answer = ask(&shared, &client, intent, patient) => answer,
            // It timed out, together with everyone; what it asked may have been recorded.
            _ = storm.changed() => {
                record(&shared, intent, started, Answer::Unknown, false);
                ask(&shared, &client, intent, patient).await
            }
        };
        match answer {
            Answer::Recorded { .. } | Answer::Refused(_) => {
                answered.push_back(intent);
                if answered.len() > REMEMBERED {
                    answered.pop_front();
                }
            }
            // One in eight never comes back.
            Answer::NotRecorded | Answer::Unknown if random.random_range(0..8) > 0 => given_up.push_back(intent),
            Answer::NotRecorded | Answer::Unknown => {}
        }
        let think = Duration::from_millis(random.random_range(THINK));
        tokio::select! {
            () = tokio::time::sleep(think) => {}
            _ = stop.changed() => {}
        }
    }
    // Half of what was given up is asked for once more when all is well; the rest stays unknown.
    for intent in given_up.into_iter().step_by(2) {
        ask(&shared, &client, intent, patient).await;
    }
}

fn fresh(shared: &Shared, random: &mut StdRng) -> Intent {
    let (channel, action) = shared.next_action(random);
    Intent { serial: shared.next_serial(), channel, action }
}

async fn ask(shared: &Shared, client: &Client, intent: Intent, patient: bool) -> Answer {
    let started = shared.recorder.now();
    let command = command(shared.load.channels.id(intent.channel), intent.action, intent.serial)
        .with_key(retry_key(intent.serial));
    let answer = match client.execute(command).await {
        Ok(receipt) => recorded(&receipt),
        Err(WriteError::Refused { reason, .. }) => Answer::Refused(reason),
        Err(WriteError::NotRecorded { .. } | WriteError::Invalid { .. }) => Answer::NotRecorded,
        Err(WriteError::Unknown { .. }) => Answer::Unknown,
    };
    record(shared, intent, started, answer, patient);
    answer
}

fn recorded(receipt: &v1::Receipt) -> Answer {
    let sequence = receipt.position.as_ref().map_or(0, |position| position.sequence);
    Answer::Recorded { revision: receipt.revision, sequence }
}

fn record(shared: &Shared, intent: Intent, started: Duration, answer: Answer, patient: bool) {
    let Intent { serial, channel, action } = intent;
    shared.recorder.call(Call { serial, channel, action, started, ended: shared.recorder.now(), answer, patient });
}
