//! A plain model of the state machine: lists that are searched, nothing indexed, no code shared with it. Slow and obvious.

use std::collections::BTreeMap;

use palisade_coord_core::{
    AttachGeneration, Command, EndReason, Force, Grant, OnDisconnect, Op, Refusal, Reply, RequestId, Revision, Seq,
    Serial, SessionId, Value, Waiting,
};
use palisade_fence::{ClusterId, Fence, Token};

type Answer = Result<Reply, Refusal>;

/// What the model says of a command.
pub(crate) struct Said {
    pub(crate) seq: u64,
    pub(crate) revision: u64,
    pub(crate) reply: Answer,
    /// Leaderships that ended, with the reason, in the order of names.
    pub(crate) ended: Vec<(String, Token, EndReason)>,
}

#[derive(Clone, Default)]
pub(crate) struct Model {
    cluster: Option<ClusterId>,
    seq: u64,
    revision: u64,
    tokens: u32,
    /// Everybody that ever opened; the dead stay, not alive.
    sessions: Vec<Session>,
    /// Everybody that stands anywhere, in the order of arrival.
    standing: Vec<Standing>,
    /// The last token of each election that ever was.
    elections: BTreeMap<String, Option<Token>>,
    keys: BTreeMap<Vec<u8>, (Vec<u8>, u64)>,
}

#[derive(Clone)]
struct Session {
    alive: bool,
    on_disconnect: OnDisconnect,
    ttl_ms: u64,
    attach: u64,
    floor: u64,
    answers: BTreeMap<u64, (Op, u64, u64, Answer)>,
}

#[derive(Clone)]
struct Standing {
    election: String,
    candidate: String,
    session: SessionId,
    serial: Serial,
    priority: i32,
    value: Value,
    /// Of who leads: token, seq, wall clock.
    grant: Option<(Token, u64, u64)>,
}

impl Standing {
    fn grant(&self) -> Option<Grant> {
        let (token, seq, since_unix_ms) = self.grant?;
        Some(Grant {
            election: self.election.clone(),
            candidate: self.candidate.clone(),
            session: self.session,
            serial: self.serial,
            token,
            seq: Seq(seq),
            since_unix_ms,
            value: self.value.clone(),
        })
    }
}

impl Model {
    pub(crate) fn apply(&mut self, command: &Command) -> Said {
        self.seq += 1;
        let identity = match &command.op {
            Op::Campaign { session, serial, .. } => {
                Some(RequestId { session: *session, serial: *serial, acked_below: Serial(0) })
            }
            Op::Put { .. } | Op::Delete { .. } | Op::Proclaim { .. } | Op::Resign { .. } => command.request,
            _ => None,
        };
        if let Some(said) = identity.and_then(|id| self.recall(id, &command.op)) {
            return said;
        }
        let mut ended = Vec::new();
        let reply = self.act(command, &mut ended);
        self.fill(command.at_unix_ms);
        // A campaign that found nobody leading leads by now.
        let reply = match (&command.op, reply) {
            (Op::Campaign { election, candidate, .. }, Ok(_)) => {
                let place = self.standing.iter().find(|it| it.election == *election && it.candidate == *candidate);
                Ok(Reply::Campaigned { grant: place.and_then(Standing::grant) })
            }
            (_, reply) => reply,
        };
        if let Some(id) = identity {
            self.remember(id, &command.op, &reply);
        }
        Said { seq: self.seq, revision: self.revision, reply, ended }
    }

    pub(crate) fn leader(&self, election: &str) -> Option<Grant> {
        self.standing.iter().filter(|it| it.election == election).find_map(Standing::grant)
    }

    pub(crate) fn value_of(&self, key: &[u8]) -> Option<&[u8]> {
        self.keys.get(key).map(|(value, _)| value.as_slice())
    }

    fn session(&mut self, id: SessionId) -> Option<&mut Session> {
        let index = usize::try_from(id.get()).ok()?.checked_sub(1)?;
        self.sessions.get_mut(index).filter(|session| session.alive)
    }

