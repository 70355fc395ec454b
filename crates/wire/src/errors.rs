//! The closed list of reasons as rich gRPC status.
//!
//! A [`Problem`] becomes a `google.rpc.Status` with `ErrorInfo` (domain `sillok`), and where it applies `BadRequest` and
//! `RetryInfo`; as a `tonic::Status` it carries the same details and the metadata key `outcome` besides. Libraries of gRPC
//! raise `UNAVAILABLE` by themselves, so a failed write is *unknown* unless `outcome` says otherwise.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use prost::Message as _;
use tonic::{Code, Status, metadata::MetadataValue};
use tonic_types::{BadRequest, ErrorInfo, FieldViolation as BadField, RetryInfo, pb};

use crate::v1::Reason;

/// The domain in `ErrorInfo`.
pub const DOMAIN: &str = "sillok";
/// The metadata key, of the call and of `ErrorInfo`, that says what became of a write.
pub const OUTCOME: &str = "outcome";
/// Response metadata: `host:port` of the leader's client address, where it is known.
pub const LEADER: &str = "sillok-leader";

/// The fact in `ErrorInfo` that says how many wrong fields are not named.
pub const VIOLATIONS_OMITTED: &str = "violations_omitted";

// Clients take about 16 KiB of trailers, in which the message stands twice (percent-encoded, up to three bytes for one, and
// in the details, four for three). Beyond that they see neither details nor `outcome`. The limits below sum up to less.

/// Wrong fields that are named.
const VIOLATIONS_MAX: usize = 20;
/// Bytes of a field's path.
const FIELD_BYTES: usize = 80;
/// Bytes of what is wrong about it.
const DESCRIPTION_BYTES: usize = 128;
/// Bytes of the message.
const MESSAGE_BYTES: usize = 768;
/// Facts, and bytes of a name and of a value.
const FACTS_MAX: usize = 16;
const FACT_NAME_BYTES: usize = 64;
const FACT_BYTES: usize = 128;
/// When a call is worth trying again, where whoever failed it knows no better.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// What became of a failed write. Where nothing is said it is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing was recorded by this call; the key is still free.
    NotRecorded,
    /// The refusal itself is recorded and binds the key.
    Refused,
}

impl Outcome {
    /// As it stands in the metadata.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::NotRecorded => "not_recorded",
            Outcome::Refused => "refused",
        }
    }

    /// `None` for anything that is not an outcome.
    pub fn parse(text: &str) -> Option<Outcome> {
        match text {
            "not_recorded" => Some(Outcome::NotRecorded),
            "refused" => Some(Outcome::Refused),
            _ => None,
        }
    }
}

/// One failure, before it takes the form of a status.
#[derive(Debug, Clone)]
pub struct Problem {
    /// Of the closed list.
    pub reason: Reason,
    /// What happened and what to do, for a person. A status carries at most 768 bytes of it.
    pub message: String,
    /// Facts for a program. A status carries 16, each of at most 128 bytes.
    pub metadata: Vec<(String, String)>,
    /// What became of the write; `None`: unknown.
    pub outcome: Option<Outcome>,
    /// When it is worth trying again; `None`: in a moment where the reason is one that passes, otherwise never.
    pub retry_after: Option<Duration>,
    /// Fields that are wrong, each with what is wrong about it. A status names the first 20 and says how many more there
    /// are.
    pub violations: Vec<(String, String)>,
}

impl Problem {
    /// With the outcome that usually goes with the reason.
    pub fn new(reason: Reason, message: impl Into<String>) -> Problem {
        Problem {
            reason,
            message: message.into(),
            metadata: Vec::new(),
            outcome: usual_outcome(reason),
            retry_after: None,
            violations: Vec::new(),
        }
    }

    /// With one more fact.
    #[must_use]
    pub fn with(mut self, key: impl Into<String>, value: impl ToString) -> Problem {
        self.metadata.push((key.into(), value.to_string()));
        self
    }

    /// With the time after which it is worth trying again.
    #[must_use]
    pub fn retry_after(mut self, after: Duration) -> Problem {
        self.retry_after = Some(after);
        self
    }

    /// With an outcome other than the usual one; `None`: unknown.
    #[must_use]
    pub fn outcome(mut self, outcome: Option<Outcome>) -> Problem {
        self.outcome = outcome;
        self
    }

    /// With one field that is wrong.
    #[must_use]
    pub fn violation(mut self, field: impl Into<String>, description: impl Into<String>) -> Problem {
        self.violations.push((field.into(), description.into()));
        self
    }
}

