//! A duplicator: speaks the wire without the care of a client. It sends each write twice, to one node or to two; again long
//! after it was answered; and again when its session has ended. It reads from whatever node answers. The store alone must see
//! to it that each write takes effect once and that no read is stale.

use std::collections::VecDeque;
use std::time::Duration;

use palisade_client::{OnDisconnect, SessionOptions};
use palisade_wire::coord::v1::error_detail::{Kind, Outcome};
use palisade_wire::coord::v1::kv_service_client::KvServiceClient;
use palisade_wire::coord::v1::{DeleteRequest, GetRequest, Header, PutRequest, RequestId};
use palisade_wire::status;
use palisade_world::{World, grpc};
use tonic::Status;
use tonic::transport::Channel;

use super::writer::register;
use super::{Process, address};
use crate::facts::{Deed, Ended, Fact, Found};
use crate::plan::Role;

/// The longest that one copy may take.
const ATTEMPT: Duration = Duration::from_millis(700);

/// Requests that it may send again.
const KEPT: usize = 40;

/// Writes of one session.
const WRITES: u64 = 60;

/// Runs until the simulation ends.
pub(crate) async fn run(process: Process) -> turmoil::Result {
    let (client, world) = (process.client(), process.world.clone());
    let mut wire = Wire::new(&process);
    let mut number = 0;
    loop {
        let ttl = Duration::from_millis(600 + world.random_u64() % 900);
        let options = SessionOptions { ttl, on_disconnect: OnDisconnect::KeepUntilTtl, ..SessionOptions::default() };
        let Ok(session) = client.open_session(options).await else {
            world.sleep(Duration::from_millis(50)).await;
            continue;
        };
        let mut sent = VecDeque::new();
        for serial in 1..=WRITES {
            number += 1;
            // What it has the answers of is forgotten now and then; copies of that must be refused.
            let acked_below = if serial.is_multiple_of(8) { serial } else { serial.saturating_sub(KEPT as u64) };
            let request_id = RequestId { session: session.id(), serial, acked_below };
            let write = Write::new(&process, number, request_id);
            match wire.twice(&process, &write).await {
                Heard::Forgotten => break,
                // It was said that no copy was applied: from now on that must stay true.
                Heard::NotApplied => {}
                Heard::Applied { .. } | Heard::Refused | Heard::Unknown => sent.push_back(write),
            }
            if sent.len() > KEPT {
                sent.pop_front();
            }
            if world.random_u64().is_multiple_of(2) {
                wire.again(&process, &sent).await;
            }
            wire.read(&process, number).await;
            world.sleep(Duration::from_millis(10) + world.jitter(Duration::from_millis(80))).await;
        }
        if session.close().await.is_ok() {
            process.witness.saw(process.who, Fact::SessionClosed { session: session.id() });
        }
        for _ in 0..4 {
            wire.again(&process, &sent).await;
        }
    }
}

/// A write with its request id.
struct Write {
    name: String,
    key: String,
    deed: Deed,
    request_id: RequestId,
}

impl Write {
    fn new(process: &Process, number: u64, request_id: RequestId) -> Write {
        let (name, key) = (format!("{}/{number}", process.name()), register(process.world.random_u64()));
        let deed = if process.world.random_u64().is_multiple_of(5) { Deed::Delete } else { Deed::Put };
        Write { name, key, deed, request_id }
    }
}

/// What one copy of a write was answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Heard {
    /// It took effect, now or when another copy came.
    Applied {
        seq: u64,
        revision: u64,
        changed: bool,
    },
    /// The state machine refused it, and every other copy with it.
    Refused,
    /// This copy was not applied; it says nothing about another.
    NotApplied,
    /// The answer is no longer remembered.
    Forgotten,
    Unknown,
}

struct Wire {
    world: World,
    nodes: Vec<(String, Channel)>,
    /// The node that led last.
    leader: usize,
}

impl Wire {
    fn new(process: &Process) -> Wire {
        let world = process.world.clone();
        let channel = |address: String| {
            let channel = grpc::channel(&world, &address).expect("the simulated addresses are well formed");
            (address, channel)
        };
        let nodes = process.plan.all(Role::Node).map(address).map(channel).collect();
        Wire { nodes, leader: 0, world }
    }

    fn any(&self) -> usize {
        (self.world.random_u64() % self.nodes.len() as u64) as usize
    }

