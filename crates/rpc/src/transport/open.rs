//! One open stream to another process, seen from the caller: what is queued, what is awaited. It lives until the stream breaks
//! and is never mended; its link opens another.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use futures_util::stream::{self, Stream};
use palisade_world::{Task, World};
use tokio::sync::{mpsc, oneshot};
use tonic::transport::Channel;

use super::frames::{batch_of, error_of, frame_size, next_batch};
use super::{BATCH_BYTES, FRAME_OVERHEAD, VERSION};
use crate::inbound::Payload;
use crate::v1::envelope_client::EnvelopeClient;
use crate::v1::{Answer, Frame, Frames, Handshake, answer, frame};
use crate::{Refusal, RpcError};

/// Frames that wait to be sent; beyond it the answer is `Overloaded`.
const QUEUE: usize = 8192;

/// Bytes that wait to be sent, with the same end: six messages of the largest size.
const QUEUE_BYTES: usize = 64 << 20;

/// Asks that wait for an answer on one stream. Every one is a small entry in a map here and an await over there.
const MAX_IN_FLIGHT: usize = 65_536;

/// How long a stream may take to open, connecting included. The connector itself gives up after 500 ms.
const OPEN: std::time::Duration = std::time::Duration::from_secs(2);

/// One ask under way.
struct Pending {
    answer: oneshot::Sender<Result<Payload, RpcError>>,
    endpoint: Arc<str>,
    sent: bool,
}

/// Where the refusals of a gateway's tells go.
pub(crate) type Report = Box<dyn Fn(Refusal) + Send + Sync>;

/// An open stream, or one that is being opened.
pub(crate) struct Open {
    /// Without a bound of its own: see `QUEUE` and `QUEUE_BYTES`.
    queue: mpsc::UnboundedSender<Frame>,
    queued: AtomicUsize,
    queued_bytes: AtomicUsize,
    state: Mutex<State>,
    /// Ends with the last user of the stream.
    task: Mutex<Option<Task<()>>>,
}

struct State {
    next_id: u64,
    pending: BTreeMap<u64, Pending>,
    /// Tells are told apart by their gateway: refusals name the upper half of the id.
    tellers: BTreeMap<u32, (Arc<str>, Weak<Report>)>,
    /// Why the stream has ended.
    broken: Option<String>,
}

/// The lower bits of a tell's id count, the upper ones name its gateway; an ask has none.
const TELLER_SHIFT: u32 = 40;

/// Zero is the greeting's.
fn next(id: u64) -> u64 {
    ((id + 1) & ((1 << TELLER_SHIFT) - 1)).max(1)
}

impl Open {
    /// Begins to open a stream; what is queued meanwhile is sent when it is open.
    pub(crate) fn start(world: &World, address: &str, channel: Channel, max_message: usize) -> Arc<Open> {
        let (queue, queued) = mpsc::unbounded_channel();
        let open = Arc::new(Open {
            queue,
            queued: AtomicUsize::new(0),
            queued_bytes: AtomicUsize::new(0),
            state: Mutex::new(State { next_id: 1, pending: BTreeMap::new(), tellers: BTreeMap::new(), broken: None }),
            task: Mutex::new(None),
        });
        let greeting = Handshake { version: VERSION, ..Handshake::default() };
        open.enqueue(Frame { kind: Some(frame::Kind::Handshake(greeting)) }).expect("a new queue has room for one");
        // The task holds the stream weakly: it ends with the last user of the stream.
        let task = world.spawn(
            "rpc stream",
            run(Arc::downgrade(&open), world.clone(), address.to_owned(), channel, queued, max_message),
        );
        *open.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
        open
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.state().broken.is_some()
    }

