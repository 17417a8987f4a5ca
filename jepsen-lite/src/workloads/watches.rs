//! Writers of many keys, and watchers, one on each node, which come back at the node where they were or at the next, from the
//! revision that they were told to resume from. The past is compacted now and then.

use std::time::Duration;

use jepsen_lite::history::{Record, Type, f};
use rand::RngExt;
use serde_json::json;
use tokio::task::JoinSet;

use super::cas::pace;
use crate::api::v1::{WatchReply, key_event};
use crate::api::{Api, Op, Outcome};
use crate::run::{Actor, Run, stamp};

const WRITERS: usize = 3;
const WATCHERS: usize = 3;
const PREFIX: &str = "watched-";
const KEYS: usize = 10;

pub(crate) fn start(run: &Run, tasks: &mut JoinSet<anyhow::Result<()>>) {
    for writer in 0..WRITERS {
        tasks.spawn(write(run.clone(), writer));
    }
    for watcher in 0..WATCHERS {
        tasks.spawn(watch(run.clone(), watcher));
    }
    tasks.spawn(compact(run.clone()));
}

async fn write(run: Run, writer: usize) -> anyhow::Result<()> {
    let mut api = run.stage.api(writer)?;
    let mut actor = Actor::new(&run);
    let mut rng = run.rng(&format!("watched-{writer}"));
    for number in 0_usize.. {
        // New keys after a while: searching checkers can do so much of one key.
        let key = format!("{PREFIX}{}", number / 400 * KEYS + rng.random_range(0..KEYS));
        if rng.random_range(0..5) == 0 {
            let invoke = Record { key: Some(key.clone()), ..actor.record(f::DELETE, api.node()) };
            let fill = |(header, deleted): &(_, u64), end: &mut Record| {
                stamp(end, header);
                end.revision = end.revision.filter(|_| *deleted > 0);
            };
            actor.act(invoke, api.delete(&key), fill).await;
        } else {
            put(&run, &mut actor, &mut api, &key).await;
        }
        if !pace(&run, &mut rng, &mut api).await {
            break;
        }
    }
    Ok(())
}

async fn put(run: &Run, actor: &mut Actor, api: &mut Api, key: &str) -> bool {
    let value = run.value().to_string();
    let mut invoke = actor.record(f::WRITE, api.node());
    (invoke.key, invoke.value) = (Some(key.to_owned()), value.as_str().into());
    matches!(
        actor.act(invoke, api.put(key, &value, None, None), |header, end| stamp(end, header)).await,
        Outcome::Ok(_)
    )
}

/// A watch that is opened again, where it was, for as long as the run goes on.
async fn watch(run: Run, watcher: usize) -> anyhow::Result<()> {
    let mut api = run.stage.api(watcher)?;
    let mut process = format!("watch-{watcher}");
    let mut rng = run.rng(&process);
    // From the first revision: everything is told, or a gap.
    let mut from = 1;
    for opened in 1_u32.. {
        if run.stopped() {
            break;
        }
        let span = Duration::from_millis(rng.random_range(1000..6000));
        from = watch_once(&run, &mut api, &process, from, span).await;
        // Every third time it comes back as another watch of the same keys.
        if opened.is_multiple_of(3) {
            process = format!("watch-{watcher}-{opened}");
        }
        api.turn();
        // Mostly it is back at once; now and then it stays away for so long that what it missed has been compacted.
        if rng.random_range(0..3) == 0 {
            run.pause(&mut rng, 2000, 5000).await;
        } else {
            run.rest(Duration::from_millis(20)).await;
        }
    }
    Ok(())
}

/// Watches on one stream until it ends, or for so long; gives the revision to go on from.
async fn watch_once(run: &Run, api: &mut Api, process: &str, mut from: u64, span: Duration) -> u64 {
    let mut invoke = Record::new(process, Type::Invoke, f::WATCH);
    invoke.node = Some(api.node().to_owned());
    (invoke.key, invoke.value) = (Some(PREFIX.to_owned()), json!({ "prefix": true, "from": from }));
    run.recorder.record(invoke.clone());
    let failed = |why: String| {
        run.recorder.record(Record { error: Some(why), ..invoke.ended(Type::Fail) });
    };
    let mut stream = match api.watch(PREFIX, from).await {
        Outcome::Ok(stream) => stream,
        Outcome::Fail(detail) => {
            failed(crate::api::kind(&detail));
            return from;
        }
        Outcome::Info(why) => {
            failed(why);
            return from;
        }
    };
    let mut stop = run.stop.clone();
    let mut opened = false;
    let enough = tokio::time::Instant::now() + span;
    let why = loop {
        let message = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => break "the run is over".to_owned(),
            () = tokio::time::sleep_until(enough) => break "watched for long enough".to_owned(),
            message = stream.message() => message,
        };
        let reply = match message {
            Ok(Some(reply)) => reply,
            Ok(None) => break "the stream ended".to_owned(),
            Err(status) => break status.message().to_owned(),
        };
        if !opened {
            // The first reply says from where it tells everything.
            opened = true;
            let revision = reply.gap.map_or(reply.resume_revision, |gap| gap.first_revision);
            run.recorder.record(Record { revision: Some(revision), ..invoke.ended(Type::Ok) });
        }
        told(run, process, &reply);
        from = reply.gap.map_or(reply.resume_revision.max(from), |gap| gap.first_revision);
    };
    if opened {
        let mut end = Record::seen(process, f::WATCH_END);
        end.error = Some(why);
        run.recorder.record(end);
    } else {
        failed(why);
    }
    from
}

fn told(run: &Run, process: &str, reply: &WatchReply) {
    for event in &reply.events {
        let kv = event.kv.clone().unwrap_or_default();
        let mut record = Record::seen(process, f::WATCH_EVENT);
        record.key = Some(String::from_utf8_lossy(&kv.key).into_owned());
        record.revision = Some(kv.mod_revision);
        if event.kind() == key_event::Kind::Put {
            record.value = String::from_utf8_lossy(&kv.value).into_owned().into();
        }
        run.recorder.record(record);
    }
    let mut record = Record::seen(process, f::WATCH_PROGRESS);
    match reply.gap {
        Some(gap) => (record.f, record.revision) = (f::WATCH_GAP.to_owned(), Some(gap.first_revision)),
        None if reply.fragment => return,
        None => record.revision = Some(reply.resume_revision),
    }
    run.recorder.record(record);
}

/// Compacts what is up to two hundred revisions old: less than a watcher misses that stays away for some seconds.
async fn compact(run: Run) -> anyhow::Result<()> {
    let mut api = run.stage.api(1)?;
    let mut rng = run.rng("compact");
    while run.pause(&mut rng, 1500, 3000).await {
        if let Outcome::Ok((header, _)) = api.get("up").await {
            let _ = api.compact(header.revision.saturating_sub(rng.random_range(20..200)).max(1)).await;
        }
    }
    Ok(())
}

/// A good write, and a read of all that is there, in one transaction with nothing to compare.
pub(crate) async fn finish(run: &Run) -> anyhow::Result<()> {
    let mut api = run.stage.api(0)?;
    let mut actor = Actor::new(run);
    for _ in 0..200 {
        let key = format!("{PREFIX}0");
        if put(run, &mut actor, &mut api, &key).await
            && matches!(api.txn_if_unchanged(&[], vec![Op::Get(key.clone())]).await, Outcome::Ok(_))
        {
            return super::register::good_read(run, &key).await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    anyhow::bail!("no watched key could be written although the faults had ended")
}
