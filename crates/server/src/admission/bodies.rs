//! Bodies of requests and answers whose bytes are counted as they pass. Nothing is buffered here.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use palisade_wire::coord::v1::ErrorDetail;
use palisade_wire::coord::v1::error_detail::Kind;
use palisade_wire::status::{self, not_applied, unknown};
use tokio::sync::OwnedSemaphorePermit;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::HeaderMap;

use super::account::{Held, TooMuch};
use super::framing::Framing;

/// A request: what has come of a message that is not whole is counted. Beyond the limit it ends with a refusal.
pub(super) struct Incoming {
    inner: Body,
    framing: Framing,
    held: Held,
}

impl Incoming {
    pub(super) fn new(inner: Body, held: Held) -> Incoming {
        Incoming { inner, framing: Framing::default(), held }
    }
}

impl HttpBody for Incoming {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        if let Some(data) = frame.as_ref().and_then(|frame| frame.as_ref().ok()).and_then(Frame::data_ref) {
            let incomplete = self.framing.feed(data);
            if let Err(too_much) = self.held.set(incomplete) {
                // It was not whole: nobody has seen it.
                return Poll::Ready(Some(Err(status::refuse(refusal(not_applied, "request", too_much)))));
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// An answer: what was made of it and is not taken is counted, until its client has all or is gone. It keeps the request's
/// place.
pub(super) struct Outgoing {
    inner: Body,
    /// Given back with it.
    _place: Option<OwnedSemaphorePermit>,
    held: Option<Held>,
    bytes: usize,
    ended: Ended,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ended {
    No,
    /// With a refusal in place of what was too much.
    Refused,
}

impl Outgoing {
    pub(super) fn new(inner: Body, place: Option<OwnedSemaphorePermit>, held: Option<Held>) -> Outgoing {
        Outgoing { inner, _place: place, held, bytes: 0, ended: Ended::No }
    }
}

impl HttpBody for Outgoing {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.ended == Ended::Refused {
            return Poll::Ready(None);
        }
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        let Some(data) = frame.as_ref().and_then(|frame| frame.as_ref().ok()).and_then(Frame::data_ref) else {
            return Poll::Ready(frame);
        };
        self.bytes += data.len();
        let bytes = self.bytes;
        match self.held.as_mut().map_or(Ok(()), |held| held.set(bytes)) {
            Ok(()) => Poll::Ready(frame),
            Err(too_much) => {
                self.ended = Ended::Refused;
                // Whatever it answers was done. That it was only a read, its caller knows.
                let refused = status::refuse(refusal(unknown, "answer", too_much));
                let mut trailers = HeaderMap::new();
                Poll::Ready(Some(refused.add_header(&mut trailers).map(|()| Frame::trailers(trailers))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended == Ended::Refused || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        // It may be cut short: nothing is promised.
        SizeHint::default()
    }
}

fn refusal(outcome: fn(Kind, &'static str) -> ErrorDetail, field: &str, too_much: TooMuch) -> ErrorDetail {
    let detail = outcome(Kind::Overloaded, "repeat it a little later");
    ErrorDetail { field: field.to_owned(), limit: too_much.limit(), ..detail }
}
