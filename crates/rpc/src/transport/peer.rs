//! One process that calls us, over one stream: reads its frames, brings its calls to their endpoints, and sends back what they
//! answer. Keeps true: what one stream can make us keep is bounded; one that does not read its answers is not read from either.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use palisade_fence::{ClusterId, Token};
use palisade_planted::{self as planted, Bug};
use prost::Message;
use prost::bytes::Bytes;
use tonic::Streaming;

use super::frames::{Unbatched, answer_frame, error_answer, small_answer};
use super::outbox::{Bound, Outbox};
use super::{FRAME_OVERHEAD, MAX_IN_FLIGHT, MAX_ROUTES, TELLER_SHIFT, VERSION};
use crate::inbound::{Cancel, Claim, Inbound, Payload, ReplyTo, Sink};
use crate::recipient::{Deliver, Method};
use crate::registry::Registry;
use crate::v1::{Answer, Call, Credit, Frame, Handshake, frame};
use crate::{ConnectError, RpcError};

/// Answers that wait to be sent on one stream before we stop reading from it.
const UNREAD: Bound = Bound { frames: 65_536, bytes: 64 << 20 };

/// Gateways of one stream whose tells are counted; the tells of others are never credited.
const MAX_TELLERS: usize = 65_536;

/// A credit for at most so many tells: its price is nothing beside theirs.
const CREDIT_EVERY: u64 = 256;

/// One process that calls us.
pub(crate) struct Peer {
    registry: Arc<Registry>,
    max_message: usize,
    outbox: Arc<Outbox>,
    /// Asks that have not been answered, to be cancelled by id.
    asks: Arc<Asks>,
    routes: Vec<Option<Route>>,
    tellers: BTreeMap<u32, Arc<Teller>>,
    greeted: Greeted,
}

type Asks = Mutex<BTreeMap<u64, Arc<Cancel>>>;

#[derive(PartialEq)]
enum Greeted {
    No,
    Yes,
}

/// What the calls of one method of one gateway have in common.
struct Route {
    endpoint: Arc<str>,
    interface: String,
    method: Arc<str>,
    cluster: Option<ClusterId>,
    election: Arc<str>,
    teller: Option<Arc<Teller>>,
    /// Where it led when the registry was of that generation.
    found: Option<(u64, Arc<dyn Deliver>, Method)>,
}

/// The tells of one gateway, as far as they have come.
struct Teller {
    number: u32,
    every: u64,
    handled: AtomicU64,
    outbox: Arc<Outbox>,
}

impl Teller {
    fn handled_one(&self) {
        let handled = self.handled.fetch_add(1, Ordering::AcqRel) + 1;
        if handled.is_multiple_of(self.every) {
            let credit = Credit { teller: self.number.into(), handled };
            // The stream has ended: nobody counts any more.
            let _ = self.outbox.push(&Frame { kind: Some(frame::Kind::Credit(credit)) }, None);
        }
    }
}

impl Drop for Peer {
    /// The caller is gone, by its own end or with the stream of our answers: nobody wants them any more.
    fn drop(&mut self) {
        let asks = std::mem::take(&mut *lock(&self.asks));
        for cancel in asks.into_values() {
            cancel.cancel();
        }
    }
}

impl Peer {
    pub(crate) fn new(registry: Arc<Registry>, max_message: usize, outbox: Arc<Outbox>) -> Peer {
        let (asks, routes, tellers) = (Arc::default(), Vec::new(), BTreeMap::new());
        Peer { registry, max_message, outbox, asks, routes, tellers, greeted: Greeted::No }
    }

    /// Until the stream ends.
    pub(crate) async fn read(mut self, mut batches: Streaming<Bytes>) {
        loop {
            self.outbox.room(UNREAD).await;
            // An error is the caller's end or a broken connection: the same to us.
            let Ok(Some(batch)) = batches.message().await else { break };
            for frame in Unbatched(batch) {
                // Bytes that are no frames: whoever sends them is neither heard nor answered any further.
                let Ok(frame) = frame else {
                    {
                        self.outbox.end();
                        return;
                    }
                };
                self.on_frame(frame);
            }
        }
    }

