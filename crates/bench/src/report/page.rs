//! One page that needs nothing else, for someone who was not there.

use sillok_drill::page::{STYLE, escape, thousands, utc};

use super::{
    Pace, Report, Run,
    chart::{self, Axis, Bar, Line},
};

/// What charts need besides the look of all pages.
const CHARTS: &str = include_str!("chart.css");
/// More lines in one chart are not told apart.
const LINES: usize = 8;

pub(super) fn render(report: &Report) -> String {
    let machine = &report.machine;
    let parts: Vec<String> = groups(&report.runs).iter().map(|runs| section(runs)).collect();
    let cluster = if machine.own_cluster {
        "three nodes and the load generator share this machine"
    } else {
        "a cluster that ran before"
    };
    let file_system =
        machine.file_system.as_ref().map_or_else(String::new, |kind| format!(" · disk: {}", escape(kind)));
    let unoptimized = match report.optimized {
        true => "",
        false => {
            "<div class=\"banner broken\"><strong>Built without optimizations.</strong>These figures say little.</div>"
        }
    };
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width, \
         initial-scale=1\">\n<title>Sillok bench</title>\n<style>\n{STYLE}{CHARTS}</style>\n</head>\n<body>\n<main>\n<h1>Sillok bench</h1>\n\
         <p class=\"quiet\">{when} UTC · version {version} · {model}, {processors} processors{memory} · {kernel}{file_system} · {cluster}</p>\n\
         {unoptimized}<p>Every acknowledgement counted here was fsynced by a quorum of nodes at two sites or more before it was given. Times \
         are told as the share of answers that took no longer: p50 is half of them, p99 is 99 of 100.</p>\n{parts}\n\
         <h2>Do it again</h2>\n<p><code>{command}</code></p>\n<p class=\"quiet\">Absolute figures belong to the machine of the day. \
         Everything on this page, and more, is in what <code>--json FILE</code> writes.</p>\n</main>\n</body>\n</html>\n",
        when = utc(report.began_at),
        version = report.version,
        model = escape(machine.model.as_deref().unwrap_or("unknown processor")),
        processors = machine.processors,
        memory = machine.memory_bytes.map_or_else(String::new, |bytes| format!(", {} GB", bytes / 1_000_000_000)),
        kernel = escape(&machine.kernel),
        parts = parts.join("\n"),
        command = escape(&report.command),
    )
}

/// Runs of one bench beside each other.
fn groups(runs: &[Run]) -> Vec<&[Run]> {
    runs.chunk_by(|a, b| a.bench == b.bench).collect()
}

fn section(runs: &[Run]) -> String {
    let Some(first) = runs.first() else { return String::new() };
    let (name, what) = about(first.bench);
    let mut parts = vec![format!("<h2>{name}</h2>\n<p class=\"quiet\">{what}{}</p>", loops(runs))];
    parts.extend([
        sweep(runs),
        overload(runs),
        paces(runs),
        curves(runs),
        moments(runs),
        processors(runs),
        costs(runs),
        gaps(runs),
        figures(runs),
    ]);
    parts.retain(|part| !part.is_empty());
    parts.join("\n")
}

/// A bench's name, and what it does, for someone who does not know it.
fn about(bench: &str) -> (&'static str, &'static str) {
    match bench {
        "write" => ("Writes", "Commands that are recorded and acknowledged."),
        "read" => (
            "Reads",
            "A linearizable read is certain to see every acknowledged write; a stale one is what the node knows.",
        ),
        "import" => ("Import", "Friends with attributes and a consent, through one stream."),
        "broadcast" => {
            ("Broadcasts", "One message to every friend; the audience is fixed at one position and recorded with it.")
        }
        "subscribe" => (
            "Subscribers",
            "How long after an event was due each of many subscribers has it. Every subscriber got every event once, in order.",
        ),
        "failover" => (
            "Failover",
            "The leader is killed with kill -9 while clients write; each bar is the longest time without an acknowledgement. No write was lost or doubled.",
        ),
        "overload" => (
            "Overload",
            "Commands are due at multiples of what the cluster takes, and what is refused is not tried again. What is recorded should \
             stay what it was, and the rest be refused at once.",
        ),
        "distance" => (
            "Distance",
            "Sites that are far from each other: every byte between them arrives half a round trip late. The load stands beside the \
             leader.",
        ),
        "restart" => ("Restart", "How long a node, or all of them, need to be back."),
        "rebuild" => ("Rebuild", "A node whose views were deleted folds its whole chronicle again."),
        "catch-up" => ("Catch-up", "A blank node joins, copies the chronicle and folds it."),
        _ => ("Size", "What a node holds."),
    }
}

