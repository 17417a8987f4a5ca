//! A state as it was at one moment, for a snapshot: taken in about a millisecond however large the state is, and read at
//! leisure while commands go on being applied. What follows from the rest (sums, indexes) is not in it.
//!
//! Keeps true: it shows one state, the one between two commands at which it was taken, and never changes.

use palisade_fence::{ClusterId, Token};

use crate::history::{Reign, Told};
use crate::keys::space::Key;
use crate::keys::{Lineage, Version};
use crate::ledger::Pages;
use crate::shared::SharedMap;
use crate::state::{Election, Session};
use crate::{Revision, Seq, SessionId, State};

/// What a snapshot keeps.
#[derive(Clone, Debug)]
pub struct Frozen {
    /// See [`State::cluster`].
    pub cluster: Option<ClusterId>,
    /// See [`State::generation`].
    pub generation: u32,
    /// See [`State::level`].
    pub level: u32,
    /// See [`State::seq`].
    pub seq: Seq,
    /// See [`State::revision`].
    pub revision: Revision,
    /// See [`State::last_token`].
    pub last_token: Token,
    /// See [`State::last_session`].
    pub last_session: SessionId,
    /// See [`State::sessions`].
    pub sessions: SharedMap<SessionId, Session>,
    /// See [`State::elections`].
    pub elections: SharedMap<String, Election>,
    /// See [`State::history`].
    pub history: Pages<Reign>,
    /// See [`State::told`].
    pub told: Pages<Told>,
    /// See [`crate::keys::space::KeySpace::compacted`].
    pub compacted: Revision,
    /// See [`crate::keys::space::KeySpace::watchable`].
    pub watchable: Revision,
    /// See [`crate::keys::space::KeySpace::first_change`].
    pub first_change: Option<(Revision, u32)>,
    pub(crate) lineages: SharedMap<Key, Lineage>,
}

impl State {
    /// The state as it is now.
    pub fn freeze(&self) -> Frozen {
        Frozen {
            cluster: self.cluster,
            generation: self.generation,
            level: self.level,
            seq: self.seq,
            revision: self.revision,
            last_token: self.last_token,
            last_session: self.last_session,
            sessions: self.sessions.clone(),
            elections: self.elections.clone(),
            history: self.history.pages().clone(),
            told: self.told.pages().clone(),
            compacted: self.keys.compacted,
            watchable: self.keys.watchable,
            first_change: self.keys.first_change(),
            lineages: self.keys.lineages.clone(),
        }
    }
}

impl Frozen {
    /// With the keys of another moment, which never is: for the planted bug that does it.
    #[doc(hidden)]
    #[must_use]
    pub fn with_keys_of(&self, other: &Frozen) -> Frozen {
        Frozen { lineages: other.lineages.clone(), ..self.clone() }
    }

    /// Everything that is kept of each key, in the order of keys, oldest first.
    pub fn versions(&self) -> impl ExactSizeIterator<Item = (&[u8], impl Iterator<Item = &Version>)> {
        self.lineages.iter().map(|(key, lineage)| (&**key, lineage.versions()))
    }
}
