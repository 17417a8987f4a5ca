//! How a leadership is given up before its session ends: resigned, withdrawn, handed over; by its holder, or because somebody
//! else wants it. A holder that keeps its leaderships until its TTL trusts its own clock: nobody else ends one of those
//! without its consent, unless that guard is broken knowingly. Such a wish is kept in the state until the token ends.

use palisade_fence::Token;

use crate::command::{EndReason, Guard, OnDisconnect};
use crate::elections::{self, Vacated};
use crate::outcome::{Event, Grant, Refusal, Reply};
use crate::requests;
use crate::state::{HandOver, Wish};
use crate::{Serial, SessionId, State};

/// The moment of a command, and what it brings about.
pub(crate) struct Effects<'a> {
    pub(crate) at_unix_ms: u64,
    pub(crate) events: &'a mut Vec<Event>,
}

/// Who wants a leadership to end.
#[derive(Clone, Copy)]
pub(crate) struct Asker {
    pub(crate) by: Option<SessionId>,
    pub(crate) guard: Guard,
}

/// Whether the holder has to consent.
enum Consent {
    /// It is the holder itself.
    Given,
    /// It has no guard, or its guard is broken.
    NotNeeded,
    /// It is asked, in this way.
    Asked(Wanted),
}

/// How far the session of a holder that is asked may go on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Leadership,
    EndOfRenewal,
}

pub(crate) fn resign(
    state: &mut State,
    name: &str,
    token: Token,
    asker: Asker,
    effects: Effects<'_>,
) -> Result<Reply, Refusal> {
    let election = elections::found(state, name)?;
    let Some(grant) = election.leader.clone().filter(|grant| grant.token == token) else {
        // A token that once led here has resigned, one way or the other. One that never led is a mistake.
        return if election.last_token.is_some_and(|last| token <= last) {
            Ok(Reply::Resigned { already: true })
        } else {
            Err(elections::stale(name, election.leader.as_ref()))
        };
    };
    match consent(state, &grant, asker)? {
        Consent::Given => {
            let why = own_reason(state, &grant);
            end_leadership(state, &grant, why, None, effects);
        }
        Consent::NotNeeded => end_leadership(state, &grant, EndReason::Removed, None, effects),
        Consent::Asked(wanted) => return Ok(ask(state, &grant, None, wanted, effects)),
    }
    Ok(Reply::Resigned { already: false })
}

pub(crate) fn withdraw(
    state: &mut State,
    id: SessionId,
    serial: Serial,
    mut effects: Effects<'_>,
) -> Result<Reply, Refusal> {
    let session = state.sessions.get(&id).ok_or(Refusal::SessionEnded { session: id })?;
    let Some(candidacy) = session.candidacies.get(&serial).cloned() else {
        requests::bury(state, id, serial)?;
        return Ok(Reply::Withdrawn { already: true });
    };
    match state.leader(&candidacy.election).filter(|grant| (grant.session, grant.serial) == (id, serial)).cloned() {
        Some(grant) => {
            let why = own_reason(state, &grant);
            end_leadership(state, &grant, why, None, effects);
        }
        None => end_waiting(state, id, serial, EndReason::Resigned, &mut effects),
    }
    // The memory of answers may have let go of the campaign meanwhile; then its serial is below the floor and refused too.
    Ok(Reply::Withdrawn { already: false })
}

pub(crate) fn remove(
    state: &mut State,
    name: &str,
    candidate: &str,
    asker: Asker,
    mut effects: Effects<'_>,
) -> Result<Reply, Refusal> {
    let election = elections::found(state, name)?;
    if let Some(leader) = election.leader.clone().filter(|grant| grant.candidate == candidate) {
        match consent(state, &leader, asker)? {
            Consent::Given => {
                let why = own_reason(state, &leader);
                end_leadership(state, &leader, why, None, effects);
            }
            Consent::NotNeeded => end_leadership(state, &leader, EndReason::Removed, None, effects),
            Consent::Asked(wanted) => return Ok(ask(state, &leader, None, wanted, effects)),
        }
        return Ok(Reply::Withdrawn { already: false });
    }
    let waiting = election.queue.get(candidate).ok_or_else(|| not_found(name, candidate))?;
    let (session, serial) = (waiting.session, waiting.serial);
    let why = if asker.by == Some(session) { EndReason::Resigned } else { EndReason::Removed };
    end_waiting(state, session, serial, why, &mut effects);
    Ok(Reply::Withdrawn { already: false })
}

pub(crate) fn transfer(
    state: &mut State,
    name: &str,
    token: Option<Token>,
    to: &str,
    asker: Asker,
    effects: Effects<'_>,
) -> Result<Reply, Refusal> {
    let election = elections::found(state, name)?;
    let grant = match &election.leader {
        Some(grant) if token.is_none_or(|token| token == grant.token) => grant.clone(),
        leader => return Err(elections::stale(name, leader.as_ref())),
    };
    if election.queue.get(to).is_none() {
        return Err(not_found(name, to));
    }
    match consent(state, &grant, asker)? {
        Consent::Given | Consent::NotNeeded => {
            end_leadership(state, &grant, EndReason::Transferred, Some(to.to_owned()), effects);
            Ok(Reply::Transferred)
        }
        Consent::Asked(wanted) => Ok(ask(state, &grant, Some(to.to_owned()), wanted, effects)),
    }
}

