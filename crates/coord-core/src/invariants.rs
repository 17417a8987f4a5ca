//! What is always true of a state, and of one step. Visits everything: for tests, simulation and what comes off a disk.
//! It shares no code with what it checks.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use palisade_fence::Token;

use crate::command::{Command, OnDisconnect, Op};
use crate::keys::Version;
use crate::limits::{
    CANDIDACY_SHARE_BYTES, COMPONENT_SHARE_BYTES, MAX_ANSWER_BYTES, MAX_ANSWERS, MAX_CANDIDACIES, MAX_CANDIDACY_BYTES,
    MAX_CANDIDATES, MAX_ELECTIONS, MAX_KEY_HISTORY_BYTES, MAX_KEY_SPACE_BYTES, MAX_KEYS, MAX_SESSION_KEYS,
    MAX_SESSIONS, VERSION_SHARE_BYTES,
};
use crate::memory::is_small;
use crate::outcome::{Event, Outcome};
use crate::state::{Election, Session};
use crate::{Serial, SessionId, State, answers, history, level};

/// An invariant that does not hold: the program is wrong, or the state was damaged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Broken(pub(crate) String);

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invariant broken: {}", self.0)
    }
}

impl std::error::Error for Broken {}

/// Fails with words unless the condition holds.
macro_rules! hold {
    ($condition:expr, $($words:tt)+) => {
        if !$condition {
            return Err(Broken(format!($($words)+)));
        }
    };
}

/// Checks every invariant that stands on a field of the state.
pub fn check(state: &State) -> Result<(), Broken> {
    counters(state)?;
    for (&id, session) in &state.sessions {
        session_is_sound(state, id, session)?;
    }
    let mut tokens = BTreeMap::new();
    let mut standing = BTreeSet::new();
    for (name, election) in &state.elections {
        election_is_sound(state, name, election)?;
        for (session, serial) in stand(election) {
            hold!(standing.insert((session, serial)), "session {session} stands twice under serial {serial}");
        }
        if let Some(grant) = &election.leader {
            let other = tokens.insert(grant.token, name);
            hold!(other.is_none(), "token {} leads in {name:?} and in {other:?}", grant.token);
        }
    }
    let listed: usize = state.sessions.values().map(|session| session.candidacies.len()).sum();
    hold!(listed == standing.len(), "sessions list {listed} candidacies, elections {}", standing.len());
    candidacy_bytes(state)?;
    past(state)?;
    keys(state)?;
    answers(state)
}

