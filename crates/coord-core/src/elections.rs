//! Elections: queues in the order of arrival, and grants that carry a token. Every grant is made after everything that the
//! command ends has ended (see [`fill`]): so a hand-over is one command, and no candidate of an ended session can be granted.
//! Who is alive is not decided here; how a leadership is given up is `handover`'s.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use palisade_fence::Token;
use palisade_planted::{self as planted, Bug};

use crate::command::{EndReason, Value};
use crate::limits::{
    CANDIDACIES, CANDIDACY_BYTES, CANDIDACY_SHARE_BYTES, CANDIDATES, COMPONENT_SHARE_BYTES, ELECTIONS, MAX_CANDIDACIES,
    MAX_CANDIDACY_BYTES, MAX_CANDIDATES, MAX_ELECTIONS,
};
use crate::outcome::{Event, Grant, Refusal, Reply};
use crate::queue::{Candidate, Place};
use crate::state::{Candidacy, Election};
use crate::{Serial, SessionId, State, history};

/// Elections that a command left without a leader, with the leadership that ended: each at most once.
pub(crate) type Vacated = BTreeMap<String, Ended>;

/// A leadership that a command ended.
pub(crate) struct Ended {
    pub(crate) grant: Grant,
    pub(crate) why: EndReason,
    /// Who goes before everybody else in line, if it waits.
    pub(crate) to: Option<String>,
}

/// A campaign, apart from the election's name.
pub(crate) struct Entry<'a> {
    pub(crate) session: SessionId,
    pub(crate) serial: Serial,
    pub(crate) candidate: &'a str,
    pub(crate) value: &'a Value,
    pub(crate) priority: i32,
}

pub(crate) fn campaign(
    state: &mut State,
    name: &str,
    entry: Entry<'_>,
    at_unix_ms: u64,
    events: &mut Vec<Event>,
) -> Result<Reply, Refusal> {
    let session = state.sessions.get(&entry.session).ok_or(Refusal::SessionEnded { session: entry.session })?;
    if let Some(standing) = session.candidacies.get(&entry.serial) {
        let same = standing.election == name && standing.candidate == entry.candidate;
        let grant = same.then(|| held_by(state, name, entry.candidate)).flatten();
        return if same {
            Ok(Reply::Campaigned { grant }) // a repetition: nothing changes
        } else {
            Err(Refusal::SerialReused { serial: entry.serial })
        };
    }
    match standing(state, name, entry.candidate) {
        Some((session, _)) if session != entry.session => {
            Err(Refusal::CandidateExists { election: name.to_owned(), candidate: entry.candidate.to_owned() })
        }
        Some((_, older)) if older > entry.serial => Err(Refusal::SerialReused { serial: entry.serial }),
        Some((_, older)) => take_over(state, name, entry, older, events),
        None => enter(state, name, entry, at_unix_ms, events),
    }
}

/// A new candidate goes to the end of the line; if nobody leads, it is granted at once.
fn enter(
    state: &mut State,
    name: &str,
    entry: Entry<'_>,
    at_unix_ms: u64,
    events: &mut Vec<Event>,
) -> Result<Reply, Refusal> {
    let full = |what, limit| Err(Refusal::Limit { what, limit });
    let session = state.sessions.get_mut(&entry.session).expect("the session was seen alive");
    if session.candidacies.len() as u64 >= MAX_CANDIDACIES {
        return full(CANDIDACIES, MAX_CANDIDACIES);
    }
    match state.elections.get(name) {
        None if state.elections.len() as u64 >= MAX_ELECTIONS => return full(ELECTIONS, MAX_ELECTIONS),
        Some(election) if election.queue.len() as u64 >= MAX_CANDIDATES => {
            return full(CANDIDATES, MAX_CANDIDATES);
        }
        None | Some(_) => {}
    }
    state.candidacy_bytes = with_room(state.candidacy_bytes, 0, weight(name, entry.candidate, entry.value))?;

    let candidacy = Candidacy { election: name.to_owned(), candidate: entry.candidate.to_owned() };
    session.candidacies.insert(entry.serial, candidacy);
    let election = state.elections.get_or_insert_with(name.to_owned(), Election::default);
    election.queue.enter(
        Place { priority: Reverse(entry.priority), arrived: state.seq },
        Candidate {
            candidate: entry.candidate.to_owned(),
            session: entry.session,
            serial: entry.serial,
            value: entry.value.clone(),
        },
    );
    if election.leader.is_none() {
        assert_eq!(election.queue.len(), 1, "nobody waits where nobody leads");
        let next = election.queue.first().expect("it has just lined up");
        elect(state, name, next, None, at_unix_ms, events);
    }
    Ok(Reply::Campaigned { grant: held_by(state, name, entry.candidate) })
}

