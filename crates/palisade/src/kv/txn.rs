//! `palisade kv txn`: a transaction from a file, and what came of it.

use palisade_client::{Client, KeyOpResult, KeyValue};
use palisade_fence::Fence;
use serde_json::{Value, json};

use super::{key_value, text, txn_file};
use crate::cli::Global;
use crate::exit::Failure;
use crate::output;

pub(super) async fn run(file: &str, fence: Option<Fence>, global: &Global, client: &Client) -> Result<(), Failure> {
    let mut txn = txn_file::parse(&read(file)?)?;
    if let Some(fence) = fence {
        txn = txn.fenced(&fence);
    }
    let done = client.txn(txn, None).await?;
    let document = json!({
        "succeeded": done.succeeded,
        "results": done.results.iter().map(result).collect::<Vec<_>>(),
        "seq": done.header.seq,
        "revision": done.header.revision,
    });
    output::show(global.output, &document, || {
        let how = if done.succeeded { "succeeded" } else { "failed: a condition does not hold" };
        let lines: String = done.results.iter().map(|it| format!("\n{}", line(it))).collect();
        format!("{how}, revision {}{lines}", done.header.revision)
    });
    if done.succeeded {
        return Ok(());
    }
    let message = "a condition does not hold; what stands under \"failure\" was done";
    // What was done then may have written.
    let outcome = if done.results.is_empty() { "not_applied" } else { "" };
    Err(Failure { outcome, ..Failure::absent("compare_failed", message) })
}

fn read(file: &str) -> Result<Vec<u8>, Failure> {
    if file == "-" {
        return super::stdin();
    }
    std::fs::read(file).map_err(|error| Failure::usage("FILE", file, error.to_string()))
}

fn result(result: &KeyOpResult) -> Value {
    let all = |kvs: &[KeyValue]| kvs.iter().map(key_value).map(Value::Object).collect::<Vec<_>>();
    match result {
        KeyOpResult::Put { version, previous } => {
            let previous = previous.as_ref().map(|kv| {
                let mut kv = key_value(kv);
                // The file has the key.
                kv.shift_remove("key");
                kv
            });
            json!({ "put": { "version": version, "previous": previous } })
        }
        KeyOpResult::Deleted { deleted, previous } => {
            json!({ "delete": { "deleted": deleted, "previous": all(previous) } })
        }
        KeyOpResult::Read(found) => {
            json!({ "get": { "kvs": all(&found.kvs), "count": found.count, "more": found.more } })
        }
        KeyOpResult::Txn { succeeded, results } => {
            json!({ "txn": { "succeeded": succeeded, "results": results.iter().map(self::result).collect::<Vec<_>>() } })
        }
        KeyOpResult::NotKept => json!({ "not_kept": true }),
        // One that a later client has.
        other => json!({ "other": format!("{other:?}") }),
    }
}

fn line(result: &KeyOpResult) -> String {
    match result {
        KeyOpResult::Put { version, .. } => format!("put, version {version}"),
        KeyOpResult::Deleted { deleted, .. } => format!("deleted {deleted}"),
        KeyOpResult::Read(found) => {
            let kvs = found.kvs.iter().map(|kv| format!("\n  {} = {}", text(&kv.key), text(&kv.value)));
            format!("found {}{}", found.count, kvs.collect::<String>())
        }
        KeyOpResult::Txn { succeeded, results } => {
            let how = if *succeeded { "succeeded" } else { "failed" };
            let lines = results.iter().map(|it| format!("\n{}", line(it)));
            format!("transaction within {how}{}", lines.collect::<String>().replace('\n', "\n  "))
        }
        KeyOpResult::NotKept => "done; what it found is more than one answer can have".to_owned(),
        other => format!("{other:?}"),
    }
}
