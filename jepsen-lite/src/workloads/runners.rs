//! `palisade elect run`: the product's own guard of a process that does not fence. Its child is this program, which says all the time
//! that it acts, on the one clock of this machine. Two children never act at once.

use jepsen_lite::history::{Record, Type, f};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::act;
use crate::run::{ELECTION, Run, over};

pub(crate) async fn start(
    run: &Run,
    vacancies: mpsc::Receiver<()>,
    tasks: &mut JoinSet<anyhow::Result<()>>,
) -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    tasks.spawn(hear(run.clone(), listener));
    tasks.spawn(keep(run.clone(), vacancies, address));
    Ok(())
}

async fn keep(run: Run, mut vacancies: mpsc::Receiver<()>, address: String) -> anyhow::Result<()> {
    let mut stop = run.stop.clone();
    let mut number = 0;
    let mut missing = run.sessions.candidates;
    let own = std::env::current_exe()?.display().to_string();
    let mut outputs = JoinSet::new();
    loop {
        for _ in 0..std::mem::take(&mut missing) {
            number += 1;
            let name = format!("c{number}");
            let ttl = format!("{}ms", run.sessions.terms.ttl_ms());
            let args =
                ["elect", "run", ELECTION, "--id", &name, "--ttl", &ttl, "--restart", "--", &own, "act", &address];
            let args: Vec<String> = args.map(str::to_owned).to_vec();
            // It campaigns for as long as it lives; its children say when it was granted.
            let mut invoke = Record::new(&name, Type::Invoke, f::CAMPAIGN);
            (invoke.election, invoke.value) = (Some(ELECTION.to_owned()), name.as_str().into());
            invoke.on_disconnect = Some(run.sessions.terms.on_disconnect());
            run.recorder.record(invoke);
            let mut said = run.stage.speak(&name, &args).await?;
            outputs.spawn(async move {
                while let Ok(Some(_)) = said.next_line().await {}
                name
            });
        }
        tokio::select! {
            () = over(&mut stop) => break,
            vacant = vacancies.recv() => if vacant.is_none() { break } else { missing += 1 },
            Some(ended) = outputs.join_next() => {
                if run.stage.gave_up(&ended?).await? {
                    missing += 1;
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            }
        }
    }
    outputs.detach_all();
    Ok(())
}

async fn hear(run: Run, listener: TcpListener) -> anyhow::Result<()> {
    let mut stop = run.stop.clone();
    let mut children = JoinSet::new();
    loop {
        tokio::select! {
            () = over(&mut stop) => break,
            child = listener.accept() => drop(children.spawn(listen(run.clone(), child?.0))),
            Some(_) = children.join_next() => {}
        }
    }
    Ok(())
}

/// One child from its first word to its last. Each word says until when it surely acted.
async fn listen(run: Run, child: TcpStream) {
    let mut lines = BufReader::new(child).lines();
    let Ok(Some(first)) = lines.next_line().await else { return };
    let mut words = first.split(' ');
    let (Some(name), Some(Ok(token))) = (words.next(), words.next().map(str::parse::<u64>)) else { return };
    let process = format!("{name}-{token}");
    let mut record = Record::new(&process, Type::Invoke, f::CAMPAIGN);
    record.election = Some(ELECTION.to_owned());
    record.value = name.into();
    record.on_disconnect = Some(run.sessions.terms.on_disconnect());
    run.recorder.record(record.clone());
    record.kind = Type::Ok;
    record.token = Some(token);
    // It has said so: it acted until now, at the least.
    record.deadline_ns = Some(run.recorder.clock().now_ns());
    run.recorder.record(record.clone());
    run.granted(token);
    while let Ok(Some(line)) = lines.next_line().await {
        let Some(at) = line.parse().ok().and_then(|monotonic| act::on_run_clock(&run.recorder.clock(), monotonic))
        else {
            continue;
        };
        let mut act = Record::seen(&process, f::ACT);
        (act.election, act.token, act.deadline_ns) = (Some(ELECTION.to_owned()), Some(token), Some(at));
        run.recorder.record(act);
    }
}

/// A child acts once all is healed.
pub(crate) async fn finish(run: &Run) -> anyhow::Result<()> {
    let mut api = run.stage.api(0)?;
    for _ in 0..200 {
        if let crate::api::Outcome::Ok((_, Some(_))) = api.leader(ELECTION).await {
            return Ok(());
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    anyhow::bail!("no command ran although the faults had ended")
}
