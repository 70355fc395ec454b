//! What a person sees when a command fails: one clear line on standard error, and an exit code a script can act on.

use std::process::ExitCode;

use sillok_wire::{errors, v1::Reason};
use tonic::{Code, Status};

use crate::format::shell_word;

/// How the process ends. Scripts act on these numbers: append only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// A definite no: refused, not found, digests differ, some rows rejected.
    No = 1,
    /// The command line or a file given on it is wrong. Nothing was sent.
    Usage = 2,
    /// The outcome of a write is unknown; repeating it with the same retry key is safe.
    Unknown = 3,
    /// No node could answer; nothing was recorded.
    Unavailable = 4,
    /// The configuration of a node is wrong (`EX_USAGE`), or an address in it is busy.
    Config = 64,
    /// Data are damaged (`EX_DATAERR`). Starting again will not help.
    Damaged = 65,
}

/// What `--help` says about exit codes.
pub(crate) const EXIT_CODES: &str = "\
Exit codes: 0 done · 1 refused, not found or not equal · 2 wrong usage · 3 outcome unknown, safe to repeat with the same \
--retry-key · 4 nobody could answer, nothing was recorded · 64 wrong configuration of a node · 65 damaged data";

/// Why a command failed.
#[derive(Debug)]
pub(crate) struct Failure {
    /// How the process ends.
    pub(crate) exit: Exit,
    /// What happened, in one line.
    pub(crate) message: String,
    /// Of the closed list, where a node said so.
    pub(crate) reason: Option<Reason>,
    /// What to do next, each on a line of its own.
    pub(crate) advice: Vec<String>,
}

impl Failure {
    /// A failure of this kind.
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Failure {
        Failure { exit, message: message.into(), reason: None, advice: Vec::new() }
    }

    /// A definite no.
    pub(crate) fn no(message: impl Into<String>) -> Failure {
        Failure::new(Exit::No, message)
    }

    /// Something on the command line, or in a file named on it.
    pub(crate) fn usage(message: impl Into<String>) -> Failure {
        Failure::new(Exit::Usage, message)
    }

    /// A file that could not be read or written.
    pub(crate) fn file(path: &std::path::Path, doing: &str, error: &std::io::Error) -> Failure {
        Failure::new(Exit::Usage, format!("cannot {doing} {}: {error}", path.display()))
    }

    /// With one more line of advice.
    #[must_use]
    pub(crate) fn advise(mut self, line: impl Into<String>) -> Failure {
        self.advice.push(line.into());
        self
    }

    /// A read that a node refused or nobody answered.
    pub(crate) fn read(status: &Status) -> Failure {
        let reason = errors::reason_of(status);
        let exit = match status.code() {
            Code::Unavailable | Code::DeadlineExceeded | Code::Unknown | Code::Internal | Code::Cancelled => {
                Exit::Unavailable
            }
            Code::InvalidArgument => Exit::Usage,
            _ => Exit::No,
        };
        let failure = Failure { exit, message: describe(status), reason, advice: Vec::new() };
        match (exit, reason) {
            (Exit::Unavailable, Some(Reason::NoLeader | Reason::PositionNotReached)) => {
                failure.advise("--stale reads what one node knows, without a leader")
            }
            _ => failure,
        }
    }

    /// A write that was refused or that nobody took.
    pub(crate) fn write(status: &Status) -> Failure {
        let reason = errors::reason_of(status);
        let exit = match (errors::outcome_of(status), status.code()) {
            (_, Code::InvalidArgument) => Exit::Usage,
            (Some(errors::Outcome::Refused), _) => Exit::No,
            (
                Some(errors::Outcome::NotRecorded),
                Code::Unavailable | Code::ResourceExhausted | Code::DeadlineExceeded,
            ) => Exit::Unavailable,
            (Some(errors::Outcome::NotRecorded), _) => Exit::No,
            (None, _) => Exit::Unknown,
        };
        Failure { exit, message: describe(status), reason, advice: Vec::new() }
    }

