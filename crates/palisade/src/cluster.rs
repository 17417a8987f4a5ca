//! `palisade cluster …`: what the nodes say about themselves (every node is asked; one that does not answer is shown as such), and
//! changes of who belongs to the cluster, which the store leader makes or refuses.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use palisade_client::{Client, ClusterMember, ClusterMembers, ErrorKind};
use palisade_wire::coord::v1::StatusReply;
use palisade_world::World;
use serde_json::json;

use crate::backup;
use crate::cli::{ClusterCommand, Global, SnapshotCommand};
use crate::exit::{Failure, UNREACHABLE};
use crate::output;

pub(crate) async fn run(command: ClusterCommand, global: &Global, world: World) -> Result<(), Failure> {
    let client = crate::elect::connect(global, &world)?;
    match command {
        ClusterCommand::Snapshot(SnapshotCommand::Save { file }) => backup::save(&file, global, &client).await,
        ClusterCommand::Snapshot(SnapshotCommand::Restore { file, data, generation }) => {
            backup::restore(&file, &data, generation, global, &world).await
        }
        ClusterCommand::Status => status(global, &client).await,
        ClusterCommand::Members => members(global, &client).await,
        ClusterCommand::Add { id, address } => {
            changed(global, id, &client.add_node(id, &address).await?);
            Ok(())
        }
        ClusterCommand::Promote { id, wait } => {
            changed(global, id, &promote(&client, id, wait).await?);
            Ok(())
        }
        ClusterCommand::Remove { id } => {
            changed(global, id, &client.remove_node(id).await?);
            Ok(())
        }
        ClusterCommand::RaiseLevel { level } => {
            let (level, before) = client.raise_level(level).await?;
            output::show(global.output, &json!({ "level": level, "before": before }), || match level == before {
                true => format!("the cluster is at level {level} already"),
                false => format!("the cluster is at level {level} (before: {before})"),
            });
            Ok(())
        }
        ClusterCommand::TransferLeader { id } => {
            changed(global, id, &client.transfer_store_leader(id).await?);
            Ok(())
        }
    }
}

/// The answer of each member by node id; `None` for a member that did not answer.
struct Survey {
    best: StatusReply,
    nodes: BTreeMap<u64, (String, Option<StatusReply>)>,
}

/// Asks the given endpoints, then the members that they name.
async fn survey(global: &Global, client: &Client) -> Result<Survey, Failure> {
    let ask = |address: String| async move {
        let answer = client.status_of(&address).await;
        (address, answer)
    };
    let asked = join_all(global.endpoints.iter().cloned().map(ask)).await;
    let mut errors = Vec::new();
    let mut answers = Vec::new();
    for (address, answer) in asked {
        match answer {
            Ok(answer) => answers.push(answer),
            Err(error) => errors.push(format!("{address}: {error}")),
        }
    }
    let members: BTreeMap<u64, String> = answers
        .iter()
        .flat_map(|answer| &answer.members)
        .map(|member| (member.node_id, member.address.clone()))
        .collect();
    let rest = members.iter().filter(|(id, _)| answers.iter().all(|answer| answer.node_id != **id));
    answers.extend(
        join_all(rest.map(|(_, address)| ask(address.clone()))).await.into_iter().filter_map(|(_, answer)| answer.ok()),
    );
    let Some(best) =
        answers.iter().max_by_key(|answer| (answer.term, answer.role == "leader", answer.last_applied)).cloned()
    else {
        return Err(Failure::failed(format!("no node answered: {}", errors.join("; ")))
            .with_code(UNREACHABLE)
            .with_hint("are the nodes running, and is --endpoints right?"));
    };
    let mut nodes: BTreeMap<u64, (String, Option<StatusReply>)> =
        members.into_iter().map(|(id, address)| (id, (address, None))).collect();
    for answer in answers {
        let id = answer.node_id;
        nodes.entry(id).or_insert_with(|| (String::new(), None)).1 = Some(answer);
    }
    Ok(Survey { best, nodes })
}

