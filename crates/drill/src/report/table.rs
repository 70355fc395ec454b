//! For a terminal.

use super::Report;
use crate::page::thousands;

pub(super) fn render(report: &Report) -> String {
    let score = &report.score;
    let mut lines = vec![format!("{}: {}", report.drill, report.breaks), String::new()];
    let width = report.verdicts.iter().map(|verdict| verdict.promise.chars().count()).max().unwrap_or(0);
    for verdict in &report.verdicts {
        let (mark, count) = match verdict.holds() {
            true => ("kept  ", format!("0 of {}", thousands(verdict.examined))),
            false => ("BROKEN", format!("{} of {}", thousands(verdict.violations), thousands(verdict.examined))),
        };
        let room = width - verdict.promise.chars().count();
        lines.push(format!("  {mark}  {}{}  {count:>14}", verdict.promise, " ".repeat(room)));
        lines.extend(verdict.examples.iter().map(|example| format!("            {example}")));
    }
    lines.push(String::new());
    lines.push(format!(
        "  {} writes acknowledged, {} refused, {} answered as not recorded, {} unknown; {} linearizable reads",
        thousands(score.acknowledged_writes),
        thousands(score.refused_writes),
        thousands(score.not_recorded),
        thousands(score.unknown),
        thousands(score.answered_reads)
    ));
    lines.push(format!(
        "  longest silence: {:.2} s without writes, {:.2} s without reads; {}",
        score.seconds_without_writes,
        score.seconds_without_reads,
        match score.seconds_to_full_redundancy {
            Some(seconds) => format!("fully redundant {seconds:.1} s after the fault"),
            None => "not fully redundant again".to_owned(),
        }
    ));
    for phase in report.phases.iter().filter(|phase| phase.writes > 0) {
        lines.push(format!(
            "  {:<12} {:>9} writes, p50 {:.1} ms, p99 {:.1} ms, longest {:.0} ms",
            phase.name,
            thousands(phase.writes),
            phase.p50_ms,
            phase.p99_ms,
            phase.max_ms
        ));
    }
    lines.push(String::new());
    lines.push(match report.kept {
        true => "Every promise was kept.".to_owned(),
        false => {
            let broken = report.verdicts.iter().filter(|verdict| !verdict.holds()).count();
            format!("{broken} of {} promises were BROKEN. Repeat with --seed {}.", report.verdicts.len(), report.seed)
        }
    });
    lines.join("\n")
}