    /// Queues a frame whose answer is awaited; `frame` gets the id.
    pub(crate) fn ask(
        self: &Arc<Self>,
        endpoint: &Arc<str>,
        frame: impl FnOnce(u64) -> Frame,
    ) -> Result<Waiting, RpcError> {
        let (sender, answer) = oneshot::channel();
        let id = {
            let mut state = self.state();
            if let Some(why) = &state.broken {
                return Err(RpcError::Unreachable { why: why.clone() });
            }
            if state.pending.len() >= MAX_IN_FLIGHT {
                return Err(RpcError::Overloaded { limit: MAX_IN_FLIGHT as u64 });
            }
            let id = state.next_id;
            state.next_id = next(id);
            state.pending.insert(id, Pending { answer: sender, endpoint: endpoint.clone(), sent: false });
            id
        };
        if let Err(error) = self.enqueue(frame(id)) {
            self.state().pending.remove(&id);
            return Err(error);
        }
        Ok(Waiting { open: self.clone(), id, answer: Some(answer) })
    }

    /// Queues a frame without an answer, on behalf of the gateway `teller`.
    pub(crate) fn tell(
        &self,
        teller: u32,
        endpoint: &Arc<str>,
        report: &Arc<Report>,
        frame: impl FnOnce(u64) -> Frame,
    ) -> Result<(), RpcError> {
        let id = {
            let mut state = self.state();
            if let Some(why) = &state.broken {
                return Err(RpcError::Unreachable { why: why.clone() });
            }
            state.tellers.entry(teller).or_insert_with(|| (endpoint.clone(), Arc::downgrade(report)));
            let id = state.next_id;
            state.next_id = next(id);
            id | (u64::from(teller) << TELLER_SHIFT)
        };
        self.enqueue(frame(id))?;
        // Broken between the look and the queue: the break's own report may have missed this one.
        if let Some(why) = self.state().broken.clone() {
            report(Refusal { method: String::new(), error: RpcError::Disconnected { why } });
        }
        Ok(())
    }

    /// A gateway is gone.
    pub(crate) fn forget(&self, teller: u32) {
        self.state().tellers.remove(&teller);
    }

    fn enqueue(&self, frame: Frame) -> Result<(), RpcError> {
        let size = frame_size(&frame);
        let frames = self.queued.fetch_add(1, Ordering::AcqRel) + 1;
        let bytes = self.queued_bytes.fetch_add(size, Ordering::AcqRel) + size;
        let refused = if frames > QUEUE || bytes > QUEUE_BYTES {
            RpcError::Overloaded { limit: QUEUE as u64 }
        } else if self.queue.send(frame).is_ok() {
            return Ok(());
        } else {
            let why = self.state().broken.clone().unwrap_or_else(|| "the stream has ended".to_owned());
            RpcError::Unreachable { why }
        };
        self.queued.fetch_sub(1, Ordering::AcqRel);
        self.queued_bytes.fetch_sub(size, Ordering::AcqRel);
        Err(refused)
    }

    /// From here on the frames may reach the other side.
    fn mark_sent(&self, frames: &[Frame]) {
        self.queued.fetch_sub(frames.len(), Ordering::AcqRel);
        self.queued_bytes.fetch_sub(frames.iter().map(frame_size).sum(), Ordering::AcqRel);
        let mut state = self.state();
        for frame in frames {
            let id = match &frame.kind {
                Some(frame::Kind::Call(call)) if !call.tell => call.id,
                Some(frame::Kind::Handshake(handshake)) => handshake.id,
                _ => continue,
            };
            if let Some(pending) = state.pending.get_mut(&id) {
                pending.sent = true;
            }
        }
    }

    fn answered(&self, answer: Answer) {
        let Answer { id, result } = answer;
        let teller = u32::try_from(id >> TELLER_SHIFT).unwrap_or(0);
        if teller != 0 {
            return self.refused(teller, result);
        }
        let Some(pending) = self.state().pending.remove(&id) else { return }; // given up meanwhile
        let result = match result {
            Some(answer::Result::Payload(bytes)) => Ok(Payload::Encoded(bytes)),
            Some(answer::Result::Error(error)) => Err(error_of(error, &pending.endpoint)),
            None => Err(RpcError::BadReply { why: "an answer without a result".to_owned() }),
        };
        let _ = pending.answer.send(result); // given up meanwhile
    }

