//! A caller: a candidate without a client, as a program in another language might be. Its session is a stream that only the store
//! sends on; everything else it says by calls, each at any node: keep-alives, campaigns, withdrawals, resignations. It believes in a
//! leadership for as long as its last keep-alive allows, counted from when that was sent.
//!
//! It never closes its session: it goes away, and its stream breaks.

use std::time::Duration;

use palisade_fence::Token;
use palisade_wire::coord::v1::attach_request::How;
use palisade_wire::coord::v1::election_service_client::ElectionServiceClient;
use palisade_wire::coord::v1::error_detail::Kind;
use palisade_wire::coord::v1::server_frame::Body;
use palisade_wire::coord::v1::session_service_client::SessionServiceClient;
use palisade_wire::coord::v1::{
    AttachRequest, AttachSession, Campaign, Grant, KeepAlive, OnDisconnect, OpenSession, ResignRequest, ServerFrame,
    SessionAttached, Withdraw, on_disconnect,
};
use palisade_world::Task;
use tokio::sync::mpsc;
use tonic::Streaming;

use super::Process;
use super::candidate::{ELECTIONS, unless_at_rest};
use super::wire::{Known, Unanswered, Wire};
use crate::facts::Fact;
use crate::phase::Phase;
use crate::plan::Role;

/// Between two attempts at a call, and as much again at random.
const AGAIN: Duration = Duration::from_millis(20);
/// A holder does what it is asked to within this time.
const OBEYS_WITHIN: Duration = Duration::from_millis(400);
/// Keep-alives per TTL, so that two may be lost.
const KEEP_ALIVES_PER_TTL: u32 = 3;
/// What clocks that differ may take of a TTL: this part, and so much in all.
const DRIFT_PART: u32 = 100;
const DRIFT_FLOOR: Duration = Duration::from_millis(2);

/// Runs until the process is ended.
pub(crate) async fn run(process: Process) -> turmoil::Result {
    loop {
        if let Some(life) = Life::begin(&process).await {
            life.live().await;
        }
        pause(&process).await;
    }
}

async fn pause(process: &Process) {
    process.world.sleep(AGAIN + process.world.jitter(AGAIN)).await;
}

/// What came of a call.
enum Said {
    Attached(Box<Streaming<ServerFrame>>, SessionAttached),
    /// A keep-alive that was sent then renewed the session.
    Renewed(Duration),
    /// The session is renewed no more.
    NotRenewed,
    Campaigned(Option<Grant>),
    /// The candidacy, or the leadership, is over.
    Out,
    SessionOver,
}

/// What there is to react to.
enum Happens {
    Said(Said),
    Frame(Option<ServerFrame>),
    ClockChanged,
    /// It may believe no longer.
    Limit,
    /// It is time to do something else.
    Move,
    /// What somebody asked for is due.
    Obey,
}

/// Where it stands in its election.
enum Stage {
    Out,
    /// Its campaign is on its way, or it waits.
    Stands,
    Leads(Token),
    /// It withdraws or resigns.
    Leaving,
}

/// One session.
struct Life {
    process: Process,
    session: u64,
    ttl: Duration,
    keeps: bool,
    election: &'static str,
    /// Send time of the newest keep-alive that was answered.
    renewed: Duration,
    stream: Option<Box<Streaming<ServerFrame>>>,
    stage: Stage,
    /// Of its last campaign.
    serial: u64,
    /// When it loses patience, resigns, or goes away; nothing of it at rest.
    moves_at: Duration,
    obeys_at: Option<Duration>,
    until: Duration,
    tell: mpsc::UnboundedSender<Said>,
    hear: mpsc::UnboundedReceiver<Said>,
    attaching: Option<Task<()>>,
    acting: Option<Task<()>>,
    _renewing: Task<()>,
}

