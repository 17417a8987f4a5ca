//! `palisade elect observe`: the present state, or what followed a seq, then every change, until Ctrl-C.

use palisade_client::{Client, ObserveFrom, Observed, ObservedKind};
use serde_json::{Value, json};

use crate::cli::Global;
use crate::exit::Failure;
use crate::output::{self, Format};

pub(crate) async fn run(election: &str, from: Option<u64>, global: &Global, client: &Client) -> Result<(), Failure> {
    let mut observer = match from {
        Some(seq) => client.observe_from(election, ObserveFrom { generation: None, seq }),
        None => client.observe(election),
    };
    loop {
        let observed = tokio::select! {
            _ = tokio::signal::ctrl_c() => return Ok(()),
            observed = observer.next() => observed?,
        };
        match global.output {
            Some(Format::Json | Format::Jsonl) => output::line(&document(election, &observed).to_string()),
            Some(Format::Table) | None => output::line(&text(election, &observed)),
        }
    }
}

fn document(election: &str, observed: &Observed) -> Value {
    let mut event = json!({ "election": election, "seq": observed.seq });
    let with_grant = |event: &mut Value, grant: &palisade_client::Grant| {
        for (key, value) in output::grant(grant) {
            if key != "seq" {
                event[key] = value;
            }
        }
    };
    match &observed.kind {
        ObservedKind::State { leader } => {
            event["event"] = "state".into();
            match leader {
                Some(grant) => with_grant(&mut event, grant),
                None => event["token"] = Value::Null,
            }
        }
        ObservedKind::Elected { leader, previous, why } => {
            event["event"] = "elected".into();
            with_grant(&mut event, leader);
            event["previous"] = previous.map(palisade_fence::Token::get).into();
            event["why"] = why.as_str().into();
        }
        ObservedKind::ValueChanged { leader } => {
            event["event"] = "value_changed".into();
            with_grant(&mut event, leader);
        }
        ObservedKind::Vacant { previous, why } => {
            event["event"] = "vacant".into();
            event["previous"] = previous.get().into();
            event["why"] = why.as_str().into();
        }
        ObservedKind::Gap { why, complete_after_seq } => {
            event["event"] = "gap".into();
            event["why"] = why.as_str().into();
            event["complete_after_seq"] = (*complete_after_seq).into();
        }
    }
    event
}

fn text(election: &str, observed: &Observed) -> String {
    let seq = observed.seq;
    match &observed.kind {
        ObservedKind::State { leader: Some(grant) } => {
            format!("{seq} {election}: {} leads, token {}", grant.candidate, grant.token)
        }
        ObservedKind::State { leader: None } => format!("{seq} {election}: no leader"),
        ObservedKind::Elected { leader, previous: Some(previous), why } => {
            format!(
                "{seq} {election}: {} elected, token {} (before: {previous}, {why})",
                leader.candidate, leader.token
            )
        }
        ObservedKind::Elected { leader, previous: None, .. } => {
            format!("{seq} {election}: {} elected, token {}", leader.candidate, leader.token)
        }
        ObservedKind::ValueChanged { leader } => {
            format!("{seq} {election}: {} changed its value, address '{}'", leader.candidate, leader.value.address)
        }
        ObservedKind::Vacant { previous, why } => format!("{seq} {election}: vacant (before: {previous}, {why})"),
        ObservedKind::Gap { why, .. } => format!("{seq} {election}: gap, what happened meanwhile is not known ({why})"),
    }
}
