//! Knows whether a quorum still follows this store leader, for those who only listen: observers.
//!
//! Reads and keep-alives do not rest on it: each asks for a quorum round of its own that began after it arrived.

use std::time::Duration;

use palisade_replica::{Leadership, Replica};
use palisade_world::{Task, World};
use tokio::sync::watch;

use crate::machine::CoordMachine;

/// How often a store leader asks. An observer on a node that was cut off stays deaf no longer than this and
/// [`PATIENCE`]; a quorum round every half second costs nothing.
const INTERVAL: Duration = Duration::from_millis(500);

/// How long it waits for the answer: several times the longest election timeout.
const PATIENCE: Duration = Duration::from_secs(1);

/// Starts asking. The receiver holds the leadership that is surely ours; `None`: not the store leader, or cut off.
pub(crate) fn start(replica: Replica<CoordMachine>, world: &World) -> (watch::Receiver<Option<Leadership>>, Task<()>) {
    let (known, confirmed) = watch::channel(None);
    let task = world.spawn("confirmation", run(replica, world.clone(), known));
    (confirmed, task)
}

async fn run(replica: Replica<CoordMachine>, world: World, known: watch::Sender<Option<Leadership>>) {
    let mut status = replica.status();
    loop {
        let Ok(leadership) = status.wait_for(|now| now.leadership.is_some()).await.map(|now| now.leadership.clone())
        else {
            return;
        };
        // A new store leader has just had a quorum: its first entry is applied.
        set(&known, leadership.clone());
        loop {
            tokio::select! {
                _ = status.wait_for(|now| now.leadership != leadership) => break,
                () = world.sleep(INTERVAL) => {}
            }
            let confirmed = world.timeout(PATIENCE, replica.confirm_leadership()).await.and_then(Result::ok);
            set(&known, confirmed.filter(|confirmed| leadership.as_ref() == Some(confirmed)));
        }
        set(&known, None);
    }
}

fn set(known: &watch::Sender<Option<Leadership>>, leadership: Option<Leadership>) {
    known.send_if_modified(|now| {
        let news = *now != leadership;
        *now = leadership;
        news
    });
}
