//! One leadership of the store: carries out what `liveness` decides, proposes what clients ask, tells them what came of it.
//! It decides nothing about who lives. It is dropped with the leadership, and with it every answer that is still to come.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use palisade_coord_core::{Command, Event, Op, Outcome, Refusal, Reply, Session, SessionId, apply};
use palisade_fence::ClusterId;
use palisade_liveness as liveness;
use palisade_liveness::{CloseReason, Effect, Fate, Known, Liveness, Round, Ticket};
use palisade_planted::{self as planted, Bug};
use palisade_wire::convert;
use palisade_wire::coord::v1::error_detail;
use palisade_wire::coord::v1::{ErrorDetail, Header, StoreLeader};
use palisade_wire::status::refuse;
use palisade_world::World;
use tokio::sync::watch;
use tonic::Status;

use super::backend::SessionBackend;
use super::commands::{PROPOSAL_LIMIT, Proposed, no_outcome};
use super::frames;
use super::reader::Input;
use super::slots::{Offered, Slots};
use super::streams::{StreamState, Streams};
use super::{Entrance, FRAME_BYTES, SessionSettings};
use crate::hub::{Applied, Subscription};
use crate::metrics::{CutOff, NodeMetrics};

/// How often the sessions of the state are compared with those that have a deadline. A session can escape only if whoever
/// opened it had no answer, so it holds nothing yet.
const COMPARE: Duration = Duration::from_secs(1);

/// Results taken in before anything else has its turn.
const BATCH: usize = 256;

/// What a future reports.
#[allow(clippy::large_enum_variant)] // it is moved once, from its future to its handler
pub(super) enum Done<L> {
    Command(Proposed, Result<Outcome, ErrorDetail>),
    Round(Round, Option<L>),
    End(SessionId, Ticket, Fate),
}

impl<L> std::fmt::Debug for Done<L> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Done")
    }
}

/// What a leadership waited for.
#[allow(clippy::large_enum_variant)] // as above
#[derive(Debug)]
pub(super) enum Woken<L> {
    /// `None`: events were missed.
    Applied(Option<Arc<Applied>>),
    Done(Done<L>),
    Time,
}

pub(super) struct Leading<B: SessionBackend> {
    pub(super) backend: Arc<B>,
    leadership: B::Leadership,
    pub(super) cluster: ClusterId,
    pub(super) generation: u32,
    election_timeout: Duration,
    liveness: Liveness,
    pub(super) streams: Streams,
    pub(super) slots: Slots,
    events: Subscription,
    /// Set when events were missed: then everything must begin anew.
    behind: Behind,
    pub(super) work: FuturesUnordered<BoxFuture<'static, Done<B::Leadership>>>,
    compare_at: Duration,
    /// Whether the numbers of sessions differed when they were compared last.
    differed: bool,
    entrance: watch::Sender<Entrance>,
    pub(super) world: World,
    metrics: Arc<NodeMetrics>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Behind {
    No,
    Yes,
}

impl<B: SessionBackend> Leading<B> {
    pub(super) fn begin(
        backend: Arc<B>,
        leadership: B::Leadership,
        liveness: Liveness,
        settings: &SessionSettings,
        entrance: watch::Sender<Entrance>,
        world: World,
    ) -> Leading<B> {
        // Both under the state's lock: no event is missed between them.
        let (events, cluster, generation, sessions) = backend.read(|state| {
            let sessions = state.sessions().map(|(id, session)| known(id, session)).collect::<Vec<_>>();
            (backend.subscribe(), state.cluster().unwrap_or_default(), state.generation(), sessions)
        });
        let compare_at = world.now() + COMPARE;
        let mut leading = Leading {
            backend,
            leadership,
            cluster,
            generation,
            election_timeout: settings.election_timeout,
            liveness,
            streams: Streams::default(),
            slots: Slots::default(),
            events,
            behind: Behind::No,
            work: FuturesUnordered::new(),
            compare_at,
            differed: false,
            entrance,
            world,
            metrics: Arc::clone(&settings.metrics),
        };
        tracing::info!(sessions = sessions.len(), "this node serves sessions");
        leading.tell_liveness(liveness::Event::BecameStoreLeader { sessions });
        leading
    }

    /// This node leads no longer: the streams are closed, which releases nobody.
    pub(super) fn end(mut self, store_leader: Option<StoreLeader>) -> Liveness {
        for effect in self.liveness.on(liveness::Event::LostStoreLeadership, self.now()) {
            if let Effect::CloseStreams { why } = effect {
                self.close_streams(why, store_leader.clone());
            }
        }
        self.liveness
    }

    pub(super) fn leadership(&self) -> &B::Leadership {
        &self.leadership
    }

    /// Whether events were missed.
    pub(super) fn is_behind(&self) -> bool {
        self.behind == Behind::Yes
    }

