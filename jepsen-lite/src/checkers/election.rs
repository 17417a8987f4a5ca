//! At each `seq` an election has at most one grant, a token has at most one holder for ever, and in the order of `seq` the tokens of
//! an election strictly rise.
//!
//! A grant is seen by its candidate (`campaign`, `grant`), by observers (`observe`) and by whoever asks (`leader`); all must agree.
//! An answer to `leader` may not name an older grant than one that is known at or before its `seq`, and answers never go back
//! against real time. It does not judge whether beliefs overlap (`belief`), nor what holders wrote (`fence`).

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::grants::{Grant, grants};
use crate::history::{History, f};
use crate::verdict::Finding;

pub(super) const NAME: &str = "election";

pub(super) fn check(history: &History) -> Finding {
    let sights: Vec<Grant<'_>> = grants(history).collect();
    if sights.is_empty() {
        let asked = history.ops_of(f::CAMPAIGN).next().is_some();
        let nothing = "no grant that anybody saw";
        return if asked { Finding::unknown(NAME, nothing) } else { Finding::nothing(NAME, nothing) };
    }
    let problem = one_holder_per_token(&sights)
        .or_else(|| tokens_rise(&sights))
        .or_else(|| known_candidates(history, &sights))
        .or_else(|| answers_are_current(history, &sights));
    if let Some((detail, lines)) = problem {
        return Finding::violation(NAME, detail, lines);
    }
    let distinct: BTreeSet<(&str, u64)> = sights.iter().map(|grant| (grant.election, grant.token)).collect();
    let elections: BTreeSet<&str> = sights.iter().map(|grant| grant.election).collect();
    let (grants, seen, elections) = (distinct.len(), sights.len(), elections.len());
    Finding::pass(NAME, format!("{grants} grants of {elections} elections, seen {seen} times, tokens strictly rising"))
}

type Problem = Option<(String, Vec<usize>)>;

/// Everybody who saw a token saw the same holder of the same election, granted at the same `seq`.
fn one_holder_per_token(sights: &[Grant<'_>]) -> Problem {
    let mut first: HashMap<u64, &Grant<'_>> = HashMap::new();
    for grant in sights {
        let Some(other) = first.get(&grant.token) else {
            first.insert(grant.token, grant);
            continue;
        };
        let same_place = grant.seq.is_none() || other.seq.is_none() || grant.seq == other.seq;
        if (grant.election, grant.candidate) != (other.election, other.candidate) || !same_place {
            return Some((
                format!("token {} was given twice: {other}, and {grant}", grant.token),
                vec![other.line, grant.line],
            ));
        }
        if other.seq.is_none() {
            first.insert(grant.token, grant);
        }
    }
    None
}

/// By `seq`: one grant at each, tokens rising from one to the next.
fn tokens_rise(sights: &[Grant<'_>]) -> Problem {
    let mut elections: BTreeMap<&str, BTreeMap<u64, &Grant<'_>>> = BTreeMap::new();
    for grant in sights {
        let Some(seq) = grant.seq else { continue };
        let by_seq = elections.entry(grant.election).or_default();
        let there = by_seq.entry(seq).or_insert(grant);
        if there.token != grant.token {
            return Some((format!("two grants at one seq: {there}, and {grant}"), vec![there.line, grant.line]));
        }
    }
    for by_seq in elections.values() {
        for (before, after) in by_seq.values().zip(by_seq.values().skip(1)) {
            if after.token <= before.token {
                return Some((
                    format!("the token did not rise: {before}, then {after}"),
                    vec![before.line, after.line],
                ));
            }
        }
    }
    None
}

/// Nobody leads who never campaigned. Judged only where campaigns of that election were recorded.
fn known_candidates(history: &History, sights: &[Grant<'_>]) -> Problem {
    let mut candidates: HashMap<&str, BTreeSet<&str>> = HashMap::new();
    for op in history.ops_of(f::CAMPAIGN) {
        let (Some(election), Some(candidate)) = (&op.invoke.election, op.invoke.value.as_str()) else { continue };
        candidates.entry(election).or_default().insert(candidate);
    }
    let unknown = sights
        .iter()
        .find(|grant| candidates.get(grant.election).is_some_and(|known| !known.contains(grant.candidate)))?;
    Some((format!("{unknown}, who never campaigned"), vec![unknown.line]))
}

/// What `leader` answers is the newest grant at its `seq`, as far as anybody saw, and never goes back against real time.
fn answers_are_current(history: &History, sights: &[Grant<'_>]) -> Problem {
    let mut by_seq: HashMap<&str, BTreeMap<u64, &Grant<'_>>> = HashMap::new();
    for grant in sights {
        if let Some(seq) = grant.seq {
            by_seq.entry(grant.election).or_default().insert(seq, grant);
        }
    }
    let mut answers: Vec<_> = history
        .ops_of(f::LEADER)
        .filter_map(|op| {
            let ok = op.ok()?;
            Some((op, ok.election.as_deref()?, ok.token?, ok.seq))
        })
        .collect();
    for (op, election, token, seq) in &answers {
        let newest = seq.and_then(|seq| by_seq.get(election)?.range(..=seq).next_back());
        if let Some((_, newest)) = newest
            && newest.token > *token
        {
            let detail = format!("the leader of {election} was said to be the one with token {token}, after {newest}");
            return Some((detail, op.lines().chain([newest.line]).collect()));
        }
    }
    // In the order in which they began; `ended` follows in the order in which they ended.
    let mut ended: Vec<_> = answers.clone();
    ended.sort_by_key(|(op, ..)| op.ended_ns());
    answers.sort_by_key(|(op, ..)| op.invoked_at);
    let mut ended = ended.into_iter().peekable();
    let mut highest: HashMap<&str, (u64, usize)> = HashMap::new();
    for (op, election, token, _) in answers {
        while let Some((earlier, of, told, _)) = ended.next_if(|(earlier, ..)| earlier.ended_ns() < op.invoke.time_ns) {
            let line = earlier.ended_at.unwrap_or(earlier.invoked_at);
            let entry = highest.entry(of).or_insert((told, line));
            if told > entry.0 {
                *entry = (told, line);
            }
        }
        if let Some((newer, line)) = highest.get(election)
            && token < *newer
        {
            let detail = format!(
                "the leader of {election} was said to be the one with token {token}, when {newer} had been told before"
            );
            return Some((detail, op.lines().chain([*line]).collect()));
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