fn loops(runs: &[Run]) -> &'static str {
    match runs.iter().find_map(|run| run.asked.get("loop")?.as_str()) {
        Some("open") => " Open loop: latency counts from when a command was due, so that a stall is not hidden.",
        Some(_) => " Closed loop: the next one is sent when an answer comes.",
        None => "",
    }
}

fn with_pace(runs: &[Run]) -> Vec<(&Run, &Pace)> {
    runs.iter().filter_map(|run| Some((run, run.pace.as_ref()?))).collect()
}

fn plot(svg: String) -> String {
    format!("<div class=\"plot\">\n{svg}</div>")
}

/// Throughput and latency over what is in flight.
fn sweep(runs: &[Run]) -> String {
    // Calls and a stream are two different lines.
    let mode = runs.first().and_then(|run| run.asked.get("mode"));
    let points: Vec<(u64, &Pace)> = with_pace(runs)
        .into_iter()
        .filter(|(run, _)| run.asked.get("mode") == mode)
        .filter_map(|(run, pace)| Some((run.asked.get("in_flight")?.as_u64()?, pace)))
        .collect();
    let ascending = points.windows(2).all(|pair| pair[0].0 < pair[1].0);
    if points.len() < 3 || !ascending {
        return String::new();
    }
    let across = || Axis::Named(points.iter().map(|(in_flight, _)| format!("{in_flight} in flight")).collect());
    let line = |name: &str, value: fn(&Pace) -> f64| Line {
        name: name.to_owned(),
        points: points.iter().enumerate().map(|(n, (_, pace))| (n as f64, value(pace))).collect(),
    };
    let rate = chart::lines(
        "acknowledged events a second",
        &[line("events/s", |pace| pace.events_per_second)],
        &across(),
        &Axis::Linear(""),
    );
    let latencies = [
        line("p50", |pace| pace.p50_us as f64),
        line("p99", |pace| pace.p99_us as f64),
        line("p99.9", |pace| pace.p999_us as f64),
    ];
    let latency = chart::lines("how long an answer took", &latencies, &across(), &Axis::Time);
    plot(rate) + "\n" + &plot(latency)
}

/// What is recorded and what is refused over what is asked, and how long either answer took.
fn overload(runs: &[Run]) -> String {
    let open: Vec<(&Run, &Pace)> =
        with_pace(runs).into_iter().filter(|(run, _)| run.asked.contains_key("due_per_second")).collect();
    if open.len() < 2 {
        return String::new();
    }
    let asked = |run: &Run, name: &str| run.asked.get(name).and_then(serde_json::Value::as_f64).unwrap_or(0.0);
    let names = || Axis::Named(open.iter().map(|(run, _)| format!("× {}", asked(run, "factor"))).collect());
    let line = |name: &str, value: &dyn Fn(&Run, &Pace) -> f64| Line {
        name: name.to_owned(),
        points: open.iter().enumerate().map(|(n, (run, pace))| (n as f64, value(run, pace))).collect(),
    };
    let rates = [
        line("recorded", &|_, pace| pace.events_per_second),
        line("refused", &|run, _| asked(run, "refused_per_second")),
        line("sent", &|run, _| asked(run, "sent_per_second")),
    ];
    let times = [
        line("recorded, p50", &|_, pace| pace.p50_us as f64),
        line("recorded, p99", &|_, pace| pace.p99_us as f64),
        line("refused, p50", &|run, _| asked(run, "refusal_p50_us")),
        line("refused, p99", &|run, _| asked(run, "refusal_p99_us")),
    ];
    let rates =
        chart::lines("commands a second, by multiples of what the cluster takes", &rates, &names(), &Axis::Linear(""));
    plot(rates) + "\n" + &plot(chart::lines("how long an answer took", &times, &names(), &Axis::Time))
}

