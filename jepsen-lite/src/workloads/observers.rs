//! Observers of an election: one at each node, which come back where they were, and one caller who asks who leads.

use std::time::Duration;

use jepsen_lite::history::{Record, f};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::api::Outcome;
use crate::api::v1::{Grant, Header, observe_event};
use crate::run::{Actor, Run};

/// Nodes that are observed at most.
const AT_MOST: usize = 3;

pub(crate) fn start(run: &Run, election: &'static str, tasks: &mut JoinSet<anyhow::Result<()>>) {
    for at in 0..run.stage.shape.nodes.min(AT_MOST) {
        tasks.spawn(observe(run.clone(), election, at));
    }
    tasks.spawn(ask(run.clone(), election));
}

/// Follows the election from one node on, for as long as that serves; then from the next.
async fn observe(run: Run, election: &'static str, at: usize) -> anyhow::Result<()> {
    let mut api = run.stage.api(at)?;
    let process = format!("observer-{election}-{at}");
    let mut from: Option<Header> = None;
    let mut stop = run.stop.clone();
    while !run.stopped() {
        let node = api.node().to_owned();
        let resume = from.map(|header| (header.generation, header.seq));
        let Outcome::Ok(mut stream) = api.observe(election, resume).await else {
            run.rest(Duration::from_millis(50)).await;
            continue;
        };
        loop {
            let message = tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return Ok(()),
                message = stream.message() => message,
            };
            let Ok(Some(reply)) = message else { break };
            for kind in reply.events.into_iter().filter_map(|event| event.kind) {
                if let Some(record) = told(kind, &process, election, &node) {
                    run.recorder.record(record);
                }
            }
            from = reply.header;
        }
        api.turn();
    }
    Ok(())
}

/// An event as the history has it. A state without a leader tells nothing that must agree with anything.
fn told(kind: observe_event::Kind, process: &str, election: &str, node: &str) -> Option<Record> {
    let (event, grant, why): (&str, Option<Grant>, String) = match kind {
        observe_event::Kind::State(state) => ("state", Some(state.leader?), String::new()),
        observe_event::Kind::Elected(elected) => ("elected", Some(elected.leader?), elected.why),
        observe_event::Kind::ValueChanged(changed) => ("value_changed", Some(changed.leader?), String::new()),
        observe_event::Kind::Vacant(vacant) => ("vacant", None, vacant.why),
        observe_event::Kind::Gap(gap) => ("gap", None, gap.why),
    };
    let mut record = Record::seen(process, f::OBSERVE);
    record.value = json!({ "event": event });
    if let Some(grant) = &grant {
        record.value["candidate"] = grant.candidate_id.as_str().into();
    }
    if !why.is_empty() {
        record.value["why"] = why.into();
    }
    record.election = Some(election.to_owned());
    record.token = grant.as_ref().map(|grant| grant.token);
    record.seq = grant.as_ref().map(|grant| grant.seq);
    record.node = Some(node.to_owned());
    Some(record)
}

/// Asks who leads, linearizably, at one node after the other.
async fn ask(run: Run, election: &'static str) -> anyhow::Result<()> {
    let mut api = run.stage.api(0)?;
    let mut actor = Actor::new(&run);
    let mut rng = run.rng("who-leads");
    while run.pause(&mut rng, 30, 120).await {
        let mut invoke = actor.record(f::LEADER, api.node());
        invoke.election = Some(election.to_owned());
        let answer = actor.ask(invoke, api.leader(election), |(header, grant), end| {
            end.seq = Some(header.seq);
            end.value = grant.as_ref().map_or(Value::Null, |grant| grant.candidate_id.as_str().into());
            end.token = grant.as_ref().map(|grant| grant.token);
        });
        answer.await;
        api.turn();
    }
    Ok(())
}
