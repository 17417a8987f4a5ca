//! Nodes that are a majority and hear each other serve, whatever one of them hears beside that: a store leader that only one of them
//! still hears must not keep the others from electing another (openraft #2080).

use std::collections::BTreeSet;
use std::time::Duration;

use super::Invariant;
use crate::facts::{Ended, Fact, Restoration};
use crate::phase::Phase;
use crate::plan::{Cut, Fault, Pattern, Plan, Role, Who};

/// A write must have been acknowledged within this time: longer than an election, and than a client holds on to who led.
const WITHIN: Duration = Duration::from_secs(4);

pub(super) struct AMajorityThatHearsItselfServes {
    /// How many nodes there are; 0: this run is not judged.
    nodes: usize,
    in_force: Vec<Fault>,
    /// When that changed last.
    since: Duration,
    /// Nodes that lost their store.
    lost: BTreeSet<usize>,
    written: Duration,
    rest: bool,
}

impl AMajorityThatHearsItselfServes {
    pub(super) fn new(plan: &Plan) -> AMajorityThatHearsItselfServes {
        let judged = plan.count(Role::Writer) > 0 && plan.count(Role::Operator) == 0 && plan.behind.is_empty();
        AMajorityThatHearsItselfServes {
            nodes: if judged { plan.count(Role::Node) } else { 0 },
            in_force: Vec::new(),
            since: Duration::ZERO,
            lost: BTreeSet::new(),
            written: Duration::ZERO,
            rest: false,
        }
    }

    /// Whether, with nothing else wrong, one node hears only one other and the rest are a majority.
    fn must_serve(&self) -> bool {
        let (mut away, mut partial) = (self.lost.clone(), false);
        for fault in &self.in_force {
            match fault {
                Fault::Crash(Who { role: Role::Node, number }) => {
                    away.insert(*number);
                }
                Fault::Cut(Pattern::Only(one, _), Cut::Drop) => {
                    partial = true;
                    away.insert(*one);
                }
                Fault::ClockRate(..) | Fault::ClockJump(..) => {}
                _ => return false,
            }
        }
        partial && !self.rest && (self.nodes - away.len().min(self.nodes)) * 2 > self.nodes
    }
}

impl Invariant for AMajorityThatHearsItselfServes {
    fn name(&self) -> &'static str {
        "a-majority-that-hears-itself-serves"
    }

    fn restored(&mut self, _: &Restoration) {
        self.lost.clear();
    }

    fn on(&mut self, fact: &Fact, at: Duration) -> Result<(), String> {
        if let Fact::WriteEnded { ended: Ended::Applied { .. }, .. } = fact {
            self.written = at;
        }
        Ok(())
    }

    fn tick(&mut self, at: Duration) -> Result<(), String> {
        if self.nodes > 0 && self.must_serve() && at > self.since.max(self.written) + WITHIN {
            return Err(format!(
                "no write was acknowledged for {WITHIN:?} although a majority hears itself: {:?}",
                self.in_force
            ));
        }
        Ok(())
    }

    fn fault(&mut self, fault: &Fault, begins: bool, at: Duration) {
        if let Fault::Wipe(node) = fault {
            self.lost.insert(*node);
        }
        match begins {
            true => self.in_force.push(fault.clone()),
            false => {
                if let Some(ended) = self.in_force.iter().position(|it| it == fault) {
                    self.in_force.remove(ended);
                }
            }
        }
        self.since = at;
    }

    fn phase(&mut self, phase: Phase, _: Duration) {
        self.rest |= phase == Phase::Rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_can_object() {
        let at = Duration::from_secs;
        let only = Fault::Cut(Pattern::Only(1, 2), Cut::Drop);
        let down = Fault::Crash(Who::node(5));
        let plan: Plan = "cast node 5 writer 1".parse().expect("a plan");
        let mut majority = AMajorityThatHearsItselfServes::new(&plan);
        majority.fault(&only, true, at(1));
        majority.fault(&down, true, at(1));
        assert!(majority.tick(at(5)).is_ok());
        assert!(majority.tick(at(6)).is_err(), "nothing was written");
        majority.fault(&Fault::Crash(Who::node(4)), true, at(6));
        assert!(majority.tick(at(99)).is_ok(), "two of five are no majority");
        majority.fault(&Fault::Crash(Who::node(4)), false, at(99));
        assert!(majority.tick(at(100)).is_ok() && majority.tick(at(104)).is_err());
        majority.fault(&only, false, at(104));
        assert!(majority.tick(at(200)).is_ok(), "nobody is in that place any more");
    }
}
