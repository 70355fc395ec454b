//! Errors say why, what became of the write and when to try again, in every form they take.

#![allow(clippy::unwrap_used)]

use std::{collections::BTreeSet, time::Duration};

use sillok_wire::{
    errors::{self, Outcome, Problem},
    json, v1,
    v1::Reason,
};
use tonic::{Code, Status};

fn every_reason() -> Vec<Reason> {
    let reasons = json::pool().get_enum_by_name("sillok.v1.Reason").unwrap();
    reasons.values().map(|value| Reason::try_from(value.number()).unwrap()).collect()
}

#[test]
fn every_reason_keeps_its_name_code_and_outcome_through_both_forms() {
    let reasons = every_reason();
    assert!(reasons.len() > 50);
    for reason in reasons {
        let status: Status = Problem::new(reason, "what happened").with("fact", 7).into();
        assert_eq!(status.code(), errors::code_of(reason));
        assert_eq!(errors::reason_of(&status), Some(reason));
        assert_eq!(errors::outcome_of(&status), errors::usual_outcome(reason));
        // Nobody who fails a call with a reason that passes has to remember to say when.
        let passes = matches!(status.code(), Code::Unavailable | Code::ResourceExhausted);
        assert_eq!(errors::retry_after(&status).is_some(), passes, "{reason:?}");

        let rich = errors::to_rpc(&status);
        assert_eq!(rich.code, status.code() as i32);
        let back = errors::from_rpc(rich.clone());
        assert_eq!(errors::to_rpc(&back), rich);
        assert_eq!(back.message(), "what happened");
        assert_eq!(errors::reason_of(&back), Some(reason));
        assert_eq!(errors::error_info(&back).unwrap().metadata["fact"], "7");
        let said = back.metadata().get("outcome").map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(said.as_deref(), errors::usual_outcome(reason).map(Outcome::as_str));
        assert!(!errors::reason_name(reason).starts_with("REASON_"));
    }
}

#[test]
fn reasons_of_the_domain_are_those_that_are_recorded() {
    let refusals: BTreeSet<i32> =
        every_reason().into_iter().filter(|&reason| errors::is_refusal(reason)).map(|reason| reason as i32).collect();
    assert_eq!(refusals, (1..=33).collect());
    assert_eq!(v1::Reason::FriendLimitReached as i32, sillok_domain::Reason::FriendLimitReached as i32);
}

#[test]
fn an_unknown_outcome_says_nothing() {
    let status: Status = Problem::new(Reason::OutcomeUnknown, "the leader was lost").into();
    assert_eq!(errors::outcome_of(&status), None);
    assert!(status.metadata().get("outcome").is_none());
    // What gRPC libraries raise by themselves.
    assert_eq!(errors::outcome_of(&Status::unavailable("connection reset")), None);
    assert_eq!(errors::reason_of(&Status::unavailable("connection reset")), None);
    let said: Status = Problem::new(Reason::ShuttingDown, "…").outcome(None).into();
    assert_eq!(errors::outcome_of(&said), None);
}

#[test]
fn when_to_try_again_and_what_is_wrong_come_through() {
    let problem = Problem::new(Reason::Overloaded, "full").retry_after(Duration::from_millis(250));
    let status: Status = problem.into();
    assert_eq!(errors::retry_after(&status), Some(Duration::from_millis(250)));
    assert_eq!(status.code(), Code::ResourceExhausted);

    let problem = Problem::new(Reason::InvalidCommand, "malformed").violation("name", "is empty");
    let status: Status = problem.into();
    let violations = errors::violations(&status);
    assert_eq!(violations.len(), 1);
    assert_eq!((&*violations[0].field, &*violations[0].description), ("name", "is empty"));
}

#[test]
fn a_status_without_details_survives_as_code_and_message() {
    let status = Status::unimplemented("no such method");
    let back = errors::from_rpc(errors::to_rpc(&status));
    assert_eq!((back.code(), back.message()), (Code::Unimplemented, "no such method"));
    assert!(back.details().is_empty());
}

#[test]
fn errors_have_json() {
    let status: Status = Problem::new(Reason::NoLeader, "no leader").retry_after(Duration::from_millis(50)).into();
    let answer = v1::Answer { outcome: Some(v1::answer::Outcome::Error(errors::to_rpc(&status))) };
    let text = json::to_string(&answer, "sillok.v1.Answer").unwrap();
    assert!(text.contains(r#""@type":"type.googleapis.com/google.rpc.ErrorInfo""#), "{text}");
    assert!(text.contains(r#""retryDelay":"0.050s""#), "{text}");
    assert_eq!(json::from_str::<v1::Answer>("sillok.v1.Answer", &text).unwrap(), answer);
}

#[test]
fn json_names_what_is_wrong() {
    let error = json::from_str::<v1::Command>("sillok.v1.Command", r#"{"addFriend":{"user":"u"}}"#).unwrap_err();
    assert!(error.to_string().contains("user"), "{error}");
    let error = json::from_str::<v1::Command>("sillok.v1.Command", "{} {}").unwrap_err();
    assert!(matches!(error, json::JsonError::Json { .. }));
    let error = json::to_string(&v1::Command::default(), "sillok.v1.Comand").unwrap_err();
    assert!(matches!(error, json::JsonError::NoSuchMessage(_)));
}

#[test]
fn the_same_error_is_the_same_bytes() {
    let error = || -> tonic_types::Status {
        let facts = (0..20).map(|at| (format!("fact_{at}"), at));
        facts.fold(Problem::new(Reason::RevisionMismatch, "…"), |all, (key, at)| all.with(key, at)).into()
    };
    assert_eq!(error(), error());
}

/// A list of 10,000 user keys, each of them wrong, was answered with a megabyte of trailers. gRPC clients take 16 KiB and
/// made a bare RESOURCE_EXHAUSTED of it: no `outcome`, so an unknown one, for a command that was never recorded.
#[test]
fn the_largest_error_fits_into_a_clients_trailers() {
    let mut problem = Problem::new(Reason::InvalidCommand, "한".repeat(10_000));
    for at in 0..10_000 {
        problem = problem.violation(format!("audience.user_keys[{at}]{}", "x".repeat(500)), "길".repeat(500));
    }
    for at in 0..100 {
        problem = problem.with(format!("fact-{at}-{}", "k".repeat(500)), "값".repeat(500));
    }
    let status: Status = problem.into();
    assert_eq!(errors::violations(&status).len(), 20);
    assert_eq!(errors::violations(&status)[19].field.split(']').next(), Some("audience.user_keys[19"));
    assert_eq!(errors::error_info(&status).unwrap().metadata[errors::VIOLATIONS_OMITTED], "9980");
    assert_eq!(errors::outcome_of(&status), Some(Outcome::NotRecorded));
    assert!(status.message().ends_with('…'));
    let mut trailers = tonic::codegen::http::HeaderMap::new();
    status.add_header(&mut trailers).unwrap();
    // As HTTP/2 counts them: 32 bytes for each beside its name and value.
    let bytes: usize = trailers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
    assert!(bytes < 16 << 10, "{bytes} bytes of trailers");
}
