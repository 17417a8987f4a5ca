//! Keeps the books of slots up to date: one actor per leadership.
//!
//! It watches every registered TaskExecutor by heartbeats both ways, so that a broken connection is noticed when it breaks; a
//! silent one is given up after the heartbeat timeout. Whoever is given up must register again.

use std::collections::BTreeMap;
use std::time::Duration;

use palisade_rpc::{Heartbeat, HeartbeatPolicy, RpcError};
use palisade_world::{Task, Tasks, World};
use tokio::sync::{mpsc, oneshot, watch};

use super::slot_manager::{Grant, Registration, SlotManager};
use crate::job::JobId;
use crate::jobmanager::Heartbeats;
use crate::jobmaster::Command as JobMasterCommand;
use crate::jobmaster::scheduler::Event;
use crate::jobmaster::task::{ExecutorId, Slot};
use crate::jobmaster::workers::Workers;
use crate::proto;

/// Commands that may wait; senders wait or give up beyond that.
const COMMANDS: usize = 4096;
/// Pause before slots that could not be reserved are asked for again.
const RESERVE_AGAIN: Duration = Duration::from_millis(50);

/// The cluster in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Overview {
    pub(crate) task_executors: u32,
    pub(crate) slots: u32,
    pub(crate) free_slots: u32,
    /// When all components of this leadership had started.
    pub(crate) started: Option<Duration>,
}

enum Command {
    Register(Registration, oneshot::Sender<()>),
    Heard(ExecutorId, oneshot::Sender<bool>),
    Lost(ExecutorId, String),
    Request { job: JobId, attempt: u64, count: u32, job_master: mpsc::Sender<JobMasterCommand> },
    Release(JobId),
    Reserved { job: JobId, attempt: u64, slots: Vec<Slot> },
    NotReserved { job: JobId, attempt: u64, why: String },
    RequestAgain { job: JobId, attempt: u64 },
    Started,
}

/// The handle. When the last one is gone, the actor ends.
#[derive(Clone, Debug)]
pub(crate) struct ResourceManagerHandle {
    commands: mpsc::Sender<Command>,
}

impl ResourceManagerHandle {
    /// A TaskExecutor registers; it is in the books when this returns.
    pub(crate) async fn register(&self, registration: Registration) {
        let (reply, answer) = oneshot::channel();
        let _ = self.commands.send(Command::Register(registration, reply)).await;
        let _ = answer.await;
    }

    /// A TaskExecutor was heard of. Returns whether it is registered.
    pub(crate) async fn heard(&self, executor: ExecutorId) -> bool {
        let (reply, answer) = oneshot::channel();
        let _ = self.commands.send(Command::Heard(executor, reply)).await;
        answer.await.unwrap_or(false)
    }

    /// A TaskExecutor is given up.
    pub(crate) fn lost(&self, executor: ExecutorId) {
        self.tell(Command::Lost(executor, "its JobMaster gave it up".to_owned()));
    }

    /// A TaskExecutor says that it ends.
    pub(crate) fn disconnected(&self, executor: ExecutorId, why: String) {
        self.tell(Command::Lost(executor, why));
    }

    /// A job needs slots; the JobMaster is told when it has them all.
    pub(crate) fn request(&self, job: JobId, attempt: u64, count: u32, job_master: mpsc::Sender<JobMasterCommand>) {
        self.tell(Command::Request { job, attempt, count, job_master });
    }

    /// A job gives its slots back.
    pub(crate) fn release(&self, job: JobId) {
        self.tell(Command::Release(job));
    }

    /// All components of this leadership have started.
    pub(crate) fn started(&self) {
        self.tell(Command::Started);
    }

    fn tell(&self, command: Command) {
        if self.commands.try_send(command).is_err() {
            // Full means thousands of unserved commands: the heartbeats then time out and everything is asked for again.
            tracing::error!("the ResourceManager is overloaded or has ended");
        }
    }
}

struct ResourceManagerActor {
    books: SlotManager,
    workers: Workers,
    /// Of every registered TaskExecutor; what is heard says whether it is the same incarnation.
    heartbeats: palisade_rpc::Heartbeats<ExecutorId, SameIncarnation>,
    policy: HeartbeatPolicy,
    /// Whom to tell about slots and losses.
    job_masters: BTreeMap<JobId, (u64, u32, mpsc::Sender<JobMasterCommand>)>,
    calls: Tasks,
    commands: mpsc::WeakSender<Command>,
    overview: watch::Sender<Overview>,
    world: World,
}