    fn on_frame(&mut self, frame: Frame) {
        match frame.kind {
            Some(frame::Kind::Handshake(handshake)) => self.on_handshake(&handshake),
            Some(frame::Kind::Call(call)) if self.greeted == Greeted::Yes => {
                if call.tell && planted::is(Bug::TellTwice) {
                    self.on_call(call.clone());
                }
                self.on_call(call);
            }
            Some(frame::Kind::Call(call)) => {
                let why = "a call before the handshake".to_owned();
                self.send(&error_answer(call.id, &call.method, &RpcError::Invalid { why }));
            }
            Some(frame::Kind::Cancel(cancel)) => {
                let cancel = lock(&self.asks).remove(&cancel.id);
                if let Some(cancel) = cancel {
                    cancel.cancel();
                }
            }
            Some(frame::Kind::Forget(forget)) => self.forget(forget.route),
            // Nothing that a caller sends, or a frame of a later version.
            Some(frame::Kind::Answer(_) | frame::Kind::Credit(_)) | None => {}
        }
    }

    fn send(&self, frame: &Frame) {
        // The stream has ended: the caller knows already.
        let _ = self.outbox.push(frame, None);
    }

    fn on_handshake(&mut self, handshake: &Handshake) {
        let checked = if handshake.version != VERSION {
            let why = format!("version {} of the envelope, this side speaks {VERSION}", handshake.version);
            Err(RpcError::Invalid { why })
        } else {
            self.greeted = Greeted::Yes;
            self.served(handshake)
        };
        match checked {
            Ok(welcome) if handshake.id != 0 => self.send(&small_answer(handshake.id, &welcome)),
            Ok(_) => {}
            Err(error) => self.send(&error_answer(handshake.id, "", &error)),
        }
    }

    fn served(&self, handshake: &Handshake) -> Result<crate::v1::Welcome, RpcError> {
        if handshake.endpoint.is_empty() {
            return Ok(crate::v1::Welcome::default());
        }
        let served = self.registry.handshake(&handshake.endpoint, &handshake.interface);
        served.map(|window| crate::v1::Welcome { window }).map_err(|error| match error {
            ConnectError::NoSuchEndpoint { .. } => RpcError::NoSuchEndpoint { endpoint: handshake.endpoint.clone() },
            ConnectError::Handshake { why, .. } => RpcError::Invalid { why },
            other => RpcError::Invalid { why: other.to_string() },
        })
    }

    // --- routes ---

    fn forget(&mut self, route: u32) {
        let route = usize::try_from(route).ok().and_then(|route| self.routes.get_mut(route));
        // Routes are forgotten when their gateway is gone: so is its teller.
        if let Some(Route { teller: Some(teller), .. }) = route.and_then(Option::take) {
            self.tellers.remove(&teller.number);
        }
    }

    /// The route that a call goes by; one that names everything gives its number a meaning. `None`: the number means nothing.
    fn route(&mut self, call: &mut Call) -> Option<Result<usize, Box<Route>>> {
        let number = (call.route < MAX_ROUTES).then_some(usize::try_from(call.route).ok()).flatten()?;
        if call.endpoint.is_empty() && number != 0 {
            return self.routes.get(number)?.as_ref().map(|_| Ok(number));
        }
        let route = Route {
            endpoint: Arc::from(std::mem::take(&mut call.endpoint)),
            interface: std::mem::take(&mut call.interface),
            method: Arc::from(std::mem::take(&mut call.method)),
            cluster: (call.cluster != 0).then_some(ClusterId(call.cluster)),
            election: Arc::from(std::mem::take(&mut call.election)),
            teller: if call.tell { self.teller(call.id, call.window) } else { None },
            found: None,
        };
        if number == 0 {
            return Some(Err(Box::new(route)));
        }
        if self.routes.len() <= number {
            self.routes.resize_with(number + 1, || None);
        }
        self.routes[number] = Some(route);
        Some(Ok(number))
    }

    fn teller(&mut self, id: u64, window: u64) -> Option<Arc<Teller>> {
        let number = u32::try_from(id >> TELLER_SHIFT).ok().filter(|number| *number != 0)?;
        if self.tellers.len() >= MAX_TELLERS && !self.tellers.contains_key(&number) {
            return None;
        }
        let outbox = &self.outbox;
        let teller = self.tellers.entry(number).or_insert_with(|| {
            let every = (window / 4).clamp(1, CREDIT_EVERY);
            Arc::new(Teller { number, every, handled: AtomicU64::new(0), outbox: outbox.clone() })
        });
        Some(teller.clone())
    }

    // --- calls ---

