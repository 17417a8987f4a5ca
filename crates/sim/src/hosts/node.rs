//! A node: the real server on a simulated disk. The disk outlives the process; what was not synced may not.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use palisade_coord_core::{Command, Outcome, State, level};
use palisade_server::backup::{Backup, RestoreError};
use palisade_server::{Audit, Member, Misfit, Node, NodeConfig, NodeFailed, Stores};
use palisade_storage::{SimDisk, SimEngine, SimSnapshots};
use palisade_world::{Task, World};
use tokio::sync::watch;

use super::candidate::ELECTIONS;
use super::{PORT, Process, address};
use crate::facts::{Applied, Beginning, Fact, FoundKey, MemberSeen};
use crate::phase::Phase;
use crate::plan::{Plan, Who};
use crate::witness::Witness;

/// Raft's timers in the simulation: its latencies are a hundred times those of loopback.
const HEARTBEAT: Duration = Duration::from_millis(50);
const ELECTION: (Duration, Duration) = (Duration::from_millis(200), Duration::from_millis(400));

/// At every so many commands the nodes' whole states are compared: it costs as much as a snapshot. At rest, at each.
const DIGEST_EVERY: u64 = 16;

/// What of a node outlives its process. Clones are the same hardware.
#[derive(Clone)]
pub(crate) struct Hardware {
    parts: Arc<Mutex<Parts>>,
    /// Whether it is switched on: a spare node is when it is added.
    power: watch::Sender<bool>,
    orders: watch::Sender<Order>,
}

struct Parts {
    disk: SimDisk,
    /// The store id in the data folder.
    store_id: u64,
    /// Between two syncs of the disk.
    sync_every: Duration,
    /// The process has ended by itself and nothing of it runs.
    ended: bool,
    /// Failures that the node rightly stops for.
    disk_broke: bool,
    wiped: bool,
    /// Somebody wants it to be removed from the cluster.
    removal_asked: bool,
    /// It has heard that it was.
    removed: bool,
    /// It leads the store, as far as it knows.
    leads: bool,
    /// The highest level that its program knows.
    level: u32,
    /// How often a backup was restored here.
    restores: u64,
    /// What was here before the last restore, if it was a store of the cluster of before.
    outlived: Option<Store>,
    /// While that is in its place again: what belongs here.
    aside: Option<Store>,
}

/// A disk with the store id in its data folder.
type Store = (SimDisk, u64);

/// What an administrator may ask of a running node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Order {
    None,
    Stop,
    HandOverTo(u64),
}

impl Hardware {
    pub(crate) fn new(plan: &Plan, node: usize) -> Hardware {
        let parts = Parts {
            disk: SimDisk::new(),
            store_id: store_id(plan, node, 0),
            sync_every: plan.sync_every,
            ended: false,
            disk_broke: false,
            wiped: false,
            removal_asked: false,
            removed: false,
            leads: false,
            level: level::FIRST,
            restores: 0,
            outlived: None,
            aside: None,
        };
        let power = watch::Sender::new(node <= plan.founders);
        Hardware { parts: Arc::new(Mutex::new(parts)), power, orders: watch::Sender::new(Order::None) }
    }

    /// Its disk.
    pub(crate) fn disk(&self) -> SimDisk {
        self.lock().disk.clone()
    }

    /// Whether the process has ended by itself.
    pub(crate) fn has_ended(&self) -> bool {
        self.lock().ended
    }

    /// A process is started anew.
    pub(crate) fn starts(&self) {
        self.lock().ended = false;
    }

    /// Whether it is gone for good: its disk was replaced by an empty one, or it was removed.
    pub(crate) fn is_gone(&self) -> bool {
        let parts = self.lock();
        parts.wiped || parts.removed
    }

    /// Whether it has heard that it was removed.
    pub(crate) fn was_removed(&self) -> bool {
        self.lock().removed
    }

    /// Whether it is switched on.
    pub(crate) fn is_on(&self) -> bool {
        *self.power.borrow()
    }