    fn refused(&self, teller: u32, result: Option<answer::Result>) {
        let Some(answer::Result::Error(error)) = result else { return };
        let found = self.state().tellers.get(&teller).and_then(|(id, report)| Some((id.clone(), report.upgrade()?)));
        if let Some((endpoint, report)) = found {
            let method = error.method.clone();
            report(Refusal { method, error: error_of(error, &endpoint) });
        }
    }

    /// Answers everything that is on the way: what was sent is unknown, what was not is surely not handled.
    pub(crate) fn break_off(&self, why: &str) {
        let (pending, tellers) = {
            let mut state = self.state();
            if state.broken.is_some() {
                return;
            }
            state.broken = Some(why.to_owned());
            (std::mem::take(&mut state.pending), std::mem::take(&mut state.tellers))
        };
        for (_, pending) in pending {
            let error = match pending.sent {
                true => RpcError::Disconnected { why: why.to_owned() },
                false => RpcError::Unreachable { why: why.to_owned() },
            };
            let _ = pending.answer.send(Err(error)); // given up meanwhile
        }
        for (_, (_, report)) in tellers {
            if let Some(report) = report.upgrade() {
                let error = RpcError::Disconnected { why: why.to_owned() };
                report(Refusal { method: String::new(), error });
            }
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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
        let cancel = crate::v1::Cancel { id: self.id };
        // If the queue is full, the deadline will do.
        let _ = self.open.enqueue(Frame { kind: Some(frame::Kind::Cancel(cancel)) });
    }
}

/// Opens the stream and reads its answers until it ends.
async fn run(
    open: Weak<Open>,
    world: World,
    address: String,
    channel: Channel,
    queued: mpsc::UnboundedReceiver<Frame>,
    max_message: usize,
) {
    let limit = max_message + BATCH_BYTES + FRAME_OVERHEAD;
    let mut client = EnvelopeClient::new(channel).max_decoding_message_size(limit).max_encoding_message_size(limit);
    let broken = |why: &str| {
        if let Some(open) = open.upgrade() {
            open.break_off(why);
        }
    };
    let opened = world.timeout(OPEN, client.open(outgoing(open.clone(), queued))).await;
    let mut answers = match opened {
        Some(Ok(response)) => response.into_inner(),
        Some(Err(status)) => return broken(&format!("{address}: {}", why(&status))),
        None => return broken(&format!("{address}: no stream within {OPEN:?}")),
    };
    loop {
        let frames = match answers.message().await {
            Ok(Some(Frames { frames })) => frames,
            Ok(None) => return broken(&format!("{address}: the process closed the stream")),
            Err(status) => return broken(&format!("{address}: {}", why(&status))),
        };
        let Some(open) = open.upgrade() else { return };
        for frame in frames {
            if let Some(frame::Kind::Answer(answer)) = frame.kind {
                open.answered(answer);
            }
        }
    }
}

/// What waits, in batches.
fn outgoing(open: Weak<Open>, queued: mpsc::UnboundedReceiver<Frame>) -> impl Stream<Item = Frames> + Send {
    stream::unfold((open, queued, None), |(open, mut queued, mut spare)| async move {
        let frames = next_batch(&mut queued, &mut spare, frame_size).await?;
        if let Some(open) = open.upgrade() {
            open.mark_sent(&frames);
        }
        Some((batch_of(frames), (open, queued, spare)))
    })
}

/// The innermost words of a status: what the socket said.
fn why(status: &tonic::Status) -> String {
    let mut text = status.message().to_owned();
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        text = error.to_string();
        source = error.source();
    }
    text
}
