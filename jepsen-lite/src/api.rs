//! A small client of the store's public API, of the harness's own: one attempt per operation, no retries, and an honest outcome.
//!
//! What it keeps true: only the store's typed detail makes a `Fail`; whatever else went wrong is unknown.

mod keys;
mod outcome;
mod votes;
mod workers;

use std::time::Duration;

use tonic::transport::{Channel, Endpoint};

pub(crate) use self::keys::{Op, TxnOutcome};
pub(crate) use self::outcome::{Outcome, kind};
pub(crate) use self::workers::{Called, Worker};

/// Generated from the public .proto files.
#[allow(missing_docs, clippy::large_enum_variant, clippy::doc_markdown, unreachable_pub, dead_code)]
pub(crate) mod v1 {
    tonic::include_proto!("palisade.coord.v1");
}

/// The gateways of JobManager and TaskExecutor, as plain gRPC.
#[allow(missing_docs, clippy::large_enum_variant, clippy::doc_markdown, unreachable_pub, dead_code)]
pub(crate) mod runtime {
    tonic::include_proto!("palisade.runtime.v1");
}

/// One attempt's bound.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(2);
/// A stream has no end of its own.
const STREAM: Duration = Duration::from_secs(24 * 3600);

/// Where a node is reached: its name, and the address for the harness.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Place {
    pub(crate) name: String,
    pub(crate) address: String,
}

pub(crate) fn channel(address: &str) -> anyhow::Result<Channel> {
    Ok(Endpoint::from_shared(format!("http://{address}"))?
        .connect_timeout(Duration::from_millis(300))
        .tcp_nodelay(true)
        .connect_lazy())
}

/// Channels to all nodes; asks one at a time, and the next one after a failure. Nodes forward what they cannot answer.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    nodes: Vec<(String, Channel)>,
    current: usize,
    patience: Duration,
}

impl Api {
    /// Begins with the node at `first`, counted around.
    pub(crate) fn new(places: &[Place], first: usize) -> anyhow::Result<Api> {
        anyhow::ensure!(!places.is_empty(), "there is no node to ask");
        let nodes = places.iter().map(|place| Ok((place.name.clone(), channel(&place.address)?)));
        Ok(Api { nodes: nodes.collect::<anyhow::Result<_>>()?, current: first % places.len(), patience: TIMEOUT })
    }

    /// Waits so long for an answer.
    pub(crate) fn patient(self, patience: Duration) -> Api {
        Api { patience, ..self }
    }

    /// Who is asked next.
    pub(crate) fn node(&self) -> &str {
        &self.nodes[self.current].0
    }

    pub(crate) fn channel(&self) -> Channel {
        self.nodes[self.current].1.clone()
    }

    /// Asks the next node from now on.
    pub(crate) fn turn(&mut self) {
        self.current = (self.current + 1) % self.nodes.len();
    }

    fn request<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        request.set_timeout(self.patience);
        request
    }

    fn stream<T>(message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        request.set_timeout(STREAM);
        request
    }

    /// Waits for an answer, no longer than the bound: a server that does not keep the deadline must not hold a client up.
    async fn answered<T>(
        &mut self,
        call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    ) -> Outcome<T> {
        let answer = tokio::time::timeout(self.patience + Duration::from_millis(500), call).await;
        let outcome = match answer {
            Ok(answer) => Outcome::of(answer.map(tonic::Response::into_inner)),
            Err(_) => Outcome::Info("no answer within the bound".to_owned()),
        };
        if !matches!(outcome, Outcome::Ok(_)) {
            self.turn();
        }
        outcome
    }
}