    /// Sends two copies at once, and says what is known of the write then.
    async fn twice(&mut self, process: &Process, write: &Write) -> Heard {
        let saw = |fact| process.witness.saw(process.who, fact);
        saw(Fact::WriteBegan { write: write.name.clone(), key: write.key.clone(), deed: write.deed });
        let other = if self.world.random_u64().is_multiple_of(2) { self.leader } else { self.any() };
        let (one, two) = tokio::join!(self.send(self.leader, write), self.send(other, write));
        let answers = [(self.leader, one), (other, two)];
        for (node, (heard, hint)) in &answers {
            self.learn(*node, *heard, hint.as_deref());
        }
        let heard = answers.map(|(_, (heard, _))| heard);
        let applied = heard.into_iter().filter(|heard| matches!(heard, Heard::Applied { .. }));
        let known: Vec<Heard> = match applied.collect::<Vec<_>>() {
            // A refusal of the state machine contradicts it: whoever judges must hear both.
            mut applied if !applied.is_empty() => {
                applied.extend(heard.into_iter().filter(|heard| *heard == Heard::Refused));
                applied
            }
            _ if heard.contains(&Heard::Refused) => vec![Heard::Refused],
            _ if heard == [Heard::NotApplied; 2] => vec![Heard::NotApplied],
            _ if heard.contains(&Heard::Forgotten) => vec![Heard::Forgotten],
            _ => vec![Heard::Unknown],
        };
        for heard in &known {
            let ended = match *heard {
                Heard::Applied { seq, revision, changed } => Ended::Applied { seq, revision, changed },
                Heard::Refused | Heard::NotApplied => Ended::NotApplied,
                Heard::Forgotten | Heard::Unknown => Ended::Unknown,
            };
            saw(Fact::WriteEnded { write: write.name.clone(), ended });
        }
        known[0]
    }

    /// Sends a copy of something that was sent before.
    async fn again(&mut self, process: &Process, sent: &VecDeque<Write>) {
        if sent.is_empty() {
            return;
        }
        let write = &sent[(self.world.random_u64() % sent.len() as u64) as usize];
        let (heard, hint) = self.send(self.leader, write).await;
        self.learn(self.leader, heard, hint.as_deref());
        match heard {
            Heard::Applied { seq, revision, changed } => {
                let ended = Ended::Applied { seq, revision, changed };
                process.witness.saw(process.who, Fact::WriteEnded { write: write.name.clone(), ended });
            }
            Heard::Forgotten => process.witness.count("answers forgotten"),
            // The state machine's word, for all copies; a node that did not take this copy speaks for this copy alone.
            Heard::Refused => {
                let fact = Fact::WriteEnded { write: write.name.clone(), ended: Ended::NotApplied };
                process.witness.saw(process.who, fact);
            }
            Heard::NotApplied | Heard::Unknown => {}
        }
    }

    async fn send(&self, node: usize, write: &Write) -> (Heard, Option<String>) {
        let mut kv = KvServiceClient::new(self.nodes[node].1.clone());
        let (key, request_id) = (write.key.clone().into_bytes(), Some(write.request_id));
        let answer = async {
            match write.deed {
                Deed::Put => {
                    let value = write.name.clone().into_bytes();
                    let reply =
                        kv.put(PutRequest { key, value, request_id, ..PutRequest::default() }).await?.into_inner();
                    Ok((reply.header, true))
                }
                Deed::Delete => {
                    let reply =
                        kv.delete(DeleteRequest { key, request_id, ..DeleteRequest::default() }).await?.into_inner();
                    Ok((reply.header, reply.deleted > 0))
                }
            }
        };
        self.world.timeout(ATTEMPT, answer).await.map_or((Heard::Unknown, None), hear)
    }

    fn learn(&mut self, node: usize, heard: Heard, hint: Option<&str>) {
        let hinted = hint.and_then(|hint| self.nodes.iter().position(|(address, _)| address == hint));
        self.leader = match (heard, hinted) {
            (Heard::Applied { .. } | Heard::Refused | Heard::Forgotten, _) => node,
            (_, Some(hinted)) => hinted,
            (_, None) => self.any(),
        };
    }

    async fn read(&self, process: &Process, number: u64) {
        let (read, key) = (format!("{}/{number}", process.name()), register(self.world.random_u64()));
        let node = if self.world.random_u64().is_multiple_of(2) { self.leader } else { self.any() };
        let mut kv = KvServiceClient::new(self.nodes[node].1.clone());
        process.witness.saw(process.who, Fact::ReadBegan { read: read.clone() });
        let request = GetRequest { key: key.clone().into_bytes(), ..GetRequest::default() };
        let Some(Ok(got)) = self.world.timeout(ATTEMPT, kv.get(request)).await else { return };
        let got = got.into_inner();
        let Header { seq, revision, .. } = got.header.unwrap_or_default();
        let found = got.kv.map(|kv| Found {
            write: String::from_utf8_lossy(&kv.value).into_owned(),
            mod_revision: kv.mod_revision,
            create_revision: kv.create_revision,
            version: kv.version,
        });
        process.witness.saw(process.who, Fact::ReadEnded { read, key, seq, revision, found });
    }
}

/// What an answer says, and whom it hints at.
fn hear(answer: Result<(Option<Header>, bool), Status>) -> (Heard, Option<String>) {
    let refused = match answer {
        Ok((header, changed)) => {
            let Header { seq, revision, .. } = header.unwrap_or_default();
            return (Heard::Applied { seq, revision, changed }, None);
        }
        Err(refused) => refused,
    };
    let Some(detail) = status::detail(&refused) else { return (Heard::Unknown, None) };
    let heard = match (detail.outcome(), detail.kind()) {
        (_, Kind::Forgotten) => Heard::Forgotten,
        (Outcome::NotApplied, _) if detail.header.is_some() => Heard::Refused,
        (Outcome::NotApplied, _) => Heard::NotApplied,
        _ => Heard::Unknown,
    };
    (heard, detail.store_leader.map(|leader| leader.address))
}