/// The same session campaigns again under the same id: the same place, now under the newer serial and with the newer value.
fn take_over(
    state: &mut State,
    name: &str,
    entry: Entry<'_>,
    older: Serial,
    events: &mut Vec<Event>,
) -> Result<Reply, Refusal> {
    let election = state.elections.get(name).expect("the candidate was found in it");
    let waiting = election.queue.get(entry.candidate).map(|waiting| &waiting.value);
    let value = waiting.or(election.leader.as_ref().map(|grant| &grant.value)).expect("who does not wait leads");
    let freed = weight(name, entry.candidate, value);
    state.candidacy_bytes = with_room(state.candidacy_bytes, freed, weight(name, entry.candidate, entry.value))?;

    let session = state.sessions.get_mut(&entry.session).expect("the session was seen alive");
    let candidacy = session.candidacies.remove(&older).expect("a candidate stands in its session");
    session.candidacies.insert(entry.serial, candidacy);

    let election = state.elections.get_mut(name).expect("the candidate was found in it");
    if let Some(waiting) = election.queue.get_mut(entry.candidate) {
        waiting.serial = entry.serial;
        waiting.value = entry.value.clone();
        return Ok(Reply::Campaigned { grant: None });
    }
    let grant = election.leader.as_mut().expect("who does not wait leads");
    assert_eq!((grant.candidate.as_str(), grant.serial), (entry.candidate, older));
    grant.serial = entry.serial;
    if grant.value != *entry.value {
        grant.value = entry.value.clone();
        events.push(Event::ValueChanged { grant: grant.clone() });
    }
    Ok(Reply::Campaigned { grant: Some(grant.clone()) })
}

pub(crate) fn proclaim(
    state: &mut State,
    name: &str,
    token: Token,
    value: &Value,
    events: &mut Vec<Event>,
) -> Result<Reply, Refusal> {
    let candidacy_bytes = state.candidacy_bytes;
    let election = found(state, name)?;
    match &mut election.leader {
        Some(grant) if grant.token == token => {
            let freed = weight(name, &grant.candidate, &grant.value);
            let candidacy_bytes = with_room(candidacy_bytes, freed, weight(name, &grant.candidate, value))?;
            grant.value = value.clone();
            events.push(Event::ValueChanged { grant: grant.clone() });
            state.candidacy_bytes = candidacy_bytes;
            Ok(Reply::Proclaimed)
        }
        leader => Err(stale(name, leader.as_ref())),
    }
}

/// Takes a candidate out of its election, waiting or leading. It is out of its session already. Fills nothing.
pub(crate) fn end_candidacy(
    state: &mut State,
    session: SessionId,
    serial: Serial,
    candidacy: &Candidacy,
    why: EndReason,
    vacated: &mut Vacated,
) {
    let election = state.elections.get_mut(&candidacy.election).expect("a candidacy names an election that exists");
    if let Some(waiting) = election.queue.leave(&candidacy.candidate) {
        assert_eq!((waiting.session, waiting.serial), (session, serial), "the candidacy of another was ended");
        let freed = weight(&candidacy.election, &candidacy.candidate, &waiting.value);
        state.candidacy_bytes = without(state.candidacy_bytes, freed);
        return;
    }
    let grant = election.leader.take().expect("a candidate that does not wait leads");
    assert_eq!((grant.session, grant.serial), (session, serial), "the leadership of another was ended");
    let to = election.asked.take().and_then(|asked| asked.to);
    let freed = weight(&candidacy.election, &candidacy.candidate, &grant.value);
    state.candidacy_bytes = without(state.candidacy_bytes, freed);
    let twice = vacated.insert(candidacy.election.clone(), Ended { grant, why, to });
    assert!(twice.is_none(), "election {:?} was vacated twice in one command", candidacy.election);
}

/// What a candidacy counts for in [`State::candidacy_bytes`]; the same while it waits and while it leads.
pub(crate) fn weight(election: &str, candidate: &str, value: &Value) -> u64 {
    let components = value.components.iter();
    let components: u64 =
        components.map(|(name, address)| COMPONENT_SHARE_BYTES + (name.len() + address.len()) as u64).sum();
    let fields = election.len() + candidate.len() + value.address.len() + value.data.len();
    CANDIDACY_SHARE_BYTES + components + fields as u64
}

