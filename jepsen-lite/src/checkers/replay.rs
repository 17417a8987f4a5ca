//! The order that the tested system itself claims, replayed: in the order of `seq` every read returns what was written last.
//!
//! Linear in the length of the history, so it judges keys of any length, and it is stricter than a search: an order must not only
//! exist, it must be the one that was claimed, and respect real time across all objects. A write of unknown outcome is put in where an
//! answer shows it, after it began. One that carried a fence must have been allowed there.

mod order;

use std::collections::{BTreeMap, HashMap};

use super::grants::{Grant, grants};
use super::registers::{Act, registers};
use crate::history::{History, Op, f};
use crate::verdict::Finding;

pub(super) const NAME: &str = "replay";

type Problem = (String, Vec<usize>);

pub(super) fn check(history: &History) -> Finding {
    let registers = registers(history);
    let claimed: Vec<Claim<'_>> = claims(history);
    if claimed.is_empty() {
        return Finding::nothing(NAME, "no answer that carries a seq");
    }
    let without = registers
        .iter()
        .flat_map(|register| &register.ops)
        .find(|op| op.known && op.seq.is_none() && !matches!(op.act, Act::Not(_)));
    if let Some(op) = without {
        let lines = op.op.lines().collect();
        return Finding { lines, ..Finding::unknown(NAME, "some answers carry a seq, and this one does not") };
    }
    let grants = by_election(history);
    let problem =
        one_command_per_seq(&claimed).or_else(|| revisions_follow(&claimed)).or_else(|| respects_real_time(&claimed));
    if let Some((detail, lines)) = problem {
        return Finding::violation(NAME, detail, lines);
    }
    let mut gave_up = Vec::new();
    for register in &registers {
        match order::replay(register, &grants) {
            Ok(true) => {}
            Ok(false) => gave_up.push(register.key),
            Err((detail, lines)) => return Finding::violation(NAME, format!("key {}: {detail}", register.key), lines),
        }
    }
    if !gave_up.is_empty() {
        return Finding::unknown(NAME, format!("too many ways to place what is unknown: {}", gave_up.join(", ")));
    }
    let operations: usize = registers.iter().map(|register| register.ops.len()).sum();
    let unknown = registers.iter().flat_map(|register| &register.ops).filter(|op| !op.known).count();
    Finding::pass(
        NAME,
        format!(
            "{} answers in the order of seq; {operations} operations on {} registers, {unknown} of unknown outcome",
            claimed.len(),
            registers.len()
        ),
    )
}

/// An answer that says where in the order of everything it belongs.
struct Claim<'a> {
    op: Op<'a>,
    seq: u64,
    revision: Option<u64>,
    /// It is a command of its own, not a look at the state.
    command: bool,
    /// It changed a key.
    write: bool,
}

fn claims(history: &History) -> Vec<Claim<'_>> {
    // Receivers and jobs have orders of their own.
    let elsewhere = |f: &str| matches!(f, f::TELL | f::ASK | f::JOB_SUBMIT | f::JOB_RESULT);
    let invoked = history.ops().filter(|op| !op.invoke.is_nemesis() && !elsewhere(&op.invoke.f));
    let claim = |op: Op<'_>| {
        let ok = op.ok()?;
        let what = op.invoke.f.as_str();
        let appends = || op.invoke.value.as_array().into_iter().flatten().any(|part| part[0] == "append");
        let write = match what {
            f::WRITE | f::CAS => true,
            // Removing what is not there changes nothing, and then has no revision of its own.
            f::DELETE => ok.revision.is_some(),
            f::TXN => appends(),
            _ => false,
        };
        Some((ok.seq?, ok.revision, write || what == f::DELETE, write))
    };
    invoked
        .filter_map(|op| {
            let (seq, revision, command, write) = claim(op)?;
            Some(Claim { op, seq, revision, command, write })
        })
        .collect()
}

fn one_command_per_seq(claimed: &[Claim<'_>]) -> Option<Problem> {
    let mut commands: HashMap<u64, &Claim<'_>> = HashMap::new();
    for claim in claimed.iter().filter(|claim| claim.command) {
        if let Some(other) = commands.insert(claim.seq, claim) {
            let lines = other.op.lines().chain(claim.op.lines()).collect();
            return Some((format!("two commands claim seq {}", claim.seq), lines));
        }
    }
    None
}

/// In the order of `seq` the revisions of writes strictly rise.
fn revisions_follow(claimed: &[Claim<'_>]) -> Option<Problem> {
    let mut writes: Vec<(u64, u64, &Claim<'_>)> = claimed
        .iter()
        .filter(|claim| claim.write)
        .filter_map(|claim| Some((claim.seq, claim.revision?, claim)))
        .collect();
    writes.sort_unstable_by_key(|&(seq, ..)| seq);
    let (before, after) = writes.iter().zip(writes.iter().skip(1)).find(|(before, after)| after.1 <= before.1)?;
    let detail = format!("revision {} at seq {}, and revision {} at seq {}", before.1, before.0, after.1, after.0);
    Some((detail, before.2.op.lines().chain(after.2.op.lines()).collect()))
}

/// What began after another had completed does not claim an earlier place, over all objects together.
fn respects_real_time(claimed: &[Claim<'_>]) -> Option<Problem> {
    // From the last to the first by claim: nothing that stands later may have ended before this one began.
    let mut order: Vec<&Claim<'_>> = claimed.iter().collect();
    order.sort_by_key(|claim| (claim.seq, !claim.command));
    let end = |claim: &Claim<'_>| claim.op.ended_at.unwrap_or(usize::MAX);
    let mut earliest: Option<&Claim<'_>> = None;
    let mut at = order.len();
    while at > 0 {
        // Looks at one state have no order among themselves.
        let group = order[..at].iter().rev().take_while(|claim| claim.seq == order[at - 1].seq).count();
        for claim in &order[at - group..at] {
            if let Some(later) = earliest.filter(|later| end(later) < claim.op.invoked_at) {
                let detail = format!(
                    "`{}` by {} began after `{}` by {} had completed at seq {}, and claims seq {}",
                    claim.op.invoke.f,
                    claim.op.invoke.process,
                    later.op.invoke.f,
                    later.op.invoke.process,
                    later.seq,
                    claim.seq
                );
                return Some((detail, later.op.lines().chain(claim.op.lines()).collect()));
            }
        }
        for claim in &order[at - group..at] {
            if earliest.is_none_or(|earliest| end(claim) < end(earliest)) {
                earliest = Some(claim);
            }
        }
        at -= group;
    }
    None
}

type Grants<'a> = HashMap<&'a str, BTreeMap<u64, Grant<'a>>>;

fn by_election(history: &History) -> Grants<'_> {
    let mut all: Grants<'_> = HashMap::new();
    for grant in grants(history) {
        if let Some(seq) = grant.seq {
            all.entry(grant.election).or_default().entry(seq).or_insert(grant);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::super::testing::verdicts;

    #[test]
    fn histories_by_hand() {
        verdicts(super::NAME, super::check);
    }
}
