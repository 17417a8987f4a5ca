//! Looks for the node that serves sessions: everywhere at once, until one accepts. The first that accepts wins; one that relays is
//! asked only where the store leader does not answer itself.
//!
//! Nothing is decided here but where to knock; a node that accepts and then answers nothing is dropped by the session core.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use palisade_wire::coord::v1::session_service_client::SessionServiceClient;
use palisade_wire::coord::v1::{ClientFrame, ServerFrame};
use palisade_wire::{metadata, status};
use tokio::sync::{Notify, mpsc};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Streaming;

use crate::backoff::{AT_MOST, Backoff, WHILE_SEARCHING};
use crate::links::{Asking, Purpose};
use crate::requests::Shared;
use crate::session_core::{Search, Way};

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
    pub(crate) way: Way,
    /// Not bounded by itself: the session core sends a frame once, and waits for answers.
    pub(crate) send: mpsc::UnboundedSender<ClientFrame>,
    pub(crate) receive: Streaming<ServerFrame>,
}

/// One address.
struct Door {
    backoff: Backoff,
    /// Somebody has just said that it leads.
    hinted: Arc<Notify>,
    /// Whether it has answered the last knock.
    heard: Heard,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Heard {
    NotYet,
    Answer,
    /// No connection, or a silent one.
    Nothing,
}

/// What a knock brought.
enum Knocked {
    Opened(Box<Dialed>),
    /// A refusal may name another address.
    Refused {
        asking: Asking,
        hint: Option<String>,
    },
    Nothing,
}

/// Resolves with the first stream that a node accepts; never, if none does. Cancelling it closes what it opened.
///
/// The store leader itself comes first: a node is asked to relay only when the one that it takes for the store leader did not
/// answer here.
pub(crate) async fn dial(shared: Arc<Shared>, hint: Option<String>, search: Search) -> Dialed {
    let mut doors: BTreeMap<String, Door> = BTreeMap::new();
    let mut knocking = FuturesUnordered::new();
    for address in shared.links.known().into_iter().chain(hint) {
        doors.entry(address.clone()).or_insert_with(|| {
            let knock = Knock { asking: Asking::Itself, pause: Duration::ZERO, hinted: Arc::default() };
            knocking.push(Box::pin(knock.at(Arc::clone(&shared), address)));
            Door::new(search)
        });
    }
    while let Some((address, knocked)) = knocking.next().await {
        let door = doors.get_mut(&address).expect("each address that is knocked at has a door");
        door.heard = if matches!(knocked, Knocked::Nothing) { Heard::Nothing } else { Heard::Answer };
        let (asked, hint) = match knocked {
            Knocked::Opened(dialed) => return *dialed,
            Knocked::Refused { asking, hint } => (asking, hint),
            Knocked::Nothing => (Asking::Itself, None),
        };
        let silent = hint.as_ref().and_then(|hint| doors.get(hint)).is_some_and(|it| it.heard == Heard::Nothing);
        let relay = silent && search == Search::Anywhere && asked == Asking::Itself;
        let door = doors.get_mut(&address).expect("as above");
        let (asking, pause) = match relay {
            true => (Asking::OthersToo, Duration::ZERO),
            false => (Asking::Itself, door.backoff.pause(&shared.world)),
        };
        let knock = Knock { asking, pause, hinted: Arc::clone(&door.hinted) };
        knocking.push(Box::pin(knock.at(Arc::clone(&shared), address)));
        let Some(hint) = hint else { continue };
        if let Some(known) = doors.get(&hint) {
            known.hinted.notify_one();
        } else if doors.len() < DOORS {
            let knock = Knock { asking: Asking::Itself, pause: Duration::ZERO, hinted: Arc::default() };
            knocking.push(Box::pin(knock.at(Arc::clone(&shared), hint.clone())));
            doors.insert(hint, Door::new(search));
        }
    }
    unreachable!("a door that did not open is knocked at again")
}

impl Door {
    fn new(search: Search) -> Door {
        let cap = match search {
            Search::Anywhere => WHILE_SEARCHING,
            // Nobody is without a stream meanwhile.
            Search::Directly => AT_MOST,
        };
        Door { backoff: Backoff::up_to(cap), hinted: Arc::default(), heard: Heard::NotYet }
    }
}

/// One knock.
struct Knock {
    asking: Asking,
    pause: Duration,
    hinted: Arc<Notify>,
}

impl Knock {
    /// Waits, then asks one node for a stream.
    async fn at(self, shared: Arc<Shared>, address: String) -> (String, Knocked) {
        let Knock { asking, pause, hinted } = self;
        if !pause.is_zero() {
            shared.world.sleep(GAP.min(pause)).await;
            tokio::select! {
                () = shared.world.sleep(pause.saturating_sub(GAP)) => {}
                () = hinted.notified() => {}
            }
        }
        let answer = open(&shared, &address, asking).await;
        (address, answer)
    }
}

async fn open(shared: &Shared, address: &str, asking: Asking) -> Knocked {
    let channel = match shared.links.channel_asking(asking, Purpose::Sessions, address) {
        Ok(channel) => channel,
        Err(error) => {
            tracing::warn!(%error, "a node named an address that cannot be dialled");
            return Knocked::Nothing;
        }
    };
    let (send, frames) = mpsc::unbounded_channel();
    let mut client = SessionServiceClient::new(channel).max_decoding_message_size(FRAME_BYTES);
    let asked = client.stream(UnboundedReceiverStream::new(frames));
    match shared.world.timeout(ACCEPT, asked).await {
        Some(Ok(accepted)) => {
            let relayed = accepted.metadata().contains_key(metadata::STORE_LEADER);
            let way = if relayed { Way::Relayed } else { Way::Direct };
            Knocked::Opened(Box::new(Dialed { address: address.to_owned(), way, send, receive: accepted.into_inner() }))
        }
        Some(Err(refused)) => {
            tracing::debug!(address, %refused, "no session stream here");
            match status::detail(&refused) {
                Some(detail) => {
                    let hint = detail.store_leader.map(|leader| leader.address).filter(|hint| !hint.is_empty());
                    Knocked::Refused { asking, hint }
                }
                None => Knocked::Nothing,
            }
        }
        None => {
            shared.links.forget(Purpose::Sessions, address);
            Knocked::Nothing
        }
    }
}
