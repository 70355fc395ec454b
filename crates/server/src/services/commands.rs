//! `sillok.v1.Commands`: every unary call is one command to the node; `Submit` is [`super::submit`].

use std::{sync::Arc, time::Duration};

use sillok_cluster::Node;
use sillok_wire::{
    errors::{self, Problem},
    v1::{self, Reason, answer::Outcome, commands_server},
};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::submit;
use crate::grpc::outbox::Outgoing;

/// The service over one node.
#[derive(Clone)]
pub(crate) struct Commands {
    pub(crate) node: Node,
    /// How long a unary call is worked on where the client gives no shorter deadline.
    pub(crate) timeout: Duration,
    pub(crate) submit: submit::Limits,
    pub(crate) stopping: CancellationToken,
}

impl Commands {
    async fn one(&self, command: v1::Command) -> Result<Response<v1::Receipt>, Status> {
        let mut answers = tokio::time::timeout(self.timeout, self.node.execute(vec![command]))
            .await
            .map_err(|_| unknown(&format!("no answer within {} s", self.timeout.as_secs())))?;
        match answers.pop().and_then(|answer| answer.outcome) {
            Some(Outcome::Receipt(receipt)) => Ok(Response::new(receipt)),
            Some(Outcome::Error(refused)) => Err(errors::from_rpc(refused)),
            None => Err(unknown("the answer was lost on its way")),
        }
    }
}

fn unknown(what: &str) -> Status {
    let message =
        format!("{what}: the outcome is unknown; repeat the command with the same retry key, which is always safe");
    Problem::new(Reason::OutcomeUnknown, message).into()
}

macro_rules! unary {
    ($($call:ident($request:ident);)*) => {
        #[tonic::async_trait]
        impl commands_server::Commands for Commands {
            $(
                async fn $call(&self, request: Request<v1::$request>) -> Result<Response<v1::Receipt>, Status> {
                    self.one(request.into_inner().into()).await
                }
            )*

            type SubmitStream = Outgoing<v1::SubmitResponse>;

            async fn submit(
                &self,
                request: Request<Streaming<v1::SubmitRequest>>,
            ) -> Result<Response<Self::SubmitStream>, Status> {
                // Before a frame is read: refused frames would cost what decoding them costs.
                let submitter = Arc::new(self.node.submitter()?);
                let ahead = submitter.clone();
                let submit = move |commands| submitter.submit(commands);
                let is_behind = move || ahead.holds_back();
                let (frames, stopping) = (request.into_inner(), self.stopping.clone());
                Ok(Response::new(submit::start(frames, submit, is_behind, self.submit, stopping)))
            }
        }
    };
}

unary! {
    open_channel(OpenChannelRequest);
    rename_channel(RenameChannelRequest);
    suspend_channel(SuspendChannelRequest);
    resume_channel(ResumeChannelRequest);
    close_channel(CloseChannelRequest);
    add_friend(AddFriendRequest);
    block_friend(BlockFriendRequest);
    unblock_friend(UnblockFriendRequest);
    remove_friend(RemoveFriendRequest);
    set_attributes(SetAttributesRequest);
    grant_consent(GrantConsentRequest);
    withdraw_consent(WithdrawConsentRequest);
    send_push(SendPushRequest);
    send_narrowcast(SendNarrowcastRequest);
    send_broadcast(SendBroadcastRequest);
    define_coupon(DefineCouponRequest);
    issue_ticket(IssueTicketRequest);
    issue_tickets(IssueTicketsRequest);
    redeem_ticket(RedeemTicketRequest);
    reverse_redemption(ReverseRedemptionRequest);
    void_ticket(VoidTicketRequest);
    expire_ticket(ExpireTicketRequest);
    close_coupon(CloseCouponRequest);
    import_events(ImportEventsRequest);
}