/// Checks what one command may have done to a state.
pub fn check_step(before: &State, command: &Command, outcome: &Outcome, after: &State) -> Result<(), Broken> {
    hold!(after.seq.get() == before.seq.get() + 1, "seq went from {} to {}", before.seq, after.seq);
    hold!(after.keys.compacted >= before.keys.compacted, "compaction went back to {}", after.keys.compacted);
    hold!(after.keys.watchable >= before.keys.watchable, "compaction went back to {}", after.keys.watchable);
    hold!(after.revision >= before.revision, "the revision went back to {}", after.revision);
    hold!(after.revision.get() <= before.revision.get() + 1, "one command made two revisions");
    hold!(after.last_token >= before.last_token, "tokens went back to {}", after.last_token);
    hold!(before.cluster.is_none() || after.cluster == before.cluster, "the cluster was renamed");
    hold!(after.generation == before.generation, "only a restore changes the generation");
    let raised = match &command.op {
        Op::RaiseLevel { level } => before.level.max(*level),
        _ => before.level,
    };
    hold!(after.level == raised, "the level went from {} to {}, not to {raised}", before.level, after.level);
    hold!(outcome.reply.is_ok() || outcome.events.is_empty(), "a refused command told events");

    let mut filled = BTreeSet::new();
    for event in &outcome.events {
        if let Some(name) = history::observed(event) {
            let last = after.told.of(name).last().map(|(seq, told)| (seq, &told.event));
            hold!(last.is_none_or(|last| last == (after.seq, event)), "observers of {name:?} resume from {last:?}");
        }
        match event {
            Event::Elected { grant, previous } => {
                let name = &grant.election;
                hold!(filled.insert(name.clone()), "election {name:?} was filled twice by one command");
                hold!(grant.token > before.last_token, "token {} was granted before", grant.token);
                hold!(grant.seq == after.seq, "the grant of {name:?} carries another command's seq");
                hold!(after.leader(name) == Some(grant), "the event of {name:?} names another leader than the state");
                let led = before.leader(name).map(|grant| grant.token);
                hold!(previous.map(|it| it.0) == led, "{led:?} led {name:?}, the event says {previous:?}");
            }
            Event::Vacant { election, previous, .. } => {
                hold!(filled.insert(election.clone()), "election {election:?} was vacated twice by one command");
                hold!(after.leader(election).is_none(), "election {election:?} is not vacant");
                let led = before.leader(election).map(|grant| grant.token);
                hold!(led == Some(*previous), "{led:?} led {election:?}, the event says {previous}");
            }
            Event::SessionEnded { session, .. } => {
                hold!(before.session(*session).is_some(), "session {session} ended twice");
                hold!(after.session(*session).is_none(), "session {session} was said to end and lives");
            }
            Event::Withdrawn { session, serial, election, .. } => {
                let stands = |state: &State| {
                    state
                        .session(*session)
                        .is_some_and(|it| it.candidacies.get(serial).is_some_and(|it| it.election == *election))
                };
                hold!(after.session(*session).is_some(), "session {session} ended, it was not withdrawn");
                hold!(stands(before) && !stands(after), "serial {serial} of session {session} was not withdrawn");
            }
            Event::EndRequested { session, election, hand_over, .. } => {
                let holder = after.leader(election).map(|it| it.session);
                hold!(holder == Some(*session), "session {session} does not hold {election:?} and was asked for it");
                let asked = after.election(election).and_then(|it| it.asked.as_ref());
                hold!(asked == Some(hand_over), "the holder of {election:?} was told {hand_over:?}, not {asked:?}");
            }
            Event::SessionAsked { session, wish } => {
                hold!(after.session(*session).is_some_and(|it| it.wish == Some(*wish)), "session {session}: {wish:?}");
            }
            Event::Revoked { session, election, token, .. } => {
                hold!(after.session(*session).is_some(), "session {session} ended, it was not revoked");
                hold!(after.leader(election).is_none_or(|it| it.token != *token), "{token} was revoked and leads");
            }
            Event::ValueChanged { grant } => {
                hold!(after.leader(&grant.election) == Some(grant), "the value of no leader changed");
            }
            Event::KeyChanged { key, revision, version } => {
                hold!(*revision == after.revision, "a key changed at revision {revision}");
                let last = outcome.events.iter().rev().find_map(|it| match it {
                    Event::KeyChanged { key: other, version, .. } if other == key => Some(*version),
                    _ => None,
                });
                hold!(last != Some(*version) || after.get(key).map(|kv| kv.version) == *version, "a key's event lies");
                let made = after.keys.lineages.get(key.as_slice()).map(|it| it.last.revision);
                hold!(made.is_none_or(|made| made == after.revision), "a key changed at {made:?}");
            }
        }
    }
    for (name, election) in after.elections() {
        let (was, is) = (before.leader(name).map(|it| it.token), election.leader.as_ref().map(|it| it.token));
        hold!(was == is || filled.contains(name), "the leader of {name:?} changed from {was:?} to {is:?} in silence");
        hold!(was == is || was.is_none() || recorded(after, name, was), "the history of {name:?} has no {was:?}");
        let last = before.election(name).and_then(|it| it.last_token);
        hold!(election.last_token >= last, "the last token of {name:?} went back");
    }
    hold!(before.elections().all(|(name, _)| after.election(name).is_some()), "an election went away");
    for (id, session) in before.sessions() {
        let ended = outcome.events.iter().any(|it| matches!(it, Event::SessionEnded { session, .. } if *session == id));
        let Some(now) = after.session(id) else {
            hold!(ended, "session {id} ended in silence");
            continue;
        };
        let attached = matches!(&command.op, Op::Attach { session } if *session == id);
        let expected = session.attach.get() + u64::from(attached);
        hold!(now.attach.get() == expected, "session {id} has attach generation {}, not {expected}", now.attach);
        hold!(now.wish >= session.wish, "a wish was taken back from session {id}");
        hold!(now.memory.floor() >= session.memory.floor(), "session {id} remembers what it had forgotten");
    }
    Ok(())
}

