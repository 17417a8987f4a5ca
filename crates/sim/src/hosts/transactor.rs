//! A transactor: moves what accounts hold from one to another, in transactions that stand on what it read before; binds keys to
//! its session; reads keys as they are and as they were, and compacts the past now and then. It speaks the wire without the
//! care of a client, and repeats only what has a request id.

use std::time::Duration;

use palisade_client::{Client, Session, SessionOptions};
use palisade_wire::coord::v1::error_detail::Kind;
use palisade_wire::coord::v1::key_op_result::Result as Done;
use palisade_wire::coord::v1::{
    CompactRequest, DeleteOp, Fence, KeyCompare, KeyOp, KeyOpResult, KeyRange, PutOp, RangeRequest, ReadOp, RequestId,
    Txn, TxnRequest, TxnResult, key_compare, key_op, key_range, put_op,
};

use super::Process;
use super::candidate::ELECTION;
use super::wire::{Known, Wire};
use crate::facts::{Deed, Ended, Fact, FoundKey, NAME_OF_TXN, Ranged, Unreadable};

/// What accounts begin with.
pub const ACCOUNT: &str = "account/";
/// How many there are, once there are any.
pub const ACCOUNTS: u64 = 6;
/// What each holds at first. Nothing is ever added or taken away.
pub const HOLDS: u64 = 100;
/// What keys begin with that are bound to a session.
pub const BOUND: &str = "bound/";

/// Deeds of one session.
const DEEDS: u64 = 30;
/// So often a request is sent that has a request id.
const COPIES: usize = 3;
/// So far back the past is read, and twice as far back it is compacted: the two meet now and then.
const PAST: u64 = 150;

/// Runs until the simulation ends.
pub(crate) async fn run(process: Process) -> turmoil::Result {
    let (client, world) = (process.client(), process.world.clone());
    let mut transactor =
        Transactor { wire: Wire::new(&process), client, process, session: 0, serial: 0, number: 0, told: 0 };
    loop {
        let ttl = Duration::from_millis(600 + world.random_u64() % 900);
        let options = SessionOptions { ttl, ..SessionOptions::default() };
        let Ok(session) = transactor.process.opens(&transactor.client, options).await else {
            world.sleep(Duration::from_millis(50)).await;
            continue;
        };
        (transactor.session, transactor.serial) = (session.id(), 0);
        for _ in 0..DEEDS {
            transactor.act().await;
            world.sleep(Duration::from_millis(10) + world.jitter(Duration::from_millis(70))).await;
        }
        end(&transactor.process, session).await;
    }
}

/// Closes the session, or lets it go: then nobody says when its keys go.
async fn end(process: &Process, session: Session) {
    if process.one_in(3) {
        return process.leaves(&session);
    }
    let _ = process.closes(&session).await; // one that cannot be closed ends by its TTL
}

struct Transactor {
    process: Process,
    client: Client,
    wire: Wire,
    /// The one that it has now.
    session: u64,
    /// Of its last request.
    serial: u64,
    /// Of its last deed.
    number: u64,
    /// The newest revision that it was told of.
    told: u64,
}

impl Transactor {
    fn saw(&self, fact: Fact) {
        self.process.witness.saw(self.process.who, fact);
    }

    fn random(&self, below: u64) -> u64 {
        self.process.world.random_u64() % below
    }

    /// One deed, of any kind.
    async fn act(&mut self) {
        match self.random(12) {
            0..=5 => self.transfer().await,
            6..=7 => self.bind().await,
            8 => self.unbind().await,
            9..=10 => self.read_past().await,
            _ => self.compact().await,
        }
        if self.process.one_in(3) {
            self.read(BOUND, None, self.random(4)).await;
        }
    }

    /// Moves something from one account to another if both are as they were read; makes the accounts if there are none.
    async fn transfer(&mut self) {
        let Some(read) = self.read(ACCOUNT, None, 0).await else { return };
        if read.found.is_empty() {
            let puts = (0..ACCOUNTS).map(|number| put(account(number), HOLDS.to_string())).collect();
            return self.submit(vec![absent(account(0))], puts, Vec::new()).await;
        }
        let (from, to) = (self.random(ACCOUNTS), self.random(ACCOUNTS));
        let [Some(giver), Some(taker)] = [from, to].map(|number| read.found.get(number as usize)) else { return };
        let holds = |found: &FoundKey| found.value.parse::<u64>().unwrap_or_default();
        let moved = self.random(holds(giver) + 1);
        if from == to {
            return;
        }
        let compare = [giver, taker].map(|found| written(found.key.clone(), found.mod_revision)).into();
        let success = vec![
            read_all(ACCOUNT),
            put(giver.key.clone(), (holds(giver) - moved).to_string()),
            // Within, so that it is not the first that is done, nor of the same list.
            KeyOp {
                op: Some(key_op::Op::Txn(Txn {
                    success: vec![put(taker.key.clone(), (holds(taker) + moved).to_string())],
                    ..Txn::default()
                })),
            },
        ];
        self.submit(compare, success, vec![read_all(ACCOUNT)]).await;
    }

