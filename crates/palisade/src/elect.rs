//! `palisade elect …`: one file per command that does more than ask once.

mod campaign;
pub(crate) mod ends;
pub(crate) mod guardian;
mod history;
mod lead;
mod observe;
mod run;

use palisade_client::{Client, ClientConfig, OnDisconnect, Reading, Session, SessionOptions};
use palisade_world::World;
use serde_json::{Value, json};

use crate::cli::{ElectCommand, Global, ReadArgs, SessionArgs};
use crate::exit::Failure;
use crate::output;

pub(crate) async fn run(command: ElectCommand, global: &Global, world: World) -> Result<(), Failure> {
    let client = connect(global, &world)?;
    match command {
        ElectCommand::Run(args) => run::run(args, client, world).await,
        ElectCommand::Campaign(args) => campaign::run(args, global, client, world).await,
        ElectCommand::Observe { election, from } => observe::run(&election, from, global, &client).await,
        ElectCommand::Leader { election, read } => leader(&election, reading(read), global, &client).await,
        ElectCommand::List { read } => list(reading(read), global, &client).await,
        ElectCommand::History { election, read } => history::run(&election, reading(read), global, &client).await,
        ElectCommand::Resign { election, token, demand } => {
            ends::resign(election, &token, demand, global, &client).await
        }
        ElectCommand::Withdraw { election, id, demand } => ends::withdraw(election, id, demand, global, &client).await,
        ElectCommand::Transfer { election, to, token, demand } => {
            ends::transfer(election, to, token.as_deref(), demand, global, &client).await
        }
    }
}

/// A client for `--endpoints`; nothing is dialled yet.
pub(crate) fn connect(global: &Global, world: &World) -> Result<Client, Failure> {
    let config = ClientConfig { endpoints: global.endpoints.clone(), request_timeout: global.timeout };
    Client::new(config, world.clone())
        .map_err(|error| Failure::usage("--endpoints", global.endpoints.join(","), error.to_string()))
}

async fn open_session(args: &SessionArgs, client: &Client) -> Result<Session, palisade_client::Error> {
    let on_disconnect = match args.release_after {
        Some(after) => OnDisconnect::ReleaseAfter(after),
        None => OnDisconnect::KeepUntilTtl,
    };
    client.open_session(SessionOptions { ttl: args.ttl, on_disconnect, ..SessionOptions::default() }).await
}

/// `--id`, or the host's name and the process id.
fn candidate_id(args: &SessionArgs) -> String {
    args.id.clone().unwrap_or_else(|| {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        format!("{}-{}", host.trim(), std::process::id())
    })
}

/// `--serializable`.
pub(crate) fn reading(read: ReadArgs) -> Reading {
    if read.serializable { Reading::Serializable } else { Reading::Linearizable }
}

async fn leader(election: &str, reading: Reading, global: &Global, client: &Client) -> Result<(), Failure> {
    let Some(grant) = client.leader_as(election, reading).await? else {
        return Err(Failure::absent("no_leader", format!("election '{election}' has no leader")));
    };
    output::show(global.output, &Value::Object(output::grant(&grant)), || {
        let fence = palisade_fence::Fence { election: grant.election.clone(), token: grant.token };
        output::table(
            &["ELECTION", "LEADER", "TOKEN", "FENCE", "SEQ", "ADDRESS"],
            vec![vec![
                grant.election.clone(),
                grant.candidate.clone(),
                grant.token.to_string(),
                fence.to_string(),
                grant.seq.to_string(),
                grant.value.address.clone(),
            ]],
        )
    });
    Ok(())
}

async fn list(reading: Reading, global: &Global, client: &Client) -> Result<(), Failure> {
    let elections = client.elections_as(reading).await?;
    let document: Vec<Value> = elections
        .iter()
        .map(|election| {
            json!({
                "election": election.election,
                "leader": election.leader.as_ref().map(|grant| {
                    // A list is told without values.
                    let mut leader = output::grant(grant);
                    leader.shift_remove("value");
                    Value::Object(leader)
                }),
                "waiting": election.waiting,
            })
        })
        .collect();
    output::show(global.output, &json!({ "elections": document }), || {
        let rows = elections.iter().map(|election| {
            let (leader, token) = match &election.leader {
                Some(grant) => (grant.candidate.clone(), grant.token.to_string()),
                None => ("-".to_owned(), "-".to_owned()),
            };
            vec![election.election.clone(), leader, token, election.waiting.to_string()]
        });
        output::table(&["ELECTION", "LEADER", "TOKEN", "WAITING"], rows.collect())
    });
    Ok(())
}
