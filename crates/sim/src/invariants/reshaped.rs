//! What an operator is told of the members is so, and stays: a node whose removal was answered is no member at that entry or after it,
//! one that was promoted votes there, one that was added is there.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Invariant;
use crate::facts::{Fact, MemberSeen, Reshaped, Restoration};

#[derive(Default)]
pub(super) struct OperatorsAreToldTheTruth {
    memberships: BTreeMap<u64, Vec<MemberSeen>>,
    /// Removed at the latest by this entry.
    removed: BTreeMap<u64, u64>,
    /// Told before any node has applied that entry: not yet judged.
    told: BTreeSet<(u64, u64, bool)>,
}

impl OperatorsAreToldTheTruth {
    fn judge(&mut self, index: u64, id: u64, votes: bool) -> Result<(), String> {
        let Some(members) = self.memberships.get(&index) else {
            self.told.insert((index, id, votes));
            return Ok(());
        };
        match members.iter().find(|member| member.id == id) {
            Some(member) if member.votes || !votes => Ok(()),
            Some(_) => Err(format!("node {id} was promoted, as was said, and does not vote at {index}")),
            None => Err(format!("node {id} is a member, as was said, and is none at {index}: {members:?}")),
        }
    }
}

impl Invariant for OperatorsAreToldTheTruth {
    fn name(&self) -> &'static str {
        "operators-are-told-the-truth"
    }

    fn restored(&mut self, _: &Restoration) {
        *self = OperatorsAreToldTheTruth::default();
    }

    fn on(&mut self, fact: &Fact, _: Duration) -> Result<(), String> {
        match fact {
            Fact::Reshaped { what: Reshaped::Removed(id), index } => {
                let since = self.removed.entry(*id).or_insert(*index);
                *since = (*since).min(*index);
                let still = self.memberships.range(index..).find(|(_, members)| members.iter().any(|it| it.id == *id));
                match still {
                    Some((at, _)) => {
                        Err(format!("node {id} was removed by {index}, as was said, and is a member at {at}"))
                    }
                    None => Ok(()),
                }
            }
            Fact::Reshaped { what: Reshaped::Promoted(id), index } => self.judge(*index, *id, true),
            Fact::Reshaped { what: Reshaped::Added(id), index } => self.judge(*index, *id, false),
            Fact::Members { index, members, .. } => {
                if self.memberships.insert(*index, members.clone()).is_some() {
                    return Ok(());
                }
                let back = |member: &&MemberSeen| self.removed.get(&member.id).is_some_and(|since| since <= index);
                if let Some(member) = members.iter().find(back) {
                    return Err(format!("node {} was removed, as was said, and is a member at {index}", member.id));
                }
                let told: Vec<_> = self.told.iter().copied().filter(|(at, ..)| at == index).collect();
                told.into_iter().try_for_each(|(at, id, votes)| self.judge(at, id, votes))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(index: u64, ids: &[u64]) -> Fact {
        let member = |id: &u64| MemberSeen { id: *id, store: *id, votes: *id < 9 };
        Fact::Members { node: 1, index, members: ids.iter().map(member).collect() }
    }

    fn objects(facts: &[Fact]) -> bool {
        let mut truth = OperatorsAreToldTheTruth::default();
        facts.iter().any(|fact| truth.on(fact, Duration::ZERO).is_err())
    }

    #[test]
    fn it_can_object() {
        let removed = |index| Fact::Reshaped { what: Reshaped::Removed(2), index };
        assert!(!objects(&[members(1, &[1, 2]), members(2, &[1]), removed(2)]));
        assert!(objects(&[members(1, &[1, 2]), removed(1)]), "it was there all the while");
        assert!(objects(&[members(1, &[1, 2]), removed(3), members(4, &[1, 2])]), "it came back");
        let promoted = |id, index| Fact::Reshaped { what: Reshaped::Promoted(id), index };
        assert!(!objects(&[promoted(2, 1), members(1, &[1, 2])]));
        assert!(objects(&[promoted(9, 1), members(1, &[1, 9])]), "it does not vote");
        assert!(objects(&[members(1, &[1]), Fact::Reshaped { what: Reshaped::Added(2), index: 1 }]));
    }
}
