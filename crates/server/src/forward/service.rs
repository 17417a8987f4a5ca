//! A service whose calls are answered by the store leader when this node is not it. It passes bytes on: what a client sees is what
//! the store leader said, its typed refusals included. Only of reads it looks whether any node may serve them.

use std::convert::Infallible;
use std::error::Error;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderName, HeaderValue, Request, Response};
use http_body::{Body as _, Frame};
use palisade_wire::coord::v1::error_detail::Kind;
use palisade_wire::coord::v1::{ErrorDetail, StoreLeader};
use palisade_wire::limits::MESSAGE_BYTES;
use palisade_wire::metadata;
use palisade_wire::status::{not_applied, refuse};
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service};
use tonic::server::NamedService;

use super::methods::{Method, is_serializable, method};
use super::passed::Passed;
use super::{Forwarder, NoSeat, Purpose, Route, asked, broken, unreachable};

/// The longest that an answer may take to begin: longer than the store leader itself lets a request wait. A stream begins at
/// once.
const BEGIN: Duration = Duration::from_secs(12);

/// Wraps the service of this node.
#[derive(Clone)]
pub(crate) struct Forwarding<S> {
    here: S,
    forwarder: Forwarder,
}

impl<S> Forwarding<S> {
    pub(crate) fn new(here: S, forwarder: &Forwarder) -> Forwarding<S> {
        Forwarding { here, forwarder: forwarder.clone() }
    }
}

impl<S: NamedService> NamedService for Forwarding<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for Forwarding<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Response<Body>, Infallible>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.here.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let method = method(request.uri().path());
        let route = match method {
            Method::Own => Route::Here,
            Method::Effect | Method::Effects | Method::Read | Method::Listen => {
                self.forwarder.route(asked(request.headers()))
            }
        };
        match route {
            Route::Here => Box::pin(self.here.call(request)),
            Route::There(leader) => {
                let (forwarder, mut here) = (self.forwarder.clone(), self.here.clone());
                Box::pin(async move {
                    let request = match method {
                        Method::Read => match read(request).await {
                            Wants::TheNewest(request) => request,
                            Wants::WhatThisNodeHas(request) => {
                                poll_fn(|cx| here.poll_ready(cx)).await?;
                                return here.call(request).await;
                            }
                        },
                        Method::Effect | Method::Effects | Method::Listen | Method::Own => request,
                    };
                    Ok(forward(&forwarder, &leader, method, request).await)
                })
            }
        }
    }
}

/// Who can serve a read.
enum Wants {
    /// The store leader.
    TheNewest(Request<Body>),
    /// Any node.
    WhatThisNodeHas(Request<Body>),
}

/// Looks into a request that only reads: those are small, and this is the one question that a node asks of them.
async fn read(request: Request<Body>) -> Wants {
    let (head, mut body) = request.into_parts();
    let mut framed = BytesMut::new();
    let whole = loop {
        match poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) if framed.len() + data.len() <= MESSAGE_BYTES => framed.extend_from_slice(&data),
                Ok(_) => break false,
                Err(_) => {} // trailers: gRPC has none on requests
            },
            Some(Err(_)) => break false,
            None => break true,
        }
    };
    let serializable = whole && is_serializable(head.uri.path(), &framed);
    // What broke off or is too large is refused by whoever reads it: it is no whole message.
    let request = Request::from_parts(head, Body::new(Whole(Some(framed.freeze()))));
    if serializable { Wants::WhatThisNodeHas(request) } else { Wants::TheNewest(request) }
}

/// A body that has come.
struct Whole(Option<Bytes>);

impl http_body::Body for Whole {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }
}

async fn forward(
    forwarder: &Forwarder,
    leader: &StoreLeader,
    method: Method,
    request: Request<Body>,
) -> Response<Body> {
    let purpose = match method {
        Method::Effect | Method::Read | Method::Own => Purpose::Calls,
        Method::Effects | Method::Listen => Purpose::Streams,
    };
    let mut seat = match forwarder.seat(leader, purpose) {
        Ok(seat) => seat,
        Err(why) => return refuse(no_seat(leader, &why)).into_http(),
    };
    let lost = refuse(lost(leader, method));
    let asked = async {
        poll_fn(|cx| seat.channel.poll_ready(cx)).await.map_err(|_| Unsent)?;
        Ok(seat.channel.call(marked(request, forwarder.node_id)).await)
    };
    match forwarder.world.timeout(BEGIN, asked).await {
        Some(Ok(Ok(mut answer))) => {
            if purpose == Purpose::Streams {
                name_leader(&mut answer, leader);
            }
            Passed::on(answer, lost, seat)
        }
        Some(Err(Unsent)) => refuse(unreachable(leader)).into_http(),
        Some(Ok(Err(error))) if never_connected(&error) => refuse(unreachable(leader)).into_http(),
        Some(Ok(Err(error))) => {
            tracing::debug!(%error, "a forwarded call has no answer");
            lost.into_http()
        }
        None => lost.into_http(),
    }
}

/// The connection took nothing.
struct Unsent;

/// Says of a lasting stream whose it is, so that its client can go there.
fn name_leader(answer: &mut Response<Body>, leader: &StoreLeader) {
    if let Ok(address) = HeaderValue::try_from(leader.address.as_str()) {
        answer.headers_mut().insert(HeaderName::from_static(metadata::STORE_LEADER), address);
    }
}

/// The same request, marked as another node's. Its deadline and its own metadata stay on it.
fn marked(request: Request<Body>, node_id: u64) -> Request<Body> {
    let (mut head, body) = request.into_parts();
    head.headers.insert(HeaderName::from_static(metadata::FORWARDED), HeaderValue::from(node_id));
    // They belong to the connection that it came by.
    head.extensions = http::Extensions::default();
    Request::from_parts(head, body)
}

/// What is known when the connection breaks after sending.
fn lost(leader: &StoreLeader, method: Method) -> ErrorDetail {
    match method {
        Method::Effect | Method::Effects | Method::Own => broken(leader),
        Method::Read | Method::Listen => unreachable(leader),
    }
}

/// Nothing was sent.
pub(crate) fn no_seat(leader: &StoreLeader, why: &NoSeat) -> ErrorDetail {
    match why {
        NoSeat::Full(bound) => ErrorDetail {
            store_leader: Some(leader.clone()),
            limit: format!("{bound} forwarded calls of one node at once"),
            ..not_applied(Kind::Overloaded, "repeat it a little later, or ask the store leader")
        },
        NoSeat::BadAddress(bad) => ErrorDetail { value: bad.value.clone(), ..unreachable(leader) },
    }
}

/// Whether the request cannot have left this node: its connection did not come about.
fn never_connected(error: &(dyn Error + 'static)) -> bool {
    let mut source = Some(error);
    while let Some(error) = source {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}
