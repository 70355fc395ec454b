//! One command, until its outcome is known or the deadline has passed.

use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use sillok_wire::{RawCodec, errors, v1};
use tokio::time::{Instant, timeout};
use tonic::{Request, Response, Status, client::Grpc, codegen::http::uri::PathAndQuery};

use crate::{
    Client, WriteError,
    backoff::{Backoff, SHORTEST_TRY},
    client::Settings,
    error::{Verdict, judge, worth_leaving, worth_repeating},
    key::retry_key,
    lane::{self, Untaken},
    pool::Node,
};

/// What the server waits for all sites where the command does not say how long.
const WAIT_DEFAULT: Duration = Duration::from_secs(5);

impl Client {
    /// Sends one command, again and elsewhere where it must, always under the same retry key. A command without a key
    /// gets a fresh one, one without an actor the client's.
    ///
    /// # Errors
    /// [`WriteError`] says what is known about the command. `Unknown` and a `NotRecorded` that another try might mend
    /// come only after the deadline.
    pub async fn execute(&self, command: impl Into<v1::Command>) -> Result<v1::Receipt, WriteError> {
        let mut command = command.into();
        complete(&mut command, &self.settings);
        let key = command.context().map(|context| context.retry_key.clone()).unwrap_or_default();
        if command.command.is_none() {
            let problem = errors::Problem::new(v1::Reason::InvalidCommand, "the command is empty")
                .violation("command", "must be set");
            return Err(WriteError::Invalid { status: problem.into() });
        }
        // Encoded once, in the shape of the way it goes.
        let mut shared = if self.settings.batch_calls { lane::encode(&command) } else { None };

        let one_try = self.settings.try_timeout + longest_wait(&command);
        let deadline = Instant::now() + self.settings.deadline;
        let mut backoff = Backoff::default();
        let mut doubtful = false;
        loop {
            let node = self.pool.for_write();
            let most = one_try.min(deadline.saturating_duration_since(Instant::now()));
            let tried = match &shared {
                Some(command) => self.by_lane(&node, command.clone(), most).await,
                None => self.by_call(&node, &command, most).await,
            };
            let (status, verdict) = match tried {
                Ok(receipt) => return Ok(receipt),
                Err(Untaken::Broken { status, .. }) if judge(&status) == Verdict::Invalid => {
                    // One of those on the stream is at fault; whether it is this one, a call of its own shows.
                    shared = None;
                    continue;
                }
                Err(Untaken::Broken { status, sent: false }) => {
                    let again = worth_repeating(status.code());
                    (status, Verdict::NotRecorded { again })
                }
                Err(Untaken::Answered(status) | Untaken::Broken { status, sent: true }) => {
                    let verdict = judge(&status);
                    (status, verdict)
                }
            };
            if !verdict.again() {
                self.pool.hint(status.metadata());
                return Err(verdict.into_error(status, key, doubtful));
            }
            doubtful |= matches!(verdict, Verdict::Unknown { .. });
            if worth_leaving(&status) {
                self.pool.failed(&node);
            }
            self.pool.hint(status.metadata());
            let wait = backoff.next(errors::retry_after(&status));
            if Instant::now() + wait + SHORTEST_TRY >= deadline {
                return Err(verdict.into_error(status, key, doubtful));
            }
            tracing::debug!(node = %node.address, %status, ?wait, "a write is tried again with the same key");
            tokio::time::sleep(wait).await;
        }
    }

    /// One try, in a frame with others.
    async fn by_lane(&self, node: &Node, command: Bytes, most: Duration) -> lane::Outcome {
        let answer = node.push(&self.pool, self.settings.try_timeout, command);
        match timeout(most, answer).await {
            Ok(Ok(outcome)) => outcome,
            // The runtime ends, and the lane's task with it.
            Ok(Err(_)) => Err(Untaken::Broken { status: Status::cancelled("the stream has ended"), sent: true }),
            Err(_) => {
                if most >= self.settings.try_timeout {
                    node.close_lane();
                }
                Err(Untaken::Broken { status: silent(node), sent: true })
            }
        }
    }

    /// One try, by a call of its own.
    async fn by_call(&self, node: &Node, command: &v1::Command, most: Duration) -> lane::Outcome {
        match timeout(most, call(node, command, most)).await {
            Ok(Ok(receipt)) => {
                self.pool.hint(receipt.metadata());
                Ok(receipt.into_inner())
            }
            Ok(Err(status)) => Err(Untaken::Answered(status)),
            Err(_) => Err(Untaken::Answered(silent(node))),
        }
    }
}

fn silent(node: &Node) -> Status {
    Status::deadline_exceeded(format!("{} gave no answer in time", node.address))
}

/// Gives a command what it lacks and the client knows.
pub(crate) fn complete(command: &mut v1::Command, settings: &Settings) {
    let Some(context) = command.context_mut() else { return };
    let context = context.get_or_insert_default();
    if context.retry_key.is_empty() {
        context.retry_key = retry_key();
    }
    if context.actor.is_empty() && !settings.actor.is_empty() {
        context.actor = (*settings.actor).to_owned();
    }
}

/// How much longer than usual the answer may take, because the command asks for all sites.
pub(crate) fn longest_wait(command: &v1::Command) -> Duration {
    let Some(context) = command.context().filter(|context| context.wait == v1::Wait::AllSites as i32) else {
        return Duration::ZERO;
    };
    let said = context.wait_at_most.as_ref().and_then(|wait| sillok_wire::duration(wait).ok());
    said.unwrap_or(WAIT_DEFAULT)
}

async fn call(node: &Node, command: &v1::Command, most: Duration) -> Result<Response<v1::Receipt>, Status> {
    let Some((path, body)) = encode(command) else { return Err(Status::internal("a command of no kind")) };
    let mut grpc = Grpc::new(node.channel());
    grpc.ready().await.map_err(|error| Status::from_error(error.into()))?;
    let mut request = Request::new(body);
    // So that the server does not work for a client that has gone.
    request.set_timeout(most);
    grpc.unary(request, PathAndQuery::from_static(path), RawCodec::<v1::Receipt>::default()).await
}

macro_rules! unary {
    ($($variant:ident),* $(,)?) => {
        /// The method of a command and the bytes of its request; `None` where it is of no kind.
        fn encode(command: &v1::Command) -> Option<(&'static str, Bytes)> {
            match command.command.as_ref()? {
                $(v1::command::Command::$variant(request) => Some((
                    concat!("/sillok.v1.Commands/", stringify!($variant)),
                    request.encode_to_vec().into(),
                )),)*
            }
        }
    };
}

unary! {
    OpenChannel, RenameChannel, SuspendChannel, ResumeChannel, CloseChannel,
    AddFriend, BlockFriend, UnblockFriend, RemoveFriend, SetAttributes, GrantConsent, WithdrawConsent,
    SendPush, SendNarrowcast, SendBroadcast,
    DefineCoupon, IssueTicket, IssueTickets, RedeemTicket, ReverseRedemption, VoidTicket, ExpireTicket, CloseCoupon,
    ImportEvents,
}
