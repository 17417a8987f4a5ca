//! A backup on its way to whoever keeps it: the pieces of one stream, each checked, and the whole of them at the end.
//!
//! It writes no file. It keeps true: a backup that did not come to its end is an error, never a shorter one; and the pieces of two
//! streams are never put together, for each is of a moment of its own.

use std::sync::Arc;
use std::time::Duration;

use palisade_wire::coord::v1;
use palisade_wire::coord::v1::BackupHead;
use palisade_wire::coord::v1::cluster_service_client::ClusterServiceClient;
use palisade_wire::coord::v1::snapshot_part::Part;
use palisade_wire::status;
use prost::Message;
use tonic::Streaming;

use crate::listening::Listening;
use crate::requests::Shared;
use crate::stream_links::Seat;
use crate::{Client, Error, ErrorKind, Header};

/// How long the store leader may send nothing.
const SILENCE: Duration = Duration::from_secs(30);

/// A backup that is coming.
#[derive(Debug)]
pub struct Backup {
    shared: Arc<Shared>,
    receive: Streaming<v1::SnapshotPart>,
    _seat: Seat,
    /// What it is of.
    pub head: BackupHead,
    /// The same as it came, to be kept with the backup: a newer store may say more in it than this program knows.
    pub encoded_head: Vec<u8>,
    bytes: u64,
    whole: crc32fast::Hasher,
    is_whole: bool,
}

impl Client {
    /// Begins a backup: the whole state as of one moment, with everything that was acknowledged to anybody before this call. The
    /// request timeout bounds how long the store leader is looked for, not how long the backup takes.
    pub async fn backup(&self) -> Result<Backup, Error> {
        let shared = Arc::clone(&self.shared);
        let mut listening = Listening::new(Arc::clone(&shared));
        let give_up_at = shared.world.now() + shared.request_timeout;
        while !listening.is_open() {
            let left = give_up_at.saturating_sub(shared.world.now());
            let ask = listening.open(|channel| async move {
                ClusterServiceClient::new(channel).snapshot(v1::SnapshotRequest {}).await
            });
            match shared.world.timeout(left, ask).await {
                Some(asked) => asked?,
                None => {
                    let message = format!("no store leader began a backup within {:?}", shared.request_timeout);
                    return Err(Error::not_applied(ErrorKind::NoStoreLeader, message)
                        .with_hint("are the nodes running, and do a majority of them reach each other?"));
                }
            }
        }
        let Some((mut receive, seat)) = listening.into_open() else { return Err(broken("there is no stream")) };
        let Part::Head(encoded_head) = next(&shared, &mut receive).await? else {
            return Err(broken("it begins without a head"));
        };
        let head = BackupHead::decode(&encoded_head[..]).map_err(|error| broken(error.to_string()))?;
        shared.seen.admit(&Header::of(head.header.as_ref())).map_err(Error::of_a_read)?;
        let (bytes, whole, is_whole) = (0, crc32fast::Hasher::new(), false);
        Ok(Backup { shared, receive, _seat: seat, head, encoded_head, bytes, whole, is_whole })
    }
}

impl Backup {
    /// The next bytes, in order. `None`: all of them were given, and they are what was sent.
    ///
    /// # Errors
    /// It broke off, or is damaged: what has come is of no use.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, Error> {
        if self.is_whole {
            return Ok(None);
        }
        match next(&self.shared, &mut self.receive).await? {
            Part::Head(_) => Err(broken("it has two heads")),
            Part::Piece(piece) if crc32fast::hash(&piece.data) != piece.crc32 => {
                Err(broken(format!("the piece at byte {} is damaged", self.bytes)))
            }
            Part::Piece(piece) => {
                self.bytes += piece.data.len() as u64;
                self.whole.update(&piece.data);
                Ok(Some(piece.data))
            }
            Part::End(end) if (end.bytes, end.crc32) != (self.bytes, self.whole.clone().finalize()) => {
                Err(broken("its pieces are not of one whole"))
            }
            Part::End(_) => {
                self.is_whole = true;
                Ok(None)
            }
        }
    }
}

async fn next(shared: &Shared, receive: &mut Streaming<v1::SnapshotPart>) -> Result<Part, Error> {
    match shared.world.timeout(SILENCE, receive.message()).await {
        None => Err(broken(format!("nothing came for {SILENCE:?}"))),
        Some(Ok(Some(v1::SnapshotPart { part: Some(part) }))) => Ok(part),
        Some(Ok(Some(v1::SnapshotPart { part: None }))) => Err(broken("a part of it is newer than this program")),
        Some(Ok(None)) => Err(broken("it ended early")),
        Some(Err(refused)) => Err(match status::detail(&refused) {
            Some(detail) => Error::refused(&detail).of_a_read(),
            None => broken(refused.message().to_owned()),
        }),
    }
}

fn broken(why: impl Into<String>) -> Error {
    let message = format!("the backup broke off: {}", why.into());
    Error::not_applied(ErrorKind::ConnectionLost, message).with_hint("begin it again: what has come is of no use")
}
