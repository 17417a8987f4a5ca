//! `palisade cluster …`: what the nodes say about themselves. Every node is asked; one that does not answer is shown as such.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use palisade_client::Client;
use palisade_wire::coord::v1::StatusReply;
use palisade_world::World;
use serde_json::json;

use crate::cli::{ClusterCommand, Global};
use crate::exit::{Failure, UNREACHABLE};
use crate::output;

pub(crate) async fn run(command: ClusterCommand, global: &Global, world: World) -> Result<(), Failure> {
    let client = crate::elect::connect(global, &world)?;
    match command {
        ClusterCommand::Status => status(global, &client).await,
        ClusterCommand::Members => members(global, &client).await,
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
        "store_leader": store_leader,
        "term": best.term,
        "seq": header.seq,
        "revision": header.revision,
        "nodes": nodes.iter().map(|(id, (address, answer))| json!({
            "id": id,
            "address": address,
            "role": answer.as_ref().map_or("unreachable", |answer| answer.role.as_str()),
            "applied": answer.as_ref().map(|answer| answer.last_applied),
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
            "cluster {:016x}, generation {}, term {}, seq {}, revision {}, {} sessions, {} elections\n{}",
            header.cluster_id,
            header.generation,
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
    let Survey { best, .. } = survey(global, client).await?;
    let document = json!({ "members": best.members.iter().map(|member| json!({
        "id": member.node_id, "address": member.address, "role": member.role, "store_id": format!("{:016x}", member.store_id),
    })).collect::<Vec<_>>() });
    output::show(global.output, &document, || {
        let rows = best.members.iter().map(|member| {
            vec![
                member.node_id.to_string(),
                member.address.clone(),
                member.role.clone(),
                format!("{:016x}", member.store_id),
            ]
        });
        output::table(&["ID", "ADDRESS", "ROLE", "STORE"], rows.collect())
    });
    Ok(())
}
