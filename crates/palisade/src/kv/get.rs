//! `palisade kv get`: one key or many, as they are or as they were.

use std::io::Write;

use palisade_client::{Client, Direction, Found, KeyValue, RangeOptions, SortBy};
use serde_json::{Map, Value, json};

use super::{key_value, keys, text};
use crate::cli::{GetArgs, Global, Sort};
use crate::exit::Failure;
use crate::output;

/// What is shown of what is found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Show {
    /// The one key that was asked for, which must be there.
    One,
    Many,
    Keys,
    Count,
}

pub(super) async fn run(args: GetArgs, global: &Global, client: &Client) -> Result<(), Failure> {
    let show = match &args {
        GetArgs { count: true, .. } => Show::Count,
        GetArgs { keys_only: true, .. } => Show::Keys,
        GetArgs { many, .. } if many.prefix || many.from_key => Show::Many,
        GetArgs { .. } => Show::One,
    };
    let key = args.key.clone();
    // One document, however many answers it takes: they are all of one revision.
    let ranged = client.range_all(options(args)).await?;
    let Found { kvs, count, more } = &ranged.found;
    let mut document = match (show, kvs.first()) {
        (Show::One, None) => return Err(Failure::absent("key_not_found", format!("key '{key}' does not exist"))),
        (Show::One, Some(kv)) if global.output.is_none() => {
            let mut out = std::io::stdout().lock();
            out.write_all(&kv.value)?;
            return Ok(out.flush()?);
        }
        (Show::One, Some(kv)) => key_value(kv),
        (Show::Many | Show::Keys | Show::Count, _) => many(show, &ranged.found),
    };
    document.insert("seq".into(), ranged.header.seq.into());
    document.insert("revision".into(), ranged.header.revision.into());
    output::show(global.output, &Value::Object(document), || match show {
        Show::One | Show::Many => table(kvs),
        Show::Keys => kvs.iter().map(|kv| text(&kv.key) + "\n").collect(),
        Show::Count => count.to_string(),
    });
    if *more {
        eprintln!("palisade: there are more: {} of {count} keys are shown", kvs.len());
    }
    Ok(())
}

fn options(args: GetArgs) -> RangeOptions {
    let direction = if args.descending { Direction::Descending } else { Direction::Ascending };
    let mut options = RangeOptions::new(keys(args.key, &args.many))
        .at(args.rev.unwrap_or(0))
        .limit(args.limit.unwrap_or(0))
        .sort(args.sort.map_or(SortBy::Key, sort_by), direction);
    if args.keys_only {
        options = options.keys_only();
    }
    if args.count {
        options = options.count_only();
    }
    if args.serializable {
        options = options.serializable();
    }
    options
}

pub(super) fn sort_by(sort: Sort) -> SortBy {
    match sort {
        Sort::Key => SortBy::Key,
        Sort::Version => SortBy::Version,
        Sort::CreateRevision => SortBy::CreateRevision,
        Sort::ModRevision => SortBy::ModRevision,
        Sort::Value => SortBy::Value,
    }
}

fn many(show: Show, found: &Found) -> Map<String, Value> {
    let mut document = Map::new();
    if show != Show::Count {
        let kv = |kv: &KeyValue| {
            let mut kv = key_value(kv);
            if show == Show::Keys {
                kv.shift_remove("value");
            }
            Value::Object(kv)
        };
        document.insert("kvs".into(), found.kvs.iter().map(kv).collect());
    }
    document.insert("count".into(), found.count.into());
    document.insert("more".into(), json!(found.more));
    document
}

fn table(kvs: &[KeyValue]) -> String {
    let row = |kv: &KeyValue| {
        vec![
            text(&kv.key),
            text(&kv.value),
            kv.create_revision.to_string(),
            kv.mod_revision.to_string(),
            kv.version.to_string(),
        ]
    };
    output::table(&["KEY", "VALUE", "CREATED", "MODIFIED", "VERSION"], kvs.iter().map(row).collect())
}
