//! Charts as SVG: lines over an axis, and bars.

use std::fmt::Write as _;

use sillok_drill::page::{escape, short, steps};

const WIDTH: f64 = 960.0;
const LEFT: f64 = 74.0;
/// Of a letter of the names at the ends of lines.
const LETTER: f64 = 6.6;
const TOP: f64 = 30.0;
const HEIGHT: f64 = 210.0;
const BOTTOM: f64 = 44.0;
/// Of a bar and its gap.
const ROW: f64 = 26.0;
/// Where bars begin: right of their names.
const BARS_LEFT: f64 = 330.0;
/// Names at the ends of lines stand at least so far apart.
const APART: f64 = 14.0;
/// Colours of lines and bars are classes `c0` to `c7`.
const COLOURS: usize = 8;

/// One line of a chart.
pub(super) struct Line {
    pub(super) name: String,
    /// Across and up.
    pub(super) points: Vec<(f64, f64)>,
}

/// How numbers lie along a side.
pub(super) enum Axis {
    /// From none on; the unit follows each number.
    Linear(&'static str),
    /// By powers of ten, in microseconds, told as time.
    Time,
    /// These places, evenly, under these names.
    Named(Vec<String>),
}

struct Scale {
    marks: Vec<(f64, String)>,
    from: f64,
    until: f64,
    is_log: bool,
}

impl Scale {
    fn new(axis: &Axis, values: impl Iterator<Item = f64> + Clone) -> Scale {
        let most = values.clone().fold(0.0, f64::max);
        match axis {
            Axis::Linear(unit) => {
                let (step, count) = steps(most.max(1e-9));
                // 3 × 0.2 is 0.6, also where it is told.
                let place = |n: u32| (step * f64::from(n) * 1e9).round() / 1e9;
                let marks = (0..=count).map(|n| (place(n), format!("{}{unit}", short(place(n)))));
                Scale { marks: marks.collect(), from: 0.0, until: step * f64::from(count), is_log: false }
            }
            Axis::Time => {
                let least = values.filter(|value| *value > 0.0).fold(f64::MAX, f64::min).min(most.max(1.0));
                let (low, high) = (least.max(1.0).log10().floor() as i32, most.max(1.0).log10().ceil() as i32);
                let high = high.max(low + 1);
                let marks = (low..=high).map(|power| (10_f64.powi(power), time(10_f64.powi(power))));
                Scale { marks: marks.collect(), from: f64::from(low), until: f64::from(high), is_log: true }
            }
            Axis::Named(names) => {
                let marks = names.iter().enumerate().map(|(n, name)| (n as f64, name.clone()));
                let until = (names.len().saturating_sub(1)).max(1) as f64;
                Scale { marks: marks.collect(), from: 0.0, until, is_log: false }
            }
        }
    }