/// `google.rpc.ErrorInfo` with its facts in order: the same refusal is the same bytes whenever it is answered.
#[derive(Clone, PartialEq, prost::Message)]
struct OrderedErrorInfo {
    #[prost(string, tag = "1")]
    reason: String,
    #[prost(string, tag = "2")]
    domain: String,
    #[prost(btree_map = "string, string", tag = "3")]
    metadata: BTreeMap<String, String>,
}

impl From<Problem> for pb::Status {
    fn from(problem: Problem) -> pb::Status {
        let code = code_of(problem.reason);
        let facts = problem.metadata.into_iter().take(FACTS_MAX);
        let mut metadata: BTreeMap<String, String> =
            facts.map(|(key, value)| (cut(key, FACT_NAME_BYTES), cut(value, FACT_BYTES))).collect();
        if let Some(outcome) = problem.outcome {
            metadata.insert(OUTCOME.to_owned(), outcome.as_str().to_owned());
        }
        let omitted = problem.violations.len().saturating_sub(VIOLATIONS_MAX);
        if omitted > 0 {
            metadata.insert(VIOLATIONS_OMITTED.to_owned(), omitted.to_string());
        }
        let reason = reason_name(problem.reason).to_owned();
        let mut details = vec![any("ErrorInfo", &OrderedErrorInfo { reason, domain: DOMAIN.to_owned(), metadata })];
        if let Some(after) = problem.retry_after.or_else(|| usual_retry_after(code)) {
            // A wait that does not fit is far longer than any caller's patience.
            let retry_delay = Some(after.try_into().unwrap_or(prost_types::Duration { seconds: 3600, nanos: 0 }));
            details.push(any("RetryInfo", &pb::RetryInfo { retry_delay }));
        }
        if !problem.violations.is_empty() {
            let each = problem.violations.into_iter().take(VIOLATIONS_MAX);
            let field_violations = each
                .map(|(field, description)| pb::bad_request::FieldViolation {
                    field: cut(field, FIELD_BYTES),
                    description: cut(description, DESCRIPTION_BYTES),
                    ..Default::default()
                })
                .collect();
            details.push(any("BadRequest", &pb::BadRequest { field_violations }));
        }
        pb::Status { code: code as i32, message: cut(problem.message, MESSAGE_BYTES), details }
    }
}

/// Nothing is known of the wait but that it is worth it.
fn usual_retry_after(code: Code) -> Option<Duration> {
    matches!(code, Code::Unavailable | Code::ResourceExhausted).then_some(RETRY_AFTER)
}

/// At most so many bytes, an ellipsis among them where something was left out.
fn cut(mut text: String, most: usize) -> String {
    const ELLIPSIS: &str = "…";
    if text.len() > most {
        let mut end = most - ELLIPSIS.len();
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push_str(ELLIPSIS);
    }
    text
}

fn any(name: &str, message: &impl prost::Message) -> prost_types::Any {
    prost_types::Any { type_url: format!("type.googleapis.com/google.rpc.{name}"), value: message.encode_to_vec() }
}

impl From<Problem> for Status {
    fn from(problem: Problem) -> Status {
        from_rpc(problem.into())
    }
}

/// A status of this reason with its usual code and outcome.
pub fn status(
    reason: Reason,
    message: impl Into<String>,
    metadata: &[(&str, String)],
    retry_after: Option<Duration>,
) -> Status {
    let mut problem = Problem::new(reason, message);
    problem.metadata = metadata.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
    problem.retry_after = retry_after;
    problem.into()
}

/// The name of a reason as it stands in `ErrorInfo`: without the prefix.
pub fn reason_name(reason: Reason) -> &'static str {
    let name = reason.as_str_name();
    name.strip_prefix("REASON_").unwrap_or(name)
}

/// The reason of this name; `None` where this version does not know it.
pub fn reason_from_name(name: &str) -> Option<Reason> {
    Reason::from_str_name(&format!("REASON_{name}"))
}

/// What became of a write that failed for this reason, unless the one who fails it knows better.
pub fn usual_outcome(reason: Reason) -> Option<Outcome> {
    match reason {
        Reason::Unspecified | Reason::OutcomeUnknown => None,
        reason if is_refusal(reason) => Some(Outcome::Refused),
        _ => Some(Outcome::NotRecorded),
    }
}

/// Whether the domain refuses for this reason, and the refusal is recorded.
pub fn is_refusal(reason: Reason) -> bool {
    (1..Reason::RetryKeyReused as i32).contains(&(reason as i32))
}