    /// Switches it on, as whoever added it does.
    pub(crate) fn switch_on(&self) {
        self.power.send_replace(true);
    }

    /// From now on the process may stop because it is no member any more.
    pub(crate) fn is_to_go(&self) {
        self.lock().removal_asked = true;
    }

    /// Whether it leads the store, as far as it knows.
    pub(crate) fn leads(&self) -> bool {
        self.lock().leads
    }

    /// From its next start on it runs a newer program.
    pub(crate) fn upgrade(&self) {
        self.lock().level = level::FIRST + 1;
    }

    /// Asks the process to end in good order.
    pub(crate) fn stop(&self) {
        self.orders.send_replace(Order::Stop);
    }

    /// Asks the node, if it leads the store, to hand over.
    pub(crate) fn hand_over_to(&self, node: usize) {
        self.orders.send_replace(Order::HandOverTo(node as u64));
    }

    /// Sets the time between two syncs.
    pub(crate) fn sync_every(&self, span: Duration) {
        self.lock().sync_every = span;
    }

    /// From now on the process may stop because of its disk.
    pub(crate) fn disk_breaks(&self) {
        self.lock().disk_broke = true;
    }

    /// Replaces the disk by an empty one, as a person does who puts the node's name on another machine.
    pub(crate) fn wipe(&self, plan: &Plan, node: usize) {
        let mut parts = self.lock();
        parts.disk = SimDisk::new();
        parts.store_id = store_id(plan, node, 1);
        parts.wiped = true;
    }

    /// Whether what is in its place is of before a restore.
    pub(crate) fn is_outlived(&self) -> bool {
        self.lock().aside.is_some()
    }

    /// Puts a new disk with a backup into the place of what there is, for good.
    pub(crate) fn restore(
        &self,
        plan: &Plan,
        node: usize,
        backup: &Backup,
        generation: u32,
    ) -> Result<(), RestoreError> {
        let disk = SimDisk::new();
        backup.restore_into(&SimSnapshots::open(&disk).map_err(RestoreError::Folder)?, generation)?;
        let mut parts = self.lock();
        parts.restores += 1;
        let new = (disk, store_id(plan, node, 1 + parts.restores));
        let old = (std::mem::replace(&mut parts.disk, new.0), std::mem::replace(&mut parts.store_id, new.1));
        parts.outlived = Some(old).filter(|_| !parts.wiped);
        (parts.wiped, parts.removed, parts.removal_asked) = (false, false, false);
        Ok(())
    }

    /// Whether there is a machine of before a restore that could be switched on in the place of this one.
    pub(crate) fn may_revive(&self) -> bool {
        let parts = self.lock();
        !parts.wiped && parts.aside.is_none() && parts.outlived.is_some()
    }

    /// Somebody finds it and switches it on, at the address of the new one.
    pub(crate) fn revive(&self) {
        let mut parts = self.lock();
        if let Some((disk, store_id)) = parts.outlived.clone() {
            let aside = (std::mem::replace(&mut parts.disk, disk), std::mem::replace(&mut parts.store_id, store_id));
            parts.aside = Some(aside);
        }
    }

    /// The new one is in its place again.
    pub(crate) fn bury(&self) {
        let mut parts = self.lock();
        if let Some(aside) = parts.aside.take() {
            (parts.disk, parts.store_id) = aside;
        }
    }

