//! Progress of long work on standard error: how much, how fast, and how long it will still take. Nothing where standard error
//! is no terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// Over bytes.
pub(crate) fn bytes(what: &str) -> ProgressBar {
    bar(&format!(
        "{what} {{bar:24}} {{percent:>3}}% {{bytes}} of {{total_bytes}}, {{bytes_per_sec}}, {{eta}} left  {{msg}}"
    ))
}

/// Over rows, of a known number.
pub(crate) fn rows(what: &str, total: u64) -> ProgressBar {
    let bar = bar(&format!(
        "{what} {{bar:24}} {{percent:>3}}% {{human_pos}} of {{human_len}}, {{per_sec}}, {{eta}} left  {{msg}}"
    ));
    bar.set_length(total);
    bar
}

/// Of unknown length: a word that changes.
pub(crate) fn waiting(what: &str) -> ProgressBar {
    bar(&format!("{what} {{spinner}} {{elapsed}}  {{msg}}"))
}

fn bar(template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .with_key("per_sec", |state: &indicatif::ProgressState, out: &mut dyn std::fmt::Write| {
            // Writing to the bar's line cannot fail.
            let _ = write!(out, "{}/s", crate::format::thousands(state.per_sec() as u64));
        })
        .progress_chars("━╸ ");
    let bar = ProgressBar::no_length().with_style(style);
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_templates_are_well_formed() {
        for bar in [bytes("verifying"), rows("importing", 10), waiting("adding")] {
            bar.finish_and_clear();
        }
        assert!(ProgressStyle::with_template("{bar:24} {human_pos} {per_sec}").is_ok());
    }
}
