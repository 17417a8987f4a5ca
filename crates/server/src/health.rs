//! What is wrong with this node, in words. Asked for by status and health, and told to the standard gRPC health service.
//! It looks; it repairs nothing.

use palisade_replica::ReplicaStatus;
use palisade_storage::EngineHealth;
use palisade_world::{Task, World};
use tokio::sync::watch;
use tonic::server::NamedService;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::confirmation::Touch;
use crate::joining::Formation;

/// The name under which the standard health service knows the node as a whole.
const WHOLE: &str = "";

/// Where problems are learnt. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Health {
    pub(crate) status: watch::Receiver<ReplicaStatus>,
    pub(crate) formation: watch::Receiver<Formation>,
    pub(crate) disk: watch::Receiver<EngineHealth>,
    pub(crate) touch: watch::Receiver<Touch>,
}

impl Health {
    /// Empty: this node serves, or can name the node that does.
    pub(crate) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if let Some(why) = self.formation.borrow().problem() {
            problems.push(why);
        }
        match &*self.disk.borrow() {
            EngineHealth::Ok => {}
            other => problems.push(other.to_string()),
        }
        if let Some(why) = &self.status.borrow().fatal {
            problems.push(format!("stopped: {why}"));
        }
        problems.extend(self.touch.borrow().problem());
        problems
    }
}

/// The services that clients are served with. Filled where they are added to the router, so that none is forgotten.
#[derive(Default)]
pub(crate) struct Served(Vec<&'static str>);

impl Served {
    /// Notes a service on its way into the router.
    pub(crate) fn note<S: NamedService>(&mut self, service: S) -> S {
        self.0.push(S::NAME);
        service
    }
}

/// Keeps the standard health service up to date until its handle is dropped.
pub(crate) fn report(health: Health, served: Served, reporter: HealthReporter, world: &World) -> Task<()> {
    let Health { mut status, mut formation, mut disk, mut touch } = health.clone();
    world.spawn("health", async move {
        loop {
            let stopped = |now: &ReplicaStatus| now.fatal.is_some();
            let was_stopped = stopped(&status.borrow());
            let problems = health.problems();
            let serving = if problems.is_empty() { ServingStatus::Serving } else { ServingStatus::NotServing };
            for service in served.0.iter().copied().chain([WHOLE]) {
                reporter.set_service_status(service, serving).await;
            }
            let changed = tokio::select! {
                changed = status.wait_for(|now| stopped(now) != was_stopped) => changed.is_ok(),
                changed = formation.changed() => changed.is_ok(),
                changed = disk.changed() => changed.is_ok(),
                changed = touch.changed() => changed.is_ok(),
            };
            if !changed {
                return;
            }
        }
    })
}
