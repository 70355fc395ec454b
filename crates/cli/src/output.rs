//! What is printed: tables and sentences for a person, canonical proto3 JSON for a script.

use std::io::{ErrorKind, Write as _};

use prost::Message;
use sillok_wire::{json, v1};

use crate::{
    args::Format,
    failure::{Exit, Failure},
    format::{count, list_and, thousands, time},
};

/// Where answers go, and in which form.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Out {
    format: Format,
}

impl Out {
    /// In this form.
    pub(crate) fn new(format: Format) -> Out {
        Out { format }
    }

    /// For a script.
    pub(crate) fn is_json(self) -> bool {
        self.format == Format::Json
    }

    /// A message of `sillok.v1`, or what `person` makes of it.
    pub(crate) fn answer(
        self,
        name: &str,
        message: &impl Message,
        person: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        match self.format {
            Format::Table => self.line(&person()),
            Format::Json => self.line(&to_json(name, message)?.to_string()),
        }
    }

    /// A sentence for a person, the same as a value for a script: where the contract has no message for it.
    pub(crate) fn answer_text(self, person: &str, script: serde_json::Value) -> Result<(), Failure> {
        match self.format {
            Format::Table => self.line(person),
            Format::Json => self.line(&script.to_string()),
        }
    }

    /// One line, or several.
    pub(crate) fn line(self, text: &str) -> Result<(), Failure> {
        let mut out = std::io::stdout().lock();
        match writeln!(out, "{text}").and_then(|()| out.flush()) {
            Ok(()) => Ok(()),
            // `sillok events tail | head` has all it wanted.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
            Err(error) => Err(Failure::new(Exit::No, format!("cannot print: {error}"))),
        }
    }

    /// Something said beside the answer: never on standard output of a script.
    pub(crate) fn note(self, text: &str) {
        if !self.is_json() {
            eprintln!("{text}");
        }
    }
}

/// The JSON of a message of `sillok.v1`.
pub(crate) fn to_json(name: &str, message: &impl Message) -> Result<serde_json::Value, Failure> {
    json::to_value(message, &format!("sillok.v1.{name}"))
        .map_err(|error| Failure::new(Exit::No, format!("cannot show the answer as JSON: {error}")))
}

/// What a receipt says besides what the command made.
pub(crate) fn receipt_line(receipt: &v1::Receipt) -> String {
    let mut line = format!("revision {}", thousands(receipt.revision));
    if let Some(position) = &receipt.position {
        line.push_str(&format!(", position {}", thousands(position.sequence)));
    }
    line.push_str(&format!(", {}", time(receipt.accepted_at.as_ref())));
    if let Some(durability) = &receipt.durability {
        let sites: Vec<&str> = durability.sites.iter().map(|site| site.site.as_str()).collect();
        if !sites.is_empty() {
            let all = if durability.all_sites { " (all sites)" } else { "" };
            line.push_str(&format!(", on disk at {}{all}", list_and(&sites)));
        }
    }
    if receipt.is_retry() {
        line.push_str(" · the original answer, given again");
    }
    line
}

/// What a receipt says: what was done, and where it stands.
pub(crate) fn receipt(out: Out, receipt: &v1::Receipt, dry_run: bool, done: &str) -> Result<(), Failure> {
    out.answer("Receipt", receipt, || match dry_run {
        true => format!("would be accepted: {done}\nnothing was recorded"),
        false => format!("{done}\n{}", receipt_line(receipt)),
    })
}

/// `1,133 friends × 15원 = 16,995원`, and who was left out.
pub(crate) fn cost_lines(send: &v1::SendDetail) -> String {
    let mut text = format!(
        "{} × {} = {}",
        count(send.audience_count, "friend", "friends"),
        crate::format::won(send.unit_price_won),
        crate::format::won(send.cost_won)
    );
    let mut left_out = Vec::new();
    if send.excluded_without_consent > 0 {
        left_out.push(format!("{} without consent to advertisements", thousands(send.excluded_without_consent)));
    }
    if send.excluded_blocked > 0 {
        left_out.push(format!("{} who blocked the channel", thousands(send.excluded_blocked)));
    }
    if !left_out.is_empty() {
        text.push_str(&format!("\nleft out: {}", list_and(&left_out)));
    }
    text
}

/// What a read speaks for: `as of position 9,812 (2026-03-01 00:00:00Z), read at chungju`.
pub(crate) fn read_line(info: Option<&v1::ReadInfo>) -> String {
    let Some(info) = info else { return String::new() };
    let sequence = info.position.as_ref().map_or(0, |position| position.sequence);
    let mut line = format!("as of position {}", thousands(sequence));
    if info.last_event_at.is_some() {
        line.push_str(&format!(" ({})", time(info.last_event_at.as_ref())));
    }
    if !info.site.is_empty() {
        line.push_str(&format!(", read at {}", info.site));
    }
    if info.consistency() == v1::ReadConsistency::Stale {
        line.push_str(&match &info.current_as_of {
            Some(at) => format!(", stale: confirmed current at {}", time(Some(at))),
            None => ", stale: not confirmed current since the node started".to_owned(),
        });
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_send_says_what_it_costs_and_whom_it_leaves_out() {
        let mut send =
            v1::SendDetail { audience_count: 1133, unit_price_won: 15, cost_won: 16_995, ..Default::default() };
        assert_eq!(cost_lines(&send), "1,133 friends × 15원 = 16,995원");
        send.excluded_without_consent = 12;
        send.excluded_blocked = 3;
        assert_eq!(
            cost_lines(&send).lines().nth(1),
            Some("left out: 12 without consent to advertisements and 3 who blocked the channel")
        );
    }

    #[test]
    fn a_receipt_names_only_the_sites_that_have_it() {
        let site = |name: &str| v1::SiteDurability { site: name.to_owned(), nodes: vec![1] };
        let receipt = v1::Receipt {
            revision: 9812,
            position: Some(v1::Position { log: 1, sequence: 20_113, term: 3 }),
            accepted_at: Some(prost_types::Timestamp { seconds: 0, nanos: 0 }),
            durability: Some(v1::Durability {
                sites: [site("chungju"), site("jeonju")].into_iter().collect(),
                ..Default::default()
            }),
            ..Default::default()
        };
        assert_eq!(
            receipt_line(&receipt),
            "revision 9,812, position 20,113, 1970-01-01 00:00:00Z, on disk at chungju and jeonju"
        );
    }

    #[test]
    fn json_is_canonical() {
        let receipt = v1::Receipt { revision: 7, ..Default::default() };
        assert_eq!(to_json("Receipt", &receipt).unwrap().to_string(), r#"{"revision":"7"}"#);
    }
}
