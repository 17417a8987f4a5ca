//! Carries out the faults of a plan and puts right again what it broke.

mod links;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use palisade_coord_core::State;
use palisade_server::backup::Backup;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use turmoil::Sim;

use crate::facts::{Place, Restoration};
use crate::hosts::{Cast, Stage};
use crate::plan::{Fault, Planned, Role, Saved, Who};
use crate::witness::Counts;
use crate::world::clock::EPOCH_UNIX_MS;
use links::Links;

/// A slow disk takes this many times as long.
const SLOWER: u32 = 20;

/// The faults that are in force.
pub(crate) struct Nemesis {
    stage: Stage,
    cast: Cast,
    links: Links,
    in_force: Vec<InForce>,
    happened: Counts,
    rng: SmallRng,
}

struct InForce {
    until: Duration,
    /// Names its cuts.
    id: u64,
    fault: Fault,
}

impl Nemesis {
    pub(crate) fn new(stage: &Stage, cast: Cast) -> Nemesis {
        Nemesis {
            stage: stage.clone(),
            links: Links::new(stage.plan.everybody().collect(), stage.plan.latency),
            cast,
            in_force: Vec::new(),
            happened: Counts::new(),
            rng: SmallRng::seed_from_u64(stage.plan.seed ^ 0x5eed),
        }
    }

    /// How often which kind of fault happened.
    pub(crate) fn happened(&self) -> &Counts {
        &self.happened
    }

    /// Whether everything is as it should be.
    pub(crate) fn is_idle(&self) -> bool {
        self.in_force.is_empty()
    }

    /// Begins a fault. One that finds nothing to break (a process that is down cannot crash) does not happen.
    pub(crate) fn begin(&mut self, sim: &mut Sim<'_>, planned: &Planned) {
        let now = sim.elapsed();
        let id = self.rng.random();
        if self.is_restoring() || !self.inflict(sim, id, &planned.fault, now) {
            return;
        }
        let fault = planned.fault.clone();
        *self.happened.entry(fault.kind()).or_default() += 1;
        self.stage.witness.fault(&fault, true, now);
        self.in_force.push(InForce { until: now + planned.lasts, id, fault });
    }

    /// Ends the faults whose time is over.
    pub(crate) fn end_due(&mut self, sim: &mut Sim<'_>) {
        let now = sim.elapsed();
        let (due, rest) = std::mem::take(&mut self.in_force).into_iter().partition(|fault| fault.until <= now);
        self.in_force = rest;
        self.end(sim, due, now);
    }

    /// Ends all faults, and starts what is down.
    pub(crate) fn heal(&mut self, sim: &mut Sim<'_>) {
        let now = sim.elapsed();
        let all = std::mem::take(&mut self.in_force);
        self.end(sim, all, now);
        for who in self.stage.plan.all(Role::Node) {
            // Whoever was removed has nothing to come back to.
            if !self.cast.nodes[&who.number].was_removed() {
                self.start(sim, who);
            }
        }
    }

    /// Starts the nodes that have stopped only now, because of something whose time is over. One that lost its store is gone for
    /// good.
    pub(crate) fn keep_up(&mut self, sim: &mut Sim<'_>) {
        for who in self.stage.plan.all(Role::Node) {
            let node = &self.cast.nodes[&who.number];
            let named = self.in_force.iter().any(|fault| fault.fault.names().contains(&who));
            let broken = named || self.is_restoring();
            if node.has_ended() && !node.is_gone() && !broken {
                self.start(sim, who);
            }
        }
    }

    fn end(&mut self, sim: &mut Sim<'_>, faults: Vec<InForce>, now: Duration) {
        for InForce { id, fault, .. } in faults {
            self.undo(sim, id, &fault);
            self.stage.witness.fault(&fault, false, now);
        }
    }

