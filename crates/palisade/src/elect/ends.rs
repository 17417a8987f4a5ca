//! What an administrator wants to end: a leadership, a candidacy, a session. Prints whether it ended, or whether its holder was
//! asked, and what that holder will lose.

use palisade_client::{Client, Demand, Ended, ResignOptions, TransferOptions, WithdrawOptions};
use palisade_fence::{Fence, Token};
use serde_json::{Map, Value, json};

use crate::cli::{DemandArgs, Global};
use crate::exit::Failure;
use crate::output;

pub(crate) async fn resign(
    election: String,
    token: &str,
    demand: DemandArgs,
    global: &Global,
    client: &Client,
) -> Result<(), Failure> {
    let token = parse(token)?;
    let ended = client.resign(ResignOptions { election: election.clone(), token, demand: how(demand) }).await?;
    let mut document = object(json!({
        "election": election, "token": token.get(), "fence": fence(&election, token),
    }));
    document.insert("already".to_owned(), ended.already.into());
    show(document, &ended, global, || match ended.already {
        true => format!("token {token} did not lead {election}: nothing changed"),
        false => format!("token {token} of {election} ended"),
    });
    Ok(())
}

pub(crate) async fn withdraw(
    election: String,
    candidate_id: String,
    demand: DemandArgs,
    global: &Global,
    client: &Client,
) -> Result<(), Failure> {
    let options =
        WithdrawOptions { election: election.clone(), candidate_id: candidate_id.clone(), demand: how(demand) };
    let ended = client.withdraw(options).await?;
    let document = object(json!({ "election": election, "candidate": candidate_id }));
    show(document, &ended, global, || format!("{candidate_id} stands in {election} no more"));
    Ok(())
}

pub(crate) async fn transfer(
    election: String,
    to: String,
    token: Option<&str>,
    demand: DemandArgs,
    global: &Global,
    client: &Client,
) -> Result<(), Failure> {
    let token = token.map(parse).transpose()?;
    let options = TransferOptions { election: election.clone(), token, to: to.clone(), demand: how(demand) };
    let ended = client.transfer(options).await?;
    show(object(json!({ "election": election, "to": to })), &ended, global, || format!("{to} leads {election}"));
    Ok(())
}

pub(crate) async fn close(session: u64, demand: DemandArgs, global: &Global, client: &Client) -> Result<(), Failure> {
    let ended = client.close_session(session, how(demand)).await?;
    show(object(json!({ "session": session })), &ended, global, || format!("session {session} ended"));
    Ok(())
}

fn how(demand: DemandArgs) -> Demand {
    match demand {
        DemandArgs { force: true, .. } => {
            eprintln!("palisade: forced: a holder that trusts its own clock may go on acting until its deadline");
            Demand::Force
        }
        DemandArgs { end_session: true, .. } => Demand::EndSession,
        DemandArgs { .. } => Demand::Request,
    }
}

fn parse(token: &str) -> Result<Token, Failure> {
    token.parse().map_err(|_| Failure::usage("--token", token, "a number from 1 to 9223372036854775807"))
}

fn fence(election: &str, token: Token) -> String {
    Fence { election: election.to_owned(), token }.to_string()
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        other => unreachable!("only objects are written here: {other}"),
    }
}

/// The document with what came of it; for people a sentence, and a table of what will be lost.
fn show(mut document: Map<String, Value>, ended: &Ended, global: &Global, done: impl FnOnce() -> String) {
    let losing = ended.requested.as_ref().map(|requested| requested.losing.as_slice()).unwrap_or_default();
    let lost = |grant: &palisade_client::Grant| {
        json!({
            "election": grant.election, "candidate": grant.candidate, "token": grant.token.get(),
            "fence": grant.fence().to_string(),
        })
    };
    document.insert("requested".to_owned(), ended.requested.is_some().into());
    document.insert("losing".to_owned(), losing.iter().map(lost).collect());
    document.insert("seq".to_owned(), ended.header.seq.into());
    output::show(global.output, &Value::Object(document), || match &ended.requested {
        None => done(),
        Some(_) if losing.is_empty() => {
            "requested: its holder keeps it until its TTL, and ends it when it is ready (--force acts at once)"
                .to_owned()
        }
        Some(_) => {
            let row =
                |it: &palisade_client::Grant| vec![it.election.clone(), it.candidate.clone(), it.token.to_string()];
            let table = output::table(&["ELECTION", "CANDIDATE", "TOKEN"], losing.iter().map(row).collect());
            format!("requested: with its session the holder will lose\n{table}")
        }
    });
}