/// Starts the actor with empty books: TaskExecutors register at every new leader.
pub(crate) fn start(
    workers: Workers,
    heartbeats: Heartbeats,
    world: &World,
) -> (ResourceManagerHandle, watch::Receiver<Overview>, Task<()>) {
    let Heartbeats { interval, timeout } = heartbeats;
    let policy = HeartbeatPolicy { interval, timeout, ..HeartbeatPolicy::default() };
    let (commands, received) = mpsc::channel(COMMANDS);
    let (overview, seen) = watch::channel(Overview::default());
    let actor = ResourceManagerActor {
        books: SlotManager::default(),
        workers,
        heartbeats: palisade_rpc::Heartbeats::new(policy, world),
        policy,
        job_masters: BTreeMap::new(),
        calls: Tasks::new(),
        commands: commands.downgrade(),
        overview,
        world: world.clone(),
    };
    let task = world.spawn("resource-manager", run(actor, received));
    (ResourceManagerHandle { commands }, seen, task)
}

async fn run(mut actor: ResourceManagerActor, mut received: mpsc::Receiver<Command>) {
    let heartbeats = actor.heartbeats.clone();
    loop {
        tokio::select! {
            command = received.recv() => match command {
                Some(command) => actor.take(command),
                None => return,
            },
            event = heartbeats.next() => match event {
                Heartbeat::Heard { payload: SameIncarnation::Yes, .. } => {}
                Heartbeat::Heard { target, payload: SameIncarnation::No } => {
                    actor.lose(&target, "another incarnation answers");
                }
                Heartbeat::Gone { target, why } => actor.lose(&target, &why.to_string()),
            },
        }
        actor.publish();
    }
}

/// What a heartbeat says of a TaskExecutor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum SameIncarnation {
    Yes,
    No,
}

impl ResourceManagerActor {
    fn take(&mut self, command: Command) {
        match command {
            Command::Register(registration, reply) => {
                self.register(registration);
                let _ = reply.send(());
            }
            Command::Heard(executor, reply) => {
                let _ = reply.send(self.heartbeats.heard(&executor, SameIncarnation::Yes));
            }
            Command::Lost(executor, why) => self.lose(&executor, &why),
            Command::Request { job, attempt, count, job_master } => {
                self.job_masters.insert(job.clone(), (attempt, count, job_master));
                self.books.request(job, count);
                self.grant();
            }
            Command::Release(job) => self.release(&job),
            Command::Reserved { job, attempt, slots } => self.reserved(&job, attempt, slots),
            Command::NotReserved { job, attempt, why } => self.not_reserved(&job, attempt, &why),
            Command::RequestAgain { job, attempt } => {
                // Unless it was given up or replaced meanwhile.
                if let Some((wanted, count, _)) = self.job_masters.get(&job)
                    && *wanted == attempt
                {
                    self.books.request(job, *count);
                    self.grant();
                }
            }
            Command::Started => {
                let now = self.world.now();
                self.overview.send_modify(|overview| overview.started = Some(now));
            }
        }
    }

    fn register(&mut self, registration: Registration) {
        let executor = registration.executor.clone();
        tracing::info!(%executor, slots = registration.slots, address = registration.address, "a TaskExecutor registered");
        let address = registration.address.clone();
        if let Some(replaced) = self.books.register(registration) {
            self.heartbeats.unwatch(&replaced);
            self.tell_lost(&replaced);
        }
        // Registered again, it is watched anew.
        self.heartbeats.unwatch(&executor);
        let (workers, policy) = (self.workers.clone(), self.policy);
        self.heartbeats
            .request(executor, move |executor| ping(workers.clone(), address.clone(), executor.incarnation, policy));
        self.grant();
    }

    fn lose(&mut self, executor: &ExecutorId, why: &str) {
        let address =
            self.books.registrations().find(|known| known.executor == *executor).map(|known| known.address.clone());
        if !self.books.remove(executor) {
            return;
        }
        tracing::warn!(%executor, why, "a TaskExecutor is given up");
        if let Some(address) = address {
            self.workers.forget(&address);
        }
        self.heartbeats.unwatch(executor);
        self.tell_lost(executor);
    }

    fn tell_lost(&mut self, executor: &ExecutorId) {
        for (job, (_, _, job_master)) in &self.job_masters {
            let event = Event::ExecutorLost { executor: executor.clone() };
            if job_master.try_send(JobMasterCommand::Event(event)).is_err() {
                tracing::warn!(%job, "a JobMaster is overloaded or has ended; its own heartbeats will tell it");
            }
        }
    }