    fn inflict(&mut self, sim: &mut Sim<'_>, id: u64, fault: &Fault, now: Duration) -> bool {
        match fault {
            Fault::Crash(who) => self.crash(sim, *who, now),
            Fault::CrashAll => {
                let nodes: Vec<_> = self.stage.plan.all(Role::Node).collect();
                nodes.into_iter().filter(|who| self.crash(sim, *who, now)).count() > 0
            }
            Fault::Restart(node) => self.if_up(sim, *node, |nemesis, _| nemesis.cast.nodes[node].stop()),
            Fault::Upgrade(node) => self.if_up(sim, *node, |nemesis, _| {
                nemesis.cast.nodes[node].upgrade();
                nemesis.cast.nodes[node].stop();
            }),
            Fault::Pause(who) => {
                let up = self.is_up(sim, *who);
                if up {
                    self.cast.machines[who].gate.close();
                }
                up
            }
            Fault::Cut(pattern, cut) => self.links.cut(sim, id, pattern, *cut),
            Fault::Lag(pattern, lag) => self.links.lag(sim, id, pattern, *lag),
            Fault::SlowDisk(node) => self.if_up(sim, *node, |nemesis, _| {
                nemesis.cast.nodes[node].sync_every(nemesis.stage.plan.sync_every * SLOWER);
            }),
            Fault::FailSync(node) => self.if_up(sim, *node, |nemesis, _| {
                nemesis.cast.nodes[node].disk_breaks();
                nemesis.cast.nodes[node].disk().fail_next_sync();
            }),
            Fault::FillDisk(node) => self.if_up(sim, *node, |nemesis, _| {
                nemesis.cast.nodes[node].disk_breaks();
                nemesis.cast.nodes[node].disk().fill();
            }),
            Fault::LowDisk(node) => self.if_up(sim, *node, |nemesis, _| nemesis.cast.nodes[node].disk().run_low()),
            Fault::FillFiles(who) => {
                self.stage.files.fill(*who);
                true
            }
            // Of before a restore there is one disk, which is put away again.
            Fault::Wipe(node) if self.cast.nodes[node].is_outlived() => false,
            Fault::Wipe(node) => {
                self.crash(sim, Who::node(*node), now);
                self.cast.nodes[node].wipe(&self.stage.plan, *node);
                true
            }
            Fault::ClockRate(who, ppm) => {
                self.cast.machines[who].clock.set_rate(now, *ppm);
                true
            }
            Fault::ClockJump(who, ms) => {
                self.cast.machines[who].clock.jump(*ms);
                true
            }
            // Nobody is asked if nobody leads, or if that node leads already.
            Fault::TransferStoreLeader(to) => {
                let others: Vec<usize> = self.cast.nodes.keys().copied().filter(|node| node != to).collect();
                let leads = |node: &usize| self.is_up(sim, Who::node(*node)) && self.cast.nodes[node].leads();
                let leaders: Vec<usize> = others.into_iter().filter(leads).collect();
                leaders.iter().for_each(|node| self.cast.nodes[node].hand_over_to(*to));
                !leaders.is_empty()
            }
            Fault::Restore(saved) => {
                if self.backup(*saved).is_none() {
                    return false;
                }
                // Whoever restores a cluster sees to it first that it can work; and everybody hears what the old one still says.
                let others = std::mem::take(&mut self.in_force);
                self.end(sim, others, now);
                let nodes: Vec<_> = self.stage.plan.all(Role::Node).collect();
                for who in nodes {
                    self.crash(sim, who, now);
                }
                true
            }
            Fault::Revive(node) => {
                let (who, hardware) = (Who::node(*node), self.cast.nodes[node].clone());
                let may_be = self.is_up(sim, who) && hardware.may_revive();
                if may_be {
                    self.crash(sim, who, now);
                    hardware.revive();
                    self.start(sim, who);
                }
                may_be
            }
        }
    }

