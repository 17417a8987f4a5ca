//! Sessions: one that was renewed lives for its TTL from then on, and one that has ended never lives again.
//!
//! `keep_until_ttl`: from the sending of a keep-alive that was acknowledged until its `deadline_ns` nobody may find the session gone,
//! unless its client closed it or an administrator removed it. Both kinds: once somebody saw it gone, no keep-alive that begins later
//! succeeds and no later question finds it alive. Keys bound to it go with it: not before, and not later. How late a session that
//! nobody renews ends is a figure of the report, not a promise that is judged here.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::history::{History, OnDisconnect, Op, Record, Type, f};
use crate::verdict::Finding;

pub(super) const NAME: &str = "sessions";

#[derive(Default)]
struct Session<'a> {
    kind: Option<OnDisconnect>,
    /// Renewals that succeeded: when sent, until when it lives, the operation.
    renewals: Vec<(u64, u64, Op<'a>)>,
    /// Who saw it gone: the operation or the line, when it was known at the latest, whether that was by itself.
    gone: Vec<Gone>,
    /// When its client, or somebody else, began to end it.
    closed_at: Option<usize>,
    alive: Vec<(Op<'a>, Option<u64>)>,
    opened: usize,
}

struct Gone {
    line: usize,
    time_ns: u64,
    seq: Option<u64>,
    /// Ended by somebody: no promise of a TTL was broken.
    by_request: bool,
}

type Problem = Option<(String, Vec<usize>)>;

pub(super) fn check(history: &History) -> Finding {
    let sessions = sessions(history);
    let renewals: usize = sessions.values().map(|session| session.renewals.len()).sum();
    if sessions.values().all(|session| session.opened == 0) {
        return Finding::nothing(NAME, "no session that was opened");
    }
    for (id, session) in &sessions {
        let problem = opened_twice(session)
            .or_else(|| gone_too_early(session))
            .or_else(|| alive_again(session))
            .or_else(|| bound_keys(history, *id, session));
        if let Some((detail, lines)) = problem {
            return Finding::violation(NAME, format!("session {id}: {detail}"), lines);
        }
    }
    let gone = sessions.values().filter(|session| !session.gone.is_empty()).count();
    Finding::pass(NAME, format!("{} sessions, {renewals} renewals, {gone} seen to end", sessions.len()))
}

fn sessions(history: &History) -> BTreeMap<u64, Session<'_>> {
    let mut sessions: BTreeMap<u64, Session<'_>> = BTreeMap::new();
    for op in history.ops() {
        let Some(id) = op.ok().or(Some(op.invoke)).and_then(|record| record.session) else { continue };
        let line = op.ended_at.unwrap_or(op.invoked_at);
        match (op.invoke.f.as_str(), op.ok()) {
            (f::SESSION_OPEN | f::SESSION_KEEPALIVE, Some(ok)) => {
                let session = sessions.entry(id).or_default();
                if op.invoke.f == f::SESSION_OPEN {
                    (session.kind, session.opened) = (ok.on_disconnect, session.opened + 1);
                }
                session.renewals.push((op.invoke.time_ns, ok.deadline_ns.unwrap_or(op.invoke.time_ns), op));
                session.alive.push((op, None));
            }
            (f::SESSION_CHECK, Some(ok)) => {
                let session = sessions.entry(id).or_default();
                if ok.value == true {
                    session.alive.push((op, ok.seq));
                } else {
                    session.gone.push(Gone { line, time_ns: ok.time_ns, seq: ok.seq, by_request: false });
                }
            }
            (f::SESSION_KEEPALIVE, None) => {
                let ended =
                    op.end.filter(|end| end.kind == Type::Fail && end.error.as_deref() == Some("session_ended"));
                if let Some(end) = ended {
                    let gone = Gone { line, time_ns: end.time_ns, seq: end.seq, by_request: false };
                    sessions.entry(id).or_default().gone.push(gone);
                }
            }
            // Whatever became of it: it may take effect from here on.
            (f::SESSION_CLOSE, _) => {
                let session = sessions.entry(id).or_default();
                session.closed_at = Some(session.closed_at.map_or(op.invoked_at, |at| at.min(op.invoked_at)));
            }
            _ => {}
        }
    }
    for (line, record) in history.seen(f::SESSION_ENDED) {
        let Some(session) = record.session.and_then(|id| sessions.get_mut(&id)) else { continue };
        let by_request = matches!(record.error.as_deref(), Some("closed" | "removed" | "restored"));
        session.gone.push(Gone { line, time_ns: record.time_ns, seq: record.seq, by_request });
    }
    for session in sessions.values_mut() {
        session.gone.sort_by_key(|gone| gone.line);
    }
    sessions
}

