//! What a node tells at `/metrics`: Prometheus' text format, as far as it is looked at here.

use std::collections::BTreeMap;

/// Everything one node told at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Exposition {
    /// By name; those with labels are added up.
    values: BTreeMap<String, f64>,
    /// By name without `_bucket`: how many were at most so large, ascending.
    buckets: BTreeMap<String, Vec<(f64, f64)>>,
    /// Labels of `sillok_node_info`.
    info: BTreeMap<String, String>,
}

impl Exposition {
    /// Reads the text. Lines that are none are passed over: a newer node may tell what this version does not know.
    pub(super) fn parse(text: &str) -> Exposition {
        let mut all = Exposition::default();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let Some((series, value)) = line.rsplit_once(' ') else { continue };
            let Ok(value) = value.parse::<f64>() else { continue };
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let labels = labels.trim_end_matches('}');
            match name.strip_suffix("_bucket").zip(label(labels, "le")) {
                Some((name, bound)) => all.bucket(name, &bound, value),
                // NaN stands for what is not known.
                None if value.is_nan() => {}
                None => *all.values.entry(name.to_owned()).or_default() += value,
            }
            if name == "sillok_node_info" {
                all.info =
                    ["node", "site"].iter().filter_map(|key| Some(((*key).to_owned(), label(labels, key)?))).collect();
            }
        }
        all
    }

    fn bucket(&mut self, name: &str, bound: &str, value: f64) {
        let Ok(bound) = bound.parse::<f64>() else { return };
        let buckets = self.buckets.entry(name.to_owned()).or_default();
        // Those of several series are added up.
        match buckets.iter_mut().find(|(known, _)| *known == bound) {
            Some((_, count)) => *count += value,
            None => buckets.push((bound, value)),
        }
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    }

    /// A gauge or a counter; `None` where it was not told.
    pub(super) fn value(&self, name: &str) -> Option<f64> {
        self.values.get(name).copied()
    }

    /// The node's id and site; empty where it does not say.
    pub(super) fn info(&self, key: &str) -> &str {
        self.info.get(key).map_or("", String::as_str)
    }
}

/// The value of one label; `"` and `\` within it are escaped there.
fn label(labels: &str, key: &str) -> Option<String> {
    let mut rest = labels;
    while let Some((name, after)) = rest.split_once("=\"") {
        let mut value = String::new();
        let mut characters = after.char_indices();
        let mut end = after.len();
        while let Some((at, c)) = characters.next() {
            match c {
                '"' => {
                    end = at + 1;
                    break;
                }
                '\\' => value.extend(characters.next().map(|(_, escaped)| if escaped == 'n' { '\n' } else { escaped })),
                plain => value.push(plain),
            }
        }
        if name.trim_start_matches(',').trim() == key {
            return Some(value);
        }
        rest = &after[end..];
    }
    None
}

/// What happened between two looks at one node.
#[derive(Debug, Clone, Copy)]
pub(super) struct Between<'a> {
    pub(super) before: &'a Exposition,
    pub(super) after: &'a Exposition,
    /// In seconds, above 0.
    pub(super) seconds: f64,
}

