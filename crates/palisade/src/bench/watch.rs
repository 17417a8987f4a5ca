//! `palisade bench watch`: many observers of one election are told of each change. A delay counts from before the leader asks
//! for the change until an observer has it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use palisade_client::{CampaignOptions, Client, OnDisconnect, SessionOptions, Value};
use palisade_world::World;
use serde_json::json;
use tokio::sync::watch;

use super::nodes::Nodes;
use super::record::Record;
use super::{HEADER, Latencies, progress};
use crate::cli::{Global, WatchLoadArgs};
use crate::exit::Failure;
use crate::output;

const ELECTION: &str = "bench-watch";

/// Nothing here takes longer unless something is wrong.
const LIMIT: Duration = Duration::from_secs(60);

pub(super) async fn run(args: WatchLoadArgs, global: &Global, world: World) -> Result<(), Failure> {
    let record = Record::begin();
    let nodes = Nodes::of(args.own_cluster, global, &world).await?;
    let measured = measure(&args, &nodes, &world).await;
    nodes.stop().await;
    let delays = measured?;
    let mut figures = delays.document();
    figures["observers"] = args.observers.into();
    figures["changes"] = args.changes.into();
    output::show(global.output, &record.document("watch", json!(figures)), || {
        output::table(&HEADER, vec![delays.row("change -> observer has it")])
    });
    Ok(())
}

/// When each change was asked for, and how many observers have had how many changes in all.
struct Course {
    asked_at_ns: Vec<AtomicU64>,
    had: watch::Sender<u64>,
}

async fn measure(args: &WatchLoadArgs, nodes: &Nodes, world: &World) -> Result<Latencies, Failure> {
    let clients = nodes.clients(args.observers)?;
    let leader = nodes.client()?;
    let options = SessionOptions {
        ttl: Duration::from_secs(10),
        on_disconnect: OnDisconnect::KeepUntilTtl,
        ..SessionOptions::default()
    };
    let session = leader.open_session(options).await?;
    let campaign = CampaignOptions {
        election: ELECTION.to_owned(),
        candidate_id: "bench".to_owned(),
        value: Value::default(),
        priority: 0,
    };
    let leadership = session.campaign(campaign).await?;

    let course = Arc::new(Course {
        asked_at_ns: (0..=args.changes).map(|_| AtomicU64::new(0)).collect(),
        had: watch::Sender::new(0),
    });
    let observers: Vec<_> = (0..args.observers)
        .map(|at| {
            let client = clients[at as usize % clients.len()].clone();
            world.spawn("bench-observer", observe(client, Arc::clone(&course), args.changes, world.clone()))
        })
        .collect();
    let had_all = async |changes: u64| {
        let mut had = course.had.subscribe();
        let all = had.wait_for(|had| *had >= changes * u64::from(args.observers));
        let in_time = world.timeout(LIMIT, all).await.is_some();
        if in_time { Ok(()) } else { Err(Failure::failed(format!("not all were told within {LIMIT:?}"))) }
    };
    // The state that each is told first counts as the first.
    had_all(1).await?;
    let bar = progress(args.changes.into(), "changing");
    for change in 1..=args.changes {
        let now = u64::try_from(world.now().as_nanos()).unwrap_or(u64::MAX);
        course.asked_at_ns[change as usize].store(now, Ordering::Release);
        leadership.proclaim(Value { data: change.to_string().into_bytes(), ..Value::default() }).await?;
        had_all(u64::from(change) + 1).await?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    let mut all = Latencies::new();
    for observer in observers {
        let delays = observer.await.map_err(|error| Failure::failed(error.to_string()))?;
        all.merge(&delays?);
    }
    leadership.resign().await?;
    session.close().await?;
    Ok(all)
}

/// Each change is told once, in order: an observer that misses one never ends.
async fn observe(client: Client, course: Arc<Course>, changes: u32, world: World) -> Result<Latencies, Failure> {
    let mut observer = client.observe(ELECTION);
    let mut delays = Latencies::new();
    let mut seen = None;
    while seen.is_none_or(|seen| seen < changes) {
        let observed = observer.next().await?;
        let Some(grant) = observed.kind.leader() else { continue };
        let change = std::str::from_utf8(&grant.value.data).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
        if change > 0 {
            let asked_at = Duration::from_nanos(course.asked_at_ns[change as usize].load(Ordering::Acquire));
            delays.record(world.now().saturating_sub(asked_at));
        }
        seen = Some(change);
        course.had.send_modify(|had| *had += 1);
    }
    Ok(delays)
}
