//! A level is known to all: it is raised only when every member runs a program that knows it.

use std::collections::BTreeMap;
use std::time::Duration;

use palisade_coord_core::{Op, Reply};

use super::Invariant;
use super::history::History;
use crate::facts::{Fact, Restoration};

#[derive(Default)]
pub(super) struct LevelsAreKnown {
    history: History,
    /// What the program of each node knows that ever started.
    knows: BTreeMap<usize, u32>,
    /// The last members that anybody has applied, and the entry that made them so.
    members: (u64, Vec<usize>),
}

impl Invariant for LevelsAreKnown {
    fn name(&self) -> &'static str {
        "a-level-is-known-to-all"
    }

    fn restored(&mut self, restoration: &Restoration) {
        self.history.restored(restoration);
        self.members = (0, Vec::new());
    }

    fn on(&mut self, fact: &Fact, _: Duration) -> Result<(), String> {
        match fact {
            Fact::Runs { node, level } => {
                self.knows.insert(*node, *level);
            }
            // Those that formed the cluster are members from entry 0 on.
            Fact::Members { index, members, .. } if *index >= self.members.0 => {
                self.members = (*index, members.iter().map(|member| member.id as usize).collect());
            }
            _ => {}
        }
        let Some(applied) = self.history.next(fact) else { return Ok(()) };
        let (Op::RaiseLevel { level }, Ok(Reply::LevelRaised { before })) =
            (&applied.command.op, &applied.outcome.reply)
        else {
            return Ok(());
        };
        let knows = |node: &&usize| self.knows.get(node).is_some_and(|known| known >= level);
        match self.members.1.iter().find(|node| !knows(node)) {
            Some(node) if level > before => {
                Err(format!("at seq {} the level was raised to {level}, which node {node} does not know", applied.seq))
            }
            Some(_) | None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::history::tests::{applied, fact};
    use super::*;
    use crate::facts::MemberSeen;

    #[test]
    fn it_can_object() {
        let raised = |second: Option<u32>, level| {
            let mut levels = LevelsAreKnown::default();
            let members = [1, 2].map(|id| MemberSeen { id, store: id, votes: true }).into();
            let runs = |node, level: Option<u32>| level.map(|level| Fact::Runs { node, level });
            let told = [Some(Fact::Members { node: 1, index: 0, members }), runs(1, Some(2)), runs(2, second)];
            let raise = applied(1, Op::RaiseLevel { level }, Ok(Reply::LevelRaised { before: 1 }), Vec::new());
            told.into_iter().flatten().chain([fact(raise)]).try_for_each(|fact| levels.on(&fact, Duration::ZERO))
        };
        assert!(raised(Some(2), 2).is_ok());
        assert!(raised(Some(1), 2).is_err());
        assert!(raised(None, 2).is_err(), "it never said");
        assert!(raised(Some(1), 1).is_ok(), "it is at that level");
    }
}
