//! What can be run. One scenario per file: which processes, which clients, which faults.

mod all_faults;
mod append_pauses;
mod blackout;
mod cas_partitions;
mod clocks;
mod containers;
mod deposed_and_killed;
mod election;
mod election_clocks;
mod fast_clock;
mod five_nodes;
mod full_disk;
mod isolate_holder;
mod job;
mod job_stale_calls;
mod kill_all;
mod kill_both;
mod kill_holder;
mod kill_new_holder;
mod kill_store_leader;
mod membership;
mod mutual_exclusion;
mod one_way;
mod pause_holder;
mod pause_store_leader;
mod power_cut;
mod rolling_restart;
mod rpc_restarts;
mod sessions;
mod slow_disk;
mod slow_links;
mod stale_messages;
mod term_leaders;
mod thousand_kills;
mod unfenced;
mod watch;

use std::time::Duration;

use crate::nemeses::Nemesis;
use crate::run::{ELECTION, JOBMANAGERS};
use crate::session::Terms;
use crate::targets::{DiskKind, Shape, Target};
use crate::workloads::Workload;

/// What is run, and what goes wrong.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    pub(crate) shape: Shape,
    pub(crate) workloads: &'static [Workload],
    /// Candidates that are processes, and the sessions that they open.
    pub(crate) candidates: usize,
    pub(crate) terms: Terms,
    /// Faults that are played one after the other, drawn.
    pub(crate) nemeses: &'static [Nemesis],
    /// Others that are played beside them.
    pub(crate) beside: &'static [Nemesis],
    /// So many of each instead of for a time.
    pub(crate) counts: &'static [(Nemesis, usize)],
    /// The nodes have disks of their own.
    pub(crate) disks: Option<DiskKind>,
    /// What else must have happened: the kind of an operation, the type of its end, and of which error; at least so often.
    pub(crate) expects: &'static [(&'static str, &'static str, Option<&'static str>, usize)],
    /// It is unsafe on purpose: a run of it that passes has not seen anything.
    pub(crate) must_fail: bool,
}

/// Holders that fence: followed as soon as their connection breaks.
pub(crate) const FENCING: Terms = Terms { ttl: Duration::from_secs(2), release_after: Some(Duration::ZERO) };
/// Holders that trust their clocks, with a short TTL.
pub(crate) const KEEPING: Terms = Terms { ttl: Duration::from_millis(1000), release_after: None };
/// The store alone.
pub(crate) const STORE: Shape = Shape { nodes: 3, jobmanagers: 0, taskexecutors: 0 };
/// Five nodes: some mistakes need as many.
pub(crate) const FIVE: Shape = Shape { nodes: 5, jobmanagers: 0, taskexecutors: 0 };
/// The store, JobManagers, TaskExecutors: as many as docker-compose.yml has.
pub(crate) const RUNTIME: Shape = crate::targets::COMPOSE_SHAPE;

/// What most scenarios have in common: fenced registers, and nothing that goes wrong.
pub(crate) const BASE: Scenario = Scenario {
    name: "",
    what: "",
    shape: STORE,
    workloads: &[Workload::Register],
    candidates: 3,
    terms: FENCING,
    nemeses: &[],
    beside: &[],
    counts: &[],
    disks: None,
    expects: &[],
    must_fail: false,
};

/// All scenarios.
pub(crate) const ALL: &[Scenario] = &[
    kill_holder::SCENARIO,
    kill_store_leader::SCENARIO,
    kill_both::SCENARIO,
    kill_new_holder::SCENARIO,
    kill_all::SCENARIO,
    deposed_and_killed::SCENARIO,
    term_leaders::SCENARIO,
    pause_holder::SCENARIO,
    pause_store_leader::SCENARIO,
    isolate_holder::SCENARIO,
    stale_messages::SCENARIO,
    election::SCENARIO,
    election_clocks::SCENARIO,
    mutual_exclusion::SCENARIO,
    cas_partitions::SCENARIO,
    append_pauses::SCENARIO,
    one_way::SCENARIO,
    five_nodes::SCENARIO,
    slow_links::SCENARIO,
    sessions::SCENARIO,
    watch::SCENARIO,
    rpc_restarts::SCENARIO,
    job::SCENARIO,
    job_stale_calls::SCENARIO,
    rolling_restart::SCENARIO,
    membership::SCENARIO,
    clocks::SCENARIO,
    fast_clock::SCENARIO,
    slow_disk::SCENARIO,
    full_disk::SCENARIO,
    power_cut::SCENARIO,
    blackout::SCENARIO,
    containers::SCENARIO,
    all_faults::SCENARIO,
    thousand_kills::SCENARIO,
    unfenced::SCENARIO,
];

impl Scenario {
    pub(crate) fn find(name: &str) -> Option<Scenario> {
        ALL.iter().find(|known| known.name == name).copied()
    }

    /// The election whose holder the faults hit.
    pub(crate) fn election(&self) -> &'static str {
        let processes = self.workloads.iter().any(|workload| workload.has_processes());
        if !processes && self.shape.jobmanagers > 0 { JOBMANAGERS } else { ELECTION }
    }

    /// Every fault that it plays.
    pub(crate) fn all_nemeses(&self) -> impl Iterator<Item = Nemesis> + '_ {
        let counted = self.counts.iter().map(|(nemesis, _)| *nemesis);
        self.nemeses.iter().chain(self.beside).copied().chain(counted)
    }

    /// Why it cannot be run there, if it surely cannot.
    pub(crate) fn refused(&self, target: Target) -> Option<String> {
        if let Some(why) = self.all_nemeses().find_map(|nemesis| nemesis.refused(target)) {
            return Some(why);
        }
        match target {
            Target::Namespaces if self.shape.jobmanagers + self.shape.taskexecutors > 0 => Some(format!(
                "{} needs JobManagers and TaskExecutors, and the target namespaces has store nodes only",
                self.name
            )),
            Target::Compose if self.shape.nodes != RUNTIME.nodes => Some(format!(
                "{} needs {} nodes, and docker-compose.yml has {}",
                self.name, self.shape.nodes, RUNTIME.nodes
            )),
            Target::Compose if self.workloads.contains(&Workload::Runners) => {
                Some(format!("{} needs its children on this machine; it runs at local and namespaces", self.name))
            }
            _ => None,
        }
    }

    /// Where it can be run at all.
    pub(crate) fn targets(&self) -> Vec<&'static str> {
        Target::ALL.iter().filter(|target| self.refused(**target).is_none()).map(|target| target.name()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_every_scenario_does_something() {
        for (at, scenario) in ALL.iter().enumerate() {
            assert!(ALL[at + 1..].iter().all(|other| other.name != scenario.name), "{}", scenario.name);
            assert!(!scenario.what.is_empty() && !scenario.workloads.is_empty(), "{}", scenario.name);
            assert!(scenario.all_nemeses().next().is_some(), "{}: nothing goes wrong", scenario.name);
            assert!(
                scenario.workloads.iter().filter(|workload| workload.has_processes()).count() <= 1,
                "{}",
                scenario.name
            );
        }
    }

    #[test]
    fn every_nemesis_is_in_a_scenario() {
        for nemesis in Nemesis::ALL {
            assert!(
                ALL.iter().any(|scenario| scenario.all_nemeses().any(|played| played == *nemesis)),
                "{} is in no scenario",
                nemesis.name()
            );
        }
    }
}