    fn recall(&mut self, id: RequestId, op: &Op) -> Option<Said> {
        let (seq, revision) = (self.seq, self.revision);
        let refused = |why| Some(Said { seq, revision, reply: Err(why), ended: vec![] });
        let campaign = matches!(op, Op::Campaign { .. });
        let lives = self.standing.iter().any(|it| (it.session, it.serial) == (id.session, id.serial));
        let Some(session) = self.session(id.session) else {
            return if campaign { None } else { refused(Refusal::Forgotten { serial: id.serial }) };
        };
        if campaign && lives {
            return None;
        }
        match session.answers.get(&id.serial.get()) {
            None if id.serial.get() < session.floor => refused(Refusal::Forgotten { serial: id.serial }),
            None => None,
            Some((asked, ..)) if asked != op => refused(Refusal::SerialReused { serial: id.serial }),
            Some((_, _, _, Ok(_))) if campaign => refused(Refusal::SerialReused { serial: id.serial }),
            Some((_, seq, revision, reply)) => {
                Some(Said { seq: *seq, revision: *revision, reply: reply.clone(), ended: vec![] })
            }
        }
    }

    fn remember(&mut self, id: RequestId, op: &Op, reply: &Answer) {
        let (seq, revision) = (self.seq, self.revision);
        let Some(session) = self.session(id.session) else { return };
        let serial = id.serial.get();
        session.floor = session.floor.max(id.acked_below.get().min(serial));
        let floor = session.floor;
        session.answers.retain(|known, _| *known >= floor);
        if serial >= floor {
            session.answers.entry(serial).or_insert_with(|| (op.clone(), seq, revision, reply.clone()));
        }
    }

    fn act(&mut self, command: &Command, ended: &mut Vec<(String, Token, EndReason)>) -> Answer {
        match &command.op {
            Op::Found { cluster } if self.cluster.is_none() => {
                self.cluster = Some(*cluster);
                Ok(Reply::Founded)
            }
            Op::Found { .. } => Err(Refusal::AlreadyFounded),
            Op::OpenSession { ttl_ms, on_disconnect } => {
                let (ttl_ms, on_disconnect) = (*ttl_ms, *on_disconnect);
                let answers = BTreeMap::new();
                self.sessions.push(Session { alive: true, on_disconnect, ttl_ms, attach: 1, floor: 0, answers });
                let session = SessionId(self.sessions.len() as u64);
                Ok(Reply::SessionOpened { session, attach: AttachGeneration(1) })
            }
            Op::Attach { session } => self.attach(*session),
            Op::EndSession { session, why, only_if } => {
                let id = *session;
                let session = self.session(id).ok_or(Refusal::SessionEnded { session: id })?;
                let attach = AttachGeneration(session.attach);
                if only_if.is_some_and(|seen| seen != attach) {
                    return Err(Refusal::AttachChanged { session: id, attach });
                }
                session.alive = false;
                self.end(|it| it.session == id, *why, ended);
                Ok(Reply::SessionEnded)
            }
            Op::Campaign { .. } => self.campaign(&command.op),
            Op::Proclaim { election, token, value } => {
                let current = self.current(election)?;
                let leader = self.standing.iter_mut().find(|it| it.election == *election && it.grant.is_some());
                match leader {
                    Some(leader) if current == Some(*token) => {
                        leader.value = value.clone();
                        Ok(Reply::Proclaimed)
                    }
                    _ => Err(Refusal::StaleToken { election: election.clone(), current }),
                }
            }
            Op::Resign { election, token, by, force } => self.resign(election, *token, *by, *force, ended),
            Op::Put { key, value, fence } => {
                self.fenced(fence.as_ref())?;
                self.revision += 1;
                let version = self.keys.get(key).map_or(1, |(_, version)| version + 1);
                self.keys.insert(key.clone(), (value.clone(), version));
                Ok(Reply::Put { version })
            }
            Op::Delete { key, fence } => {
                self.fenced(fence.as_ref())?;
                let deleted = u64::from(self.keys.remove(key).is_some());
                self.revision += deleted;
                Ok(Reply::Deleted { deleted })
            }
        }
    }

    fn attach(&mut self, id: SessionId) -> Answer {
        let session = self.session(id).ok_or(Refusal::SessionEnded { session: id })?;
        session.attach += 1;
        let (attach, ttl_ms, on_disconnect) = (session.attach, session.ttl_ms, session.on_disconnect);
        let mut all: Vec<_> = self.standing.iter().filter(|it| it.session == id).collect();
        all.sort_by_key(|it| it.serial);
        let waiting = all.iter().filter(|it| it.grant.is_none()).map(|it| Waiting {
            election: it.election.clone(),
            candidate: it.candidate.clone(),
            serial: it.serial,
        });
        Ok(Reply::Attached {
            session: id,
            attach: AttachGeneration(attach),
            ttl_ms,
            on_disconnect,
            held: all.iter().filter_map(|it| it.grant()).collect(),
            waiting: waiting.collect(),
        })
    }

