//! The store's wire without a client's care: one request to one node, once. Whoever uses it judges the answer for himself.

use std::time::Duration;

use palisade_wire::coord::v1::Header;
use palisade_wire::coord::v1::error_detail::{Kind, Outcome};
use palisade_wire::coord::v1::kv_service_client::KvServiceClient;
use palisade_wire::status;
use palisade_world::{World, grpc};
use tonic::transport::Channel;
use tonic::{Response, Status};

use super::Process;

/// The longest that one request may take.
const ATTEMPT: Duration = Duration::from_millis(700);

pub(super) struct Wire {
    world: World,
    nodes: Vec<(String, Channel)>,
    /// The node that led last.
    leader: usize,
}

/// What is known of a request that was not answered as it wished.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Known {
    /// The state machine refused it, and every other copy with it.
    Refused,
    /// This copy was not applied; it says nothing about another.
    NotApplied,
    /// The answer is no longer remembered.
    Forgotten,
    Unknown,
}

/// That, with what else was said.
#[derive(Clone, Debug)]
pub(super) struct Unanswered {
    pub(super) known: Known,
    /// If somebody said why.
    pub(super) kind: Kind,
    /// Of the state that refused it.
    pub(super) header: Option<Header>,
    hint: Option<String>,
}

impl Wire {
    pub(super) fn new(process: &Process) -> Wire {
        Wire::to(process, process.nodes())
    }

    /// To these nodes.
    pub(super) fn to(process: &Process, addresses: Vec<String>) -> Wire {
        let world = process.world.clone();
        let channel = |address: String| {
            let channel = grpc::channel(&world, &address).expect("the simulated addresses are well formed");
            (address, channel)
        };
        let nodes = addresses.into_iter().map(channel).collect();
        Wire { nodes, leader: 0, world }
    }

    /// The node that led last, as far as this one knows.
    pub(super) fn leader(&self) -> usize {
        self.leader
    }

    /// Whichever node.
    pub(super) fn any(&self) -> usize {
        (self.world.random_u64() % self.nodes.len() as u64) as usize
    }

    /// Often the one that led last.
    pub(super) fn leader_or_any(&self) -> usize {
        if self.world.random_u64().is_multiple_of(2) { self.leader } else { self.any() }
    }

    /// A node's connection.
    pub(super) fn channel(&self, node: usize) -> Channel {
        self.nodes[node].1.clone()
    }

    /// A node's keys.
    pub(super) fn kv(&self, node: usize) -> KvServiceClient<Channel> {
        KvServiceClient::new(self.channel(node))
    }

    /// Waits for the answer, not for ever.
    pub(super) async fn ask<T>(
        &self,
        answer: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Unanswered> {
        match self.world.timeout(ATTEMPT, answer).await {
            Some(Ok(reply)) => Ok(reply.into_inner()),
            Some(Err(refused)) => Err(Unanswered::of(&refused)),
            None => Err(Unanswered { known: Known::Unknown, kind: Kind::Unspecified, header: None, hint: None }),
        }
    }

    /// Asks somebody else next time.
    pub(super) fn learn_silent(&mut self) {
        self.leader = self.any();
    }

    /// Asks the node that answered again next time, or the one that it hints at.
    pub(super) fn learn(&mut self, node: usize, answer: Result<(), &Unanswered>) {
        self.leader = match answer {
            Ok(()) | Err(Unanswered { known: Known::Refused | Known::Forgotten, .. }) => node,
            Err(Unanswered { hint, .. }) => {
                let hinted = hint.as_ref().and_then(|hint| self.nodes.iter().position(|(address, _)| address == hint));
                hinted.unwrap_or_else(|| self.any())
            }
        };
    }
}

impl Unanswered {
    fn of(refused: &Status) -> Unanswered {
        let Some(detail) = status::detail(refused) else {
            return Unanswered { known: Known::Unknown, kind: Kind::Unspecified, header: None, hint: None };
        };
        let known = match (detail.outcome(), detail.kind()) {
            (_, Kind::Forgotten) => Known::Forgotten,
            (Outcome::NotApplied, _) if detail.header.is_some() => Known::Refused,
            (Outcome::NotApplied, _) => Known::NotApplied,
            (Outcome::Unknown | Outcome::Unspecified, _) => Known::Unknown,
        };
        let (kind, header) = (detail.kind(), detail.header);
        Unanswered { known, kind, header, hint: detail.store_leader.map(|leader| leader.address) }
    }
}
