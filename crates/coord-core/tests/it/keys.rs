//! The words for keys in the language of scenarios.
//!
//! ```text
//! KEYS: KEY | PREFIX* | FROM.. | FROM..TO
//! put KEY VALUE|= [session SESSION|=] [fence ELECTION:TOKEN] [previous]      `=`: as it is
//! delete KEYS [fence …] [previous]
//! read KEYS [rev N] [limit N] [by-field key|version|created|written|value] [down] [count|keys-only] [written A-B] [created A-B]
//! txn [fence …] if CONDITION… then OP ; OP… [else OP ; OP…]                  an OP may be a txn in brackets: [ … ]
//! CONDITION: version(KEYS)=N created(KEYS)<N written(KEYS)>N value(KEYS)!=TEXT session(KEYS)=SESSION|none
//! ```

use std::collections::BTreeMap;

use palisade_coord_core::keys::op::{
    Binding, Compare, Delete, Field, Findings, Found, Operand, Order, Put, Read, Relation, Shows, Txn, Within,
};
use palisade_coord_core::{KeyOp, KeyReply, KeyValue, Keys, Revision, SessionId, State};

use crate::scenario::{name_of, number, session, split, tell_refusal};

pub(crate) fn op(plain: &[&str], options: &BTreeMap<&str, &str>) -> KeyOp {
    let fence = options.get("fence").map(|text| text.parse().expect("fence ELECTION:TOKEN"));
    let has = |word: &str| plain.contains(&word);
    match plain {
        ["put", key, value, ..] => KeyOp::Put(Put {
            key: key.as_bytes().to_vec(),
            value: (*value != "=").then(|| value.as_bytes().to_vec()),
            session: match options.get("session") {
                None => Binding::None,
                Some(&"=") => Binding::Keep,
                Some(id) => Binding::To(session(id)),
            },
            shows_previous: has("previous"),
            fence,
        }),
        ["delete", words, ..] => KeyOp::Delete(Delete { keys: keys(words), shows_previous: has("previous"), fence }),
        ["read", words, ..] => KeyOp::Read(Read {
            revision: options.get("rev").map(|text| Revision(number(text))),
            limit: options.get("limit").map_or(0, |text| number(text)),
            order: Order {
                by: match options.get("by-field").copied() {
                    None | Some("key") => Field::Key,
                    Some("version") => Field::Version,
                    Some("created") => Field::Created,
                    Some("written") => Field::Written,
                    Some("value") => Field::Value,
                    Some(other) => panic!("no field: {other}"),
                },
                descending: has("down"),
            },
            shows: match (has("count"), has("keys-only")) {
                (true, _) => Shows::Count,
                (_, true) => Shows::NoValues,
                (false, false) => Shows::Whole,
            },
            written: within(options.get("written")),
            created: within(options.get("created")),
            ..Read::new(keys(words))
        }),
        _ => panic!("no operation on keys: {plain:?}"),
    }
}

pub(crate) fn txn(words: &[&str]) -> Txn {
    let mut txn = Txn::default();
    let rest = words.strip_prefix(&["txn"]).expect("txn …");
    let mut part = "";
    let mut at = 0;
    while at < rest.len() {
        match (rest[at], part) {
            ("fence", "") => {
                txn.fence = Some(rest[at + 1].parse().unwrap());
                at += 2;
            }
            (word @ ("if" | "then" | "else"), _) => {
                part = word;
                at += 1;
            }
            ("id", _) => at += 2,
            (";", _) => at += 1,
            (condition, "if") => {
                txn.compare.push(compare(condition));
                at += 1;
            }
            (_, "then" | "else") => {
                let (op, taken) = inner(&rest[at..]);
                if part == "then" {
                    txn.success.push(op)
                } else {
                    txn.failure.push(op)
                }
                at += taken;
            }
            (word, _) => panic!("not in a txn: {word}"),
        }
    }
    txn
}

/// The operation at the beginning, and how many words it has.
fn inner(words: &[&str]) -> (KeyOp, usize) {
    if words[0] == "[" {
        let mut depth = 0;
        let end = words.iter().position(|word| {
            depth += i32::from(*word == "[") - i32::from(*word == "]");
            depth == 0
        });
        let end = end.expect("a bracket that closes");
        return (KeyOp::Txn(txn(&words[1..end])), end + 1);
    }
    let end = words.iter().position(|word| [";", "else", "id"].contains(word)).unwrap_or(words.len());
    let (plain, options) = split(&words[..end]);
    (op(&plain, &options), end)
}

