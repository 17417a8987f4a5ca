//! An operator: adds spare nodes, lets them vote, removes nodes, has the store handed over, and tries what must be refused. Like an
//! administrator he speaks the wire without a client's care; what he does not hear of he asks for again one day.

use std::collections::BTreeMap;
use std::time::Duration;

use palisade_wire::coord::v1::cluster_service_client::ClusterServiceClient;
use palisade_wire::coord::v1::error_detail::Kind;
use palisade_wire::coord::v1::{
    AddNodeRequest, Member, MembersReply, MembersRequest, PromoteNodeRequest, RaiseLevelRequest, RemoveNodeRequest,
    TransferStoreLeaderRequest,
};
use tonic::transport::Channel;

use super::node::Hardware;
use super::wire::{Known, Unanswered, Wire};
use super::{Process, address};
use crate::facts::{Fact, Reshaped};
use crate::phase::Phase;
use crate::plan::{Fault, Role, Who};

/// Between two deeds, and as much again at random.
const PAUSE: Duration = Duration::from_millis(250);

/// So many voters are left, at least: one of them may lose its disk.
const VOTERS: usize = 3;

/// Runs until the simulation ends.
pub(crate) async fn run(process: Process, nodes: BTreeMap<usize, Hardware>) -> turmoil::Result {
    let wire = Wire::to(&process, process.plan.all(Role::Node).map(address).collect());
    let mut operator = Operator { process, nodes, wire, removed: Vec::new() };
    loop {
        let process = &operator.process;
        process.world.sleep(PAUSE + process.world.jitter(PAUSE)).await;
        let Some(members) = operator.members().await else { continue };
        operator.switch_on(&members);
        if *operator.process.phase.borrow() == Phase::Faults {
            operator.act(&members).await;
            operator.raise_level().await;
        }
    }
}

struct Operator {
    process: Process,
    nodes: BTreeMap<usize, Hardware>,
    wire: Wire,
    /// Ids of nodes that were removed, as he was told.
    removed: Vec<u64>,
}

impl Operator {
    fn cluster(&self, node: usize) -> ClusterServiceClient<Channel> {
        ClusterServiceClient::new(self.wire.channel(node))
    }

    fn random(&self, below: usize) -> usize {
        usize::try_from(self.process.world.random_u64() % below.max(1) as u64).unwrap_or(0)
    }

    /// Who belongs to the cluster, if somebody says.
    async fn members(&mut self) -> Option<Vec<Member>> {
        let node = self.wire.leader();
        let answer = self.wire.ask(self.cluster(node).members(MembersRequest {})).await;
        self.wire.learn(node, answer.as_ref().map(|_| ()));
        answer.ok().map(|reply| reply.members)
    }

    /// A node that was added is there, whatever was heard of the request.
    fn switch_on(&self, members: &[Member]) {
        for member in members {
            if let Some(hardware) = self.nodes.get(&(member.node_id as usize)).filter(|it| !it.is_on()) {
                hardware.switch_on();
            }
        }
    }

    async fn act(&mut self, members: &[Member]) {
        let voters: Vec<u64> = members.iter().filter(|it| it.role == "voter").map(|it| it.node_id).collect();
        let learners: Vec<u64> = members.iter().filter(|it| it.role != "voter").map(|it| it.node_id).collect();
        let highest = self.highest(members);
        let spares = self.process.plan.all(Role::Node).filter(|who| who.number as u64 > highest);
        let spare = spares.map(|who| who.number as u64).next();
        match self.random(7) {
            0..=1 if spare.is_some() => self.add(spare.unwrap_or_default()).await,
            0..=3 if !learners.is_empty() => self.promote(learners[self.random(learners.len())]).await,
            4 if voters.len() > VOTERS => {
                let may_go: Vec<u64> =
                    members.iter().map(|it| it.node_id).filter(|id| self.may_go(*id, members)).collect();
                if !may_go.is_empty() {
                    self.remove(may_go[self.random(may_go.len())]).await;
                }
            }
            5 if !voters.is_empty() => self.transfer(voters[self.random(voters.len())]).await,
            6 if !self.removed.is_empty() => self.add(self.removed[self.random(self.removed.len())]).await,
            _ => {}
        }
    }

