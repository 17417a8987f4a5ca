//! The answer of the store leader on its way back to the caller, as it is: bytes, metadata and status. It holds nothing back,
//! so a caller that does not read slows the store leader's stream down and nothing else.
//!
//! Keeps true: an answer that breaks off ends with a typed status, never in silence and never as if it were whole.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;

use super::Seat;

/// What is known about the end of an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ended {
    No,
    /// Its status has been passed on.
    Yes,
}

/// A body that is passed on.
pub(super) struct Passed {
    from: Body,
    ended: Ended,
    /// What to say if it breaks off; taken when it was said.
    broken: Option<Status>,
    /// The place of the call on its connection.
    _seat: Seat,
}

impl Passed {
    /// Passes an answer on. `broken`: what to say if it breaks off.
    pub(super) fn on(answer: http::Response<Body>, broken: Status, seat: Seat) -> http::Response<Body> {
        // A refusal may come as metadata alone.
        let ended = if answer.headers().contains_key(Status::GRPC_STATUS) { Ended::Yes } else { Ended::No };
        answer.map(|from| Body::new(Passed { from, ended, broken: Some(broken), _seat: seat }))
    }
}

impl http_body::Body for Passed {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = match Pin::new(&mut self.from).poll_frame(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(frame) => frame,
        };
        if self.ended == Ended::Yes {
            return Poll::Ready(frame.filter(Result::is_ok));
        }
        match frame {
            Some(Ok(frame)) => {
                if frame.is_trailers() {
                    self.ended = Ended::Yes;
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(_)) | None => {
                self.ended = Ended::Yes;
                let broken = self.broken.take().expect("an answer breaks off once");
                Poll::Ready(Some(Ok(Frame::trailers(broken.into_http::<()>().into_parts().0.headers))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended == Ended::Yes && self.from.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
