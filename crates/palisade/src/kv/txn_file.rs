//! A transaction as people and programs write it, in JSON, and what it says. Nothing in it is guessed: a field that is not
//! known, or missing, or there twice, is refused by its place.

use palisade_client::{Binding, Compare, DeleteOp, Direction, KeyOp, Keys, PutOp, RangeOptions, Relation, SortBy, Txn};
use palisade_fence::Fence;
use serde::Deserialize;

use super::get::sort_by;
use crate::cli::Sort;
use crate::exit::Failure;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TxnFile {
    fence: Option<String>,
    #[serde(default)]
    compare: Vec<CompareFile>,
    #[serde(default)]
    success: Vec<OpFile>,
    #[serde(default)]
    failure: Vec<OpFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CompareFile {
    key: Option<String>,
    key_base64: Option<String>,
    #[serde(default)]
    prefix: bool,
    #[serde(default)]
    from_key: bool,
    to: Option<String>,
    to_base64: Option<String>,
    #[serde(default)]
    is: IsFile,
    value: Option<String>,
    value_base64: Option<String>,
    version: Option<u64>,
    create_revision: Option<u64>,
    mod_revision: Option<u64>,
    session: Option<u64>,
}

#[derive(Deserialize, Default, Clone, Copy)]
#[serde(rename_all = "snake_case")]
enum IsFile {
    #[default]
    Equal,
    NotEqual,
    Greater,
    Less,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum OpFile {
    Put(PutFile),
    Delete(DeleteFile),
    Get(GetFile),
    Txn(TxnFile),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PutFile {
    key: Option<String>,
    key_base64: Option<String>,
    value: Option<String>,
    value_base64: Option<String>,
    #[serde(default)]
    keep_value: bool,
    session: Option<u64>,
    #[serde(default)]
    keep_session: bool,
    #[serde(default)]
    prev: bool,
    fence: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DeleteFile {
    key: Option<String>,
    key_base64: Option<String>,
    #[serde(default)]
    prefix: bool,
    #[serde(default)]
    from_key: bool,
    to: Option<String>,
    to_base64: Option<String>,
    #[serde(default)]
    prev: bool,
    fence: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GetFile {
    key: Option<String>,
    key_base64: Option<String>,
    #[serde(default)]
    prefix: bool,
    #[serde(default)]
    from_key: bool,
    to: Option<String>,
    to_base64: Option<String>,
    #[serde(default)]
    rev: u64,
    #[serde(default)]
    limit: u64,
    sort: Option<Sort>,
    #[serde(default)]
    descending: bool,
    #[serde(default)]
    keys_only: bool,
    #[serde(default)]
    count: bool,
}

/// Reads a transaction. The error names the line, or the field by its place in the document.
pub(super) fn parse(text: &[u8]) -> Result<Txn, Failure> {
    let file: TxnFile = serde_json::from_slice(text).map_err(|error| {
        let place = format!("line {}, column {}", error.line(), error.column());
        Failure::usage("transaction", place, error.to_string())
    })?;
    txn(file, "")
}

fn txn(file: TxnFile, at: &str) -> Result<Txn, Failure> {
    let mut txn = Txn::new();
    if let Some(fence) = fence(file.fence, at)? {
        txn = txn.fenced(&fence);
    }
    for (number, it) in file.compare.into_iter().enumerate() {
        txn = txn.when(compare(it, &format!("{at}compare[{number}]."))?);
    }
    for (number, it) in file.success.into_iter().enumerate() {
        txn = txn.then(op(it, &format!("{at}success[{number}]."))?);
    }
    for (number, it) in file.failure.into_iter().enumerate() {
        txn = txn.otherwise(op(it, &format!("{at}failure[{number}]."))?);
    }
    Ok(txn)
}

fn compare(file: CompareFile, at: &str) -> Result<Compare, Failure> {
    let many = Many { prefix: file.prefix, from_key: file.from_key, to: file.to, to_base64: file.to_base64 };
    let keys = keys(file.key, file.key_base64, many, at)?;
    let relation = match file.is {
        IsFile::Equal => Relation::Equal,
        IsFile::NotEqual => Relation::NotEqual,
        IsFile::Greater => Relation::Greater,
        IsFile::Less => Relation::Less,
    };
    let value = bytes(file.value, file.value_base64, at, "value")?;
    Ok(match (value, file.version, file.create_revision, file.mod_revision, file.session) {
        (Some(value), None, None, None, None) => Compare::value(keys, relation, value),
        (None, Some(version), None, None, None) => Compare::version(keys, relation, version),
        (None, None, Some(revision), None, None) => Compare::create_revision(keys, relation, revision),
        (None, None, None, Some(revision), None) => Compare::mod_revision(keys, relation, revision),
        (None, None, None, None, Some(session)) => Compare::session(keys, relation, Some(session)),
        _ => {
            let limit = "exactly one of value, version, create_revision, mod_revision, session";
            return Err(wrong(at, "", "what to compare with", limit));
        }
    })
}

fn op(file: OpFile, at: &str) -> Result<KeyOp, Failure> {
    match file {
        OpFile::Put(file) => put(file, &format!("{at}put.")),
        OpFile::Delete(file) => delete(file, &format!("{at}delete.")),
        OpFile::Get(file) => get(file, &format!("{at}get.")),
        OpFile::Txn(file) => Ok(KeyOp::txn(txn(file, &format!("{at}txn."))?)),
    }
}

fn put(file: PutFile, at: &str) -> Result<KeyOp, Failure> {
    let key = one(file.key, file.key_base64, at)?;
    let value = match (bytes(file.value, file.value_base64, at, "value")?, file.keep_value) {
        (Some(value), false) => Some(value),
        (None, true) => None,
        (Some(_), true) | (None, false) => {
            return Err(wrong(at, "value", "the value", "one of value, value_base64, keep_value"));
        }
    };
    let binding = match (file.session, file.keep_session) {
        (None, false) => Binding::None,
        (Some(session), false) => Binding::To(session),
        (None, true) => Binding::Keep,
        (Some(_), true) => return Err(wrong(at, "session", "both", "one of session, keep_session")),
    };
    let fence = fence(file.fence, at)?;
    Ok(PutOp { value, binding, show_previous: file.prev, fence, ..PutOp::new(key, Vec::new()) }.into())
}

fn delete(file: DeleteFile, at: &str) -> Result<KeyOp, Failure> {
    let many = Many { prefix: file.prefix, from_key: file.from_key, to: file.to, to_base64: file.to_base64 };
    let keys = keys(file.key, file.key_base64, many, at)?;
    let fence = fence(file.fence, at)?;
    Ok(DeleteOp { show_previous: file.prev, fence, ..DeleteOp::new(keys) }.into())
}

fn get(file: GetFile, at: &str) -> Result<KeyOp, Failure> {
    let many = Many { prefix: file.prefix, from_key: file.from_key, to: file.to, to_base64: file.to_base64 };
    let direction = if file.descending { Direction::Descending } else { Direction::Ascending };
    let options = RangeOptions::new(keys(file.key, file.key_base64, many, at)?)
        .at(file.rev)
        .limit(file.limit)
        .sort(file.sort.map_or(SortBy::Key, sort_by), direction);
    Ok(KeyOp::read(match (file.keys_only, file.count) {
        (false, false) => options,
        (true, false) => options.keys_only(),
        (false, true) => options.count_only(),
        (true, true) => return Err(wrong(at, "count", "both", "one of keys_only, count")),
    }))
}

/// How many keys are meant beside the one that is named.
struct Many {
    prefix: bool,
    from_key: bool,
    to: Option<String>,
    to_base64: Option<String>,
}

fn keys(key: Option<String>, key_base64: Option<String>, many: Many, at: &str) -> Result<Keys, Failure> {
    let key = one(key, key_base64, at)?;
    let to = bytes(many.to, many.to_base64, at, "to")?;
    Ok(match (many.prefix, many.from_key, to) {
        (false, false, None) => Keys::One(key),
        (true, false, None) => Keys::Prefix(key),
        (false, true, None) => Keys::From(key),
        (false, false, Some(to)) => Keys::Span { from: key, to },
        _ => return Err(wrong(at, "key", "which keys", "at most one of prefix, from_key, to")),
    })
}

fn one(key: Option<String>, key_base64: Option<String>, at: &str) -> Result<Vec<u8>, Failure> {
    bytes(key, key_base64, at, "key")?.ok_or_else(|| wrong(at, "key", "none", "one of key, key_base64"))
}

/// Text, or bytes in base64; `None`: neither.
fn bytes(plain: Option<String>, base64: Option<String>, at: &str, name: &str) -> Result<Option<Vec<u8>>, Failure> {
    use base64::Engine as _;
    match (plain, base64) {
        (None, None) => Ok(None),
        (Some(plain), None) => Ok(Some(plain.into_bytes())),
        (None, Some(text)) => {
            let decoded = base64::engine::general_purpose::STANDARD.decode(&text);
            decoded.map(Some).map_err(|error| wrong(at, &format!("{name}_base64"), &text, &error.to_string()))
        }
        (Some(_), Some(_)) => Err(wrong(at, name, "both", &format!("one of {name}, {name}_base64"))),
    }
}

fn fence(fence: Option<String>, at: &str) -> Result<Option<Fence>, Failure> {
    fence
        .map(|text| text.parse().map_err(|error: palisade_fence::ParseFenceError| wrong(at, "fence", &text, error.why)))
        .transpose()
}

fn wrong(at: &str, name: &str, value: &str, limit: &str) -> Failure {
    Failure::usage(format!("{at}{name}").trim_end_matches('.'), value, limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        let Err(failure) = parse(text.as_bytes()) else { panic!("{text} is taken") };
        assert_eq!(failure.code, crate::exit::USAGE);
        failure.message
    }

    #[test]
    fn what_help_shows_is_a_transaction() {
        let command = <crate::cli::Cli as clap::CommandFactory>::command();
        let help = command.find_subcommand("kv").and_then(|kv| kv.find_subcommand("txn")).unwrap().get_after_help();
        let help = help.unwrap().to_string();
        let example: String =
            help.lines().skip_while(|line| line.trim() != "{").take_while(|line| line.starts_with("  ")).collect();
        let key = "lock";
        let take = Txn::new()
            .when(Compare::version(key, Relation::Equal, 0))
            .then(PutOp { binding: Binding::To(42), ..PutOp::new(key, "me") }.into())
            .otherwise(KeyOp::read(RangeOptions::new(key)));
        let Ok(parsed) = parse(example.as_bytes()) else { panic!("{example}") };
        assert_eq!(parsed, take);
    }

    #[test]
    fn everything_can_be_said() {
        let text = r#"{
            "fence": "e:7",
            "compare": [{"key": "a", "prefix": true, "is": "greater", "mod_revision": 3}, {"key_base64": "/w==", "value": ""}],
            "success": [
                {"delete": {"key": "a", "to": "b", "prev": true}},
                {"get": {"key": "", "prefix": true, "rev": 4, "limit": 2, "sort": "mod_revision", "descending": true}},
                {"txn": {"success": [{"put": {"key": "k", "keep_value": true, "keep_session": true, "fence": "e:7"}}]}}
            ]
        }"#;
        let fence: Fence = "e:7".parse().unwrap();
        let span = Keys::Span { from: b"a".to_vec(), to: b"b".to_vec() };
        let newest = RangeOptions::new(Keys::all()).at(4).limit(2).sort(SortBy::ModRevision, Direction::Descending);
        let keep = PutOp { value: None, binding: Binding::Keep, fence: Some(fence.clone()), ..PutOp::new("k", "") };
        let expected = Txn::new()
            .fenced(&fence)
            .when(Compare::mod_revision(Keys::prefix("a"), Relation::Greater, 3))
            .when(Compare::value(vec![255], Relation::Equal, ""))
            .then(DeleteOp { show_previous: true, ..DeleteOp::new(span) }.into())
            .then(KeyOp::read(newest))
            .then(KeyOp::txn(Txn::new().then(keep.into())));
        let Ok(parsed) = parse(text.as_bytes()) else { panic!("it is refused") };
        assert_eq!(parsed, expected);
    }

    #[test]
    fn bad_input_is_named_by_its_line_or_its_field() {
        let cases = [
            ("{\n  \"compare\": [}\n}", "line 2"),
            ("{\"sucess\": []}", "sucess"),
            ("{\"success\": [{\"put\": {\"key\": \"a\", \"vlaue\": \"1\"}}]}", "vlaue"),
            ("{\"success\": [{\"put\": {\"key\": \"a\"}}]}", "success[0].put.value"),
            ("{\"success\": [{\"put\": {\"value\": \"a\"}}]}", "success[0].put.key"),
            ("{\"failure\": [{\"get\": {\"key\": \"a\", \"prefix\": true, \"to\": \"b\"}}]}", "failure[0].get.key"),
            ("{\"compare\": [{\"key\": \"a\"}]}", "compare[0]"),
            ("{\"compare\": [{\"key\": \"a\", \"version\": 1, \"value\": \"x\"}]}", "compare[0]"),
            ("{\"compare\": [{\"key\": \"a\", \"is\": \"like\", \"version\": 1}]}", "like"),
            ("{\"success\": [{\"delete\": {\"key_base64\": \"?\"}}]}", "success[0].delete.key_base64"),
            ("{\"success\": [{\"txn\": {\"fence\": \"e\"}}]}", "success[0].txn.fence"),
        ];
        for (text, names) in cases {
            let message = refused(text);
            assert!(message.contains(names), "{text}: '{message}' does not name {names}");
        }
    }
}
