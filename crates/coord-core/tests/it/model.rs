//! A plain model of the state machine: lists that are searched, nothing indexed, no code shared with it. Slow and obvious.

use std::collections::BTreeMap;

use palisade_coord_core::history::Reign;
use palisade_coord_core::{
    Asked, AttachGeneration, Command, EndReason, Grant, Guard, HandOver, OnDisconnect, Op, Refusal, Reply, RequestId,
    Seq, Serial, SessionId, Value, Waiting, Wish,
};
use palisade_fence::{ClusterId, Token};

use crate::key_model::{Around, KeyModel, remembered};

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
    /// The levels above the first.
    above_first: u32,
    seq: u64,
    tokens: u32,
    /// Everybody that ever opened; the dead stay, not alive.
    sessions: Vec<Session>,
    /// Sessions that the model chose an id for.
    chosen: u64,
    /// Everybody that stands anywhere, in the order of arrival.
    standing: Vec<Standing>,
    /// The last token of each election that ever was.
    elections: BTreeMap<String, Option<Token>>,
    /// What the holders of elections were asked: the token, and who is to have it.
    asked: BTreeMap<String, HandOver>,
    /// Election and `seq` of the end, in the order of ends.
    history: Vec<(String, u64, Reign)>,
    pub(crate) keys: KeyModel,
}