    /// Writes a key that is to go with its session, or lets one of its own stay as it is.
    async fn bind(&mut self) {
        let key = format!("{BOUND}{}/{}", self.process.name(), self.random(5));
        let (value, binding) = match self.random(4) {
            0 => (None, put_op::Binding::KeepSession(put_op::Keep {})),
            _ => (Some(self.number.to_string().into_bytes()), put_op::Binding::Session(self.session)),
        };
        let put = PutOp { key: key.into_bytes(), value, binding: Some(binding), ..PutOp::default() };
        self.submit(Vec::new(), vec![KeyOp { op: Some(key_op::Op::Put(put)) }], Vec::new()).await;
    }

    /// Removes its bound keys, as many as there are.
    async fn unbind(&mut self) {
        let keys = Some(under(&format!("{BOUND}{}", self.process.name())));
        let delete = KeyOp { op: Some(key_op::Op::Delete(DeleteOp { keys, ..DeleteOp::default() })) };
        self.submit(Vec::new(), vec![delete], Vec::new()).await;
    }

    async fn read_past(&mut self) {
        let back = self.random(PAST);
        // Now and then what has not come yet, as far as it knows.
        let asked = (self.told + 5).saturating_sub(back).max(1);
        let prefix = if self.process.one_in(4) { BOUND } else { ACCOUNT };
        self.read(prefix, Some(asked), 0).await;
    }

    async fn compact(&mut self) {
        let revision = self.told.saturating_sub(PAST / 3 + self.random(PAST));
        if revision == 0 {
            return;
        }
        let node = self.wire.leader_or_any();
        let request = CompactRequest { revision, request_id: None };
        let answer = self.wire.ask(self.wire.kv(node).compact(request)).await;
        self.wire.learn(node, answer.as_ref().map(|_| ()));
    }

    /// Does it all or nothing, under a name. Some of it only while the leader that it knows of leads.
    async fn submit(&mut self, mut compare: Vec<KeyCompare>, success: Vec<KeyOp>, failure: Vec<KeyOp>) {
        self.number += 1;
        let name = format!("{}/{}", self.process.name(), self.number);
        compare.insert(0, absent(format!("{NAME_OF_TXN}{name}")));
        let fence = if self.process.one_in(8) { self.fence().await } else { None };
        let txn = Txn { fence, compare, success, failure };
        let request_id = (!self.process.one_in(3)).then(|| {
            self.serial += 1;
            RequestId { session: self.session, serial: self.serial, acked_below: self.serial }
        });
        let session = request_id.map(|id| id.session);
        let (write, key) = (name.clone(), ACCOUNT.to_owned());
        self.saw(Fact::WriteBegan { write: write.clone(), key, deed: Deed::Txn, session });
        let mut ended = Ended::Unknown;
        for copy in 0..if request_id.is_some() { COPIES } else { 1 } {
            let node = if copy == 0 { self.wire.leader() } else { self.wire.any() };
            let request = TxnRequest { txn: Some(txn.clone()), request_id };
            let answer = self.wire.ask(self.wire.kv(node).txn(request)).await;
            self.wire.learn(node, answer.as_ref().map(|_| ()));
            let known = match answer {
                Ok(reply) => {
                    let header = reply.header.unwrap_or_default();
                    self.told = self.told.max(header.revision);
                    let changed = reply.result.as_ref().is_some_and(changes);
                    self.process.witness.count(match &reply.result {
                        Some(TxnResult { succeeded: true, .. }) => "transactions",
                        _ => "transactions whose conditions did not hold",
                    });
                    ended = Ended::Applied { seq: header.seq, revision: header.revision, changed };
                    break;
                }
                Err(unanswered) => unanswered.known,
            };
            match known {
                Known::Refused => {
                    ended = Ended::NotApplied;
                    break;
                }
                // Nothing was sent before it that may yet be applied.
                Known::NotApplied if copy == 0 => {
                    ended = Ended::NotApplied;
                    break;
                }
                Known::NotApplied | Known::Unknown => {}
                Known::Forgotten => break,
            }
        }
        self.saw(Fact::WriteEnded { write, ended });
    }