    /// 0 to 1.
    fn share(&self, value: f64) -> f64 {
        let value = if self.is_log { value.max(1.0).log10() } else { value };
        ((value - self.from) / (self.until - self.from)).clamp(0.0, 1.0)
    }
}

/// `100 µs`, `10 ms`, `1 s`.
fn time(microseconds: f64) -> String {
    match microseconds {
        small if small < 1e3 => format!("{small} µs"),
        middle if middle < 1e6 => format!("{} ms", middle / 1e3),
        _ => format!("{} s", microseconds / 1e6),
    }
}

/// Lines with their names at their ends. `heading` says what goes up.
pub(super) fn lines(heading: &str, lines: &[Line], across: &Axis, up: &Axis) -> String {
    let xs = Scale::new(across, lines.iter().flat_map(|line| line.points.iter().map(|point| point.0)));
    let ys = Scale::new(up, lines.iter().flat_map(|line| line.points.iter().map(|point| point.1)));
    let longest = lines.iter().map(|line| line.name.chars().count()).max().unwrap_or(0);
    let right = (longest as f64 * LETTER + 14.0).clamp(40.0, WIDTH / 2.5);
    let x = |value: f64| LEFT + xs.share(value) * (WIDTH - LEFT - right);
    let y = |value: f64| TOP + HEIGHT * (1.0 - ys.share(value));
    let mut svg = begin(heading, TOP + HEIGHT + BOTTOM);
    for (value, name) in &ys.marks {
        let (at, until) = (y(*value), WIDTH - right);
        add(
            &mut svg,
            format_args!("<line class=\"rule\" x1=\"{LEFT}\" x2=\"{until}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>"),
        );
        let (left, below) = (LEFT - 8.0, at + 4.0);
        add(
            &mut svg,
            format_args!(
                "<text class=\"tick\" text-anchor=\"end\" x=\"{left}\" y=\"{below:.1}\">{}</text>",
                escape(name)
            ),
        );
    }
    for (value, name) in &xs.marks {
        let (at, floor) = (x(*value), TOP + HEIGHT);
        let (tick, label) = (floor + 5.0, floor + 20.0);
        add(
            &mut svg,
            format_args!("<line class=\"axis\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{floor}\" y2=\"{tick}\"/>"),
        );
        add(
            &mut svg,
            format_args!(
                "<text class=\"tick\" text-anchor=\"middle\" x=\"{at:.1}\" y=\"{label}\">{}</text>",
                escape(name)
            ),
        );
    }
    let mut ends: Vec<(f64, f64, usize, &str)> = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        let colour = number % COLOURS;
        let points: Vec<String> = line.points.iter().map(|(a, b)| format!("{:.1},{:.1}", x(*a), y(*b))).collect();
        add(&mut svg, format_args!("<polyline class=\"line c{colour}\" points=\"{}\"/>", points.join(" ")));
        if line.points.len() <= 16 {
            for (a, b) in &line.points {
                add(
                    &mut svg,
                    format_args!("<circle class=\"dot c{colour}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\"/>", x(*a), y(*b)),
                );
            }
        }
        if let Some((a, b)) = line.points.last() {
            ends.push((x(*a), y(*b), colour, &line.name));
        }
    }
    names(&mut svg, ends);
    svg.push_str("</svg>");
    svg
}

/// Names beside the ends of their lines, moved apart.
fn names(svg: &mut String, mut ends: Vec<(f64, f64, usize, &str)>) {
    ends.sort_by(|a, b| a.1.total_cmp(&b.1));
    let mut free = TOP - APART;
    let spare = TOP + HEIGHT - APART * ends.len().saturating_sub(1) as f64;
    for (number, (x, y, colour, name)) in ends.into_iter().enumerate() {
        let at = y.max(free + APART).min(spare + APART * number as f64);
        free = at;
        let (left, below) = (x + 10.0, at + 4.0);
        add(
            svg,
            format_args!("<text class=\"name c{colour}\" x=\"{left:.1}\" y=\"{below:.1}\">{}</text>", escape(name)),
        );
    }
}

/// One bar of parts.
pub(super) struct Bar {
    pub(super) name: String,
    /// Beside each other; each part has the colour of its number.
    pub(super) parts: Vec<(String, f64)>,
    /// At the end of the bar.
    pub(super) total: String,
}