impl Life {
    async fn begin(process: &Process) -> Option<Life> {
        let (world, wire) = (&process.world, Wire::new(process));
        let ttl = Duration::from_millis(400 + world.random_u64() % 1_000);
        let keeps = process.one_in(2);
        let kind = match keeps {
            true => on_disconnect::Kind::KeepUntilTtl(on_disconnect::KeepUntilTtl {}),
            false => on_disconnect::Kind::ReleaseAfterMs(world.random_u64() % 300),
        };
        let ttl_ms = u64::try_from(ttl.as_millis()).expect("it is small");
        let open = OpenSession { ttl_ms, on_disconnect: Some(OnDisconnect { kind: Some(kind) }), session_id: 0 };
        let renewed = world.now();
        let request = AttachRequest { how: Some(How::Open(open)) };
        let mut stream = wire.ask(sessions(&wire, wire.any()).attach(request)).await.ok()?;
        let Ok(Some(ServerFrame { body: Some(Body::Opened(opened)), .. })) = stream.message().await else {
            return None;
        };
        let session = opened.session;
        process.witness.saw(process.who, Fact::SessionOpened { session, by: process.who });
        let until = world.now() + Duration::from_millis(1_000 + world.random_u64() % 5_000);
        let (tell, hear) = mpsc::unbounded_channel();
        let renewing = world.spawn("keep-alives", renew(process.clone(), session, ttl, tell.clone()));
        Some(Life {
            process: process.clone(),
            session,
            ttl,
            keeps,
            // It calls no ledgers: where there are any, it leaves the election whose leaders do to others.
            election: ELECTIONS[usize::from(process.plan.count(Role::Ledger) > 0 || process.one_in(3))],
            renewed,
            stream: Some(Box::new(stream)),
            stage: Stage::Out,
            serial: 0,
            moves_at: Duration::MAX,
            obeys_at: None,
            until,
            tell,
            hear,
            attaching: None,
            acting: None,
            _renewing: renewing,
        })
    }

    async fn live(mut self) {
        let mut rates = self.process.clock_rates();
        loop {
            self.act();
            let (process, limit) = (self.process.clone(), self.limit());
            let (leads, obeys_at) = (self.token().is_some(), self.obeys_at);
            let happens = tokio::select! {
                biased;
                () = process.world.sleep_until(limit), if leads => Happens::Limit,
                Some(said) = self.hear.recv() => Happens::Said(said),
                frame = next(&mut self.stream) => Happens::Frame(frame),
                Ok(()) = rates.changed() => Happens::ClockChanged,
                () = process.world.sleep_until(obeys_at.unwrap_or_default()), if obeys_at.is_some() => Happens::Obey,
                () = unless_at_rest(&process, self.moves_at.min(self.until)) => Happens::Move,
            };
            let lives = match happens {
                Happens::Limit => self.over(),
                Happens::Said(said) => self.said(said),
                Happens::Frame(frame) => self.frame(frame),
                Happens::ClockChanged => self.believes(),
                Happens::Obey | Happens::Move => self.moves(),
            };
            if !lives {
                break;
            }
        }
        self.leave();
    }

    fn saw(&self, fact: Fact) {
        self.process.witness.saw(self.process.who, fact);
    }

    /// Until then it may believe that its session lives.
    fn limit(&self) -> Duration {
        self.renewed + self.ttl.saturating_sub(self.ttl / DRIFT_PART + DRIFT_FLOOR)
    }

    fn token(&self) -> Option<Token> {
        match self.stage {
            Stage::Leads(token) => Some(token),
            Stage::Out | Stage::Stands | Stage::Leaving => None,
        }
    }

    /// Begins what is to be done: attaches again, stands again.
    fn act(&mut self) {
        let world = self.process.world.clone();
        if self.stream.is_none() && self.attaching.is_none() {
            let attaching = attach(self.process.clone(), self.session, self.tell.clone());
            self.attaching = Some(world.spawn("attaching", attaching));
        }
        if matches!(self.stage, Stage::Out) && self.obeys_at.is_none() {
            self.serial += 1;
            self.stage = Stage::Stands;
            let patience =
                if self.process.one_in(3) { world.jitter(Duration::from_millis(600)) } else { Duration::MAX };
            self.moves_at = world.now().saturating_add(patience);
            let campaign = Campaign {
                session: self.session,
                serial: self.serial,
                election: self.election.to_owned(),
                candidate_id: self.process.name(),
                value: None,
                priority: i32::try_from(world.random_u64() % 3).expect("it is small"),
            };
            let campaigning = campaigns(self.process.clone(), campaign, self.tell.clone());
            self.acting = Some(world.spawn("campaigning", campaigning));
        }
    }

    /// It is time to go on to something else. `false`: to go away.
    fn moves(&mut self) -> bool {
        let now = self.process.world.now();
        let asked = self.obeys_at.is_some_and(|at| at <= now);
        if asked || (now >= self.until && *self.process.phase.borrow() != Phase::Rest) {
            return false;
        }
        self.moves_at = Duration::MAX;
        let (process, tell) = (self.process.clone(), self.tell.clone());
        match self.stage {
            Stage::Stands => {
                self.process.witness.count("withdrawals by calls");
                let withdraw = Withdraw { session: self.session, serial: self.serial };
                self.acting = Some(self.process.world.spawn("withdrawing", withdraws(process, withdraw, tell)));
                self.stage = Stage::Leaving;
            }
            Stage::Leads(token) => {
                self.resigns(token);
                let resign = self.resignation(token);
                self.acting = Some(self.process.world.spawn("resigning", resigns(process, resign, tell)));
                self.stage = Stage::Leaving;
            }
            Stage::Out | Stage::Leaving => {}
        }
        true
    }

