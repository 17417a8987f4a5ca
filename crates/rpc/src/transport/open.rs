//! One open stream to another process, seen from the caller: what is queued, what is awaited. It lives until the stream breaks
//! and is never mended; its link opens another.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use palisade_fence::Token;
use palisade_world::{Task, World};
use prost::Message;
use prost::bytes::Bytes;
use tokio::sync::oneshot;
use tonic::transport::Channel;

use super::frames::{BadBatch, Piece, Unbatched, call_frame, error_of};
use super::outbox::{Bound, NotQueued, Outbox};
use super::running::run;
use super::sender::{Route, Sender};
use super::{MAX_IN_FLIGHT, MAX_ROUTES, TELLER_SHIFT, VERSION};
use crate::inbound::Payload;
use crate::interface::Lane;
use crate::tells::Tells;
use crate::v1::{Answer, Call, Cancel, Forget, Frame, Handshake, answer, frame};
use crate::{Refusal, RpcError};

/// What waits to be sent; beyond it the answer is `Overloaded`. Six messages of the largest size.
const QUEUE: Bound = Bound { frames: 65_536, bytes: 64 << 20 };

/// One ask under way.
struct Pending {
    answer: oneshot::Sender<Result<Payload, RpcError>>,
    endpoint: Arc<str>,
    /// Its place in the queue.
    place: u64,
}

/// An open stream, or one that is being opened.
pub(crate) struct Open {
    /// Unique among the streams of a link; 0 is none.
    number: u32,
    lane: Lane,
    outbox: Arc<Outbox>,
    state: Mutex<State>,
    next_id: AtomicU64,
    broken: AtomicBool,
    /// Ends with the last user of the stream.
    task: Mutex<Option<Task<()>>>,
}

#[derive(Default)]
struct State {
    pending: BTreeMap<u64, Pending>,
    /// By the number of their sender, which is the upper part of a tell's id.
    tellers: BTreeMap<u32, Teller>,
    routes: u32,
    free_routes: Vec<Route>,
    /// Why the stream has ended.
    broken: Option<String>,
}

struct Teller {
    endpoint: Arc<str>,
    tells: Weak<Tells>,
}

impl Open {
    /// Begins to open a stream; what is queued meanwhile is sent when it is open.
    pub(crate) fn start(
        (number, lane): (u32, Lane),
        world: &World,
        address: &str,
        channel: Channel,
        max_message: usize,
    ) -> Arc<Open> {
        let open = Arc::new(Open {
            number,
            lane,
            outbox: Arc::default(),
            state: Mutex::default(),
            next_id: AtomicU64::new(1),
            broken: AtomicBool::new(false),
            task: Mutex::new(None),
        });
        let greeting = Handshake { version: VERSION, ..Handshake::default() };
        let greeting = Frame { kind: Some(frame::Kind::Handshake(greeting)) };
        open.outbox.push(&greeting, None).expect("a new queue takes in the first frame");
        // The task holds the stream weakly: it ends with the last user of the stream.
        let running =
            run(Arc::downgrade(&open), open.outbox.clone(), world.clone(), address.to_owned(), channel, max_message);
        let task = world.spawn("rpc stream", running);
        *open.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
        open
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }

    /// Resolves when it has room for more frames.
    pub(crate) async fn room(&self) {
        self.outbox.room(QUEUE).await;
    }

    /// Zero is the greeting's.
    fn id(&self) -> u64 {
        loop {
            let id = self.next_id.fetch_add(1, Ordering::Relaxed) & ((1 << TELLER_SHIFT) - 1);
            if id != 0 {
                return id;
            }
        }
    }

    /// Queues a frame whose answer is awaited; `frame` gets the id.
    pub(crate) fn ask_frame(
        self: &Arc<Self>,
        endpoint: &Arc<str>,
        frame: impl FnOnce(u64) -> Frame,
    ) -> Result<Waiting, RpcError> {
        let id = self.id();
        self.await_answer(id, endpoint, |open, _| open.queue(&frame(id)))
    }

    /// Queues an ask.
    pub(crate) fn ask<Q: Message>(
        self: &Arc<Self>,
        sender: &Sender,
        method: usize,
        token: Option<Token>,
        request: &Q,
        limit: Duration,
    ) -> Result<Waiting, RpcError> {
        let id = self.id();
        // Rounded up: a caller that waits for less than a millisecond still has a deadline.
        let deadline_ms = u64::try_from(limit.as_micros().div_ceil(1000)).unwrap_or(u64::MAX).max(1);
        self.await_answer(id, &sender.endpoint, |open, state| match sender.route(method, open.number) {
            Some(route) => open.queue_call(&Call { deadline_ms, ..sender.short(route, id, token) }, request),
            None => open.queue_first(state, sender, method, |full| Call { id, deadline_ms, ..full }, token, request),
        })
    }

