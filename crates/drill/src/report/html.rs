//! One page that needs nothing else, for someone who was not there.

use super::{Report, plot};
use crate::page::{STYLE, escape, thousands, utc};

pub(super) fn render(report: &Report) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width, \
         initial-scale=1\">\n<title>Sillok fire drill: {name}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n{head}\n{figures}\n\
         <h2>What happened</h2>\n{how_to_read}\n<div class=\"plot\">\n{plot}</div>\n{notes}\n<h2>What was promised, and checked</h2>\n\
         {verdicts}\n<h2>How long writes took</h2>\n{phases}\n{again}\n</main>\n</body>\n</html>\n",
        name = escape(report.drill),
        head = head(report),
        figures = figures(report),
        how_to_read = HOW_TO_READ,
        plot = plot::render(report),
        notes = notes(report),
        verdicts = verdicts(report),
        phases = phases(report),
        again = again(report),
    )
}

const HOW_TO_READ: &str = "<p class=\"quiet\">Time runs from left to right. While the ground is red, something was broken on purpose. \
    Numbers above the picture stand for the moments in the list below it.</p>";

fn head(report: &Report) -> String {
    let broken = report.verdicts.iter().filter(|verdict| !verdict.holds()).count();
    let (class, verdict) = match broken {
        0 => ("kept", format!("All {} promises were kept.", report.verdicts.len())),
        _ => ("broken", format!("{broken} of {} promises were broken.", report.verdicts.len())),
    };
    format!(
        "<h1>Fire drill: {name}</h1>\n<p class=\"quiet\">{when} UTC · {clients} clients writing · {nodes} nodes at the start, on three \
         sites · seed {seed}</p>\n\
         <div class=\"banner {class}\"><strong>{verdict}</strong>{summary}</div>\n\
         <p>Sillok keeps the records of business channels (friends, messages, coupons) at several sites, so that no fire can take \
         them. A drill starts a real cluster, lets clients work with it, breaks something on purpose, and then holds every answer \
         that a client was given against what every node has recorded.</p>\n\
         <p><b>What this drill breaks:</b> {breaks}.<br><b>What it promises besides losing nothing:</b> {promises}.</p>",
        name = escape(report.drill),
        when = utc(report.began_at),
        clients = report.clients,
        nodes = report.nodes,
        seed = report.seed,
        summary = escape(&summary(report)),
        breaks = escape(report.breaks),
        promises = escape(report.promises),
    )
}

fn summary(report: &Report) -> String {
    let score = &report.score;
    let count =
        |name: &str| report.verdicts.iter().find(|verdict| verdict.name == name).map_or(0, |found| found.violations);
    format!(
        "Of {} acknowledged writes {} lost and {} recorded twice. The longest time without an acknowledged write was {:.1} s.",
        thousands(score.acknowledged_writes),
        match count("lost") {
            0 => "none was".to_owned(),
            1 => "1 was".to_owned(),
            lost => format!("{} were", thousands(lost)),
        },
        match count("doubled") {
            0 => "none".to_owned(),
            doubled => thousands(doubled),
        },
        score.seconds_without_writes
    )
}

fn figures(report: &Report) -> String {
    let score = &report.score;
    let seconds = |seconds: f64| format!("{seconds:.1} s");
    let figure = |value: String, name: &str| format!("<div class=\"figure\"><b>{value}</b><span>{name}</span></div>");
    let count =
        |name: &str| report.verdicts.iter().find(|verdict| verdict.name == name).map_or(0, |found| found.violations);
    let figures = [
        figure(thousands(score.acknowledged_writes), "writes acknowledged"),
        figure(thousands(count("lost")), "of them lost"),
        figure(thousands(count("doubled")), "recorded twice"),
        figure(thousands(count("contradictions")), "answers contradicted"),
        figure(seconds(score.seconds_without_writes), "longest without writes"),
        figure(seconds(score.seconds_without_reads), "longest without current reads"),
        figure(
            score.seconds_to_full_redundancy.map_or_else(|| "never".to_owned(), seconds),
            "until any one site may burn again",
        ),
    ];
    format!("<div class=\"figures\">\n{}\n</div>", figures.join("\n"))
}

fn notes(report: &Report) -> String {
    let each = (1..).zip(&report.notes).map(|(number, note)| {
        let at = note.at.as_secs_f64();
        format!("<li><b>{number}</b><time>{at:.1} s</time><span>{}</span></li>", escape(&note.text))
    });
    format!("<ol class=\"notes\">\n{}\n</ol>", each.collect::<Vec<_>>().join("\n"))
}