/// Whether the present command ended the leadership of a token, by the history. One that is too large for it goes at once.
fn recorded(after: &State, election: &str, token: Option<Token>) -> bool {
    let (seq, reign) = match after.history.of(election).last() {
        Some(last) => last,
        None => return true,
    };
    seq == after.seq && Some(reign.token) == token
}

fn counters(state: &State) -> Result<(), Broken> {
    hold!(state.generation <= u32::MAX >> 1, "a generation has 31 bits, not {}", state.generation);
    hold!(state.level >= level::FIRST, "there is no level {}", state.level);
    hold!(state.revision.get() <= state.seq.get(), "revision {} is above seq {}", state.revision, state.seq);
    hold!(state.last_token.generation() >= state.generation, "the last token is of an older generation");
    hold!(state.last_session.generation() >= state.generation, "the last session is of an older generation");
    hold!(state.session_count() <= MAX_SESSIONS, "{} sessions", state.session_count());
    hold!(state.election_count() <= MAX_ELECTIONS, "{} elections", state.election_count());
    Ok(())
}

fn session_is_sound(state: &State, id: SessionId, session: &Session) -> Result<(), Broken> {
    hold!(id.is_given() || (id.get() > 0 && id <= state.last_session), "session {id} was never opened");
    hold!(session.attach.get() >= 1, "session {id} was never attached");
    let guarded = session.on_disconnect == OnDisconnect::KeepUntilTtl;
    hold!(session.wish.is_none() || guarded, "session {id} has no guard, and was asked: {:?}", session.wish);
    hold!(session.keys.len() as u64 <= MAX_SESSION_KEYS, "session {id} has {} keys", session.keys.len());
    hold!(session.candidacies.len() as u64 <= MAX_CANDIDACIES, "session {id} stands too often");
    for (serial, candidacy) in &session.candidacies {
        let election = state.elections.get(&candidacy.election);
        let Some(election) = election else {
            return Err(Broken(format!("session {id} stands in {:?}, which there is not", candidacy.election)));
        };
        let leads = election.leader.as_ref().is_some_and(|it| {
            (it.session, it.serial, it.candidate.as_str()) == (id, *serial, candidacy.candidate.as_str())
        });
        let waits = election
            .queue
            .get(&candidacy.candidate)
            .is_some_and(|waiting| (waiting.session, waiting.serial) == (id, *serial));
        hold!(leads != waits, "session {id}, serial {serial}: leads {leads}, waits {waits}");
    }

    let memory = &session.memory;
    hold!(memory.answers().len() <= MAX_ANSWERS, "session {id} remembers {} answers", memory.answers().len());
    for (serial, answer) in memory.answers() {
        hold!(serial >= memory.floor(), "session {id} remembers serial {serial} below its floor");
        hold!(answer.seq <= state.seq && answer.revision <= state.revision, "session {id} remembers the future");
        hold!(is_small(&answer.reply), "session {id} remembers too much: {:?}", answer.reply);
    }
    Ok(())
}

