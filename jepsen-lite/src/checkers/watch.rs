//! Watches: in order, each change once, none missing, none that nobody made, and all watches agree.
//!
//! A stream that is open from revision R tells everything from R on. What it *has told* is everything before its last progress, and
//! before the revision of its last event. Every acknowledged write of a watched key in that stretch must be there, with its value and
//! under its own revision. A write whose outcome is unknown may show up, once; one that surely failed may not.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::Value;

use crate::history::{History, Op, Record, Type, f};
use crate::verdict::Finding;

pub(super) const NAME: &str = "watch";

/// One stretch of a watch: from its opening to its end.
struct Stream<'a> {
    process: &'a str,
    key: &'a str,
    prefix: bool,
    opened: usize,
    from: u64,
    /// Everything before it has been told.
    told: u64,
    events: Vec<(usize, &'a Record)>,
}

impl Stream<'_> {
    fn watches(&self, key: &str) -> bool {
        if self.prefix { key.starts_with(self.key) } else { key == self.key }
    }
}

/// What was asked of one key.
#[derive(Default)]
struct Asked<'a> {
    /// By the value that it would leave.
    writes: HashMap<&'a Value, Op<'a>>,
    deletes: bool,
    /// It is a list, or bound to a session: its values, or its removals, are not named by operations.
    list: bool,
    bound: bool,
}

type Problem = Option<(String, Vec<usize>)>;

pub(super) fn check(history: &History) -> Finding {
    let (streams, breach) = streams(history);
    if streams.is_empty() {
        return Finding::nothing(NAME, "no watch that was opened");
    }
    if let Some((detail, line)) = breach {
        return Finding { lines: vec![line], ..Finding::unknown(NAME, detail) };
    }
    let asked = asked(history);
    let problem = streams
        .iter()
        .find_map(in_order)
        .or_else(|| agree(&streams))
        .or_else(|| made_by_somebody(&streams, &asked))
        .or_else(|| complete(history, &streams));
    if let Some((detail, lines)) = problem {
        return Finding::violation(NAME, detail, lines);
    }
    let events: usize = streams.iter().map(|stream| stream.events.len()).sum();
    let gaps = history.seen(f::WATCH_GAP).count();
    let watchers: HashSet<&str> = streams.iter().map(|stream| stream.process).collect();
    let detail = format!("{events} events of {} watches in {} streams, {gaps} gaps", watchers.len(), streams.len());
    if events == 0 { Finding::unknown(NAME, detail) } else { Finding::pass(NAME, detail) }
}

/// All streams; and where one was told of something without having been opened.
fn streams(history: &History) -> (Vec<Stream<'_>>, Option<(String, usize)>) {
    let mut all: Vec<Stream<'_>> = Vec::new();
    let mut open: HashMap<&str, usize> = HashMap::new();
    let mut breach = None;
    // A gap is the last that a stream tells; that it ends is seen after that.
    let mut gapped: HashSet<&str> = HashSet::new();
    for (line, record) in history.records().iter().enumerate().filter(|(_, record)| record.kind == Type::Ok) {
        let process = record.process.as_str();
        let revision = record.revision.unwrap_or_default();
        if record.f == f::WATCH {
            open.insert(process, all.len());
            let prefix = record.value.get("prefix").and_then(Value::as_bool).unwrap_or_default();
            let key = record.key.as_deref().unwrap_or_default();
            all.push(Stream { process, key, prefix, opened: line, from: revision, told: revision, events: Vec::new() });
            continue;
        }
        if !matches!(record.f.as_str(), f::WATCH_EVENT | f::WATCH_PROGRESS | f::WATCH_GAP | f::WATCH_END) {
            continue;
        }
        if record.f == f::WATCH_END && gapped.remove(process) {
            continue;
        }
        let Some(stream) = open.get(process).map(|&at| &mut all[at]) else {
            breach = breach.or_else(|| Some((format!("{process} was told something before its watch was open"), line)));
            continue;
        };
        match record.f.as_str() {
            f::WATCH_EVENT => {
                stream.told = stream.told.max(revision);
                stream.events.push((line, record));
            }
            f::WATCH_PROGRESS => stream.told = stream.told.max(revision),
            ended => {
                open.remove(process);
                if ended == f::WATCH_GAP {
                    gapped.insert(process);
                }
            }
        }
    }
    (all, breach)
}

fn asked(history: &History) -> HashMap<&str, Asked<'_>> {
    let mut asked: HashMap<&str, Asked<'_>> = HashMap::new();
    for op in history.ops().filter(|op| !op.invoke.is_nemesis()) {
        let key = op.invoke.key.as_deref().unwrap_or_default();
        match op.invoke.f.as_str() {
            f::WRITE => {
                let asked = asked.entry(key).or_default();
                asked.bound |= op.invoke.session.is_some();
                asked.writes.insert(&op.invoke.value, op);
            }
            f::CAS => {
                if let Some(new) = op.invoke.value.get(1) {
                    asked.entry(key).or_default().writes.insert(new, op);
                }
            }
            f::DELETE if op.outcome() != Type::Fail => asked.entry(key).or_default().deletes = true,
            f::TXN => {
                for key in op.invoke.value.as_array().into_iter().flatten().filter_map(|part| part.get(1)?.as_str()) {
                    asked.entry(key).or_default().list = true;
                }
            }
            _ => {}
        }
    }
    asked
}

