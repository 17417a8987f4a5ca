//! The way to one other process: two connections, one for control and one for everything else, with one stream at a time on each,
//! opened again when it is needed after a break.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use palisade_fence::Token;
use palisade_world::World;
use prost::Message;
use tonic::transport::Channel;

use super::VERSION;
use super::open::Open;
use super::sender::Sender;
use crate::inbound::Payload;
use crate::interface::Lane;
use crate::v1::{Frame, Handshake, Welcome, frame};
use crate::{ConnectError, RpcAddress, RpcError};

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// The way to one other process.
pub(crate) struct Link {
    world: World,
    address: String,
    max_message: usize,
    control: Way,
    work: Way,
    next_stream: AtomicU32,
    next_sender: AtomicU32,
}

/// One connection, and the stream on it.
struct Way {
    channel: Channel,
    current: Mutex<Current>,
}

enum Current {
    None,
    Open(Arc<Open>),
    Closed,
}

impl Way {
    fn new(channel: Channel) -> Way {
        Way { channel, current: Mutex::new(Current::None) }
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Link {
    pub(crate) fn new(world: World, address: String, [control, work]: [Channel; 2], max_message: usize) -> Link {
        let (control, work) = (Way::new(control), Way::new(work));
        let (next_stream, next_sender) = (AtomicU32::new(1), AtomicU32::new(1));
        Link { world, address, max_message, control, work, next_stream, next_sender }
    }

    /// Asks whether the endpoint is there and serves the interface; the answer says how many tells it has room for.
    pub(crate) async fn handshake(&self, address: &RpcAddress, interface: &str) -> Result<Welcome, ConnectError> {
        let endpoint = Arc::from(address.endpoint());
        let ask = || {
            self.open(Lane::Work)?.ask_frame(&endpoint, |id| {
                let handshake = Handshake {
                    id,
                    version: VERSION,
                    endpoint: address.endpoint().to_owned(),
                    interface: interface.to_owned(),
                };
                Frame { kind: Some(frame::Kind::Handshake(handshake)) }
            })
        };
        let answered = match ask() {
            Ok(waiting) => self.world.timeout(HANDSHAKE, waiting.answer()).await,
            Err(error) => Some(Err(error)),
        };
        let address = address.to_string();
        match answered {
            Some(Ok(welcome)) => {
                welcome.take().map_err(|why| ConnectError::Handshake { address, why: format!("its welcome: {why}") })
            }
            Some(Err(RpcError::NoSuchEndpoint { .. })) => Err(ConnectError::NoSuchEndpoint { address }),
            Some(Err(RpcError::Invalid { why })) => Err(ConnectError::Handshake { address, why }),
            Some(Err(error)) => Err(ConnectError::Unreachable { address, why: error.to_string() }),
            None => Err(ConnectError::Unreachable { address, why: format!("no answer within {HANDSHAKE:?}") }),
        }
    }

    /// Sends an ask and waits for its answer. Dropping the future cancels the call.
    pub(crate) async fn ask<Q: Message>(
        &self,
        sender: &Sender,
        method: usize,
        token: Option<Token>,
        request: &Q,
        limit: Duration,
    ) -> Result<Payload, RpcError> {
        self.check_size(request)?;
        let waiting = self.open(sender.interface.methods[method].lane)?.ask(sender, method, token, request, limit)?;
        match self.world.timeout(limit, waiting.answer()).await {
            Some(result) => result,
            None => Err(RpcError::TimedOut { limit }),
        }
    }

    /// Sends a tell.
    pub(crate) fn tell<Q: Message>(
        &self,
        sender: &Sender,
        method: usize,
        token: Option<Token>,
        request: &Q,
    ) -> Result<(), RpcError> {
        self.check_size(request)?;
        self.open(sender.interface.methods[method].lane)?.tell(sender, method, token, request)
    }

    /// Resolves when the way has room for more frames.
    pub(crate) async fn room(&self, lane: Lane) -> Result<(), RpcError> {
        self.open(lane)?.room().await;
        Ok(())
    }

    pub(crate) fn close(&self) {
        for way in [&self.control, &self.work] {
            let before = std::mem::replace(&mut *way.current(), Current::Closed);
            if let Current::Open(open) = before {
                open.break_off("the RPC service was closed");
            }
        }
    }

    /// A gateway is gone.
    pub(crate) fn forget(&self, sender: &Sender) {
        for way in [&self.control, &self.work] {
            let open = match &*way.current() {
                Current::Open(open) => open.clone(),
                Current::None | Current::Closed => continue,
            };
            open.forget(sender);
        }
    }

    pub(crate) fn number_sender(&self) -> u32 {
        // 24 bits of a tell's id.
        (self.next_sender.fetch_add(1, Ordering::Relaxed) & 0x00ff_ffff).max(1)
    }

    /// The open stream, or a new one.
    fn open(&self, lane: Lane) -> Result<Arc<Open>, RpcError> {
        let way = match lane {
            Lane::Control => &self.control,
            Lane::Work => &self.work,
        };
        let mut current = way.current();
        match &*current {
            Current::Closed => Err(RpcError::Unreachable { why: "the RPC service is closed".to_owned() }),
            Current::Open(open) if !open.is_broken() => Ok(open.clone()),
            Current::Open(_) | Current::None => {
                let number = self.next_stream.fetch_add(1, Ordering::Relaxed).max(1);
                let open =
                    Open::start((number, lane), &self.world, &self.address, way.channel.clone(), self.max_message);
                *current = Current::Open(open.clone());
                Ok(open)
            }
        }
    }

    fn check_size(&self, request: &impl Message) -> Result<(), RpcError> {
        match request.encoded_len() {
            size if size > self.max_message => {
                Err(RpcError::TooLarge { size: size as u64, limit: self.max_message as u64 })
            }
            _ => Ok(()),
        }
    }
}
