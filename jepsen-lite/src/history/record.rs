//! One line of a history, and what each `f` must carry. Kept in step with HISTORY.md by a test.
//!
//! It does not judge what a record says, only whether it is whole.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What kind of line it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Type {
    /// An operation begins.
    Invoke,
    /// It happened; also the type of everything that is only seen.
    Ok,
    /// It surely had no effect.
    Fail,
    /// Nobody knows.
    Info,
}

/// What becomes of a session whose connection breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnDisconnect {
    /// It lives until its TTL has passed: the holder's own clock is a guard, and beliefs must not overlap.
    KeepUntilTtl,
    /// It ends soon after the break: for holders who fence, whose beliefs may overlap.
    ReleaseAfter,
}

/// One line. What does not apply is left out; HISTORY.md has the meaning and the unit of each field.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Who acts or sees. One thing at a time; never again after `info`.
    pub process: String,
    /// Whether it begins, ended, or was seen.
    #[serde(rename = "type")]
    pub kind: Type,
    /// What is done or seen: one of `f`, or the name of a fault when the process is a nemesis.
    pub f: String,
    /// The object: a key of the store, a receiver of calls, a job, an instance of a fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// As `f` says; left out is null.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub value: Value,
    /// Why it failed, is unknown, or ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The election's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub election: Option<String>,
    /// The fencing token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<u64>,
    /// The session's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<u64>,
    /// What the session does when its connection breaks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_disconnect: Option<OnDisconnect>,
    /// Until when the holder may believe, on the run's clock; never later than the holder itself believes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ns: Option<u64>,
    /// The store's order of everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// The store's count of commands that changed keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
    /// Which process of the tested system was asked or spoke.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Nanoseconds of the run's one clock; never goes down from line to line.
    #[serde(default)]
    pub time_ns: u64,
}

impl Record {
    /// A record with nothing but who, what kind, and what; the writer stamps its time.
    pub fn new(process: impl Into<String>, kind: Type, f: &str) -> Record {
        Record {
            process: process.into(),
            kind,
            f: f.to_owned(),
            key: None,
            value: Value::Null,
            error: None,
            election: None,
            token: None,
            session: None,
            on_disconnect: None,
            deadline_ns: None,
            seq: None,
            revision: None,
            node: None,
            time_ns: 0,
        }
    }

    /// How this operation ended: the same record with another type, for the caller to fill in what the answer said.
    #[must_use]
    pub fn ended(&self, kind: Type) -> Record {
        Record { kind, ..self.clone() }
    }

    /// Something that a process saw without asking.
    pub fn seen(process: impl Into<String>, f: &str) -> Record {
        Record::new(process, Type::Ok, f)
    }

    /// Whether faults are recorded under this process: its name is `nemesis`, or begins with `nemesis-`.
    pub fn is_nemesis(&self) -> bool {
        self.process == "nemesis" || self.process.starts_with("nemesis-")
    }

    /// Whether it has no invocation and no completion.
    pub fn is_event(&self) -> bool {
        !self.is_nemesis() && rule(&self.f).is_some_and(|rule| rule.event)
    }

    /// A fault's `start` or `stop`.
    pub fn phase(&self) -> Option<&str> {
        self.value.get("phase")?.as_str()
    }

    /// What a fault is aimed at.
    pub fn targets(&self) -> impl Iterator<Item = &str> {
        self.value.get("targets").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
    }

    /// Whether the line is whole.
    ///
    /// # Errors
    /// The first thing that is missing or out of place, in words.
    pub fn check(&self) -> Result<(), Breach> {
        if self.process.is_empty() {
            return Err(Breach("`process` is empty".to_owned()));
        }
        if self.is_nemesis() { self.check_fault() } else { self.check_row() }
    }

    fn check_fault(&self) -> Result<(), Breach> {
        if self.key.is_none() {
            return Err(Breach(format!("the fault `{}` has no `key` that names its instance", self.f)));
        }
        if !matches!(self.phase(), Some("start" | "stop")) {
            return Err(Breach(format!("the fault `{}` needs `value.phase`, `start` or `stop`", self.f)));
        }
        match self.value.get("targets") {
            Some(Value::Array(targets)) if targets.iter().all(Value::is_string) => Ok(()),
            _ => Err(Breach(format!("the fault `{}` needs `value.targets`, a list of names", self.f))),
        }
    }

    fn check_row(&self) -> Result<(), Breach> {
        let Some(rule) = rule(&self.f) else {
            return Err(Breach(format!("`f` is '{}', which is not in HISTORY.md", self.f)));
        };
        if rule.event && self.kind != Type::Ok {
            return Err(Breach(format!("`{}` is only seen: its `type` is always `ok`", self.f)));
        }
        let ok: &[Field] = if self.kind == Type::Ok { rule.ok } else { &[] };
        for field in rule.always.iter().chain(ok) {
            if !field.is_in(self) {
                return Err(Breach(format!("`{}` with type `{:?}` needs `{}`", self.f, self.kind, field.name())));
            }
        }
        if matches!(self.kind, Type::Fail | Type::Info) && self.error.is_none() {
            return Err(Breach(format!("`{}` that did not succeed needs `error`", self.f)));
        }
        Ok(())
    }
}

