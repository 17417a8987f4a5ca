//! Fenced registers, replayed in the order of `seq`: no stale write is accepted after a newer token has been granted or has
//! written; each read returns the latest write before it; the order of `seq` respects real time; nothing acknowledged is lost.
//!
//! `seq` is the linearization order that the store itself claims, so a replay checks it in linear time. A write whose outcome is
//! unknown may or may not appear: it is admitted where a read shows it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::history::{Record, Type};
use crate::verdict::{Finding, Verdict};

struct Done<'a> {
    record: &'a Record,
    invoked_ns: u64,
}

pub(crate) fn check(history: &[Record]) -> Finding {
    match replay(history) {
        Ok((writes, reads)) if writes > 0 => pass(format!("{writes} writes and {reads} reads in the order of seq")),
        Ok(_) => {
            Finding { checker: "fenced-register", verdict: Verdict::Unknown, detail: "no write succeeded".to_owned() }
        }
        Err(detail) => Finding { checker: "fenced-register", verdict: Verdict::Violation, detail },
    }
}

fn pass(detail: String) -> Finding {
    Finding { checker: "fenced-register", verdict: Verdict::Pass, detail }
}

fn replay(history: &[Record]) -> Result<(usize, usize), String> {
    let (done, unknown) = complete(history)?;
    respects_real_time(&done)?;
    let mut by_seq: Vec<&Done> = done.iter().collect();
    // Reads carry the seq of the state that they saw: they come after the write with that seq.
    by_seq.sort_by_key(|op| (op.record.seq, op.record.f == "read"));
    let granted = grants(history);
    let mut registers: BTreeMap<&str, (&str, u64)> = BTreeMap::new();
    let mut highest: Option<(u64, &Record)> = None;
    let (mut writes, mut reads) = (0, 0);
    let mut taken = BTreeSet::new();
    for op in by_seq {
        let record = op.record;
        let key = record.key.as_deref().unwrap_or_default();
        let value = record.value.as_str().unwrap_or_default();
        match record.f.as_str() {
            "write" => {
                writes += 1;
                let token = record.token.ok_or_else(|| format!("a fenced write without its token: {record:?}"))?;
                if let Some((newer, by)) = highest
                    && token < newer
                {
                    return Err(format!(
                        "a stale write was accepted: token {token} at seq {:?} after {by:?}",
                        record.seq
                    ));
                }
                if let Some((at, newer)) = granted.range(..record.seq.unwrap_or(0)).next_back()
                    && token != *newer
                {
                    return Err(format!(
                        "a write with token {token} was accepted at seq {:?}, while token {newer} (granted at seq {at}) was the current one",
                        record.seq
                    ));
                }
                highest = Some((token, record));
                registers.insert(key, (value, token));
            }
            "read" => {
                reads += 1;
                let (expected, under) = registers.get(key).copied().unwrap_or_default();
                if value != expected {
                    let token = unknown.get(&(key, value)).copied().filter(|_| taken.insert((key, value)));
                    // It overwrote `expected`, so it was applied after it: under an older token it must not have been.
                    if let Some(token) = token.filter(|token| *token < under) {
                        return Err(format!(
                            "a stale write of unknown outcome was accepted: '{value}' under token {token} after '{expected}' under {under}"
                        ));
                    }
                    let Some(token) = token else {
                        return Err(format!(
                            "a read of {key} at seq {:?} returned '{value}', the latest write was '{expected}'",
                            record.seq
                        ));
                    };
                    registers.insert(key, (value, token));
                }
            }
            _ => {}
        }
    }
    Ok((writes, reads))
}

/// `seq -> token` of every grant that anybody saw.
fn grants(history: &[Record]) -> BTreeMap<u64, u64> {
    let seen = history.iter().filter(|r| r.kind == Type::Ok && (r.f == "elected" || r.f == "campaign"));
    seen.filter_map(|r| Some((r.seq?, r.token?))).collect()
}

/// Writes of unknown outcome, by key and value, with their tokens.
type Pending<'a> = BTreeMap<(&'a str, &'a str), u64>;

/// Pairs each completion with its invocation; writes that ended as `info`, or not at all, are unknown.
fn complete(history: &[Record]) -> Result<(Vec<Done<'_>>, Pending<'_>), String> {
    let mut open: HashMap<&str, &Record> = HashMap::new();
    let mut done = Vec::new();
    let mut unknown = BTreeMap::new();
    for record in history.iter().filter(|r| r.f == "write" || r.f == "read") {
        match record.kind {
            Type::Invoke => {
                if open.insert(&record.process, record).is_some() {
                    return Err(format!("process {} invoked twice without a completion", record.process));
                }
            }
            Type::Ok | Type::Fail | Type::Info => {
                let invoked = open.remove(record.process.as_str());
                let invoked =
                    invoked.ok_or_else(|| format!("process {} completed what it never invoked", record.process))?;
                match record.kind {
                    Type::Ok => done.push(Done { record, invoked_ns: invoked.time_ns }),
                    Type::Info if invoked.f == "write" => {
                        unknown.insert(written(invoked), invoked.token.unwrap_or(0));
                    }
                    _ => {}
                }
            }
        }
    }
    let open_writes = open.into_values().filter(|record| record.f == "write");
    unknown.extend(open_writes.map(|record| (written(record), record.token.unwrap_or(0))));
    Ok((done, unknown))
}

