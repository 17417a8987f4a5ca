//! The operations on registers, by key, with their values numbered: what `linearizable`, `replay` and `durable` all start from.
//!
//! Keys of lists, and keys that end with a session, are left out: nobody writes their removal, and other checkers judge them. Lines of
//! the history stand for its times: they are in the order of the one clock, and unlike it no two are equal.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::Value;

use crate::history::{History, Op, Type, f};

/// A value of a register; 0 is "not there".
pub(super) type Val = u32;
pub(super) const ABSENT: Val = 0;
/// A value that no operation of this key writes.
pub(super) const NOBODYS: Val = u32::MAX;
/// Any of the values that are left behind and that no operation sees or compares with.
pub(super) const UNSEEN: Val = u32::MAX - 1;

/// What an operation asks of the register, and what it was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Act {
    /// It was this value.
    Read(Val),
    /// It becomes this value; [`ABSENT`] for a removal.
    Write(Val),
    /// It was `old` and becomes `new`.
    Cas { old: Val, new: Val },
    /// It was not this value.
    Not(Val),
}

impl Act {
    /// What the register is afterwards, or none if it cannot have been done there.
    pub(super) fn apply(self, state: Val) -> Option<Val> {
        match self {
            Act::Read(value) => (state == value).then_some(state),
            Act::Write(value) => Some(value),
            Act::Cas { old, new } => (state == old).then_some(new),
            Act::Not(value) => (state != value).then_some(state),
        }
    }

    /// The value that it saw.
    pub(super) fn saw(self) -> Option<Val> {
        match self {
            Act::Read(value) | Act::Cas { old: value, .. } => Some(value),
            Act::Write(_) | Act::Not(_) => None,
        }
    }

    /// The value that it leaves behind.
    pub(super) fn leaves(self) -> Option<Val> {
        match self {
            Act::Write(value) | Act::Cas { new: value, .. } => Some(value),
            Act::Read(_) | Act::Not(_) => None,
        }
    }
}

/// One operation that took effect, or may have.
#[derive(Clone, Copy, Debug)]
pub(super) struct RegOp<'a> {
    pub(super) op: Op<'a>,
    pub(super) act: Act,
    /// It took effect between its lines; else it may take effect at any time after its first, or never.
    pub(super) known: bool,
    pub(super) begin: usize,
    /// `usize::MAX` if it is not known.
    pub(super) end: usize,
    pub(super) seq: Option<u64>,
}

/// All operations of one key, in the order in which they began.
#[derive(Debug, Default)]
pub(super) struct Register<'a> {
    pub(super) key: &'a str,
    pub(super) ops: Vec<RegOp<'a>>,
    /// By number, from 1.
    values: Vec<&'a Value>,
    /// Each value is left behind by one operation at most; removals aside.
    pub(super) unique: bool,
}

impl Register<'_> {
    /// A value, for people.
    pub(super) fn show(&self, value: Val) -> String {
        match value {
            ABSENT => "nothing".to_owned(),
            NOBODYS => "what nobody wrote".to_owned(),
            UNSEEN => "what nobody saw".to_owned(),
            value => self.values[value as usize - 1].to_string(),
        }
    }

    /// An operation, for people.
    pub(super) fn say(&self, op: &RegOp<'_>) -> String {
        let who = &op.op.invoke.process;
        let mut text = match op.act {
            Act::Read(value) => format!("{who} read {}", self.show(value)),
            Act::Write(ABSENT) => format!("{who} removed it"),
            Act::Write(value) => format!("{who} wrote {}", self.show(value)),
            Act::Cas { old, new } => format!("{who} set {} to {}", self.show(old), self.show(new)),
            Act::Not(value) => format!("{who} was told that it is not {}", self.show(value)),
        };
        if let Some(seq) = op.seq {
            text.push_str(&format!(" at seq {seq}"));
        }
        if !op.known {
            text.push_str(" (outcome unknown)");
        }
        text
    }
}

/// Keys that are no registers.
fn others(history: &History) -> HashSet<&str> {
    let mut keys = HashSet::new();
    for op in history.ops().filter(|op| !op.invoke.is_nemesis()) {
        if op.invoke.f == f::TXN {
            keys.extend(op.invoke.value.as_array().into_iter().flatten().filter_map(|part| part.get(1)?.as_str()));
        } else if op.invoke.session.is_some() && matches!(op.invoke.f.as_str(), f::WRITE | f::CAS) {
            keys.extend(op.invoke.key.as_deref());
        }
    }
    keys
}

/// All registers of a history, by key.
pub(super) fn registers(history: &History) -> Vec<Register<'_>> {
    let others = others(history);
    let mut keys: BTreeMap<&str, Vec<Op<'_>>> = BTreeMap::new();
    for op in history.ops().filter(|op| !op.invoke.is_nemesis()) {
        if !matches!(op.invoke.f.as_str(), f::READ | f::WRITE | f::CAS | f::DELETE) {
            continue;
        }
        if let Some(key) = op.invoke.key.as_deref().filter(|key| !others.contains(key)) {
            keys.entry(key).or_default().push(op);
        }
    }
    keys.into_iter().map(|(key, ops)| register(key, &ops)).collect()
}

fn register<'a>(key: &'a str, ops: &[Op<'a>]) -> Register<'a> {
    let mut register = Register { key, unique: true, ..Register::default() };
    let mut numbers: HashMap<String, Val> = HashMap::new();
    let mut left: HashSet<Val> = HashSet::new();
    // What is left behind is numbered first: a read of anything else is of what nobody wrote.
    for op in ops {
        let value = match op.invoke.f.as_str() {
            f::WRITE => &op.invoke.value,
            f::CAS => op.invoke.value.get(1).unwrap_or(&Value::Null),
            _ => continue,
        };
        if value.is_null() {
            continue;
        }
        let next = Val::try_from(register.values.len() + 1).unwrap_or(NOBODYS);
        let number = *numbers.entry(value.to_string()).or_insert(next);
        if number == next {
            register.values.push(value);
        }
        register.unique &= left.insert(number);
    }
    let number = |value: Option<&Value>| match value {
        None | Some(Value::Null) => ABSENT,
        Some(value) => numbers.get(&value.to_string()).copied().unwrap_or(NOBODYS),
    };
    for op in ops {
        let cas = |at| number(op.invoke.value.get(at));
        let compared = op.end.is_some_and(|end| end.error.as_deref() == Some("compare"));
        let act = match (op.invoke.f.as_str(), op.outcome()) {
            (f::READ, Type::Ok) => Act::Read(number(op.end.map(|end| &end.value))),
            (f::WRITE, Type::Ok | Type::Info) => Act::Write(number(Some(&op.invoke.value))),
            (f::DELETE, Type::Ok | Type::Info) => Act::Write(ABSENT),
            (f::CAS, Type::Ok | Type::Info) => Act::Cas { old: cas(0), new: cas(1) },
            (f::CAS, Type::Fail) if compared => Act::Not(cas(0)),
            _ => continue,
        };
        let known = op.outcome() != Type::Info;
        register.ops.push(RegOp {
            op: *op,
            act,
            known,
            begin: op.invoked_at,
            end: if known { op.ended_at.unwrap_or(usize::MAX) } else { usize::MAX },
            seq: op.end.filter(|_| known).and_then(|end| end.seq),
        });
    }
    register
}
