//! Asks the other nodes who they are until [`crate::formation`] can judge whether this one belongs, and carries the
//! judgement out: opens the gate for votes, forms the first cluster, or has the node stopped.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use palisade_fence::ClusterId;
use palisade_planted::{self as planted, Bug};
use palisade_replica::{Gate, JoinAnswer, Machine, Peer, Replica};
use palisade_storage::LogEngine;
use palisade_world::{Task, World};
use tokio::sync::watch;

use crate::backup;
use crate::config::NodeConfig;
use crate::formation::{Misfit, Own, Standing, Store, Told, judge};
use crate::machine::{CoordMachine, FrozenState};

/// How long one node has for its answer.
const ANSWER: Duration = Duration::from_millis(500);

/// Between rounds of questions while the node does not know whether it belongs: the others have just started, too.
const ROUND: Duration = Duration::from_millis(50);

/// Between rounds once it serves and only wants to hear from everybody once.
const LATER: Duration = Duration::from_secs(1);

/// Rounds in which a member may say that it does not know this node before that is believed, and in which a node that must stop for
/// what others bring stays to tell them.
const DOUBTS: u32 = 20;

/// How far a node has come, for status and health.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Formation {
    /// It votes for nobody and serves nothing.
    Waiting {
        /// Who has not said who it is, as `ID (ADDRESS)`.
        missing: Vec<String>,
    },
    /// It belongs.
    Member,
    /// It must stop.
    Refused(Misfit),
}

impl Formation {
    /// What is wrong, in words.
    pub(crate) fn problem(&self) -> Option<String> {
        match self {
            Formation::Waiting { missing } if missing.is_empty() => Some("starting".to_owned()),
            Formation::Waiting { missing } => Some(format!("waiting for node {}", missing.join(", node "))),
            Formation::Member => None,
            Formation::Refused(misfit) => Some(misfit.to_string()),
        }
    }

    /// Why it must stop.
    pub(crate) fn misfit(&self) -> Option<&Misfit> {
        match self {
            Formation::Refused(misfit) => Some(misfit),
            Formation::Waiting { .. } | Formation::Member => None,
        }
    }
}

/// Starts asking. The task ends when there is nothing left to ask.
pub(crate) fn start(
    config: &NodeConfig,
    store_id: u64,
    gate: Gate,
    engine: Arc<dyn LogEngine>,
    replica: &Replica<CoordMachine>,
    machine: &Arc<CoordMachine>,
    world: &World,
) -> (watch::Receiver<Formation>, Task<()>) {
    let (tell, formation) = watch::channel(Formation::Waiting { missing: Vec::new() });
    let joiner = Joiner {
        node_id: config.node_id,
        store_id,
        initial: config.initial.iter().cloned().collect(),
        join: config.join.clone(),
        advertise: config.advertise.clone(),
        gate,
        process: config.process,
        engine,
        replica: replica.clone(),
        machine: Arc::clone(machine),
        world: world.clone(),
        tell,
        told: BTreeMap::new(),
    };
    (formation, world.spawn("joining", joiner.run()))
}

struct Joiner {
    node_id: u64,
    store_id: u64,
    initial: BTreeMap<u64, String>,
    join: Vec<String>,
    advertise: String,
    gate: Gate,
    process: u64,
    engine: Arc<dyn LogEngine>,
    replica: Replica<CoordMachine>,
    machine: Arc<CoordMachine>,
    world: World,
    tell: watch::Sender<Formation>,
    /// The last answer of each node, by the id that it should have.
    told: BTreeMap<u64, Told>,
}

impl Joiner {
    async fn run(mut self) {
        let misfit = match self.join().await {
            Ok(()) => self.stay().await,
            Err(misfit) => misfit,
        };
        self.tell.send_replace(Formation::Refused(misfit));
        // What was told stays told while anybody listens.
        self.tell.closed().await;
    }

    fn own(&self) -> Own {
        Own {
            node_id: self.node_id,
            store_id: self.store_id,
            address: self.advertise.clone(),
            store: self.store(),
            cluster: *self.machine.founded().borrow(),
            generation: self.machine.cluster().generation,
            restored: self.replica.restored().map(|(restored, _)| restored),
            known_level: self.machine.level().known,
            process: self.process,
            last: last_entry(&*self.engine),
        }
    }

