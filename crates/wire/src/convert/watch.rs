//! Watches of keys: what is asked for, and what is told.

use palisade_coord_core::{KeyChange, Keys, Revision};

use super::answer::key_value;
use super::check;
use super::keys::keys;
use crate::coord::v1::{self, ErrorDetail, key_event};
use crate::limits::{PROGRESS_DEFAULT_MS, PROGRESS_MAX_MS, PROGRESS_MIN_MS};

/// What a watcher wants.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Watch {
    /// Which keys.
    pub keys: Keys,
    /// The first revision whose changes it wants; `None`: those that come.
    pub from: Option<Revision>,
    /// Whether it wants what the keys had before.
    pub shows_previous: bool,
    /// Which changes it wants.
    pub tells: Tells,
    /// How long it may hear nothing.
    pub progress_ms: u64,
}

/// Which changes are told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tells {
    /// All.
    All,
    /// Writes only.
    Puts,
    /// Removals only.
    Deletes,
}

/// A watch.
pub fn watch(request: v1::WatchRequest) -> Result<Watch, ErrorDetail> {
    let tells = match (request.no_puts, request.no_deletes) {
        (false, false) => Tells::All,
        (false, true) => Tells::Puts,
        (true, false) => Tells::Deletes,
        (true, true) => return Err(check::invalid("no_puts, no_deletes", "both", "at most one: else nothing is told")),
    };
    let progress_ms = match request.progress_interval_ms {
        0 => PROGRESS_DEFAULT_MS,
        ms => check::milliseconds("progress_interval_ms", ms, PROGRESS_MIN_MS..=PROGRESS_MAX_MS)?,
    };
    Ok(Watch {
        keys: keys(request.keys)?,
        from: (request.from_revision != 0).then_some(Revision(request.from_revision)),
        shows_previous: request.show_previous,
        tells,
        progress_ms,
    })
}

impl Watch {
    /// About how many bytes a change takes in a message; `None`: it is not wanted.
    pub fn weigh(&self, change: &KeyChange<'_>) -> Option<u64> {
        const FRAME: usize = 64; // numbers, lengths
        let wanted = match (self.tells, change.kv) {
            (Tells::All, _) | (Tells::Puts, Some(_)) | (Tells::Deletes, None) => true,
            (Tells::Puts, None) | (Tells::Deletes, Some(_)) => false,
        };
        let previous = change.previous.filter(|_| self.shows_previous);
        let previous = previous.map_or(0, |kv| FRAME + change.key.len() + kv.value.len());
        wanted.then_some((FRAME + change.key.len() + change.kv.map_or(0, |kv| kv.value.len()) + previous) as u64)
    }

    /// A change as it is told.
    pub fn event(&self, change: &KeyChange<'_>) -> v1::KeyEvent {
        let (kind, kv) = match change.kv {
            Some(kv) => (key_event::Kind::Put, key_value(change.key, kv)),
            None => {
                let (key, mod_revision) = (change.key.to_vec(), change.revision.get());
                (key_event::Kind::Delete, v1::KeyValue { key, mod_revision, ..v1::KeyValue::default() })
            }
        };
        let previous = change.previous.filter(|_| self.shows_previous);
        v1::KeyEvent { kind: kind.into(), kv: Some(kv), previous: previous.map(|kv| key_value(change.key, kv)) }
    }
}
