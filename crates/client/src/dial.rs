//! Looks for the node that serves sessions: everywhere at once, until one accepts. The first that accepts wins.
//!
//! Nothing is decided here but where to knock; a node that accepts and then answers nothing is dropped by the session core.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use palisade_wire::coord::v1::session_service_client::SessionServiceClient;
use palisade_wire::coord::v1::{ClientFrame, ServerFrame};
use palisade_wire::status;
use tokio::sync::{Notify, mpsc};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Streaming;

use crate::backoff::{Backoff, WHILE_SEARCHING};
use crate::links::Purpose;
use crate::requests::Shared;

/// A session that attaches again is told all that it holds in one frame: 1,024 grants of 64 KiB, and some more.
const FRAME_BYTES: usize = 80 << 20;

/// How long a node may take to accept or refuse a stream: a connection over a bad link, and one round trip.
const ACCEPT: Duration = Duration::from_secs(1);

/// The least time between two knocks at one door, however many nodes point at it.
const GAP: Duration = Duration::from_millis(10);

/// Addresses that are knocked at, those from hints included: a cluster has at most some ten members.
const DOORS: usize = 32;

/// An accepted stream.
pub(crate) struct Dialed {
    pub(crate) address: String,
    /// Not bounded by itself: the session core sends a frame once, and waits for answers.
    pub(crate) send: mpsc::UnboundedSender<ClientFrame>,
    pub(crate) receive: Streaming<ServerFrame>,
}

/// One address, and whether somebody has just said that it leads.
struct Door {
    backoff: Backoff,
    hinted: Arc<Notify>,
}

/// Resolves with the first stream that a node accepts; never, if none does. Cancelling it closes what it opened.
pub(crate) async fn dial(shared: Arc<Shared>, hint: Option<String>) -> Dialed {
    let mut doors: BTreeMap<String, Door> = BTreeMap::new();
    let mut knocking = FuturesUnordered::new();
    let given = shared.links.endpoints().iter().cloned();
    for address in given.chain(hint) {
        doors.entry(address.clone()).or_insert_with(|| {
            knocking.push(Box::pin(knock(Arc::clone(&shared), address, Duration::ZERO, Arc::default())));
            Door::new()
        });
    }
    while let Some((address, answer)) = knocking.next().await {
        let hint = match answer {
            Ok(dialed) => return dialed,
            Err(hint) => hint,
        };
        let door = doors.get_mut(&address).expect("each address that is knocked at has a door");
        let pause = door.backoff.pause(&shared.world);
        knocking.push(Box::pin(knock(Arc::clone(&shared), address, pause, Arc::clone(&door.hinted))));
        let Some(hint) = hint else { continue };
        if let Some(known) = doors.get(&hint) {
            known.hinted.notify_one();
        } else if doors.len() < DOORS {
            knocking.push(Box::pin(knock(Arc::clone(&shared), hint.clone(), Duration::ZERO, Arc::default())));
            doors.insert(hint, Door::new());
        }
    }
    unreachable!("a door that did not open is knocked at again")
}

impl Door {
    fn new() -> Door {
        Door { backoff: Backoff::up_to(WHILE_SEARCHING), hinted: Arc::default() }
    }
}

/// Waits, then asks one node for a stream. A refusal may name another address.
async fn knock(
    shared: Arc<Shared>,
    address: String,
    pause: Duration,
    hinted: Arc<Notify>,
) -> (String, Result<Dialed, Option<String>>) {
    if !pause.is_zero() {
        shared.world.sleep(GAP.min(pause)).await;
        tokio::select! {
            () = shared.world.sleep(pause.saturating_sub(GAP)) => {}
            () = hinted.notified() => {}
        }
    }
    let answer = open(&shared, &address).await;
    (address, answer)
}

async fn open(shared: &Shared, address: &str) -> Result<Dialed, Option<String>> {
    let channel = shared.links.channel(Purpose::Sessions, address).map_err(|error| {
        tracing::warn!(%error, "a node named an address that cannot be dialled");
    });
    let Ok(channel) = channel else { return Err(None) };
    let (send, frames) = mpsc::unbounded_channel();
    let mut client = SessionServiceClient::new(channel).max_decoding_message_size(FRAME_BYTES);
    let asked = client.stream(UnboundedReceiverStream::new(frames));
    match shared.world.timeout(ACCEPT, asked).await {
        Some(Ok(accepted)) => Ok(Dialed { address: address.to_owned(), send, receive: accepted.into_inner() }),
        Some(Err(refused)) => {
            tracing::debug!(address, %refused, "no session stream here");
            let leader = status::detail(&refused).and_then(|detail| detail.store_leader);
            Err(leader.map(|leader| leader.address).filter(|hint| !hint.is_empty()))
        }
        None => {
            shared.links.forget(Purpose::Sessions, address);
            Err(None)
        }
    }
}