/// Why a line is not a record, in words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Breach(pub(super) String);

/// A field that a row asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Key,
    Value,
    Error,
    Election,
    Token,
    Session,
    OnDisconnect,
    Seq,
    Revision,
}

impl Field {
    fn is_in(self, record: &Record) -> bool {
        match self {
            Field::Key => record.key.is_some(),
            Field::Value => !record.value.is_null(),
            Field::Error => record.error.is_some(),
            Field::Election => record.election.is_some(),
            Field::Token => record.token.is_some(),
            Field::Session => record.session.is_some(),
            Field::OnDisconnect => record.on_disconnect.is_some(),
            Field::Seq => record.seq.is_some(),
            Field::Revision => record.revision.is_some(),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Field::Key => "key",
            Field::Value => "value",
            Field::Error => "error",
            Field::Election => "election",
            Field::Token => "token",
            Field::Session => "session",
            Field::OnDisconnect => "on_disconnect",
            Field::Seq => "seq",
            Field::Revision => "revision",
        }
    }
}

/// What one `f` must carry.
struct Rule {
    f: &'static str,
    /// Only seen: no invocation, no completion.
    event: bool,
    /// On every record, invocation and completion.
    always: &'static [Field],
    /// On `ok` besides.
    ok: &'static [Field],
}

/// Names of operations and events.
#[allow(unreachable_pub)] // Handed on by `history::f`.
pub(super) mod f {
    /// A candidate enters an election; `ok` when it was granted.
    pub const CAMPAIGN: &str = "campaign";
    /// Seen by a candidate: granted again without having asked anew.
    pub const GRANT: &str = "grant";
    /// Seen by a holder: its leadership stands, with a later deadline.
    pub const CONFIRM: &str = "confirm";
    /// Seen of a holder: it acted as one at `deadline_ns`, which is past when it is heard of.
    pub const ACT: &str = "act";
    /// Seen by a holder: its connection broke; it may still lead.
    pub const SUSPECT: &str = "suspect";
    /// Seen by a holder: it leads no more.
    pub const LOST: &str = "lost";
    /// A holder gives its leadership back.
    pub const RESIGN: &str = "resign";
    /// Somebody hands a leadership to a named candidate.
    pub const TRANSFER: &str = "transfer";
    /// A candidate leaves the line.
    pub const WITHDRAW: &str = "withdraw";
    /// A linearizable question: who leads?
    pub const LEADER: &str = "leader";
    /// Seen on an observe stream.
    pub const OBSERVE: &str = "observe";
    /// A read of a register, or of a key.
    pub const READ: &str = "read";
    /// A write of a register.
    pub const WRITE: &str = "write";
    /// A compare-and-set of a register.
    pub const CAS: &str = "cas";
    /// A removal of a key.
    pub const DELETE: &str = "delete";
    /// A transaction of appends to and reads of lists.
    pub const TXN: &str = "txn";
    /// A session is opened.
    pub const SESSION_OPEN: &str = "session_open";
    /// A session is renewed.
    pub const SESSION_KEEPALIVE: &str = "session_keepalive";
    /// A session is closed.
    pub const SESSION_CLOSE: &str = "session_close";
    /// A linearizable question: does this session live?
    pub const SESSION_CHECK: &str = "session_check";
    /// Seen by a session's client: the store ended it.
    pub const SESSION_ENDED: &str = "session_ended";
    /// A watch is opened.
    pub const WATCH: &str = "watch";
    /// Seen by a watch: a key changed.
    pub const WATCH_EVENT: &str = "watch_event";
    /// Seen by a watch: everything before a revision has been told.
    pub const WATCH_PROGRESS: &str = "watch_progress";
    /// Seen by a watch: some changes will never be told.
    pub const WATCH_GAP: &str = "watch_gap";
    /// Seen by a watch: its stream ended.
    pub const WATCH_END: &str = "watch_end";
    /// A fenced call without an answer.
    pub const TELL: &str = "tell";
    /// A fenced call with an answer.
    pub const ASK: &str = "ask";
    /// Seen at a receiver: a call took effect.
    pub const EFFECT: &str = "effect";
    /// A job is handed in.
    pub const JOB_SUBMIT: &str = "job_submit";
    /// A job's result is fetched.
    pub const JOB_RESULT: &str = "job_result";
    /// Seen by the harness: its own count of what the job counts.
    pub const JOB_EXPECTED: &str = "job_expected";
    /// The harness: what is run. The first line.
    pub const RUN: &str = "run";
    /// The harness: a part of the run begins.
    pub const PHASE: &str = "phase";
    /// The harness: the tested system did what it never may, such as end by itself.
    pub const UNEXPECTED: &str = "unexpected";
    /// The harness could not do what it wanted.
    pub const TROUBLE: &str = "trouble";
    /// The harness: for the reader of the report.
    pub const NOTE: &str = "note";
    /// The harness: the run is over. The last line.
    pub const END: &str = "end";
}

