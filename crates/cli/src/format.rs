//! How numbers, times and names look to a person, and how a person writes them.

use std::{fmt::Write as _, time::Duration};

use jiff::{SignedDuration, Timestamp, civil::Date, fmt::strtime};

/// `16995` as `16,995`.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `16995` as `16,995원`; won are whole and may be negative.
pub(crate) fn won(amount: i64) -> String {
    let sign = if amount < 0 { "-" } else { "" };
    format!("{sign}{}원", thousands(amount.unsigned_abs()))
}

/// One thing, or many: `1 friend`, `1,604 friends`.
pub(crate) fn count(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", thousands(number), if number == 1 { one } else { many })
}

/// `chungju, seongju and jeonju`.
pub(crate) fn list_and<S: AsRef<str>>(names: &[S]) -> String {
    match names {
        [] => String::new(),
        [only] => only.as_ref().to_owned(),
        [first @ .., last] => {
            let first: Vec<&str> = first.iter().map(AsRef::as_ref).collect();
            format!("{} and {}", first.join(", "), last.as_ref())
        }
    }
}

/// A count of bytes in binary units: `12.3 MiB`.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut scaled = count as f64 / 1024.0;
    let mut unit = 0;
    while scaled >= 1024.0 && unit + 1 < UNITS.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    format!("{scaled:.1} {}", UNITS[unit])
}

/// Long enough to be read at a glance: `850 ms`, `12.3 s`, `4m 05s`, `2h 07m`.
pub(crate) fn duration(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0 => format!("{} ms", span.as_millis()),
        1..60 => format!("{:.1} s", span.as_secs_f64()),
        60..3600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h {:02}m", seconds / 3600, seconds % 3600 / 60),
    }
}

/// Time to the second in UTC, or `–` where there is none.
pub(crate) fn time(timestamp: Option<&prost_types::Timestamp>) -> String {
    let Some(timestamp) = timestamp else { return "–".to_owned() };
    let Ok(instant) = Timestamp::new(timestamp.seconds, timestamp.nanos) else { return "out of range".to_owned() };
    strtime::format("%Y-%m-%d %H:%M:%SZ", instant).unwrap_or_else(|_| instant.to_string())
}

/// A half-open window: `2026-01-01 00:00:00Z – 2026-02-01 00:00:00Z`, or open at either end.
pub(crate) fn window(window: Option<&sillok_wire::v1::TimeWindow>) -> String {
    match window {
        Some(window) if window.from.is_some() || window.until.is_some() => {
            let end = |at: Option<&prost_types::Timestamp>| at.map_or_else(String::new, |at| time(Some(at)));
            format!("{} – {}", end(window.from.as_ref()), end(window.until.as_ref())).trim().to_owned()
        }
        _ => "always".to_owned(),
    }
}

/// The first 12 hexadecimal digits, enough to compare by eye.
pub(crate) fn short_hex(digest: &[u8]) -> String {
    if digest.is_empty() {
        return "–".to_owned();
    }
    hex(&digest[..digest.len().min(6)])
}

/// All of it, in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        // Writing to a String cannot fail.
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// Reads RFC 3339 (`2026-03-01T09:00:00+09:00`) or a day (`2026-03-01`: its first moment in UTC).
pub(crate) fn parse_time(text: &str) -> Result<prost_types::Timestamp, String> {
    let instant = match text.parse::<Timestamp>() {
        Ok(instant) => instant,
        Err(_) => text
            .parse::<Date>()
            .ok()
            .filter(|_| text.len() == "2026-03-01".len())
            .and_then(|date| format!("{date}T00:00:00Z").parse().ok())
            .ok_or_else(|| {
                format!("{text:?} is neither a time such as 2026-03-01T09:00:00+09:00 nor a day such as 2026-03-01")
            })?,
    };
    Ok(normalised(prost_types::Timestamp { seconds: instant.as_second(), nanos: instant.subsec_nanosecond() }))
}

/// protobuf counts nanoseconds upwards also before 1970.
fn normalised(mut timestamp: prost_types::Timestamp) -> prost_types::Timestamp {
    timestamp.normalize();
    timestamp
}