fn opened_twice(session: &Session<'_>) -> Problem {
    let opened: Vec<&Op<'_>> =
        session.renewals.iter().map(|(.., op)| op).filter(|op| op.invoke.f == f::SESSION_OPEN).collect();
    let lines = opened.iter().flat_map(|op| op.lines()).collect();
    (opened.len() > 1).then(|| ("its id was given twice".to_owned(), lines))
}

fn gone_too_early(session: &Session<'_>) -> Problem {
    if session.kind != Some(OnDisconnect::KeepUntilTtl) {
        return None;
    }
    for gone in session.gone.iter().filter(|gone| !gone.by_request && session.closed_at.is_none_or(|at| gone.line < at))
    {
        let owed = session.renewals.iter().find(|(sent, until, _)| (*sent..*until).contains(&gone.time_ns));
        if let Some((sent, until, op)) = owed {
            let detail =
                format!("it was renewed at {sent} ns until {until} ns, and was gone at {} ns already", gone.time_ns);
            return Some((detail, op.lines().chain([gone.line]).collect()));
        }
    }
    None
}

fn alive_again(session: &Session<'_>) -> Problem {
    let first = session.gone.first()?;
    if let Some((op, _)) = session.alive.iter().find(|(op, _)| op.invoked_at > first.line) {
        let detail = format!("`{}` found it alive, after it had been seen to be gone", op.invoke.f);
        return Some((detail, op.lines().chain([first.line]).collect()));
    }
    let gone = session.gone.iter().filter_map(|gone| Some((gone.seq?, gone.line))).min()?;
    let (op, seq) = session.alive.iter().find(|(_, seq)| seq.is_some_and(|seq| seq >= gone.0))?;
    let detail = format!("it was alive at seq {}, and gone at seq {} already", seq.unwrap_or_default(), gone.0);
    Some((detail, op.lines().chain([gone.1]).collect()))
}

/// Keys that end with the session, each written once: not gone while the session must live, gone once it is.
fn bound_keys(history: &History, id: u64, session: &Session<'_>) -> Problem {
    let mut writers: HashMap<&str, BTreeSet<usize>> = HashMap::new();
    let mut bound: HashMap<&str, (Op<'_>, &Record)> = HashMap::new();
    for op in history.ops().filter(|op| matches!(op.invoke.f.as_str(), f::WRITE | f::CAS | f::DELETE)) {
        let Some(key) = op.invoke.key.as_deref() else { continue };
        writers.entry(key).or_default().insert(op.invoked_at);
        if let Some(ok) = op.ok().filter(|_| op.invoke.session == Some(id)) {
            bound.insert(key, (op, ok));
        }
    }
    bound.retain(|key, _| writers[key].len() == 1);
    if bound.is_empty() {
        return None;
    }
    let gone = session.gone.first().map(|gone| gone.line);
    for op in history.ops_of(f::READ) {
        let Some(ok) = op.ok() else { continue };
        let Some((write, written)) = op.invoke.key.as_deref().and_then(|key| bound.get(key)) else { continue };
        let lines = |more: Option<usize>| write.lines().chain(op.lines()).chain(more).collect();
        let key = op.invoke.key.as_deref().unwrap_or_default();
        if ok.value == written.value && gone.is_some_and(|gone| gone < op.invoked_at) {
            return Some((format!("the key {key} is still there after the session that it is bound to"), lines(gone)));
        }
        let owed = session.kind == Some(OnDisconnect::KeepUntilTtl)
            && session.closed_at.is_none_or(|at| op.ended_at.is_some_and(|end| end < at))
            && session.renewals.iter().any(|(sent, until, _)| (*sent..*until).contains(&ok.time_ns))
            && !session.gone.iter().any(|gone| gone.by_request);
        if ok.value.is_null() && owed && write.ended_at.is_some_and(|end| end < op.invoked_at) {
            return Some((format!("the key {key} is gone before the session that it is bound to"), lines(None)));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::testing::verdicts;

    #[test]
    fn histories_by_hand() {
        verdicts(super::NAME, super::check);
    }
}