    /// Waits for the next thing to do. Cancelling it loses nothing.
    pub(super) async fn next(&mut self, world: &World) -> Woken<B::Leadership> {
        let wake_at = self.liveness.wake_at();
        tokio::select! {
            biased;
            () = async {
                match wake_at {
                    Some(at) => world.sleep_until(at).await,
                    None => std::future::pending().await,
                }
            } => Woken::Time,
            Some(done) = self.work.next(), if !self.work.is_empty() => Woken::Done(done),
            applied = self.events.next() => Woken::Applied(applied),
        }
    }

    pub(super) fn woken(&mut self, woken: Woken<B::Leadership>) {
        match woken {
            Woken::Applied(Some(applied)) => self.applied(&applied),
            Woken::Applied(None) => self.behind = Behind::Yes,
            Woken::Done(done) => self.done(done),
            Woken::Time => {} // catching up looks at the clock
        }
    }

    /// Gives everything that is ready a turn, so that none of the queues starves another, and looks at the clock.
    pub(super) fn catch_up(&mut self) {
        for _ in 0..BATCH {
            let Some(Some(done)) = self.work.next().now_or_never() else { break };
            self.done(done);
        }
        self.take_events();
        if self.liveness.wake_at().is_some_and(|at| at <= self.now()) {
            self.tell_liveness(liveness::Event::Tick);
        }
        let now = self.world.now();
        if now >= self.compare_at {
            self.compare_at = now + COMPARE;
            self.find_escaped();
        }
        while let Some(stream) = self.streams.take_cut_off() {
            self.metrics.cut_off.inc(CutOff::SessionStream);
            self.tell_liveness(liveness::Event::StreamBroke { stream });
        }
    }

    // --- from the streams ---

    pub(super) fn input(&mut self, input: Input) {
        match input {
            Input::Began { stream, outbox, stop } => match &*self.entrance.borrow() {
                Entrance::Open => self.streams.began(stream, outbox, stop),
                Entrance::Shut(why) => outbox.close(refuse(why.clone())),
            },
            Input::Frame { stream, call, request } => self.frame(stream, call, request),
            Input::Call { session, request, answer } => self.call(session, request, answer),
            Input::Broke { stream, status } => {
                if self.streams.broke(stream, status.as_ref().map(not_a_frame)) == StreamState::Open {
                    self.tell_liveness(liveness::Event::StreamBroke { stream });
                }
            }
            Input::RelayLost { stream } => {
                if self.streams.relay_lost(stream) == StreamState::Open {
                    self.tell_liveness(liveness::Event::RelayLost { stream });
                }
            }
        }
    }

    // --- from the futures ---

    fn done(&mut self, done: Done<B::Leadership>) {
        // The events of a command were published before its outcome: with them in hand, order is a matter of `seq`.
        self.take_events();
        match done {
            Done::Command(proposed, result) => self.command_done(&proposed, result),
            Done::Round(round, confirmed) if confirmed.as_ref() == Some(&self.leadership) => {
                self.tell_liveness(liveness::Event::QuorumConfirmed { round });
            }
            Done::Round(round, _) => self.tell_liveness(liveness::Event::ConfirmFailed { round }),
            Done::End(session, ticket, fate) => {
                self.tell_liveness(liveness::Event::EndDecided { session, ticket, fate });
            }
        }
    }

    // --- from the state machine ---

    fn take_events(&mut self) {
        while let Some(applied) = self.events.try_next() {
            self.applied(&applied);
        }
    }

    fn applied(&mut self, applied: &Applied) {
        for event in &applied.events {
            if let Event::SessionAsked { session, wish } = *event {
                // Deadlines do not wait until the client can be told.
                self.tell_liveness(liveness::Event::SessionAsked { session, wish });
            }
            let Some(session) = whom_it_concerns(event) else { continue };
            match self.slots.offer(session, applied.header(), event) {
                Offered::Held => {}
                Offered::Now => self.tell(session, applied.header(), event),
            }
        }
    }

    pub(super) fn tell(&mut self, session: SessionId, header: Header, event: &Event) {
        if let Some(stream) = self.slots.stream_to_tell(session, header.seq)
            && let Some((_, body)) = convert::session_event(header, event)
        {
            self.streams.push(stream, frames::event(body));
        }
        if let Event::SessionEnded { .. } = event {
            if let Some(stream) = self.slots.stream_of(session) {
                self.streams.session_ended(stream, session);
            }
            self.slots.ended(session);
            self.tell_liveness(liveness::Event::SessionEnded { session });
        }
    }

    /// Sessions of the state without a deadline: their number tells. While many open and close it differs for moments, too; so
    /// only a second time is worth a look at all of them.
    fn find_escaped(&mut self) {
        let known_here = self.liveness.session_count() as u64;
        let before = self.differed;
        let (differ, sessions) = self.backend.read(|state| {
            let differ = state.session_count() != known_here;
            let all = (differ && before)
                .then(|| state.sessions().map(|(id, session)| known(id, session)).collect::<Vec<_>>());
            (differ, all)
        });
        self.differed = differ;
        if let Some(sessions) = sessions {
            self.tell_liveness(liveness::Event::Found { sessions });
        }
    }