    fn expects(&self, failed: &NodeFailed) -> bool {
        let parts = self.lock();
        match failed {
            NodeFailed::Misfit(Misfit::Outlived { .. }) => parts.aside.is_some(),
            NodeFailed::Misfit(Misfit::StoreLost { .. }) => parts.wiped,
            NodeFailed::Misfit(Misfit::Removed { .. }) => parts.removal_asked,
            NodeFailed::Misfit(Misfit::LevelUnknown { .. }) => parts.level == level::FIRST,
            NodeFailed::Replica { .. } => parts.disk_broke,
            _ => false,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Parts> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn store_id(plan: &Plan, node: usize, life: u64) -> u64 {
    (plan.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ ((node as u64) << 8) ^ life).max(1)
}

/// Runs until the process is ended from outside.
pub(crate) async fn run(process: Process, hardware: Hardware) -> turmoil::Result {
    let mut power = hardware.power.subscribe();
    loop {
        let _ = power.wait_for(|on| *on).await; // the hardware is here
        if live(&process, &hardware).await? == Ended::Stopped {
            break;
        }
        // Whoever switched it on did so too early.
        hardware.power.send_replace(false);
    }
    // It has ended by itself, as if it had crashed.
    process.witness.gone(process.who, turmoil::sim_elapsed().unwrap_or_default());
    // Turmoil takes the end of a host's software for the end of the run's interest in it.
    std::future::pending().await
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ended {
    Stopped,
    /// It joined a cluster that had not added it.
    NotAMember,
}

async fn live(process: &Process, hardware: &Hardware) -> Result<Ended, Box<dyn std::error::Error>> {
    {
        let mut parts = hardware.lock();
        (parts.ended, parts.leads) = (false, false);
    }
    hardware.orders.send_replace(Order::None);
    let pump = pump(hardware, &process.world);
    let mut node = start(process, hardware).await?;
    process.trace(format_args!("started ({})", process.start));
    let (mut orders, mut status, mut leads) = (hardware.orders.subscribe(), node.status(), None);
    loop {
        tokio::select! {
            biased;
            why = node.wait_failed() => {
                process.trace(format_args!("failed: {why}"));
                let early = matches!(why, NodeFailed::Misfit(Misfit::NotAMember { .. }));
                if early && process.who.number > process.plan.founders {
                    drop(node);
                    return Ok(Ended::NotAMember);
                }
                if !hardware.expects(&why) {
                    return Err(format!("{} failed: {why}", process.who).into());
                }
                process.witness.count("nodes that stopped by themselves");
                if matches!(why, NodeFailed::Misfit(Misfit::Removed { .. })) {
                    process.witness.count("nodes that heard of their removal");
                    hardware.lock().removed = true;
                }
                if matches!(why, NodeFailed::Misfit(Misfit::LevelUnknown { .. })) {
                    process.witness.count("programs that were too old");
                    // Whoever started it reads why.
                    hardware.upgrade();
                }
                if matches!(why, NodeFailed::Misfit(Misfit::Outlived { .. })) {
                    process.witness.count("nodes that heard of a restore");
                }
                drop(node);
                break;
            }
            Ok(()) = status.changed() => {
                let leadership = status.borrow_and_update().leadership;
                if let Some(leadership) = leadership.filter(|_| leadership != leads) {
                    process.witness.saw(process.who, match hardware.is_outlived() {
                        true => Fact::LeadsOutlived { node: leadership.node },
                        false => Fact::LeadsStore { term: leadership.term, node: leadership.node },
                    });
                }
                leads = leadership;
                hardware.lock().leads = leads.is_some();
            }
            Ok(()) = orders.changed() => {
                let order = *orders.borrow_and_update();
                match order {
                    Order::None => {}
                    Order::HandOverTo(to) => {
                        let handed = node.hand_over_to(to).await;
                        process.trace(format_args!("handed over to {to}: {handed}"));
                        if handed {
                            process.witness.count("store leaders that handed over");
                        }
                    }
                    Order::Stop => {
                        node.shutdown().await;
                        process.trace("stopped");
                        break;
                    }
                }
            }
        }
    }
    drop(pump);
    {
        let mut parts = hardware.lock();
        (parts.ended, parts.leads) = (true, false);
    }
    Ok(Ended::Stopped)
}

async fn start(process: &Process, hardware: &Hardware) -> Result<Node, Box<dyn std::error::Error>> {
    let plan = &process.plan;
    let founders = || plan.founders().map(|who| (who.number as u64, address(who)));
    let (id, listen) = (process.who.number as u64, format!("{}:{PORT}", process.who));
    let mut config = match process.who.number <= plan.founders {
        true => NodeConfig::new(id, listen, founders().collect()),
        false => {
            let join = founders().map(|(_, address)| address).collect();
            NodeConfig { join, ..NodeConfig::new(id, listen, Vec::new()) }
        }
    };
    config.timings.heartbeat = HEARTBEAT;
    (config.timings.election_min, config.timings.election_max) = ELECTION;
    config.snapshot_every = plan.snapshot_every;
    let (disk, store_id) = {
        let parts = hardware.lock();
        config.level = parts.level;
        (parts.disk.clone(), parts.store_id)
    };
    process.witness.saw(process.who, Fact::Runs { node: process.who.number, level: config.level });
    let stores = Stores {
        store_id,
        engine: Arc::new(SimEngine::open(&disk)?),
        snapshots: Arc::new(SimSnapshots::open(&disk)?),
        folder: None,
    };
    // What one of before a restore applies again is of no interest any more; that it leads nobody is.
    let audited = !hardware.is_outlived();
    let audit = Auditor { who: process.who, witness: process.witness.clone(), phase: process.phase.clone() };
    let audit = audited.then(|| Arc::new(audit) as Arc<dyn Audit>);
    Ok(Node::start_audited(config, stores, audit, process.world.clone()).await?)
}

/// Tells what a node applies, beside what it answers to anybody.
struct Auditor {
    who: Who,
    witness: Witness,
    phase: watch::Receiver<Phase>,
}

impl Audit for Auditor {
    fn applied(&self, command: &Command, outcome: &Outcome, state: &State) {
        let seq = state.seq().get();
        let compared = seq.is_multiple_of(DIGEST_EVERY) || *self.phase.borrow() == Phase::Rest;
        let digest = compared.then(|| digest(state));
        let (command, outcome) = (command.clone(), outcome.clone());
        let applied = Applied { node: self.who.number, seq, command, outcome, digest };
        self.witness.saw(self.who, Fact::Applied(Arc::new(applied)));
    }

    fn members(&self, index: u64, members: &[Member]) {
        let of = |it: &Member| MemberSeen { id: it.peer.node_id, store: it.peer.store_id, votes: it.voter };
        let members = members.iter().map(of).collect();
        self.witness.saw(self.who, Fact::Members { node: self.who.number, index, members });
    }

    fn restored(&self, state: &State) {
        let beginning = (state.session_count() == 0).then(|| Arc::new(beginning(state)));
        let (node, seq) = (self.who.number, state.seq().get());
        let fact = Fact::Restored { node, seq, digest: digest(state), beginning };
        self.witness.saw(self.who, fact);
    }
}

fn beginning(state: &State) -> Beginning {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let keys = state.keys().iter().map(|(key, kv)| FoundKey {
        key: text(key),
        value: text(&kv.value),
        create_revision: kv.create_revision.get(),
        mod_revision: kv.mod_revision.get(),
        version: kv.version,
        session: kv.session.map_or(0, |session| session.get()),
    });
    Beginning {
        generation: state.generation(),
        revision: state.revision().get(),
        led: ELECTIONS.into_iter().filter(|election| state.leader(election).is_some()).count(),
        keys: keys.collect(),
    }
}

/// Of the whole state, by what a snapshot of it would be; a planted bug in the writing of snapshots does not hide itself here.
fn digest(state: &State) -> u64 {
    let mut hasher = DefaultHasher::new();
    palisade_planted::without(|| palisade_wire::state::encode(state)).hash(&mut hasher);
    hasher.finish()
}

/// The disk syncs in the rhythm of the hardware, for as long as its process lives.
fn pump(hardware: &Hardware, world: &World) -> Task<()> {
    let (hardware, seam) = (hardware.clone(), world.clone());
    world.spawn("disk", async move {
        loop {
            let every = hardware.lock().sync_every;
            seam.sleep(every).await;
            hardware.disk().sync();
        }
    })
}
