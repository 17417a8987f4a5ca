//! What a seed decides before anything runs: who takes part, parameters of network, disks and clocks, and the list of faults
//! with their times. Pure: the same seed gives the same plan. A plan is also a text (`text`): a plan that found something is
//! kept as a file and goes on meaning the same when the drawing changes.

mod draw;
mod fault;
mod text;
mod who;

use std::collections::BTreeMap;
use std::time::Duration;

pub use fault::{Cut, Fault, Pattern, Saved};
pub use text::ParseError;
pub use who::{Role, Who};

/// Everything that is decided before a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Seeds everything that is random during the run.
    pub seed: u64,
    /// How many of each role take part; numbered from 1.
    pub cast: BTreeMap<Role, usize>,
    /// So many of the nodes form the cluster, the first ones. The others are spare: they join when they are added.
    pub founders: usize,
    /// Who reaches the store through one node only, and through which. Everybody else reaches all nodes.
    pub behind: BTreeMap<Who, usize>,
    /// Latency of a message is between these two.
    pub latency: (Duration, Duration),
    /// A disk syncs what it has once in this time.
    pub sync_every: Duration,
    /// A snapshot is taken after this many log entries.
    pub snapshot_every: u64,
    /// How long faults go on.
    pub faults_for: Duration,
    /// The faults, by time.
    pub faults: Vec<Planned>,
}

/// A fault with its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// When it begins.
    pub at: Duration,
    /// How long it lasts; what happens at its end is part of the fault.
    pub lasts: Duration,
    /// What goes wrong.
    pub fault: Fault,
}

impl Plan {
    /// How many of a role take part.
    pub fn count(&self, role: Role) -> usize {
        self.cast.get(&role).copied().unwrap_or(0)
    }

    /// The nodes that form the cluster.
    pub fn founders(&self) -> impl Iterator<Item = Who> + use<> {
        (1..=self.founders).map(Who::node)
    }

    /// Everybody who takes part, nodes first.
    pub fn everybody(&self) -> impl Iterator<Item = Who> + '_ {
        self.cast.iter().flat_map(|(role, count)| (1..=*count).map(|number| Who { role: *role, number }))
    }

    /// All of a role.
    pub fn all(&self, role: Role) -> impl Iterator<Item = Who> + use<> {
        (1..=self.count(role)).map(move |number| Who { role, number })
    }
}
