//! `palisade bench node`: what a node costs when nothing happens: how soon it serves after its start, with a new data folder and
//! with one in use, how much memory an idle one has, and how large the program is.

use std::path::Path;
use std::time::Duration;

use palisade_client::{Client, ClientConfig, PutOptions};
use palisade_world::World;
use serde_json::json;

use super::nodes::{Folder, Nodes};
use super::record::Record;
use super::{HEADER, Latencies, progress, progress_until};
use crate::cli::{Global, NodeArgs};
use crate::exit::Failure;
use crate::output;
use crate::processes::{Process, free_addresses};

/// Writes before a node is started again: a log that is not empty.
const WRITES: u32 = 200;

/// How long a node may take to serve.
const SERVES: Duration = Duration::from_secs(20);

/// How long a node may take to end.
const GRACE: Duration = Duration::from_secs(2);

pub(super) async fn run(args: NodeArgs, global: &Global, world: World) -> Result<(), Failure> {
    let record = Record::begin();
    let starts = starts(args.starts, &world).await?;
    let idle = idle(args.span, global, &world).await?;
    let binary_bytes = std::fs::metadata(std::env::current_exe()?)?.len();
    let figures = json!({
        "starts": args.starts,
        "binary_bytes": binary_bytes,
        "new_to_listening": starts.new.listens.document(),
        "new_to_first_write": starts.new.serves.document(),
        "again_to_listening": starts.again.listens.document(),
        "again_to_first_write": starts.again.serves.document(),
        "idle_seconds": args.span.as_secs_f64(),
        "idle_memory_kb": idle,
    });
    output::show(global.output, &record.document("node", figures), || {
        let Starts { new, again } = &starts;
        let rows = [
            ("new, to listening", &new.listens),
            ("new, to first write", &new.serves),
            ("again, to listening", &again.listens),
            ("again, to first write", &again.serves),
        ];
        let table = output::table(&HEADER, rows.map(|(name, latencies)| latencies.row(name)).to_vec());
        let idle = idle.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
        format!("{table}\nmemory of three idle nodes: {idle} KiB\nprogram: {binary_bytes} bytes")
    });
    Ok(())
}

struct Starts {
    new: Took,
    again: Took,
}

struct Took {
    listens: Latencies,
    serves: Latencies,
}

impl Took {
    fn new() -> Took {
        Took { listens: Latencies::new(), serves: Latencies::new() }
    }
}

/// A cluster of one node: nobody else is waited for.
async fn starts(count: u32, world: &World) -> Result<Starts, Failure> {
    let folder = Folder::new(world)?;
    let (mut new, mut again) = (Took::new(), Took::new());
    let bar = progress(count.into(), "starts");
    for number in 0..count {
        let name = format!("node-{number}");
        let address = free_addresses(1, world).await?.remove(0);
        let node = start(&name, &address, folder.path(), &mut new, world).await?;
        let client = client(&address, world)?;
        for write in 0..WRITES {
            client.put(PutOptions::new("bench/node", write.to_string())).await?;
        }
        node.stop(GRACE, world).await;
        let node = start(&name, &address, folder.path(), &mut again, world).await?;
        node.stop(GRACE, world).await;
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(Starts { new, again })
}

async fn start(name: &str, address: &str, dir: &Path, took: &mut Took, world: &World) -> Result<Process, Failure> {
    let data = dir.join(name).to_string_lossy().into_owned();
    let initial = format!("1={address}");
    let command = ["server", "--id", "1", "--listen", address, "--data", &data, "--initial", &initial];
    let began = world.now();
    let node = Process::start(name, command.map(str::to_owned).to_vec(), dir, world).await?;
    took.listens.record(world.now() - began);
    client(address, world)?.put(PutOptions::new("bench/up", "")).await?;
    took.serves.record(world.now() - began);
    Ok(node)
}

fn client(address: &str, world: &World) -> Result<Client, Failure> {
    let config = ClientConfig { endpoints: vec![address.to_owned()], request_timeout: SERVES };
    Client::new(config, world.clone()).map_err(|error| Failure::failed(error.to_string()))
}

/// Memory of each of three nodes that did nothing for a while, in KiB.
async fn idle(span: Duration, global: &Global, world: &World) -> Result<Vec<u64>, Failure> {
    let nodes = Nodes::start(global, world).await?;
    progress_until(world.now() + span, "three idle nodes", world).await;
    let memory = nodes.own.iter().filter_map(Process::memory_kb).collect();
    nodes.stop().await;
    Ok(memory)
}
