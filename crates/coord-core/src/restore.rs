//! A state out of its parts, as a snapshot kept them. Whatever comes in, the result is sound or an error: it takes nothing on
//! trust that [`crate::invariants`] can check. It knows no format; that is `wire`'s.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use palisade_fence::{ClusterId, Token};

use crate::answers::Answers;
use crate::command::OnDisconnect;
use crate::history::{HISTORY, Reign, TOLD, Told};
use crate::invariants::{self, Broken};
use crate::keys::space::{Change, Key, KeySpace, weight};
use crate::keys::{Lineage, Version};
use crate::ledger::{Ledger, Page};
use crate::memory::{Answer, Memory};
use crate::outcome::Grant;
use crate::queue::{Candidate, Place, Queue};
use crate::shared::{SharedMap, SharedQueue};
use crate::state::{Candidacy, Election, HandOver, Session, Wish};
use crate::{AttachGeneration, Revision, Seq, Serial, SessionId, State, elections};

/// A state, taken apart. What follows from the rest (a session's candidacies, sums, indexes) is not kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Parts {
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
    pub sessions: Vec<SessionParts>,
    /// See [`State::elections`].
    pub elections: Vec<ElectionParts>,
    /// See [`State::history`].
    pub history: Vec<(String, Page<Reign>)>,
    /// See [`State::told`].
    pub told: Vec<(String, Page<Told>)>,
    /// See [`State::keys`].
    pub keys: KeyParts,
}

/// The keys, taken apart.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct KeyParts {
    /// See [`KeySpace::compacted`].
    pub compacted: Revision,
    /// See [`KeySpace::watchable`].
    pub watchable: Revision,
    /// See [`KeySpace::first_change`].
    pub first_change: Option<(Revision, u32)>,
    /// Every key with its versions, oldest first.
    pub versions: Vec<(Vec<u8>, Vec<Version>)>,
}

/// A session, taken apart.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SessionParts {
    /// Its id.
    pub id: SessionId,
    /// See [`Session::ttl_ms`].
    pub ttl_ms: u64,
    /// See [`Session::on_disconnect`].
    pub on_disconnect: OnDisconnect,
    /// See [`Session::attach`].
    pub attach: AttachGeneration,
    /// See [`Session::wish`].
    pub wish: Option<Wish>,
    /// See [`Memory::floor`].
    pub floor: Serial,
    /// See [`Memory::answers`].
    pub answers: Vec<(Serial, Answer)>,
}

/// An election, taken apart.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ElectionParts {
    /// Its name.
    pub name: String,
    /// See [`Election::leader`].
    pub leader: Option<Grant>,
    /// See [`Election::queue`].
    pub queue: Vec<(Place, Candidate)>,
    /// See [`Election::last_token`].
    pub last_token: Option<Token>,
    /// See [`Election::asked`].
    pub asked: Option<HandOver>,
}

impl State {
    /// Puts a state together again.
    ///
    /// # Errors
    /// The parts do not fit together: the snapshot is damaged, and the node must not run on it.
    pub fn restore(parts: Parts) -> Result<State, Broken> {
        let mut state = State {
            cluster: parts.cluster,
            generation: parts.generation,
            level: parts.level,
            seq: parts.seq,
            revision: parts.revision,
            last_token: parts.last_token,
            last_session: parts.last_session,
            sessions: unique(parts.sessions.into_iter().map(session), "session")?,
            elections: SharedMap::new(),
            history: Ledger::restored(HISTORY, parts.history)?,
            told: Ledger::restored(TOLD, parts.told)?,
            candidacy_bytes: 0,
            keys: KeySpace::default(),
            answers: Answers::default(),
        };
        for (&id, session) in &state.sessions {
            for (serial, answer) in session.memory.answers() {
                if state.answers.ages.contains_key(&answer.seq) {
                    return Err(Broken(format!("command {} was answered twice", answer.seq)));
                }
                state.answers.add(id, serial, answer);
            }
        }
        let mut all = Vec::new();
        for election in parts.elections {
            all.push(restore_election(&mut state, election)?);
        }
        state.elections = unique(all, "election")?;
        state.keys = restore_keys(parts.keys)?;
        let bound: Vec<_> = state.keys.iter().filter_map(|(key, kv)| Some((key.clone(), kv.session?))).collect();
        for (key, id) in bound {
            let session = state.sessions.get_mut(&id);
            session.ok_or_else(|| Broken(format!("a key is bound to a dead session, {id}")))?.keys.insert(key);
        }
        invariants::check(&state)?;
        Ok(state)
    }
}