    fn resigns(&self, token: Token) {
        let (election, candidate) = (self.election.to_owned(), self.process.name());
        self.saw(Fact::Resigns { election, candidate, token });
    }

    fn resignation(&self, token: Token) -> ResignRequest {
        let (election, token) = (self.election.to_owned(), token.get());
        ResignRequest { election, token, session: self.session, ..ResignRequest::default() }
    }

    fn said(&mut self, said: Said) -> bool {
        match said {
            Said::Attached(stream, attached) => {
                self.process.witness.count("sessions attached again by calls");
                (self.stream, self.attaching) = (Some(stream), None);
                let held = |token: Token| attached.held.iter().any(|grant| grant.token == token.get());
                if self.token().is_some_and(|token| !held(token)) {
                    self.loses();
                    self.stage = Stage::Out;
                }
                attached.held.iter().all(|grant| self.granted(grant))
            }
            Said::Renewed(sent) => {
                self.renewed = self.renewed.max(sent);
                self.believes()
            }
            Said::NotRenewed => self.asked(),
            Said::Campaigned(grant) => grant.is_none_or(|grant| self.granted(&grant)),
            Said::Out => {
                self.stage = Stage::Out;
                true
            }
            Said::SessionOver => self.over(),
        }
    }

    fn frame(&mut self, frame: Option<ServerFrame>) -> bool {
        let Some(ServerFrame { body, .. }) = frame else {
            self.stream = None;
            return true;
        };
        match body {
            Some(Body::Granted(granted)) => granted.grant.is_none_or(|grant| self.granted(&grant)),
            Some(Body::Revoked(revoked)) if self.token().is_some_and(|token| token.get() == revoked.token) => {
                self.loses();
                self.stage = Stage::Out;
                true
            }
            Some(Body::Withdrawn(withdrawn)) if withdrawn.serial == self.serial => {
                if matches!(self.stage, Stage::Stands) {
                    self.stage = Stage::Out;
                }
                true
            }
            Some(Body::EndRequested(request)) => {
                if let Some(token) = self.token().filter(|token| token.get() == request.token) {
                    let to = Some(request.to).filter(|to| !to.is_empty());
                    self.saw(Fact::EndAsked { candidate: self.process.name(), token, to });
                }
                self.asked()
            }
            Some(Body::SessionAsked(_)) => self.asked(),
            Some(Body::Ended(_)) => self.over(),
            _ => true,
        }
    }

    /// Somebody wants something of it to end: it goes away soon.
    fn asked(&mut self) -> bool {
        let world = &self.process.world;
        let soon = world.now() + world.jitter(OBEYS_WITHIN);
        self.obeys_at.get_or_insert(soon);
        true
    }

    /// `false`: what was granted came too late to be believed.
    fn granted(&mut self, grant: &Grant) -> bool {
        let Some(token) = Token::from_wire(grant.token) else { return true };
        if grant.serial != self.serial || !matches!(self.stage, Stage::Stands) {
            return true;
        }
        let world = &self.process.world;
        if world.now() >= self.limit() {
            return false;
        }
        self.moves_at = world.now() + Duration::from_millis(300 + world.random_u64() % 3_000);
        (self.stage, self.acting) = (Stage::Leads(token), None);
        self.process.witness.count("grants to callers");
        let (election, candidate) = (self.election.to_owned(), self.process.name());
        self.saw(Fact::Granted { election, candidate, token, seq: grant.seq });
        self.believes()
    }

    /// Only who keeps until the TTL has a clock to trust.
    fn believes(&self) -> bool {
        if let Some(token) = self.token().filter(|_| self.keeps) {
            let (election, candidate) = (self.election.to_owned(), self.process.name());
            let until = self.process.simulated(self.limit());
            self.saw(Fact::Believes { election, candidate, token, until });
        }
        true
    }

    fn loses(&self) {
        if let Some(token) = self.token() {
            let (election, candidate) = (self.election.to_owned(), self.process.name());
            self.saw(Fact::Lost { election, candidate, token });
        }
    }

    /// The session has ended, or may have.
    fn over(&mut self) -> bool {
        self.loses();
        self.stage = Stage::Leaving;
        false
    }

    /// Goes away: nobody keeps the session alive from now on.
    fn leave(self) {
        if let Some(token) = self.token() {
            self.resigns(token);
        }
        self.saw(Fact::SessionLeft { session: self.session });
    }
}

/// The next frame; `None`: the stream is over. Never, if there is none.
async fn next(stream: &mut Option<Box<Streaming<ServerFrame>>>) -> Option<ServerFrame> {
    match stream {
        Some(stream) => stream.message().await.ok().flatten(),
        None => std::future::pending().await,
    }
}