    fn undo(&mut self, sim: &mut Sim<'_>, id: u64, fault: &Fault) {
        match fault {
            Fault::Crash(who) => self.start(sim, *who),
            Fault::CrashAll => {
                let nodes: Vec<_> = self.stage.plan.all(Role::Node).collect();
                nodes.into_iter().for_each(|who| self.start(sim, who));
            }
            Fault::Pause(who) => self.cast.machines[who].gate.open(),
            Fault::Cut(..) => self.links.mend(sim, id),
            Fault::Lag(..) => self.links.hurry(sim, id),
            Fault::SlowDisk(node) => self.cast.nodes[node].sync_every(self.stage.plan.sync_every),
            Fault::FillDisk(node) => {
                self.cast.nodes[node].disk().make_room();
                self.start(sim, Who::node(*node));
            }
            Fault::LowDisk(node) => self.cast.nodes[node].disk().make_room(),
            Fault::FillFiles(who) => self.stage.files.make_room(*who),
            Fault::Restart(node) | Fault::Upgrade(node) | Fault::FailSync(node) | Fault::Wipe(node) => {
                self.start(sim, Who::node(*node))
            }
            Fault::ClockRate(..) | Fault::ClockJump(..) | Fault::TransferStoreLeader(_) => {}
            Fault::Restore(saved) => self.restore(sim, *saved),
            Fault::Revive(node) => {
                let now = sim.elapsed();
                self.crash(sim, Who::node(*node), now);
                self.cast.nodes[node].bury();
                self.start(sim, Who::node(*node));
            }
        }
    }

    fn is_restoring(&self) -> bool {
        self.in_force.iter().any(|it| matches!(it.fault, Fault::Restore(_)))
    }

    fn backup(&self, saved: Saved) -> Option<Arc<Backup>> {
        match saved {
            Saved::First => self.stage.vault.first(),
            Saved::Last => self.stage.vault.last(),
        }
    }

    /// Every founder gets a new disk with a backup, and all start.
    fn restore(&mut self, sim: &mut Sim<'_>, saved: Saved) {
        let now = sim.elapsed();
        let backup = self.backup(saved).expect("it was there when the restore began");
        let unix_ms = EPOCH_UNIX_MS + u64::try_from(now.as_millis()).unwrap_or(0);
        let generation = backup.generation(None, unix_ms);
        let begun = backup.begun(generation, unix_ms).expect("the clock on this wall goes on");
        let place = |state: &State| Place { seq: state.seq().get(), revision: state.revision().get() };
        let restoration = Restoration { generation, backup: place(&backup.state), begins: place(&begun) };
        self.stage.generation.store(generation, Ordering::Relaxed);
        self.stage.witness.restored(&restoration, now);
        let founders: Vec<_> = self.stage.plan.founders().collect();
        for who in founders {
            let restored = self.cast.nodes[&who.number].restore(&self.stage.plan, who.number, &backup, generation);
            restored.expect("a backup that was opened can be restored");
            self.start(sim, who);
        }
    }

    fn if_up(&mut self, sim: &mut Sim<'_>, node: usize, act: impl FnOnce(&mut Nemesis, &mut Sim<'_>)) -> bool {
        let up = self.is_up(sim, Who::node(node));
        if up {
            act(self, sim);
        }
        up
    }

    fn is_up(&self, sim: &mut Sim<'_>, who: Who) -> bool {
        let ended = who.role == Role::Node && self.cast.nodes[&who.number].has_ended();
        !ended && sim.is_host_running(who.to_string())
    }

    fn crash(&mut self, sim: &mut Sim<'_>, who: Who, now: Duration) -> bool {
        let up = self.is_up(sim, who);
        if up {
            self.stage.traffic.while_ending(|| sim.crash(who.to_string()));
            if who.role == Role::Node {
                let lost = self.cast.nodes[&who.number].disk().crash(self.rng.random());
                if lost.ops > 0 {
                    *self.happened.entry("unsynced operations lost").or_default() += 1;
                }
            }
            self.stage.files.crash(who, self.rng.random());
            self.cast.machines[&who].gate.open();
            self.stage.witness.gone(who, now);
        }
        up
    }

    fn start(&mut self, sim: &mut Sim<'_>, who: Who) {
        let is_made_anew = who.role == Role::Node && self.is_restoring();
        if !self.is_up(sim, who) && !is_made_anew {
            self.cast.machines[&who].gate.open();
            // Before it has taken its first step it can be ended again.
            if who.role == Role::Node {
                self.cast.nodes[&who.number].starts();
            }
            self.stage.traffic.while_ending(|| sim.bounce(who.to_string()));
        }
    }
}