/// Reads `500ms`, `10s`, `2m`, `1h`; a bare number is seconds.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = match unit.trim() {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("{text:?} is not a duration such as 500ms, 10s or 2m")),
    };
    let number: f64 = number.parse().map_err(|_| format!("{text:?} is not a duration such as 500ms, 10s or 2m"))?;
    Duration::try_from_secs_f64(number * factor).map_err(|_| format!("{text:?} is too long"))
}

/// How long ago, for a person; `–` where there is no time.
pub(crate) fn ago(timestamp: Option<&prost_types::Timestamp>) -> String {
    let Some(timestamp) = timestamp else { return "–".to_owned() };
    let Ok(instant) = Timestamp::new(timestamp.seconds, timestamp.nanos) else { return "–".to_owned() };
    let passed = Timestamp::now().duration_since(instant);
    if passed <= SignedDuration::from_millis(999) {
        return "now".to_owned();
    }
    format!("{} ago", duration(passed.unsigned_abs()))
}

/// One word of a command line, quoted for a POSIX shell where it must be.
pub(crate) fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:,=@%+~".contains(c) || !c.is_ascii();
    if !word.is_empty() && word.chars().all(plain) && !word.starts_with('~') {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// A protobuf enum's name without its prefix, in lower case with hyphens: `OFFLINE_EVENT` as `offline-event`.
pub(crate) fn enum_name(name: &str, prefix: &str) -> String {
    let bare = name.strip_prefix(prefix).unwrap_or(name);
    if bare == "UNSPECIFIED" { "–".to_owned() } else { bare.to_ascii_lowercase().replace('_', "-") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_separated() {
        for (number, text) in
            [(0, "0"), (999, "999"), (1_000, "1,000"), (16_995, "16,995"), (150_000_000, "150,000,000")]
        {
            assert_eq!(thousands(number), text);
        }
        assert_eq!(thousands(u64::MAX), "18,446,744,073,709,551,615");
        assert_eq!(won(98_835), "98,835원");
        assert_eq!(won(-1_500), "-1,500원");
        assert_eq!(won(i64::MIN), "-9,223,372,036,854,775,808원");
    }

    #[test]
    fn names_are_joined_as_one_would_say_them() {
        assert_eq!(list_and(&["chungju"]), "chungju");
        assert_eq!(list_and(&["chungju", "jeonju"]), "chungju and jeonju");
        assert_eq!(list_and(&["chungju", "seongju", "jeonju"]), "chungju, seongju and jeonju");
    }

    #[test]
    fn a_day_is_its_first_moment_in_utc_and_an_offset_is_kept() {
        let day = parse_time("2017-03-03").unwrap();
        assert_eq!((day.seconds, day.nanos), (1_488_499_200, 0));
        assert_eq!(parse_time("2017-03-03T09:00:00+09:00").unwrap(), day);
        assert_eq!(time(Some(&day)), "2017-03-03 00:00:00Z");
        for wrong in ["tomorrow", "2017-13-01", "2017-03-03T09:00:00", "20170303", ""] {
            assert!(parse_time(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn time_before_the_epoch_counts_its_nanoseconds_upwards() {
        let early = parse_time("1969-12-31T23:59:59.5Z").unwrap();
        assert_eq!((early.seconds, early.nanos), (-1, 500_000_000));
    }

    #[test]
    fn durations_are_read_with_their_unit() {
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("10"), Ok(Duration::from_secs(10)));
        assert_eq!(parse_duration("1.5m"), Ok(Duration::from_secs(90)));
        for wrong in ["", "s", "10 years", "-1s", "1e400"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
        assert_eq!(duration(Duration::from_millis(850)), "850 ms");
        assert_eq!(duration(Duration::from_secs(245)), "4m 05s");
    }

    #[test]
    fn words_are_quoted_only_where_a_shell_needs_it() {
        assert_eq!(shell_word("shop-1"), "shop-1");
        assert_eq!(shell_word("봄맞이"), "봄맞이");
        assert_eq!(shell_word("봄 맞이"), "'봄 맞이'");
        assert_eq!(shell_word("it's"), r"'it'\''s'");
        assert_eq!(shell_word(""), "''");
        assert_eq!(shell_word("$HOME"), "'$HOME'");
    }

    #[test]
    fn bytes_have_binary_units() {
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(64 << 20), "64.0 MiB");
    }
}
