//! The timeline as SVG: rates, latencies and who led over one axis of time, with what was broken shaded behind all three.

use std::fmt::Write as _;

use super::Report;
use crate::page::{escape, short, steps};

const WIDTH: f64 = 960.0;
/// Room for labels left of the panels, and right of them.
const LEFT: f64 = 74.0;
const RIGHT: f64 = 14.0;
/// Room for the numbers of notes above the panels.
const TOP: f64 = 46.0;
const RATE_HEIGHT: f64 = 150.0;
const LATENCY_HEIGHT: f64 = 110.0;
const BETWEEN: f64 = 34.0;
const ROW: f64 = 20.0;
/// Numbers of notes stand at least so far apart.
const APART: f64 = 17.0;

struct Plot<'a> {
    report: &'a Report,
    seconds: f64,
    svg: String,
}

/// One panel's place.
#[derive(Clone, Copy)]
struct Panel {
    top: f64,
    height: f64,
}

impl Panel {
    fn y(self, share: f64) -> f64 {
        self.top + self.height * (1.0 - share.clamp(0.0, 1.0))
    }
}

pub(super) fn render(report: &Report) -> String {
    let timeline = &report.timeline;
    let seconds = (timeline.writes.len() as f64 * timeline.moment_seconds).max(0.1);
    let rate = Panel { top: TOP, height: RATE_HEIGHT };
    let latency = Panel { top: rate.top + rate.height + BETWEEN, height: LATENCY_HEIGHT };
    let leaders = Panel { top: latency.top + latency.height + BETWEEN, height: ROW * report.sites.len() as f64 };
    let height = leaders.top + leaders.height + 40.0;
    let mut plot = Plot { report, seconds, svg: String::new() };
    plot.add(format_args!(
        "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-labelledby=\"plot-title\"><title id=\"plot-title\">Writes and reads a \
         second, latency and leader over {seconds:.0} seconds of {}</title>",
        report.drill
    ));
    plot.faults(rate.top, leaders.top + leaders.height);
    plot.rates(rate);
    plot.latencies(latency);
    plot.leaders(leaders);
    plot.axis(leaders.top + leaders.height);
    plot.notes(rate.top, leaders.top + leaders.height);
    plot.svg.push_str("</svg>");
    plot.svg
}

