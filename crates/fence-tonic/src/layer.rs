//! The tower layer: reads the fence off a request's metadata, has it judged, and runs the service in a slot.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame};
use palisade_fence::metadata::Claimed;
use palisade_fence::{ClusterId, LeaderSource, Token, TokenSource};
use tonic::Status;

use crate::Election;
use crate::admission::{Admission, Leader, Seat};
use crate::refusal;
use crate::slot::{End, Polled, Slot};

/// Frames of an answer that are read in the step that made it: data, trailers and the end. So an answer that is whole is never
/// taken away; what is longer is a stream.
const WITH_THE_STEP: usize = 3;

/// Fences what it is laid around: a whole server (`Server::builder().layer(fence)`, health and reflection included) or one
/// service (`fence.layer(service)`). Clones are the same fence. See the page of the crate.
#[derive(Clone)]
pub struct FenceLayer(Arc<Admission>);

impl FenceLayer {
    /// A worker's fence: it obeys these elections, each with a guard of its own.
    pub fn worker(elections: impl IntoIterator<Item = Election>) -> FenceLayer {
        FenceLayer(Arc::new(Admission::worker(elections)))
    }

    /// A leader's fence: admits calls under the token that `tokens` has, and none while it has none. A handler that began under
    /// one leadership takes no step under another.
    pub fn leader(election: impl Into<String>, tokens: Arc<dyn TokenSource>) -> FenceLayer {
        let leader = Leader { election: election.into(), cluster: None, tokens, source: None };
        FenceLayer(Arc::new(Admission::Leader(leader)))
    }

    /// As [`FenceLayer::leader`], of one cluster; and refusals name the present leader as `source` knows it.
    pub fn leader_of(cluster: ClusterId, source: Arc<dyn LeaderSource>, tokens: Arc<dyn TokenSource>) -> FenceLayer {
        let election = source.election().to_owned();
        FenceLayer(Arc::new(Admission::Leader(Leader {
            election,
            cluster: Some(cluster),
            tokens,
            source: Some(source),
        })))
    }

    /// The highest token accepted for an election of that name; a leader's own.
    pub fn highest(&self, election: &str) -> Option<Token> {
        self.0.highest(election)
    }

    /// Raises a worker's guards with the streams of the elections that it asks, as soon as they bring something; without this
    /// they rise at the next call. Never resolves: spawn it, and abort it when the service ends.
    pub async fn follow(&self) -> Infallible {
        let mut all: Vec<_> = self.0.guards().iter().map(|guarded| Box::pin(Arc::clone(guarded).follow())).collect();
        poll_fn(|cx| {
            for guarded in &mut all {
                let _ = guarded.as_mut().poll(cx); // it never resolves
            }
            Poll::Pending
        })
        .await
    }
}

impl std::fmt::Debug for FenceLayer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match &*self.0 {
            Admission::Worker(_) => "FenceLayer(worker)",
            Admission::Leader(_) => "FenceLayer(leader)",
        })
    }
}

impl<S> tower::Layer<S> for FenceLayer {
    type Service = Fenced<S>;

    fn layer(&self, inner: S) -> Fenced<S> {
        Fenced { inner, admission: Arc::clone(&self.0) }
    }
}

/// A service behind a fence. Made by [`FenceLayer`].
#[derive(Clone)]
pub struct Fenced<S> {
    inner: S,
    admission: Arc<Admission>,
}

impl<S: tonic::server::NamedService> tonic::server::NamedService for Fenced<S> {
    const NAME: &'static str = S::NAME;
}

/// A handler at work.
type Work<R, E> = Pin<Box<dyn Future<Output = Result<Response<Begun<R>>, E>> + Send>>;

impl<S, Q, R> tower::Service<Request<Q>> for Fenced<S>
where
    S: tower::Service<Request<Q>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    Q: Send + 'static,
    R: Body<Data = Bytes> + Send + 'static,
    R::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
{
    type Response = Response<tonic::body::Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Q>) -> Self::Future {
        // The one that was asked whether it is ready is the one to call.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let admission = Arc::clone(&self.admission);
        Box::pin(async move {
            let claimed = Claimed::read(|name| request.headers().get(name).map(http::HeaderValue::as_bytes));
            let claimed = match claimed {
                Ok(claimed) => claimed,
                Err(bad) => return Ok(refusal::invalid(bad.to_string()).into_http()),
            };
            let slot = Slot::<Work<R, S::Error>>::empty();
            let seat = match admission.admit(claimed, slot.clone()).await {
                Ok(seat) => seat,
                Err(refused) => return Ok(refused.into_http()),
            };
            request.extensions_mut().insert(seat.admitted.clone());
            // Also what the service does in `call` is a step.
            slot.put(Box::pin(async move {
                let (head, body) = inner.call(request).await?.into_parts();
                Ok(Response::from_parts(head, Begun::read(body).await))
            }));
            match run(&slot, &seat).await {
                Ok(Ok(response)) => Ok(response.map(|begun| tonic::body::Body::new(Answer::new(begun, seat)))),
                Ok(Err(error)) => Err(error),
                Err(refused) => Ok(refused.into_http()),
            }
        })
    }
}

