//! Control runs against etcd 3.4, whose `Lock` and `Campaign` answer success to a waiter whose lease is gone: what the checkers must
//! catch on somebody else's code. A small client of its own, from the few messages in `proto/`.
//!
//! The run is short and has one fault: a client that stops renewing its lease while it waits in the line, as a process that sleeps
//! does. Whoever holds gives back; the waiter is told that it holds although its lease ended long ago; somebody else is told so too.

mod etcd;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use jepsen_lite::checkers::RunInfo;
use jepsen_lite::clock::RunClock;
use jepsen_lite::history::{OnDisconnect, Record, Recorder, Type, f};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;

use self::etcd::{Client, Held, Server};
use crate::cli::Control;
use crate::drive::Interrupts;
use crate::processes::run_folder;

/// etcd's leases have whole seconds.
const TTL: Duration = Duration::from_secs(2);

/// Runs a control; gives the run's folder, which has the history.
pub(crate) fn run(of: Control, seed: u64, span: Duration, program: &Path, store: &Path) -> anyhow::Result<PathBuf> {
    let name = match of {
        Control::Lock => "etcd-lock",
        Control::Campaign => "etcd-campaign",
    };
    let dir = run_folder(store, name, seed)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let done = runtime.block_on(async {
        let mut interrupts = Interrupts::heard()?;
        tokio::select! {
            done = whole(of, name, seed, span, program, &dir) => done,
            interrupted = interrupts.next() => Err(interrupted),
        }
    });
    done.with_context(|| dir.display().to_string())?;
    Ok(dir)
}

async fn whole(of: Control, name: &str, seed: u64, span: Duration, program: &Path, dir: &Path) -> anyhow::Result<()> {
    let server = Server::start(program, dir).await?;
    let recorder = Recorder::create(&dir.join("history.jsonl"), RunClock::start())?;
    let gate = json!({
        "name": "a waiter's lease ended", "at_least": 1,
        "count": {"process": "nemesis", "type": "ok", "f": "lease-ends"},
    });
    let info = RunInfo {
        scenario: name.to_owned(),
        seed,
        for_s: span.as_secs(),
        target: "local".to_owned(),
        palisade: server.version().to_owned(),
        commit: env!("JEPSEN_LITE_COMMIT").to_owned(),
        gates: serde_json::from_value(json!([gate])).expect("a gate is of the form of HISTORY.md"),
        checkers: vec!["belief".to_owned()],
        ..RunInfo::default()
    };
    recorder.record(info.record());
    let phase = |phase: &str| {
        let mut record = Record::seen("harness", f::PHASE);
        record.value = phase.into();
        recorder.record(record);
    };
    phase("faults");
    let mut rng = SmallRng::seed_from_u64(seed);
    let end = Instant::now() + span;
    let mut round = 0;
    while Instant::now() < end {
        round += 1;
        one_round(of, &server, &recorder, round, &mut rng).await?;
    }
    phase("heal");
    phase("final");
    // The same without any fault: one that holds, gives back, and is followed.
    let mut last = Holder::new(&server, &recorder, "final".to_owned()).await?;
    last.campaign(of, false).await?;
    last.give_back().await?;
    recorder.record(Record::seen("harness", f::END));
    recorder.finish()?;
    Ok(())
}