    /// Until this node belongs, and has heard everybody.
    async fn join(&mut self) -> Result<(), Misfit> {
        if self.store() == Store::InUse {
            tracing::info!(node = self.node_id, "the data folder is in use: --initial and --join are ignored");
            // Its vote and its log are here, and every call says which store it means: it takes part at once, and asks on.
            self.admit();
        } else if !self.join.is_empty() {
            if self.replica.restored().is_some() {
                return Err(Misfit::RestoredJoins);
            }
            self.join_running(self.join.clone()).await?;
        }
        let mut doubts = 0;
        loop {
            let addresses = self.addresses();
            self.ask(&addresses).await;
            let own = self.own();
            let standing = match self.stranger(&own, &addresses).await {
                Some(misfit) => Standing::Refused(misfit),
                None => judge(&own, &addresses, &self.told),
            };
            let pause = match standing {
                // A member that has just started may not know its membership yet. And whoever brings another backup than this one must
                // hear that from it, for it would wait for this one.
                Standing::Refused(
                    Misfit::NotAMember { .. } | Misfit::RestoredBesideRunning { .. } | Misfit::OtherBackup { .. },
                ) if doubts < DOUBTS => {
                    doubts += 1;
                    ROUND
                }
                Standing::Refused(misfit) => return Err(misfit),
                Standing::Added(by) => {
                    self.join_running(vec![by]).await?;
                    ROUND
                }
                Standing::Waiting { missing } => {
                    self.wait_for(missing);
                    ROUND
                }
                Standing::Member => {
                    self.admit();
                    if addresses.keys().all(|id| self.told.contains_key(id)) {
                        return Ok(());
                    }
                    LATER
                }
                Standing::Forms { peers, generation } => {
                    self.admit();
                    self.form(peers, generation).await?;
                    ROUND
                }
            };
            self.world.sleep(pause).await;
        }
    }

    /// Says to the store leader of a running cluster which store this node has, until it is known there; returns when the first
    /// that the cluster sends has come.
    async fn join_running(&mut self, members: Vec<String>) -> Result<(), Misfit> {
        if planted::is(Bug::UnboundLearnerCounts) {
            self.admit();
            return Ok(());
        }
        let (node_id, own) = (self.node_id, self.store_id);
        let mut turn = members.iter().cycle();
        let mut hinted: Option<String> = None;
        loop {
            let at = hinted.take().or_else(|| turn.next().cloned()).expect("a node that joins names a member");
            match self.replica.ask_to_join(&at, &self.advertise).await {
                Ok(JoinAnswer::Joined) => break,
                Ok(JoinAnswer::NotAMember { by, highest }) if node_id <= highest => {
                    return Err(Misfit::Removed { node_id, by });
                }
                Ok(JoinAnswer::NotAMember { by, .. }) => {
                    return Err(Misfit::NotAMember { node_id, by, address: self.advertise.clone() });
                }
                Ok(JoinAnswer::OtherStore { by, known }) => return Err(Misfit::StoreLost { node_id, by, known, own }),
                Ok(JoinAnswer::OtherAddress { address, .. }) => {
                    return Err(Misfit::OtherAddress { node_id, added: address, own: self.advertise.clone() });
                }
                Ok(JoinAnswer::LevelUnknown { by, level }) => {
                    return Err(Misfit::LevelUnknown { by, level, known: self.machine.level().known });
                }
                Ok(JoinAnswer::AskElsewhere { leader, why }) => {
                    tracing::debug!(at, why, "not joined yet");
                    hinted = leader.filter(|leader| *leader != at);
                }
                Err(error) => tracing::debug!(%error, "not joined yet"),
            }
            self.wait_for(members.clone());
            self.world.sleep(ROUND).await;
        }
        self.admit();
        let mut status = self.replica.status();
        // Ends with the node.
        let _ = status.wait_for(|now| !now.members.is_empty()).await;
        Ok(())
    }

    /// Until this node is removed from the cluster. It does not hear that from the store leader, which sends it nothing any more.
    async fn stay(&mut self) -> Misfit {
        loop {
            self.world.sleep(LATER * 2).await;
            let addresses = self.addresses();
            self.told.clear();
            self.ask(&addresses).await;
            let removed = self.told.iter().find(|(id, told)| **id != self.node_id && told.removed_me);
            let own = *self.machine.founded().borrow();
            let generation = self.machine.cluster().generation;
            if let Some((by, told)) = removed
                && (own.is_none() || (told.cluster == own && told.generation == generation))
            {
                return Misfit::Removed { node_id: self.node_id, by: *by };
            }
        }
    }

    fn store(&self) -> Store {
        if self.replica.is_initialized() { Store::InUse } else { Store::Fresh }
    }

    /// Whom to ask: the members once there are some, else what `--initial` names. Also where the others reach this node itself:
    /// another process may answer there.
    fn addresses(&self) -> BTreeMap<u64, String> {
        let status = self.replica.status();
        let members = &status.borrow().members;
        if members.is_empty() {
            return self.initial.clone();
        }
        let mut addresses: BTreeMap<u64, String> =
            members.iter().map(|member| (member.peer.node_id, member.peer.address.clone())).collect();
        addresses.entry(self.node_id).or_insert_with(|| self.advertise.clone());
        addresses
    }

    async fn ask(&mut self, addresses: &BTreeMap<u64, String>) {
        self.told.retain(|id, _| addresses.contains_key(id));
        let (world, replica) = (&self.world, &self.replica);
        let asked = addresses.iter().map(|(id, address)| async move {
            (*id, world.timeout(ANSWER, replica.hello(address)).await.and_then(Result::ok))
        });
        let answers = join_all(asked).await;
        for (id, answer) in answers {
            let Some(answer) = answer else { continue };
            self.told.insert(id, told(answer));
        }
    }

