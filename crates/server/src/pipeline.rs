//! A data stream: many calls in one message, many answers in one message, in no order. It decides nothing: writes go to the
//! proposer, reads wait for a quorum round, as those of single requests do.
//!
//! There is no task per stream and none per call: the stream of answers does the work when it is polled, so a client that does
//! not read its answers is not worked for, and one that leaves too many calls open is not read from.
//!
//! Keeps true: each call is answered once, or the stream ends, which says that what is open is unknown. A read is looked up
//! only after a round that began when it was here, and only when there is room for its answer.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, unfold};
use futures_util::{FutureExt, Stream, StreamExt};
use palisade_coord_core::keys::op::Read;
use palisade_coord_core::{Outcome, Reply, State};
use palisade_wire::coord::v1::error_detail::Kind;
use palisade_wire::coord::v1::pipeline_answer::Answer as Body;
use palisade_wire::coord::v1::pipeline_call::Request;
use palisade_wire::coord::v1::{
    ErrorDetail, GetReply, Header, PipelineAnswer, PipelineAnswers, PipelineCall, PipelineCalls, RangeReply, TxnReply,
};
use palisade_wire::{convert, status};
use prost::Message;
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use crate::api::{ANSWER_LIMIT, Api, Fresh};
use crate::key_replies::{delete_reply, put_reply};
use crate::proposer::{Answer, Outcomes};
use crate::refusals;

/// Calls of one message, and calls without an answer beyond which a stream is not read. A node that applies 100,000 commands
/// in a second is kept busy by a few streams of this many.
const MAX_CALLS: usize = 4_096;

/// Bytes of calls without an answer beyond which a stream is not read: a few of the largest requests.
const MAX_OPEN_BYTES: usize = 4 << 20;

/// Bytes of answers beyond which no further read is looked up. With the largest single answer beside it, a message stays below
/// what clients accept.
const ANSWER_BYTES: usize = 1 << 20;

/// Reads that are looked up under one lock: some tens of microseconds, for which applying waits.
const READS_AT_ONCE: usize = 64;

/// Long reads of one stream at once; what comes behind the next one waits. An answer has 2 MiB at most.
const LONG_READS: usize = 4;

/// Messages that are taken in before answers have their turn.
const MESSAGES_AT_ONCE: usize = 4;

/// The answers to the calls of a stream. It ends with the calls, or with the status that says why it could not go on.
pub(crate) fn answers(
    api: Api,
    calls: Streaming<PipelineCalls>,
) -> impl Stream<Item = Result<PipelineAnswers, Status>> + Send + use<> {
    unfold(Some(Pipelining::new(api, calls)), |pipelining| async move {
        let mut pipelining = pipelining?;
        match pipelining.next().await {
            Some(Ok(answers)) => Some((Ok(answers), Some(pipelining))),
            Some(Err(status)) => Some((Err(status), None)),
            None => None,
        }
    })
}

/// What a read asks for, after the checks.
#[derive(Debug)]
enum Look {
    Get(Vec<u8>),
    Range(Box<Read>),
}

/// Reads with the numbers of their calls.
type Reads = Vec<(u64, Look)>;

/// A call without an answer.
#[derive(Debug)]
struct Open {
    since: Duration,
    bytes: usize,
    answers: Answers,
}

/// How an outcome is answered.
#[derive(Debug)]
enum Answers {
    /// `key` is there if what was there before is asked for.
    Put {
        key: Vec<u8>,
    },
    Delete,
    Txn,
    /// Not by an outcome.
    Read,
}

