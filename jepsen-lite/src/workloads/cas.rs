//! Compare-and-set over many small keys: reads, writes, compare-and-sets that should match and that should not, removals.

use std::time::Duration;

use jepsen_lite::history::{Record, Type, f};
use rand::RngExt;
use rand::rngs::SmallRng;
use serde_json::json;
use tokio::task::JoinSet;

use super::register::{good_read, read_once};
use crate::api::{Api, Op, Outcome};
use crate::run::{Actor, Run, stamp};

const CLIENTS: usize = 6;
/// Operations of one client on one key, before it takes the next: 6 clients make 90 of a key. A fault leaves an unknown outcome for each
/// client, and where one in ten is unknown, searches of longer histories do not end.
const OPERATIONS: usize = 15;

pub(crate) fn start(run: &Run, tasks: &mut JoinSet<anyhow::Result<()>>) {
    for client in 0..CLIENTS {
        tasks.spawn(work(run.clone(), client));
    }
}

async fn work(run: Run, client: usize) -> anyhow::Result<()> {
    let mut api = run.stage.api(client)?;
    let mut actor = Actor::new(&run);
    let mut rng = run.rng(&format!("cas-{client}"));
    let mut known: Option<String> = None;
    for operation in 0.. {
        let key = format!("cas-{}", operation / OPERATIONS);
        if operation % OPERATIONS == 0 {
            known = None;
        }
        match rng.random_range(0..10) {
            0..4 => {
                if let Some((_, value)) = read(&mut actor, &mut api, &key).await {
                    known = value;
                }
            }
            4..8 => {
                let new = run.value().to_string();
                if cas(&mut actor, &mut api, &key, known.take(), &new).await {
                    known = Some(new);
                }
            }
            8 => {
                let new = run.value().to_string();
                let invoke =
                    Record { key: Some(key.clone()), value: new.as_str().into(), ..actor.record(f::WRITE, api.node()) };
                let put = api.put(&key, &new, None, None);
                if let Outcome::Ok(_) = actor.act(invoke, put, |header, end| stamp(end, header)).await {
                    known = Some(new);
                }
            }
            _ => {
                let invoke = Record { key: Some(key.clone()), ..actor.record(f::DELETE, api.node()) };
                let fill = |(header, deleted): &(_, u64), end: &mut Record| {
                    stamp(end, header);
                    // What removes nothing has no revision of its own.
                    end.revision = end.revision.filter(|_| *deleted > 0);
                };
                let deleted = actor.act(invoke, api.delete(&key), fill).await;
                if let Outcome::Ok(_) = deleted {
                    known = None;
                }
            }
        }
        if !pace(&run, &mut rng, &mut api).await {
            break;
        }
    }
    Ok(())
}

/// Between two operations; now and then another node is asked next.
pub(super) async fn pace(run: &Run, rng: &mut SmallRng, api: &mut Api) -> bool {
    if rng.random_range(0..15) == 0 {
        api.turn();
    }
    run.pause(rng, 5, 50).await
}

async fn read(actor: &mut Actor, api: &mut Api, key: &str) -> Option<(crate::api::v1::Header, Option<String>)> {
    let invoke = Record { key: Some(key.to_owned()), ..actor.record(f::READ, api.node()) };
    let read = actor.ask(invoke, api.get(key), |(header, value), end| {
        end.seq = Some(header.seq);
        end.value = value.as_deref().into();
    });
    read.await
}

/// Whether it was set.
async fn cas(actor: &mut Actor, api: &mut Api, key: &str, old: Option<String>, new: &str) -> bool {
    let mut invoke = actor.record(f::CAS, api.node());
    (invoke.key, invoke.value) = (Some(key.to_owned()), json!([old, new]));
    let when = [(key.to_owned(), old)];
    let then = vec![Op::Put(key.to_owned(), new.to_owned())];
    let done = actor.act(invoke, api.txn_if_values(&when, then), |txn, end| {
        stamp(end, &txn.header);
        if !txn.succeeded {
            (end.kind, end.error, end.revision) = (Type::Fail, Some("compare".to_owned()), None);
        }
    });
    matches!(done.await, Outcome::Ok(txn) if txn.succeeded)
}

/// A good compare-and-set, and a read of it.
pub(crate) async fn finish(run: &Run) -> anyhow::Result<()> {
    let mut api = run.stage.api(0)?;
    let mut actor = Actor::new(run);
    for _ in 0..200 {
        if let Some((_, old)) = read(&mut actor, &mut api, "cas-final").await
            && cas(&mut actor, &mut api, "cas-final", old, &run.value().to_string()).await
        {
            let last = read_once(&mut actor, &mut api, "cas-0").await;
            return if last { Ok(()) } else { good_read(run, "cas-0").await };
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    anyhow::bail!("no compare-and-set went through although the faults had ended")
}