/// Somebody wants a session to end that keeps leaderships until its TTL: its client is asked, as [`Guard`] says. A session that
/// holds nothing, or has no guard, is not asked; `None`: end it.
pub(crate) fn ask_to_close(
    state: &mut State,
    id: SessionId,
    guard: Guard,
    events: &mut Vec<Event>,
) -> Result<Option<Reply>, Refusal> {
    let session = state.sessions.get(&id).ok_or(Refusal::SessionEnded { session: id })?;
    let keeps = session.on_disconnect == OnDisconnect::KeepUntilTtl;
    let Some(held) = state.held_by(id).next().filter(|_| keeps) else { return Ok(None) };
    let wish = match guard {
        Guard::Refuse => {
            return Err(Refusal::HolderKeepsUntilTtl { election: held.election.clone(), token: held.token });
        }
        Guard::Ask => Wish::Close,
        Guard::AskAndStopRenewing => Wish::StopRenewing,
        Guard::Break => return Ok(None),
    };
    let grants: Vec<Grant> = state.held_by(id).cloned().collect();
    for grant in &grants {
        ask_holder(state, grant, None, events);
    }
    ask_session(state, id, wish, events);
    Ok(Some(Reply::Requested { session: id }))
}

fn consent(state: &State, grant: &Grant, asker: Asker) -> Result<Consent, Refusal> {
    if asker.by == Some(grant.session) {
        return Ok(Consent::Given);
    }
    let session = state.sessions.get(&grant.session).expect("a leader's session lives");
    if session.on_disconnect != OnDisconnect::KeepUntilTtl {
        return Ok(Consent::NotNeeded);
    }
    match asker.guard {
        Guard::Refuse => Err(Refusal::HolderKeepsUntilTtl { election: grant.election.clone(), token: grant.token }),
        Guard::Ask => Ok(Consent::Asked(Wanted::Leadership)),
        Guard::AskAndStopRenewing => Ok(Consent::Asked(Wanted::EndOfRenewal)),
        Guard::Break => Ok(Consent::NotNeeded),
    }
}

/// Why a leadership ends that its holder gives up: it is a transfer if the holder was asked for one that can still be made.
fn own_reason(state: &State, grant: &Grant) -> EndReason {
    let election = &state.elections[&grant.election];
    let to = election.asked.as_ref().and_then(|asked| asked.to.as_deref());
    if to.is_some_and(|to| election.queue.get(to).is_some()) { EndReason::Transferred } else { EndReason::Resigned }
}

fn ask(state: &mut State, grant: &Grant, to: Option<String>, wanted: Wanted, effects: Effects<'_>) -> Reply {
    ask_holder(state, grant, to, effects.events);
    if wanted == Wanted::EndOfRenewal {
        ask_session(state, grant.session, Wish::StopRenewing, effects.events);
    }
    Reply::Requested { session: grant.session }
}

/// The later request takes the place of the earlier; one that names nobody leaves the name that there is.
fn ask_holder(state: &mut State, grant: &Grant, to: Option<String>, events: &mut Vec<Event>) {
    let election = state.elections.get_mut(&grant.election).expect("a leader leads an election");
    let named = election.asked.as_ref().and_then(|asked| asked.to.clone());
    let hand_over = HandOver { token: grant.token, to: to.or(named) };
    if election.asked.as_ref() == Some(&hand_over) {
        return; // it was told, and whoever attaches is told again
    }
    election.asked = Some(hand_over.clone());
    let (session, serial, election) = (grant.session, grant.serial, grant.election.clone());
    events.push(Event::EndRequested { session, serial, election, hand_over });
}

/// A wish is never taken back, and never becomes less.
fn ask_session(state: &mut State, id: SessionId, wish: Wish, events: &mut Vec<Event>) {
    let session = state.sessions.get_mut(&id).expect("only a live session is asked");
    let wish = session.wish.map_or(wish, |earlier| earlier.max(wish));
    if session.wish == Some(wish) {
        return;
    }
    session.wish = Some(wish);
    events.push(Event::SessionAsked { session: id, wish });
}

/// Ends a leadership whose session lives on, and fills the election; `to` goes first, else whom the holder was asked to prefer.
fn end_leadership(state: &mut State, grant: &Grant, why: EndReason, to: Option<String>, effects: Effects<'_>) {
    let session = state.sessions.get_mut(&grant.session).expect("a leader's session lives");
    let candidacy = session.candidacies.remove(&grant.serial).expect("a leader stands in its session");
    let mut vacated = Vacated::default();
    elections::end_candidacy(state, grant.session, grant.serial, &candidacy, why, &mut vacated);
    assert_eq!(vacated.len(), 1, "exactly the leadership of {} ended", grant.token);
    if to.is_some() {
        vacated.values_mut().for_each(|ended| ended.to = to.clone());
    }
    let (session, serial, election, token) = (grant.session, grant.serial, grant.election.clone(), grant.token);
    effects.events.push(Event::Revoked { session, serial, election, token, why });
    elections::fill(state, vacated, effects.at_unix_ms, effects.events);
}

/// Ends a candidacy that waits and whose session lives on. Nothing becomes vacant.
fn end_waiting(state: &mut State, id: SessionId, serial: Serial, why: EndReason, effects: &mut Effects<'_>) {
    let session = state.sessions.get_mut(&id).expect("a candidate's session lives");
    let candidacy = session.candidacies.remove(&serial).expect("a candidate stands in its session");
    let mut vacated = Vacated::default();
    elections::end_candidacy(state, id, serial, &candidacy, why, &mut vacated);
    assert!(vacated.is_empty(), "who waits leads nothing");
    effects.events.push(Event::Withdrawn { session: id, serial, election: candidacy.election, why });
}

fn not_found(election: &str, candidate: &str) -> Refusal {
    Refusal::CandidateNotFound { election: election.to_owned(), candidate: candidate.to_owned() }
}
