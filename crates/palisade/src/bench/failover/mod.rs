//! `palisade bench failover`: real processes are killed, stopped or asked to go, on nodes of our own, and this process's one
//! clock says how long the others take.
//!
//! Reading order: `candidates` (processes that campaign), `holders` (what befalls a holder), `writers` (how long no write is
//! acknowledged), `stores` (what befalls the store leader), `expiry` (sessions with the lowest TTL under full load).

mod candidates;
mod expiry;
mod holders;
mod stores;
mod writers;

use std::time::Duration;

use palisade_client::Client;
use palisade_world::World;
use serde_json::{Map, Value, json};

use super::nodes::Nodes;
use super::record::Record;
use super::{HEADER, Latencies};
use crate::cli::{FailoverArgs, FailoverMode, Global};
use crate::exit::Failure;
use crate::output;
use crate::processes::Process;

/// Nothing here takes longer unless something is wrong.
const LIMIT: Duration = Duration::from_secs(20);

/// What one mode found.
struct Found {
    /// As in the document.
    name: &'static str,
    /// For people.
    title: &'static str,
    latencies: Latencies,
    /// What else belongs to it.
    more: Value,
    /// What must not have happened, and did.
    wrong: Option<String>,
}

pub(super) async fn run(args: FailoverArgs, global: &Global, world: World) -> Result<(), Failure> {
    let record = Record::begin();
    let mut found = Vec::new();
    for mode in &args.mode {
        // Each on nodes of its own: what one leaves behind does not count against the next.
        let mut nodes = Nodes::start(global, &world).await?;
        let of_mode = measure(*mode, &args, &mut nodes, &world).await;
        nodes.stop().await;
        found.extend(of_mode?);
    }
    let mut figures = Map::new();
    for one in &found {
        let mut document = one.latencies.document();
        if let (Value::Object(into), Value::Object(more)) = (&mut document, one.more.clone()) {
            into.extend(more);
        }
        figures.insert(one.name.to_owned(), document);
    }
    figures.insert("nodes".into(), 3.into());
    output::show(global.output, &record.document("failover", Value::Object(figures)), || {
        output::table(&HEADER, found.iter().map(|one| one.latencies.row(one.title)).collect())
    });
    match found.into_iter().find_map(|one| one.wrong) {
        Some(wrong) => Err(Failure::failed(wrong)),
        None => Ok(()),
    }
}

async fn measure(
    mode: FailoverMode,
    args: &FailoverArgs,
    nodes: &mut Nodes,
    world: &World,
) -> Result<Vec<Found>, Failure> {
    use holders::Fate;
    let fates = match mode {
        FailoverMode::Holder => vec![(
            Fate::Killed,
            "holder_kill_to_next_grant",
            "holder kill -9 -> next grant",
            json!({ "release_after_ms": 0 }),
        )],
        FailoverMode::SilentHolder => vec![(
            Fate::Stopped,
            "silent_holder_to_next_grant",
            "holder stands still -> next grant",
            json!({ "ttl_ms": crate::units::ms(args.ttl) }),
        )],
        FailoverMode::HandOver => {
            vec![(Fate::Asked, "hand_over_to_next_grant", "holder SIGTERM -> next grant", json!({}))]
        }
        FailoverMode::Transfer => vec![
            (
                Fate::Transferred,
                "transfer_to_next_grant",
                "transfer -> grant of the named",
                json!({ "release_after_ms": 0 }),
            ),
            (
                Fate::AskedToHandOver,
                "asked_transfer_to_next_grant",
                "transfer, holder is asked -> grant of the named",
                json!({}),
            ),
        ],
        FailoverMode::StoreLeader => return Ok(vec![stores::measure(stores::Fate::Killed, args, nodes, world).await?]),
        FailoverMode::StorePause => return Ok(vec![stores::measure(stores::Fate::Paused, args, nodes, world).await?]),
        FailoverMode::LoadExpiry => return Ok(vec![expiry::measure(args, nodes, world).await?]),
    };
    let mut found = Vec::new();
    for (fate, name, title, more) in fates {
        let latencies = holders::measure(fate, args, nodes, world).await?;
        found.push(Found { name, title, latencies, more, wrong: None });
    }
    Ok(found)
}

/// The node of our own that leads the store.
pub(crate) async fn store_leader(client: &Client, nodes: &[Process], world: &World) -> Result<usize, Failure> {
    let until = world.now() + LIMIT;
    while world.now() < until {
        for (at, node) in nodes.iter().enumerate() {
            if let Ok(status) = client.status_of(&node.address).await
                && status.role == "leader"
            {
                return Ok(at);
            }
        }
        world.sleep(Duration::from_millis(20)).await;
    }
    Err(Failure::failed(format!("no node led the store within {LIMIT:?}")))
}
