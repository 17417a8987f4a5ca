//! `palisade bench watch`: many observers of one election, or watchers of one key, are told of each change. A delay counts from
//! before the change is asked for until one of them has it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use palisade_client::{
    CampaignOptions, Client, Leadership, OnDisconnect, PutOptions, Session, SessionOptions, Value, WatchOptions,
    WatchedKind,
};
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

const KEY: &str = "bench/watch";

/// Nothing here takes longer unless something is wrong.
const LIMIT: Duration = Duration::from_secs(60);

pub(super) async fn run(args: WatchLoadArgs, global: &Global, world: World) -> Result<(), Failure> {
    let record = Record::begin();
    let nodes = Nodes::of(args.own_cluster, global, &world).await?;
    let measured = measure(&args, &nodes, &world).await;
    nodes.stop().await;
    let delays = measured?;
    let mut figures = delays.document();
    let (what, listeners, title) = match args.keys {
        true => ("watch-keys", "watchers", "write -> watcher has it"),
        false => ("watch", "observers", "change -> observer has it"),
    };
    figures[listeners] = args.observers.into();
    figures["changes"] = args.changes.into();
    output::show(global.output, &record.document(what, json!(figures)), || {
        output::table(&HEADER, vec![delays.row(title)])
    });
    Ok(())
}

/// When each change was asked for, and how many listeners have had how many changes in all.
struct Course {
    asked_at_ns: Vec<AtomicU64>,
    had: watch::Sender<u64>,
}

/// Who makes the changes.
enum Source {
    Leader(Session, Leadership),
    Writer(Client),
}

impl Source {
    async fn new(args: &WatchLoadArgs, client: Client) -> Result<Source, Failure> {
        if args.keys {
            client.put(PutOptions::new(KEY, "0")).await?;
            return Ok(Source::Writer(client));
        }
        let options = SessionOptions {
            ttl: Duration::from_secs(10),
            on_disconnect: OnDisconnect::KeepUntilTtl,
            ..SessionOptions::default()
        };
        let session = client.open_session(options).await?;
        let campaign = CampaignOptions {
            election: ELECTION.to_owned(),
            candidate_id: "bench".to_owned(),
            value: Value::default(),
            priority: 0,
        };
        let leadership = session.campaign(campaign).await?;
        Ok(Source::Leader(session, leadership))
    }

    async fn change(&self, change: u32) -> Result<(), Failure> {
        let data = change.to_string().into_bytes();
        match self {
            Source::Leader(_, leadership) => leadership.proclaim(Value { data, ..Value::default() }).await.map(drop)?,
            Source::Writer(client) => client.put(PutOptions::new(KEY, data)).await.map(drop)?,
        }
        Ok(())
    }

    async fn end(self) -> Result<(), Failure> {
        if let Source::Leader(session, leadership) = self {
            leadership.resign().await?;
            session.close().await?;
        }
        Ok(())
    }
}

async fn measure(args: &WatchLoadArgs, nodes: &Nodes, world: &World) -> Result<Latencies, Failure> {
    let clients = nodes.clients(args.observers)?;
    let source = Source::new(args, nodes.client()?).await?;
    let course = Arc::new(Course {
        asked_at_ns: (0..=args.changes).map(|_| AtomicU64::new(0)).collect(),
        had: watch::Sender::new(0),
    });
    let observers: Vec<_> = (0..args.observers)
        .map(|at| {
            let client = clients[at as usize % clients.len()].clone();
            let listener = Listener { course: Arc::clone(&course), changes: args.changes, world: world.clone() };
            let keys = args.keys;
            world.spawn("bench-observer", async move {
                if keys { listener.watch(client).await } else { listener.observe(client).await }
            })
        })
        .collect();
    let had_all = async |changes: u64| {
        let mut had = course.had.subscribe();
        let all = had.wait_for(|had| *had >= changes * u64::from(args.observers));
        let in_time = world.timeout(LIMIT, all).await.is_some();
        if in_time { Ok(()) } else { Err(Failure::failed(format!("not all were told within {LIMIT:?}"))) }
    };
    // What each is told first, before any change, counts as the first.
    had_all(1).await?;
    let bar = progress(args.changes.into(), "changing");
    for change in 1..=args.changes {
        let now = u64::try_from(world.now().as_nanos()).unwrap_or(u64::MAX);
        course.asked_at_ns[change as usize].store(now, Ordering::Release);
        source.change(change).await?;
        had_all(u64::from(change) + 1).await?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    let mut all = Latencies::new();
    for observer in observers {
        let delays = observer.await.map_err(|error| Failure::failed(error.to_string()))?;
        all.merge(&delays?);
    }
    source.end().await?;
    Ok(all)
}

/// One that listens. Each change is told once, in order: a listener that misses one never ends.
struct Listener {
    course: Arc<Course>,
    changes: u32,
    world: World,
}

impl Listener {
    async fn observe(self, client: Client) -> Result<Latencies, Failure> {
        let mut observer = client.observe(ELECTION);
        let (mut delays, mut seen) = (Latencies::new(), None);
        while seen.is_none_or(|seen| seen < self.changes) {
            let observed = observer.next().await?;
            let Some(grant) = observed.kind.leader() else { continue };
            seen = Some(self.had(&grant.value.data, &mut delays));
        }
        Ok(delays)
    }

    async fn watch(self, client: Client) -> Result<Latencies, Failure> {
        let mut watcher = client.watch(WatchOptions::new(KEY));
        let (mut delays, mut seen) = (Latencies::new(), 0);
        while seen < self.changes {
            match watcher.next().await?.kind {
                WatchedKind::Started { .. } => seen = self.had(b"0", &mut delays),
                WatchedKind::Changed { changes, .. } => {
                    for value in changes.into_iter().filter_map(|change| change.kv).map(|kv| kv.value) {
                        seen = self.had(&value, &mut delays);
                    }
                }
                WatchedKind::Gap { from, to } => {
                    return Err(Failure::failed(format!("revisions {from} to {to} were not told")));
                }
                _ => {} // says that nothing is missing
            }
        }
        Ok(delays)
    }

    /// One more was told. Which change it is.
    fn had(&self, data: &[u8], delays: &mut Latencies) -> u32 {
        let change = std::str::from_utf8(data).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
        if change > 0 {
            let asked_at = Duration::from_nanos(self.course.asked_at_ns[change as usize].load(Ordering::Acquire));
            delays.record(self.world.now().saturating_sub(asked_at));
        }
        self.course.had.send_modify(|had| *had += 1);
        change
    }
}
