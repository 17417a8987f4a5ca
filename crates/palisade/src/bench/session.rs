//! `palisade bench session`: each caller opens a session, binds a key to it and closes it; or, with `--hold`, many sessions
//! live at once, and none may be lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use palisade_client::{Binding, Client, Error, OnDisconnect, PutOptions, SessionOptions};
use palisade_world::World;
use serde_json::json;

use super::load::{Measured, Work, drive, kind};
use super::nodes::{CONNECTIONS, Nodes};
use super::record::Record;
use super::{HEADER, Latencies, progress, progress_until, store_leader};
use crate::cli::{Global, LoadArgs, SessionLoadArgs};
use crate::exit::Failure;
use crate::output;

/// Sessions that are being opened at once.
const OPENING: usize = 256;

pub(super) async fn run(args: SessionLoadArgs, global: &Global, world: World) -> Result<(), Failure> {
    let record = Record::begin();
    let nodes = Nodes::of(args.load.own_cluster, global, &world).await?;
    let done = match args.hold {
        None => {
            let measured = measure(&args.load, args.ttl, &nodes, &world).await;
            measured.map(|measured| {
                let document = record.document("session", measured.document(&args.load));
                output::show(global.output, &document, || measured.table("open + bound key + close"));
                measured.verdict()
            })
        }
        Some(count) => hold(count, &args, &nodes, &world).await.map(|held| {
            let document = record.document("session-hold", held.document(&args));
            output::show(global.output, &document, || held.table());
            held.verdict()
        }),
    };
    nodes.stop().await;
    done?
}

async fn measure(args: &LoadArgs, ttl: Duration, nodes: &Nodes, world: &World) -> Result<Measured, Failure> {
    let clients = nodes.clients(args.clients)?;
    clients[0].elections().await?; // it serves
    drive(Arc::new(Sessions { clients, ttl }), args, world).await
}

struct Sessions {
    clients: Vec<Client>,
    ttl: Duration,
}

impl Work for Sessions {
    async fn once(&self, caller: u32, _: u64) -> Result<(), String> {
        let client = &self.clients[caller as usize % self.clients.len()];
        let session = open(client, self.ttl).await.map_err(kind)?;
        let put = PutOptions::new(format!("bench/session/{caller}"), "bound");
        client.put(PutOptions { binding: Binding::To(session.id()), ..put }).await.map_err(kind)?;
        session.close().await.map_err(kind)
    }
}

async fn open(client: &Client, ttl: Duration) -> Result<palisade_client::Session, Error> {
    client
        .open_session(SessionOptions { ttl, on_disconnect: OnDisconnect::KeepUntilTtl, ..SessionOptions::default() })
        .await
}

/// What came of many that lived at once.
struct Held {
    sessions: u32,
    opening: Latencies,
    opened_in: Duration,
    lost: u64,
    /// Resident memory of the store leader, before and with them; of nodes of our own only.
    memory_kb: Option<(u64, u64)>,
}

async fn hold(count: u32, args: &SessionLoadArgs, nodes: &Nodes, world: &World) -> Result<Held, Failure> {
    let clients = nodes.clients(CONNECTIONS as u32)?;
    let leader = if nodes.own.is_empty() { None } else { Some(store_leader(&clients[0], &nodes.own, world).await?) };
    let memory = || leader.and_then(|at| nodes.own[at].memory_kb());
    let before = memory();
    let (lost, mut opening, mut watched) = (Arc::new(AtomicU64::new(0)), Latencies::new(), Vec::new());
    let (mut under_way, mut next) = (FuturesUnordered::new(), 0);
    let (start, bar) = (world.now(), progress(count.into(), "opening"));
    while next < count || !under_way.is_empty() {
        while next < count && under_way.len() < OPENING {
            let (client, ttl, clock) = (clients[next as usize % clients.len()].clone(), args.ttl, world.clone());
            under_way.push(async move {
                let began = clock.now();
                open(&client, ttl).await.map(|session| (session, clock.now() - began))
            });
            next += 1;
        }
        if let Some(opened) = under_way.next().await {
            let (session, took) = opened?;
            opening.record(took);
            let lost = Arc::clone(&lost);
            watched.push(world.spawn("bench-session", async move {
                session.ended().await;
                lost.fetch_add(1, Ordering::Relaxed);
            }));
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    let opened_in = world.now() - start;
    progress_until(world.now() + args.load.span, "holding", world).await;
    let memory_kb = before.zip(memory());
    Ok(Held { sessions: count, opening, opened_in, lost: lost.load(Ordering::Relaxed), memory_kb })
}

impl Held {
    fn bytes_each(&self) -> Option<u64> {
        self.memory_kb.map(|(before, with)| with.saturating_sub(before) * 1024 / u64::from(self.sessions.max(1)))
    }

    fn document(&self, args: &SessionLoadArgs) -> serde_json::Value {
        json!({
            "sessions": self.sessions, "ttl_ms": crate::units::ms(args.ttl), "held_ms": crate::units::ms(args.load.span),
            "lost": self.lost, "opening": self.opening.document(),
            "opened_per_second": (f64::from(self.sessions) / self.opened_in.as_secs_f64()).round(),
            "store_leader_bytes_each": self.bytes_each(),
        })
    }

    fn table(&self) -> String {
        let mut row = self.opening.row("open, then hold");
        let each = self.bytes_each().map_or_else(|| "-".to_owned(), |bytes| bytes.to_string());
        row.extend([self.lost.to_string(), each]);
        output::table(&[&HEADER[..], &["LOST", "BYTES EACH"]].concat(), vec![row])
    }

    fn verdict(&self) -> Result<(), Failure> {
        if self.lost == 0 { Ok(()) } else { Err(Failure::failed(format!("{} sessions were lost", self.lost))) }
    }
}
