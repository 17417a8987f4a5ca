//! Deliberately broken variants of the store: each must be caught by an invariant within a budget of seeds, or the simulation
//! proves nothing about it.

use palisade_coord_core::planted as core;
use palisade_storage::Planted;

use crate::{Plan, Report, run_with};

/// Seeds until a planted bug must have been caught.
pub const BUDGET: u64 = 200;

/// Where a bug is planted.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// In the state machine of every node.
    Core(core::Bug),
    /// Under every node's log.
    Disk(Planted),
}

/// A bug that can be planted into every node.
#[derive(Clone, Copy, Debug)]
pub struct Bug {
    /// What it is called on the command line and in the table.
    pub name: &'static str,
    place: Place,
}

/// What became of a bug.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The bug.
    pub bug: Bug,
    /// Seeds that were run.
    pub seeds: u64,
    /// Of the seed that caught it.
    pub caught: Option<Report>,
}

/// Every bug.
pub fn all() -> Vec<Bug> {
    let in_core = core::ALL.into_iter().map(|(name, bug)| Bug { name, place: Place::Core(bug) });
    let on_disk = ["ack-before-sync", "forget-vote"]
        .into_iter()
        .map(|name| Bug { name, place: Place::Disk(Planted::from_name(name).expect("the name is one of storage's")) });
    in_core.chain(on_disk).collect()
}

impl Bug {
    /// Runs one seed with this bug, which is chosen for the thread of that run and for no other.
    pub fn run(self, seed: u64) -> Report {
        let plan = Plan::draw(seed);
        match self.place {
            Place::Core(bug) => run_with(&plan, move |_| core::choose(Some(bug))),
            Place::Disk(bug) => run_with(&plan, move |disks| disks.iter().for_each(|disk| disk.plant(bug))),
        }
    }

    /// Runs seeds from 1 on until one catches it.
    pub fn hunt(self) -> Verdict {
        for seed in 1..=BUDGET {
            let report = self.run(seed);
            if report.violation.is_some() {
                return Verdict { bug: self, seeds: seed, caught: Some(report) };
            }
        }
        Verdict { bug: self, seeds: BUDGET, caught: None }
    }
}
