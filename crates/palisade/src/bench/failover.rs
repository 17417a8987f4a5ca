//! `palisade bench failover`: kills real processes with -9 and measures, on this process's one clock, how long the others
//! take. First the holder of an election, again and again; then the store leader, while one caller writes.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use palisade_client::{Client, ClientConfig, PutOptions};
use palisade_world::World;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

use super::Latencies;
use crate::cli::Global;
use crate::exit::Failure;
use crate::output;
use crate::processes::{Process, start_cluster};

const ELECTION: &str = "bench-failover";
const CANDIDATES: usize = 3;
/// Nothing here takes longer unless something is wrong.
const LIMIT: Duration = Duration::from_secs(20);

pub(crate) async fn run(kills: u32, store_kills: u32, global: &Global, world: World) -> Result<(), Failure> {
    let dir =
        std::env::temp_dir().join(format!("palisade-bench-{}-{:08x}", std::process::id(), world.random_u64() as u32));
    std::fs::create_dir_all(&dir)?;
    let measured = measure(kills, store_kills, &dir, &world).await;
    let _ = std::fs::remove_dir_all(&dir);
    let (holders, stores) = measured?;
    let document = json!({
        "holder_kill_to_next_grant": holders.document(),
        "store_leader_kill_longest_write_gap": stores.document(),
        "nodes": 3, "release_after_ms": 0,
    });
    output::show(global.output, &document, || {
        let rows =
            vec![holders.row("holder kill -9 -> next grant"), stores.row("store leader kill -9 -> longest write gap")];
        output::table(&["WHAT", "KILLS", "P50 MS", "P99 MS", "MAX MS"], rows)
    });
    Ok(())
}

async fn measure(kills: u32, store_kills: u32, dir: &Path, world: &World) -> Result<(Latencies, Latencies), Failure> {
    let mut nodes = start_cluster(3, dir, world).await?;
    let endpoints: Vec<String> = nodes.iter().map(|node| node.address.clone()).collect();
    let config = ClientConfig { endpoints: endpoints.clone(), request_timeout: LIMIT };
    let client = Client::new(config, world.clone()).map_err(|error| Failure::failed(error.to_string()))?;
    client.put(write(0)).await?;
    let holders = kill_holders(kills, &endpoints, world).await?;
    let stores = kill_store_leaders(store_kills, &client, &mut nodes, world).await?;
    for node in nodes {
        node.stop(Duration::from_secs(2), world).await;
    }
    Ok((holders, stores))
}

fn write(serial: u64) -> PutOptions<'static> {
    PutOptions::new("bench/failover", serial.to_string())
}

/// "Candidate `who` was granted `token`, heard at `at`."
struct Heard {
    who: usize,
    token: u64,
    at: Duration,
}

