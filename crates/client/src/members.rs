//! Who belongs to the cluster: asked for and changed by administrators, and learnt by every client, so that one that was started with
//! addresses that are gone by now goes on with those that took their place.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::Duration;

use palisade_wire::coord::v1;
use palisade_wire::coord::v1::cluster_service_client::ClusterServiceClient;
use palisade_wire::status;

use crate::links::Purpose;
use crate::requests::{Repeat, Shared};
use crate::{Client, Error, Header};

/// Between two looks while nothing changes, and as much again at random. A cluster is changed one node at a time, and a client that
/// knows one node of it finds the others.
const EVERY: Duration = Duration::from_secs(15);

/// Between two looks at least.
const AT_LEAST: Duration = Duration::from_secs(1);

/// How many are asked in a row.
const ATTEMPTS: usize = 6;

/// How long a node may take to answer.
const ANSWER: Duration = Duration::from_secs(1);

/// A node of the cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClusterMember {
    /// Its id: unique for ever.
    pub node_id: u64,
    /// `HOST:PORT` at which it is reached.
    pub address: String,
    /// Whether it votes; a learner holds a copy.
    pub votes: bool,
    /// Its data folder; `None`: it was added and has not joined yet.
    pub store_id: Option<u64>,
    /// Log entries that it lacks, as the store leader knows; `None`: not known.
    pub behind: Option<u64>,
    /// It answered the store leader a moment ago.
    pub answers: bool,
}

/// Who belongs to the cluster, as the store leader knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClusterMembers {
    /// By id.
    pub members: Vec<ClusterMember>,
    /// Who leads the store; `None`: nobody a moment ago.
    pub store_leader: Option<u64>,
}

impl ClusterMembers {
    fn of(reply: v1::MembersReply) -> ClusterMembers {
        let member = |it: v1::Member| ClusterMember {
            node_id: it.node_id,
            address: it.address,
            votes: it.role == "voter",
            store_id: Some(it.store_id).filter(|store| *store != 0),
            behind: it.behind,
            answers: it.answers,
        };
        let members = reply.members.into_iter().map(member).collect();
        ClusterMembers { members, store_leader: reply.store_leader.map(|leader| leader.node_id) }
    }
}

impl Client {
    /// Who belongs to the cluster.
    pub async fn members(&self) -> Result<ClusterMembers, Error> {
        let ask = self.shared.request(Repeat::Read, |channel| async move {
            ClusterServiceClient::new(channel).members(v1::MembersRequest {}).await
        });
        Ok(self.learn(ask.await?))
    }

    /// Adds a learner under an id above every id that the cluster ever had. It counts for nothing before it is started and joins.
    ///
    /// This and the changes below are repeated after an unknown outcome, within the request timeout: what is so already succeeds.
    pub async fn add_node(&self, node_id: u64, address: &str) -> Result<ClusterMembers, Error> {
        let request = v1::AddNodeRequest { node_id, address: address.to_owned() };
        let change = self.shared.request(Repeat::Safe, |channel| {
            let request = request.clone();
            async move { ClusterServiceClient::new(channel).add_node(request).await }
        });
        Ok(self.learn(change.await?))
    }

    /// Makes a learner that has caught up a voter.
    pub async fn promote_node(&self, node_id: u64) -> Result<ClusterMembers, Error> {
        let change = self.shared.request(Repeat::Safe, |channel| async move {
            ClusterServiceClient::new(channel).promote_node(v1::PromoteNodeRequest { node_id }).await
        });
        Ok(self.learn(change.await?))
    }

    /// Removes a node for good; refused where that would cost the cluster its majority.
    pub async fn remove_node(&self, node_id: u64) -> Result<ClusterMembers, Error> {
        let change = self.shared.request(Repeat::Safe, |channel| async move {
            ClusterServiceClient::new(channel).remove_node(v1::RemoveNodeRequest { node_id }).await
        });
        Ok(self.learn(change.await?))
    }

    /// Has a voter lead the store.
    pub async fn transfer_store_leader(&self, node_id: u64) -> Result<ClusterMembers, Error> {
        let change = self.shared.request(Repeat::Safe, |channel| async move {
            ClusterServiceClient::new(channel).transfer_store_leader(v1::TransferStoreLeaderRequest { node_id }).await
        });
        Ok(self.learn(change.await?))
    }

    /// Raises the level of the cluster, to the highest that the store leader's program knows if none is named. Refused unless every
    /// member answers and knows it. What the cluster has then, and what it had.
    pub async fn raise_level(&self, level: Option<u32>) -> Result<(u32, u32), Error> {
        let request = v1::RaiseLevelRequest { level: level.unwrap_or(0) };
        let raise = self.shared.request(Repeat::Safe, |channel| async move {
            ClusterServiceClient::new(channel).raise_level(request).await
        });
        let v1::RaiseLevelReply { level, before, .. } = raise.await?;
        Ok((level, before))
    }

    fn learn(&self, reply: v1::MembersReply) -> ClusterMembers {
        learn(&self.shared, &reply);
        ClusterMembers::of(reply)
    }
}

fn learn(shared: &Shared, reply: &v1::MembersReply) {
    // One that has not joined is nobody to ask.
    let there = reply.members.iter().filter(|member| member.store_id != 0);
    shared.links.set_members(there.map(|member| member.address.clone()));
}

impl Shared {
    /// From the first use of a client on, the addresses of the members are kept, until its last handle is gone.
    pub(crate) fn keep_members(self: &Arc<Self>) {
        self.members.get_or_init(|| self.world.spawn("palisade-members", run(Arc::downgrade(self))));
    }
}

async fn run(shared: Weak<Shared>) {
    let parts = |shared: &Arc<Shared>| (shared.world.clone(), shared.links.changed());
    let Some((world, changed)) = shared.upgrade().as_ref().map(parts) else { return };
    loop {
        // Whoever asks one question and goes asks no other.
        world.sleep(AT_LEAST).await;
        let Some(client) = shared.upgrade() else { return };
        refresh(&client).await;
        drop(client);
        world.timeout(EVERY + world.jitter(EVERY), changed.notified()).await;
    }
}

/// Asks who is thought to lead the store, whom that names, and then the others, until somebody says who the members are.
async fn refresh(client: &Shared) {
    let mut whom: VecDeque<String> = [client.links.first_choice()].into();
    whom.extend(client.links.known());
    for _ in 0..ATTEMPTS {
        let Some(address) = whom.pop_front() else { return };
        let Ok(channel) = client.links.channel(Purpose::Requests, &address) else { continue };
        let ask = async { ClusterServiceClient::new(channel).members(v1::MembersRequest {}).await };
        match client.world.timeout(ANSWER, ask).await {
            Some(Ok(reply)) => {
                let reply = reply.into_inner();
                if client.seen.fits(&Header::of(reply.header.as_ref())) {
                    learn(client, &reply);
                    return;
                }
            }
            Some(Err(refused)) => {
                let hint = status::detail(&refused).and_then(|detail| detail.store_leader);
                whom.extend(hint.map(|leader| leader.address));
                whom.rotate_right(usize::from(!whom.is_empty()));
            }
            None => client.links.forget(Purpose::Requests, &address),
        }
    }
}