/// The bytes of all candidacies after a change, if there is room for it.
fn with_room(bytes: u64, freed: u64, taken: u64) -> Result<u64, Refusal> {
    let bytes = without(bytes, freed) + taken;
    if bytes > MAX_CANDIDACY_BYTES {
        return Err(Refusal::Limit { what: CANDIDACY_BYTES, limit: MAX_CANDIDACY_BYTES });
    }
    Ok(bytes)
}

fn without(bytes: u64, freed: u64) -> u64 {
    bytes.checked_sub(freed).expect("the sum holds each candidacy that is in it")
}

/// Fills each vacated election from its own line, at most once.
pub(crate) fn fill(state: &mut State, vacated: Vacated, at_unix_ms: u64, events: &mut Vec<Event>) {
    for (name, ended) in vacated {
        history::ended(state, &ended, at_unix_ms);
        let election = state.elections.get_mut(&name).expect("only an election that exists is vacated");
        assert!(election.leader.is_none() && election.asked.is_none(), "election {name:?} is vacant");
        let preferred = ended.to.and_then(|to| election.queue.leave(&to));
        let previous = (ended.grant.token, ended.why);
        match preferred.or_else(|| election.queue.first()) {
            Some(next) => elect(state, &name, next, Some(previous), at_unix_ms, events),
            None => events.push(Event::Vacant { election: name, previous: previous.0, why: previous.1 }),
        }
    }
}

/// Grants the election to a candidate that was taken out of its line.
fn elect(
    state: &mut State,
    name: &str,
    candidate: Candidate,
    previous: Option<(Token, EndReason)>,
    at_unix_ms: u64,
    events: &mut Vec<Event>,
) {
    let token = next_token(state);
    let election = state.elections.get_mut(name).expect("only an election that exists is filled");
    let standing = state.sessions.get(&candidate.session).and_then(|it| it.candidacies.get(&candidate.serial));
    assert!(
        standing.is_some_and(|it| it.election == name && it.candidate == candidate.candidate),
        "the candidate {:?} of election {name:?} does not stand in a live session",
        candidate.candidate,
    );
    assert!(election.leader.is_none(), "election {name:?} has a leader");
    assert!(
        election.last_token.is_none_or(|last| token > last),
        "election {name:?}: the new token {token} is not above the last, {:?}",
        election.last_token,
    );
    let grant = Grant {
        election: name.to_owned(),
        candidate: candidate.candidate,
        session: candidate.session,
        serial: candidate.serial,
        token,
        seq: state.seq,
        since_unix_ms: at_unix_ms,
        value: candidate.value,
    };
    election.last_token = Some(token);
    election.leader = Some(grant.clone());
    events.push(Event::Elected { grant, previous });

    if planted::is(Bug::GrantTwice) && !state.elections[name].queue.is_empty() {
        let election = state.elections.get_mut(name).expect("it was found above");
        election.leader = None;
        if let Some(next) = election.queue.first() {
            elect(state, name, next, previous, at_unix_ms, events);
        }
    }
}

fn next_token(state: &mut State) -> Token {
    if planted::is(Bug::TokenNotRaised) && state.last_token.counter() > 0 {
        return state.last_token;
    }
    state.last_token = state.last_token.next().expect("2^63 tokens outlast the cluster");
    state.last_token
}

pub(crate) fn found<'a>(state: &'a mut State, name: &str) -> Result<&'a mut Election, Refusal> {
    state.elections.get_mut(name).ok_or_else(|| Refusal::ElectionNotFound { election: name.to_owned() })
}

pub(crate) fn stale(name: &str, leader: Option<&Grant>) -> Refusal {
    Refusal::StaleToken { election: name.to_owned(), current: leader.map(|grant| grant.token) }
}

/// The grant of this candidate, if it leads.
fn held_by(state: &State, name: &str, candidate: &str) -> Option<Grant> {
    state.leader(name).filter(|grant| grant.candidate == candidate).cloned()
}

/// For whom, and under which serial, this candidate id stands in an election.
pub(crate) fn standing(state: &State, name: &str, candidate: &str) -> Option<(SessionId, Serial)> {
    let election = state.elections.get(name)?;
    if let Some(waiting) = election.queue.get(candidate) {
        return Some((waiting.session, waiting.serial));
    }
    let leader = election.leader.as_ref().filter(|grant| grant.candidate == candidate)?;
    Some((leader.session, leader.serial))
}
