//! What was not tried was not tested: a fault that was asked for and never happened, or a stale write that was never refused because
//! none was sent, makes a run unknown. What must have happened is data: the gates of the `run` line.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::RunInfo;
use crate::history::{History, Record, Type, f};
use crate::verdict::{Finding, Verdict};

pub(super) const NAME: &str = "coverage";

/// Something that must have happened often enough.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gate {
    /// What it is, for people: "stale writes refused".
    pub name: String,
    /// Which lines count.
    pub count: Pattern,
    /// How many at least.
    pub at_least: usize,
    /// That many after each line that fits this, before the next that does. None: that many in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_each: Option<Pattern>,
}

impl Gate {
    /// At least so many lines that fit, in the whole run.
    pub fn at_least(at_least: usize, name: impl Into<String>, count: Pattern) -> Gate {
        Gate { name: name.into(), count, at_least, after_each: None }
    }

    /// At least so many after each line that fits the other pattern.
    #[must_use]
    pub fn after_each(self, pattern: Pattern) -> Gate {
        Gate { after_each: Some(pattern), ..self }
    }
}

/// Which lines of a history. What is none fits all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pattern {
    /// Who.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process: Option<String>,
    /// The type of the line.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<Type>,
    /// What is done or seen; for a fault its kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub f: Option<String>,
    /// The object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Why it failed or ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The election.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub election: Option<String>,
    /// `value.phase` of a fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// `value.role` of a fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Only lines between this `phase` line of the harness and the next one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub within: Option<String>,
}

impl Pattern {
    /// Lines of this `f` that ended, or were seen, like this.
    pub fn of(f: &str, kind: Type) -> Pattern {
        Pattern { f: Some(f.to_owned()), kind: Some(kind), ..Pattern::default() }
    }

    /// A fault of this kind that surely came into force.
    pub fn fault(f: &str) -> Pattern {
        Pattern { phase: Some("start".to_owned()), ..Pattern::of(f, Type::Ok) }
    }

    /// Only those that failed, or ended, for this reason.
    #[must_use]
    pub fn error(self, error: &str) -> Pattern {
        Pattern { error: Some(error.to_owned()), ..self }
    }

    /// Only faults whose targets were chosen for this.
    #[must_use]
    pub fn role(self, role: &str) -> Pattern {
        Pattern { role: Some(role.to_owned()), ..self }
    }

    /// Only in this part of the run.
    #[must_use]
    pub fn within(self, phase: &str) -> Pattern {
        Pattern { within: Some(phase.to_owned()), ..self }
    }

    fn fits(&self, record: &Record) -> bool {
        let text =
            |wanted: &Option<String>, got: Option<&str>| wanted.as_deref().is_none_or(|wanted| got == Some(wanted));
        text(&self.process, Some(&record.process))
            && self.kind.is_none_or(|kind| record.kind == kind)
            && text(&self.f, Some(&record.f))
            && text(&self.key, record.key.as_deref())
            && text(&self.error, record.error.as_deref())
            && text(&self.election, record.election.as_deref())
            && text(&self.phase, record.phase())
            && text(&self.role, record.value.get("role").and_then(serde_json::Value::as_str))
    }

    /// The indexes of the lines that fit.
    fn lines<'a>(&'a self, history: &'a History) -> impl Iterator<Item = usize> + 'a {
        let range = self.within.as_deref().map_or(0..history.records().len(), |name| phase(history, name));
        range.filter(|&at| self.fits(&history.records()[at]))
    }
}

/// The lines of a part of the run; none if it never began.
fn phase(history: &History, name: &str) -> Range<usize> {
    let mut phases = history.seen(f::PHASE).skip_while(|(_, record)| record.value != name);
    let Some((start, _)) = phases.next() else { return 0..0 };
    start..phases.next().map_or(history.records().len(), |(end, _)| end)
}

impl Gate {
    /// How many there were (with `after_each` the fewest after any), and whether that is enough.
    pub(crate) fn judge(&self, history: &History) -> (usize, bool) {
        let lines: Vec<usize> = self.count.lines(history).collect();
        let Some(each) = &self.after_each else { return (lines.len(), lines.len() >= self.at_least) };
        let mut starts: Vec<usize> = each.lines(history).collect();
        // Asked of each of none: it cannot be missed, and whoever wants some asks for them by another gate.
        starts.push(history.records().len());
        let within =
            |pair: &[usize]| lines.partition_point(|at| *at < pair[1]) - lines.partition_point(|at| *at < pair[0]);
        let fewest = starts.windows(2).map(within).min();
        (fewest.unwrap_or(0), fewest.is_none_or(|fewest| fewest >= self.at_least))
    }
}

