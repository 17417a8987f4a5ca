//! What every replica keeps. Only [`crate::apply()`] changes it; everybody else reads.
//! The invariants stand on the fields and are checked by [`State::check_invariants`].

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use palisade_fence::{ClusterId, Token};

use crate::answers::Answers;
use crate::command::OnDisconnect;
use crate::history::{HISTORY, Reign, TOLD, Told};
use crate::keys::op::KeyValue;
use crate::keys::space::{Key, KeySpace};
use crate::ledger::Ledger;
use crate::memory::Memory;
use crate::outcome::Grant;
use crate::queue::Queue;
use crate::shared::SharedMap;
use crate::{AttachGeneration, Revision, Seq, Serial, SessionId, invariants, level};

/// The whole replicated state.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct State {
    /// `None` until the founding command; then never changed.
    pub(crate) cluster: Option<ClusterId>,
    /// Below 2^31. Raised by a restore only.
    pub(crate) generation: u32,
    /// At least [`level::FIRST`]. Never goes back: what was written since may be known to no older program.
    pub(crate) level: u32,
    /// Commands applied. No `seq` in the state is above it.
    pub(crate) seq: Seq,
    /// Commands that changed a key. Never above `seq`; no revision in the state is above it.
    pub(crate) revision: Revision,
    /// The last token granted, or the zeroth of the generation. No token in the state is above it, and no two grants of
    /// the cluster's life share one.
    pub(crate) last_token: Token,
    /// The last session id that the store chose, or the zeroth of the generation. None in the state that it chose is above.
    pub(crate) last_session: SessionId,
    /// The live sessions. A session that is not here has ended or never was.
    pub(crate) sessions: SharedMap<SessionId, Session>,
    /// Every election that anybody ever campaigned in.
    pub(crate) elections: SharedMap<String, Election>,
    /// Who led before, for people. All of it has ended: at or before `seq`, under tokens that lead no more.
    pub(crate) history: Ledger<Reign>,
    /// What observers were told, so that they can resume. None of it is from after `seq`.
    pub(crate) told: Ledger<Told>,
    /// Bytes of all candidacies, waiting and leading: exactly their sum, as [`crate::limits::MAX_CANDIDACY_BYTES`] counts.
    pub(crate) candidacy_bytes: u64,
    /// The keys, with their past. No revision in them is above `revision`.
    pub(crate) keys: KeySpace,
    /// Every answer in the memory of a session, and no other.
    pub(crate) answers: Answers,
}

/// A live session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Session {
    /// How long the store leader waits for a keep-alive.
    pub ttl_ms: u64,
    /// What the break of its stream means.
    pub on_disconnect: OnDisconnect,
    /// At least 1; of an id that a caller gave at least the `seq` of its opening.
    pub attach: AttachGeneration,
    /// All its candidacies by serial, waiting and leading: each stands in its election under this session and serial, and
    /// no candidate stands anywhere without standing here. So a candidate lives only while its session does.
    pub(crate) candidacies: BTreeMap<Serial, Candidacy>,
    /// What somebody other than its client asked of it. Never taken back: it ends with the session.
    pub wish: Option<Wish>,
    /// The keys that end with it: those which are bound to it, and no others.
    pub(crate) keys: BTreeSet<Key>,
    /// Answers to its requests.
    pub(crate) memory: Memory,
}

/// What somebody other than its client wants of a session that keeps its leaderships until its TTL.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Wish {
    /// That its client closes it when it is ready.
    Close,
    /// That it ends with its TTL at the latest: the store leader renews it no more.
    StopRenewing,
}

/// Where a candidate of a session stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Candidacy {
    /// The election.
    pub election: String,
    /// The candidate id there.
    pub candidate: String,
}

/// A named contest.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Election {
    /// Who holds it. `None` only while nobody waits: whoever vacates it fills it in the same command.
    pub leader: Option<Grant>,
    /// Who waits. Never contains the leader's candidate id.
    pub queue: Queue,
    /// The last token granted here. At or above the leader's; a new one is above it.
    pub last_token: Option<Token>,
    /// What the holder was asked for and has not done yet. Always of the leader's token: it goes when that token ends.
    pub asked: Option<HandOver>,
}

/// A request to end a leadership that keeps its clock guard.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HandOver {
    /// The leadership that is to end.
    pub token: Token,
    /// Who is to lead then, if it still waits; `None`: whoever is first in line.
    pub to: Option<String>,
}

impl Default for State {
    fn default() -> State {
        State::new()
    }
}

