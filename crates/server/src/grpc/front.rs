//! Around every service: request messages are bounded and taken in turns, and every answer names the leader.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes};
use http_body::{Frame, SizeHint};
use sillok_cluster::Node;
use sillok_wire::{
    errors::{self, Problem},
    v1::Reason,
};
use tonic::{
    Status,
    body::Body,
    codegen::{Service, http},
    server::NamedService,
};

use super::turns::{Turn, Turns};

/// One service with what every call has in common around it.
#[derive(Clone)]
pub(crate) struct Front<S> {
    service: S,
    message_bytes: usize,
    turns: Turns,
    node: Node,
}

impl<S> Front<S> {
    pub(crate) fn new(service: S, message_bytes: usize, turns: Turns, node: Node) -> Front<S> {
        Front { service, message_bytes, turns, node }
    }
}

impl<S: NamedService> NamedService for Front<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<http::Request<Body>> for Front<S>
where
    S: Service<http::Request<BoundedBody>, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Unpin,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Answering<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let request = request.map(|body| BoundedBody::new(body, self.message_bytes, self.turns.clone()));
        Answering { answer: self.service.call(request), node: self.node.clone() }
    }
}

/// The answer, to be given the leader's address.
pub(crate) struct Answering<F> {
    answer: F,
    node: Node,
}

impl<F> Future for Answering<F>
where
    F: Future<Output = Result<http::Response<Body>, Infallible>> + Unpin,
{
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let mut answer = ready!(Pin::new(&mut self.answer).poll(cx));
        if let Ok(response) = &mut answer
            && let Some(leader) = self.node.leader_client_address()
            && let Ok(leader) = http::HeaderValue::try_from(leader)
        {
            response.headers_mut().insert(errors::LEADER, leader);
        }
        Poll::Ready(answer)
    }
}

/// A request body that ends with `BODY_TOO_LARGE` where a message in it claims more than the limit, before any of that message
/// is kept. (tonic has a limit too; it answers `OUT_OF_RANGE` without details.) Each piece of it comes when it has its turn.
pub(crate) struct BoundedBody {
    body: Body,
    turn: Turn,
    /// A piece that waits for its turn.
    held: Option<Bytes>,
    limit: usize,
    /// The frame header being read: compression flag, length (big endian).
    header: [u8; HEADER_BYTES],
    header_filled: usize,
    /// Bytes of the present message still to come.
    message_left: usize,
    refused: Option<Status>,
}

const HEADER_BYTES: usize = 5;

impl BoundedBody {
    fn new(body: Body, limit: usize, turns: Turns) -> BoundedBody {
        let (turn, held, header) = (Turn::of(turns), None, [0; HEADER_BYTES]);
        BoundedBody { body, turn, held, limit, header, header_filled: 0, message_left: 0, refused: None }
    }

    /// Reads the frame headers in `data`; cuts it before a message that is too large.
    fn bound(&mut self, data: Bytes) -> Bytes {
        let mut rest = data.clone();
        while rest.has_remaining() {
            let skipped = self.message_left.min(rest.remaining());
            rest.advance(skipped);
            self.message_left -= skipped;

            let read = (HEADER_BYTES - self.header_filled).min(rest.remaining());
            rest.copy_to_slice(&mut self.header[self.header_filled..self.header_filled + read]);
            self.header_filled += read;
            if self.header_filled == HEADER_BYTES {
                let [_, length @ ..] = self.header;
                self.header_filled = 0;
                self.message_left = u32::from_be_bytes(length) as usize;
                if self.message_left > self.limit {
                    self.refused = Some(too_large(self.message_left, self.limit));
                    return data.slice(..data.len() - rest.remaining() - read);
                }
            }
        }
        data
    }
}

/// A message, or a frame of `Submit`, that is over a limit.
pub(crate) fn too_large(size_bytes: usize, limit_bytes: usize) -> Status {
    Problem::new(
        Reason::BodyTooLarge,
        format!("a message of {size_bytes} bytes is over the limit of {limit_bytes}; split it"),
    )
    .with("size_bytes", size_bytes)
    .with("limit_bytes", limit_bytes)
    .into()
}

impl http_body::Body for BoundedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        if this.held.is_none() {
            if let Some(status) = this.refused.take() {
                return Poll::Ready(Some(Err(status)));
            }
            match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => this.held = Some(this.bound(data)),
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                ended => return Poll::Ready(ended),
            }
        }
        let bytes = this.held.as_ref().map_or(0, Bytes::len);
        ready!(this.turn.poll(cx, bytes));
        Poll::Ready(this.held.take().map(|data| Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.held.is_none() && self.refused.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        if self.held.is_some() { SizeHint::default() } else { self.body.size_hint() }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use http_body::Body as _;
    use sillok_wire::errors::{Outcome, outcome_of, reason_of};
    use tonic::Code;

    use super::*;

    struct Chunks(VecDeque<Bytes>);

    impl http_body::Body for Chunks {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            Poll::Ready(self.0.pop_front().map(|chunk| Ok(Frame::data(chunk))))
        }
    }

    fn message(size: usize) -> Vec<u8> {
        let mut bytes = vec![0];
        bytes.extend((size as u32).to_be_bytes());
        bytes.extend(vec![7; size]);
        bytes
    }

    async fn read(bytes: &[u8], chunk: usize, limit: usize) -> (Vec<u8>, Option<Status>) {
        let chunks = bytes.chunks(chunk).map(Bytes::copy_from_slice).collect();
        let mut body = BoundedBody::new(Body::new(Chunks(chunks)), limit, Turns::start());
        let mut let_through = Vec::new();
        loop {
            match std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
                None => return (let_through, None),
                Some(Ok(frame)) => let_through.extend(frame.into_data().unwrap()),
                Some(Err(status)) => return (let_through, Some(status)),
            }
        }
    }

    #[tokio::test]
    async fn what_is_within_the_limit_passes_however_it_is_cut() {
        let bytes = [message(3), message(0), message(10), message(1)].concat();
        for chunk in 1..=bytes.len() {
            let (let_through, status) = read(&bytes, chunk, 10).await;
            assert!(status.is_none(), "chunks of {chunk}");
            assert_eq!(let_through, bytes);
        }
    }

    #[tokio::test]
    async fn messages_before_the_one_that_is_too_large_pass_whole() {
        let good = [message(3), message(10)].concat();
        let bytes = [good.clone(), message(11), message(1)].concat();
        for chunk in 1..=bytes.len() {
            let (let_through, status) = read(&bytes, chunk, 10).await;
            let status = status.expect("refused");
            assert_eq!(status.code(), Code::InvalidArgument);
            assert_eq!(reason_of(&status), Some(Reason::BodyTooLarge));
            assert_eq!(outcome_of(&status), Some(Outcome::NotRecorded));
            // At most the beginning of a header follows: not enough to be taken for a message.
            assert!(
                let_through.starts_with(&good) && let_through.len() < good.len() + HEADER_BYTES,
                "chunks of {chunk}"
            );
        }
    }
}
