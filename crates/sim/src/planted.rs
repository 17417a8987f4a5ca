//! Deliberately broken variants of the product: each must be caught by an invariant within a budget of seeds, or the simulation
//! proves nothing about it.

use std::cell::Cell;

use palisade_coord_core::planted as core;
use palisade_storage::{Planted, SimDisk};

use crate::{Plan, Report, run_with};

/// Seeds until a planted bug must have been caught.
pub const BUDGET: u64 = 200;

thread_local! {
    /// What is planted under every disk of this thread's run.
    static ON_DISK: Cell<Option<Planted>> = const { Cell::new(None) };
}

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

/// A disk with the bug of this run, if it is one for disks.
pub(crate) fn plant(disk: &SimDisk) {
    if let Some(bug) = ON_DISK.get() {
        disk.plant(bug);
    }
}

impl Bug {
    /// Runs one plan with this bug, which is chosen for the thread of that run and for no other.
    pub fn run(self, plan: &Plan) -> Report {
        match self.place {
            Place::Core(bug) => run_with(plan, move || core::choose(Some(bug))),
            Place::Disk(bug) => run_with(plan, move || ON_DISK.set(Some(bug))),
        }
    }

    /// Runs seeds from 1 on until one catches it.
    pub fn hunt(self) -> Verdict {
        for seed in 1..=BUDGET {
            let report = self.run(&Plan::draw(seed));
            if report.violation.is_some() {
                return Verdict { bug: self, seeds: seed, caught: Some(report) };
            }
        }
        Verdict { bug: self, seeds: BUDGET, caught: None }
    }
}
