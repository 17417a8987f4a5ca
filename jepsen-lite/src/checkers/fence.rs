//! No fenced write is accepted under any other token than the election's current one at that write's `seq`.
//!
//! What is current is known from the sights of grants and of vacancies, which carry their `seq`. Accepted tokens also never fall, by
//! `seq` and in real time, whether or not anybody saw the grants. A stale write whose outcome is unknown and that shows up in a read
//! is found by `replay`.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::grants::{Grant, grants};
use crate::history::{History, Op, Record, Type, f};
use crate::verdict::Finding;

pub(super) const NAME: &str = "fence";

/// Operations on the store that may carry a fence.
const FENCED: &[&str] = &[f::WRITE, f::CAS, f::DELETE, f::TXN];

struct Accepted<'a> {
    op: Op<'a>,
    ok: &'a Record,
    token: u64,
}

/// What is known of one election.
#[derive(Default)]
struct Known<'a> {
    by_seq: BTreeMap<u64, Grant<'a>>,
    tokens: HashSet<u64>,
    /// `seq` of each vacancy, with its line.
    vacant: BTreeMap<u64, usize>,
}

pub(super) fn check(history: &History) -> Finding {
    let mut elections: BTreeMap<&str, Vec<Accepted<'_>>> = BTreeMap::new();
    let mut refused = 0;
    for op in history.ops().filter(|op| FENCED.contains(&op.invoke.f.as_str()) && !op.invoke.is_nemesis()) {
        let (Some(election), Some(token)) = (op.invoke.election.as_deref(), op.invoke.token) else { continue };
        match op.ok() {
            Some(ok) => elections.entry(election).or_default().push(Accepted { op, ok, token }),
            None => refused += usize::from(op.end.is_some_and(|end| end.error.as_deref() == Some("stale"))),
        }
    }
    let accepted: usize = elections.values().map(Vec::len).sum();
    if accepted == 0 {
        return Finding::nothing(NAME, format!("no fenced write that was accepted ({refused} refused)"));
    }
    let known = known(history);
    for (election, writes) in &mut elections {
        let problem = known
            .get(election)
            .and_then(|known| writes.iter().find_map(|write| against_grants(write, known)))
            .or_else(|| falls_by_seq(writes))
            .or_else(|| falls_in_real_time(writes));
        if let Some((detail, lines)) = problem {
            return Finding::violation(NAME, format!("{election}: {detail}"), lines);
        }
    }
    Finding::pass(
        NAME,
        format!("{accepted} fenced writes accepted, each under the current token; {refused} stale ones refused"),
    )
}

fn known(history: &History) -> HashMap<&str, Known<'_>> {
    let mut all: HashMap<&str, Known<'_>> = HashMap::new();
    for grant in grants(history) {
        let known = all.entry(grant.election).or_default();
        known.tokens.insert(grant.token);
        if let Some(seq) = grant.seq {
            known.by_seq.entry(seq).or_insert(grant);
        }
    }
    for (line, record) in history.seen(f::OBSERVE).filter(|(_, record)| record.value["event"] == "vacant") {
        if let (Some(election), Some(seq)) = (record.election.as_deref(), record.seq) {
            all.entry(election).or_default().vacant.insert(seq, line);
        }
    }
    all
}

type Problem = Option<(String, Vec<usize>)>;

fn against_grants(write: &Accepted<'_>, known: &Known<'_>) -> Problem {
    let lines = |more: Option<usize>| write.op.lines().chain(more).collect();
    let token = write.token;
    if !known.tokens.is_empty() && !known.tokens.contains(&token) {
        return Some((format!("a write was accepted under token {token}, which nobody was seen to hold"), lines(None)));
    }
    let seq = write.ok.seq?;
    if let Some((at, granted)) = known.by_seq.range(seq + 1..).find(|(_, grant)| grant.token == token) {
        let detail = format!("a write was accepted at seq {seq} under token {token}, which was granted at seq {at}");
        return Some((detail, lines(Some(granted.line))));
    }
    let (granted_at, current) = known.by_seq.range(..=seq).next_back()?;
    if token < current.token {
        return Some((
            format!("a stale write was accepted at seq {seq} under token {token}, after {current}"),
            lines(Some(current.line)),
        ));
    }
    if token == current.token
        && let Some((at, line)) = known.vacant.range(granted_at + 1..=seq).next()
    {
        let detail = format!(
            "a stale write was accepted at seq {seq} under token {token}, whose leadership had ended at seq {at}"
        );
        return Some((detail, lines(Some(*line))));
    }
    None
}

fn falls_by_seq(writes: &mut [Accepted<'_>]) -> Problem {
    writes.sort_by_key(|write| write.ok.seq);
    let with_seq: Vec<&Accepted<'_>> = writes.iter().filter(|write| write.ok.seq.is_some()).collect();
    let (before, after) =
        with_seq.iter().zip(with_seq.iter().skip(1)).find(|(before, after)| after.token < before.token)?;
    let detail = format!(
        "a stale write was accepted: token {} at seq {} after token {} at seq {}",
        after.token,
        after.ok.seq.unwrap_or_default(),
        before.token,
        before.ok.seq.unwrap_or_default()
    );
    Some((detail, before.op.lines().chain(after.op.lines()).collect()))
}

/// Also where the tested system tells no `seq`: what began after another had been accepted carries no lower token.
fn falls_in_real_time(writes: &mut [Accepted<'_>]) -> Problem {
    let calls: Vec<(Op<'_>, u64)> = writes.iter().map(|write| (write.op, write.token)).collect();
    let (newer, older) = falls(&calls)?;
    let detail =
        format!("a stale write was accepted: token {} began after token {} had been accepted", older.1, newer.1);
    Some((detail, newer.0.lines().chain(older.0.lines()).collect()))
}

/// The first accepted call that began after one with a higher token had been accepted: that one, and it.
pub(super) fn falls<'a>(accepted: &[(Op<'a>, u64)]) -> Option<((Op<'a>, u64), (Op<'a>, u64))> {
    let end = |op: &Op<'_>| op.ended_at.unwrap_or(usize::MAX);
    let mut begun: Vec<&(Op<'a>, u64)> = accepted.iter().collect();
    begun.sort_by_key(|(op, _)| op.invoked_at);
    let mut ended = begun.clone();
    ended.sort_by_key(|(op, _)| end(op));
    let mut ended = ended.into_iter().filter(|(op, _)| op.outcome() == Type::Ok).peekable();
    let mut highest: Option<&(Op<'a>, u64)> = None;
    for call in begun {
        while let Some(before) = ended.next_if(|(op, _)| end(op) < call.0.invoked_at) {
            if highest.is_none_or(|highest| before.1 > highest.1) {
                highest = Some(before);
            }
        }
        if let Some(newer) = highest.filter(|newer| newer.1 > call.1) {
            return Some((*newer, *call));
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