/// One holds; one waits, and its lease ends meanwhile; the first gives back; the waiter is told that it holds; a third asks, and is told
/// the same.
async fn one_round(
    of: Control,
    server: &Server,
    recorder: &Recorder,
    round: u64,
    rng: &mut SmallRng,
) -> anyhow::Result<()> {
    let mut first = Holder::new(server, recorder, format!("a{round}")).await?;
    first.campaign(of, false).await?;
    let mut waiter = Holder::new(server, recorder, format!("b{round}")).await?;
    let client = Arc::clone(&waiter.client);
    let lease = waiter.lease;
    let fault = |kind, phase: &str| {
        let mut record = Record::new("nemesis", kind, "lease-ends");
        record.key = Some(format!("lease-ends-{round}"));
        record.value = json!({"phase": phase, "targets": [format!("b{round}")], "role": "waiter"});
        recorder.record(record);
    };
    let waits = async { waiter.campaign(of, true).await };
    let goes_on = async {
        fault(Type::Invoke, "start");
        // It stands in the line when its lease ends: nobody renews it.
        client.until_gone(lease).await?;
        fault(Type::Ok, "start");
        tokio::time::sleep(Duration::from_millis(rng.random_range(50..300))).await;
        first.give_back().await
    };
    let (waited, gone_on) = tokio::join!(waits, goes_on);
    gone_on?;
    let told = waited?;
    // Somebody else, whose lease lives.
    let mut third = Holder::new(server, recorder, format!("c{round}")).await?;
    third.campaign(of, false).await?;
    tokio::time::sleep(Duration::from_millis(100)).await;
    if told {
        waiter.give_back().await?;
    }
    third.give_back().await
}

/// A client with a lease, which it renews, or not.
struct Holder {
    client: Arc<Client>,
    recorder: Recorder,
    name: String,
    lease: i64,
    held: Option<(Held, u64)>,
    renewals: Option<tokio::task::JoinHandle<()>>,
}

impl Holder {
    async fn new(server: &Server, recorder: &Recorder, name: String) -> anyhow::Result<Holder> {
        let client = Arc::new(server.client()?);
        let lease = client.grant(TTL).await?;
        Ok(Holder { client, recorder: recorder.clone(), name, lease, held: None, renewals: None })
    }

    fn record(&self, kind: Type, f: &str) -> Record {
        let mut record = Record::new(&self.name, kind, f);
        record.election = Some("control".to_owned());
        record
    }

    /// Whether it was told that it holds. One that is `idle` renews nothing while it waits.
    async fn campaign(&mut self, of: Control, idle: bool) -> anyhow::Result<bool> {
        let mut invoke = self.record(Type::Invoke, f::CAMPAIGN);
        (invoke.value, invoke.on_disconnect) = (self.name.as_str().into(), Some(OnDisconnect::KeepUntilTtl));
        self.recorder.record(invoke.clone());
        if !idle {
            let (client, lease) = (Arc::clone(&self.client), self.lease);
            self.renewals = Some(tokio::spawn(async move {
                while client.keep_alive(lease).await.is_ok() {
                    tokio::time::sleep(TTL / 4).await;
                }
            }));
        }
        let sent = self.recorder.clock().at(Instant::now());
        match self.client.acquire(of, self.lease, &self.name).await {
            Ok(held) => {
                let token = held.token();
                let mut end = invoke.ended(Type::Ok);
                (end.token, end.seq) = (Some(token), Some(token));
                // As etcd's clients have it: who is told that it holds believes for as long as it renews. An idle one believes from the
                // answer on for its TTL, because nothing has told it otherwise; any other no longer than since it asked.
                let from = if idle { self.recorder.clock().now_ns() } else { sent };
                end.deadline_ns = Some(from + u64::try_from(TTL.as_nanos())?);
                self.recorder.record(end);
                self.held = Some((held, token));
                Ok(true)
            }
            Err(why) => {
                self.recorder.record(Record { error: Some(why.to_string()), ..invoke.ended(Type::Fail) });
                Ok(false)
            }
        }
    }

    async fn give_back(&mut self) -> anyhow::Result<()> {
        if let Some(renewals) = self.renewals.take() {
            renewals.abort();
        }
        let Some((held, token)) = self.held.take() else { return Ok(()) };
        let invoke = Record { token: Some(token), ..self.record(Type::Invoke, f::RESIGN) };
        self.recorder.record(invoke.clone());
        let end = match self.client.release(held).await {
            Ok(()) => invoke.ended(Type::Ok),
            Err(why) => Record { error: Some(why.to_string()), ..invoke.ended(Type::Info) },
        };
        self.recorder.record(end);
        Ok(())
    }
}