fn paces(runs: &[Run]) -> String {
    let rows = with_pace(runs).into_iter().map(|(run, pace)| {
        let cells = [
            thousands(pace.events),
            thousands(pace.events_per_second.round() as u64),
            span(pace.p50_us),
            span(pace.p99_us),
            span(pace.p999_us),
            span(pace.max_us),
        ];
        let cells = cells.map(|cell| format!("<td class=\"number\">{cell}</td>"));
        format!("<tr><td>{}</td>{}</tr>", escape(&run.title), cells.concat())
    });
    let rows: Vec<String> = rows.collect();
    if rows.is_empty() {
        return String::new();
    }
    let heads = ["events", "a second", "p50", "p99", "p99.9", "longest"]
        .map(|head| format!("<th class=\"number\">{head}</th>"));
    format!("<table>\n<tr><th>run</th>{}</tr>\n{}\n</table>", heads.concat(), rows.join("\n"))
}

/// How long which share of answers took: one line a run.
fn curves(runs: &[Run]) -> String {
    let paces = with_pace(runs);
    let paces: Vec<_> = paces.into_iter().filter(|(_, pace)| pace.events > 100).take(LINES).collect();
    let Some((_, first)) = paces.first() else { return String::new() };
    // What took nobody at least, and the longest, are in the table.
    let places = 1..first.curve.len().saturating_sub(1);
    let names = first.curve[places.clone()].iter().map(|(share, _)| format!("{}", share * 100.0)).collect();
    let line = |(run, pace): &(&Run, &Pace)| Line {
        name: run.title.clone(),
        points: pace.curve[places.clone()].iter().enumerate().map(|(n, (_, us))| (n as f64, *us as f64)).collect(),
    };
    let lines: Vec<Line> = paces.iter().map(line).collect();
    plot(chart::lines(
        "how long answers took, by the share (%) that took no longer",
        &lines,
        &Axis::Named(names),
        &Axis::Time,
    ))
}

/// How steady it was.
fn moments(runs: &[Run]) -> String {
    let line = |(run, pace): (&Run, &Pace)| Line {
        name: run.title.clone(),
        points: pace.moments.iter().enumerate().map(|(n, rate)| ((n as f64 + 1.0) / 4.0, *rate)).collect(),
    };
    let lines: Vec<Line> =
        with_pace(runs).into_iter().filter(|(_, pace)| pace.moments.len() > 3).take(LINES).map(line).collect();
    match lines.is_empty() {
        true => String::new(),
        false => {
            plot(chart::lines("events a second, moment by moment", &lines, &Axis::Linear(" s"), &Axis::Linear("")))
        }
    }
}

/// Where the processors' time went.
fn processors(runs: &[Run]) -> String {
    let bars = runs.iter().filter_map(|run| {
        let processes = &run.cost.as_ref()?.processes;
        // The leader first, whoever it was.
        let mut parts: Vec<(bool, String, f64)> = Vec::new();
        for process in processes {
            let name = match process.name.as_str() {
                "load generator" => "load generator",
                _ if process.leads => "leader",
                _ => "follower",
            };
            parts.push((!process.leads, name.to_owned(), process.cpu_us_per_event?));
        }
        parts.sort_by_key(|part| part.0);
        let total: f64 = parts.iter().map(|part| part.2).sum();
        let parts = parts.into_iter().map(|(_, name, value)| (name, value)).collect();
        Some(Bar { name: run.title.clone(), parts, total: format!("{total:.1} µs") })
    });
    let bars: Vec<Bar> = bars.collect();
    match bars.is_empty() {
        true => String::new(),
        false => plot(chart::bars("microseconds of processor for each event, by process", &bars)),
    }
}