impl Between<'_> {
    /// How much a counter rose. A node that started meanwhile counts from none.
    pub(super) fn rise(&self, name: &str) -> Option<f64> {
        let (before, after) = (self.before.value(name).unwrap_or(0.0), self.after.value(name)?);
        Some(if after < before { after } else { after - before })
    }

    /// The same, a second.
    pub(super) fn rate(&self, name: &str) -> Option<f64> {
        self.rise(name).map(|rise| rise / self.seconds)
    }

    /// The mean of what a histogram took meanwhile.
    pub(super) fn mean(&self, name: &str) -> Option<f64> {
        let (sum, count) = (self.rise(&format!("{name}_sum"))?, self.rise(&format!("{name}_count"))?);
        (count > 0.0).then(|| sum / count)
    }

    /// Below which a share of what a histogram took meanwhile lies, evenly spread within its bucket, as Prometheus has it; in its
    /// last bucket, which has no end, where that begins. `None` where it took nothing.
    pub(super) fn quantile(&self, name: &str, share: f64) -> Option<f64> {
        let after = self.after.buckets.get(name)?;
        let before = self.before.buckets.get(name);
        let started_anew = self.before.value(&format!("{name}_count")) > self.after.value(&format!("{name}_count"));
        let counted = |bound: f64| match before {
            Some(before) if !started_anew => before.iter().find(|(known, _)| *known == bound).map_or(0.0, |(_, n)| *n),
            _ => 0.0,
        };
        let taken: Vec<(f64, f64)> = after.iter().map(|(bound, count)| (*bound, count - counted(*bound))).collect();
        let total = taken.last().map(|(_, count)| *count).filter(|count| *count > 0.0)?;
        let wanted = share * total;
        let (mut from, mut below) = (0.0, 0.0);
        for (bound, count) in taken {
            if count >= wanted && count > below {
                let within = (wanted - below) / (count - below);
                return Some(if bound.is_finite() { from + (bound - from) * within } else { from });
            }
            (from, below) = (bound, count);
        }
        Some(from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "\
# HELP sillok_commit_seconds From proposing a record to its commit.
# TYPE sillok_commit_seconds histogram
sillok_commit_seconds_bucket{le=\"0.001\"} 10
sillok_commit_seconds_bucket{le=\"0.01\"} 10
sillok_commit_seconds_bucket{le=\"+Inf\"} 10
sillok_commit_seconds_sum 0.005
sillok_commit_seconds_count 10
sillok_node_info{node=\"2\",site=\"한\\\"밭, \\\\\"} 1
sillok_replication_lag_entries{node=\"3\",site=\"a\"} NaN
sillok_views_spill_failures_total{why=\"a b\"} 1
sillok_views_spill_failures_total{why=\"c\"} 2
";
    const AFTER: &str = "\
sillok_commit_seconds_bucket{le=\"0.001\"} 10
sillok_commit_seconds_bucket{le=\"0.01\"} 90
sillok_commit_seconds_bucket{le=\"+Inf\"} 110
sillok_commit_seconds_sum 1.005
sillok_commit_seconds_count 110
what is this";

    #[test]
    fn labels_names_and_values_are_read() {
        let told = Exposition::parse(BEFORE);
        assert_eq!((told.info("node"), told.info("site")), ("2", "한\"밭, \\"));
        assert_eq!(told.value("sillok_views_spill_failures_total"), Some(3.0));
        assert_eq!(told.value("sillok_replication_lag_entries"), None);
        assert_eq!(told.value("sillok_commit_seconds"), None, "a histogram is no gauge");
    }

    #[test]
    fn what_happened_between_two_looks_is_told_apart_from_what_was_before() {
        let (before, after) = (Exposition::parse(BEFORE), Exposition::parse(AFTER));
        let between = Between { before: &before, after: &after, seconds: 2.0 };
        assert_eq!(between.rate("sillok_commit_seconds_count"), Some(50.0));
        assert!(between.mean("sillok_commit_seconds").is_some_and(|mean| (mean - 0.01).abs() < 1e-9));
        let p50 = between.quantile("sillok_commit_seconds", 0.5).unwrap();
        assert!((p50 - (0.001 + 0.009 * 50.0 / 80.0)).abs() < 1e-12, "{p50}");
        assert_eq!(between.quantile("sillok_commit_seconds", 0.99), Some(0.01), "the last bucket has no end");
        assert_eq!(between.quantile("sillok_nothing_seconds", 0.5), None);
        let quiet = Between { before: &after, after: &after, seconds: 2.0 };
        assert_eq!((quiet.quantile("sillok_commit_seconds", 0.5), quiet.mean("sillok_commit_seconds")), (None, None));
        let restarted = Between { before: &after, after: &before, seconds: 2.0 };
        assert_eq!(restarted.rise("sillok_commit_seconds_count"), Some(10.0), "it counts from none again");
        assert!(restarted.quantile("sillok_commit_seconds", 0.5).is_some_and(|p50| p50 <= 0.001));
    }
}
