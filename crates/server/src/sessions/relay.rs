//! Session streams that pass through a node which does not lead the store: frames in both directions, as they are, and nothing
//! remembered of them.
//!
//! Each client's stream has one of its own to the store leader. That costs the store leader no more than the client itself would,
//! keeps the order and the bounds of one stream, and lets one slow client hold up nobody else; streams share connections, so it
//! costs no sockets either.
//!
//! Keeps true: the store leader is told that the client's end is gone, as the last frame, before the stream to it ends. A stream
//! that ends without that word has lost this node, which is nobody's disconnect. No frame is sent twice.

use std::time::Duration;

use futures_util::{Stream, StreamExt};
use palisade_wire::coord::v1::client_frame::Body;
use palisade_wire::coord::v1::error_detail::Kind;
use palisade_wire::coord::v1::session_service_client::SessionServiceClient;
use palisade_wire::coord::v1::{ClientFrame, ClientGone, ErrorDetail, ServerFrame, StoreLeader};
use palisade_wire::metadata;
use palisade_wire::status::{detail, refuse, unknown};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::{Request, Response, Status, Streaming};

use super::leading::not_a_frame;
use super::outbox::node_stops;
use super::reader::Input;
use crate::forward::{Forwarder, Purpose, Seat, no_seat, unreachable};

/// Frames that wait here in each direction. When they are that many, the sender is not read from.
const QUEUE: usize = 16;

/// The largest frame of the store leader: a session that attaches is told of all that it holds.
const ANSWER_BYTES: usize = 80 << 20;

/// How long the store leader may take to accept or refuse a stream.
const ACCEPT: Duration = Duration::from_secs(1);

/// How long a relay waits for the store leader to take the word that the client is gone, and for a client to take the last
/// status. After that it is as if this node had died.
const FAREWELL: Duration = Duration::from_secs(2);

/// Both ends of a stream, and who leads the store on its other side.
struct Relay {
    leader: StoreLeader,
    forwarder: Forwarder,
    /// Closed when this node stops.
    node: mpsc::Sender<Input>,
    to_leader: mpsc::Sender<ClientFrame>,
    from_leader: Streaming<ServerFrame>,
    to_client: mpsc::Sender<Result<ServerFrame, Status>>,
    _seat: Seat,
}

/// How the client's end went.
enum Gone {
    /// Closed, reset, or nobody reads it.
    Left,
    /// It sent what is no frame.
    Broken(Status),
}

/// Accepts a stream for the store leader, if that accepts it. Nothing of the client is read before.
pub(super) async fn relay(
    forwarder: &Forwarder,
    leader: StoreLeader,
    frames: impl Stream<Item = Result<ClientFrame, Status>> + Send + Unpin + 'static,
    node: mpsc::Sender<Input>,
) -> Result<Response<ReceiverStream<Result<ServerFrame, Status>>>, Status> {
    let seat = forwarder.seat(&leader, Purpose::Sessions).map_err(|why| refuse(no_seat(&leader, &why)))?;
    let mut client = SessionServiceClient::new(seat.channel.clone()).max_decoding_message_size(ANSWER_BYTES);
    let (to_leader, sent) = mpsc::channel(QUEUE);
    let mut request = Request::new(ReceiverStream::new(sent));
    request.metadata_mut().insert(metadata::RELAY, MetadataValue::from(forwarder.node_id));
    let answer = forwarder.world.timeout(ACCEPT, client.stream(request)).await;
    let from_leader = match answer {
        Some(Ok(answer)) => answer.into_inner(),
        // The store leader's own refusal, as it is.
        Some(Err(status)) if detail(&status).is_some() => return Err(status),
        Some(Err(_)) | None => return Err(refuse(unreachable(&leader))),
    };
    let (to_client, answers) = mpsc::channel(QUEUE);
    let mut response = Response::new(ReceiverStream::new(answers));
    if let Ok(address) = MetadataValue::<Ascii>::try_from(leader.address.as_str()) {
        response.metadata_mut().insert(metadata::STORE_LEADER, address);
    }
    let relay = Relay { leader, forwarder: forwarder.clone(), node, to_leader, from_leader, to_client, _seat: seat };
    // It ends with the stream, from either side, and with the node.
    forwarder.world.spawn("session relay", relay.run(frames)).detach();
    Ok(response)
}