    fn await_answer(
        self: &Arc<Self>,
        id: u64,
        endpoint: &Arc<str>,
        queue: impl FnOnce(&Open, &mut State) -> Result<u64, RpcError>,
    ) -> Result<Waiting, RpcError> {
        let (sender, answer) = oneshot::channel();
        let mut state = self.state();
        if let Some(why) = &state.broken {
            return Err(RpcError::Unreachable { why: why.clone() });
        }
        if state.pending.len() >= MAX_IN_FLIGHT {
            return Err(RpcError::Overloaded { limit: MAX_IN_FLIGHT as u64 });
        }
        // The answer can only be taken up under the same lock.
        let place = queue(self, &mut state)?;
        state.pending.insert(id, Pending { answer: sender, endpoint: endpoint.clone(), place });
        drop(state);
        Ok(Waiting { open: self.clone(), id, answer: Some(answer) })
    }

    /// Queues a tell.
    pub(crate) fn tell<Q: Message>(
        &self,
        sender: &Sender,
        method: usize,
        token: Option<Token>,
        request: &Q,
    ) -> Result<(), RpcError> {
        let tell = |call: Call| Call { tell: true, ..call };
        let id = self.id() | (u64::from(sender.number) << TELLER_SHIFT);
        let queued = match sender.route(method, self.number) {
            Some(route) => {
                sender.tells.window(self.lane).take()?;
                self.queue_call(&tell(sender.short(route, id, token)), request)
            }
            None => {
                let mut state = self.state();
                if let Some(why) = &state.broken {
                    return Err(RpcError::Unreachable { why: why.clone() });
                }
                self.register(&mut state, sender);
                sender.tells.window(self.lane).take()?;
                self.queue_first(&mut state, sender, method, |full| tell(Call { id, ..full }), token, request)
            }
        };
        if let Err(error) = queued {
            sender.tells.window(self.lane).give_back();
            return Err(error);
        }
        // Broken between the look and the queue: the break's own report may have missed this one.
        if self.is_broken() {
            let why = self.state().broken.clone().unwrap_or_default();
            sender.tells.report(Refusal { method: String::new(), error: RpcError::Disconnected { why } });
        }
        Ok(())
    }

    /// Makes the sender's refusals and credits find it on this stream.
    fn register(&self, state: &mut State, sender: &Sender) {
        state.tellers.entry(sender.number).or_insert_with(|| {
            sender.tells.window(self.lane).restart();
            Teller { endpoint: sender.endpoint.clone(), tells: Arc::downgrade(&sender.tells) }
        });
    }

    /// Queues the first call of a method on this stream: it names everything, and gives a route its meaning.
    fn queue_first<Q: Message>(
        &self,
        state: &mut State,
        sender: &Sender,
        method: usize,
        call: impl FnOnce(Call) -> Call,
        token: Option<Token>,
        request: &Q,
    ) -> Result<u64, RpcError> {
        // Somebody else may have been first.
        if let Some(route) = sender.route(method, self.number) {
            return self.queue_call(&call(sender.short(route, 0, token)), request);
        }
        let route = state.free_routes.pop().or_else(|| {
            let next = state.routes + 1;
            (next < MAX_ROUTES).then(|| {
                state.routes = next;
                Route(next)
            })
        });
        let queued = self.queue_call(&call(sender.full(method, route, 0, token)), request);
        match (route, &queued) {
            (Some(route), Ok(_)) => sender.set_route(method, self.number, route),
            (Some(route), Err(_)) => state.free_routes.push(route),
            (None, _) => {}
        }
        queued
    }

    fn queue_call<Q: Message>(&self, head: &Call, request: &Q) -> Result<u64, RpcError> {
        self.queue(&call_frame(head, request))
    }

    fn queue(&self, piece: &impl Piece) -> Result<u64, RpcError> {
        self.outbox.push(piece, Some(QUEUE)).map_err(|not| match not {
            NotQueued::Full => RpcError::Overloaded { limit: QUEUE.frames as u64 },
            NotQueued::Ended => RpcError::Unreachable { why: "the stream has ended".to_owned() },
        })
    }

    /// A gateway is gone: its routes may be given again, after the other side has heard so.
    pub(crate) fn forget(&self, sender: &Sender) {
        let mut state = self.state();
        state.tellers.remove(&sender.number);
        for route in sender.routes(self.number) {
            let forget = Frame { kind: Some(frame::Kind::Forget(Forget { route: route.0 })) };
            if self.outbox.push(&forget, None).is_ok() {
                state.free_routes.push(route);
            }
        }
    }

