//! `palisade kv …`: one request each.

use std::io::{Read, Write};

use palisade_client::{Client, DeleteOptions, KeyValue, PutOptions};
use palisade_fence::Fence;
use palisade_world::World;
use serde_json::{Map, Value, json};

use crate::cli::{Global, KvCommand};
use crate::exit::Failure;
use crate::output;

pub(crate) async fn run(command: KvCommand, global: &Global, world: World) -> Result<(), Failure> {
    let client = crate::elect::connect(global, &world)?;
    match command {
        KvCommand::Put { key, value, fence } => put(key, value, fence, global, &client).await,
        KvCommand::Get { key } => get(&key, global, &client).await,
        KvCommand::Delete { key, fence } => delete(key, fence, global, &client).await,
    }
}

fn parse_fence(fence: Option<String>) -> Result<Option<Fence>, Failure> {
    fence.map(|text| text.parse::<Fence>().map_err(|error| Failure::usage("--fence", text, error.why))).transpose()
}

async fn put(
    key: String,
    value: String,
    fence: Option<String>,
    global: &Global,
    client: &Client,
) -> Result<(), Failure> {
    let fence = parse_fence(fence)?;
    let value = if value == "-" {
        let mut bytes = Vec::new();
        std::io::stdin().lock().read_to_end(&mut bytes)?;
        bytes
    } else {
        value.into_bytes()
    };
    let put = client.put(PutOptions { key: key.clone().into_bytes(), value, fence, session: None }).await?;
    let mut document = Map::new();
    output::put_bytes(&mut document, "key", key.as_bytes());
    document.insert("version".into(), put.version.into());
    document.insert("seq".into(), put.header.seq.into());
    document.insert("revision".into(), put.header.revision.into());
    output::show(global.output, &Value::Object(document), || format!("ok, revision {}", put.header.revision));
    Ok(())
}

async fn get(key: &str, global: &Global, client: &Client) -> Result<(), Failure> {
    let got = client.get(key.as_bytes().to_vec()).await?;
    let Some(kv) = got.kv else {
        return Err(Failure::absent("key_not_found", format!("key '{key}' does not exist")));
    };
    if global.output.is_none() {
        let mut out = std::io::stdout().lock();
        out.write_all(&kv.value)?;
        return Ok(out.flush()?);
    }
    let mut document = key_value(&kv);
    document.insert("seq".into(), got.header.seq.into());
    document.insert("revision".into(), got.header.revision.into());
    output::show(global.output, &Value::Object(document), || {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        output::table(
            &["KEY", "VALUE", "CREATED", "MODIFIED", "VERSION"],
            vec![vec![
                text(&kv.key),
                text(&kv.value),
                kv.create_revision.to_string(),
                kv.mod_revision.to_string(),
                kv.version.to_string(),
            ]],
        )
    });
    Ok(())
}

fn key_value(kv: &KeyValue) -> Map<String, Value> {
    let mut object = Map::new();
    output::put_bytes(&mut object, "key", &kv.key);
    output::put_bytes(&mut object, "value", &kv.value);
    object.insert("create_revision".into(), kv.create_revision.into());
    object.insert("mod_revision".into(), kv.mod_revision.into());
    object.insert("version".into(), kv.version.into());
    object
}

async fn delete(key: String, fence: Option<String>, global: &Global, client: &Client) -> Result<(), Failure> {
    let fence = parse_fence(fence)?;
    let deleted = client.delete(DeleteOptions { key: key.into_bytes(), fence, session: None }).await?;
    let document =
        json!({ "deleted": deleted.deleted, "seq": deleted.header.seq, "revision": deleted.header.revision });
    output::show(global.output, &document, || format!("deleted {}", deleted.deleted));
    Ok(())
}