impl Relay {
    async fn run(self, frames: impl Stream<Item = Result<ClientFrame, Status>> + Send + Unpin) {
        let Relay { leader, forwarder, node, to_leader, mut from_leader, to_client, _seat } = self;
        let gone = {
            let mut down = std::pin::pin!(down(&mut from_leader, &to_client));
            tokio::select! {
                biased;
                ended = &mut down => Err(at_its_end(ended, &leader)),
                gone = up(frames, &to_leader, &to_client) => Ok(gone),
                other = forwarder.replaced(&leader) => Err(refuse(replaced(other))),
                () = node.closed() => Err(node_stops()),
            }
        };
        match gone {
            // A node that ends cuts its clients off, and knows nothing about them.
            Ok(_) if forwarder.is_stopping() => {}
            Ok(gone) => {
                say_gone(&forwarder, to_leader, from_leader).await;
                if let Gone::Broken(why) = gone {
                    let _ = to_client.try_send(Err(why)); // a client that does not read is told nothing
                }
            }
            Err(status) => {
                drop((to_leader, from_leader));
                // Or it does not read.
                let _ = forwarder.world.timeout(FAREWELL, to_client.send(Err(status))).await;
            }
        }
    }
}

/// The client's frames, until its end is gone.
async fn up(
    mut frames: impl Stream<Item = Result<ClientFrame, Status>> + Unpin,
    to_leader: &mpsc::Sender<ClientFrame>,
    to_client: &mpsc::Sender<Result<ServerFrame, Status>>,
) -> Gone {
    loop {
        let frame = tokio::select! {
            biased;
            () = to_client.closed() => return Gone::Left,
            frame = frames.next() => frame,
        };
        let frame = match frame {
            Some(Ok(ClientFrame { body: Some(Body::ClientGone(_)), .. })) | None => return Gone::Left,
            Some(Ok(frame)) => frame,
            Some(Err(status)) => return Gone::Broken(not_a_frame(&status)),
        };
        let sent = tokio::select! {
            biased;
            () = to_client.closed() => return Gone::Left,
            sent = to_leader.send(frame) => sent,
        };
        if sent.is_err() {
            std::future::pending().await // the store leader's end is gone, and says so itself
        }
    }
}

/// The store leader's frames, until its end is gone.
async fn down(
    from_leader: &mut Streaming<ServerFrame>,
    to_client: &mpsc::Sender<Result<ServerFrame, Status>>,
) -> Option<Status> {
    loop {
        match from_leader.message().await {
            // A client that is gone takes nothing, and is noticed on the way up.
            Ok(Some(frame)) => drop(to_client.send(Ok(frame)).await),
            Ok(None) => return None,
            Err(status) => return Some(status),
        }
    }
}

/// Tells the store leader that the client is gone, and waits until it has closed the stream: it would not read what is sent
/// on a stream that is reset.
async fn say_gone(
    forwarder: &Forwarder,
    to_leader: mpsc::Sender<ClientFrame>,
    mut from_leader: Streaming<ServerFrame>,
) {
    let said = async {
        let last = ClientFrame { call: 0, body: Some(Body::ClientGone(ClientGone {})) };
        let heard = async { while let Ok(Some(_)) = from_leader.message().await {} };
        let sent = async {
            let sent = to_leader.send(last).await;
            drop(to_leader);
            if sent.is_err() {
                tracing::debug!("the store leader has closed the stream of a client that is gone");
            }
        };
        tokio::join!(sent, heard);
    };
    if forwarder.world.timeout(FAREWELL, said).await.is_none() {
        tracing::debug!("the store leader was not told within {FAREWELL:?} that a client is gone");
    }
}

/// What a client is told when the store leader's end is gone: its own words, or that nothing is known.
fn at_its_end(ended: Option<Status>, leader: &StoreLeader) -> Status {
    match ended {
        Some(status) if detail(&status).is_some() => status,
        Some(_) | None => refuse(ErrorDetail {
            store_leader: Some(leader.clone()),
            ..unknown(Kind::NoStoreLeader, "the connection to the store leader broke: attach again, at any node")
        }),
    }
}

/// What a client is told when another node leads the store. What it had in flight may have been applied.
fn replaced(other: StoreLeader) -> ErrorDetail {
    ErrorDetail {
        store_leader: Some(other),
        ..unknown(Kind::NotStoreLeader, "another node leads the store: attach there")
    }
}
