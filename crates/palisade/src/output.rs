//! What goes to stdout: a table for people, one JSON document, or a stream of JSON lines.

use std::io::Write;

use base64::Engine as _;
use palisade_client as client;
use serde_json::{Map, Value, json};

/// `--output`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum Format {
    /// Aligned columns (the default).
    Table,
    /// One JSON document.
    Json,
    /// A stream, one flushed line per event.
    Jsonl,
}

/// Writes one line to stdout and flushes it, so that a program at the other end of a pipe sees it at once.
/// A closed pipe is the reader's choice, not our failure.
pub(crate) fn line(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// Prints one result: the document for programs, or what `table` says for people.
pub(crate) fn show(format: Option<Format>, document: &Value, table: impl FnOnce() -> String) {
    match format {
        Some(Format::Json) => line(&serde_json::to_string_pretty(document).unwrap_or_default()),
        Some(Format::Jsonl) => line(&document.to_string()),
        Some(Format::Table) | None => line(table().trim_end()),
    }
}

/// Aligned columns without borders, as `kubectl` prints them.
pub(crate) fn table(header: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING).set_header(header.to_vec());
    for row in rows {
        table.add_row(row);
    }
    table.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

/// Adds bytes under `name` if they are UTF-8, else under `name_base64`.
pub(crate) fn put_bytes(object: &mut Map<String, Value>, name: &str, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => object.insert(name.to_owned(), text.into()),
        Err(_) => {
            object.insert(format!("{name}_base64"), base64::engine::general_purpose::STANDARD.encode(bytes).into())
        }
    };
}

/// A grant, with its token as an exact integer and, ready for `--fence`, as text.
pub(crate) fn grant(grant: &client::Grant) -> Map<String, Value> {
    let fence = client::Fence { election: grant.election.clone(), token: grant.token };
    let mut object = Map::new();
    object.insert("election".into(), grant.election.as_str().into());
    object.insert("candidate".into(), grant.candidate.as_str().into());
    object.insert("value".into(), value(&grant.value));
    object.insert("token".into(), grant.token.get().into());
    object.insert("fence".into(), fence.to_string().into());
    object.insert("seq".into(), grant.seq.into());
    object.insert("since_unix_ms".into(), grant.since_unix_ms.into());
    object
}

/// What a leader has proclaimed.
pub(crate) fn value(value: &client::Value) -> Value {
    let mut object = Map::new();
    object.insert("address".into(), value.address.as_str().into());
    object.insert("components".into(), json!(value.components));
    put_bytes(&mut object, "data", &value.data);
    Value::Object(object)
}
