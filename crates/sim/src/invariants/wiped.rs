//! A node that lost its store does not count: whoever comes back under its id with an empty disk applies nothing and leads nobody.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Invariant;
use crate::facts::{Fact, Restoration};
use crate::plan::Fault;

#[derive(Default)]
pub(super) struct WipedNodesDoNotCount {
    wiped: BTreeSet<usize>,
}

impl Invariant for WipedNodesDoNotCount {
    fn name(&self) -> &'static str {
        "wiped-nodes-do-not-count"
    }

    fn restored(&mut self, _: &Restoration) {
        // Every node has got a new disk.
        self.wiped.clear();
    }

    fn on(&mut self, fact: &Fact, _: Duration) -> Result<(), String> {
        let node = match fact {
            Fact::Applied(applied) => applied.node,
            Fact::Restored { node, .. } => *node,
            Fact::LeadsStore { node, .. } => usize::try_from(*node).unwrap_or(usize::MAX),
            _ => return Ok(()),
        };
        if self.wiped.contains(&node) {
            return Err(format!("node {node} has lost its store and takes part: {fact:?}"));
        }
        Ok(())
    }

    fn fault(&mut self, fault: &Fault, begins: bool, _: Duration) {
        if let Fault::Wipe(node) = fault
            && begins
        {
            self.wiped.insert(*node);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::history::tests::{fact, put};
    use super::*;

    #[test]
    fn it_can_object() {
        let mut wiped = WipedNodesDoNotCount::default();
        assert!(wiped.on(&fact(put(1, "a")), Duration::ZERO).is_ok());
        wiped.fault(&Fault::Wipe(2), true, Duration::ZERO);
        assert!(wiped.on(&fact(put(2, "b")), Duration::ZERO).is_ok(), "another node");
        wiped.fault(&Fault::Wipe(1), true, Duration::ZERO);
        assert!(wiped.on(&fact(put(3, "c")), Duration::ZERO).is_err());
    }
}
