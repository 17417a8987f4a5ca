//! The service of these tests: each call is written down when it begins and when it goes on; a call to "later" waits for a gate
//! between the two, a watch gives one item when it begins and one when the gate is open.

use std::pin::Pin;
use std::sync::{Arc, Mutex};

use futures_util::{Stream, StreamExt};
use palisade_fence::{Token, TokenSource};
use palisade_fence_tonic::{Admitted, FenceLayer, Fenced, Stamper};
use tokio::sync::watch;
use tonic::service::interceptor::InterceptedService;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tower::Layer;

/// What happens inside, seen from outside.
#[derive(Clone)]
pub(crate) struct Probe {
    pub(crate) gate: watch::Sender<bool>,
    log: Arc<Mutex<Vec<String>>>,
    noted: watch::Sender<usize>,
}

impl Probe {
    pub(crate) fn new() -> Probe {
        Probe { gate: watch::Sender::new(false), log: Arc::default(), noted: watch::Sender::new(0) }
    }

    fn note(&self, what: String) {
        let mut log = self.log.lock().unwrap();
        log.push(what);
        self.noted.send_replace(log.len());
    }

    pub(crate) fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// Waits until so much was written down.
    pub(crate) async fn has_noted(&self, lines: usize) {
        self.noted.subscribe().wait_for(|noted| *noted >= lines).await.unwrap();
    }

    /// Waits for the gate; writes down if it is dropped before.
    fn gate(&self, token: Token) -> impl Future<Output = ()> + Send + 'static {
        let (mut gate, dropped) = (self.gate.subscribe(), NoteWhenDropped(Some((self.clone(), token))));
        async move {
            let mut dropped = dropped;
            gate.wait_for(|open| *open).await.unwrap();
            dropped.0.take();
        }
    }
}

struct NoteWhenDropped(Option<(Probe, Token)>);

impl Drop for NoteWhenDropped {
    fn drop(&mut self) {
        if let Some((probe, token)) = &self.0 {
            probe.note(format!("{token} dropped"));
        }
    }
}

/// The token that the layer left in the request.
fn token<T>(request: &Request<T>) -> Token {
    request.extensions().get::<Admitted>().expect("the layer leaves it").token
}

#[tonic::async_trait]
impl Health for Probe {
    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        let token = token(&request);
        self.note(format!("{token} begins"));
        if request.get_ref().service == "later" {
            self.gate(token).await;
            self.note(format!("{token} goes on"));
        }
        Ok(Response::new(HealthCheckResponse { status: 1 }))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let token = token(&request);
        self.note(format!("{token} begins"));
        let (probe, gate) = (self.clone(), self.gate(token));
        let second = futures_util::stream::once(async move {
            gate.await;
            probe.note(format!("{token} goes on"));
            Ok(HealthCheckResponse { status: 2 })
        });
        let first = futures_util::stream::iter([Ok(HealthCheckResponse { status: 1 })]);
        Ok(Response::new(Box::pin(first.chain(second))))
    }
}

/// A token that a test sets.
pub(crate) struct Tokens(Mutex<Option<Token>>);

impl Tokens {
    pub(crate) fn at(n: u32) -> Arc<Tokens> {
        Arc::new(Tokens(Mutex::new(Some(Token::new(0, n)))))
    }

    pub(crate) fn set(&self, token: Option<u32>) {
        *self.0.lock().unwrap() = token.map(|n| Token::new(0, n));
    }
}

impl TokenSource for Tokens {
    fn token(&self) -> Option<Token> {
        *self.0.lock().unwrap()
    }
}

pub(crate) const ELECTION: &str = "billing/æ";

pub(crate) type Client = HealthClient<InterceptedService<Fenced<HealthServer<Probe>>, Stamper>>;

/// A leader's client with the n-th token.
pub(crate) fn client(fence: &FenceLayer, probe: &Probe, n: u32) -> Client {
    with(fence, probe, Stamper::new(ELECTION, Tokens::at(n)))
}

pub(crate) fn with(fence: &FenceLayer, probe: &Probe, stamper: Stamper) -> Client {
    HealthClient::with_interceptor(fence.layer(HealthServer::new(probe.clone())), stamper)
}

pub(crate) fn now() -> HealthCheckRequest {
    HealthCheckRequest::default()
}

pub(crate) fn later() -> HealthCheckRequest {
    HealthCheckRequest { service: "later".to_owned() }
}

/// A line of the log.
pub(crate) fn line(n: u32, what: &str) -> String {
    format!("{} {what}", Token::new(0, n))
}