impl State {
    /// An empty state of generation zero, not founded.
    pub fn new() -> State {
        State {
            cluster: None,
            generation: 0,
            level: level::FIRST,
            seq: Seq::default(),
            revision: Revision::default(),
            last_token: Token::new(0, 0),
            last_session: SessionId::default(),
            sessions: SharedMap::new(),
            elections: SharedMap::new(),
            history: Ledger::new(HISTORY),
            told: Ledger::new(TOLD),
            candidacy_bytes: 0,
            keys: KeySpace::default(),
            answers: Answers::default(),
        }
    }

    /// The cluster's name, once it is founded.
    pub fn cluster(&self) -> Option<ClusterId> {
        self.cluster
    }

    /// Raised by each restore from backup.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// What the programs of the cluster have agreed on: see [`crate::level`].
    pub fn level(&self) -> u32 {
        self.level
    }

    /// Commands applied so far.
    pub fn seq(&self) -> Seq {
        self.seq
    }

    /// Commands that changed a key so far.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The last token granted in the cluster, or the zeroth of the generation.
    pub fn last_token(&self) -> Token {
        self.last_token
    }

    /// The last session id that the store chose, or the zeroth of the generation.
    pub fn last_session(&self) -> SessionId {
        self.last_session
    }

    /// Who leads an election; also `None` if nobody ever campaigned in it.
    pub fn leader(&self, election: &str) -> Option<&Grant> {
        self.elections.get(election)?.leader.as_ref()
    }

    /// One election, once anybody campaigned in it.
    pub fn election(&self, name: &str) -> Option<&Election> {
        self.elections.get(name)
    }

    /// All elections by name.
    pub fn elections(&self) -> impl ExactSizeIterator<Item = (&str, &Election)> {
        self.elections.iter().map(|(name, election)| (name.as_str(), election))
    }

    /// Elections by name, from one on.
    pub fn elections_from(&self, from: Bound<&str>) -> impl Iterator<Item = (&str, &Election)> {
        let elections = self.elections.range::<str>((from, Bound::Unbounded));
        elections.map(|(name, election)| (name.as_str(), election))
    }

    /// Who led before.
    pub fn history(&self) -> &Ledger<Reign> {
        &self.history
    }

    /// What observers of elections were told.
    pub fn told(&self) -> &Ledger<Told> {
        &self.told
    }

    /// How many elections there are.
    pub fn election_count(&self) -> u64 {
        self.elections.len() as u64
    }

    /// A live session.
    pub fn session(&self, id: SessionId) -> Option<&Session> {
        self.sessions.get(&id)
    }

    /// The leaderships of a session, by serial.
    pub fn held_by(&self, id: SessionId) -> impl Iterator<Item = &Grant> {
        let candidacies = self.sessions.get(&id).into_iter().flat_map(|session| &session.candidacies);
        candidacies.filter_map(move |(&serial, it)| {
            self.leader(&it.election).filter(|grant| (grant.session, grant.serial) == (id, serial))
        })
    }

    /// The live sessions by id.
    pub fn sessions(&self) -> impl ExactSizeIterator<Item = (SessionId, &Session)> {
        self.sessions.iter().map(|(&id, session)| (id, session))
    }

    /// The live sessions by id, from one on.
    pub fn sessions_from(&self, from: Bound<SessionId>) -> impl Iterator<Item = (SessionId, &Session)> {
        self.sessions.range((from.as_ref(), Bound::Unbounded)).map(|(&id, session)| (id, session))
    }

    /// How many sessions live.
    pub fn session_count(&self) -> u64 {
        self.sessions.len() as u64
    }

    /// What a key has.
    pub fn get(&self, key: &[u8]) -> Option<&KeyValue> {
        self.keys.get(key)
    }

    /// The keys, with their past.
    pub fn keys(&self) -> &KeySpace {
        &self.keys
    }

    /// Panics if an invariant of the state does not hold. Visits everything: for tests and simulation.
    pub fn check_invariants(&self) {
        if let Err(broken) = invariants::check(self) {
            panic!("{broken}");
        }
    }
}

impl Session {
    /// Its candidacies by serial, waiting and leading.
    pub fn candidacies(&self) -> impl ExactSizeIterator<Item = (Serial, &Candidacy)> {
        self.candidacies.iter().map(|(&serial, candidacy)| (serial, candidacy))
    }

    /// The keys that end with it, in order.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.keys.iter().map(|key| &**key)
    }

    /// The answers it remembers.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }
}