/// Revisions never go down, none is before what was asked for, and a key changes once in each.
fn in_order(stream: &Stream<'_>) -> Problem {
    let mut last: Option<(usize, &Record)> = None;
    let mut seen: HashMap<(&str, u64), usize> = HashMap::new();
    for &(line, event) in &stream.events {
        let revision = event.revision.unwrap_or_default();
        let key = event.key.as_deref().unwrap_or_default();
        let who = stream.process;
        if revision < stream.from {
            return Some((
                format!("{who} was told of revision {revision}, though it watches from {}", stream.from),
                vec![stream.opened, line],
            ));
        }
        if let Some((before, earlier)) = last.filter(|(_, earlier)| earlier.revision > event.revision) {
            let before_revision = earlier.revision.unwrap_or_default();
            return Some((
                format!("{who} was told of revision {revision} after {before_revision}"),
                vec![before, line],
            ));
        }
        if let Some(first) = seen.insert((key, revision), line) {
            return Some((
                format!("{who} was told twice that {key} changed in revision {revision}"),
                vec![first, line],
            ));
        }
        last = Some((line, event));
    }
    None
}

/// What one watch was told of a key in a revision, all were told.
fn agree(streams: &[Stream<'_>]) -> Problem {
    let mut told: HashMap<(&str, u64), (usize, &Value)> = HashMap::new();
    for &(line, event) in streams.iter().flat_map(|stream| &stream.events) {
        let (key, revision) = (event.key.as_deref().unwrap_or_default(), event.revision.unwrap_or_default());
        let (first, value) = *told.entry((key, revision)).or_insert((line, &event.value));
        if *value != event.value {
            let detail =
                format!("two watches were told of revision {revision} that {key} is {value}, and {}", event.value);
            return Some((detail, vec![first, line]));
        }
    }
    None
}

/// Each event is one write of somebody, not told before it was made, not one that failed, and not twice.
fn made_by_somebody(streams: &[Stream<'_>], asked: &HashMap<&str, Asked<'_>>) -> Problem {
    let none = Asked::default();
    let mut revisions: HashMap<(&str, String), (u64, usize)> = HashMap::new();
    for &(line, event) in streams.iter().flat_map(|stream| &stream.events) {
        let (key, revision) = (event.key.as_deref().unwrap_or_default(), event.revision.unwrap_or_default());
        let asked = asked.get(key).unwrap_or(&none);
        if asked.list {
            continue;
        }
        if event.value.is_null() {
            if !asked.deletes && !asked.bound {
                return Some((
                    format!("{key} was said to be removed in revision {revision}, and nobody removed it"),
                    vec![line],
                ));
            }
            continue;
        }
        let shown = &event.value;
        let Some(op) = asked.writes.get(shown) else {
            return Some((
                format!("{key} was said to become {shown} in revision {revision}, which nobody wrote"),
                vec![line],
            ));
        };
        let lines = || op.lines().chain([line]).collect();
        if op.outcome() == Type::Fail {
            return Some((
                format!("{key} was said to become {shown} in revision {revision}, by a write that failed"),
                lines(),
            ));
        }
        if line < op.invoked_at {
            return Some((format!("{key} was said to become {shown} before that was written"), lines()));
        }
        let own = op.ok().and_then(|ok| ok.revision);
        if own.is_some_and(|own| own != revision) {
            return Some((
                format!(
                    "{key} became {shown} in revision {}, and a watch was told {revision}",
                    own.unwrap_or_default()
                ),
                lines(),
            ));
        }
        let (first, at) = *revisions.entry((key, shown.to_string())).or_insert((revision, line));
        if first != revision {
            return Some((
                format!("one write made {key} become {shown} twice, in revisions {first} and {revision}"),
                vec![at, line],
            ));
        }
    }
    None
}

/// Nothing acknowledged is missing where a watch has told everything.
fn complete(history: &History, streams: &[Stream<'_>]) -> Problem {
    let mut changes: BTreeMap<u64, Vec<(&str, Op<'_>)>> = BTreeMap::new();
    for op in history.ops().filter(|op| !op.invoke.is_nemesis()) {
        let Some(revision) = op.ok().and_then(|ok| ok.revision) else { continue };
        match op.invoke.f.as_str() {
            f::WRITE | f::CAS | f::DELETE => {
                changes.entry(revision).or_default().push((op.invoke.key.as_deref().unwrap_or_default(), op));
            }
            f::TXN => {
                let parts = op.invoke.value.as_array().into_iter().flatten();
                let appended = parts.filter(|part| part.get(0).is_some_and(|what| what == "append"));
                let keys: HashSet<&str> = appended.filter_map(|part| part.get(1)?.as_str()).collect();
                changes.entry(revision).or_default().extend(keys.into_iter().map(|key| (key, op)));
            }
            _ => {}
        }
    }
    for stream in streams.iter().filter(|stream| stream.from < stream.told) {
        let told: HashSet<(&str, u64)> = stream
            .events
            .iter()
            .map(|(_, event)| (event.key.as_deref().unwrap_or_default(), event.revision.unwrap_or_default()))
            .collect();
        for (revision, made) in changes.range(stream.from..stream.told) {
            let missing = made.iter().find(|(key, _)| stream.watches(key) && !told.contains(&(*key, *revision)));
            if let Some((key, op)) = missing {
                let detail = format!(
                    "{} was never told of revision {revision} of {key}, though it was told everything from {} to before {}",
                    stream.process, stream.from, stream.told
                );
                let next =
                    stream.events.iter().find(|(_, event)| event.revision > Some(*revision)).map(|(line, _)| *line);
                return Some((detail, op.lines().chain([stream.opened]).chain(next).collect()));
            }
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