impl Answers {
    fn of(request: &Option<Request>) -> Answers {
        match request {
            Some(Request::Put(put)) if put.show_previous => Answers::Put { key: put.key.clone() },
            Some(Request::Put(_)) => Answers::Put { key: Vec::new() },
            Some(Request::Delete(_)) => Answers::Delete,
            Some(Request::Txn(_)) => Answers::Txn,
            Some(Request::Get(_) | Request::Range(_)) | None => Answers::Read,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Input {
    Open,
    /// The client sends no more.
    Ended,
}

struct Pipelining {
    api: Api,
    calls: Streaming<PipelineCalls>,
    input: Input,
    open: BTreeMap<u64, Open>,
    open_bytes: usize,
    /// Calls in the order in which they came; those that were answered are dropped when they come to the front.
    oldest: VecDeque<(u64, Duration)>,
    tell: Outcomes,
    outcomes: mpsc::Receiver<Vec<(u64, Answer)>>,
    /// Reads that wait for their round.
    rounds: FuturesUnordered<BoxFuture<'static, (Reads, Result<(), Status>)>>,
    /// Reads that have had it.
    confirmed: VecDeque<(u64, Look)>,
    /// Reads that look at so much that they are made elsewhere.
    long: FuturesUnordered<BoxFuture<'static, (u64, Body)>>,
    answers: Vec<PipelineAnswer>,
    answer_bytes: usize,
}

impl Pipelining {
    fn new(api: Api, calls: Streaming<PipelineCalls>) -> Pipelining {
        // Each message of outcomes answers a call at least.
        let (tell, outcomes) = mpsc::channel(2 * MAX_CALLS);
        Pipelining {
            api,
            calls,
            input: Input::Open,
            open: BTreeMap::new(),
            open_bytes: 0,
            oldest: VecDeque::new(),
            tell,
            outcomes,
            rounds: FuturesUnordered::new(),
            confirmed: VecDeque::new(),
            long: FuturesUnordered::new(),
            answers: Vec::new(),
            answer_bytes: 0,
        }
    }

    /// The next message of answers. Cancelling it loses nothing.
    async fn next(&mut self) -> Option<Result<PipelineAnswers, Status>> {
        loop {
            if let Err(status) = self.take_what_is_ready() {
                return Some(Err(status));
            }
            if !self.answers.is_empty() {
                self.answer_bytes = 0;
                return Some(Ok(PipelineAnswers { answers: std::mem::take(&mut self.answers) }));
            }
            if self.input == Input::Ended && self.open.is_empty() {
                return None;
            }
            let (has_room, late_at) = (self.has_room(), self.late_at());
            tokio::select! {
                biased;
                Some(outcomes) = self.outcomes.recv() => self.outcomes(outcomes),
                Some((reads, confirmed)) = self.rounds.next(), if !self.rounds.is_empty() => self.round(reads, confirmed),
                Some((call, body)) = self.long.next(), if !self.long.is_empty() => self.answer(call, body),
                message = self.calls.message(), if has_room => {
                    if let Err(status) = message.and_then(|message| self.message(message)) {
                        return Some(Err(status));
                    }
                }
                () = sleep_until(&self.api, late_at) => return Some(Err(late())),
            }
        }
    }

    fn take_what_is_ready(&mut self) -> Result<(), Status> {
        while let Ok(outcomes) = self.outcomes.try_recv() {
            self.outcomes(outcomes);
        }
        while let Some(Some((reads, confirmed))) = self.rounds.next().now_or_never() {
            self.round(reads, confirmed);
        }
        self.look();
        for _ in 0..MESSAGES_AT_ONCE {
            if !self.has_room() {
                break;
            }
            let Some(message) = self.calls.message().now_or_never() else { break };
            self.message(message?)?;
        }
        Ok(())
    }

    fn has_room(&self) -> bool {
        self.input == Input::Open && self.open.len() < MAX_CALLS && self.open_bytes < MAX_OPEN_BYTES
    }

    /// When the oldest call has waited for too long.
    fn late_at(&mut self) -> Option<Duration> {
        while let Some((call, since)) = self.oldest.front() {
            // A number may be used again once it is answered.
            if self.open.get(call).is_some_and(|open| open.since == *since) {
                return Some(*since + ANSWER_LIMIT);
            }
            self.oldest.pop_front();
        }
        None
    }

    // --- calls ---

    fn message(&mut self, message: Option<PipelineCalls>) -> Result<(), Status> {
        let Some(message) = message else {
            self.input = Input::Ended;
            return Ok(());
        };
        if message.calls.len() > MAX_CALLS {
            return Err(broken("calls", message.calls.len(), format!("at most {MAX_CALLS} in one message")));
        }
        let now = self.api.world.now();
        let mut reads = Vec::new();
        for PipelineCall { call, request } in message.calls {
            let open = Open { since: now, bytes: weight(&request), answers: Answers::of(&request) };
            self.open_bytes += open.bytes;
            if call == 0 || self.open.insert(call, open).is_some() {
                return Err(broken("call", call, "from 1, and not the number of a call without an answer"));
            }
            self.oldest.push_back((call, now));
            if let Err(error) = self.begin(call, request, &mut reads) {
                self.answer(call, Body::Error(error));
            }
        }
        if !reads.is_empty() {
            let api = self.api.clone();
            self.rounds.push(Box::pin(async move { (reads, api.barrier().await) }));
        }
        Ok(())
    }

    fn begin(&mut self, call: u64, request: Option<Request>, reads: &mut Reads) -> Result<(), ErrorDetail> {
        let command = match request {
            Some(Request::Put(put)) => self.api.write(put, convert::put)?,
            Some(Request::Delete(delete)) => self.api.write(delete, convert::delete)?,
            Some(Request::Txn(txn)) => self.api.write(txn, convert::txn)?,
            Some(Request::Get(get)) => {
                let fresh = Fresh::of(get.serializable);
                return self.read(call, fresh, Look::Get(convert::get(get)?), reads);
            }
            Some(Request::Range(range)) => {
                let fresh = Fresh::of(range.serializable);
                return self.read(call, fresh, Look::Range(Box::new(convert::range(range)?)), reads);
            }
            None => {
                let allowed = "put, get, delete, range or txn";
                return Err(convert::invalid("request", "none that this server knows", allowed));
            }
        };
        self.api.proposer.submit_bulk(command, call, &self.tell).map_err(refusals::of_submit)
    }

    fn read(&mut self, call: u64, fresh: Fresh, look: Look, reads: &mut Reads) -> Result<(), ErrorDetail> {
        match fresh {
            Fresh::Linearizable => reads.push((call, look)),
            // As for a single request: before the founding there is nothing to be read.
            Fresh::Serializable if self.api.machine.founded().borrow().is_none() => return Err(refusals::no_state()),
            Fresh::Serializable => self.confirmed.push_back((call, look)),
        }
        Ok(())
    }

    // --- answers ---

    fn outcomes(&mut self, outcomes: Vec<(u64, Answer)>) {
        for (call, outcome) in outcomes {
            let Some(open) = self.open.get_mut(&call) else { continue };
            let answers = std::mem::replace(&mut open.answers, Answers::Read);
            let body = match outcome {
                Ok(outcome) => written(self.api.header(&outcome), answers, outcome),
                Err(error) => Body::Error(refusals::of_submit(error)),
            };
            self.answer(call, body);
        }
    }

    fn round(&mut self, reads: Reads, confirmed: Result<(), Status>) {
        match confirmed {
            Ok(()) => self.confirmed.extend(reads),
            Err(status) => {
                let no_answer = || status::not_applied(Kind::NoStoreLeader, "repeat it a little later");
                let error = status::detail(&status).unwrap_or_else(no_answer);
                for (call, _) in reads {
                    self.answer(call, Body::Error(error.clone()));
                }
            }
        }
        self.look();
    }

    /// Looks up what there is room to answer.
    fn look(&mut self) {
        let mut full = false;
        while !full && !self.confirmed.is_empty() && self.answer_bytes < ANSWER_BYTES {
            let Pipelining { api, confirmed, answer_bytes, long, .. } = self;
            let mut found = Vec::with_capacity(READS_AT_ONCE.min(confirmed.len()));
            api.machine.read(|state| {
                let mut bytes = *answer_bytes;
                while bytes < ANSWER_BYTES
                    && found.len() < READS_AT_ONCE
                    && let Some((call, look)) = confirmed.pop_front()
                {
                    match look.up(state) {
                        Ok(body) => {
                            bytes += size(&body);
                            found.push((call, body));
                        }
                        // Their answers are kept until the client takes them.
                        Err(read) if long.len() >= LONG_READS => {
                            confirmed.push_front((call, Look::Range(read)));
                            full = true;
                            break;
                        }
                        Err(read) => long.push(long_read(api, call, *read)),
                    }
                }
            });
            for (call, body) in found {
                self.answer(call, body);
            }
        }
    }

    fn answer(&mut self, call: u64, body: Body) {
        if let Some(open) = self.open.remove(&call) {
            self.open_bytes -= open.bytes;
        }
        if let Body::Error(refusal) = &body {
            self.api.machine.metrics().refused(refusal);
        }
        self.answer_bytes += size(&body);
        self.answers.push(PipelineAnswer { call, answer: Some(body) });
    }
}

impl Look {
    /// `Err`: it looks at too much to be looked up while applying waits.
    fn up(self, state: &State) -> Result<Body, Box<Read>> {
        let header = convert::header(state);
        Ok(match self {
            Look::Get(key) => {
                let kv = state.get(&key).map(|kv| convert::key_value(&key, kv));
                Body::Get(GetReply { header: Some(header), kv })
            }
            Look::Range(read) if state.is_long(&read) => return Err(read),
            Look::Range(read) => match state.read(&read) {
                Ok(findings) => {
                    Body::Range(RangeReply { header: Some(header), result: Some(convert::range_result(&findings)) })
                }
                Err(why) => Body::Error(convert::refusal(&why, header)),
            },
        })
    }
}

fn long_read(api: &Api, call: u64, read: Read) -> BoxFuture<'static, (u64, Body)> {
    let found = api.long_reads.begin(api, read);
    async move { (call, found.await.map_or_else(Body::Error, Body::Range)) }.boxed()
}

/// What came of a write.
fn written(header: Header, answers: Answers, outcome: Outcome) -> Body {
    let body = match (answers, outcome.reply) {
        (_, Err(refusal)) => return Body::Error(convert::refusal(&refusal, header)),
        (Answers::Put { key }, Ok(Reply::Keys(reply))) => put_reply(header, &key, reply).map(Body::Put),
        (Answers::Delete, Ok(Reply::Keys(reply))) => delete_reply(header, reply).map(Body::Delete),
        (Answers::Txn, Ok(Reply::Keys(reply))) => {
            convert::txn_result(&reply).map(|result| Body::Txn(TxnReply { header: Some(header), result: Some(result) }))
        }
        (Answers::Put { .. } | Answers::Delete | Answers::Txn | Answers::Read, Ok(_)) => None,
    };
    body.unwrap_or_else(|| Body::Error(wrong()))
}

/// The state machine answered with another command's reply: a bug, and nothing is known about the effect.
fn wrong() -> ErrorDetail {
    status::unknown(Kind::Unspecified, "the state machine gave another answer")
}

/// Bytes that a call holds here, near enough for bounding.
fn weight(request: &Option<Request>) -> usize {
    const FRAME: usize = 128; // ids, lengths, and what we keep of a call
    FRAME
        + match request {
            Some(Request::Put(put)) => put.key.len() + put.value.len(),
            Some(Request::Get(get)) => get.key.len(),
            Some(Request::Delete(delete)) => delete.encoded_len(),
            Some(Request::Range(range)) => range.encoded_len(),
            Some(Request::Txn(txn)) => txn.encoded_len(),
            None => 0,
        }
}

/// Bytes of an answer, near enough for bounding.
fn size(body: &Body) -> usize {
    const FRAME: usize = 64; // a header, lengths
    FRAME
        + match body {
            Body::Get(get) => get.kv.as_ref().map_or(0, |kv| kv.key.len() + kv.value.len()),
            Body::Range(range) => range.encoded_len(),
            Body::Txn(txn) => txn.encoded_len(),
            Body::Error(error) => error.encoded_len(),
            Body::Put(put) => put.previous.as_ref().map_or(0, |kv| kv.key.len() + kv.value.len()),
            Body::Delete(delete) if delete.previous.is_empty() => 0,
            Body::Delete(delete) => delete.encoded_len(),
        }
}

async fn sleep_until(api: &Api, at: Option<Duration>) {
    match at {
        Some(at) => api.world.sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// The stream cannot go on: what it had open may have been applied.
fn broken(field: &str, value: impl ToString, limit: impl ToString) -> Status {
    let detail = convert::invalid(field, value, limit);
    status::refuse(ErrorDetail { outcome: status::unknown(Kind::InvalidArgument, "").outcome, ..detail })
}

fn late() -> Status {
    let hint = format!("a call had no outcome within {ANSWER_LIMIT:?}");
    status::refuse(status::unknown(Kind::LostLeadership, hint))
}
