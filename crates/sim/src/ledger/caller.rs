//! A leader's line to one ledger: it calls through the real gateway and as plain gRPC, and deliberately goes on for longer than
//! it leads, until the ledger refuses it as stale.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use palisade_fence::{ClusterId, Fence, LeaderSource};
use palisade_rpc::{Outcome, RpcAddress, RpcError, RpcService, RpcServiceConfig, Stamp};
use palisade_world::grpc;
use tonic::transport::Channel;

use super::proto::{LedgerGateway, ReadRequest};
use super::{Answered, ENDPOINT, Form, Message, Method, Reply, Tape, plain};
use crate::facts::{LedgerFact, Sender};
use crate::hosts::{Process, address};
use crate::plan::Who;

/// Between two bursts, and as much again at random.
const PAUSE: Duration = Duration::from_millis(40);

/// So many messages at most are sent at once.
const BURST: u64 = 5;

/// Longer than most faults: what a link held back is still answered.
const LIMIT: Duration = Duration::from_secs(4);

/// So many acknowledged positions are remembered, to be read.
const REMEMBERED: usize = 16;

/// One leader's line to one ledger.
pub(crate) struct Caller {
    pub(crate) process: Process,
    pub(crate) ledger: Who,
    pub(crate) fence: Fence,
    pub(crate) tape: Tape,
}

/// The two ways to the ledger.
struct Line {
    gateway: LedgerGateway,
    plain: Channel,
}

impl Caller {
    /// Calls until the ledger says that a later leader is known.
    pub(crate) async fn run(self, election: Arc<impl LeaderSource>) {
        let cluster = self.cluster(election).await;
        // A service of its own: what another ledger, or a later leadership of this process, knows stops nothing here.
        let service = RpcService::start(RpcServiceConfig::local(), self.process.world.clone()).await;
        let service = service.expect("a service that does not listen starts");
        let line = self.connect(&service, cluster).await;
        let (mut number, mut acknowledged) = (0, Vec::new());
        loop {
            let burst = (0..=self.random(BURST)).map(|_| {
                number += 1;
                let (method, form) = self.draw(&acknowledged);
                let message = Message { ledger: self.ledger.number, token: self.fence.token, number, method };
                self.send(&line, message, form)
            });
            let replies = join_all(burst.collect::<Vec<_>>()).await;
            let refused = self.refused_tells(&line);
            acknowledged.extend(replies.iter().filter_map(|reply| match reply {
                Some(Reply::Answered(Answered::At(position))) => Some(*position),
                _ => None,
            }));
            acknowledged.drain(..acknowledged.len().saturating_sub(REMEMBERED));
            if replies.into_iter().flatten().chain(refused).any(|reply| reply == Reply::Stale) {
                return;
            }
            self.process.world.sleep(PAUSE + self.process.world.jitter(PAUSE)).await;
        }
    }

    async fn cluster(&self, election: Arc<impl LeaderSource>) -> ClusterId {
        loop {
            if let Ok(view) = election.read().await {
                return view.cluster;
            }
            self.process.world.sleep(PAUSE).await;
        }
    }

    async fn connect(&self, service: &RpcService, cluster: ClusterId) -> Line {
        let node = address(self.ledger);
        let plain = grpc::channel(&self.process.world, &node).expect("the simulated addresses are well formed");
        let to = RpcAddress::new(node, ENDPOINT).expect("the simulated addresses are well formed");
        let stamp = Stamp::fixed(cluster, self.fence.election.clone(), self.fence.token);
        loop {
            match service.connect::<LedgerGateway>(&to, stamp.clone()).await {
                Ok(gateway) => return Line { gateway: gateway.within(LIMIT), plain },
                Err(error) => tracing::debug!(who = %self.process.who, %error, "connecting again"),
            }
            self.process.world.sleep(PAUSE).await;
        }
    }

    fn random(&self, below: u64) -> u64 {
        self.process.world.random_u64() % below
    }

    fn draw(&self, acknowledged: &[u64]) -> (Method, Form) {
        let form = if self.process.one_in(3) { Form::Plain } else { Form::Stream };
        let method = match self.random(6) {
            0 | 1 => Method::Append,
            2 => Method::Note,
            3 | 4 => Method::AppendLater,
            _ => match acknowledged {
                [] => Method::Append,
                some => Method::Read(some[self.random(some.len() as u64) as usize]),
            },
        };
        (method, form)
    }

    /// Sends a message and waits for its answer; `None`: a tell that is on its way.
    async fn send(&self, line: &Line, message: Message, form: Form) -> Option<Reply> {
        let (world, by) = (&self.process.world, Sender::Leader);
        self.tape.record(message);
        self.saw(LedgerFact::Sent { message, by });
        let began = world.now();
        let reply = match form {
            Form::Plain => Some(plain::send(world, &line.plain, &self.fence, message, LIMIT).await),
            Form::Stream => through(&line.gateway, message).await,
        };
        if let Some(reply) = reply {
            self.saw(LedgerFact::Replied { message, reply, form, by, after: world.now() - began });
        }
        reply
    }

    /// Reports the refusals of tells that have come back.
    fn refused_tells(&self, line: &Line) -> Vec<Reply> {
        let refusals = std::iter::from_fn(|| line.gateway.refusals().take());
        refusals
            .map(|refusal| {
                let (ledger, token, reply) = (self.ledger.number, self.fence.token, reply_of(&refusal.error));
                self.saw(LedgerFact::TellRefused { ledger, token, reply });
                reply
            })
            .collect()
    }

    fn saw(&self, fact: LedgerFact) {
        self.process.witness.saw(self.process.who, fact.into());
    }
}

/// Sends a message through the generated gateway.
async fn through(gateway: &LedgerGateway, message: Message) -> Option<Reply> {
    let entry = message.entry();
    let answered = match message.method {
        Method::Append => gateway.append(entry).await.map(|at| Some(Answered::At(at.position))),
        Method::AppendLater => gateway.append_later(entry).await.map(|at| Some(Answered::At(at.position))),
        Method::Read(position) => {
            let request = ReadRequest { message: Some(entry), position };
            gateway.read(request).await.map(|found| Answered::found(position, found))
        }
        Method::Note => return gateway.note(entry).err().map(|error| reply_of(&error)),
    };
    Some(match answered {
        Ok(answered) => answered.map_or(Reply::Unknown, Reply::Answered),
        Err(error) => reply_of(&error),
    })
}

fn reply_of(error: &RpcError) -> Reply {
    match error {
        RpcError::Stale { .. } => Reply::Stale,
        RpcError::Superseded { .. } => Reply::Superseded,
        other if other.outcome() == Outcome::NotHandled => Reply::NotHandled,
        _ => Reply::Unknown,
    }
}
