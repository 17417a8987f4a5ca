//! `palisade kv …`: one request each, but for `watch`.

mod get;
mod txn;
mod txn_file;
mod watch;

use std::io::Read;

use palisade_client::{Binding, Client, DeleteOptions, KeyValue, Keys, PutOptions};
use palisade_fence::Fence;
use palisade_world::World;
use serde_json::{Map, Value, json};

use crate::cli::{FenceArg, Global, KvCommand, ManyArgs};
use crate::exit::Failure;
use crate::output;

pub(crate) async fn run(command: KvCommand, global: &Global, world: World) -> Result<(), Failure> {
    let client = crate::elect::connect(global, &world)?;
    match command {
        KvCommand::Put { key, value, fence, session, prev } => {
            let binding = session.map_or(Binding::None, Binding::To);
            let (fence, value) = (parse_fence(fence)?, value_or_stdin(value)?);
            put(PutOptions { fence, binding, show_previous: prev, ..PutOptions::new(key, value) }, global, &client)
                .await
        }
        KvCommand::Get(args) => get::run(args, global, &client).await,
        KvCommand::Delete { key, many, fence, prev } => {
            let (keys, fence) = (keys(key, &many), parse_fence(fence)?);
            let options = DeleteOptions { fence, show_previous: prev, ..DeleteOptions::new(keys) };
            delete(options, global, &client).await
        }
        KvCommand::Txn { file, fence } => txn::run(&file, parse_fence(fence)?, global, &client).await,
        KvCommand::Watch(args) => watch::run(args, global, &client).await,
        KvCommand::Compact { revision } => compact(revision, global, &client).await,
    }
}

fn parse_fence(arg: FenceArg) -> Result<Option<Fence>, Failure> {
    arg.fence.map(|text| text.parse::<Fence>().map_err(|error| Failure::usage("--fence", text, error.why))).transpose()
}

fn keys(key: String, many: &ManyArgs) -> Keys {
    let key = key.into_bytes();
    match (many.prefix, many.from_key) {
        (true, _) => Keys::Prefix(key),
        (false, true) => Keys::From(key),
        (false, false) => Keys::One(key),
    }
}

fn value_or_stdin(value: String) -> Result<Vec<u8>, Failure> {
    if value != "-" {
        return Ok(value.into_bytes());
    }
    stdin()
}

fn stdin() -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    std::io::stdin().lock().read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A key as programs read it.
fn key_value(kv: &KeyValue) -> Map<String, Value> {
    let mut object = Map::new();
    output::put_bytes(&mut object, "key", &kv.key);
    output::put_bytes(&mut object, "value", &kv.value);
    object.insert("create_revision".into(), kv.create_revision.into());
    object.insert("mod_revision".into(), kv.mod_revision.into());
    object.insert("version".into(), kv.version.into());
    if let Some(session) = kv.session {
        object.insert("session".into(), session.into());
    }
    object
}

/// A key as people read it.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

async fn put(options: PutOptions<'_>, global: &Global, client: &Client) -> Result<(), Failure> {
    let (key, shows) = (options.key.clone(), options.show_previous);
    let put = client.put(options).await?;
    let mut document = Map::new();
    output::put_bytes(&mut document, "key", &key);
    document.insert("version".into(), put.version.into());
    if shows {
        document.insert("previous".into(), put.previous.as_ref().map(key_value).into());
    }
    document.insert("seq".into(), put.header.seq.into());
    document.insert("revision".into(), put.header.revision.into());
    output::show(global.output, &Value::Object(document), || {
        let was = put.previous.as_ref().map(|kv| format!(", was {}", text(&kv.value))).unwrap_or_default();
        format!("ok, revision {}{was}", put.header.revision)
    });
    Ok(())
}

async fn delete(options: DeleteOptions<'_>, global: &Global, client: &Client) -> Result<(), Failure> {
    let shows = options.show_previous;
    let deleted = client.delete(options).await?;
    let mut document = json!({ "deleted": deleted.deleted });
    if shows {
        document["previous"] = deleted.previous.iter().map(key_value).collect();
    }
    document["seq"] = deleted.header.seq.into();
    document["revision"] = deleted.header.revision.into();
    output::show(global.output, &document, || match deleted.deleted {
        Some(count) => {
            let was = deleted.previous.iter().map(|kv| format!("\n{} = {}", text(&kv.key), text(&kv.value)));
            format!("deleted {count}{}", was.collect::<String>())
        }
        None => "deleted; what was there is more than one answer can have".to_owned(),
    });
    Ok(())
}

async fn compact(revision: u64, global: &Global, client: &Client) -> Result<(), Failure> {
    let header = client.compact(revision, None).await?;
    let document = json!({ "compacted": revision, "seq": header.seq, "revision": header.revision });
    output::show(global.output, &document, || format!("ok, compacted before revision {revision}"));
    Ok(())
}
