//! Transactions over lists: what one transaction must have seen of another forms no cycle, together with real time.
//!
//! After the idea of Elle: an element is appended once, so a list that was read names every transaction that wrote it, in order. From
//! that follow edges (`graph`): *ww* from one append to the next, *wr* from an append to who read it last, *rw* from who read a list
//! to who appended next, *real time* from what had completed to what began then, and *seq* along the order that the system claims.
//! A cycle has no order that explains it. What can be said of one list alone is judged first: elements twice, elements that nobody
//! appended or whose append failed, lists that are no prefix of another, a transaction that contradicts itself or shows its middle.

mod graph;

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

use crate::history::{History, Op, Type, f};
use crate::verdict::Finding;

pub(super) const NAME: &str = "append";

/// One transaction.
#[derive(Debug)]
struct Txn<'a> {
    op: Op<'a>,
    parts: Vec<Part<'a>>,
}

#[derive(Debug)]
enum Part<'a> {
    Append { key: &'a str, element: &'a Value },
    Read { key: &'a str, list: &'a [Value] },
}

type Problem = (String, Vec<usize>);

/// Who appended which element, and how it looks from the longest read.
#[derive(Default)]
struct List<'a> {
    /// By the element's JSON: the transaction.
    appended: HashMap<String, usize>,
    /// The longest list that was read, and by which transaction.
    longest: &'a [Value],
    read_by: Option<usize>,
}

pub(super) fn check(history: &History) -> Finding {
    let txns: Vec<Txn<'_>> = match history.ops_of(f::TXN).map(parse).collect() {
        Ok(txns) => txns,
        Err((why, line)) => return Finding { lines: vec![line], ..Finding::unknown(NAME, why) },
    };
    let succeeded = txns.iter().filter(|txn| txn.op.outcome() == Type::Ok).count();
    if succeeded == 0 {
        return Finding::nothing(NAME, "no transaction that succeeded");
    }
    let judged = lists(&txns).and_then(|lists| {
        one_list_alone(&txns, &lists)?;
        graph::cycle(&txns, &lists).map_or(Ok(lists.len()), Err)
    });
    match judged {
        Ok(lists) => {
            Finding::pass(NAME, format!("{succeeded} transactions of {} over {lists} lists, no cycle", txns.len()))
        }
        Err((detail, lines)) => Finding::violation(NAME, detail, lines),
    }
}

