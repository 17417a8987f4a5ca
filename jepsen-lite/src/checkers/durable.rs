//! Nothing acknowledged is lost: what a read returns was written, was not refused, and is not older than a write that had been
//! acknowledged before the read began.
//!
//! The simplest check of registers, in time that grows with the length of the history, without `seq` and without a search. It does not
//! see everything that `linearizable` sees, but it also judges keys on which that gives up.

use std::collections::HashMap;

use super::registers::{ABSENT, Act, NOBODYS, RegOp, Register, registers};
use crate::history::History;
use crate::verdict::Finding;

pub(super) const NAME: &str = "durable";

pub(super) fn check(history: &History) -> Finding {
    let registers = registers(history);
    let (mut reads, mut writes) = (0, 0);
    for register in &registers {
        if let Some((detail, lines)) = judge(register) {
            return Finding::violation(NAME, format!("{}: {detail}", register.key), lines);
        }
        reads += register.ops.iter().filter(|op| op.act.saw().is_some()).count();
        writes += register.ops.iter().filter(|op| op.known && op.act.leaves().is_some()).count();
    }
    if reads == 0 || writes == 0 {
        return Finding::nothing(NAME, format!("{writes} acknowledged writes and {reads} reads of registers"));
    }
    Finding::pass(NAME, format!("{reads} reads of {writes} acknowledged writes, on {} keys", registers.len()))
}

fn judge(register: &Register<'_>) -> Option<(String, Vec<usize>)> {
    let writer: HashMap<_, &RegOp<'_>> =
        register.ops.iter().filter_map(|op| Some((op.act.leaves().filter(|value| *value != ABSENT)?, op))).collect();
    let removals = register.ops.iter().any(|op| op.act == Act::Write(ABSENT));
    // Acknowledged writes in the order of their ends, each with the latest begin among those so far.
    let mut ended: Vec<&RegOp<'_>> = register.ops.iter().filter(|op| op.known && op.act.leaves().is_some()).collect();
    ended.sort_by_key(|op| op.end);
    let mut latest: Vec<&RegOp<'_>> = Vec::with_capacity(ended.len());
    for op in &ended {
        let best = latest.last().copied().filter(|best| best.begin > op.begin).unwrap_or(op);
        latest.push(best);
    }
    for read in register.ops.iter().filter(|op| op.known) {
        let Some(saw) = read.act.saw() else { continue };
        let before = ended.partition_point(|op| op.end < read.begin);
        let newest = before.checked_sub(1).map(|at| latest[at]);
        let told = |write: Option<&RegOp<'_>>| {
            read.op
                .lines()
                .chain(write.into_iter().chain(newest).flat_map(|op| op.op.lines()).collect::<Vec<_>>())
                .collect()
        };
        if saw == NOBODYS {
            return Some((format!("{}, or a write that failed", register.say(read)), told(None)));
        }
        let write = writer.get(&saw).copied();
        match (newest, write) {
            (Some(newest), Some(write)) if register.unique && write.end < newest.begin => {
                let detail =
                    format!("{}, though {} had been acknowledged after that", register.say(read), register.say(newest));
                return Some((detail, told(Some(write))));
            }
            (Some(newest), None) if !removals => {
                let detail = format!("{}, though {} had been acknowledged", register.say(read), register.say(newest));
                return Some((detail, told(None)));
            }
            (_, Some(write)) if read.end < write.begin => {
                return Some((
                    format!("{} before {} began", register.say(read), register.say(write)),
                    told(Some(write)),
                ));
            }
            _ => {}
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
