//! Tells in the log who leads the store, what this node is, and which nodes there are. It changes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use palisade_replica::{Member, Replica, ReplicaStatus};
use palisade_world::{Task, World};

use crate::machine::CoordMachine;

/// Starts telling.
pub(crate) fn start(
    node_id: u64,
    replica: &Replica<CoordMachine>,
    machine: &Arc<CoordMachine>,
    world: &World,
) -> Task<()> {
    let (mut status, machine) = (replica.status(), Arc::clone(machine));
    world.spawn("leadership log", async move {
        let mut log = Log { node: node_id, machine, leadership: None, leader: None, members: BTreeMap::new() };
        loop {
            let now = status.borrow_and_update().clone();
            log.leadership(&now);
            log.members(&now);
            if status.changed().await.is_err() {
                return;
            }
        }
    })
}

/// What was told last.
struct Log {
    node: u64,
    machine: Arc<CoordMachine>,
    leadership: Option<(palisade_replica::Role, Option<u64>, bool)>,
    /// Who led when somebody did last.
    leader: Option<(u64, u64)>,
    members: BTreeMap<u64, Member>,
}

impl Log {
    fn leadership(&mut self, now: &ReplicaStatus) {
        let leader = now.store_leader.as_ref();
        let (ready, id) = (now.leadership.is_some(), leader.map(|leader| leader.node_id));
        let told = (now.role, id, ready);
        if self.leadership == Some(told) {
            return;
        }
        self.leadership = Some(told);
        if let Some(id) = id
            && self.leader != Some((id, now.term))
        {
            self.leader = Some((id, now.term));
            self.machine.metrics().leader_changes.inc();
        }
        let (node, cluster, role, term) = (self.node, self.cluster(), now.role, now.term);
        let address = leader.map(|leader| leader.address.as_str());
        tracing::info!(node, cluster, %role, term, store_leader = id, address, ready, "store leadership");
    }

    fn members(&mut self, now: &ReplicaStatus) {
        let members: BTreeMap<u64, Member> =
            now.members.iter().map(|member| (member.peer.node_id, member.clone())).collect();
        if members == self.members {
            return;
        }
        let (node, cluster, term) = (self.node, self.cluster(), now.term);
        // What is there when this node looks first is no change.
        let told =
            if self.members.is_empty() { "a member of the cluster" } else { "the members of the cluster change" };
        for change in changes(&self.members, &members) {
            let Change { member, what } = change;
            let (peer, address, store) = (member.peer.node_id, &member.peer.address, member.peer.store_id);
            let store = format!("{store:016x}");
            tracing::info!(node, cluster, term, peer, address, store, change = what, "{told}");
        }
        self.members = members;
    }

    /// Empty before the cluster has its name.
    fn cluster(&self) -> String {
        self.machine.founded().borrow().map(|cluster| cluster.to_string()).unwrap_or_default()
    }
}

/// What became of one member.
#[derive(PartialEq, Eq, Debug)]
struct Change<'a> {
    member: &'a Member,
    what: &'static str,
}

fn changes<'a>(before: &'a BTreeMap<u64, Member>, now: &'a BTreeMap<u64, Member>) -> Vec<Change<'a>> {
    let mut changes = Vec::new();
    for (id, member) in now {
        let what = match before.get(id) {
            None if member.voter => "voter",
            None => "learner",
            Some(old) if !old.voter && member.voter => "promoted",
            Some(old) if old.voter && !member.voter => "demoted",
            Some(old) if old.peer.store_id == 0 && member.peer.store_id != 0 => "joined",
            Some(old) if old != member => "address or store",
            Some(_) => continue,
        };
        changes.push(Change { member, what });
    }
    let gone = before.iter().filter(|(id, _)| !now.contains_key(id));
    changes.extend(gone.map(|(_, member)| Change { member, what: "removed" }));
    changes
}

#[cfg(test)]
mod tests {
    use palisade_replica::Peer;

    use super::*;

    fn members(of: &[(u64, bool)]) -> BTreeMap<u64, Member> {
        let member = |&(id, voter): &(u64, bool)| {
            (id, Member { peer: Peer { node_id: id, address: format!("h:{id}"), store_id: id }, voter })
        };
        of.iter().map(member).collect()
    }

    #[test]
    fn each_step_of_a_membership_change_has_its_word() {
        let told = |before: &[(u64, bool)], now: &[(u64, bool)]| {
            let (before, now) = (members(before), members(now));
            changes(&before, &now).iter().map(|it| (it.member.peer.node_id, it.what)).collect::<Vec<_>>()
        };
        assert_eq!(told(&[], &[(1, true), (2, true)]), [(1, "voter"), (2, "voter")]);
        assert_eq!(told(&[(1, true)], &[(1, true), (2, false)]), [(2, "learner")]);
        assert_eq!(told(&[(1, true), (2, false)], &[(1, true), (2, true)]), [(2, "promoted")]);
        assert_eq!(told(&[(1, true), (2, true)], &[(2, true)]), [(1, "removed")]);
        assert_eq!(told(&[(1, true)], &[(1, true)]), []);
    }
}
