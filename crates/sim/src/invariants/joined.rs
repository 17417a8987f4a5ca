//! A node takes part only when the members name its store: one that was added and has not said which store it has applies nothing,
//! leads nobody and does not vote.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Invariant;
use crate::facts::{Fact, Restoration};

#[derive(Default)]
pub(super) struct OnlyWhoHasJoinedTakesPart {
    /// Ids that a membership has bound to a store.
    bound: BTreeSet<u64>,
}

impl Invariant for OnlyWhoHasJoinedTakesPart {
    fn name(&self) -> &'static str {
        "only-who-has-joined-takes-part"
    }

    fn restored(&mut self, _: &Restoration) {
        self.bound.clear();
    }

    fn on(&mut self, fact: &Fact, _: Duration) -> Result<(), String> {
        let node = match fact {
            Fact::Members { index, members, .. } => {
                self.bound.extend(members.iter().filter(|member| member.store != 0).map(|member| member.id));
                return match members.iter().find(|member| member.votes && member.store == 0) {
                    Some(member) => Err(format!("node {} votes from {index} on and has not joined", member.id)),
                    None => Ok(()),
                };
            }
            Fact::Applied(applied) => applied.node as u64,
            Fact::Restored { node, .. } => *node as u64,
            Fact::LeadsStore { node, .. } => *node,
            _ => return Ok(()),
        };
        match self.bound.is_empty() || self.bound.contains(&node) {
            true => Ok(()),
            false => Err(format!("node {node} has not joined and takes part: {fact:?}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::history::tests::{fact, put};
    use super::*;
    use crate::facts::{Applied, MemberSeen};

    #[test]
    fn it_can_object() {
        let mut joined = OnlyWhoHasJoinedTakesPart::default();
        let members = |index, members: &[(u64, u64, bool)]| Fact::Members {
            node: 1,
            index,
            members: members
                .iter()
                .map(|(id, store, votes)| MemberSeen { id: *id, store: *store, votes: *votes })
                .collect(),
        };
        let mut sees = |fact: &Fact| joined.on(fact, Duration::ZERO);
        assert!(sees(&members(1, &[(1, 10, true), (2, 0, false)])).is_ok());
        assert!(sees(&fact(put(1, "a"))).is_ok());
        assert!(sees(&fact(Applied { node: 2, ..put(1, "a") })).is_err(), "node 2 has not joined");
        assert!(sees(&members(2, &[(1, 10, true), (2, 20, false)])).is_ok());
        assert!(sees(&fact(Applied { node: 2, ..put(1, "a") })).is_ok());
        assert!(sees(&members(3, &[(1, 10, true), (2, 20, false), (3, 0, true)])).is_err(), "node 3 votes");
    }
}
