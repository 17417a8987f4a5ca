//! An archivist: saves a backup of the living cluster now and then, as an administrator does, and keeps the first and the last. What
//! becomes of them is for the faults to say.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use palisade_client::{Client, Error};
use palisade_coord_core::level;
use palisade_server::backup::Backup;
use palisade_storage::{SimDisk, SimSnapshots, SnapshotStore};
use palisade_wire::state::backup_head;

use super::Process;
use crate::facts::Fact;
use crate::phase::Phase;

/// Between two backups, and as much again at random.
const PAUSE: Duration = Duration::from_millis(350);

/// One that takes longer is given up: what it comes over may be cut.
const PATIENCE: Duration = Duration::from_secs(3);

/// Where backups lie. Clones are the same place.
#[derive(Clone, Default)]
pub(crate) struct Vault(Arc<Mutex<Kept>>);

#[derive(Clone, Default)]
struct Kept {
    first: Option<Arc<Backup>>,
    last: Option<Arc<Backup>>,
}

impl Vault {
    fn keep(&self, backup: Backup) {
        let (backup, mut kept) = (Arc::new(backup), self.lock());
        kept.first.get_or_insert_with(|| Arc::clone(&backup));
        kept.last = Some(backup);
    }

    /// The first that was saved: it may be restored a second time.
    pub(crate) fn first(&self) -> Option<Arc<Backup>> {
        self.lock().first.clone()
    }

    /// The last that was saved.
    pub(crate) fn last(&self) -> Option<Arc<Backup>> {
        self.lock().last.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs until the simulation ends.
pub(crate) async fn run(process: Process, vault: Vault) -> turmoil::Result {
    let client = process.client();
    for number in 1_u64.. {
        process.world.sleep(PAUSE + process.world.jitter(PAUSE)).await;
        if *process.phase.borrow() != Phase::Faults {
            continue;
        }
        let read = format!("{}/{number}", process.name());
        process.witness.saw(process.who, Fact::ReadBegan { read: read.clone() });
        match process.world.timeout(PATIENCE, save(&client)).await {
            Some(Ok(backup)) => {
                let (seq, revision) = (backup.state.seq().get(), backup.state.revision().get());
                process.witness.saw(process.who, Fact::BackedUp { read, seq, revision });
                vault.keep(backup);
            }
            Some(Err(error)) => process.trace(format_args!("no backup: {error}")),
            None => process.trace("no backup: it takes too long"),
        }
    }
    Ok(())
}

/// Piece by piece, as into a file.
async fn save(client: &Client) -> Result<Backup, Error> {
    let mut coming = client.backup().await?;
    let shelf = SimSnapshots::open(&SimDisk::new()).expect("an empty disk has snapshots");
    let mut draft = shelf.begin(&backup_head(&coming.encoded_head)).expect("this disk has room");
    while let Some(piece) = coming.next().await? {
        draft.write(&piece).expect("this disk has room");
    }
    let saved = draft.save().expect("this disk does not fail");
    Ok(Backup::of(level::FIRST + 1, "the backup".to_owned(), saved).expect("a backup that came whole can be restored"))
}
