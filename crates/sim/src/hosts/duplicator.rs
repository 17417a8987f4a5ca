//! A duplicator: speaks the wire without the care of a client. It sends each write twice, to one node or to two; again long
//! after it was answered; and again when its session has ended. It reads from whatever node answers. The store alone must see
//! to it that each write takes effect once and that no read is stale.

use std::collections::VecDeque;
use std::time::Duration;

use palisade_client::SessionOptions;
use palisade_wire::coord::v1::{DeleteRequest, GetRequest, Header, PutRequest, RequestId};

use super::Process;
use super::wire::{Known, Unanswered, Wire};
use super::writer::register;
use crate::facts::{Deed, Ended, Fact, Found};

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
        let options = SessionOptions { ttl, ..SessionOptions::default() };
        let Ok(session) = process.opens(&client, options).await else {
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
            match twice(&mut wire, &process, &write).await {
                Heard::Not(Known::Forgotten) => break,
                // It was said that no copy was applied: from now on that must stay true.
                Heard::Not(Known::NotApplied) => {}
                Heard::Applied { .. } | Heard::Not(Known::Refused | Known::Unknown) => sent.push_back(write),
            }
            if sent.len() > KEPT {
                sent.pop_front();
            }
            if world.random_u64().is_multiple_of(2) {
                again(&mut wire, &process, &sent).await;
            }
            read(&wire, &process, number).await;
            world.sleep(Duration::from_millis(10) + world.jitter(Duration::from_millis(80))).await;
        }
        let _ = process.closes(&session).await; // one that cannot be closed ends by its TTL
        for _ in 0..4 {
            again(&mut wire, &process, &sent).await;
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
    Not(Known),
}

/// Sends two copies at once, and says what is known of the write then.
async fn twice(wire: &mut Wire, process: &Process, write: &Write) -> Heard {
    let saw = |fact| process.witness.saw(process.who, fact);
    let (name, session) = (write.name.clone(), Some(write.request_id.session));
    saw(Fact::WriteBegan { write: name, key: write.key.clone(), deed: write.deed, session });
    let (one, other) = (wire.leader(), wire.leader_or_any());
    let answers = tokio::join!(send(wire, one, write), send(wire, other, write));
    let heard = [learn(wire, one, answers.0), learn(wire, other, answers.1)];
    let applied = heard.into_iter().filter(|heard| matches!(heard, Heard::Applied { .. }));
    let [refused, not_applied, forgotten] = [Known::Refused, Known::NotApplied, Known::Forgotten].map(Heard::Not);
    let known: Vec<Heard> = match applied.collect::<Vec<_>>() {
        // A refusal of the state machine contradicts it: whoever judges must hear both.
        mut applied if !applied.is_empty() => {
            applied.extend(heard.into_iter().filter(|heard| *heard == refused));
            applied
        }
        _ if heard.contains(&refused) => vec![refused],
        _ if heard == [not_applied; 2] => vec![not_applied],
        _ if heard.contains(&forgotten) => vec![forgotten],
        _ => vec![Heard::Not(Known::Unknown)],
    };
    for heard in &known {
        let ended = match *heard {
            Heard::Applied { seq, revision, changed } => Ended::Applied { seq, revision, changed },
            Heard::Not(Known::Refused | Known::NotApplied) => Ended::NotApplied,
            Heard::Not(Known::Forgotten | Known::Unknown) => Ended::Unknown,
        };
        saw(Fact::WriteEnded { write: write.name.clone(), ended });
    }
    known[0]
}

/// Sends a copy of something that was sent before.
async fn again(wire: &mut Wire, process: &Process, sent: &VecDeque<Write>) {
    if sent.is_empty() {
        return;
    }
    let write = &sent[(process.world.random_u64() % sent.len() as u64) as usize];
    let node = wire.leader();
    let answer = send(wire, node, write).await;
    let ended = match learn(wire, node, answer) {
        Heard::Applied { seq, revision, changed } => Ended::Applied { seq, revision, changed },
        // The state machine's word, for all copies; a node that did not take this copy speaks for this copy alone.
        Heard::Not(Known::Refused) => Ended::NotApplied,
        Heard::Not(Known::Forgotten) => return process.witness.count("answers forgotten"),
        Heard::Not(Known::NotApplied | Known::Unknown) => return,
    };
    process.witness.saw(process.who, Fact::WriteEnded { write: write.name.clone(), ended });
}

async fn send(wire: &Wire, node: usize, write: &Write) -> Result<(Header, bool), Unanswered> {
    let (key, request_id) = (write.key.clone().into_bytes(), Some(write.request_id));
    if write.deed == Deed::Put {
        let value = write.name.clone().into_bytes();
        let request = PutRequest { key, value, request_id, ..PutRequest::default() };
        let reply = wire.ask(wire.kv(node).put(request)).await?;
        return Ok((reply.header.unwrap_or_default(), true));
    }
    let request = DeleteRequest { key, request_id, ..DeleteRequest::default() };
    let reply = wire.ask(wire.kv(node).delete(request)).await?;
    Ok((reply.header.unwrap_or_default(), reply.deleted > 0))
}

fn learn(wire: &mut Wire, node: usize, answer: Result<(Header, bool), Unanswered>) -> Heard {
    wire.learn(node, answer.as_ref().map(|_| ()));
    match answer {
        Ok((Header { seq, revision, .. }, changed)) => Heard::Applied { seq, revision, changed },
        Err(unanswered) => Heard::Not(unanswered.known),
    }
}

async fn read(wire: &Wire, process: &Process, number: u64) {
    let (read, key) = (format!("{}/{number}", process.name()), register(process.world.random_u64()));
    process.witness.saw(process.who, Fact::ReadBegan { read: read.clone() });
    let request = GetRequest { key: key.clone().into_bytes(), serializable: false };
    let Ok(got) = wire.ask(wire.kv(wire.leader_or_any()).get(request)).await else { return };
    let Header { seq, revision, .. } = got.header.unwrap_or_default();
    let found = got.kv.map(|kv| Found {
        write: String::from_utf8_lossy(&kv.value).into_owned(),
        mod_revision: kv.mod_revision,
        create_revision: kv.create_revision,
        version: kv.version,
    });
    process.witness.saw(process.who, Fact::ReadEnded { read, key, seq, revision, found });
}