fn written(record: &Record) -> (&str, &str) {
    (record.key.as_deref().unwrap_or_default(), record.value.as_str().unwrap_or_default())
}

/// If an operation began after another had completed, its seq is not lower.
fn respects_real_time(done: &[Done<'_>]) -> Result<(), String> {
    let mut by_invocation: Vec<&Done> = done.iter().collect();
    by_invocation.sort_by_key(|op| op.invoked_ns);
    let mut by_completion: Vec<&Done> = done.iter().collect();
    by_completion.sort_by_key(|op| op.record.time_ns);
    let mut completed = by_completion.into_iter().peekable();
    let mut latest: Option<&Record> = None;
    for op in by_invocation {
        while let Some(earlier) = completed.next_if(|earlier| earlier.record.time_ns < op.invoked_ns) {
            if latest.is_none_or(|latest| earlier.record.seq > latest.seq) {
                latest = Some(earlier.record);
            }
        }
        if let Some(earlier) = latest
            && op.record.seq < earlier.seq
        {
            return Err(format!("time went back: {:?} began after {earlier:?} had completed", op.record));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(process: &str, f: &str, value: &str, token: Option<u64>, seq: u64, from: u64, to: u64) -> [Record; 2] {
        let mut invoke = Record::new(process, Type::Invoke, f);
        invoke.key = Some("r".into());
        invoke.time_ns = from;
        if f == "write" {
            invoke.value = value.into();
        }
        let mut ok = Record { kind: Type::Ok, time_ns: to, token, seq: Some(seq), ..invoke.clone() };
        ok.value = value.into();
        [invoke, ok]
    }

    fn history(ops: &[[Record; 2]]) -> Vec<Record> {
        let mut records: Vec<_> = ops.iter().flatten().cloned().collect();
        records.sort_by_key(|record| record.time_ns);
        records
    }

    #[test]
    fn a_good_history_passes() {
        let good = history(&[
            op("1", "write", "a", Some(1), 10, 0, 5),
            op("2", "read", "a", None, 10, 6, 7),
            op("3", "write", "b", Some(2), 20, 8, 9),
            op("2", "read", "b", None, 25, 10, 11),
        ]);
        assert_eq!(check(&good).verdict, Verdict::Pass);
    }

    #[test]
    fn a_stale_write_after_a_newer_one_is_a_violation() {
        let bad = history(&[op("1", "write", "a", Some(2), 10, 0, 5), op("2", "write", "b", Some(1), 20, 6, 9)]);
        assert_eq!(check(&bad).verdict, Verdict::Violation);
    }

    #[test]
    fn a_stale_write_after_a_newer_grant_is_a_violation() {
        let mut bad = history(&[op("1", "write", "a", Some(1), 20, 6, 9)]);
        let mut elected = Record::new("observer", Type::Ok, "elected");
        (elected.seq, elected.token, elected.election) = (Some(15), Some(2), Some("e".into()));
        bad.insert(0, elected);
        assert_eq!(check(&bad).verdict, Verdict::Violation);
    }

    #[test]
    fn a_lost_write_and_a_stale_read_are_violations() {
        let lost = history(&[op("1", "write", "a", Some(1), 10, 0, 5), op("2", "read", "", None, 12, 6, 7)]);
        assert_eq!(check(&lost).verdict, Verdict::Violation);
        let stale = history(&[op("1", "write", "a", Some(1), 10, 0, 5), op("2", "read", "", None, 9, 6, 7)]);
        assert_eq!(check(&stale).verdict, Verdict::Violation, "seq went back against real time");
    }

    #[test]
    fn an_unknown_write_may_appear_once_and_need_not() {
        let mut records = history(&[op("1", "write", "a", Some(1), 10, 0, 5), op("3", "read", "b", None, 12, 8, 9)]);
        let mut invoke = Record::new("2", Type::Invoke, "write");
        (invoke.key, invoke.value, invoke.time_ns) = (Some("r".into()), "b".into(), 6);
        invoke.token = Some(1);
        let info = Record { kind: Type::Info, time_ns: 7, ..invoke.clone() };
        records.splice(2..2, [invoke, info]);
        assert_eq!(check(&records).verdict, Verdict::Pass);
        assert_eq!(check(&records[..4]).verdict, Verdict::Pass);
    }

    #[test]
    fn a_stale_write_of_unknown_outcome_that_shows_up_is_a_violation() {
        let mut records = history(&[op("1", "write", "a", Some(2), 10, 0, 5), op("3", "read", "b", None, 12, 8, 9)]);
        let mut invoke = Record::new("2", Type::Invoke, "write");
        (invoke.key, invoke.value, invoke.token, invoke.time_ns) = (Some("r".into()), "b".into(), Some(1), 6);
        let info = Record { kind: Type::Info, time_ns: 7, ..invoke.clone() };
        records.splice(2..2, [invoke, info]);
        assert_eq!(check(&records).verdict, Verdict::Violation);
    }
}
