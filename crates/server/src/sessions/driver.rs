//! The one task that owns the sessions of a node. It waits for nothing but its queues: commands, expiries and quorum rounds
//! are futures that report back, so no proposal delays a keep-alive.
//!
//! While this node does not lead the store it only keeps the entrance shut. What a leadership does stands in `leading`.

use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use palisade_liveness::{Liveness, Timings};
use palisade_wire::coord::v1::StoreLeader;
use palisade_wire::status::refuse;
use palisade_world::World;
use tokio::sync::{mpsc, watch};

use super::backend::{SessionBackend, StoreView};
use super::frames::{elsewhere, refused};
use super::leading::{Leading, Woken};
use super::reader::Input;
use super::{Entrance, SessionSettings};

/// Frames taken in before anything else has its turn.
const BATCH: usize = 256;

pub(super) struct Driver<B: SessionBackend> {
    backend: Arc<B>,
    settings: SessionSettings,
    inputs: mpsc::Receiver<Input>,
    views: BoxStream<'static, StoreView<B::Leadership>>,
    store_leader: Option<StoreLeader>,
    entrance: watch::Sender<Entrance>,
    world: World,
    role: Role<B>,
}

enum Role<B: SessionBackend> {
    Following(Box<Liveness>),
    Leading(Box<Leading<B>>),
    /// Between the two, within one step.
    Changing,
}

impl<B: SessionBackend> Driver<B> {
    pub(super) fn new(
        backend: Arc<B>,
        settings: SessionSettings,
        inputs: mpsc::Receiver<Input>,
        entrance: watch::Sender<Entrance>,
        world: World,
    ) -> Driver<B> {
        let liveness = Liveness::new(Timings::new(settings.election_timeout));
        let (views, role) = (backend.views(), Role::Following(Box::new(liveness)));
        Driver { backend, settings, inputs, views, store_leader: None, entrance, world, role }
    }

    pub(super) async fn run(mut self) {
        let mut frames = Vec::with_capacity(BATCH);
        loop {
            let woken = tokio::select! {
                biased;
                view = self.views.next() => match view {
                    Some(view) => {
                        self.see(view);
                        None
                    }
                    None => return, // the node stops
                },
                woken = next(&mut self.role, &self.world) => Some(woken),
                taken = self.inputs.recv_many(&mut frames, BATCH) => {
                    if taken == 0 {
                        return; // the node stops
                    }
                    None
                }
            };
            if let (Role::Leading(leading), Some(woken)) = (&mut self.role, woken) {
                leading.woken(woken);
            }
            // What has arrived is taken in before time is: a keep-alive that waits here must not come too late.
            while frames.len() < BATCH {
                let Ok(input) = self.inputs.try_recv() else { break };
                frames.push(input);
            }
            self.settings.metrics.session_inputs.set(frames.len() + self.inputs.len());
            frames.drain(..).for_each(|input| self.take_in(input));
            if let Role::Leading(leading) = &mut self.role {
                leading.catch_up();
                self.settings.metrics.session_streams.set(leading.streams.count());
                if leading.is_behind() {
                    self.begin_anew();
                }
            }
        }
    }

    fn see(&mut self, view: StoreView<B::Leadership>) {
        self.store_leader = view.store_leader;
        let now_led = match &self.role {
            Role::Leading(leading) => Some(leading.leadership().clone()),
            Role::Following(_) | Role::Changing => None,
        };
        if now_led != view.mine {
            self.follow();
            if let Some(leadership) = view.mine {
                self.lead(leadership);
            }
        }
        if let Role::Following(_) = self.role {
            self.entrance.send_replace(Entrance::Shut(elsewhere(self.store_leader.clone())));
        }
    }

    fn follow(&mut self) {
        self.role = match std::mem::replace(&mut self.role, Role::Changing) {
            Role::Leading(leading) => Role::Following(Box::new(leading.end(self.store_leader.clone()))),
            role => role,
        };
    }

    fn lead(&mut self, leadership: B::Leadership) {
        self.role = match std::mem::replace(&mut self.role, Role::Changing) {
            Role::Following(liveness) => Role::Leading(Box::new(Leading::begin(
                Arc::clone(&self.backend),
                leadership,
                *liveness,
                &self.settings,
                self.entrance.clone(),
                self.world.clone(),
            ))),
            role => role,
        };
    }

    /// Events were missed: the streams are closed, which releases nobody, and everything begins from the state.
    fn begin_anew(&mut self) {
        let Role::Leading(leading) = &self.role else { return };
        tracing::warn!("the session driver missed events and begins anew");
        let leadership = leading.leadership().clone();
        self.follow();
        self.lead(leadership);
    }

    fn take_in(&mut self, input: Input) {
        match (&mut self.role, input) {
            (Role::Leading(leading), input) => leading.input(input),
            // It began just before this node ceased to lead.
            (_, Input::Began { outbox, .. }) => outbox.close(refuse(elsewhere(self.store_leader.clone()))),
            (_, Input::Call { answer, .. }) => {
                let why = elsewhere(self.store_leader.clone());
                let _ = answer.send(refused(0, why)); // whoever asked may have gone
            }
            (_, Input::Frame { .. } | Input::Broke { .. } | Input::RelayLost { .. }) => {}
        }
    }
}

/// What a leadership waits for, if there is one.
async fn next<B: SessionBackend>(role: &mut Role<B>, world: &World) -> Woken<B::Leadership> {
    match role {
        Role::Leading(leading) => leading.next(world).await,
        Role::Following(_) | Role::Changing => std::future::pending().await,
    }
}
