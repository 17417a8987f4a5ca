//! Bytes on their way to all watchers of a node: what was read for them and not taken by their connections.
//!
//! Keeps true: small replies never wait for large ones, so a reader who does not read large values holds up only others who
//! watch such.

use std::sync::Arc;
use std::time::Duration;

use palisade_world::World;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// In all, beyond [`FREE_BYTES`] each. Some hundreds of the largest values.
const ALL_BYTES: usize = 256 << 20;

/// What every reply may have beside it: the changes of coordination data are far smaller. For [`super::wakers::MAX_WATCHERS`]
/// about as much as [`ALL_BYTES`].
const FREE_BYTES: u64 = 16 << 10;

/// How long a watcher waits for room. Peers that have vanished are noticed within three seconds, and free what they hold.
const PATIENCE: Duration = Duration::from_secs(10);

/// Room for replies. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Room {
    bytes: Arc<Semaphore>,
}

/// A reply's share of the room, given back when it is dropped. By default none beyond what every reply may have.
#[derive(Debug, Default)]
pub(super) struct Share(Option<OwnedSemaphorePermit>);

impl Share {
    /// Whether it is enough.
    pub(super) fn covers(&self, bytes: u64) -> bool {
        let held = self.0.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        permits(bytes).is_none_or(|permits| held >= permits as usize)
    }
}

impl Room {
    pub(crate) fn new() -> Room {
        Room { bytes: Arc::new(Semaphore::new(ALL_BYTES)) }
    }

    /// A share, if there is room now.
    pub(super) fn try_take(&self, bytes: u64) -> Result<Share, Full> {
        let Some(permits) = permits(bytes) else { return Ok(Share(None)) };
        let taken = Arc::clone(&self.bytes).try_acquire_many_owned(permits);
        taken.map(|share| Share(Some(share))).map_err(|_| Full)
    }

    /// Waits for a share, with a bound. Cancelling it loses nothing.
    pub(super) async fn take(&self, bytes: u64, world: &World) -> Result<Share, Full> {
        let Some(permits) = permits(bytes) else { return Ok(Share(None)) };
        let taken = world.timeout(PATIENCE, Arc::clone(&self.bytes).acquire_many_owned(permits)).await;
        taken.and_then(Result::ok).map(|share| Share(Some(share))).ok_or(Full)
    }
}

/// There is no room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Full;

fn permits(bytes: u64) -> Option<u32> {
    let beyond = bytes.saturating_sub(FREE_BYTES);
    // A reply is a page and a change at most: a few MiB.
    (beyond > 0).then(|| u32::try_from(beyond).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_replies_do_not_wait_for_large_ones() {
        let room = Room::new();
        let large: Vec<_> = std::iter::from_fn(|| room.try_take(2 << 20).ok()).collect();
        assert!(large.len() > 100, "{}", large.len());
        assert!(room.try_take(FREE_BYTES).is_ok_and(|share| share.covers(FREE_BYTES)));
        assert!(!Share::default().covers(FREE_BYTES + 1) && large[0].covers(2 << 20));
        assert!(room.try_take(FREE_BYTES + (2 << 20)).is_err());
        drop(large);
        assert!(room.try_take(2 << 20).is_ok());
    }
}