    // --- what liveness decides ---

    pub(super) fn tell_liveness(&mut self, event: liveness::Event) {
        for effect in self.liveness.on(event, self.now()) {
            self.carry_out(effect);
        }
    }

    /// On the clock that deadlines are counted on.
    fn now(&self) -> Duration {
        if planted::is(Bug::ExpireByWallClock) {
            return Duration::from_millis(self.world.unix_ms());
        }
        self.world.now()
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::AcceptStreams => {
                self.entrance.send_replace(Entrance::Open);
            }
            Effect::StartConfirmRound { round } => self.start_round(round),
            Effect::AckKeepAlive { stream, call, sessions } => {
                self.streams.settle(stream, call);
                if !sessions.is_empty() {
                    self.streams.push(stream, frames::kept_alive(call, &sessions));
                }
            }
            Effect::RefuseKeepAlive { stream, call, session, why } => {
                self.streams.push(stream, frames::not_renewed(call, session, why));
            }
            Effect::ProposeEnd { ticket, session, why, only_if } => {
                tracing::debug!(session = session.get(), %why, "a session's time has come");
                let command = Command::new(self.world.unix_ms(), Op::EndSession { session, why, only_if });
                if planted::is(Bug::GrantBeforeEnd) {
                    self.foretell(&command);
                }
                self.propose_end(session, ticket, command);
            }
            Effect::CloseStreams { why } => self.close_streams(why, None),
        }
    }

    fn start_round(&mut self, round: Round) {
        let (backend, world, limit) = (Arc::clone(&self.backend), self.world.clone(), self.election_timeout);
        self.work
            .push(Box::pin(async move { Done::Round(round, world.timeout(limit, backend.confirm()).await.flatten()) }));
    }

    fn propose_end(&mut self, session: SessionId, ticket: Ticket, command: Command) {
        let (backend, world) = (Arc::clone(&self.backend), self.world.clone());
        let leadership = self.leadership.clone();
        self.work.push(Box::pin(async move {
            let outcome = world.timeout(PROPOSAL_LIMIT, backend.submit_as(leadership, command)).await;
            Done::End(session, ticket, fate(outcome.unwrap_or_else(no_outcome)))
        }));
    }

    /// Tells candidates of the grants that a command would make. Only a planted bug does this.
    fn foretell(&mut self, command: &Command) {
        let Outcome { seq, revision, events, .. } = self.backend.read(|state| apply(&mut state.clone(), command));
        let grants = events.into_iter().filter(|event| matches!(event, Event::Elected { .. }));
        let (cluster, generation) = (self.cluster, self.generation);
        self.applied(&Applied { cluster, generation, seq, revision, events: grants.collect() });
    }

    fn close_streams(&mut self, why: CloseReason, store_leader: Option<StoreLeader>) {
        tracing::info!(?why, "session streams are closed");
        self.streams.close_all(&refuse(frames::closed(why, store_leader.clone())));
        self.slots.close_all();
        self.entrance.send_replace(Entrance::Shut(frames::elsewhere(store_leader)));
    }
}

pub(super) fn known(id: SessionId, session: &Session) -> Known {
    Known {
        session: id,
        attach: session.attach,
        ttl: Duration::from_millis(session.ttl_ms),
        on_disconnect: session.on_disconnect,
        wish: session.wish,
    }
}

/// The session whose stream is to be told. A leadership that begins without another's end is the answer to its own campaign,
/// which carries it: whoever vacates an election fills it by the same command.
fn whom_it_concerns(event: &Event) -> Option<SessionId> {
    match event {
        Event::Elected { grant, previous: Some(_) } => Some(grant.session),
        Event::Revoked { session, .. }
        | Event::Withdrawn { session, .. }
        | Event::EndRequested { session, .. }
        | Event::SessionAsked { session, .. }
        | Event::SessionEnded { session, .. } => Some(*session),
        Event::Elected { previous: None, .. }
        | Event::ValueChanged { .. }
        | Event::Vacant { .. }
        | Event::KeyChanged { .. } => None,
    }
}

fn fate(result: Result<Outcome, ErrorDetail>) -> Fate {
    match result.map(|outcome| outcome.reply) {
        Ok(Ok(Reply::SessionEnded) | Err(Refusal::SessionEnded { .. })) => Fate::Ended,
        Ok(Err(Refusal::AttachChanged { attach, .. })) => Fate::AttachChanged { attach },
        Err(error) if error.outcome() == error_detail::Outcome::NotApplied => Fate::NotApplied,
        Ok(_) | Err(_) => Fate::Unknown,
    }
}

/// The client sent what is no frame. What it had in flight may have been applied.
pub(super) fn not_a_frame(status: &Status) -> Status {
    let limit = format!("a ClientFrame of at most {FRAME_BYTES} bytes");
    let detail = convert::invalid("frame", status.message(), limit);
    refuse(ErrorDetail { outcome: error_detail::Outcome::Unknown.into(), ..detail })
}