    /// A batch has come.
    pub(super) fn received(&self, batch: Bytes) -> Result<(), BadBatch> {
        // Read before the lock is taken, and told after it: callers wait for the lock.
        let frames = Unbatched(batch).collect::<Result<Vec<_>, _>>()?;
        let mut answered = Vec::with_capacity(frames.len());
        {
            let mut state = self.state();
            for frame in frames {
                match frame.kind {
                    Some(frame::Kind::Answer(answer)) => {
                        answered.extend(state.find(&answer).map(|whose| (whose, answer)));
                    }
                    Some(frame::Kind::Credit(credit)) => {
                        let teller = u32::try_from(credit.teller).ok().and_then(|teller| state.tellers.get(&teller));
                        if let Some(tells) = teller.and_then(|teller| teller.tells.upgrade()) {
                            tells.window(self.lane).handled(credit.handled);
                        }
                    }
                    // Nothing that a caller is sent, or a frame of a later version.
                    _ => {}
                }
            }
        }
        for (whose, answer) in answered {
            whose.take(answer);
        }
        Ok(())
    }

    /// Answers everything that is on the way: what was sent is unknown, what was not is surely not handled.
    pub(crate) fn break_off(&self, why: &str) {
        let (pending, tellers, sent_below) = {
            let mut state = self.state();
            if state.broken.is_some() {
                return;
            }
            state.broken = Some(why.to_owned());
            self.broken.store(true, Ordering::Release);
            (std::mem::take(&mut state.pending), std::mem::take(&mut state.tellers), self.outbox.end())
        };
        for (_, pending) in pending {
            let error = match pending.place < sent_below {
                true => RpcError::Disconnected { why: why.to_owned() },
                false => RpcError::Unreachable { why: why.to_owned() },
            };
            let _ = pending.answer.send(Err(error)); // given up meanwhile
        }
        for tells in tellers.into_values().filter_map(|teller| teller.tells.upgrade()) {
            let window = tells.window(self.lane);
            if !window.settled() {
                let error = RpcError::Disconnected { why: why.to_owned() };
                tells.report(Refusal { method: String::new(), error });
            }
            // What was on the way is not any more: whoever waits for room goes on.
            window.restart();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.outbox.end();
    }
}

/// Whose answer it is.
enum Whose {
    Ask(Pending),
    Tell(Arc<str>, Arc<Tells>),
}

impl State {
    fn find(&mut self, answer: &Answer) -> Option<Whose> {
        match u32::try_from(answer.id >> TELLER_SHIFT) {
            // `None`: given up meanwhile.
            Ok(0) => self.pending.remove(&answer.id).map(Whose::Ask),
            Ok(teller) => {
                let teller = self.tellers.get(&teller)?;
                Some(Whose::Tell(teller.endpoint.clone(), teller.tells.upgrade()?))
            }
            Err(_) => None,
        }
    }
}

impl Whose {
    fn take(self, Answer { result, .. }: Answer) {
        match self {
            Whose::Ask(Pending { answer, endpoint, .. }) => {
                let result = match result {
                    Some(answer::Result::Payload(bytes)) => Ok(Payload::Encoded(bytes)),
                    Some(answer::Result::Error(error)) => Err(error_of(error, &endpoint)),
                    None => Err(RpcError::BadReply { why: "an answer without a result".to_owned() }),
                };
                let _ = answer.send(result); // given up meanwhile
            }
            Whose::Tell(endpoint, tells) => {
                if let Some(answer::Result::Error(error)) = result {
                    let method = error.method.clone();
                    tells.report(Refusal { method, error: error_of(error, &endpoint) });
                }
            }
        }
    }
}

/// An ask whose answer is awaited. Dropping it gives the call up, here and over there.
pub(crate) struct Waiting {
    open: Arc<Open>,
    id: u64,
    answer: Option<oneshot::Receiver<Result<Payload, RpcError>>>,
}

impl Waiting {
    pub(crate) async fn answer(mut self) -> Result<Payload, RpcError> {
        let answer = self.answer.as_mut().expect("taken once");
        let result = answer.await.unwrap_or(Err(RpcError::Disconnected { why: "the stream has ended".to_owned() }));
        self.answer = None;
        result
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.answer.is_none() || self.open.state().pending.remove(&self.id).is_none() {
            return;
        }
        let cancel = Frame { kind: Some(frame::Kind::Cancel(Cancel { id: self.id })) };
        // If the queue is full, the deadline will do.
        let _ = self.open.queue(&cancel);
    }
}
