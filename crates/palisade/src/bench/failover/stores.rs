//! What befalls the store leader, while others write and sessions hold leaderships: the longest time without an acknowledged
//! write, and what must not happen at all: a session that is lost, a leadership that changes hands.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;
use palisade_client::{CampaignOptions, Client, Leadership, OnDisconnect, SessionOptions, Value};
use palisade_world::{Task, World};
use serde_json::json;

use super::writers::Writers;
use super::{Found, LIMIT, store_leader};
use crate::bench::nodes::Nodes;
use crate::bench::{Latencies, progress};
use crate::cli::FailoverArgs;
use crate::exit::Failure;
use crate::processes::Process;

/// Sessions that hold a leadership each: half of them *keep until the TTL*, half are *released on disconnect*, which the death
/// of the store leader is not.
const HOLDERS: usize = 20;

const TTL: Duration = Duration::from_secs(2);

/// How long a paused store leader stands still: longer than any election.
const PAUSE: Duration = Duration::from_secs(1);

/// What befalls a store leader.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fate {
    /// `kill -9`.
    Killed,
    /// SIGSTOP for [`PAUSE`]: its connections stay.
    Paused,
}

pub(super) async fn measure(
    fate: Fate,
    args: &FailoverArgs,
    nodes: &mut Nodes,
    world: &World,
) -> Result<Found, Failure> {
    let client = nodes.client_with(LIMIT)?;
    let holders = Holders::start(&client, world).await?;
    let writers = Writers::start(nodes, world)?;
    let mut latencies = Latencies::new();
    let title = match fate {
        Fate::Killed => "killing store leaders",
        Fate::Paused => "pausing store leaders",
    };
    let bar = progress(args.store_kills.into(), title);
    for _ in 0..args.store_kills {
        writers.calm().await?;
        let leader = store_leader(&client, &nodes.own, world).await?;
        let node = &mut nodes.own[leader];
        let at = match fate {
            Fate::Killed => node.kill(world).await?,
            Fate::Paused => {
                let at = node.signal(Signal::SIGSTOP, world)?;
                world.sleep(PAUSE).await;
                node.signal(Signal::SIGCONT, world)?;
                at
            }
        };
        latencies.record(writers.longest_gap(at).await?);
        if fate == Fate::Killed {
            nodes.own[leader].restart(world).await?;
        }
        wait_until_healthy(&client, &nodes.own, world).await?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    let (lost, changed) = (holders.lost(), holders.changed(&client).await?);
    let wrong = (lost + changed > 0).then(|| format!("{lost} sessions were lost, {changed} leaderships changed hands"));
    let more = json!({ "holders": HOLDERS, "sessions_lost": lost, "grants_changed": changed });
    Ok(match fate {
        Fate::Killed => Found {
            name: "store_leader_kill_longest_write_gap",
            title: "store leader kill -9 -> longest write gap",
            latencies,
            more,
            wrong,
        },
        Fate::Paused => Found {
            name: "store_leader_pause_longest_write_gap",
            title: "store leader stands still -> longest write gap",
            latencies,
            more,
            wrong,
        },
    })
}

/// Leaderships of this process.
struct Holders {
    held: Vec<Arc<Leadership>>,
    lost: Arc<AtomicU64>,
    _watched: Vec<Task<()>>,
}

impl Holders {
    async fn start(client: &Client, world: &World) -> Result<Holders, Failure> {
        let (mut held, mut watched, lost) = (Vec::new(), Vec::new(), Arc::new(AtomicU64::new(0)));
        for holder in 0..HOLDERS {
            let on_disconnect =
                if holder % 2 == 0 { OnDisconnect::KeepUntilTtl } else { OnDisconnect::ReleaseAfter(Duration::ZERO) };
            let session =
                client.open_session(SessionOptions { ttl: TTL, on_disconnect, ..SessionOptions::default() }).await?;
            let campaign = CampaignOptions {
                election: format!("bench-holder-{holder}"),
                candidate_id: "bench".to_owned(),
                value: Value::default(),
                priority: 0,
            };
            let leadership = Arc::new(session.campaign(campaign).await?);
            let (watch, count) = (Arc::clone(&leadership), Arc::clone(&lost));
            watched.push(world.spawn("bench-holder", async move {
                watch.lost().await;
                count.fetch_add(1, Ordering::Relaxed);
            }));
            held.push(leadership);
        }
        Ok(Holders { held, lost, _watched: watched })
    }

    fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Elections that the store says another token holds.
    async fn changed(&self, client: &Client) -> Result<u64, Failure> {
        let mut changed = 0;
        for leadership in &self.held {
            let leader = client.leader(&leadership.grant().election).await?;
            changed += u64::from(leader.map(|grant| grant.token) != Some(leadership.token()));
        }
        Ok(changed)
    }
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
    Err(Failure::failed("the node did not come back"))
}
