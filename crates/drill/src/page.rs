//! What pages of Sillok have in common: their look, and how numbers and times stand in them.

/// Colours for light and dark, and no font, script or picture from elsewhere.
pub const STYLE: &str = include_str!("page.css");

/// `16995` as `16,995`.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Seconds since 1970 as `2026-11-24 14:05`.
pub fn utc(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Days to a civil date, after Howard Hinnant's `civil_from_days`.
    let shifted = days + 719_468;
    let (era, day) = (shifted / 146_097, shifted % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + u64::from(month <= 2);
    format!("{year}-{month:02}-{day_of_month:02} {:02}:{:02}", rest / 3600, rest % 3600 / 60)
}

/// A step of 1, 2 or 5 × 10ⁿ and how many of them hold `most`: three to seven.
pub fn steps(most: f64) -> (f64, u32) {
    let magnitude = 10_f64.powf(most.log10().floor() - 1.0);
    let step =
        [1.0, 2.0, 5.0, 10.0, 20.0, 50.0].into_iter().map(|unit| unit * magnitude).find(|step| most / step <= 6.0);
    let step = step.unwrap_or(most);
    (step, (most / step).ceil() as u32)
}

/// A number at an axis: `1200` as `1.2k`.
pub fn short(value: f64) -> String {
    if value >= 1000.0 { format!("{}k", value / 1000.0) } else { format!("{value}") }
}

/// Text in XML and HTML.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_become_dates() {
        for (seconds, date) in [
            (0, "1970-01-01 00:00"),
            (951_782_400, "2000-02-29 00:00"),
            (1_665_804_780, "2022-10-15 03:33"),
            (1_798_761_599, "2026-12-31 23:59"),
        ] {
            assert_eq!(utc(seconds), date);
        }
    }

    #[test]
    fn an_axis_has_a_few_round_steps() {
        for (most, step, count) in
            [(28.0, 5.0, 6), (1.0, 0.2, 5), (950.0, 200.0, 5), (1204.0, 500.0, 3), (60.0, 10.0, 6)]
        {
            assert_eq!(steps(most), (step, count), "{most}");
        }
    }

    #[test]
    fn what_a_node_says_stays_text() {
        assert_eq!(escape("<script>\"&\""), "&lt;script&gt;&quot;&amp;&quot;");
    }
}
