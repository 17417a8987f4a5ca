//! Sessions of the harness's own: opened, renewed, closed, left alone, cut; each with a key that ends with it. Others ask whether
//! they live.

use std::time::{Duration, Instant};

use jepsen_lite::history::{Record, Type, f};
use rand::RngExt;
use rand::rngs::SmallRng;
use serde_json::json;
use tokio::task::JoinSet;

use super::register::read_once;
use crate::api::v1::{self, client_frame, server_frame};
use crate::api::{Api, Outcome, TIMEOUT};
use crate::run::{Actor, Run, stamp};
use crate::session::{Line, Terms, open};

const CLIENTS: usize = 4;
const TTL: Duration = Duration::from_millis(1500);

pub(crate) fn start(run: &Run, tasks: &mut JoinSet<anyhow::Result<()>>) {
    for client in 0..CLIENTS {
        tasks.spawn(live(run.clone(), client));
    }
}

async fn live(run: Run, client: usize) -> anyhow::Result<()> {
    let mut rng = run.rng(&format!("session-{client}"));
    let mut api = run.stage.api(client)?;
    let mut actor = Actor::new(&run);
    loop {
        let release_after = rng.random_bool(0.5).then(|| Duration::from_millis(rng.random_range(0..500)));
        one(&run, &mut actor, &mut api, Terms { ttl: TTL, release_after }, &mut rng).await;
        if !run.pause(&mut rng, 10, 100).await {
            return Ok(());
        }
    }
}

/// One session from its beginning to its end, or to a break that nobody mends.
async fn one(run: &Run, actor: &mut Actor, api: &mut Api, terms: Terms, rng: &mut SmallRng) {
    let Ok(mut line) = Line::open(api.channel()).await else { return api.turn() };
    let mut invoke = actor.record(f::SESSION_OPEN, api.node());
    (invoke.value, invoke.on_disconnect) = (json!({ "ttl_ms": terms.ttl_ms() }), Some(terms.on_disconnect()));
    let deadline = deadline(run, terms);
    let opened = actor.act(invoke, line.first(open(terms)), |body, end| {
        if let server_frame::Body::Opened(opened) = body {
            (end.session, end.deadline_ns) = (Some(opened.session), Some(deadline));
            end.seq = opened.header.map(|header| header.seq);
        }
    });
    let Outcome::Ok(server_frame::Body::Opened(opened)) = opened.await else { return api.turn() };
    let session = opened.session;
    let key = format!("bound-{session}");
    let mut invoke = actor.record(f::WRITE, api.node());
    let value = run.value().to_string();
    (invoke.key, invoke.value, invoke.session) = (Some(key.clone()), value.as_str().into(), Some(session));
    actor.act(invoke, api.put(&key, &value, None, Some(session)), |header, end| stamp(end, header)).await;
    for _ in 0..rng.random_range(1..8) {
        if !run.rest(terms.ttl / 3).await || !renew(run, actor, api, &mut line, session, terms).await {
            break;
        }
    }
    match rng.random_range(0..3) {
        0 => close(actor, api, &mut line, session).await,
        // Left alone: it ends with its TTL, and its key with it.
        1 => leave(run, actor, api, line, session, &key).await,
        // The stream breaks, and nobody attaches again.
        _ => drop(line),
    }
}

fn deadline(run: &Run, terms: Terms) -> u64 {
    let sent = run.recorder.clock().at(Instant::now());
    sent + u64::try_from(terms.ttl.as_nanos()).unwrap_or(u64::MAX)
}

/// Whether it was renewed.
async fn renew(run: &Run, actor: &mut Actor, api: &Api, line: &mut Line, session: u64, terms: Terms) -> bool {
    let invoke = Record { session: Some(session), ..actor.record(f::SESSION_KEEPALIVE, api.node()) };
    let deadline = deadline(run, terms);
    let renewed = actor.act(invoke, answered(run, line, session), |(), end| end.deadline_ns = Some(deadline));
    matches!(renewed.await, Outcome::Ok(()))
}