fn election_is_sound(state: &State, name: &str, election: &Election) -> Result<(), Broken> {
    hold!(election.queue.is_whole(), "the indexes of the line of {name:?} differ");
    hold!(election.queue.len() as u64 <= MAX_CANDIDATES, "{} wait in {name:?}", election.queue.len());
    hold!(election.last_token <= Some(state.last_token), "the last token of {name:?} was never granted");
    match &election.leader {
        None => hold!(election.queue.is_empty(), "somebody waits in {name:?}, and nobody leads"),
        Some(grant) => {
            hold!(grant.election == name, "the grant of {name:?} names {:?}", grant.election);
            hold!(Some(grant.token) == election.last_token, "{} leads {name:?} after a newer token", grant.token);
            hold!(grant.token.counter() > 0 || grant.token.generation() > 0, "a leader of {name:?} without a token");
            hold!(grant.seq <= state.seq, "the grant of {name:?} is from the future");
            hold!(election.queue.get(&grant.candidate).is_none(), "the leader of {name:?} waits too");
        }
    }
    if let Some(asked) = &election.asked {
        let leads = election.leader.as_ref().map(|it| it.token);
        hold!(leads == Some(asked.token), "{leads:?} leads {name:?}, and {} was asked", asked.token);
        let keeps = election.leader.as_ref().and_then(|it| state.sessions.get(&it.session));
        hold!(keeps.is_some_and(|it| it.on_disconnect == OnDisconnect::KeepUntilTtl), "{name:?} needs no consent");
    }
    for (place, waiting) in election.queue.iter() {
        hold!(place.arrived <= state.seq, "{:?} arrived in {name:?} in the future", waiting.candidate);
    }
    for (session, serial) in stand(election) {
        let stands = state.sessions.get(&session).is_some_and(|it| it.candidacies.contains_key(&serial));
        hold!(stands, "a candidate of {name:?} does not stand in a live session: {session}, serial {serial}");
    }
    Ok(())
}

/// Under which session and serial anybody stands in an election.
fn stand(election: &Election) -> impl Iterator<Item = (SessionId, Serial)> {
    let leader = election.leader.iter().map(|grant| (grant.session, grant.serial));
    leader.chain(election.queue.iter().map(|(_, waiting)| (waiting.session, waiting.serial)))
}

fn answers(state: &State) -> Result<(), Broken> {
    let (mut ages, mut bytes) = (BTreeMap::new(), 0);
    for (&id, session) in &state.sessions {
        for (serial, answer) in session.memory.answers() {
            let twice = ages.insert(answer.seq, (id, serial));
            hold!(twice.is_none(), "command {} was answered twice", answer.seq);
            bytes += answers::weight(answer);
        }
    }
    hold!(ages == state.answers.ages, "the answers by age are not those of the sessions");
    hold!(bytes == state.answers.bytes, "{bytes} bytes of answers, counted as {}", state.answers.bytes);
    hold!(bytes <= MAX_ANSWER_BYTES, "{bytes} bytes of answers");
    Ok(())
}

fn candidacy_bytes(state: &State) -> Result<(), Broken> {
    let mut bytes = 0;
    for (name, election) in &state.elections {
        let leader = election.leader.iter().map(|grant| (&grant.candidate, &grant.value));
        for (candidate, value) in leader.chain(election.queue.iter().map(|(_, it)| (&it.candidate, &it.value))) {
            bytes += CANDIDACY_SHARE_BYTES + name.len() as u64 + candidate.len() as u64;
            bytes += value.address.len() as u64 + value.data.len() as u64;
            for (component, address) in &value.components {
                bytes += COMPONENT_SHARE_BYTES + component.len() as u64 + address.len() as u64;
            }
        }
    }
    hold!(bytes == state.candidacy_bytes, "{bytes} bytes of candidacies, counted as {}", state.candidacy_bytes);
    hold!(bytes <= MAX_CANDIDACY_BYTES, "{bytes} bytes of candidacies");
    Ok(())
}

fn past(state: &State) -> Result<(), Broken> {
    state.history.check(state.seq)?;
    state.told.check(state.seq)?;
    for (name, page) in state.history.pages() {
        let name = &**name;
        let Some(election) = state.elections.get(name) else {
            return Err(Broken(format!("{name:?} has a history, and there is no such election")));
        };
        let mut last = None;
        for (until, reign) in &page.records {
            hold!(last < Some(reign.token), "{} led {name:?} after {last:?}", reign.token);
            hold!(reign.since < *until, "{} of {name:?} ended before it began", reign.token);
            last = Some(reign.token);
        }
        let leads = election.leader.as_ref().map(|it| it.token);
        hold!(leads.is_none_or(|leads| last < Some(leads)), "{leads:?} leads {name:?} and is history");
    }
    for (name, page) in state.told.pages() {
        let name = &**name;
        hold!(state.elections.contains_key(name), "observers of {name:?} were told, and there is no such election");
        for (seq, told) in &page.records {
            hold!(history::observed(&told.event) == Some(name), "observers of {name:?} were told {:?}", told.event);
            hold!(told.revision <= state.revision, "observers of {name:?} were told the future");
            if let Event::Elected { grant, .. } = &told.event {
                hold!(grant.seq == *seq, "{} of {name:?} was granted by {}, not {seq}", grant.token, grant.seq);
            }
        }
        let Some((_, last)) = page.records.back() else { continue };
        let told = match &last.event {
            Event::Elected { grant, .. } | Event::ValueChanged { grant } => Some(grant),
            _ => None,
        };
        let leader = state.leader(name);
        let same = told.map(|it| (it.token, &it.value)) == leader.map(|it| (it.token, &it.value));
        hold!(same, "observers of {name:?} were told {told:?}, the state says {leader:?}");
    }
    Ok(())
}

