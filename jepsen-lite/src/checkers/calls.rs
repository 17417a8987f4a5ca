//! Fenced calls: at each receiver accepted tokens never fall, also across its restarts; a call takes effect at most once, exactly once
//! if it was answered, and never if it was refused.
//!
//! A call under an old token may be accepted until the receiver has heard of a newer one: the *order* is judged, not the outcome.

use std::collections::{BTreeMap, HashMap};

use super::fence::falls;
use crate::history::{History, Op, Record, Type, f};
use crate::verdict::Finding;

pub(super) const NAME: &str = "calls";

type Problem = Option<(String, Vec<usize>)>;

pub(super) fn check(history: &History) -> Finding {
    let calls: Vec<Op<'_>> = history
        .ops()
        .filter(|op| matches!(op.invoke.f.as_str(), f::TELL | f::ASK) && !op.invoke.is_nemesis())
        .collect();
    let effects: Vec<(usize, &Record)> = history.seen(f::EFFECT).collect();
    let accepted = calls.iter().filter(|op| op.outcome() == Type::Ok).count();
    if accepted == 0 && effects.is_empty() {
        return Finding::nothing(NAME, format!("no fenced call that was accepted, of {}", calls.len()));
    }
    let problem = order_of_acceptance(&calls).or_else(|| order_of_effects(&effects)).or_else(|| once(&calls, &effects));
    if let Some((detail, lines)) = problem {
        return Finding::violation(NAME, detail, lines);
    }
    let refused = calls.iter().filter(|op| op.outcome() == Type::Fail).count();
    Finding::pass(
        NAME,
        format!("{accepted} calls accepted in the order of their tokens, {refused} refused, {} effects", effects.len()),
    )
}

/// Receiver and election, as they stand on a record.
fn guard(record: &Record) -> (&str, &str) {
    (record.key.as_deref().unwrap_or_default(), record.election.as_deref().unwrap_or_default())
}

fn order_of_acceptance(calls: &[Op<'_>]) -> Problem {
    let mut guards: BTreeMap<(&str, &str), Vec<(Op<'_>, u64)>> = BTreeMap::new();
    for op in calls.iter().filter(|op| op.outcome() == Type::Ok) {
        guards.entry(guard(op.invoke)).or_default().push((*op, op.invoke.token.unwrap_or_default()));
    }
    for ((receiver, _), accepted) in &guards {
        if let Some((newer, older)) = falls(accepted) {
            let detail = format!("{receiver} accepted a call under token {}, after one under {}", older.1, newer.1);
            return Some((detail, newer.0.lines().chain(older.0.lines()).collect()));
        }
    }
    None
}

fn order_of_effects(effects: &[(usize, &Record)]) -> Problem {
    let mut guards: BTreeMap<(&str, &str), Vec<&(usize, &Record)>> = BTreeMap::new();
    for effect in effects {
        guards.entry(guard(effect.1)).or_default().push(effect);
    }
    for ((receiver, _), mut effects) in guards {
        effects.sort_by_key(|(_, effect)| effect.seq);
        let fallen = effects.iter().zip(effects.iter().skip(1)).find(|(before, after)| after.1.token < before.1.token);
        if let Some((before, after)) = fallen {
            let (newer, older) = (before.1.token.unwrap_or_default(), after.1.token.unwrap_or_default());
            let detail = format!("at {receiver} a call under token {older} took effect after one under {newer}");
            return Some((detail, vec![before.0, after.0]));
        }
    }
    None
}

fn once(calls: &[Op<'_>], effects: &[(usize, &Record)]) -> Problem {
    // By receiver and value. Values are texts or numbers, so their JSON names them.
    let name = |record: &Record| (record.key.clone().unwrap_or_default(), record.value.to_string());
    let called: HashMap<_, &Op<'_>> = calls.iter().map(|op| (name(op.invoke), op)).collect();
    let mut ran: HashMap<(String, String), (usize, &Record)> = HashMap::new();
    for &(line, effect) in effects {
        let id = name(effect);
        let Some(op) = called.get(&id) else {
            return Some((format!("{} shows the effect of a call {} that nobody made", id.0, id.1), vec![line]));
        };
        if let Some((first, _)) = ran.insert(id.clone(), (line, effect)) {
            return Some((
                format!("the call {} took effect twice at {}", id.1, id.0),
                op.lines().chain([first, line]).collect(),
            ));
        }
        if op.outcome() == Type::Fail {
            return Some((
                format!("the call {} was refused by {}, and took effect", id.1, id.0),
                op.lines().chain([line]).collect(),
            ));
        }
        if effect.token != op.invoke.token {
            return Some((
                format!("the call {} took effect at {} under another token than its own", id.1, id.0),
                op.lines().chain([line]).collect(),
            ));
        }
    }
    // A receiver without a single effect does not show its effects.
    let shows: std::collections::HashSet<&str> =
        effects.iter().filter_map(|(_, effect)| effect.key.as_deref()).collect();
    let lost = calls.iter().find(|op| {
        let (receiver, _) = guard(op.invoke);
        op.invoke.f == f::ASK
            && op.outcome() == Type::Ok
            && shows.contains(receiver)
            && !ran.contains_key(&name(op.invoke))
    })?;
    Some((
        format!("the call {} was answered by {}, and never took effect", lost.invoke.value, guard(lost.invoke).0),
        lost.lines().collect(),
    ))
}

#[cfg(test)]
mod tests {
    use super::super::testing::verdicts;

    #[test]
    fn histories_by_hand() {
        verdicts(super::NAME, super::check);
    }
}