    fn on_call(&mut self, mut call: Call) {
        let names = call.endpoint.len() + call.interface.len() + call.method.len() + call.election.len();
        if names > FRAME_OVERHEAD {
            // They may be kept for as long as the stream lives.
            let why = format!("the names of a call have {names} bytes, the limit is {FRAME_OVERHEAD}");
            return self.send(&error_answer(call.id, "", &RpcError::Invalid { why }));
        }
        match self.route(&mut call) {
            Some(Ok(number)) => {
                let mut route = self.routes[number].take().expect("it was just found");
                self.bring(&mut route, call);
                self.routes[number] = Some(route);
            }
            Some(Err(mut route)) => self.bring(&mut route, call),
            None => {
                let why = format!("route {} means nothing on this stream", call.route);
                self.send(&error_answer(call.id, &call.method, &RpcError::Invalid { why }));
            }
        }
    }

    fn bring(&self, route: &mut Route, call: Call) {
        let deadline = (call.deadline_ms > 0)
            .then(|| self.registry.world.now().saturating_add(Duration::from_millis(call.deadline_ms)));
        let (cancel, sink) = if call.tell {
            (None, Sink::Tell(self.reply_to_tell(route, call.id)))
        } else {
            match self.reply_to_ask(call.id) {
                Some((cancel, reply)) => (Some(cancel), Sink::Ask(reply)),
                None => {
                    let full = RpcError::Overloaded { limit: MAX_IN_FLIGHT as u64 };
                    return self.send(&error_answer(call.id, "", &full));
                }
            }
        };
        let reply = ReplyTo::with(route.endpoint.clone(), Some(self.max_message), sink);
        let claim =
            Claim { cluster: route.cluster, election: route.election.clone(), token: Token::from_wire(call.token) };
        let inbound = Inbound { claim, deadline, cancel, payload: Payload::Encoded(call.payload), reply };
        match self.find(route) {
            Some((live, method)) => live.deliver_to(method, inbound),
            None => self.registry.deliver(&route.endpoint, &route.interface, &route.method, inbound),
        }
    }

    /// Where a route leads. Looked up again only when endpoints came or went.
    fn find<'a>(&self, route: &'a mut Route) -> Option<(&'a Arc<dyn Deliver>, Method)> {
        let generation = self.registry.generation();
        if route.found.as_ref().is_none_or(|(of, ..)| *of != generation) {
            let found = self.registry.find(&route.endpoint, &route.interface, &route.method);
            route.found = found.map(|(live, method)| (generation, live, method));
        }
        route.found.as_ref().map(|(_, live, method)| (live, *method))
    }

    fn reply_to_tell(&self, route: &Route, id: u64) -> TellReply {
        let (outbox, method) = (self.outbox.clone(), route.method.clone());
        let mut teller = route.teller.clone();
        if planted::is(Bug::CreditAtArrival)
            && let Some(teller) = teller.take()
        {
            teller.handled_one();
        }
        TellReply { outbox, id, method, teller }
    }

    fn reply_to_ask(&self, id: u64) -> Option<(Arc<Cancel>, AskReply)> {
        let cancel = Arc::new(Cancel::default());
        let mut asks = lock(&self.asks);
        if asks.len() >= MAX_IN_FLIGHT {
            return None;
        }
        asks.insert(id, cancel.clone());
        Some((cancel, AskReply { outbox: self.outbox.clone(), asks: self.asks.clone(), id }))
    }
}

fn lock(asks: &Asks) -> MutexGuard<'_, BTreeMap<u64, Arc<Cancel>>> {
    asks.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The way back of an ask.
pub(crate) struct AskReply {
    outbox: Arc<Outbox>,
    asks: Arc<Asks>,
    id: u64,
}

impl AskReply {
    pub(crate) fn answer(self, reply: &impl Message) {
        lock(&self.asks).remove(&self.id);
        // The stream has ended: the caller knows already.
        let _ = self.outbox.push(&answer_frame(&Answer { id: self.id, result: None }, reply), None);
    }

    pub(crate) fn refuse(self, error: &RpcError) {
        lock(&self.asks).remove(&self.id);
        let _ = self.outbox.push(&error_answer(self.id, "", error), None); // as above
    }
}

/// The way back of a tell: only a refusal is reported.
pub(crate) struct TellReply {
    outbox: Arc<Outbox>,
    id: u64,
    method: Arc<str>,
    teller: Option<Arc<Teller>>,
}

impl TellReply {
    pub(crate) fn told(self) {
        if let Some(teller) = self.teller {
            teller.handled_one();
        }
    }

    pub(crate) fn refuse(self, error: &RpcError) {
        let _ = self.outbox.push(&error_answer(self.id, &self.method, error), None); // the stream has ended
        self.told();
    }
}