/// The gRPC code of a reason.
pub fn code_of(reason: Reason) -> Code {
    use Reason as R;
    match reason {
        R::Unspecified => Code::Unknown,

        R::ChannelNotFound
        | R::FriendNotFound
        | R::CouponNotFound
        | R::TicketNotFound
        | R::MessageNotFound
        | R::NodeNotFound => Code::NotFound,

        R::ChannelAlreadyOpen
        | R::AlreadyFriend
        | R::CouponAlreadyDefined
        | R::TicketAlreadyIssued
        | R::AlreadyInitialized => Code::AlreadyExists,

        R::RevisionMismatch => Code::Aborted,

        R::ChannelSuspended
        | R::ChannelNotSuspended
        | R::ChannelClosed
        | R::FriendBlocked
        | R::FriendNotBlocked
        | R::ConsentMissing
        | R::ConsentUnchanged
        | R::TooManyAttributes
        | R::AudienceEmpty
        | R::AdLabelMissing
        | R::CouponClosed
        | R::CouponCapReached
        | R::CouponFriendLimitReached
        | R::CouponWindowNotOpen
        | R::CouponWindowOver
        | R::CouponWindowNotOver
        | R::TicketAlreadyRedeemed
        | R::TicketNotRedeemed
        | R::TicketVoided
        | R::TicketExpired
        | R::OccurredInFuture
        | R::ImportOutOfOrder
        | R::ImportContradictsState
        | R::FriendLimitReached
        | R::RetryKeyReused
        | R::PlacementRefused
        | R::ClusterMismatch
        | R::NodeMismatch
        | R::EpochSuperseded
        | R::MembershipChangeInProgress => Code::FailedPrecondition,

        R::InvalidCommand | R::CursorInvalid | R::PageTokenInvalid | R::BodyTooLarge => Code::InvalidArgument,
        R::RevisionNotAnswerable => Code::OutOfRange,
        R::Overloaded | R::SubscriberTooSlow | R::DiskFull => Code::ResourceExhausted,
        R::NoLeader | R::OutcomeUnknown | R::NotReady | R::ShuttingDown | R::PositionNotReached | R::ViewsStopped => {
            Code::Unavailable
        }
    }
}

/// The status as a value, details and all. What is only in the call's metadata, such as an outcome raised without
/// details, stays behind.
pub fn to_rpc(status: &Status) -> pb::Status {
    if let Ok(rich) = pb::Status::decode(status.details())
        && (!rich.details.is_empty() || rich.code != 0)
    {
        return rich;
    }
    pb::Status { code: status.code() as i32, message: status.message().to_owned(), details: Vec::new() }
}

/// The status of a call, with the metadata `outcome` from its `ErrorInfo`.
pub fn from_rpc(rich: pb::Status) -> Status {
    use tonic_types::RpcStatusExt as _;

    let outcome =
        rich.get_details_error_info().and_then(|info| info.metadata.get(OUTCOME).and_then(|text| Outcome::parse(text)));
    let details = if rich.details.is_empty() { Bytes::new() } else { Bytes::from(rich.encode_to_vec()) };
    let mut status = Status::with_details(Code::from_i32(rich.code), rich.message, details);
    if let Some(outcome) = outcome {
        status.metadata_mut().insert(OUTCOME, MetadataValue::from_static(outcome.as_str()));
    }
    status
}

/// The `ErrorInfo` of this project in a status; `None` where it was raised by someone else.
pub fn error_info(status: &Status) -> Option<ErrorInfo> {
    use tonic_types::StatusExt as _;
    status.get_details_error_info().filter(|info| info.domain == DOMAIN)
}

/// Why, where this version knows the reason.
pub fn reason_of(status: &Status) -> Option<Reason> {
    error_info(status).and_then(|info| reason_from_name(&info.reason))
}

/// What became of the write; `None`: unknown.
pub fn outcome_of(status: &Status) -> Option<Outcome> {
    let said = status.metadata().get(OUTCOME).and_then(|value| value.to_str().ok()).and_then(Outcome::parse);
    said.or_else(|| error_info(status)?.metadata.get(OUTCOME).and_then(|text| Outcome::parse(text)))
}

/// After how long it is worth trying again.
pub fn retry_after(status: &Status) -> Option<Duration> {
    use tonic_types::StatusExt as _;
    status.get_details_retry_info().and_then(|RetryInfo { retry_delay }| retry_delay)
}

/// Which fields are wrong.
pub fn violations(status: &Status) -> Vec<BadField> {
    use tonic_types::StatusExt as _;
    status.get_details_bad_request().map(|BadRequest { field_violations }| field_violations).unwrap_or_default()
}
