//! Operations: each invocation with its completion, if there was one.
//!
//! Pairing never fails. What breaks the rules (a second invocation before the first was completed, a completion of nothing, a process
//! that acts after `info`) is kept as a list for the checker `harness` to report, because no verdict holds over such a history.

use std::collections::{HashMap, HashSet};

use super::{Record, Type};

/// An invocation and what became of it.
#[derive(Clone, Copy, Debug)]
pub struct Op<'a> {
    /// How it began.
    pub invoke: &'a Record,
    /// How it ended; none: the run ended first, which is as unknown as `info`.
    pub end: Option<&'a Record>,
    /// The index of `invoke` in the history.
    pub invoked_at: usize,
    /// The index of `end` in the history.
    pub ended_at: Option<usize>,
}

impl<'a> Op<'a> {
    /// What is known of it: `Ok`, `Fail`, or else `Info`.
    pub fn outcome(&self) -> Type {
        self.end.map_or(Type::Info, |end| end.kind)
    }

    /// The completion, if it succeeded.
    pub fn ok(&self) -> Option<&'a Record> {
        self.end.filter(|end| end.kind == Type::Ok)
    }

    /// When it may last have taken effect: never, for one that is unknown.
    pub fn ended_ns(&self) -> u64 {
        self.end.filter(|end| matches!(end.kind, Type::Ok | Type::Fail)).map_or(u64::MAX, |end| end.time_ns)
    }

    /// The lines of the history that it stands on.
    pub fn lines(&self) -> impl Iterator<Item = usize> {
        [Some(self.invoked_at), self.ended_at].into_iter().flatten()
    }
}

/// A whole history, with its operations paired.
#[derive(Clone, Debug, Default)]
pub struct History {
    records: Vec<Record>,
    /// Indexes of invocations and their completions, in the order of the invocations.
    pairs: Vec<(usize, Option<usize>)>,
    breaches: Vec<(usize, String)>,
}

impl History {
    /// Pairs the records, which are in the order of their time.
    pub fn new(records: Vec<Record>) -> History {
        let mut pairs: Vec<(usize, Option<usize>)> = Vec::new();
        let mut breaches = Vec::new();
        let mut open: HashMap<&str, usize> = HashMap::new();
        let mut dead: HashSet<&str> = HashSet::new();
        for (at, record) in records.iter().enumerate().filter(|(_, record)| !record.is_event()) {
            let process = record.process.as_str();
            if record.kind == Type::Invoke {
                if dead.contains(process) {
                    breaches.push((at, format!("process {process} acts again after an unknown outcome")));
                }
                if open.insert(process, pairs.len()).is_some() {
                    breaches.push((at, format!("process {process} begins an operation while another is open")));
                }
                pairs.push((at, None));
                continue;
            }
            // What a fault came to says nothing about who may act: a nemesis goes on.
            if record.kind == Type::Info && !record.is_nemesis() {
                dead.insert(process);
            }
            match open.remove(process) {
                Some(pair) if records[pairs[pair].0].f == record.f => pairs[pair].1 = Some(at),
                Some(pair) => {
                    let begun = &records[pairs[pair].0].f;
                    breaches.push((at, format!("process {process} began `{begun}` and completed `{}`", record.f)));
                }
                None => breaches.push((at, format!("process {process} completed what it never began"))),
            }
        }
        History { records, pairs, breaches }
    }

    /// All lines, in order.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// All operations, in the order in which they began; faults among them.
    pub fn ops(&self) -> impl ExactSizeIterator<Item = Op<'_>> {
        self.pairs.iter().map(|&(invoke, end)| Op {
            invoke: &self.records[invoke],
            end: end.map(|end| &self.records[end]),
            invoked_at: invoke,
            ended_at: end,
        })
    }

    /// Operations of one name, without those of a nemesis.
    pub fn ops_of<'a>(&'a self, f: &'a str) -> impl Iterator<Item = Op<'a>> {
        self.ops().filter(move |op| op.invoke.f == f && !op.invoke.is_nemesis())
    }

    /// What was seen under one name, with its index.
    pub fn seen<'a>(&'a self, f: &'a str) -> impl Iterator<Item = (usize, &'a Record)> {
        self.records.iter().enumerate().filter(move |(_, record)| record.f == f && record.is_event())
    }

    /// What faults came to: the completions of a nemesis, with their indexes.
    pub fn faults(&self) -> impl Iterator<Item = (usize, &Record)> {
        self.records.iter().enumerate().filter(|(_, record)| record.is_nemesis() && record.kind != Type::Invoke)
    }

    /// Where the rules of a history were broken: the index of the line, and how.
    pub fn breaches(&self) -> &[(usize, String)] {
        &self.breaches
    }
}

#[cfg(test)]
mod tests {
    use super::super::read_lines;

    fn breaches(lines: &[(&str, &str)]) -> Vec<String> {
        let line = |(process, kind): &(&str, &str)| {
            format!(r#"{{"process":"{process}","type":"{kind}","f":"read","key":"r","error":"e","time_ns":1}}"#)
        };
        let text = lines.iter().map(line).collect::<Vec<_>>().join("\n");
        read_lines(text.as_bytes()).unwrap().breaches().iter().map(|(_, how)| how.clone()).collect()
    }

    #[test]
    fn who_acts_twice_at_once_or_after_an_unknown_outcome_breaks_the_rules() {
        assert!(breaches(&[("1", "invoke"), ("2", "invoke"), ("1", "ok"), ("1", "invoke")]).is_empty());
        assert!(breaches(&[("1", "invoke"), ("1", "invoke")])[0].contains("while another is open"));
        assert!(breaches(&[("1", "ok")])[0].contains("never began"));
        assert!(breaches(&[("1", "invoke"), ("1", "info"), ("1", "invoke")])[0].contains("after an unknown outcome"));
    }

    #[test]
    fn an_operation_without_an_end_is_as_unknown_as_info() {
        let text = r#"{"process":"1","type":"invoke","f":"read","key":"r","time_ns":1}"#;
        let history = read_lines(text.as_bytes()).unwrap();
        let op = history.ops().next().unwrap();
        assert_eq!((op.outcome(), op.ended_ns()), (super::Type::Info, u64::MAX));
    }
}
