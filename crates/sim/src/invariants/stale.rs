//! A read that may be stale never goes back: what one node answers to one asker is of a state at or after the one before, for as
//! long as the node lives. That it is a true state is for those who judge the answer.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Invariant;
use crate::facts::Fact;
use crate::plan::{Role, Who};

#[derive(Default)]
pub(super) struct StaleReadsNeverGoBack {
    /// By asker and node: the last `seq`.
    seen: BTreeMap<(Who, usize), u64>,
}

impl Invariant for StaleReadsNeverGoBack {
    fn name(&self) -> &'static str {
        "stale-reads-never-go-back"
    }

    fn on(&mut self, fact: &Fact, _: Duration) -> Result<(), String> {
        let Fact::ReadStale { by, node, seq } = fact else { return Ok(()) };
        match self.seen.insert((*by, *node), *seq) {
            Some(before) if *seq < before => {
                Err(format!("node {node} answered {by} as of {before}, and then of {seq}"))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn gone(&mut self, who: Who) {
        self.seen.retain(|(_, node), _| (Role::Node, *node) != (who.role, who.number));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_can_object() {
        let by = Who { role: Role::Administrator, number: 1 };
        let mut stale = StaleReadsNeverGoBack::default();
        let mut read = |node, seq| stale.on(&Fact::ReadStale { by, node, seq }, Duration::ZERO);
        assert!(read(1, 5).is_ok());
        assert!(read(2, 3).is_ok(), "another node");
        assert!(read(1, 5).is_ok());
        assert!(read(1, 4).is_err());
        stale.gone(Who::node(1));
        assert!(stale.on(&Fact::ReadStale { by, node: 1, seq: 2 }, Duration::ZERO).is_ok(), "it has to begin again");
    }
}