fn sessions(wire: &Wire, node: usize) -> SessionServiceClient<tonic::transport::Channel> {
    SessionServiceClient::new(wire.channel(node))
}

/// Whether the session has ended, as the state machine says.
fn is_over(unanswered: &Unanswered) -> bool {
    unanswered.kind == Kind::SessionEnded
}

async fn renew(process: Process, session: u64, ttl: Duration, tell: mpsc::UnboundedSender<Said>) {
    let mut wire = Wire::new(&process);
    loop {
        let (sent, node) = (process.world.now(), wire.leader_or_any());
        let request = KeepAlive { sessions: vec![session] };
        // Whoever waits longer for a node that is silent has no time left to ask another.
        let limit = ttl / KEEP_ALIVES_PER_TTL;
        let answer = process.world.timeout(limit, wire.ask(sessions(&wire, node).keep_alive(request))).await;
        let Some(answer) = answer else {
            wire.learn_silent();
            continue;
        };
        wire.learn(node, answer.as_ref().map(|_| ()));
        let said = match answer {
            Ok(kept) if kept.sessions.contains(&session) => Some(Said::Renewed(sent)),
            Ok(kept) if kept.not_renewed.contains(&session) => Some(Said::NotRenewed),
            Err(unanswered) if is_over(&unanswered) => Some(Said::SessionOver),
            Ok(_) | Err(_) => None,
        };
        let renewed = said.is_some();
        // Whoever lives hears it.
        said.into_iter().for_each(|said| drop(tell.send(said)));
        if renewed {
            process.world.sleep_until(sent + ttl / KEEP_ALIVES_PER_TTL).await;
        } else {
            pause(&process).await;
        }
    }
}

async fn attach(process: Process, session: u64, tell: mpsc::UnboundedSender<Said>) {
    let mut wire = Wire::new(&process);
    loop {
        let node = wire.any();
        let request = AttachRequest { how: Some(How::Attach(AttachSession { session })) };
        let answer = wire.ask(sessions(&wire, node).attach(request)).await;
        wire.learn(node, answer.as_ref().map(|_| ()));
        match answer {
            Ok(mut stream) => {
                if let Ok(Some(ServerFrame { body: Some(Body::Attached(attached)), .. })) = stream.message().await {
                    return drop(tell.send(Said::Attached(Box::new(stream), attached)));
                }
            }
            Err(unanswered) if is_over(&unanswered) => return drop(tell.send(Said::SessionOver)),
            Err(_) => {}
        }
        pause(&process).await;
    }
}

/// Under the same serial until it is answered: that keeps the place.
async fn campaigns(process: Process, campaign: Campaign, tell: mpsc::UnboundedSender<Said>) {
    let mut wire = Wire::new(&process);
    loop {
        let node = wire.leader_or_any();
        let answer = wire.ask(sessions(&wire, node).campaign(campaign.clone())).await;
        wire.learn(node, answer.as_ref().map(|_| ()));
        match answer {
            Ok(campaigned) => return drop(tell.send(Said::Campaigned(campaigned.grant))),
            Err(unanswered) if is_over(&unanswered) => return drop(tell.send(Said::SessionOver)),
            // The state machine's word is remembered under the serial: while its last session, of the same name, still lives, say.
            Err(Unanswered { known: Known::Refused, .. }) => {
                pause(&process).await;
                return drop(tell.send(Said::Out));
            }
            Err(_) => {}
        }
        pause(&process).await;
    }
}

async fn withdraws(process: Process, withdraw: Withdraw, tell: mpsc::UnboundedSender<Said>) {
    let mut wire = Wire::new(&process);
    loop {
        let node = wire.leader_or_any();
        let answer = wire.ask(sessions(&wire, node).withdraw(withdraw)).await;
        wire.learn(node, answer.as_ref().map(|_| ()));
        match answer {
            Ok(_) => return drop(tell.send(Said::Out)),
            Err(unanswered) if is_over(&unanswered) => return drop(tell.send(Said::SessionOver)),
            Err(_) => {}
        }
        pause(&process).await;
    }
}

/// Idempotent: repeated until it is answered.
async fn resigns(process: Process, resign: ResignRequest, tell: mpsc::UnboundedSender<Said>) {
    let mut wire = Wire::new(&process);
    loop {
        let node = wire.leader_or_any();
        let answer = wire.ask(ElectionServiceClient::new(wire.channel(node)).resign(resign.clone())).await;
        wire.learn(node, answer.as_ref().map(|_| ()));
        match answer {
            Ok(_) => return drop(tell.send(Said::Out)),
            Err(unanswered) if is_over(&unanswered) => return drop(tell.send(Said::SessionOver)),
            Err(_) => {}
        }
        pause(&process).await;
    }
}