fn parse(op: Op<'_>) -> Result<Txn<'_>, (String, usize)> {
    let record = op.ok().unwrap_or(op.invoke);
    let malformed = |part: &Value| {
        (
            format!("a part of a transaction is no [\"append\", KEY, ELEMENT] and no [\"r\", KEY, LIST]: {part}"),
            op.invoked_at,
        )
    };
    let parts = record.value.as_array().map(Vec::as_slice).unwrap_or_default();
    let parts = parts.iter().map(|part| {
        let key = part.get(1).and_then(Value::as_str).ok_or_else(|| malformed(part))?;
        match (part.get(0).and_then(Value::as_str), part.get(2)) {
            (Some("append"), Some(element)) if !element.is_null() => Ok(Part::Append { key, element }),
            // A list that is not there is an empty one.
            (Some("r"), list) => match list {
                None | Some(Value::Null) => Ok(Part::Read { key, list: &[] }),
                Some(Value::Array(list)) => Ok(Part::Read { key, list }),
                Some(_) => Err(malformed(part)),
            },
            _ => Err(malformed(part)),
        }
    });
    Ok(Txn { op, parts: parts.collect::<Result<_, _>>()? })
}

fn lists<'a>(txns: &'a [Txn<'a>]) -> Result<BTreeMap<&'a str, List<'a>>, Problem> {
    let mut lists: BTreeMap<&str, List<'_>> = BTreeMap::new();
    for (at, txn) in txns.iter().enumerate() {
        for part in &txn.parts {
            match part {
                Part::Append { key, element } => {
                    if let Some(other) = lists.entry(key).or_default().appended.insert(element.to_string(), at) {
                        let lines = txns[other].op.lines().chain(txn.op.lines()).collect();
                        return Err((format!("the harness appended {element} to {key} twice"), lines));
                    }
                }
                Part::Read { key, list } if txn.op.outcome() == Type::Ok => {
                    let longest = lists.entry(key).or_default();
                    if longest.read_by.is_none() || list.len() > longest.longest.len() {
                        (longest.longest, longest.read_by) = (list, Some(at));
                    }
                }
                Part::Read { .. } => {}
            }
        }
    }
    Ok(lists)
}

/// What needs no graph.
fn one_list_alone(txns: &[Txn<'_>], lists: &BTreeMap<&str, List<'_>>) -> Result<(), Problem> {
    for (at, txn) in txns.iter().enumerate().filter(|(_, txn)| txn.op.outcome() == Type::Ok) {
        within(txn)?;
        for part in &txn.parts {
            let Part::Read { key, list } = part else { continue };
            let all = &lists[key];
            if !all.longest.starts_with(list) {
                let other = all.read_by.map_or(at, |other| other);
                let lines = txn.op.lines().chain(txns[other].op.lines()).collect();
                return Err((
                    format!(
                        "{key} was read as {} and as {}: neither came before the other",
                        text(list),
                        text(all.longest)
                    ),
                    lines,
                ));
            }
        }
    }
    for (key, list) in lists {
        let Some(reader) = list.read_by else { continue };
        let mut places: HashMap<String, usize> = HashMap::new();
        for (place, element) in list.longest.iter().enumerate() {
            if places.insert(element.to_string(), place).is_some() {
                return Err((
                    format!("{key} holds {element} twice: {}", text(list.longest)),
                    txns[reader].op.lines().collect(),
                ));
            }
            let Some(&by) = list.appended.get(&element.to_string()) else {
                return Err((
                    format!("{key} holds {element}, which nobody appended"),
                    txns[reader].op.lines().collect(),
                ));
            };
            if txns[by].op.outcome() == Type::Fail {
                let lines = txns[by].op.lines().chain(txns[reader].op.lines()).collect();
                return Err((format!("{key} holds {element}, whose transaction failed"), lines));
            }
        }
        halves(txns, key, &places)?;
    }
    Ok(())
}

/// A transaction sees its own appends, and the same list each time.
fn within(txn: &Txn<'_>) -> Result<(), Problem> {
    let mut known: HashMap<&str, Vec<&Value>> = HashMap::new();
    // Appended before the first read of a list: its end.
    let mut own: HashMap<&str, Vec<&Value>> = HashMap::new();
    for part in &txn.parts {
        match part {
            Part::Append { key, element } => {
                if let Some(list) = known.get_mut(key) {
                    list.push(element);
                } else {
                    own.entry(key).or_default().push(element);
                }
            }
            Part::Read { key, list } => {
                let list: Vec<&Value> = list.iter().collect();
                let fits = match known.get(key) {
                    Some(before) => *before == list,
                    None => own.get(key).is_none_or(|own| list.ends_with(own)),
                };
                if !fits {
                    return Err((format!("a transaction contradicts itself on {key}"), txn.op.lines().collect()));
                }
                known.insert(key, list);
            }
        }
    }
    Ok(())
}

/// Nobody sees a part of what a transaction appended to a list: its elements stand together, and no read ends between them.
fn halves(txns: &[Txn<'_>], key: &str, places: &HashMap<String, usize>) -> Result<(), Problem> {
    // Place of an element -> the transaction whose appends go on right after it.
    let mut inner: HashMap<usize, usize> = HashMap::new();
    for (at, txn) in txns.iter().enumerate() {
        let mut last: Option<usize> = None;
        for part in &txn.parts {
            let Part::Append { key: of, element } = part else { continue };
            if *of != key {
                continue;
            }
            let place = places.get(&element.to_string()).copied();
            if let Some(before) = last {
                inner.insert(before, at);
                if place.is_some_and(|place| place != before + 1) {
                    return Err((
                        format!("the appends of one transaction to {key} do not stand together"),
                        txn.op.lines().collect(),
                    ));
                }
            }
            last = place;
        }
    }
    for (at, txn) in txns.iter().enumerate().filter(|(_, txn)| txn.op.outcome() == Type::Ok) {
        for part in &txn.parts {
            let Part::Read { key: of, list } = part else { continue };
            let writer = list.len().checked_sub(1).and_then(|last| inner.get(&last)).filter(|_| *of == key);
            if let Some(&writer) = writer.filter(|writer| **writer != at) {
                let lines = txns[writer].op.lines().chain(txn.op.lines()).collect();
                return Err((format!("{key} was read in the middle of a transaction: {}", text(list)), lines));
            }
        }
    }
    Ok(())
}

/// A list, for people; of a long one the end.
fn text(list: &[Value]) -> String {
    const SHOWN: usize = 8;
    let shown: Vec<String> = list.iter().skip(list.len().saturating_sub(SHOWN)).map(Value::to_string).collect();
    let dots = if list.len() > SHOWN { "… " } else { "" };
    format!("[{dots}{}]", shown.join(" "))
}

#[cfg(test)]
mod tests {
    use super::super::testing::verdicts;

    #[test]
    fn histories_by_hand() {
        verdicts(super::NAME, super::check);
    }
}
