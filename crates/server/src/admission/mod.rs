//! What a node takes on at once: requests, streams, and bytes of requests and answers that are not whole or not taken yet.
//! What is too much is refused before it is decoded, with words; the client comes back later.
//!
//! It knows paths, not messages. Commands that wait for the log are bounded by the proposer, sessions by their driver,
//! observers by the hub, connections in `connections`.
//!
//! Keeps true: calls of other nodes are never refused here, nor are session streams: whatever clients do, Raft goes on and
//! keep-alives pass. A request that is refused here has reached nobody.
//!
//! Reading order: here (the limits, and which apply to what), `account` (bytes that are held), `framing` (where a message
//! ends), `bodies` (where bytes are counted).

mod account;
mod bodies;
mod framing;

use std::sync::Arc;
use std::task::{Context, Poll};

use palisade_wire::coord::v1::ErrorDetail;
use palisade_wire::coord::v1::error_detail::Kind;
use palisade_wire::status::{self, not_applied};
use palisade_world::Lifeline;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tonic::codegen::{BoxFuture, Service};

use self::account::{Account, Held};
use self::bodies::{Incoming, Outgoing};
use crate::metrics::NodeMetrics;

/// Requests in flight. Each costs a task and some kilobytes; more would only wait behind each other.
const REQUESTS: usize = 16_384;

/// Keep-alives, campaigns and ends of sessions without frames, in flight. They wait for the session driver, not for requests, so
/// they have places of their own; a client that floods with them takes none from streams, whose calls the driver counts.
const SESSION_CALLS: usize = 16_384;

/// Streams that last: observers (which the hub bounds), watches, data streams.
const STREAMS: usize = 24_576;

/// Streams of one connection at once, single requests included: room for a process with a thousand observers, and none for
/// one that asks for everything at once. HTTP/2 makes the client wait for the next.
pub(crate) const STREAMS_OF_CONNECTION: u32 = 4_096;

/// Headers of one request: ours are some hundred bytes.
pub(crate) const HEADER_BYTES: u32 = 16 << 10;

/// One HTTP/2 frame of data: its default. Larger ones would let one stream hold up the others of its connection.
pub(crate) const FRAME_BYTES: u32 = 16 << 10;

/// Bytes of requests that are not whole, and of answers that were not taken: in all, and of one connection. Together with
/// what waits for the log they are a node's memory for requests.
const HELD_BYTES: usize = 256 << 20;
const HELD_BYTES_OF_CONNECTION: usize = 32 << 20;

/// The same for session streams, which have an account of their own, so that no bulk of requests can break them. A process has
/// one, and its largest frame is 256 KiB; a node that relays has those of its clients.
const SESSION_BYTES: usize = 256 << 20;
const SESSION_BYTES_OF_CONNECTION: usize = 32 << 20;

/// What a call is, by its path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Class {
    /// Another node: nothing is counted.
    Peer,
    /// A session's stream: counted by the session driver.
    Session,
    /// The same liveness without frames, a call at a time.
    SessionCall,
    /// A stream that lasts.
    Stream,
    /// One answer.
    Request,
}

fn class(path: &str) -> Class {
    match path {
        path if path.starts_with("/palisade.replica.") => Class::Peer,
        // It may be long, and keeps nobody alive.
        "/palisade.coord.v1.SessionService/List" => Class::Request,
        "/palisade.coord.v1.SessionService/Stream" | "/palisade.coord.v1.SessionService/Attach" => Class::Session,
        path if path.starts_with("/palisade.coord.v1.SessionService/") => Class::SessionCall,
        "/palisade.coord.v1.KvService/Pipeline"
        | "/palisade.coord.v1.WatchService/Watch"
        | "/palisade.coord.v1.ElectionService/Observe"
        | "/palisade.coord.v1.ClusterService/Snapshot"
        | "/grpc.health.v1.Health/Watch" => Class::Stream,
        _ => Class::Request,
    }
}

/// The admission of one node: a layer around its services.
#[derive(Clone, Debug)]
pub(crate) struct Admission(Arc<Limits>, Arc<NodeMetrics>);

#[derive(Debug)]
struct Limits {
    requests: Arc<Semaphore>,
    session_calls: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    data: Arc<Account>,
    sessions: Arc<Account>,
}

impl Admission {
    pub(crate) fn new(metrics: Arc<NodeMetrics>) -> Admission {
        let limits = Limits {
            requests: Arc::new(Semaphore::new(REQUESTS)),
            session_calls: Arc::new(Semaphore::new(SESSION_CALLS)),
            streams: Arc::new(Semaphore::new(STREAMS)),
            data: Account::new(HELD_BYTES, HELD_BYTES_OF_CONNECTION),
            sessions: Account::new(SESSION_BYTES, SESSION_BYTES_OF_CONNECTION),
        };
        Admission(Arc::new(limits), metrics)
    }