use Field::{Election, Error, Key, OnDisconnect as Kind, Revision, Seq, Session, Token, Value as Val};

const fn op(f: &'static str, always: &'static [Field], ok: &'static [Field]) -> Rule {
    Rule { f, event: false, always, ok }
}

const fn event(f: &'static str, always: &'static [Field]) -> Rule {
    Rule { f, event: true, always, ok: &[] }
}

const RULES: &[Rule] = &[
    op(f::CAMPAIGN, &[Election, Val, Kind], &[Token]),
    event(f::GRANT, &[Election, Val, Kind, Token]),
    event(f::CONFIRM, &[Election, Token]),
    event(f::ACT, &[Election, Token]),
    event(f::SUSPECT, &[Election, Token]),
    event(f::LOST, &[Election, Token, Error]),
    op(f::RESIGN, &[Election, Token], &[]),
    op(f::TRANSFER, &[Election, Val], &[]),
    op(f::WITHDRAW, &[Election, Val], &[]),
    op(f::LEADER, &[Election], &[]),
    event(f::OBSERVE, &[Election, Val]),
    op(f::READ, &[Key], &[]),
    op(f::WRITE, &[Key, Val], &[]),
    op(f::CAS, &[Key, Val], &[]),
    op(f::DELETE, &[Key], &[]),
    op(f::TXN, &[Val], &[]),
    op(f::SESSION_OPEN, &[Val, Kind], &[Session]),
    op(f::SESSION_KEEPALIVE, &[Session], &[]),
    op(f::SESSION_CLOSE, &[Session], &[]),
    op(f::SESSION_CHECK, &[Session], &[Val]),
    event(f::SESSION_ENDED, &[Session, Error]),
    op(f::WATCH, &[Key, Val], &[Revision]),
    event(f::WATCH_EVENT, &[Key, Revision]),
    event(f::WATCH_PROGRESS, &[Revision]),
    event(f::WATCH_GAP, &[Revision]),
    event(f::WATCH_END, &[Error]),
    op(f::TELL, &[Key, Val, Election, Token], &[]),
    op(f::ASK, &[Key, Val, Election, Token], &[]),
    event(f::EFFECT, &[Key, Val, Election, Token, Seq]),
    op(f::JOB_SUBMIT, &[Key], &[]),
    op(f::JOB_RESULT, &[Key], &[Val]),
    event(f::JOB_EXPECTED, &[Key, Val]),
    event(f::RUN, &[Val]),
    event(f::PHASE, &[Val]),
    event(f::UNEXPECTED, &[Error]),
    event(f::TROUBLE, &[Error]),
    event(f::NOTE, &[Val]),
    event(f::END, &[]),
];

fn rule(f: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.f == f)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_names_every_f_with_the_fields_that_it_needs() {
        let page = include_str!("../../HISTORY.md");
        let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| `")).collect();
        for rule in RULES {
            let row = rows.iter().find(|row| row.starts_with(&format!("| `{}` ", rule.f)));
            let row = row.unwrap_or_else(|| panic!("HISTORY.md has no row for `{}`", rule.f));
            for field in rule.always.iter().chain(rule.ok) {
                assert!(
                    row.contains(&format!("`{}`", field.name())),
                    "the row of `{}` lacks `{}`",
                    rule.f,
                    field.name()
                );
            }
            assert_eq!(rule.event, row.contains("| seen |"), "`{}`: seen, or invoked and completed?", rule.f);
        }
    }

    #[test]
    fn what_is_not_whole_is_refused_by_name() {
        let mut record = Record::new("1", Type::Invoke, f::WRITE);
        assert!(record.check().unwrap_err().to_string().contains("`key`"));
        record.key = Some("r".into());
        record.value = 1.into();
        assert_eq!(record.check(), Ok(()));
        let failed = record.ended(Type::Fail);
        assert!(failed.check().unwrap_err().to_string().contains("`error`"));
        assert!(Record::new("1", Type::Ok, "frobnicate").check().unwrap_err().to_string().contains("frobnicate"));
        assert!(Record::new("1", Type::Invoke, f::LOST).check().unwrap_err().to_string().contains("seen"));
    }

    #[test]
    fn a_fault_names_its_instance_its_phase_and_its_targets() {
        let mut fault = Record::new("nemesis", Type::Invoke, "kill");
        assert!(fault.check().unwrap_err().to_string().contains("`key`"));
        fault.key = Some("kill-1".into());
        assert!(fault.check().unwrap_err().to_string().contains("phase"));
        fault.value = serde_json::json!({"phase": "start"});
        assert!(fault.check().unwrap_err().to_string().contains("targets"));
        fault.value = serde_json::json!({"phase": "start", "targets": ["c0"]});
        assert_eq!(fault.check(), Ok(()));
        assert_eq!(fault.targets().collect::<Vec<_>>(), ["c0"]);
    }
}