    /// Serves requests as far as there are slots: books them, then reserves them at the TaskExecutors.
    fn grant(&mut self) {
        for Grant { job, slots } in self.books.grant() {
            let Some((attempt, _, _)) = self.job_masters.get(&job) else { continue };
            let (attempt, workers, commands) = (*attempt, self.workers.clone(), self.commands.clone());
            self.calls.spawn(async move {
                let reservations = slots.iter().map(|slot| reserve(&workers, &job, slot));
                let reserved: Result<Vec<()>, String> = futures_util::future::try_join_all(reservations).await;
                let command = match reserved {
                    Ok(_) => Command::Reserved { job, attempt, slots },
                    Err(why) => Command::NotReserved { job, attempt, why },
                };
                if let Some(commands) = commands.upgrade() {
                    let _ = commands.send(command).await;
                }
            });
        }
    }

    fn reserved(&mut self, job: &JobId, attempt: u64, slots: Vec<Slot>) {
        let Some((wanted, _, job_master)) = self.job_masters.get(job) else { return };
        let registered = |slot: &Slot| self.books.registrations().any(|known| known.executor == slot.executor);
        if *wanted != attempt {
            return;
        }
        if !slots.iter().all(registered) {
            self.not_reserved(job, attempt, "a TaskExecutor was given up meanwhile");
            return;
        }
        if job_master.try_send(JobMasterCommand::Event(Event::SlotsGranted { attempt, slots })).is_err() {
            tracing::warn!(%job, "the JobMaster has ended before it got its slots");
            self.release(&job.clone());
        }
    }

    fn not_reserved(&mut self, job: &JobId, attempt: u64, why: &str) {
        if self.job_masters.get(job).is_none_or(|(wanted, _, _)| *wanted != attempt) {
            return;
        }
        tracing::info!(%job, attempt, why, "slots could not be reserved; asking again");
        let released = self.books.release(job);
        self.free(job, released);
        let (commands, world, job) = (self.commands.clone(), self.world.clone(), job.clone());
        self.calls.spawn(async move {
            world.sleep(RESERVE_AGAIN).await;
            if let Some(commands) = commands.upgrade() {
                let _ = commands.send(Command::RequestAgain { job, attempt }).await;
            }
        });
    }

    fn release(&mut self, job: &JobId) {
        self.job_masters.remove(job);
        let released = self.books.release(job);
        self.free(job, released);
        self.grant();
    }

    fn free(&mut self, job: &JobId, slots: Vec<Slot>) {
        for slot in slots {
            let (workers, job) = (self.workers.clone(), job.clone());
            self.calls.spawn(async move {
                let request = proto::FreeSlotRequest { job_id: job.to_string(), slot: slot.index };
                // If it is lost, the slot's next reservation takes the slot over: its tasks have ended.
                if let Ok(gateway) = workers.at(&slot.address).await {
                    let _ = gateway.free_slot(request).await;
                }
            });
        }
    }

    fn publish(&self) {
        let (slots, free) = self.books.slots();
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let (task_executors, slots, free_slots) = (count(self.books.task_executors()), count(slots), count(free));
        self.overview.send_if_modified(|overview| {
            let now = Overview { task_executors, slots, free_slots, started: overview.started };
            let news = *overview != now;
            *overview = now;
            news
        });
    }
}

async fn reserve(workers: &Workers, job: &JobId, slot: &Slot) -> Result<(), String> {
    let request =
        proto::RequestSlotRequest { job_id: job.to_string(), slot: slot.index, incarnation: slot.executor.incarnation };
    let gateway = workers.at(&slot.address).await?;
    let reply = gateway.request_slot(request).await.map_err(|error| error.to_string())?;
    if reply.reserved { Ok(()) } else { Err(format!("{} does not give slot {}", slot.executor, slot.index)) }
}

/// One heartbeat, which the TaskExecutor answers after the interval.
async fn ping(
    workers: Workers,
    address: String,
    incarnation: u64,
    policy: HeartbeatPolicy,
) -> Result<SameIncarnation, RpcError> {
    let gateway = workers.at(&address).await.map_err(|why| RpcError::Unreachable { why })?;
    let answer_after_ms = u32::try_from(policy.interval.as_millis()).unwrap_or(u32::MAX);
    let request = proto::LeaderHeartbeatRequest { incarnation, answer_after_ms };
    let reply = gateway.within(policy.timeout).leader_heartbeat(request).await?;
    Ok(if reply.same { SameIncarnation::Yes } else { SameIncarnation::No })
}