    /// `--initial` is ignored once the folder is in use; but where it names nodes of another cluster, the folder was put
    /// in the wrong place, and saying so beats joining from there the cluster that it came from.
    async fn stranger(&self, own: &Own, members: &BTreeMap<u64, String>) -> Option<Misfit> {
        let cluster = own.cluster.filter(|_| own.store == Store::InUse)?;
        let (world, replica) = (&self.world, &self.replica);
        let named = self.initial.values().filter(|address| !members.values().any(|member| member == *address));
        let asked = named.map(|address| async move {
            let answer = world.timeout(ANSWER, replica.hello(address)).await.and_then(Result::ok);
            answer.map(|answer| (told(answer), address.clone()))
        });
        let answers = join_all(asked).await;
        answers.into_iter().flatten().find_map(|(told, address)| {
            let other = told.cluster?;
            if other != cluster {
                return Some(Misfit::OtherCluster { own: cluster, other, address });
            }
            let (own, other) = (own.generation, told.generation);
            (other > own).then_some(Misfit::Outlived { cluster, own, other, address })
        })
    }

    fn wait_for(&self, missing: Vec<String>) {
        let now = Formation::Waiting { missing };
        if *self.tell.borrow() != now {
            tracing::info!(node = self.node_id, "{}", now.problem().unwrap_or_default());
            self.tell.send_replace(now);
        }
    }

    fn admit(&self) {
        if *self.tell.borrow() != Formation::Member {
            tracing::info!(node = self.node_id, store = format!("{:016x}", self.store_id), "this node belongs");
            self.gate.open();
            self.tell.send_replace(Formation::Member);
        }
    }

    /// What fails is tried again, but for what can never be.
    async fn form(&self, peers: Vec<Peer>, generation: Option<u32>) -> Result<(), Misfit> {
        let members = peers.iter().map(|peer| format!("{}={}", peer.node_id, peer.address)).collect::<Vec<_>>();
        let formed = match generation {
            None => self.replica.initialize(peers).await.map_err(|error| NotFormed::Yet(error.to_string())),
            Some(generation) => self.form_restored(peers, generation).await,
        };
        match formed {
            Ok(()) => tracing::info!(node = self.node_id, members = members.join(","), "the cluster is formed"),
            Err(NotFormed::Yet(error)) => {
                tracing::warn!(node = self.node_id, %error, "the cluster could not be formed yet");
            }
            Err(NotFormed::Never(misfit)) => return Err(misfit),
        }
        Ok(())
    }

    /// Begins a new generation with the backup that all first nodes bring.
    async fn form_restored(&self, peers: Vec<Peer>, generation: u32) -> Result<(), NotFormed> {
        let yet = |error: &dyn Display| NotFormed::Yet(error.to_string());
        let (_, saved) = self.replica.restored().ok_or_else(|| yet(&"the backup is gone"))?;
        let (at_unix_ms, known) = (self.world.unix_ms(), self.machine.level().known);
        let begin = move || {
            let mut state = backup::state_of(&saved).map_err(|error| NotFormed::Yet(error.to_string()))?;
            // Before anything is made of it: written anew by a program that does not know the level, it would lose what is new in it,
            // and the folder could be read by no program any more. The folder's head may be from before heads had a level.
            if state.level() > known {
                return Err(NotFormed::Never(Misfit::BackupLevel { level: state.level(), known }));
            }
            state.begin_generation(generation, at_unix_ms).map_err(|error| NotFormed::Yet(error.to_string()))?;
            Ok(FrozenState::of(&state))
        };
        let state = self.world.blocking("restoring a backup", begin).await.map_err(|ended| yet(&ended))??;
        tracing::info!(node = self.node_id, generation, "a restored cluster begins");
        self.replica.initialize_from(peers, state).await.map_err(|error| yet(&error))
    }
}

/// Why there is no cluster.
enum NotFormed {
    /// To be tried again.
    Yet(String),
    /// This node must stop.
    Never(Misfit),
}

/// The last entry that a store holds or has purged.
fn last_entry(engine: &dyn LogEngine) -> Option<u64> {
    let state = engine.state();
    state.last.or(state.purged.map(|(purged, _)| purged))
}

fn told(hello: palisade_replica::Hello) -> Told {
    Told {
        node_id: hello.node_id,
        store_id: hello.store_id,
        cluster: (hello.cluster.id != 0).then_some(ClusterId(hello.cluster.id)),
        generation: hello.cluster.generation,
        restored: hello.restored,
        level: hello.level.at,
        store: if hello.initialized { Store::InUse } else { Store::Fresh },
        names_me: hello.names_you,
        process: hello.process,
        acknowledged: hello.acknowledged,
        removed_me: hello.removed_you,
    }
}