    /// By kind of call: how many places are taken, and of how many.
    pub(crate) fn used(&self) -> [(&'static str, usize, usize); 3] {
        let used = |places: &Semaphore, most: usize| most.saturating_sub(places.available_permits());
        [
            ("requests", used(&self.0.requests, REQUESTS), REQUESTS),
            ("session_calls", used(&self.0.session_calls, SESSION_CALLS), SESSION_CALLS),
            ("streams", used(&self.0.streams, STREAMS), STREAMS),
        ]
    }

    /// A place for a call, or why there is none. `None`: it needs none.
    fn place(&self, class: Class) -> Result<Option<OwnedSemaphorePermit>, ErrorDetail> {
        let (places, what, limit) = match class {
            Class::Peer | Class::Session => return Ok(None),
            Class::SessionCall => (&self.0.session_calls, "session calls", SESSION_CALLS),
            Class::Stream => (&self.0.streams, "streams", STREAMS),
            Class::Request => (&self.0.requests, "requests", REQUESTS),
        };
        Arc::clone(places).try_acquire_owned().map(Some).map_err(|_| ErrorDetail {
            field: what.to_owned(),
            limit: format!("at most {limit} of a node at once"),
            ..not_applied(Kind::Overloaded, "repeat it a little later")
        })
    }

    fn held(&self, class: Class, line: Option<&Lifeline>) -> Option<Held> {
        let account = match class {
            Class::Peer => return None,
            Class::Session | Class::SessionCall => &self.0.sessions,
            Class::Stream | Class::Request => &self.0.data,
        };
        Some(account.open(line.map(|line| Arc::clone(line.held()))))
    }
}

impl<S> tower::Layer<S> for Admission {
    type Service = Admitted<S>;

    fn layer(&self, inner: S) -> Admitted<S> {
        Admitted { inner, admission: self.clone() }
    }
}

/// Services behind an admission.
#[derive(Clone, Debug)]
pub(crate) struct Admitted<S> {
    inner: S,
    admission: Admission,
}

impl<S> Service<Request<Body>> for Admitted<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<Response<Body>, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let class = class(request.uri().path());
        let place = match self.admission.place(class) {
            Ok(place) => place,
            Err(refusal) => {
                self.admission.1.refused(&refusal);
                return Box::pin(std::future::ready(Ok(status::refuse(refusal).into_http())));
            }
        };
        let line = request.extensions().get::<Lifeline>().cloned();
        let Some(held) = self.admission.held(class, line.as_ref()) else {
            return Box::pin(self.inner.call(request));
        };
        let answer = self.inner.call(request.map(|body| Body::new(Incoming::new(body, held))));
        // A stream is not looked into: what it may leave unread, its own service bounds.
        let unread = if class == Class::Request { self.admission.held(class, line.as_ref()) } else { None };
        let metrics = Arc::clone(&self.admission.1);
        Box::pin(async move {
            let answer = answer.await?;
            metrics.answered(answer.headers());
            Ok(answer.map(|body| Body::new(Outgoing::new(body, place, unread))))
        })
    }
}

#[cfg(test)]
mod tests {
    use palisade_wire::coord::v1::error_detail::Outcome;

    use super::*;

    #[test]
    fn a_place_that_is_given_back_is_given_again_and_one_too_many_is_refused_with_words() {
        let admission = Admission::new(NodeMetrics::new());
        let mut places: Vec<_> =
            (0..REQUESTS).map(|_| admission.place(Class::Request).expect("there is room")).collect();
        let refused = admission.place(Class::Request).expect_err("there is none");
        assert_eq!((refused.kind(), refused.outcome()), (Kind::Overloaded, Outcome::NotApplied));
        assert_eq!((refused.field.as_str(), refused.limit.as_str()), ("requests", "at most 16384 of a node at once"));
        assert!(admission.place(Class::Stream).is_ok(), "streams have places of their own");
        places.pop();
        assert!(admission.place(Class::Request).is_ok());
    }

    #[test]
    fn other_nodes_and_keep_alives_need_no_place() {
        let admission = Admission::new(NodeMetrics::new());
        let all: Vec<_> = (0..REQUESTS).map(|_| admission.place(Class::Request)).collect();
        assert_eq!(all.len(), REQUESTS);
        for path in ["/palisade.replica.v1.ReplicaService/Append", "/palisade.coord.v1.SessionService/Stream"] {
            assert!(admission.place(class(path)).expect("it passes").is_none(), "{path}");
        }
        assert!(
            admission.place(class("/palisade.coord.v1.SessionService/KeepAlive")).is_ok(),
            "requests take no place of it"
        );
        assert_eq!(class("/palisade.coord.v1.KvService/Put"), Class::Request);
        assert_eq!(class("/palisade.coord.v1.KvService/Pipeline"), Class::Stream);
    }

    #[test]
    fn session_calls_without_frames_are_bounded_and_streams_are_not_held_up_by_them() {
        let admission = Admission::new(NodeMetrics::new());
        let call = class("/palisade.coord.v1.SessionService/KeepAlive");
        let all: Vec<_> = (0..SESSION_CALLS).map(|_| admission.place(call).expect("there is room")).collect();
        let refused = admission.place(call).expect_err("there is none");
        assert_eq!((refused.kind(), refused.outcome()), (Kind::Overloaded, Outcome::NotApplied));
        assert_eq!(refused.field, "session calls");
        assert!(admission.place(class("/palisade.coord.v1.SessionService/Stream")).expect("it passes").is_none());
        drop(all);
        assert!(admission.place(call).is_ok());
    }

    #[test]
    fn every_streaming_call_of_the_store_has_a_class_of_its_own() {
        use prost::Message;
        let set = prost_types::FileDescriptorSet::decode(palisade_wire::FILE_DESCRIPTOR_SET).expect("ours");
        let mut streaming = 0;
        for file in &set.file {
            for service in &file.service {
                for method in service.method.iter().filter(|it| it.server_streaming() || it.client_streaming()) {
                    let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                    assert_ne!(class(&path), Class::Request, "{path} lasts: it must not take the place of a request");
                    streaming += 1;
                }
            }
        }
        assert!(streaming >= 3, "the walk found nothing to check");
    }
}