fn compare(text: &str) -> Compare {
    let (what, rest) = text.split_once('(').expect("WHAT(KEYS)");
    let (words, rest) = rest.split_once(')').expect("WHAT(KEYS)");
    let (relation, operand) = match rest.as_bytes() {
        [b'!', b'=', ..] => (Relation::NotEqual, &rest[2..]),
        [b'=', ..] => (Relation::Equal, &rest[1..]),
        [b'<', ..] => (Relation::Less, &rest[1..]),
        [b'>', ..] => (Relation::Greater, &rest[1..]),
        _ => panic!("no relation: {rest}"),
    };
    let operand = match what {
        "version" => Operand::Version(number(operand)),
        "created" => Operand::Created(Revision(number(operand))),
        "written" => Operand::Written(Revision(number(operand))),
        "value" => Operand::Value(operand.as_bytes().to_vec()),
        "session" => Operand::Session((operand != "none").then(|| session(operand))),
        _ => panic!("nothing to compare: {what}"),
    };
    Compare { keys: keys(words), relation, operand }
}

pub(crate) fn keys(words: &str) -> Keys {
    if let Some(prefix) = words.strip_suffix('*') {
        return Keys::prefix(prefix);
    }
    match words.split_once("..") {
        Some((from, "")) => Keys::From(from.as_bytes().to_vec()),
        Some((from, to)) => Keys::Span { from: from.as_bytes().to_vec(), to: to.as_bytes().to_vec() },
        None => Keys::One(words.as_bytes().to_vec()),
    }
}

fn within(text: Option<&&str>) -> Within {
    let Some(text) = text else { return Within::default() };
    let (first, last) = text.split_once('-').expect("A-B");
    Within { first: Revision(number(first)), last: Revision(number(last)) }
}

pub(crate) fn tell(reply: &KeyReply) -> String {
    match reply {
        KeyReply::Put { version, previous } => {
            let was = previous.as_ref().map_or(String::new(), |kv| format!(", was {}", tell_value(kv)));
            format!("put, version {version}{was}")
        }
        KeyReply::Deleted { deleted, previous } if previous.is_empty() => format!("deleted {deleted}"),
        KeyReply::Deleted { deleted, previous } => format!("deleted {deleted}: {}", tell_all(previous)),
        KeyReply::Read(Findings { found, count, more }) => {
            let more = if *more { ", more" } else { "" };
            if found.is_empty() {
                return format!("read 0 of {count}{more}");
            }
            format!("read {} of {count}{more}: {}", found.len(), tell_all(found))
        }
        KeyReply::Txn { succeeded, replies } => {
            let replies: Vec<_> = replies.iter().map(tell).collect();
            format!("{} [{}]", if *succeeded { "succeeded" } else { "failed" }, replies.join("; "))
        }
        KeyReply::NotKept => "done, answer not kept".to_owned(),
    }
}

fn tell_all(found: &[Found]) -> String {
    let found: Vec<_> = found.iter().map(|it| tell_key(&it.key, &it.kv)).collect();
    found.join(", ")
}

pub(crate) fn tell_key(key: &[u8], kv: &KeyValue) -> String {
    format!("{} = {}", String::from_utf8_lossy(key), tell_value(kv))
}

fn tell_value(kv: &KeyValue) -> String {
    let KeyValue { value, create_revision, mod_revision, version, session } = kv;
    let session = session.map_or(String::new(), |id: SessionId| format!(", session {}", name_of(id)));
    let value = String::from_utf8_lossy(value);
    format!("{value} (created {create_revision}, written {mod_revision}, version {version}{session})")
}

pub(crate) fn watch(state: &State, keys: &Keys, from: Revision) -> Vec<String> {
    let changes = match state.changes(keys, from) {
        Ok(changes) => changes,
        Err(why) => return vec![format!("REFUSED {}", tell_refusal(&why))],
    };
    let tell = |kv: Option<&KeyValue>| kv.map_or("nothing".to_owned(), tell_value);
    let line = |it: palisade_coord_core::keys::changes::KeyChange<'_>| {
        let key = String::from_utf8_lossy(it.key).into_owned();
        format!("rev {}: {key} is {}, was {}", it.revision, tell(it.kv), tell(it.previous))
    };
    changes.map(line).collect()
}