    async fn fence(&self) -> Option<Fence> {
        let grant = self.client.leader(ELECTION).await.ok().flatten()?;
        Some(Fence { election: grant.election.clone(), token: grant.token.get() })
    }

    async fn read(&mut self, prefix: &str, asked: Option<u64>, limit: u64) -> Option<Ranged> {
        self.number += 1;
        let read = format!("{}/{}", self.process.name(), self.number);
        // One that may be stale is asked of any node, and promises less.
        let stale = asked.is_none() && self.process.one_in(5);
        if !stale {
            self.saw(Fact::ReadBegan { read: read.clone() });
        }
        let node = if stale { self.wire.any() } else { self.wire.leader_or_any() };
        let op = ReadOp { keys: Some(under(prefix)), revision: asked.unwrap_or_default(), limit, ..ReadOp::default() };
        let answer =
            self.wire.ask(self.wire.kv(node).range(RangeRequest { read: Some(op), serializable: stale })).await;
        if !stale {
            self.wire.learn(node, answer.as_ref().map(|_| ()));
        }
        let reply = match answer {
            Ok(reply) => reply,
            Err(unanswered) => {
                let why = match unanswered.kind {
                    Kind::Compacted => Unreadable::Compacted,
                    Kind::FutureRevision => Unreadable::Future,
                    _ => return None,
                };
                let (asked, seq) = (asked?, unanswered.header?.seq);
                self.saw(Fact::RangeRefused { read, asked, why, seq });
                return None;
            }
        };
        let (header, result) = (reply.header.unwrap_or_default(), reply.result.unwrap_or_default());
        if self.process.is_outlived(Some(&header)) {
            return None;
        }
        self.told = self.told.max(header.revision);
        if stale {
            self.saw(Fact::ReadStale { by: self.process.who, node: node + 1, seq: header.seq });
        }
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let found = result.kvs.into_iter().map(|kv| FoundKey {
            key: text(kv.key),
            value: text(kv.value),
            create_revision: kv.create_revision,
            mod_revision: kv.mod_revision,
            version: kv.version,
            session: kv.session,
        });
        let ranged = Ranged {
            read,
            prefix: prefix.to_owned(),
            asked,
            limit,
            seq: header.seq,
            revision: header.revision,
            stale,
            found: found.collect(),
            count: result.count,
        };
        self.saw(Fact::Ranged(ranged.clone()));
        Some(ranged)
    }
}

fn account(number: u64) -> String {
    format!("{ACCOUNT}{number}")
}

fn one(key: String) -> KeyRange {
    KeyRange { key: key.into_bytes(), until: None }
}

fn under(prefix: &str) -> KeyRange {
    KeyRange { key: prefix.as_bytes().to_vec(), until: Some(key_range::Until::Prefix(key_range::Prefix {})) }
}

fn equal(key: String, operand: key_compare::Operand) -> KeyCompare {
    let relation = key_compare::Relation::Equal.into();
    KeyCompare { keys: Some(one(key)), relation, operand: Some(operand) }
}

fn absent(key: String) -> KeyCompare {
    equal(key, key_compare::Operand::Version(0))
}

fn written(key: String, revision: u64) -> KeyCompare {
    equal(key, key_compare::Operand::ModRevision(revision))
}

fn put(key: String, value: String) -> KeyOp {
    let put = PutOp { key: key.into_bytes(), value: Some(value.into_bytes()), ..PutOp::default() };
    KeyOp { op: Some(key_op::Op::Put(put)) }
}

fn read_all(prefix: &str) -> KeyOp {
    KeyOp { op: Some(key_op::Op::Read(ReadOp { keys: Some(under(prefix)), ..ReadOp::default() })) }
}

/// Whether what was done changed anything.
fn changes(result: &TxnResult) -> bool {
    result.results.iter().any(|KeyOpResult { result }| match result {
        Some(Done::Put(_)) => true,
        Some(Done::Delete(deleted)) => deleted.deleted > 0,
        Some(Done::Txn(within)) => changes(within),
        Some(Done::Read(_) | Done::NotKept(_)) | None => false,
    })
}
