//! Candidates that are processes of the tested system: `palisade elect campaign`. What they print is what the history has of them.
//!
//! A candidate that a nemesis ends is followed by another one under a new name.

use jepsen_lite::history::{OnDisconnect, Record, Type, f};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::processes::Heard;
use crate::run::{ELECTION, Run, over};

pub(crate) fn start(run: &Run, vacancies: mpsc::Receiver<()>, tasks: &mut JoinSet<anyhow::Result<()>>) {
    tasks.spawn(keep(run.clone(), vacancies));
}

/// Starts so many candidates as there are to be, and one more for each that was ended.
async fn keep(run: Run, mut vacancies: mpsc::Receiver<()>) -> anyhow::Result<()> {
    let mut listeners = JoinSet::new();
    let mut stop = run.stop.clone();
    let mut number = 0;
    let mut missing = run.sessions.candidates;
    loop {
        for _ in 0..std::mem::take(&mut missing) {
            number += 1;
            let name = format!("c{number}");
            let events = campaign(&run, &name).await?;
            listeners.spawn(listen(run.clone(), name, events));
        }
        tokio::select! {
            () = over(&mut stop) => break,
            vacant = vacancies.recv() => if vacant.is_none() { break } else { missing += 1 },
            Some(ended) = listeners.join_next() => {
                // One that never reached the store is followed by another; one that a nemesis ended is by its word.
                if run.stage.gave_up(&ended?).await? {
                    missing += 1;
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            }
        }
    }
    // They live until the run is struck: what they say until then belongs to it.
    listeners.detach_all();
    Ok(())
}

async fn campaign(run: &Run, name: &str) -> anyhow::Result<Heard> {
    let terms = run.sessions.terms;
    let args = ["elect", "campaign", ELECTION, "--id", name, "--output", "jsonl"];
    let mut args: Vec<String> = args.map(str::to_owned).to_vec();
    args.extend(["--ttl".to_owned(), format!("{}ms", terms.ttl_ms())]);
    if let Some(after) = terms.release_after {
        args.extend(["--release-after".to_owned(), format!("{}ms", after.as_millis())]);
    }
    let mut invoke = Record::new(name, Type::Invoke, f::CAMPAIGN);
    invoke.election = Some(ELECTION.to_owned());
    invoke.value = name.into();
    invoke.on_disconnect = Some(terms.on_disconnect());
    run.recorder.record(invoke);
    run.stage.speak(name, &args).await
}

/// Turns a candidate's own words into the history, until it ends; gives its name then.
async fn listen(run: Run, name: String, mut events: Heard) -> String {
    let kind = run.sessions.terms.on_disconnect();
    let mut granted = false;
    while let Ok(Some(line)) = events.next_line().await {
        let event: Value = serde_json::from_str(&line).unwrap_or_default();
        let Some(token) = event["token"].as_u64() else { continue };
        match event["event"].as_str() {
            Some("granted") => {
                let f = if granted { f::GRANT } else { f::CAMPAIGN };
                granted = true;
                let mut record = seen(&name, f, token);
                (record.value, record.on_disconnect) = (name.as_str().into(), Some(kind));
                record.seq = event["seq"].as_u64();
                run.recorder.record(record);
                run.granted(token);
            }
            Some("suspect") => {
                run.recorder.record(seen(&name, f::SUSPECT, token));
            }
            Some("confirmed") => {
                run.recorder.record(seen(&name, f::CONFIRM, token));
            }
            Some("lost") => {
                let mut record = seen(&name, f::LOST, token);
                record.error = Some(event["why"].as_str().unwrap_or("unsaid").to_owned());
                run.recorder.record(record);
            }
            _ => {}
        }
    }
    if !granted {
        campaign_unknown(&run, &name, kind);
    }
    name
}

fn seen(name: &str, f: &str, token: u64) -> Record {
    let mut record = Record::seen(name, f);
    record.election = Some(ELECTION.to_owned());
    record.token = Some(token);
    record
}

/// It ended while it waited: whether it was ever granted is for others to say.
fn campaign_unknown(run: &Run, name: &str, kind: OnDisconnect) {
    let mut end = Record::new(name, Type::Info, f::CAMPAIGN);
    end.election = Some(ELECTION.to_owned());
    (end.value, end.on_disconnect, end.error) = (name.into(), Some(kind), Some("killed".to_owned()));
    run.recorder.record(end);
}