async fn kill_holders(kills: u32, endpoints: &[String], world: &World) -> Result<Latencies, Failure> {
    let (hear, mut heard) = mpsc::channel(64);
    let mut candidates = Vec::new();
    for who in 0..CANDIDATES {
        candidates.push(candidate(who, endpoints, &hear, world)?);
    }
    let mut latencies = Latencies::new();
    let mut holder = next_grant(&mut heard, world).await?;
    let bar = super::progress(u64::from(kills), "killing holders");
    for _ in 0..kills {
        // The others must be waiting, or it is their start that is measured.
        wait_for_waiting(endpoints, CANDIDATES - 1, world).await?;
        let killed_at = world.now();
        candidates[holder.who].start_kill()?;
        let next = next_grant(&mut heard, world).await?;
        if next.token <= holder.token {
            return Err(Failure::failed(format!("token {} was granted after {}", next.token, holder.token)));
        }
        latencies.record(next.at - killed_at);
        candidates[holder.who].wait().await?;
        candidates[holder.who] = candidate(holder.who, endpoints, &hear, world)?;
        holder = next;
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(latencies)
}

async fn next_grant(heard: &mut mpsc::Receiver<Heard>, world: &World) -> Result<Heard, Failure> {
    world
        .timeout(LIMIT, heard.recv())
        .await
        .flatten()
        .ok_or_else(|| Failure::failed(format!("nobody was granted the election within {LIMIT:?}")))
}

async fn wait_for_waiting(endpoints: &[String], count: usize, world: &World) -> Result<(), Failure> {
    let config = ClientConfig { endpoints: endpoints.to_vec(), request_timeout: LIMIT };
    let client = Client::new(config, world.clone()).map_err(|error| Failure::failed(error.to_string()))?;
    let until = world.now() + LIMIT;
    while world.now() < until {
        let waiting = client.elections().await?.iter().find(|e| e.election == ELECTION).map_or(0, |e| e.waiting);
        if waiting as usize >= count {
            return Ok(());
        }
        world.sleep(Duration::from_millis(5)).await;
    }
    Err(Failure::failed("the candidates did not come to wait"))
}

fn candidate(who: usize, endpoints: &[String], hear: &mpsc::Sender<Heard>, world: &World) -> Result<Child, Failure> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["elect", "campaign", ELECTION, "--release-after", "0ms", "--ttl", "2s", "--output", "jsonl"])
        .args(["--id", &format!("candidate-{who}"), "--endpoints", &endpoints.join(",")])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let stdout = child.stdout.take().expect("stdout is piped");
    let (hear, world) = (hear.clone(), world.clone());
    let clock = world.clone();
    let listen = async move {
        let mut lines = BufReader::new(stdout).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let at = clock.now();
            let event: Value = serde_json::from_str(&line).unwrap_or_default();
            if event["event"] == "granted"
                && let Some(token) = event["token"].as_u64()
                && hear.send(Heard { who, token, at }).await.is_err()
            {
                return;
            }
        }
    };
    world.spawn("candidate-events", listen).detach();
    Ok(child)
}

async fn kill_store_leaders(
    kills: u32,
    client: &Client,
    nodes: &mut [Process],
    world: &World,
) -> Result<Latencies, Failure> {
    let mut latencies = Latencies::new();
    let bar = super::progress(u64::from(kills), "killing store leaders");
    for _ in 0..kills {
        let leader = store_leader(client, nodes, world).await?;
        let writer = world.spawn("bench-writer", longest_gap(client.clone(), world.clone()));
        world.sleep(Duration::from_millis(500)).await;
        nodes[leader].kill(world).await?;
        let gap = writer.await.map_err(|error| Failure::failed(error.to_string()))?;
        latencies.record(gap);
        nodes[leader].restart(world).await?;
        wait_until_healthy(client, nodes, world).await?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(latencies)
}

/// Writes in a closed loop for three seconds; the longest time between two acknowledgements.
async fn longest_gap(client: Client, world: World) -> Duration {
    let end = world.now() + Duration::from_secs(3);
    let (mut last, mut longest, mut serial) = (world.now(), Duration::ZERO, 0);
    while world.now() < end {
        serial += 1;
        // An unknown outcome is no acknowledgement: the gap goes on.
        if client.put(write(serial)).await.is_ok() {
            let now = world.now();
            longest = longest.max(now - last);
            last = now;
        }
    }
    longest
}

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

async fn wait_until_healthy(client: &Client, nodes: &[Process], world: &World) -> Result<(), Failure> {
    let until = world.now() + LIMIT;
    while world.now() < until {
        let asked = nodes.iter().map(|node| client.status_of(&node.address));
        let answers = futures_util::future::join_all(asked).await;
        let applied: Vec<_> =
            answers.iter().flatten().filter(|status| status.healthy).map(|status| status.last_applied).collect();
        if applied.len() == nodes.len()
            && applied.iter().max().zip(applied.iter().min()).is_some_and(|(max, min)| max - min < 100)
        {
            return Ok(());
        }
        world.sleep(Duration::from_millis(20)).await;
    }
    Err(Failure::failed("the killed node did not come back"))
}