pub(super) fn check(history: &History) -> Finding {
    let Some(info) = RunInfo::of(history) else {
        return match history.seen(f::RUN).next() {
            Some(_) => {
                Finding::unknown(NAME, "the line `run` is not of the form of HISTORY.md: its gates cannot be read")
            }
            None => Finding::nothing(NAME, "no line `run` that asks for anything"),
        };
    };
    if info.gates.is_empty() {
        return Finding::nothing(NAME, "nothing that the run asks for");
    }
    let told: Vec<(bool, String)> = info
        .gates
        .iter()
        .map(|gate| {
            let (found, enough) = gate.judge(history);
            let each = if gate.after_each.is_some() { " each time" } else { "" };
            (enough, format!("{}: {found} of at least {}{each}", gate.name, gate.at_least))
        })
        .collect();
    let missed: Vec<&str> = told.iter().filter(|(enough, _)| !enough).map(|(_, text)| text.as_str()).collect();
    if missed.is_empty() {
        let all: Vec<String> = told.into_iter().map(|(_, text)| text).collect();
        Finding::pass(NAME, all.join("; "))
    } else {
        Finding { verdict: Verdict::Unknown, ..Finding::pass(NAME, format!("did not happen: {}", missed.join("; "))) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(at: u64, kind: Type, phase: &str) -> Record {
        let mut fault = Record::new("nemesis", kind, "pause");
        fault.key = Some(format!("pause-{at}"));
        fault.value = serde_json::json!({"phase": phase, "targets": ["c0"], "role": "holder"});
        Record { time_ns: at, ..fault }
    }

    fn stale(at: u64) -> Record {
        Record { error: Some("stale".into()), time_ns: at, ..Record::new("1", Type::Fail, f::WRITE) }
    }

    fn verdict(gates: Vec<Gate>, mut records: Vec<Record>) -> Verdict {
        records.insert(0, RunInfo { gates, ..RunInfo::default() }.record());
        check(&History::new(records)).verdict
    }

    #[test]
    fn a_fault_that_was_tried_and_never_happened_is_not_a_pass() {
        let gate = || vec![Gate::at_least(1, "pauses", Pattern::fault("pause").role("holder"))];
        assert_eq!(verdict(gate(), vec![]), Verdict::Unknown);
        assert_eq!(verdict(gate(), vec![fault(1, Type::Invoke, "start")]), Verdict::Unknown);
        assert_eq!(verdict(gate(), vec![fault(1, Type::Info, "start")]), Verdict::Unknown);
        assert_eq!(verdict(gate(), vec![fault(1, Type::Ok, "stop")]), Verdict::Unknown);
        assert_eq!(verdict(gate(), vec![fault(1, Type::Ok, "start")]), Verdict::Pass);
    }

    #[test]
    fn one_after_each_is_more_than_as_many_in_all() {
        let gate = || {
            let refused = Pattern::of(f::WRITE, Type::Fail).error("stale");
            vec![Gate::at_least(1, "refused", refused).after_each(Pattern::fault("pause"))]
        };
        let pause = |at| fault(at, Type::Ok, "start");
        assert_eq!(verdict(gate(), vec![pause(1), stale(2), pause(3), stale(4)]), Verdict::Pass);
        assert_eq!(verdict(gate(), vec![pause(1), stale(2), stale(2), pause(3)]), Verdict::Unknown);
    }

    #[test]
    fn a_part_of_the_run_counts_alone() {
        let phase = |name: &str| Record { value: name.into(), ..Record::seen("harness", f::PHASE) };
        let gate = || vec![Gate::at_least(1, "after the faults", Pattern::of(f::WRITE, Type::Fail).within("heal"))];
        assert_eq!(verdict(gate(), vec![phase("faults"), stale(1), phase("heal")]), Verdict::Unknown);
        assert_eq!(verdict(gate(), vec![phase("heal"), stale(1), phase("final")]), Verdict::Pass);
        assert_eq!(verdict(gate(), vec![stale(1)]), Verdict::Unknown);
    }

    #[test]
    fn gates_that_cannot_be_read_are_no_pass() {
        let mut run = Record::seen("harness", f::RUN);
        run.value = serde_json::json!({"gates": [{"name": "x", "cuont": {}, "at_least": 1}]});
        assert_eq!(check(&History::new(vec![run])).verdict, Verdict::Unknown);
    }
}