#[derive(Clone)]
struct Session {
    id: SessionId,
    alive: bool,
    wish: Option<Wish>,
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
            Op::Found { .. } | Op::Attach { .. } | Op::Withdraw { .. } | Op::RaiseLevel { .. } => None,
            _ => command.request,
        };
        if let Some(said) = identity.and_then(|id| self.recall(id, &command.op)) {
            return said;
        }
        let mut ended = Vec::new();
        let reply = self.act(command, &mut ended);
        self.fill(command.at_unix_ms);
        self.asked.retain(|election, asked| {
            let leads = |it: &Standing| it.election == *election && it.grant.is_some_and(|it| it.0 == asked.token);
            self.standing.iter().any(leads)
        });
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
        Said { seq: self.seq, revision: self.revision(), reply, ended }
    }

    pub(crate) fn level(&self) -> u32 {
        1 + self.above_first
    }

    pub(crate) fn leader(&self, election: &str) -> Option<Grant> {
        self.standing.iter().filter(|it| it.election == election).find_map(Standing::grant)
    }

    pub(crate) fn history_of(&self, election: &str) -> Vec<(u64, Reign)> {
        let of = self.history.iter().filter(|(name, ..)| name == election);
        of.map(|(_, until, reign)| (*until, reign.clone())).collect()
    }

    pub(crate) fn asked_of(&self, election: &str) -> Option<&HandOver> {
        self.asked.get(election)
    }

    fn session(&mut self, id: SessionId) -> Option<&mut Session> {
        self.sessions.iter_mut().find(|session| session.id == id && session.alive)
    }

    fn recall(&mut self, id: RequestId, op: &Op) -> Option<Said> {
        let (seq, revision) = (self.seq, self.revision());
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
        let (seq, revision) = (self.seq, self.revision());
        let Some(session) = self.session(id.session) else { return };
        let serial = id.serial.get();
        session.floor = session.floor.max(id.acked_below.get().min(serial));
        let floor = session.floor;
        session.answers.retain(|known, _| *known >= floor);
        if serial >= floor {
            let reply = match reply.clone() {
                Ok(Reply::Keys(reply)) => Ok(Reply::Keys(remembered(reply))),
                reply => reply,
            };
            session.answers.entry(serial).or_insert((op.clone(), seq, revision, reply));
        }
    }

    fn act(&mut self, command: &Command, ended: &mut Vec<(String, Token, EndReason)>) -> Answer {
        match &command.op {
            Op::Found { cluster } if self.cluster.is_none() => {
                self.cluster = Some(*cluster);
                Ok(Reply::Founded)
            }
            Op::Found { .. } => Err(Refusal::AlreadyFounded),
            Op::OpenSession { id, ttl_ms, on_disconnect } => {
                if id.is_some_and(|id| self.session(id).is_some()) {
                    return Err(Refusal::SessionExists { session: id.unwrap() });
                }
                self.chosen += u64::from(id.is_none());
                // The numbers of a session whose id may come again start where no number ever was.
                let (session, attach) = id.map_or((SessionId(self.chosen), 1), |id| (id, self.seq));
                self.sessions.push(Session {
                    id: session,
                    alive: true,
                    wish: None,
                    on_disconnect: *on_disconnect,
                    ttl_ms: *ttl_ms,
                    attach,
                    floor: attach,
                    answers: BTreeMap::new(),
                });
                Ok(Reply::SessionOpened { session, attach: AttachGeneration(attach) })
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
                self.keys.release(id);
                self.end(|it| it.session == id, *why, command.at_unix_ms, ended);
                Ok(Reply::SessionEnded)
            }
            Op::CloseSession { session, guard } => {
                let id = *session;
                let session = self.session(id).ok_or(Refusal::SessionEnded { session: id })?;
                let keeps = session.on_disconnect == OnDisconnect::KeepUntilTtl;
                let held = self.held_by(id);
                if let Some(first) = held.first().filter(|_| keeps && *guard != Guard::Break) {
                    if *guard == Guard::Refuse {
                        let (election, token) = (first.election.clone(), first.token);
                        return Err(Refusal::HolderKeepsUntilTtl { election, token });
                    }
                    for grant in held {
                        self.ask(&grant, None);
                    }
                    self.wish(id, if *guard == Guard::Ask { Wish::Close } else { Wish::StopRenewing });
                    return Ok(Reply::Requested { session: id });
                }
                self.session(id).unwrap().alive = false;
                self.keys.release(id);
                self.end(|it| it.session == id, EndReason::Removed, command.at_unix_ms, ended);
                Ok(Reply::SessionEnded)
            }
            Op::Withdraw { session, serial } => {
                let (id, serial) = (*session, *serial);
                let now = self.seq;
                let session = self.session(id).ok_or(Refusal::SessionEnded { session: id })?;
                let (floor, known) = (session.floor, session.answers.get(&serial.get()).cloned());
                let Some(it) = self.standing.iter().find(|it| (it.session, it.serial) == (id, serial)).cloned() else {
                    return match known {
                        Some((Op::Campaign { .. } | Op::Withdraw { .. }, ..) | (_, _, _, Err(_))) => {
                            Ok(Reply::Withdrawn { already: true })
                        }
                        Some(_) => Err(Refusal::SerialReused { serial }),
                        None => {
                            if serial.get() >= floor {
                                let (op, revision) = (command.op.clone(), self.revision());
                                let answer = (op, now, revision, Ok(Reply::Withdrawn { already: true }));
                                self.session(id).unwrap().answers.insert(serial.get(), answer);
                            }
                            Ok(Reply::Withdrawn { already: true })
                        }
                    };
                };
                self.give_up(&it, EndReason::Resigned, command.at_unix_ms, ended);
                Ok(Reply::Withdrawn { already: false })
            }
            Op::Remove { election, candidate, by, guard } => {
                self.current(election)?;
                let it = self.standing.iter().find(|it| it.election == *election && it.candidate == *candidate);
                let Some(it) = it.cloned() else {
                    let (election, candidate) = (election.clone(), candidate.clone());
                    return Err(Refusal::CandidateNotFound { election, candidate });
                };
                if let Some(grant) = it.grant()
                    && let Some(reply) = self.guarded(&grant, None, *by, *guard)
                {
                    return reply;
                }
                let why = if *by == Some(it.session) { EndReason::Resigned } else { EndReason::Removed };
                self.give_up(&it, why, command.at_unix_ms, ended);
                Ok(Reply::Withdrawn { already: false })
            }
            Op::Transfer { election, token, to, by, guard } => {
                let current = self.current(election)?;
                let grant = self.leader(election).filter(|grant| token.is_none_or(|token| token == grant.token));
                let Some(grant) = grant else {
                    return Err(Refusal::StaleToken { election: election.clone(), current });
                };
                let waits = |it: &&Standing| it.election == *election && it.candidate == *to && it.grant.is_none();
                if self.standing.iter().find(waits).is_none() {
                    let (election, candidate) = (election.clone(), to.clone());
                    return Err(Refusal::CandidateNotFound { election, candidate });
                }
                if let Some(reply) = self.guarded(&grant, Some(to), *by, *guard) {
                    return reply;
                }
                self.asked.insert(election.clone(), HandOver { token: grant.token, to: Some(to.clone()) });
                let leads = |it: &Standing| it.grant.is_some_and(|it| it.0 == grant.token);
                self.end(leads, EndReason::Transferred, command.at_unix_ms, ended);
                Ok(Reply::Transferred)
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
            Op::Resign { election, token, by, guard } => {
                let current = self.current(election)?;
                let Some(grant) = self.leader(election).filter(|grant| grant.token == *token) else {
                    return if self.elections[election].is_some_and(|last| *token <= last) {
                        Ok(Reply::Resigned { already: true })
                    } else {
                        Err(Refusal::StaleToken { election: election.clone(), current })
                    };
                };
                if let Some(reply) = self.guarded(&grant, None, *by, *guard) {
                    return reply;
                }
                let why = if *by == Some(grant.session) { EndReason::Resigned } else { EndReason::Removed };
                let it = self.standing.iter().find(|it| it.grant.is_some_and(|it| it.0 == *token)).cloned().unwrap();
                self.give_up(&it, why, command.at_unix_ms, ended);
                Ok(Reply::Resigned { already: false })
            }
            Op::Keys(op) => {
                let alive: Vec<SessionId> = self.sessions.iter().filter(|it| it.alive).map(|it| it.id).collect();
                let standing = self.standing.clone();
                let leader = |election: &str| {
                    standing.iter().filter(|it| it.election == election).find_map(|it| it.grant.map(|it| it.0))
                };
                let around = Around { lives: &|id| alive.contains(&id), leads: &leader };
                self.keys.apply(op, &around).map(Reply::Keys)
            }
            Op::Compact { revision } => self.keys.compact(revision.get()).map(|()| Reply::Compacted),
            Op::RaiseLevel { level } => {
                let before = self.level();
                self.above_first = self.above_first.max(level.saturating_sub(1));
                Ok(Reply::LevelRaised { before })
            }
        }
    }

    fn attach(&mut self, id: SessionId) -> Answer {
        let session = self.session(id).ok_or(Refusal::SessionEnded { session: id })?;
        session.attach += 1;
        let (attach, ttl_ms, on_disconnect) = (session.attach, session.ttl_ms, session.on_disconnect);
        let wish = session.wish;
        let mut all: Vec<_> = self.standing.iter().filter(|it| it.session == id).collect();
        all.sort_by_key(|it| it.serial);
        let led = all.iter().filter(|it| it.grant.is_some());
        let leaderships = led.filter_map(|it| Some((it.serial, self.asked.get(&it.election)?.clone()))).collect();
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
            asked: Asked { session: wish, leaderships },
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

    /// The reply to somebody who may not end a leadership now; `None`: it may end.
    fn guarded(&mut self, grant: &Grant, to: Option<&str>, by: Option<SessionId>, guard: Guard) -> Option<Answer> {
        let keeps = self.session(grant.session).unwrap().on_disconnect == OnDisconnect::KeepUntilTtl;
        if by == Some(grant.session) || !keeps || guard == Guard::Break {
            return None;
        }
        if guard == Guard::Refuse {
            let (election, token) = (grant.election.clone(), grant.token);
            return Some(Err(Refusal::HolderKeepsUntilTtl { election, token }));
        }
        self.ask(grant, to);
        if guard == Guard::AskAndStopRenewing {
            self.wish(grant.session, Wish::StopRenewing);
        }
        Some(Ok(Reply::Requested { session: grant.session }))
    }

    fn ask(&mut self, grant: &Grant, to: Option<&str>) {
        let asked = self.asked.entry(grant.election.clone());
        let asked = asked.or_insert(HandOver { token: grant.token, to: None });
        if let Some(to) = to {
            asked.to = Some(to.to_owned());
        }
    }

    fn wish(&mut self, id: SessionId, wish: Wish) {
        let session = self.session(id).unwrap();
        if session.wish != Some(Wish::StopRenewing) {
            session.wish = Some(wish);
        }
    }

    fn held_by(&self, id: SessionId) -> Vec<Grant> {
        let mut held: Vec<_> = self.standing.iter().filter(|it| it.session == id).filter_map(Standing::grant).collect();
        held.sort_by_key(|grant| grant.serial);
        held
    }

    /// Ends one candidacy whose session lives on. Resigning after a request for somebody who still waits is a transfer.
    fn give_up(&mut self, it: &Standing, why: EndReason, at: u64, ended: &mut Vec<(String, Token, EndReason)>) {
        let to = self.asked.get(&it.election).filter(|_| it.grant.is_some()).and_then(|asked| asked.to.clone());
        let waits = |other: &Standing| other.election == it.election && Some(&other.candidate) == to.as_ref();
        let handed_over = why == EndReason::Resigned && self.standing.iter().any(waits);
        let why = if handed_over { EndReason::Transferred } else { why };
        let (session, serial) = (it.session, it.serial);
        self.end(|it| (it.session, it.serial) == (session, serial), why, at, ended);
    }

    /// The current token of an election that exists.
    fn current(&self, election: &str) -> Result<Option<Token>, Refusal> {
        if !self.elections.contains_key(election) {
            return Err(Refusal::ElectionNotFound { election: election.to_owned() });
        }
        Ok(self.leader(election).map(|grant| grant.token))
    }

    fn end(
        &mut self,
        ends: impl Fn(&Standing) -> bool,
        why: EndReason,
        at: u64,
        ended: &mut Vec<(String, Token, EndReason)>,
    ) {
        for it in self.standing.iter().filter(|it| ends(it)) {
            let Some((token, since, since_unix_ms)) = it.grant else { continue };
            ended.push((it.election.clone(), token, why));
            let reign = Reign {
                token,
                candidate: it.candidate.clone(),
                session: it.session,
                since: Seq(since),
                since_unix_ms,
                until_unix_ms: at,
                why,
            };
            self.history.push((it.election.clone(), self.seq, reign));
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
            let to = self.asked.get(name).and_then(|asked| asked.to.clone());
            // The last maximum of the reversed line is the first to have arrived.
            if let Some(first) = line.max_by_key(|it| (to.as_ref() == Some(&it.candidate), it.priority)) {
                self.tokens += 1;
                let token = Token::new(0, self.tokens);
                first.grant = Some((token, self.seq, at_unix_ms));
                *last = Some(token);
            }
        }
    }

    pub(crate) fn revision(&self) -> u64 {
        self.keys.revision()
    }
}