/// Step by step, until it is done or taken away.
async fn run<R, E>(slot: &Arc<Slot<Work<R, E>>>, seat: &Seat) -> Result<Result<Response<Begun<R>>, E>, Status> {
    let mut begun = false;
    poll_fn(|cx| {
        if let Err(refused) = seat.still() {
            return Poll::Ready(Err(if begun { refused } else { seat.stale() }));
        }
        let waker = cx.waker().clone();
        match slot.poll(&waker, |work| work.as_mut().poll(cx)) {
            Polled::Gave(Poll::Ready(done)) => Poll::Ready(Ok(done)),
            Polled::Gave(Poll::Pending) if slot.is_ended() => Poll::Ready(Err(seat.superseded())),
            Polled::Gave(Poll::Pending) => {
                begun = true;
                Poll::Pending
            }
            Polled::Ended => Poll::Ready(Err(if begun { seat.superseded() } else { seat.stale() })),
        }
    })
    .await
}

/// An answer's body, as far as the step that made it has read it.
struct Begun<R> {
    frames: VecDeque<Frame<Bytes>>,
    /// It broke.
    broken: Option<Status>,
    /// What is still to come.
    rest: Option<Pin<Box<R>>>,
}

impl<R> Begun<R>
where
    R: Body<Data = Bytes>,
    R::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    async fn read(body: R) -> Begun<R> {
        let mut begun = Begun { frames: VecDeque::new(), broken: None, rest: Some(Box::pin(body)) };
        poll_fn(|cx| {
            begun.read_ready(cx);
            Poll::Ready(())
        })
        .await;
        begun
    }

    fn read_ready(&mut self, cx: &mut Context<'_>) {
        for _ in 0..WITH_THE_STEP {
            let Some(rest) = &mut self.rest else { return };
            match rest.as_mut().poll_frame(cx) {
                Poll::Pending => return,
                Poll::Ready(Some(Ok(frame))) => self.frames.push_back(frame),
                Poll::Ready(Some(Err(error))) => {
                    self.broken = Some(Status::from_error(error.into()));
                    self.rest = None;
                }
                Poll::Ready(None) => self.rest = None,
            }
        }
    }
}

/// The body that is sent: what was read with the step, then the rest as long as it is not taken away.
struct Answer<R> {
    begun: VecDeque<Frame<Bytes>>,
    /// Said after that, if there is no rest.
    last: Option<Status>,
    rest: Option<(Rest<R>, Seat)>,
}

/// What is left of a body, until it is taken away.
type Rest<R> = Arc<Slot<Pin<Box<R>>>>;

impl<R> Answer<R>
where
    R: Body<Data = Bytes> + Send + 'static,
{
    fn new(begun: Begun<R>, seat: Seat) -> Answer<R> {
        let Begun { frames, broken, rest } = begun;
        let mut answer = Answer { begun: frames, last: broken, rest: None };
        if let Some(rest) = rest {
            let slot = Slot::new(rest);
            let entered: Arc<dyn End> = slot.clone();
            match seat.goes_on_as(&entered) {
                Ok(()) => answer.rest = Some((slot, seat)),
                Err(refused) => answer.last = Some(refused),
            }
        }
        answer
    }
}

impl<R> Body for Answer<R>
where
    R: Body<Data = Bytes> + Send + 'static,
    R::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Some(frame) = self.begun.pop_front() {
            return Poll::Ready(Some(Ok(frame)));
        }
        if let Some(last) = self.last.take() {
            return Poll::Ready(Some(trailers(&last)));
        }
        let Some((slot, seat)) = &self.rest else { return Poll::Ready(None) };
        let polled = match seat.still() {
            Ok(()) => {
                let waker = cx.waker().clone();
                slot.poll(&waker, |rest| rest.as_mut().poll_frame(cx))
            }
            Err(_) => Polled::Ended,
        };
        let refused = match polled {
            Polled::Gave(Poll::Ready(Some(Ok(frame)))) => return Poll::Ready(Some(Ok(frame))),
            Polled::Gave(Poll::Ready(Some(Err(error)))) => Some(Status::from_error(error.into())),
            Polled::Gave(Poll::Ready(None)) => None,
            Polled::Gave(Poll::Pending) if !slot.is_ended() => return Poll::Pending,
            Polled::Gave(Poll::Pending) | Polled::Ended => Some(seat.superseded()),
        };
        self.rest = None;
        Poll::Ready(refused.map(|status| trailers(&status)))
    }
}

/// A status as the last frame of an answer.
fn trailers(status: &Status) -> Result<Frame<Bytes>, Status> {
    let mut headers = http::HeaderMap::new();
    status.add_header(&mut headers)?;
    Ok(Frame::trailers(headers))
}