    fn highest(&self, members: &[Member]) -> u64 {
        let known = members.iter().map(|it| it.node_id).chain(self.removed.iter().copied());
        known.max().unwrap_or(0)
    }

    /// Whoever reaches the store through one node only depends on that, and some know the founders and nobody else.
    fn may_go(&self, id: u64, members: &[Member]) -> bool {
        let there = |it: &&Member| !self.nodes[&(it.node_id as usize)].is_gone();
        let founders = members.iter().filter(|it| it.node_id <= self.process.plan.founders as u64 && it.node_id != id);
        let needed = self.process.plan.behind.values().any(|node| *node as u64 == id);
        !needed && founders.filter(there).count() >= 2
    }

    async fn add(&mut self, id: u64) {
        let request = AddNodeRequest { node_id: id, address: address(Who::node(id as usize)) };
        let node = self.begin();
        let answer = self.wire.ask(self.cluster(node).add_node(request)).await;
        let was_removed = self.removed.contains(&id);
        if was_removed && answer.as_ref().is_err_and(|it| it.kind == Kind::Membership) {
            self.process.witness.count("used node ids refused");
        }
        let refused = answer.as_ref().is_err_and(|it| it.known != Known::Unknown);
        if !refused && !was_removed {
            self.nodes[&(id as usize)].switch_on();
        }
        self.end(node, Reshaped::Added(id), answer);
    }

    async fn promote(&mut self, id: u64) {
        let node = self.begin();
        let answer = self.wire.ask(self.cluster(node).promote_node(PromoteNodeRequest { node_id: id })).await;
        self.end(node, Reshaped::Promoted(id), answer);
    }

    async fn remove(&mut self, id: u64) {
        self.nodes[&(id as usize)].is_to_go();
        let node = self.begin();
        let answer = self.wire.ask(self.cluster(node).remove_node(RemoveNodeRequest { node_id: id })).await;
        if answer.is_ok() && !self.removed.contains(&id) {
            self.removed.push(id);
        }
        self.end(node, Reshaped::Removed(id), answer);
    }

    /// Asks for the highest level that the store leader knows, where programs are replaced in this run.
    async fn raise_level(&mut self) {
        if !self.process.plan.faults.iter().any(|planned| matches!(planned.fault, Fault::Upgrade(_))) {
            return;
        }
        let node = self.wire.leader();
        let answer = self.wire.ask(self.cluster(node).raise_level(RaiseLevelRequest { level: 0 })).await;
        self.wire.learn(node, answer.as_ref().map(|_| ()));
        match answer {
            Ok(reply) if reply.level > reply.before => self.process.witness.count("levels raised"),
            Err(why) if why.kind == Kind::Level => self.process.witness.count("levels not raised yet"),
            Ok(_) | Err(_) => {}
        }
    }

    async fn transfer(&mut self, id: u64) {
        let node = self.begin();
        let request = TransferStoreLeaderRequest { node_id: id };
        let answer = self.wire.ask(self.cluster(node).transfer_store_leader(request)).await;
        self.end(node, Reshaped::Transferred(id), answer);
    }

    fn begin(&self) -> usize {
        self.process.witness.saw(self.process.who, Fact::ReshapeAsked);
        self.wire.leader()
    }

    fn end(&mut self, node: usize, what: Reshaped, answer: Result<MembersReply, Unanswered>) {
        self.wire.learn(node, answer.as_ref().map(|_| ()));
        match answer {
            Ok(reply) => {
                self.process.witness.saw(self.process.who, Fact::Reshaped { what, index: reply.index });
            }
            Err(why) => self.process.trace(format_args!("{what:?}: {why:?}")),
        }
    }
}
