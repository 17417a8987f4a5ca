//! An id is one node's, for ever: it is bound to one store, once, and whoever was removed never comes back. And one node more or less
//! votes from one membership to the next, so that majorities overlap.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Invariant;
use crate::facts::{Fact, MemberSeen, Restoration};

#[derive(Default)]
pub(super) struct NodeIdsAreUsedOnce {
    /// By index of the entry, as the first node that applied it told.
    memberships: BTreeMap<u64, (usize, Vec<MemberSeen>)>,
}

impl NodeIdsAreUsedOnce {
    fn judge(before: &[MemberSeen], after: &[MemberSeen], highest: u64) -> Result<(), String> {
        let of = |members: &[MemberSeen], id| members.iter().find(|it| it.id == id).copied();
        for member in after {
            match of(before, member.id) {
                None if member.id <= highest => return Err(format!("node id {} was used before", member.id)),
                Some(known) if known.store != 0 && known.store != member.store => {
                    return Err(format!("node {} had store {:x}, and has {:x}", member.id, known.store, member.store));
                }
                Some(_) | None => {}
            }
        }
        let votes = |members: &[MemberSeen], id| of(members, id).is_some_and(|it| it.votes);
        let all = before.iter().chain(after).map(|it| it.id).collect::<std::collections::BTreeSet<_>>();
        let moved: Vec<u64> = all.into_iter().filter(|id| votes(before, *id) != votes(after, *id)).collect();
        if moved.len() > 1 {
            return Err(format!("nodes {moved:?} began or ceased to vote at once"));
        }
        Ok(())
    }
}

impl Invariant for NodeIdsAreUsedOnce {
    fn name(&self) -> &'static str {
        "node-ids-are-used-once"
    }

    fn restored(&mut self, _: &Restoration) {
        // Ids begin anew with a generation.
        self.memberships.clear();
    }

    fn on(&mut self, fact: &Fact, _: Duration) -> Result<(), String> {
        let Fact::Members { node, index, members } = fact else { return Ok(()) };
        if let Some((other, known)) = self.memberships.get(index) {
            return match known == members {
                true => Ok(()),
                false => {
                    Err(format!("nodes {other} and {node} differ on the members at {index}: {known:?}, {members:?}"))
                }
            };
        }
        self.memberships.insert(*index, (*node, members.clone()));
        // A node that applies a snapshot may tell of a later one first, so both neighbours are looked at.
        let highest = self.memberships.range(..index).flat_map(|(_, (_, members))| members).map(|it| it.id).max();
        let before = self.memberships.range(..index).next_back().map(|(_, (_, members))| members);
        let Some(before) = before else { return Ok(()) };
        let told = |why| format!("members at {index}: {why}: {before:?}, then {members:?}");
        NodeIdsAreUsedOnce::judge(before, members, highest.unwrap_or(0)).map_err(told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(members: &[(u64, u64, bool)]) -> Vec<MemberSeen> {
        members.iter().map(|(id, store, votes)| MemberSeen { id: *id, store: *store, votes: *votes }).collect()
    }

    fn objects(memberships: &[&[(u64, u64, bool)]]) -> bool {
        let mut once = NodeIdsAreUsedOnce::default();
        let facts = memberships.iter().enumerate().map(|(index, members)| Fact::Members {
            node: 1,
            index: index as u64,
            members: seen(members),
        });
        facts.into_iter().any(|fact| once.on(&fact, Duration::ZERO).is_err())
    }

    #[test]
    fn it_can_object() {
        const ONE: (u64, u64, bool) = (1, 10, true);
        assert!(!objects(&[&[ONE], &[ONE, (2, 0, false)], &[ONE, (2, 20, false)], &[ONE, (2, 20, true)], &[ONE]]));
        assert!(objects(&[&[ONE, (2, 20, true)], &[ONE], &[ONE, (2, 0, false)]]), "an id came back");
        assert!(objects(&[&[ONE, (2, 20, false)], &[ONE, (2, 21, false)]]), "another store");
        assert!(
            objects(&[&[ONE, (2, 20, false), (3, 30, false)], &[ONE, (2, 20, true), (3, 30, true)]]),
            "two at once"
        );
        let mut once = NodeIdsAreUsedOnce::default();
        let members = |node, members| Fact::Members { node, index: 4, members: seen(members) };
        assert!(once.on(&members(1, &[ONE]), Duration::ZERO).is_ok());
        assert!(once.on(&members(2, &[ONE]), Duration::ZERO).is_ok());
        assert!(once.on(&members(3, &[(1, 11, true)]), Duration::ZERO).is_err(), "nodes differ");
    }
}
