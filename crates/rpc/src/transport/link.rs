//! The way to one other process: one stream at a time, opened again when it is needed after a break.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use palisade_fence::Token;
use palisade_world::World;
use tonic::transport::Channel;

use super::VERSION;
use super::open::{Open, Report};
use crate::gateway::learn;
use crate::inbound::{Claim, Payload};
use crate::v1::{Call, Frame, Handshake, frame};
use crate::{ConnectError, Refusals, RpcAddress, RpcError};

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// A message ready to be framed.
pub(crate) struct Outbound {
    pub(crate) endpoint: Arc<str>,
    pub(crate) interface: &'static str,
    pub(crate) method: &'static str,
    pub(crate) claim: Claim,
    pub(crate) limit: Option<Duration>,
}

/// The way to one other process.
pub(crate) struct Link {
    world: World,
    address: String,
    channel: Channel,
    max_message: usize,
    current: Mutex<Current>,
    next_teller: AtomicU32,
}

enum Current {
    None,
    Open(Arc<Open>),
    Closed,
}

/// The tells of one gateway over one link.
pub(crate) struct Teller {
    link: Arc<Link>,
    number: u32,
    report: Arc<Report>,
}

impl Link {
    pub(crate) fn new(world: World, address: String, channel: Channel, max_message: usize) -> Link {
        Link {
            world,
            address,
            channel,
            max_message,
            current: Mutex::new(Current::None),
            next_teller: AtomicU32::new(1),
        }
    }

    /// Asks whether the endpoint is there and serves the interface.
    pub(crate) async fn handshake(&self, address: &RpcAddress, interface: &str) -> Result<(), ConnectError> {
        let endpoint = Arc::from(address.endpoint());
        let ask = || {
            self.open()?.ask(&endpoint, |id| {
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
            Some(Ok(_)) => Ok(()),
            Some(Err(RpcError::NoSuchEndpoint { .. })) => Err(ConnectError::NoSuchEndpoint { address }),
            Some(Err(RpcError::Invalid { why })) => Err(ConnectError::Handshake { address, why }),
            Some(Err(error)) => Err(ConnectError::Unreachable { address, why: error.to_string() }),
            None => Err(ConnectError::Unreachable { address, why: format!("no answer within {HANDSHAKE:?}") }),
        }
    }

    pub(crate) async fn ask(&self, outbound: Outbound, payload: Vec<u8>, limit: Duration) -> Result<Payload, RpcError> {
        self.check_size(&payload)?;
        let endpoint = outbound.endpoint.clone();
        let waiting = self.open()?.ask(&endpoint, |id| call(id, outbound, payload, Form::Ask))?;
        match self.world.timeout(limit, waiting.answer()).await {
            Some(result) => result,
            None => Err(RpcError::TimedOut { limit }),
        }
    }

    pub(crate) fn close(&self) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *current, Current::Closed);
        drop(current);
        if let Current::Open(open) = before {
            open.break_off("the RPC service was closed");
        }
    }

    /// The open stream, or a new one.
    fn open(&self) -> Result<Arc<Open>, RpcError> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        match &*current {
            Current::Closed => Err(RpcError::Unreachable { why: "the RPC service is closed".to_owned() }),
            Current::Open(open) if !open.is_broken() => Ok(open.clone()),
            Current::Open(_) | Current::None => {
                let open = Open::start(&self.world, &self.address, self.channel.clone(), self.max_message);
                *current = Current::Open(open.clone());
                Ok(open)
            }
        }
    }

    fn check_size(&self, payload: &[u8]) -> Result<(), RpcError> {
        match payload.len() {
            size if size > self.max_message => {
                Err(RpcError::TooLarge { size: size as u64, limit: self.max_message as u64 })
            }
            _ => Ok(()),
        }
    }
}

impl Teller {
    /// A number of its own, by which refusals find their way back.
    pub(crate) fn new(link: Arc<Link>, refusals: Refusals, seen: Option<Arc<AtomicU64>>) -> Teller {
        let number = link.next_teller.fetch_add(1, Ordering::Relaxed) & 0x00ff_ffff;
        let report: Report = Box::new(move |refusal| {
            learn(seen.as_deref(), &refusal.error);
            refusals.push(refusal);
        });
        Teller { link, number: number.max(1), report: Arc::new(report) }
    }

    pub(crate) fn tell(&self, outbound: Outbound, payload: Vec<u8>) -> Result<(), RpcError> {
        self.link.check_size(&payload)?;
        let endpoint = outbound.endpoint.clone();
        self.link.open()?.tell(self.number, &endpoint, &self.report, |id| call(id, outbound, payload, Form::Tell))
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        if let Current::Open(open) = &*self.link.current.lock().unwrap_or_else(PoisonError::into_inner) {
            open.forget(self.number);
        }
    }
}

#[derive(PartialEq)]
enum Form {
    Tell,
    Ask,
}

fn call(id: u64, outbound: Outbound, payload: Vec<u8>, form: Form) -> Frame {
    let Outbound { endpoint, interface, method, claim, limit } = outbound;
    let call = Call {
        id,
        endpoint: endpoint.to_string(),
        interface: interface.to_owned(),
        method: method.to_owned(),
        cluster: claim.cluster.map_or(0, |cluster| cluster.0),
        election: claim.election.to_string(),
        token: claim.token.map_or(0, Token::get),
        // Rounded up: a caller that waits for less than a millisecond still has a deadline.
        deadline_ms: limit
            .map_or(0, |limit| u64::try_from(limit.as_micros().div_ceil(1000)).unwrap_or(u64::MAX).max(1)),
        payload: payload.into(),
        tell: form == Form::Tell,
    };
    Frame { kind: Some(frame::Kind::Call(call)) }
}
