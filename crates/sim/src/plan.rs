//! What a seed decides before anything runs: parameters of the network and the disks, and the list of faults with their times.
//! Pure: the same seed gives the same plan.

use std::fmt;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

/// Nodes of the simulated cluster, numbered from 1.
pub const NODES: usize = 3;
/// Candidates of the simulated election, numbered from 1.
pub const CANDIDATES: usize = 2;

/// One thing that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A node's process ends; what it had not synced may be lost. It comes back after the given time.
    CrashNode {
        /// The node.
        node: usize,
        /// How long it stays away.
        down_ms: u64,
    },
    /// All nodes end at once and come back.
    CrashAll {
        /// How long they stay away.
        down_ms: u64,
    },
    /// A node is cut off from the other nodes and from everybody else.
    CutOff {
        /// The node.
        node: usize,
        /// For how long.
        for_ms: u64,
    },
    /// One direction of one link between two nodes is cut.
    OneWay {
        /// From this node nothing arrives.
        from: usize,
        /// At this one.
        to: usize,
        /// For how long.
        for_ms: u64,
    },
    /// A candidate's process ends and comes back as a new one.
    CrashCandidate {
        /// The candidate.
        candidate: usize,
        /// How long it stays away.
        down_ms: u64,
    },
    /// A candidate is cut off from all nodes.
    CutOffCandidate {
        /// The candidate.
        candidate: usize,
        /// For how long.
        for_ms: u64,
    },
}

impl Fault {
    /// The kind, for coverage.
    pub fn kind(self) -> &'static str {
        match self {
            Fault::CrashNode { .. } => "crash-node",
            Fault::CrashAll { .. } => "crash-all",
            Fault::CutOff { .. } => "cut-off",
            Fault::OneWay { .. } => "one-way",
            Fault::CrashCandidate { .. } => "crash-candidate",
            Fault::CutOffCandidate { .. } => "cut-off-candidate",
        }
    }

    /// How long it lasts.
    pub fn lasts(self) -> Duration {
        let (Fault::CrashNode { down_ms: ms, .. }
        | Fault::CrashAll { down_ms: ms }
        | Fault::CutOff { for_ms: ms, .. }
        | Fault::OneWay { for_ms: ms, .. }
        | Fault::CrashCandidate { down_ms: ms, .. }
        | Fault::CutOffCandidate { for_ms: ms, .. }) = self;
        Duration::from_millis(ms)
    }
}

/// Everything that a seed decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// Latency of a message is between these two.
    pub latency: (Duration, Duration),
    /// A disk syncs what it has once in this time.
    pub sync_every: Duration,
    /// How long faults go on.
    pub faults_for: Duration,
    /// The faults, by time.
    pub faults: Vec<(Duration, Fault)>,
    /// A snapshot is taken after this many entries.
    pub snapshot_every: u64,
}

impl Plan {
    /// Draws a plan. Quiet and wild seeds both occur: the number of faults is itself drawn.
    pub fn draw(seed: u64) -> Plan {
        let mut rng = SmallRng::seed_from_u64(seed);
        let least = Duration::from_micros(rng.random_range(200..2_000));
        let most = least + Duration::from_micros(rng.random_range(500..10_000));
        let faults_for = Duration::from_millis(rng.random_range(8_000..20_000));
        let count = rng.random_range(1..10);
        let mut faults: Vec<_> = (0..count)
            .map(|_| {
                // The first second is left alone, so that there is something to break.
                let at = rng.random_range(1_500..faults_for.as_millis() as u64);
                (Duration::from_millis(at), draw_fault(&mut rng))
            })
            .collect();
        faults.sort_by_key(|(at, _)| *at);
        Plan {
            seed,
            latency: (least, most),
            // One disk in three is slow: what is acknowledged before it is synced is then easily lost.
            sync_every: match rng.random_range(0..3) {
                0 => Duration::from_micros(rng.random_range(6_000..30_000)),
                _ => Duration::from_micros(rng.random_range(500..6_000)),
            },
            faults_for,
            faults,
            snapshot_every: rng.random_range(20..400),
        }
    }
}

fn draw_fault(rng: &mut SmallRng) -> Fault {
    let node = rng.random_range(1..=NODES);
    let candidate = rng.random_range(1..=CANDIDATES);
    let ms = rng.random_range(50..4_000);
    match rng.random_range(0..10) {
        0..=2 => Fault::CrashNode { node, down_ms: ms },
        3 => Fault::CrashAll { down_ms: ms },
        4 | 5 => Fault::CutOff { node, for_ms: ms },
        6 => Fault::OneWay { from: node, to: node % NODES + 1, for_ms: ms },
        7 | 8 => Fault::CrashCandidate { candidate, down_ms: ms },
        _ => Fault::CutOffCandidate { candidate, for_ms: ms },
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "seed {}: latency {:?} to {:?}, sync every {:?}, faults for {:?}, snapshot every {} entries",
            self.seed, self.latency.0, self.latency.1, self.sync_every, self.faults_for, self.snapshot_every
        )?;
        for (at, fault) in &self.faults {
            writeln!(f, "  {at:>9.3?} {fault:?}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_decides_everything() {
        assert_eq!(Plan::draw(7), Plan::draw(7));
        assert_ne!(Plan::draw(7).faults, Plan::draw(8).faults);
    }

    #[test]
    fn every_kind_of_fault_is_drawn() {
        let mut kinds: Vec<_> =
            (0..50).flat_map(|seed| Plan::draw(seed).faults).map(|(_, fault)| fault.kind()).collect();
        kinds.sort_unstable();
        kinds.dedup();
        assert_eq!(kinds.len(), 6);
    }
}
