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

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    use palisade_wire::coord::v1::error_detail::Outcome;

    use super::super::account::Account;
    use super::*;

    /// A body that comes in parts.
    struct Parts(VecDeque<Bytes>);

    impl Parts {
        /// One message of this many bytes, in parts of 16 KiB, as HTTP/2 has them; `whole` of them come.
        fn message(len: usize, whole: usize) -> Body {
            let mut bytes = vec![0];
            bytes.extend(u32::try_from(len).unwrap().to_be_bytes());
            bytes.resize(5 + whole, 7);
            Body::new(Parts(bytes.chunks(16 << 10).map(Bytes::copy_from_slice).collect()))
        }
    }

    impl HttpBody for Parts {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            Poll::Ready(self.0.pop_front().map(|part| Ok(Frame::data(part))))
        }
    }

    async fn next(
        body: &mut (impl HttpBody<Data = Bytes, Error = Status> + Unpin),
    ) -> Option<Result<Frame<Bytes>, Status>> {
        std::future::poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await
    }

    #[tokio::test]
    async fn requests_that_are_never_whole_are_refused_beyond_the_limit_of_their_connection() {
        let account = Account::new(10 << 20, 1 << 20);
        let line = Arc::new(AtomicUsize::new(0));
        let open = || Incoming::new(Parts::message(4 << 20, 700 << 10), account.open(Some(Arc::clone(&line))));
        let (mut first, mut second) = (open(), open());
        while let Some(frame) = next(&mut first).await {
            frame.expect("one fits");
        }
        let refused = loop {
            match next(&mut second).await.expect("two do not") {
                Ok(_) => {}
                Err(refused) => break status::detail(&refused).expect("it is typed"),
            }
        };
        assert_eq!((refused.kind(), refused.outcome()), (Kind::Overloaded, Outcome::NotApplied));
        assert_eq!(refused.limit, "at most 1048576 bytes of a connection at once");
        drop(first);
        let mut third = open();
        while let Some(frame) = next(&mut third).await {
            frame.expect("what went gave its room back");
        }
    }

    #[tokio::test]
    async fn whole_messages_hold_nothing_however_many_there_are() {
        let account = Account::new(64 << 10, 64 << 10);
        for _ in 0..100 {
            let mut body = Incoming::new(Parts::message(32 << 10, 32 << 10), account.open(None));
            while let Some(frame) = next(&mut body).await {
                frame.expect("it fits");
            }
        }
    }

    #[tokio::test]
    async fn an_answer_that_there_is_no_room_for_ends_as_unknown_and_gives_its_place_back() {
        let account = Account::new(100 << 10, 100 << 10);
        let places = Arc::new(tokio::sync::Semaphore::new(1));
        let place = Arc::clone(&places).try_acquire_owned().ok();
        let mut body = Outgoing::new(Parts::message(1 << 20, 1 << 20), place, Some(account.open(None)));
        let trailers = loop {
            let frame = next(&mut body).await.expect("it does not just end").expect("it is no error of transport");
            if let Ok(trailers) = frame.into_trailers() {
                break trailers;
            }
        };
        let refused = Status::from_header_map(&trailers).expect("it carries a status");
        let refused = status::detail(&refused).expect("it is typed");
        assert_eq!((refused.kind(), refused.outcome()), (Kind::Overloaded, Outcome::Unknown));
        assert!(next(&mut body).await.is_none() && body.is_end_stream());
        assert_eq!(places.available_permits(), 0);
        drop(body);
        assert_eq!(places.available_permits(), 1);
    }
}
