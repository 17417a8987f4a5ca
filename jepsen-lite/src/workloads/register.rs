//! Fenced registers: whoever is granted the election writes them under its token for as long as the run goes on, also after it was
//! killed, paused or replaced: its writes are stale then and must be refused. Readers read.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jepsen_lite::history::{Record, f};
use rand::RngExt;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinSet;

use crate::api::{Api, Outcome};
use crate::run::{Actor, ELECTION, Granted, Run, stamp};

const READERS: usize = 2;
/// Registers at a time. Each gets so many operations at most, then another takes its place: searching checkers cannot do more.
const AT_ONCE: u64 = 3;
const OPERATIONS: u64 = 250;
/// Writers of holders past go on; more than this many at once would only starve the rest of two cores.
const WRITERS: u64 = 6;
/// What a writer waits for an answer: its bytes may be held on the way until its successor has acted.
const PATIENCE: Duration = Duration::from_secs(6);

/// Which registers are used now.
#[derive(Clone, Debug, Default)]
struct Keys(Arc<AtomicU64>);

impl Keys {
    /// One of those that are used now, for one more operation.
    fn next(&self, pick: u64) -> String {
        let done = self.0.fetch_add(1, Ordering::Relaxed);
        format!("r{}", done / (OPERATIONS * AT_ONCE) * AT_ONCE + pick % AT_ONCE)
    }
}

/// How the link of a leader's writes is called, so that faults can name it.
pub(crate) fn link(token: u64) -> String {
    format!("writer-{token}")
}

pub(crate) fn start(run: &Run, fenced: bool, tasks: &mut JoinSet<anyhow::Result<()>>) {
    let keys = Keys::default();
    for reader in 0..READERS {
        tasks.spawn(read(run.clone(), keys.clone(), reader));
    }
    tasks.spawn(write_for_all(run.clone(), keys, fenced));
}

/// Starts a writer for each grant.
async fn write_for_all(run: Run, keys: Keys, fenced: bool) -> anyhow::Result<()> {
    let mut grants = run.grants.subscribe();
    let mut stop = run.stop.clone();
    let mut writers: JoinSet<anyhow::Result<()>> = JoinSet::new();
    let started = Arc::new(AtomicU64::new(0));
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => break,
            granted = grants.recv() => match granted {
                Ok(granted) => {
                    writers.spawn(write(run.clone(), keys.clone(), granted, fenced, Arc::clone(&started)));
                }
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => break,
            },
            Some(written) = writers.join_next() => written??,
        }
    }
    while let Some(written) = writers.join_next().await {
        written??;
    }
    Ok(())
}

/// Writes under one token until the run stops, or until many others have come since.
async fn write(run: Run, keys: Keys, granted: Granted, fenced: bool, started: Arc<AtomicU64>) -> anyhow::Result<()> {
    let number = started.fetch_add(1, Ordering::Relaxed);
    let token = granted.token;
    let mut rng = run.rng(&link(token));
    // Where links can be held, it has one of its own.
    let own = run.stage.own_places(&link(token)).await.ok();
    let places = own.as_ref().map_or_else(|| run.stage.places(), |(places, _)| places.clone());
    let mut api = Api::new(&places, rng.random_range(0..places.len()))?.patient(PATIENCE);
    let mut actor = Actor::new(&run);
    while started.load(Ordering::Relaxed) <= number + WRITERS {
        let mut invoke = actor.record(f::WRITE, api.node());
        let key = keys.next(rng.random());
        let value = run.value().to_string();
        (invoke.key, invoke.value) = (Some(key.clone()), value.as_str().into());
        (invoke.election, invoke.token) = (Some(ELECTION.to_owned()), Some(token));
        let fence = fenced.then_some((ELECTION, token));
        let written = actor.act(invoke, api.put(&key, &value, fence, None), |header, end| stamp(end, header)).await;
        if matches!(written, Outcome::Ok(_)) {
            run.accepted(token);
        }
        if !run.pause(&mut rng, 5, 40).await {
            break;
        }
    }
    Ok(())
}

async fn read(run: Run, keys: Keys, reader: usize) -> anyhow::Result<()> {
    let mut api = run.stage.api(reader)?;
    let mut actor = Actor::new(&run);
    let mut rng = run.rng(&format!("reader-{reader}"));
    let mut last = String::new();
    while run.pause(&mut rng, 5, 30).await {
        last = keys.next(rng.random());
        read_once(&mut actor, &mut api, &last).await;
        if rng.random_range(0..20) == 0 {
            api.turn();
        }
    }
    // The last word on what was used last.
    if last.is_empty() { Ok(()) } else { good_read(&run, &last).await }
}

/// Whether a read succeeded.
pub(crate) async fn read_once(actor: &mut Actor, api: &mut Api, key: &str) -> bool {
    let invoke = Record { key: Some(key.to_owned()), ..actor.record(f::READ, api.node()) };
    let read = actor.ask(invoke, api.get(key), |(header, value), end| {
        stamp(end, header);
        end.value = value.as_deref().into();
    });
    read.await.is_some()
}

/// A read that must succeed, now that all is healed.
pub(crate) async fn good_read(run: &Run, key: &str) -> anyhow::Result<()> {
    let mut api = run.stage.api(0)?;
    let mut actor = Actor::new(run);
    for _ in 0..200 {
        if read_once(&mut actor, &mut api, key).await {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    anyhow::bail!("{key} could not be read although the faults had ended")
}

/// A good write and read: under the token of whoever leads at the end.
pub(crate) async fn finish(run: &Run) -> anyhow::Result<()> {
    let mut api = run.stage.api(0)?;
    let mut actor = Actor::new(run);
    for _ in 0..200 {
        if let Outcome::Ok((_, Some(grant))) = api.leader(ELECTION).await {
            let mut invoke = actor.record(f::WRITE, api.node());
            let value = run.value().to_string();
            (invoke.key, invoke.value) = (Some("r-final".to_owned()), value.as_str().into());
            (invoke.election, invoke.token) = (Some(ELECTION.to_owned()), Some(grant.token));
            let put = api.put("r-final", &value, Some((ELECTION, grant.token)), None);
            if let Outcome::Ok(_) = actor.act(invoke, put, |header, end| stamp(end, header)).await {
                return good_read(run, "r-final").await;
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    anyhow::bail!("no holder could write although the faults had ended")
}