    fn campaign(&mut self, op: &Op) -> Answer {
        let Op::Campaign { session, serial, election, candidate, value, priority } = op else { unreachable!() };
        self.session(*session).ok_or(Refusal::SessionEnded { session: *session })?;
        let done = Ok(Reply::Campaigned { grant: None });
        if let Some(same) = self.standing.iter().find(|it| (it.session, it.serial) == (*session, *serial)) {
            let repeated = same.election == *election && same.candidate == *candidate;
            return if repeated { done } else { Err(Refusal::SerialReused { serial: *serial }) };
        }
        let place = self.standing.iter_mut().find(|it| it.election == *election && it.candidate == *candidate);
        match place {
            Some(other) if other.session != *session => {
                Err(Refusal::CandidateExists { election: election.clone(), candidate: candidate.clone() })
            }
            Some(newer) if newer.serial > *serial => Err(Refusal::SerialReused { serial: *serial }),
            Some(place) => {
                place.serial = *serial;
                place.value = value.clone();
                done
            }
            None => {
                self.elections.entry(election.clone()).or_insert(None);
                self.standing.push(Standing {
                    election: election.clone(),
                    candidate: candidate.clone(),
                    session: *session,
                    serial: *serial,
                    priority: *priority,
                    value: value.clone(),
                    grant: None,
                });
                done
            }
        }
    }

    fn resign(
        &mut self,
        election: &str,
        token: Token,
        by: Option<SessionId>,
        force: Force,
        ended: &mut Vec<(String, Token, EndReason)>,
    ) -> Answer {
        let current = self.current(election)?;
        if current != Some(token) {
            return if self.elections[election].is_some_and(|last| token <= last) {
                Ok(Reply::Resigned { already: true })
            } else {
                Err(Refusal::StaleToken { election: election.to_owned(), current })
            };
        }
        let holder = self.leader(election).expect("it has a current token").session;
        let own = by == Some(holder);
        let keeps = self.session(holder).expect("it leads").on_disconnect == OnDisconnect::KeepUntilTtl;
        if keeps && !own && force == Force::No {
            return Err(Refusal::HolderKeepsUntilTtl { election: election.to_owned(), token });
        }
        let why = if own { EndReason::Resigned } else { EndReason::Removed };
        self.end(|it| it.grant.is_some_and(|grant| grant.0 == token), why, ended);
        Ok(Reply::Resigned { already: false })
    }

    /// The current token of an election that exists.
    fn current(&self, election: &str) -> Result<Option<Token>, Refusal> {
        if !self.elections.contains_key(election) {
            return Err(Refusal::ElectionNotFound { election: election.to_owned() });
        }
        Ok(self.leader(election).map(|grant| grant.token))
    }

    fn fenced(&self, fence: Option<&Fence>) -> Result<(), Refusal> {
        let Some(Fence { election, token }) = fence else { return Ok(()) };
        let current = self.leader(election).map(|grant| grant.token);
        if current == Some(*token) { Ok(()) } else { Err(Refusal::StaleToken { election: election.clone(), current }) }
    }

    fn end(&mut self, ends: impl Fn(&Standing) -> bool, why: EndReason, ended: &mut Vec<(String, Token, EndReason)>) {
        for it in self.standing.iter().filter(|it| ends(it)) {
            ended.extend(it.grant.map(|(token, ..)| (it.election.clone(), token, why)));
        }
        ended.sort_by(|one, other| one.0.cmp(&other.0));
        self.standing.retain(|it| !ends(it));
    }

    /// Whoever is first in a line that nobody leads, leads. In the order of names.
    fn fill(&mut self, at_unix_ms: u64) {
        for (name, last) in &mut self.elections {
            if self.standing.iter().any(|it| it.election == *name && it.grant.is_some()) {
                continue;
            }
            let line = self.standing.iter_mut().rev().filter(|it| it.election == *name);
            // The last maximum of the reversed line is the first to have arrived.
            if let Some(first) = line.max_by_key(|it| it.priority) {
                self.tokens += 1;
                let token = Token::new(0, self.tokens);
                first.grant = Some((token, self.seq, at_unix_ms));
                *last = Some(token);
            }
        }
    }

    pub(crate) fn revision(&self) -> Revision {
        Revision(self.revision)
    }
}