fn keys(state: &State) -> Result<(), Broken> {
    let space = &state.keys;
    hold!(space.compacted <= state.revision, "compacted at {}, which is to come", space.compacted);
    let watchable = space.watchable.get().wrapping_sub(space.compacted.get());
    hold!(watchable <= 1, "read from {} on, watched from {} on", space.compacted, space.watchable);

    let (mut count, mut bytes, mut past, mut bound) = (0, 0, 0, 0);
    let mut changes = BTreeMap::new();
    for (key, lineage) in &space.lineages {
        let mut earlier: Option<&Version> = None;
        for version in lineage.versions() {
            let is_last = std::ptr::eq(version, &lineage.last);
            let size = (key.len() + version.kv.as_ref().map_or(0, |kv| kv.value.len())) as u64;
            if is_last && version.kv.is_some() {
                count += 1;
                bytes += size;
            } else {
                past += VERSION_SHARE_BYTES + size;
            }
            hold!(version.revision <= state.revision, "a key was written in the future");
            hold!(earlier.is_none_or(|it| it.revision < version.revision), "the past of a key is out of order");
            if let Some(kv) = &version.kv {
                hold!(kv.mod_revision == version.revision, "a key was written at {}", kv.mod_revision);
                hold!(kv.version >= 1, "a key was never written");
                hold!(kv.create_revision.get() >= 1, "a key came into being before the first revision");
                hold!(kv.create_revision <= kv.mod_revision, "a key was written before it came into being");
            }
            if space.first_change().is_some_and(|first| first <= (version.revision, version.place)) {
                let twice = changes.insert((version.revision, version.place), key);
                hold!(twice.is_none(), "two keys have one place among the changes of {}", version.revision);
            }
            earlier = Some(version);
        }
        // Of what is no longer a change, only what a key had at the first that is one.
        let before = lineage.versions().filter(|it| Some((it.revision, it.place)) < space.first_change()).count();
        hold!(before <= 1 || space.first_change().is_none(), "a key keeps {before} versions that are compacted");
        if let Some(id) = lineage.last.kv.as_ref().and_then(|kv| kv.session) {
            bound += 1;
            let listed = state.sessions.get(&id).is_some_and(|session| session.keys.contains(key));
            hold!(listed, "a key is bound to session {id}, which does not list it");
        }
    }
    let kept = space.changes.iter().map(|change| ((change.revision, change.place), &change.key));
    hold!(kept.eq(changes), "the changes that are kept are not the versions that are");
    let listed: usize = state.sessions.values().map(|session| session.keys.len()).sum();
    hold!(listed == bound, "sessions list {listed} keys, and {bound} are bound");
    hold!(count == space.count && count <= MAX_KEYS, "{count} keys, counted as {}", space.count);
    hold!(bytes == space.bytes, "{bytes} bytes of keys and values, counted as {}", space.bytes);
    hold!(bytes <= MAX_KEY_SPACE_BYTES, "{bytes} bytes of keys and values");
    hold!(past == space.past_bytes, "{past} bytes of the past of keys, counted as {}", space.past_bytes);
    hold!(past <= MAX_KEY_HISTORY_BYTES, "{past} bytes of the past of keys");
    Ok(())
}