    /// A change of the membership that was refused, or of which the outcome is not known.
    pub(crate) fn change(status: &Status) -> Failure {
        let failure = Failure::write(status);
        match failure.exit {
            Exit::Unknown => failure.advise("`sillok cluster status` shows what became of it"),
            _ => failure,
        }
    }

    /// A write of which nobody can say now whether it was recorded; `retry_key` makes repeating it safe.
    pub(crate) fn unknown(message: &str, retry_key: &str) -> Failure {
        Failure::new(Exit::Unknown, format!("the outcome is unknown ({message}): it may or may not have been recorded"))
            .advise("this is safe to repeat, and answers what became of it:")
            .advise(format!("  {}", again(std::env::args(), retry_key)))
    }

    /// Says it on standard error.
    pub(crate) fn report(&self) -> ExitCode {
        eprintln!("sillok: {}", self.message);
        for line in &self.advice {
            eprintln!("        {line}");
        }
        ExitCode::from(self.exit as u8)
    }
}

/// One line: what the node says, and the reason's name where there is one.
fn describe(status: &Status) -> String {
    match errors::error_info(status) {
        Some(info) => format!("{} [{}]", sentence(status), info.reason),
        None => sentence(status),
    }
}

/// What the node says, and which fields are wrong unless it has named them.
pub(crate) fn sentence(status: &Status) -> String {
    let mut text = if status.message().is_empty() { status.code().description() } else { status.message() }.to_owned();
    for violation in errors::violations(status) {
        if !text.contains(&violation.field) {
            text.push_str(&format!("; {}: {}", violation.field, violation.description));
        }
    }
    text
}

/// The command as it was typed.
pub(crate) fn typed() -> String {
    words(std::env::args()).join(" ")
}

/// The command as it was typed, with its retry key.
pub(crate) fn again(typed: impl Iterator<Item = String>, retry_key: &str) -> String {
    let mut words = words(typed);
    if !words.iter().any(|word| word == "--retry-key" || word.starts_with("--retry-key=")) {
        words.push(format!("--retry-key {}", shell_word(retry_key)));
    }
    words.join(" ")
}

fn words(typed: impl Iterator<Item = String>) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for (index, word) in typed.enumerate() {
        if index == 0 {
            let name = std::path::Path::new(&word)
                .file_name()
                .map_or(word.clone(), |name| name.to_string_lossy().into_owned());
            // By the path it was started with, unless it was found on the PATH.
            words.push(if word.contains('/') { shell_word(&word) } else { name });
            continue;
        }
        words.push(shell_word(&word));
    }
    words
}

#[cfg(test)]
mod tests {
    use sillok_wire::errors::Problem;

    use super::*;

    #[test]
    fn the_command_to_repeat_carries_its_key_once() {
        let typed = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>().into_iter();
        assert_eq!(
            again(typed(&["sillok", "message", "broadcast", "shop", "--text", "봄 세일"]), "k1"),
            "sillok message broadcast shop --text '봄 세일' --retry-key k1"
        );
        assert_eq!(
            again(typed(&["./target/release/sillok", "friend", "add", "shop", "a", "--retry-key", "mine"]), "mine"),
            "./target/release/sillok friend add shop a --retry-key mine"
        );
    }

    #[test]
    fn exit_codes_tell_a_no_from_not_knowing() {
        let exit = |problem: Problem| Failure::write(&problem.into()).exit;
        assert_eq!(exit(Problem::new(Reason::AlreadyFriend, "already")), Exit::No);
        assert_eq!(exit(Problem::new(Reason::RetryKeyReused, "reused")), Exit::No);
        assert_eq!(exit(Problem::new(Reason::NoLeader, "no leader")), Exit::Unavailable);
        assert_eq!(exit(Problem::new(Reason::OutcomeUnknown, "lost the leader")), Exit::Unknown);
        assert_eq!(exit(Problem::new(Reason::InvalidCommand, "wrong")), Exit::Usage);
        assert_eq!(Failure::write(&Status::unavailable("connection reset")).exit, Exit::Unknown);
        assert_eq!(Failure::read(&Status::unavailable("connection refused")).exit, Exit::Unavailable);
    }
}