async fn status(global: &Global, client: &Client) -> Result<(), Failure> {
    let Survey { best, nodes } = survey(global, client).await?;
    let header = best.header.unwrap_or_default();
    let store_leader = best.store_leader.as_ref().map(|leader| leader.node_id);
    let document = json!({
        "cluster_id": format!("{:016x}", header.cluster_id),
        "generation": header.generation,
        "level": best.level,
        "store_leader": store_leader,
        "term": best.term,
        "seq": header.seq,
        "revision": header.revision,
        "nodes": nodes.iter().map(|(id, (address, answer))| json!({
            "id": id,
            "address": address,
            "role": answer.as_ref().map_or("unreachable", |answer| answer.role.as_str()),
            "applied": answer.as_ref().map(|answer| answer.last_applied),
            "level": answer.as_ref().map(|answer| answer.level),
            "known_level": answer.as_ref().map(|answer| answer.known_level),
            "healthy": answer.as_ref().is_some_and(|answer| answer.healthy),
            "problems": answer.as_ref().map(|answer| answer.problems.clone()).unwrap_or_default(),
        })).collect::<Vec<_>>(),
        "sessions": best.sessions,
        "elections": best.elections,
    });
    output::show(global.output, &document, || {
        let rows = nodes.iter().map(|(id, (address, answer))| match answer {
            Some(answer) => vec![
                id.to_string(),
                address.clone(),
                answer.role.clone(),
                answer.last_applied.to_string(),
                if answer.healthy { "yes".to_owned() } else { answer.problems.join("; ") },
            ],
            None => {
                vec![id.to_string(), address.clone(), "unreachable".to_owned(), "-".to_owned(), "no answer".to_owned()]
            }
        });
        format!(
            "cluster {:016x}, generation {}, level {}, term {}, seq {}, revision {}, {} sessions, {} elections\n{}",
            header.cluster_id,
            header.generation,
            best.level,
            best.term,
            header.seq,
            header.revision,
            best.sessions,
            best.elections,
            output::table(&["ID", "ADDRESS", "ROLE", "APPLIED", "HEALTHY"], rows.collect())
        )
    });
    match store_leader {
        Some(_) => Ok(()),
        None => Err(Failure::failed("the cluster has no store leader").with_code(UNREACHABLE)),
    }
}

async fn members(global: &Global, client: &Client) -> Result<(), Failure> {
    let known = client.members().await?;
    let document = document(&known);
    output::show(global.output, &document, || table(&known));
    Ok(())
}

/// Between two tries of a promotion that has to wait.
const AGAIN: Duration = Duration::from_millis(200);

/// Promotes a learner as soon as it is fit, within `wait`. Whatever else is in the way will not pass by itself.
async fn promote(client: &Client, id: u64, wait: Duration) -> Result<ClusterMembers, Failure> {
    let world = client.world();
    let give_up_at = world.now() + wait;
    let mut told = false;
    loop {
        match client.promote_node(id).await {
            Err(error) if error.kind == ErrorKind::Membership && world.now() + AGAIN < give_up_at => {
                if !std::mem::replace(&mut told, true) {
                    eprintln!("palisade: waiting: {error}");
                }
                world.sleep(AGAIN).await;
            }
            done => return Ok(done?),
        }
    }
}

/// What a change came to: the node, and everybody.
fn changed(global: &Global, id: u64, known: &ClusterMembers) {
    let mut all = document(known);
    all["id"] = id.into();
    let node = known.members.iter().find(|member| member.node_id == id);
    all["role"] = node.map_or("removed", role).into();
    output::show(global.output, &all, || table(known));
}

fn role(member: &ClusterMember) -> &'static str {
    if member.votes { "voter" } else { "learner" }
}

fn document(known: &ClusterMembers) -> serde_json::Value {
    let member = |it: &ClusterMember| {
        json!({
            "id": it.node_id,
            "address": it.address,
            "role": role(it),
            "joined": it.store_id.is_some(),
            "store_id": it.store_id.map(|store| format!("{store:016x}")),
            "behind": it.behind,
            "answers": it.answers,
        })
    };
    json!({ "members": known.members.iter().map(member).collect::<Vec<_>>(), "store_leader": known.store_leader })
}

fn table(known: &ClusterMembers) -> String {
    let row = |it: &ClusterMember| {
        vec![
            it.node_id.to_string(),
            it.address.clone(),
            if known.store_leader == Some(it.node_id) { "voter, leads".to_owned() } else { role(it).to_owned() },
            it.store_id.map_or("not joined yet".to_owned(), |store| format!("{store:016x}")),
            it.behind.map_or("-".to_owned(), |behind| behind.to_string()),
            if it.answers { "yes" } else { "no" }.to_owned(),
        ]
    };
    output::table(&["ID", "ADDRESS", "ROLE", "STORE", "BEHIND", "ANSWERS"], known.members.iter().map(row).collect())
}