/// Sends a keep-alive and waits for what comes of it.
async fn answered(run: &Run, line: &mut Line, session: u64) -> Outcome<()> {
    let frame = client_frame::Body::KeepAlive(v1::KeepAlive { sessions: vec![session] });
    if line.send(frame).is_none() {
        return Outcome::Info("the stream broke".to_owned());
    }
    let wait = async {
        while let Some((_, body)) = line.next().await {
            match body {
                server_frame::Body::KeptAlive(kept) if kept.sessions.contains(&session) => return Outcome::Ok(()),
                server_frame::Body::Ended(ended) if ended.session == session => {
                    let mut record = Record::seen(format!("client-of-{session}"), f::SESSION_ENDED);
                    (record.session, record.error) = (Some(session), Some(ended.why));
                    record.seq = ended.header.map(|header| header.seq);
                    run.recorder.record(record);
                    let kind = v1::error_detail::Kind::SessionEnded.into();
                    return Outcome::Fail(Box::new(v1::ErrorDetail { kind, ..v1::ErrorDetail::default() }));
                }
                server_frame::Body::Refused(refused) => {
                    return Outcome::Fail(Box::new(refused.error.unwrap_or_default()));
                }
                _ => {}
            }
        }
        Outcome::Info("the stream broke".to_owned())
    };
    tokio::time::timeout(TIMEOUT, wait).await.unwrap_or_else(|_| Outcome::Info("timeout".to_owned()))
}

async fn close(actor: &mut Actor, api: &Api, line: &mut Line, session: u64) {
    let invoke = Record { session: Some(session), ..actor.record(f::SESSION_CLOSE, api.node()) };
    let frame = client_frame::Body::Close(v1::CloseSession { session });
    actor
        .act(invoke, line.first(frame), |body, end| {
            if let server_frame::Body::Closed(closed) = body {
                end.seq = closed.header.map(|header| header.seq);
            }
        })
        .await;
}

/// Asks until it is gone, or for twice its time; then reads its key.
async fn leave(run: &Run, actor: &mut Actor, api: &mut Api, line: Line, session: u64, key: &str) {
    let until = Instant::now() + TTL * 2;
    while Instant::now() < until && run.rest(Duration::from_millis(150)).await {
        let invoke = Record { session: Some(session), ..actor.record(f::SESSION_CHECK, api.node()) };
        let check = actor.ask(invoke, api.sessions(), |(header, live), end| {
            (end.seq, end.value) = (Some(header.seq), live.contains(&session).into());
        });
        match check.await {
            Some((_, live)) if live.contains(&session) => {}
            Some(_) => break,
            None => api.turn(),
        }
    }
    drop(line);
    read_once(actor, api, key).await;
}

/// A session that is opened, renewed and closed.
pub(crate) async fn finish(run: &Run) -> anyhow::Result<()> {
    let terms = Terms { ttl: TTL, release_after: None };
    let mut api = run.stage.api(0)?;
    for _ in 0..200 {
        let mut actor = Actor::new(run);
        if let Ok(mut line) = Line::open(api.channel()).await {
            let mut invoke = actor.record(f::SESSION_OPEN, api.node());
            (invoke.value, invoke.on_disconnect) = (json!({ "ttl_ms": terms.ttl_ms() }), Some(terms.on_disconnect()));
            let deadline = deadline(run, terms);
            let opened = actor.act(invoke, line.first(open(terms)), |body, end| {
                if let server_frame::Body::Opened(opened) = body {
                    (end.session, end.deadline_ns) = (Some(opened.session), Some(deadline));
                }
                debug_assert_eq!(end.kind, Type::Ok);
            });
            if let Outcome::Ok(server_frame::Body::Opened(opened)) = opened.await
                && renew(run, &mut actor, &api, &mut line, opened.session, terms).await
            {
                close(&mut actor, &api, &mut line, opened.session).await;
                return Ok(());
            }
        }
        api.turn();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    anyhow::bail!("no session could be opened and renewed although the faults had ended")
}
