//! What a write that did not succeed means.

use sillok_wire::{errors, v1};
use tonic::{Code, Status};

/// Why there is no receipt, and what that says about the command.
#[derive(Debug, Clone, thiserror::Error)]
pub enum WriteError {
    /// The domain said no. The refusal is recorded and binds its key (unless it was `validate_only`); a new try takes a
    /// new key.
    #[error("refused: {}", .status.message())]
    Refused {
        /// Which rule.
        reason: v1::Reason,
        /// The whole answer, with its facts in `ErrorInfo`.
        status: Status,
    },
    /// The command is malformed. Nothing was recorded; the same will never be accepted.
    #[error("the command is invalid: {}", describe(.status))]
    Invalid {
        /// The whole answer, with the fields that are wrong in `BadRequest`.
        status: Status,
    },
    /// Nothing was recorded, and the key is still free. It may be tried again as it is.
    #[error("not recorded: {}", .status.message())]
    NotRecorded {
        /// The key it had.
        retry_key: String,
        /// The last answer.
        status: Status,
    },
    /// It may be recorded or not. Only the same command with the same key is safe to repeat.
    #[error("it is unknown whether the command was recorded ({}); repeating it with the retry key {retry_key} is safe", .status.message())]
    Unknown {
        /// The key to repeat it with.
        retry_key: String,
        /// The last answer, or what stands for it.
        status: Status,
    },
}

fn describe(status: &Status) -> String {
    let violations = errors::violations(status);
    if violations.is_empty() {
        return status.message().to_owned();
    }
    let each = violations.iter().map(|violation| format!("{}: {}", violation.field, violation.description));
    each.collect::<Vec<_>>().join("; ")
}

impl WriteError {
    /// The last answer.
    pub fn status(&self) -> &Status {
        match self {
            WriteError::Refused { status, .. }
            | WriteError::Invalid { status }
            | WriteError::NotRecorded { status, .. }
            | WriteError::Unknown { status, .. } => status,
        }
    }

    /// Of the closed list, where the last answer came from this system.
    pub fn reason(&self) -> Option<v1::Reason> {
        errors::reason_of(self.status())
    }

    /// One fact of the answer, by its key in `ErrorInfo`.
    pub fn fact(&self, key: &str) -> Option<String> {
        errors::error_info(self.status())?.metadata.remove(key)
    }
}

/// What one failed try means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Refused(v1::Reason),
    Invalid,
    /// Certainly not recorded by this try.
    NotRecorded {
        again: bool,
    },
    Unknown {
        again: bool,
    },
}

pub(crate) fn judge(status: &Status) -> Verdict {
    if let Some(reason) = errors::reason_of(status) {
        if errors::is_refusal(reason) {
            return Verdict::Refused(reason);
        }
        if matches!(reason, v1::Reason::InvalidCommand | v1::Reason::BodyTooLarge) {
            return Verdict::Invalid;
        }
    }
    let again = worth_repeating(status.code());
    if never_sent(status) || errors::outcome_of(status) == Some(errors::Outcome::NotRecorded) {
        return Verdict::NotRecorded { again };
    }
    Verdict::Unknown { again }
}

/// Codes by which a later try, or another node, may do better. Connections that break show as several of them.
pub(crate) fn worth_repeating(code: Code) -> bool {
    matches!(
        code,
        Code::Unavailable
            | Code::DeadlineExceeded
            | Code::Cancelled
            | Code::Unknown
            | Code::Internal
            | Code::ResourceExhausted
            | Code::Aborted
    )
}

/// Another node may do better than this one. One that leads and is full is waited for: the others would only forward to it.
pub(crate) fn worth_leaving(status: &Status) -> bool {
    !matches!(errors::reason_of(status), Some(v1::Reason::Overloaded | v1::Reason::DiskFull))
}

/// There was no connection, so nothing can have arrived.
pub(crate) fn never_sent(status: &Status) -> bool {
    let mut error: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(status);
    while let Some(inner) = error {
        if inner.is::<tonic::ConnectError>() {
            return true;
        }
        error = inner.source();
    }
    false
}

impl Verdict {
    /// What to tell the caller. `doubtful`: an earlier try with the same key may have been recorded.
    pub(crate) fn into_error(self, status: Status, retry_key: String, doubtful: bool) -> WriteError {
        match self {
            Verdict::Refused(reason) => WriteError::Refused { reason, status },
            Verdict::Invalid => WriteError::Invalid { status },
            Verdict::NotRecorded { again } if !(doubtful && again) => WriteError::NotRecorded { retry_key, status },
            Verdict::NotRecorded { .. } | Verdict::Unknown { .. } => WriteError::Unknown { retry_key, status },
        }
    }

    /// Whether another try may do better.
    pub(crate) fn again(self) -> bool {
        matches!(self, Verdict::NotRecorded { again: true } | Verdict::Unknown { again: true })
    }
}