/// What each event took from disks and memory.
fn costs(runs: &[Run]) -> String {
    let cell = |value: Option<f64>, unit: &str| {
        let text = value.map_or_else(|| "–".to_owned(), |value| format!("{}{unit}", number(value)));
        format!("<td class=\"number\">{text}</td>")
    };
    let rows = runs.iter().filter_map(|run| {
        let cost = run.cost.as_ref()?;
        let cells = [
            cell(cost.fsyncs(), ""),
            cell(cost.chronicle_bytes(), " B"),
            cell(cost.device_bytes_per_event, " B"),
            cell(cost.largest_node().map(|bytes| bytes as f64 / 1e6), " MB"),
        ];
        Some(format!("<tr><td>{}</td>{}</tr>", escape(&run.title), cells.concat()))
    });
    let rows: Vec<String> = rows.collect();
    if rows.is_empty() {
        return String::new();
    }
    let heads = ["fsyncs of all nodes", "chronicle of a node", "the disk, for all", "memory of the largest node"];
    let heads = heads.map(|head| format!("<th class=\"number\">{head}</th>"));
    format!(
        "<table>\n<tr><th>for each event</th>{}</tr>\n{}\n</table>\n<p class=\"quiet\">To the disk go the chronicles, the zeros that are \
         written ahead of them, views and logs of all nodes, and whatever else the machine writes.</p>",
        heads.concat(),
        rows.join("\n")
    )
}

fn gaps(runs: &[Run]) -> String {
    let Some(gaps) = runs.iter().find_map(|run| run.asked.get("gaps_seconds")?.as_array()) else {
        return String::new();
    };
    let bar = |(n, gap): (usize, f64)| Bar {
        name: format!("leader {}", n + 1),
        parts: vec![("without an acknowledgement".to_owned(), gap)],
        total: format!("{gap:.2} s"),
    };
    let bars: Vec<Bar> = gaps.iter().filter_map(serde_json::Value::as_f64).enumerate().map(bar).collect();
    plot(chart::bars("seconds without an acknowledgement after the leader was killed", &bars))
}

fn figures(runs: &[Run]) -> String {
    let rows = runs.iter().flat_map(|run| {
        run.figures.iter().map(|figure| {
            format!(
                "<tr><td>{}</td><td>{}</td><td class=\"number\">{} {}</td></tr>",
                escape(&run.title),
                escape(&figure.name),
                number(figure.value),
                figure.unit
            )
        })
    });
    let rows: Vec<String> = rows.collect();
    match rows.is_empty() {
        true => String::new(),
        false => format!(
            "<table>\n<tr><th>run</th><th>figure</th><th class=\"number\">value</th></tr>\n{}\n</table>",
            rows.join("\n")
        ),
    }
}

/// `0.62 ms`, `1.25 s`.
pub fn span(microseconds: u64) -> String {
    match microseconds {
        0..100_000 => format!("{:.2} ms", microseconds as f64 / 1e3),
        100_000..1_000_000 => format!("{:.0} ms", microseconds as f64 / 1e3),
        _ => format!("{:.2} s", microseconds as f64 / 1e6),
    }
}

/// With the digits that count.
pub fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        small if small < 0.1 => format!("{value:.4}"),
        small if small < 10.0 => format!("{value:.2}"),
        middle if middle < 1000.0 => format!("{value:.1}"),
        _ => thousands(value.round() as u64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_at_a_glance() {
        for (microseconds, text) in [(620, "0.62 ms"), (182_340, "182 ms"), (1_250_000, "1.25 s")] {
            assert_eq!(span(microseconds), text);
        }
    }

    #[test]
    fn numbers_have_the_digits_that_count() {
        for (value, text) in [(0.0, "0"), (0.0123, "0.0123"), (0.724, "0.72"), (43.21, "43.2"), (159_148.7, "159,149")]
        {
            assert_eq!(number(value), text);
        }
    }
}