/// Bars below each other, and what their colours mean where they have several parts.
pub(super) fn bars(heading: &str, bars: &[Bar]) -> String {
    let most = bars.iter().map(|bar| bar.parts.iter().map(|part| part.1).sum::<f64>()).fold(1e-9, f64::max);
    let legend: Vec<&str> = bars
        .iter()
        .max_by_key(|bar| bar.parts.len())
        .map_or(Vec::new(), |bar| bar.parts.iter().map(|part| part.0.as_str()).collect());
    let has_legend = legend.len() > 1;
    let height = TOP + ROW * bars.len() as f64 + if has_legend { 34.0 } else { 10.0 };
    let mut svg = begin(heading, height);
    let scale = (WIDTH - BARS_LEFT - 110.0) / most;
    for (number, bar) in bars.iter().enumerate() {
        let y = TOP + ROW * number as f64;
        let (name_x, text_y, thick) = (BARS_LEFT - 10.0, y + 15.0, ROW - 8.0);
        add(
            &mut svg,
            format_args!(
                "<text class=\"tick\" text-anchor=\"end\" x=\"{name_x}\" y=\"{text_y:.1}\">{}</text>",
                escape(&bar.name)
            ),
        );
        let mut x = BARS_LEFT;
        for (colour, (name, value)) in bar.parts.iter().enumerate() {
            let (width, colour) = ((value * scale).max(0.5), colour % COLOURS);
            add(
                &mut svg,
                format_args!(
                    "<rect class=\"bar c{colour}\" x=\"{x:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{thick}\"><title>{}: {value:.2}</title></rect>",
                    y + 2.0,
                    escape(name)
                ),
            );
            x += width;
        }
        let x = x + 8.0;
        add(
            &mut svg,
            format_args!("<text class=\"total\" x=\"{x:.1}\" y=\"{text_y:.1}\">{}</text>", escape(&bar.total)),
        );
    }
    if has_legend {
        let (y, mut x) = (TOP + ROW * bars.len() as f64 + 18.0, BARS_LEFT);
        for (number, name) in legend.iter().enumerate() {
            let (colour, top, text) = (number % COLOURS, y - 9.0, x + 15.0);
            add(
                &mut svg,
                format_args!("<rect class=\"bar c{colour}\" x=\"{x:.1}\" y=\"{top}\" width=\"10\" height=\"10\"/>"),
            );
            add(&mut svg, format_args!("<text class=\"tick\" x=\"{text:.1}\" y=\"{y}\">{}</text>", escape(name)));
            x += 36.0 + 7.0 * name.chars().count() as f64;
        }
    }
    svg.push_str("</svg>");
    svg
}

fn begin(heading: &str, height: f64) -> String {
    let mut svg = String::new();
    add(
        &mut svg,
        format_args!(
            "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\"><title>{0}</title>\n<text class=\"heading\" x=\"10\" y=\"14\">{0}</text>",
            escape(heading)
        ),
    );
    svg
}

fn add(svg: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = svg.write_fmt(text);
    svg.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_lines_that_end_together_do_not_overlap() {
        let line = |n: usize| Line { name: format!("run {n}"), points: vec![(0.0, 1.0), (1.0, 5.0)] };
        let svg = lines("events", &(0..8).map(line).collect::<Vec<_>>(), &Axis::Linear(""), &Axis::Linear(""));
        let at = |text: &str| text.split("y=\"").nth(1).and_then(|rest| rest.split('"').next()?.parse::<f64>().ok());
        let mut ys: Vec<f64> = svg.lines().filter(|line| line.contains("class=\"name")).filter_map(at).collect();
        ys.sort_by(f64::total_cmp);
        assert_eq!(ys.len(), 8);
        assert!(ys.windows(2).all(|pair| pair[1] - pair[0] >= APART - 0.1), "{ys:?}");
        assert!(ys.iter().all(|y| (TOP - 1.0..=TOP + HEIGHT + 5.0).contains(y)), "{ys:?}");
    }

    #[test]
    fn times_have_their_unit() {
        for (microseconds, text) in [(10.0, "10 µs"), (1e3, "1 ms"), (1e5, "100 ms"), (1e6, "1 s")] {
            assert_eq!(time(microseconds), text);
        }
    }

    #[test]
    fn bars_of_nothing_are_bars_all_the_same() {
        let bar = Bar { name: "a".to_owned(), parts: vec![("x".to_owned(), 0.0)], total: "0".to_owned() };
        assert!(!bars("nothing", &[bar]).contains("NaN"));
    }
}
