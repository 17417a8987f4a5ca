//! Fenced calls to TaskExecutors, as plain gRPC and as frames of the RPC envelope, under the tokens of JobManagers that lead and that
//! led. Whoever accepts a token never accepts a lower one again, also after it was killed and started again.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jepsen_lite::history::{Record, Type, f};
use rand::RngExt;
use rand::rngs::SmallRng;
use tokio::task::JoinSet;

use crate::api::{Called, Outcome, Worker};
use crate::envelope::Envelope;
use crate::run::{JOBMANAGERS, Run};

/// Tokens that are still used at most: the present one, and some of the past.
const TOKENS: usize = 6;
/// Callers per TaskExecutor.
const CALLERS: usize = 2;

type Tokens = Arc<Mutex<BTreeSet<u64>>>;

pub(crate) fn start(run: &Run, tasks: &mut JoinSet<anyhow::Result<()>>) {
    let tokens = Tokens::default();
    tasks.spawn(learn(run.clone(), Arc::clone(&tokens)));
    for name in run.stage.taskexecutor_names() {
        for caller in 0..CALLERS {
            tasks.spawn(ask(run.clone(), name.clone(), caller, Arc::clone(&tokens)));
        }
        tasks.spawn(tell(run.clone(), name, Arc::clone(&tokens)));
    }
}

/// Learns which tokens there are and were.
async fn learn(run: Run, tokens: Tokens) -> anyhow::Result<()> {
    let mut api = run.stage.api(0)?;
    while run.rest(Duration::from_millis(30)).await {
        if let Outcome::Ok((_, Some(grant))) = api.leader(JOBMANAGERS).await {
            let mut tokens = tokens.lock().unwrap_or_else(PoisonError::into_inner);
            tokens.insert(grant.token);
            while tokens.len() > TOKENS {
                tokens.pop_first();
            }
        }
    }
    Ok(())
}

/// The present token half of the time, else one of the past.
fn pick(tokens: &Tokens, rng: &mut SmallRng) -> Option<u64> {
    let tokens = tokens.lock().unwrap_or_else(PoisonError::into_inner);
    let back = if rng.random_bool(0.5) { 0 } else { rng.random_range(0..tokens.len().max(1)) };
    tokens.iter().nth_back(back).copied()
}

fn invoke(run: &Run, process: &str, f: &str, name: &str, token: u64) -> Record {
    let mut invoke = Record::new(process, Type::Invoke, f);
    (invoke.key, invoke.value) = (Some(name.to_owned()), run.value().to_string().into());
    (invoke.election, invoke.token) = (Some(JOBMANAGERS.to_owned()), Some(token));
    invoke.node = Some(name.to_owned());
    invoke
}

async fn ask(run: Run, name: String, caller: usize, tokens: Tokens) -> anyhow::Result<()> {
    let mut rng = run.rng(&format!("ask-{name}-{caller}"));
    let worker = Worker::at(&run.stage.worker_address(&name).await?)?;
    let mut process = run.process();
    while run.pause(&mut rng, 5, 40).await {
        let Some(token) = pick(&tokens, &mut rng) else { continue };
        let invoke = invoke(&run, &process, f::ASK, &name, token);
        run.recorder.record(invoke.clone());
        let end = match worker.call(JOBMANAGERS, token).await? {
            Called::Ran => invoke.ended(Type::Ok),
            Called::Refused(word) => Record { error: Some(word), ..invoke.ended(Type::Fail) },
            Called::Unknown(why) => {
                process = run.process();
                Record { error: Some(why), ..invoke.ended(Type::Info) }
            }
        };
        run.recorder.record(end);
    }
    Ok(())
}

/// Tells are answered only when they are refused; a later ask on the same stream says that those before it were not.
async fn tell(run: Run, name: String, tokens: Tokens) -> anyhow::Result<()> {
    let mut rng = run.rng(&format!("tell-{name}"));
    let address = run.stage.worker_address(&name).await?;
    let mut process = run.process();
    let mut stream: Option<Envelope> = None;
    while run.pause(&mut rng, 20, 100).await {
        let Some(token) = pick(&tokens, &mut rng) else { continue };
        let Some(envelope) = stream.as_mut() else {
            stream = Envelope::open(&address).await.ok();
            continue;
        };
        let invoke = invoke(&run, &process, f::TELL, &name, token);
        run.recorder.record(invoke.clone());
        let end = match envelope.tell(JOBMANAGERS, token).await {
            Called::Ran => invoke.ended(Type::Ok),
            Called::Refused(word) => Record { error: Some(word), ..invoke.ended(Type::Fail) },
            Called::Unknown(why) => {
                (process, stream) = (run.process(), None);
                Record { error: Some(why), ..invoke.ended(Type::Info) }
            }
        };
        run.recorder.record(end);
    }
    Ok(())
}

/// Every TaskExecutor runs a call of the present leader, once all is healed.
pub(crate) async fn finish(run: &Run) -> anyhow::Result<()> {
    let mut api = run.stage.api(0)?;
    for name in run.stage.taskexecutor_names() {
        let worker = Worker::at(&run.stage.worker_address(&name).await?)?;
        let mut ran = false;
        for _ in 0..200 {
            if let Outcome::Ok((_, Some(grant))) = api.leader(JOBMANAGERS).await {
                let invoke = invoke(run, &run.process(), f::ASK, &name, grant.token);
                run.recorder.record(invoke.clone());
                let called = worker.call(JOBMANAGERS, grant.token).await?;
                ran = called == Called::Ran;
                run.recorder.record(match called {
                    Called::Ran => invoke.ended(Type::Ok),
                    Called::Refused(word) => Record { error: Some(word), ..invoke.ended(Type::Fail) },
                    Called::Unknown(why) => Record { error: Some(why), ..invoke.ended(Type::Info) },
                });
                if ran {
                    break;
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        anyhow::ensure!(ran, "{name} ran no call of the leader although the faults had ended");
    }
    Ok(())
}
