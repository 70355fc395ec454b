//! `sillok.v1.Queries`: wait until the views may answer, read them under one channel's lock, answer with the position the
//! answer speaks for.
//!
//! Nothing here holds a lock across an await, and no answer is larger than a client takes by default: pages end early and
//! streams are cut into chunks, each with its own position.

mod ask;
mod channels;
mod coupons;
mod events;
mod friends;
mod messages;
mod reading;

use std::time::Duration;

use sillok_cluster::Node;
use sillok_wire::v1::{self, queries_server};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::grpc::outbox::Outgoing;

/// The service over one node.
#[derive(Clone)]
pub(crate) struct Queries {
    pub(crate) node: Node,
    /// How long a read may wait where the client gives no shorter deadline.
    pub(crate) timeout: Duration,
    /// How long a stream waits for a client that does not read.
    pub(crate) patience: Duration,
    pub(crate) stopping: CancellationToken,
}

macro_rules! queries {
    (
        unary { $($call:ident($request:ident) -> $response:ident;)* }
        streams { $($stream:ident = $streamed:ident($asked:ident) -> $item:ident;)* }
    ) => {
        #[tonic::async_trait]
        impl queries_server::Queries for Queries {
            $(
                async fn $call(&self, request: Request<v1::$request>) -> Result<Response<v1::$response>, Status> {
                    self.$call(request.into_inner()).await.map(Response::new)
                }
            )*
            $(
                type $stream = Outgoing<v1::$item>;

                async fn $streamed(&self, request: Request<v1::$asked>) -> Result<Response<Self::$stream>, Status> {
                    self.$streamed(request.into_inner()).await.map(Response::new)
                }
            )*
        }
    };
}

// Inherent methods of the same names, in the modules, come before those of the trait.
queries! {
    unary {
        get_channel(GetChannelRequest) -> GetChannelResponse;
        list_channels(ListChannelsRequest) -> ListChannelsResponse;
        get_friend(GetFriendRequest) -> GetFriendResponse;
        list_friends(ListFriendsRequest) -> ListFriendsResponse;
        count_friends(CountFriendsRequest) -> CountFriendsResponse;
        get_message(GetMessageRequest) -> GetMessageResponse;
        list_messages(ListMessagesRequest) -> ListMessagesResponse;
        get_coupon(GetCouponRequest) -> GetCouponResponse;
        list_coupons(ListCouponsRequest) -> ListCouponsResponse;
        get_ticket(GetTicketRequest) -> GetTicketResponse;
        list_tickets(ListTicketsRequest) -> ListTicketsResponse;
        get_digests(GetDigestsRequest) -> GetDigestsResponse;
        find_by_retry_key(FindByRetryKeyRequest) -> FindByRetryKeyResponse;
    }
    streams {
        StreamFriendsStream = stream_friends(StreamFriendsRequest) -> StreamFriendsResponse;
        StreamRecipientsStream = stream_recipients(StreamRecipientsRequest) -> StreamRecipientsResponse;
        ReadEventsStream = read_events(ReadEventsRequest) -> ReadEventsResponse;
    }
}