fn verdicts(report: &Report) -> String {
    let each = report.verdicts.iter().map(|verdict| {
        let (class, word) = if verdict.holds() { ("kept", "kept") } else { ("broken", "broken") };
        let examples = verdict.examples.iter().map(|example| format!("<li>{}</li>", escape(example)));
        let examples = match verdict.examples.is_empty() {
            true => String::new(),
            false => format!("<ul>{}</ul>", examples.collect::<String>()),
        };
        format!(
            "<tr><td>{}{examples}</td><td class=\"number\">{}</td><td class=\"number\">{}</td><td class=\"{class}\">{word}</td></tr>",
            escape(&verdict.promise),
            thousands(verdict.examined),
            thousands(verdict.violations)
        )
    });
    format!(
        "<table>\n<tr><th>promise</th><th class=\"number\">looked at</th><th class=\"number\">violations</th><th>verdict</th></tr>\n{}\n</table>",
        each.collect::<Vec<_>>().join("\n")
    )
}

fn phases(report: &Report) -> String {
    let each = report.phases.iter().filter(|phase| phase.writes > 0).map(|phase| {
        format!(
            "<tr><td>{}</td><td class=\"number\">{}</td><td class=\"number\">{:.1} ms</td><td class=\"number\">{:.1} ms</td>\
             <td class=\"number\">{:.0} ms</td></tr>",
            phase.name,
            thousands(phase.writes),
            phase.p50_ms,
            phase.p99_ms,
            phase.max_ms
        )
    });
    let score = &report.score;
    format!(
        "<table>\n<tr><th>begun</th><th class=\"number\">writes</th><th class=\"number\">half within</th><th class=\"number\">99 of 100 \
         within</th><th class=\"number\">longest</th></tr>\n{}\n</table>\n<p class=\"quiet\">A write that a failover interrupts is \
         repeated by the client with the same key, and shows here as one slow write. Besides the acknowledged ones, {} were refused \
         by the rules of the shop (a coupon redeemed twice, say), {} tries were answered as certainly not recorded, and of {} the client \
         gave up before it knew; {} linearizable reads were answered.</p>",
        each.collect::<Vec<_>>().join("\n"),
        thousands(score.refused_writes),
        thousands(score.not_recorded),
        thousands(score.unknown),
        thousands(score.answered_reads)
    )
}

fn again(report: &Report) -> String {
    format!(
        "<h2>Do it again</h2>\n<p><code>sillok drill {} --seed {}</code></p>\n<p class=\"quiet\">The seed draws the same questions; when \
         they are answered is up to the machine. Everything on this page, and more, stands in report.json beside it.</p>",
        escape(report.drill),
        report.seed
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        Verdict,
        report::{Score, Span, Timeline},
        stage::{Fault, Note},
    };

    fn report() -> Report {
        let mut lost = Verdict::new("lost", "No acknowledged event is lost");
        lost.examined = 1200;
        lost.broken(|| "intent 7 is in <no> record".to_owned());
        Report {
            drill: "leader-site-fire",
            breaks: "a site burns",
            promises: "writes go on",
            began_at: 0,
            seed: 7,
            clients: 16,
            nodes: 3,
            sites: ["chungju", "seongju", "jeonju", "chungju"].map(str::to_owned).to_vec(),
            kept: false,
            score: Score {
                acknowledged_writes: 1200,
                refused_writes: 3,
                not_recorded: 0,
                unknown: 1,
                answered_reads: 300,
                seconds_without_writes: 1.25,
                seconds_without_reads: 0.5,
                seconds_to_full_redundancy: None,
            },
            verdicts: vec![lost],
            notes: vec![Note { at: Duration::from_secs(1), text: "chungju burns".to_owned() }],
            faults: vec![Fault { from: Duration::from_secs(1), until: None, text: "chungju burns".to_owned() }],
            phases: vec![],
            timeline: Timeline {
                moment_seconds: 1.0,
                writes: vec![100.0, 0.0, 80.0],
                reads: vec![20.0, 0.0, 18.0],
                p50_ms: vec![Some(2.0), None, Some(3.0)],
                p99_ms: vec![Some(9.0), None, Some(1250.0)],
                leaders: vec![Span { from_seconds: 0.0, until_seconds: 1.0, node: 1 }],
            },
        }
    }

    #[test]
    fn the_page_needs_nothing_else_and_runs_nothing() {
        let page = render(&report());
        for foreign in ["<script", "src=", "href=", "@import", "url(", "http:", "https:"] {
            assert!(!page.contains(foreign), "{foreign} is in the page");
        }
    }

    #[test]
    fn a_broken_promise_stands_at_the_top_with_what_was_found() {
        let page = render(&report());
        assert!(page.contains("1 of 1 promises were broken"));
        assert!(page.contains("Of 1,200 acknowledged writes 1 was lost"));
        assert!(page.contains("intent 7 is in &lt;no&gt; record"));
        assert!(page.contains("<rect class=\"fault\""), "the fault is not shaded");
    }
}
