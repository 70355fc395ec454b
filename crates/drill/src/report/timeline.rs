//! How it went, moment by moment.

use std::time::Duration;

use serde::Serialize;

use crate::{
    history::{Action, Answer, Call, History},
    screen::latency,
    stage::Fault,
    watch::Look,
};

/// About so many points over the whole drill.
const POINTS: f64 = 150.0;
/// Shorter moments hold too few answers to speak of a rate.
const SHORTEST: f64 = 0.1;

/// Rates and latencies of equal moments, and who led.
#[derive(Debug, Clone, Serialize)]
pub struct Timeline {
    /// The length of a moment.
    pub moment_seconds: f64,
    /// Acknowledged writes a second.
    pub writes: Vec<f64>,
    /// Linearizable reads a second.
    pub reads: Vec<f64>,
    /// Half of the writes answered in the moment took no longer, in ms; `None` where there were none.
    pub p50_ms: Vec<Option<f64>>,
    /// 99 of 100 took no longer, in ms.
    pub p99_ms: Vec<Option<f64>>,
    /// Who led; nobody between two spans.
    pub leaders: Vec<Span>,
}

/// One node led.
#[derive(Debug, Clone, Serialize)]
pub struct Span {
    /// Since the drill began.
    pub from_seconds: f64,
    /// Since the drill began.
    pub until_seconds: f64,
    /// Who.
    pub node: u64,
}

/// How long acknowledged writes took in one part of the drill.
#[derive(Debug, Clone, Serialize)]
pub struct Phase {
    /// Which part.
    pub name: &'static str,
    /// Acknowledged writes that began in it.
    pub writes: u64,
    /// Half took no longer.
    pub p50_ms: f64,
    /// 99 of 100 took no longer.
    pub p99_ms: f64,
    /// The longest.
    pub max_ms: f64,
}

fn acknowledged(history: &History) -> impl Iterator<Item = &Call> {
    let load = history.calls.iter().filter(|call| call.action != Action::Prepare);
    load.filter(|call| matches!(call.answer, Answer::Recorded { .. }))
}

impl Timeline {
    pub(super) fn new(history: &History, looks: &[Look], until: Duration) -> Timeline {
        let moment = (until.as_secs_f64() / POINTS).max(SHORTEST);
        let moments = (until.as_secs_f64() / moment).ceil() as usize;
        let place = |at: Duration| Some((at.as_secs_f64() / moment) as usize).filter(|place| *place < moments);
        let mut writes = vec![latency(); moments];
        let mut reads = vec![0.0; moments];
        for call in acknowledged(history) {
            if let Some(place) = place(call.ended) {
                writes[place].saturating_record((call.ended - call.started).as_micros() as u64);
            }
        }
        for place in history.reads.iter().filter_map(|read| place(read.ended)) {
            reads[place] += 1.0 / moment;
        }
        let at = |quantile: f64| {
            let each = writes
                .iter()
                .map(|moment| (!moment.is_empty()).then(|| moment.value_at_quantile(quantile) as f64 / 1000.0));
            each.collect::<Vec<_>>()
        };
        Timeline {
            moment_seconds: moment,
            p50_ms: at(0.5),
            p99_ms: at(0.99),
            writes: writes.iter().map(|latencies| latencies.len() as f64 / moment).collect(),
            reads,
            leaders: leaders(looks, until),
        }
    }
}

fn leaders(looks: &[Look], until: Duration) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    let mut before = None;
    for look in looks.iter().filter(|look| look.at <= until) {
        let at = look.at.as_secs_f64();
        if let Some(span) = spans.last_mut().filter(|_| before.is_some()) {
            span.until_seconds = at;
        }
        if let Some(node) = look.leader.filter(|_| look.leader != before) {
            spans.push(Span { from_seconds: at, until_seconds: at, node });
        }
        before = look.leader;
    }
    spans
}

/// The longest time without any of these moments, in seconds.
pub(super) fn silence(moments: impl Iterator<Item = Duration>, (from, until): (Duration, Duration)) -> f64 {
    let mut moments: Vec<Duration> = moments.filter(|at| *at >= from && *at <= until).collect();
    moments.push(from);
    moments.push(until);
    moments.sort_unstable();
    moments.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64()).fold(0.0, f64::max)
}

/// From the first fault until any one site may burn again.
pub(super) fn redundancy(faults: &[Fault], looks: &[Look]) -> Option<f64> {
    let broken = faults.first()?.from;
    let after: Vec<&Look> = looks.iter().filter(|look| look.at >= broken).collect();
    match after.iter().rposition(|look| !look.redundant) {
        None => Some(0.0),
        Some(last) => Some((after.get(last + 1)?.at - broken).as_secs_f64()),
    }
}

/// Before the first fault, while something is broken, and after.
pub(super) fn phases(history: &History, faults: &[Fault], (from, until): (Duration, Duration)) -> Vec<Phase> {
    let broken = faults.first().map_or(until, |fault| fault.from);
    let mended = faults.iter().filter_map(|fault| fault.until).max().unwrap_or(until);
    let phase = |name, from: Duration, until: Duration| {
        let mut latencies = latency();
        for call in acknowledged(history).filter(|call| call.started >= from && call.started < until) {
            latencies.saturating_record((call.ended - call.started).as_micros() as u64);
        }
        let ms = |micros: u64| micros as f64 / 1000.0;
        Phase {
            name,
            writes: latencies.len(),
            p50_ms: ms(latencies.value_at_quantile(0.5)),
            p99_ms: ms(latencies.value_at_quantile(0.99)),
            max_ms: ms(latencies.max()),
        }
    };
    vec![phase("before", from, broken), phase("while broken", broken, mended), phase("after", mended, until)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn look(at: u64, leader: Option<u64>, redundant: bool) -> Look {
        Look { at: ms(at), leader, up: vec![], redundant }
    }

    #[test]
    fn a_silence_at_either_end_counts() {
        let load = (ms(1000), ms(5000));
        assert_eq!(silence([2000, 2500, 4900].map(ms).into_iter(), load), 2.4);
        assert_eq!(silence([3500, 4000].map(ms).into_iter(), load), 2.5);
        assert_eq!(silence(std::iter::empty(), load), 4.0);
    }

    #[test]
    fn redundancy_is_back_when_it_stays() {
        let faults = [Fault { from: ms(1000), until: None, text: String::new() }];
        let looks = |each: &[(u64, bool)]| each.iter().map(|(at, is)| look(*at, None, *is)).collect::<Vec<_>>();
        // Not yet noticed, lost, back for a moment, lost again, back.
        let all = looks(&[
            (900, false),
            (1100, true),
            (1200, false),
            (2000, true),
            (2100, false),
            (3000, true),
            (4000, true),
        ]);
        assert_eq!(redundancy(&faults, &all), Some(2.0));
        assert_eq!(redundancy(&faults, &looks(&[(1100, true), (1200, false)])), None);
        assert_eq!(redundancy(&faults, &looks(&[(1100, true)])), Some(0.0));
    }

    #[test]
    fn a_leader_is_a_span_and_nobody_is_a_gap() {
        let looks = [
            look(0, Some(1), true),
            look(100, Some(1), true),
            look(200, None, true),
            look(300, Some(2), true),
            look(400, Some(2), true),
        ];
        let spans = leaders(&looks, ms(1000));
        let spans: Vec<_> = spans.iter().map(|span| (span.node, span.from_seconds, span.until_seconds)).collect();
        assert_eq!(spans, [(1, 0.0, 0.2), (2, 0.3, 0.4)]);
    }
}