fn session(parts: SessionParts) -> (SessionId, Session) {
    let session = Session {
        ttl_ms: parts.ttl_ms,
        on_disconnect: parts.on_disconnect,
        attach: parts.attach,
        candidacies: BTreeMap::new(),
        wish: parts.wish,
        keys: BTreeSet::new(),
        memory: Memory::restored(parts.floor, parts.answers.into_iter().collect()),
    };
    (parts.id, session)
}

fn restore_election(state: &mut State, parts: ElectionParts) -> Result<(String, Election), Broken> {
    if let Some(grant) = &parts.leader {
        stand(state, grant.session, grant.serial, &parts.name, &grant.candidate)?;
        state.candidacy_bytes += elections::weight(&parts.name, &grant.candidate, &grant.value);
    }
    let mut queue = Queue::default();
    for (place, candidate) in parts.queue {
        stand(state, candidate.session, candidate.serial, &parts.name, &candidate.candidate)?;
        state.candidacy_bytes += elections::weight(&parts.name, &candidate.candidate, &candidate.value);
        if !queue.has_room(&place, &candidate.candidate) {
            return Err(Broken(format!("a place in the line of {:?} is taken twice", parts.name)));
        }
        queue.enter(place, candidate);
    }
    let election = Election { leader: parts.leader, queue, last_token: parts.last_token, asked: parts.asked };
    Ok((parts.name, election))
}

/// Lets a session stand where its candidate does.
fn stand(state: &mut State, id: SessionId, serial: Serial, election: &str, candidate: &str) -> Result<(), Broken> {
    let session = state.sessions.get_mut(&id);
    let session = session.ok_or_else(|| Broken(format!("a candidate of {election:?} has no live session: {id}")))?;
    let candidacy = Candidacy { election: election.to_owned(), candidate: candidate.to_owned() };
    match session.candidacies.insert(serial, candidacy) {
        None => Ok(()),
        Some(_) => Err(Broken(format!("session {id} stands twice under serial {serial}"))),
    }
}

fn restore_keys(parts: KeyParts) -> Result<KeySpace, Broken> {
    let KeyParts { compacted, watchable, first_change, versions } = parts;
    let mut space = KeySpace { compacted, watchable, ..KeySpace::default() };
    let mut changes = Vec::new();
    for (key, versions) in versions {
        let key: Key = key.into();
        let mut past: SharedQueue<Version> = versions.into_iter().collect();
        let last = past.pop_back().ok_or_else(|| Broken("a key is there without a version".to_owned()))?;
        let lineage = Lineage { past, last };
        for version in lineage.versions() {
            let (revision, place) = (version.revision, version.place);
            if first_change.is_some_and(|first| first <= (revision, place)) {
                changes.push(Change { revision, place, key: Arc::clone(&key) });
            }
        }
        space.past_bytes += lineage.past.iter().map(|version| weight(&key, version.kv.as_deref())).sum::<u64>();
        match &lineage.last.kv {
            None => space.past_bytes += weight(&key, None),
            Some(kv) => {
                space.count += 1;
                space.bytes += (key.len() + kv.value.len()) as u64;
            }
        }
        if space.lineages.insert(key, lineage).is_some() {
            return Err(Broken("a key is there twice".to_owned()));
        }
    }
    changes.sort_by_key(|change| (change.revision, change.place));
    space.changes = changes.into();
    Ok(space)
}

fn unique<K, V>(all: impl IntoIterator<Item = (K, V)>, what: &str) -> Result<SharedMap<K, V>, Broken>
where
    K: Ord + Clone,
    V: Clone,
{
    let mut map = SharedMap::new();
    for (key, value) in all {
        if map.insert(key, value).is_some() {
            return Err(Broken(format!("a {what} is there twice")));
        }
    }
    Ok(map)
}
