//! `palisade kv watch`: every change of keys, until Ctrl-C.

use palisade_client::{Client, KeyChange, WatchOptions, WatchedKind};
use serde_json::{Map, Value, json};

use super::{key_value, keys, text};
use crate::cli::{Global, WatchArgs};
use crate::exit::Failure;
use crate::output::{self, Format};

pub(super) async fn run(args: WatchArgs, global: &Global, client: &Client) -> Result<(), Failure> {
    let mut watcher = client.watch(WatchOptions {
        from: args.from,
        show_previous: args.prev,
        progress: args.progress,
        ..WatchOptions::new(keys(args.key, &args.many))
    });
    // Where it was asked to begin, until something has been told.
    let mut asked = args.from;
    loop {
        let watched = tokio::select! {
            _ = tokio::signal::ctrl_c() => return Ok(()),
            watched = watcher.next() => watched?,
        };
        match &watched.kind {
            WatchedKind::Gap { from, to } if asked == Some(*from) => return Err(compacted(*from, *to)),
            WatchedKind::Started { .. } | WatchedKind::Resumed { .. } => {}
            _ => asked = None,
        }
        match global.output {
            Some(Format::Json | Format::Jsonl) => {
                documents(&watched.kind, args.prev).iter().for_each(|it| output::line(&it.to_string()));
            }
            Some(Format::Table) | None => lines(&watched.kind).iter().for_each(|it| output::line(it)),
        }
    }
}

fn compacted(from: u64, first: u64) -> Failure {
    Failure {
        limit: format!("{first} or later"),
        field: "--from".to_owned(),
        value: from.to_string(),
        hint: "read the keys as they are, and watch from the revision after that".to_owned(),
        ..Failure::absent("compacted", format!("--from: revision {from} was compacted: {first} or later"))
    }
}

fn documents(kind: &WatchedKind, shows_previous: bool) -> Vec<Value> {
    match kind {
        WatchedKind::Started { from } => vec![json!({ "event": "started", "from": from })],
        WatchedKind::Resumed { from } => vec![json!({ "event": "resumed", "from": from })],
        WatchedKind::Progress { from } => vec![json!({ "event": "progress", "from": from })],
        WatchedKind::Gap { from, to } => vec![json!({ "event": "gap", "from": from, "to": to })],
        WatchedKind::Changed { revision, changes } => {
            let last = changes.len() - 1;
            let event = |(at, change)| Value::Object(event(*revision, change, at < last, shows_previous));
            changes.iter().enumerate().map(event).collect()
        }
        // One that a later client has.
        _ => Vec::new(),
    }
}

/// `more`: the same revision has more changes of these keys; they follow at once.
fn event(revision: u64, change: &KeyChange, more: bool, shows_previous: bool) -> Map<String, Value> {
    let mut event = Map::new();
    event.insert("event".into(), if change.kv.is_some() { "put" } else { "delete" }.into());
    match &change.kv {
        Some(kv) => event.extend(key_value(kv)),
        None => output::put_bytes(&mut event, "key", &change.key),
    }
    if shows_previous {
        event.insert("previous".into(), change.previous.as_ref().map(key_value).into());
    }
    event.insert("revision".into(), revision.into());
    event.insert("more".into(), more.into());
    event
}

fn lines(kind: &WatchedKind) -> Vec<String> {
    match kind {
        WatchedKind::Started { from } => vec![format!("{from} watching from here")],
        WatchedKind::Resumed { from } => vec![format!("{from} watching on from here, nothing is missing")],
        WatchedKind::Progress { from } => vec![format!("{from} nothing has changed before this")],
        WatchedKind::Gap { from, to } => vec![format!("{from} changes are missing before {to}: they were compacted")],
        WatchedKind::Changed { revision, changes } => {
            let line = |change: &KeyChange| {
                let was = change.previous.as_ref().map(|kv| format!(" (was {})", text(&kv.value))).unwrap_or_default();
                match &change.kv {
                    Some(kv) => format!("{revision} put {} = {}{was}", text(&kv.key), text(&kv.value)),
                    None => format!("{revision} delete {}{was}", text(&change.key)),
                }
            };
            changes.iter().map(line).collect()
        }
        _ => Vec::new(),
    }
}