impl Plot<'_> {
    fn add(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = self.svg.write_fmt(text);
        self.svg.push('\n');
    }

    fn x(&self, at: f64) -> f64 {
        LEFT + (at / self.seconds).clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT)
    }

    /// The middle of a moment.
    fn moment(&self, number: usize) -> f64 {
        self.x((number as f64 + 0.5) * self.report.timeline.moment_seconds)
    }

    fn faults(&mut self, top: f64, bottom: f64) {
        let spans: Vec<(f64, f64)> = self
            .report
            .faults
            .iter()
            .map(|fault| {
                let until = fault.until.map_or(self.seconds, |until| until.as_secs_f64());
                (self.x(fault.from.as_secs_f64()), self.x(until))
            })
            .collect();
        for (from, until) in spans {
            let (width, height) = ((until - from).max(1.5), bottom - top);
            self.add(format_args!(
                "<rect class=\"fault\" x=\"{from:.1}\" y=\"{top}\" width=\"{width:.1}\" height=\"{height}\"/>"
            ));
            self.add(format_args!(
                "<line class=\"fault-edge\" x1=\"{from:.1}\" x2=\"{from:.1}\" y1=\"{top}\" y2=\"{bottom}\"/>"
            ));
        }
    }

    fn heading(&mut self, panel: Panel, text: &str) {
        let y = panel.top - 8.0;
        self.add(format_args!("<text class=\"heading\" x=\"{LEFT}\" y=\"{y}\">{text}</text>"));
    }

    fn rule(&mut self, y: f64, label: &str) {
        let (from, until) = (LEFT, WIDTH - RIGHT);
        self.add(format_args!("<line class=\"rule\" x1=\"{from}\" x2=\"{until}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>"));
        let (x, y) = (LEFT - 8.0, y + 4.0);
        self.add(format_args!("<text class=\"tick\" text-anchor=\"end\" x=\"{x}\" y=\"{y:.1}\">{label}</text>"));
    }

    fn rates(&mut self, panel: Panel) {
        let timeline = &self.report.timeline;
        let most = timeline.writes.iter().chain(&timeline.reads).copied().fold(1.0, f64::max);
        let (step, steps) = steps(most);
        let full = step * f64::from(steps);
        self.heading(panel, "answers a second: <tspan class=\"writes-text\">acknowledged writes</tspan>, <tspan class=\"reads-text\">linearizable reads</tspan>");
        for n in 0..=steps {
            let value = step * f64::from(n);
            self.rule(panel.y(value / full), &short(value));
        }
        let points = |values: &[f64]| {
            let each = values.iter().enumerate();
            each.map(|(n, value)| format!("{:.1},{:.1}", self.moment(n), panel.y(value / full)))
                .collect::<Vec<_>>()
                .join(" ")
        };
        let (writes, reads) = (points(&timeline.writes), points(&timeline.reads));
        let (first, last) = (self.moment(0), self.moment(timeline.writes.len().saturating_sub(1)));
        let floor = panel.y(0.0);
        self.add(format_args!(
            "<polygon class=\"writes-area\" points=\"{first:.1},{floor} {writes} {last:.1},{floor}\"/>"
        ));
        self.add(format_args!("<polyline class=\"writes\" points=\"{writes}\"/>"));
        self.add(format_args!("<polyline class=\"reads\" points=\"{reads}\"/>"));
    }

    fn latencies(&mut self, panel: Panel) {
        let timeline = &self.report.timeline;
        self.heading(panel, "how long a write took: <tspan class=\"p50-text\">half took no longer</tspan>, <tspan class=\"p99-text\">99 of 100 took no longer</tspan>");
        let highest = timeline.p99_ms.iter().flatten().copied().fold(10.0, f64::max).log10().ceil();
        for power in 0..=highest as u32 {
            let value = 10_u64.pow(power);
            let label = if value < 1000 { format!("{value} ms") } else { format!("{} s", value / 1000) };
            self.rule(panel.y(f64::from(power) / highest), &label);
        }
        for (class, values) in [("p99", &timeline.p99_ms), ("p50", &timeline.p50_ms)] {
            // A line breaks where nothing was answered.
            let mut lines: Vec<Vec<String>> = vec![Vec::new()];
            for (n, value) in values.iter().enumerate() {
                match value {
                    Some(ms) => {
                        let y = panel.y(ms.max(1.0).log10() / highest);
                        if let Some(line) = lines.last_mut() {
                            line.push(format!("{:.1},{y:.1}", self.moment(n)));
                        }
                    }
                    None => lines.push(Vec::new()),
                }
            }
            for line in lines.iter().filter(|line| !line.is_empty()) {
                self.add(format_args!("<polyline class=\"{class}\" points=\"{}\"/>", line.join(" ")));
            }
        }
    }

    fn leaders(&mut self, panel: Panel) {
        self.heading(panel, "who leads");
        let (left, width) = (LEFT, WIDTH - LEFT - RIGHT);
        for (number, site) in self.report.sites.iter().enumerate() {
            let y = panel.top + ROW * number as f64;
            let (x, text, bar) = (LEFT - 8.0, y + 14.0, ROW - 4.0);
            self.add(format_args!(
                "<rect class=\"lane\" x=\"{left}\" y=\"{:.1}\" width=\"{width}\" height=\"{bar}\" rx=\"3\"/>",
                y + 2.0
            ));
            let label = escape(&format!("{site} {}", number + 1));
            self.add(format_args!("<text class=\"tick\" text-anchor=\"end\" x=\"{x}\" y=\"{text:.1}\">{label}</text>"));
        }
        for span in &self.report.timeline.leaders {
            let (from, until) = (self.x(span.from_seconds), self.x(span.until_seconds));
            let y = panel.top + ROW * (span.node as f64 - 1.0) + 2.0;
            let (width, bar) = ((until - from).max(2.0), ROW - 4.0);
            self.add(format_args!(
                "<rect class=\"leads\" x=\"{from:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{bar}\" rx=\"3\"><title>node {} led \
                 from {:.1} s to {:.1} s</title></rect>",
                span.node, span.from_seconds, span.until_seconds
            ));
        }
    }

    fn axis(&mut self, bottom: f64) {
        let (step, steps) = steps(self.seconds);
        for n in 0..=steps {
            let at = step * f64::from(n);
            if at > self.seconds {
                break;
            }
            let (x, y, end) = (self.x(at), bottom + 20.0, bottom + 6.0);
            self.add(format_args!("<line class=\"axis\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{bottom}\" y2=\"{end}\"/>"));
            self.add(format_args!("<text class=\"tick\" text-anchor=\"middle\" x=\"{x:.1}\" y=\"{y}\">{at} s</text>"));
        }
    }

    /// Numbers above the panels, each with a thin line down: the list below the picture says what they are.
    fn notes(&mut self, top: f64, bottom: f64) {
        let mut free = LEFT;
        let breaks = |text: &str| self.report.faults.iter().any(|fault| fault.text == text);
        let notes = self.report.notes.iter().map(|note| (note.at.as_secs_f64(), breaks(&note.text)));
        let notes: Vec<(f64, bool)> = notes.collect();
        let end = self.seconds;
        for (number, (at, breaks)) in notes.into_iter().enumerate().filter(|(_, (at, _))| *at <= end) {
            let x = self.x(at);
            let class = if breaks { " breaks" } else { "" };
            let place = x.max(free).min(WIDTH - RIGHT);
            free = place + APART;
            let (y, text) = (top - 35.0, top - 31.5);
            self.add(format_args!("<line class=\"note\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{top}\" y2=\"{bottom}\"/>"));
            self.add(format_args!("<circle class=\"note-dot{class}\" cx=\"{place:.1}\" cy=\"{y}\" r=\"7.5\"/>"));
            self.add(format_args!(
                "<text class=\"note-number\" text-anchor=\"middle\" x=\"{place:.1}\" y=\"{text}\">{}</text>",
                number + 1
            ));
        }
    }
}
