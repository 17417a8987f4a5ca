//! Carries out what the session core decides: one task per client, which owns its streams, its timers and the handles' ends.
//!
//! It decides nothing. Handles talk to it through one queue; frames, dials and hand-overs come back through another. What a
//! holder may believe is written before anything is sent, because effects are carried out in their order.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use palisade_fence::Token;
use palisade_wire::coord::v1::election_service_client::ElectionServiceClient;
use palisade_wire::coord::v1::server_frame::Body;
use palisade_wire::coord::v1::{self, ClientFrame, LeaderValue, ServerFrame};
use palisade_wire::status;
use palisade_world::Task;
use tokio::sync::{mpsc, oneshot, watch};
use tonic::Status;

use crate::backoff::{AT_MOST, Backoff};
use crate::dial::{Dialed, dial};
use crate::links::Purpose;
use crate::requests::{Repeat, Shared};
use crate::serials::Serial;
use crate::session_core::{Effect, Event, IsOpen, Key, OpenId, SessionCore, StreamId, ToOpen, Way};
use crate::{EndRequest, Error, ErrorKind, Grant, Header, LeadershipState, LostWhy, Outcome, SessionEnd, SessionWish};

/// Frames and dials that wait for the driver; a full queue holds up the readers of the streams, not the store.
const QUEUE: usize = 256;

/// After the last handle is gone: how long the driver stays to tell the store. What it cannot tell ends by its TTL.
const FAREWELL: Duration = Duration::from_secs(2);

/// What handles ask for. Not bounded by itself: each waits for its answer, or is the one farewell of its handle.
pub(crate) enum Ask {
    Open {
        what: ToOpen,
        give_up_at: Duration,
        reply: oneshot::Sender<Result<OpenedSession, Error>>,
    },
    Campaign {
        key: Key,
        serial: Serial,
        election: String,
        candidate: String,
        value: LeaderValue,
        priority: i32,
        reply: oneshot::Sender<Result<Led, Error>>,
    },
    Abandon {
        key: Key,
    },
    StepDown {
        key: Key,
        token: Token,
        reply: Option<oneshot::Sender<Result<(), Error>>>,
    },
    Close {
        session: u64,
        reply: Option<oneshot::Sender<Result<(), Error>>>,
    },
}

/// What an open session is made of.
pub(crate) struct OpenedSession {
    pub(crate) is: IsOpen,
    pub(crate) over: watch::Receiver<Option<SessionEnd>>,
    pub(crate) wish: watch::Receiver<Option<SessionWish>>,
}

/// What a leadership is made of.
pub(crate) struct Led {
    pub(crate) grant: Grant,
    pub(crate) state: watch::Receiver<LeadershipState>,
    pub(crate) requested: watch::Receiver<Option<EndRequest>>,
}

/// The other end of a session's handles.
struct Opened {
    over: watch::Sender<Option<SessionEnd>>,
    wish: watch::Sender<Option<SessionWish>>,
}

/// The other end of a leadership's handle.
struct Leads {
    state: watch::Sender<LeadershipState>,
    requested: watch::Sender<Option<EndRequest>>,
}

/// What comes from the driver's own tasks.
enum News {
    Dialed(Dialed),
    Frame(StreamId, Box<ServerFrame>),
    Broken(StreamId, Option<Status>),
    GrantEnded { session: u64, token: Token, result: Result<(), Error> },
}

struct Stream {
    address: String,
    send: mpsc::UnboundedSender<ClientFrame>,
    /// Ends with the stream.
    _reader: Task<()>,
}

struct Candidate {
    /// Until the store has answered.
    serial: Option<Serial>,
    reply: oneshot::Sender<Result<Led, Error>>,
}

#[derive(Default)]
struct Ending {
    task: Option<Task<()>>,
    replies: Vec<oneshot::Sender<Result<(), Error>>>,
}

/// The driver. It ends some time after the last handle has gone.
pub(crate) struct SessionDriver {
    shared: Arc<Shared>,
    core: SessionCore,
    news: mpsc::Receiver<News>,
    tell: mpsc::Sender<News>,
    dialing: Option<Task<()>>,
    streams: BTreeMap<StreamId, Stream>,
    next_id: u64,
    opening: BTreeMap<OpenId, oneshot::Sender<Result<OpenedSession, Error>>>,
    sessions: BTreeMap<u64, Opened>,
    candidates: BTreeMap<Key, Candidate>,
    leaders: BTreeMap<Key, Leads>,
    closing: BTreeMap<u64, Vec<oneshot::Sender<Result<(), Error>>>>,
    ending: BTreeMap<(u64, Token), Ending>,
    /// Events that came of carrying out effects.
    own: VecDeque<Event>,
}

impl SessionDriver {
    /// Starts the driver of a client; it runs until the sender is gone and what it held has been ended.
    pub(crate) fn start(shared: Arc<Shared>) -> mpsc::UnboundedSender<Ask> {
        let (send, asks) = mpsc::unbounded_channel();
        let (tell, news) = mpsc::channel(QUEUE);
        let world = shared.world.clone();
        let driver = SessionDriver {
            shared,
            core: SessionCore::default(),
            news,
            tell,
            dialing: None,
            streams: BTreeMap::new(),
            next_id: 0,
            opening: BTreeMap::new(),
            sessions: BTreeMap::new(),
            candidates: BTreeMap::new(),
            leaders: BTreeMap::new(),
            closing: BTreeMap::new(),
            ending: BTreeMap::new(),
            own: VecDeque::new(),
        };
        world.spawn("palisade-sessions", driver.run(asks)).detach();
        send
    }

    async fn run(mut self, mut asks: mpsc::UnboundedReceiver<Ask>) {
        let world = self.shared.world.clone();
        let mut farewell: Option<Duration> = None;
        loop {
            let now = world.now();
            if farewell.is_some_and(|until| now >= until || self.core.is_idle()) {
                return;
            }
            let wake = [self.core.wake_at(now), farewell].into_iter().flatten().min();
            tokio::select! {
                // Frames first: they are what makes a deadline move on.
                biased;
                news = self.news.recv() => match news {
                    Some(news) => self.hear(news),
                    None => return,
                },
                () = async { world.sleep_until(wake.unwrap_or_default()).await }, if wake.is_some() => self.feed(Event::Tick),
                ask = asks.recv(), if farewell.is_none() => match ask {
                    Some(ask) => self.ask(ask),
                    None => farewell = Some(world.now() + FAREWELL),
                },
            }
        }
    }

    fn ask(&mut self, ask: Ask) {
        match ask {
            Ask::Open { what, give_up_at, reply } => {
                let open = OpenId(self.fresh());
                self.opening.insert(open, reply);
                self.feed(Event::Open { open, what, give_up_at });
            }
            Ask::Campaign { key, serial, election, candidate, value, priority, reply } => {
                self.candidates.insert(key, Candidate { serial: Some(serial), reply });
                self.feed(Event::Campaign { key, election, candidate, value, priority });
            }
            Ask::Abandon { key } => {
                self.candidates.remove(&key);
                self.feed(Event::Abandon { key });
            }
            Ask::StepDown { key, token, reply } => {
                if let Some(reply) = reply {
                    self.ending.entry((key.session, token)).or_default().replies.push(reply);
                }
                self.feed(Event::StepDown { key });
                // Nothing to end: the leadership was over already, one way or the other.
                if self.ending.get(&(key.session, token)).is_some_and(|it| it.task.is_none()) {
                    self.grant_ended(key.session, token, &Ok(()));
                }
            }
            Ask::Close { session, reply } => {
                if let Some(reply) = reply {
                    self.closing.entry(session).or_default().push(reply);
                }
                self.feed(Event::Close { session });
            }
        }
    }

    fn hear(&mut self, news: News) {
        match news {
            News::Dialed(dialed) => {
                self.dialing = None;
                let (stream, way) = (StreamId(self.fresh()), dialed.way);
                tracing::debug!(address = dialed.address, way = ?dialed.way, "session stream");
                if dialed.way == Way::Direct {
                    self.shared.links.leads(&dialed.address);
                }
                let reader =
                    self.shared.world.spawn("palisade-session-reader", read(stream, dialed.receive, self.tell.clone()));
                self.streams.insert(stream, Stream { address: dialed.address, send: dialed.send, _reader: reader });
                self.feed(Event::Connected { stream, way });
            }
            News::Frame(stream, frame) => {
                if !self.streams.contains_key(&stream) {
                    return;
                }
                match self.shared.seen.admit(&header_of(&frame)) {
                    Ok(()) => self.feed(Event::Received { stream, frame: *frame }),
                    Err(error) => {
                        tracing::warn!(%error, "a session stream of another cluster is closed");
                        self.streams.remove(&stream);
                        self.feed(Event::Broken { stream, hint: None });
                    }
                }
            }
            News::Broken(stream, why) => {
                if let Some(gone) = self.streams.remove(&stream) {
                    tracing::debug!(address = gone.address, ?why, "session stream broke");
                    self.shared.links.forget(Purpose::Sessions, &gone.address);
                    let leader = why.as_ref().and_then(status::detail).and_then(|detail| detail.store_leader);
                    let hint = leader.map(|leader| leader.address).filter(|hint| !hint.is_empty());
                    self.feed(Event::Broken { stream, hint });
                }
            }
            News::GrantEnded { session, token, result } => {
                self.grant_ended(session, token, &result);
                self.feed(Event::GrantEnded { session, token });
            }
        }
    }

    fn grant_ended(&mut self, session: u64, token: Token, result: &Result<(), Error>) {
        for reply in self.ending.remove(&(session, token)).map(|it| it.replies).unwrap_or_default() {
            let _ = reply.send(result.clone()); // whoever asked may have stopped waiting
        }
    }

    fn feed(&mut self, event: Event) {
        self.own.push_back(event);
        while let Some(event) = self.own.pop_front() {
            for effect in self.core.on(event, self.shared.world.now()) {
                self.carry_out(effect);
            }
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Dial { hint, search } => {
                let (shared, tell) = (Arc::clone(&self.shared), self.tell.clone());
                self.dialing = Some(self.shared.world.spawn("palisade-dial", async move {
                    let dialed = dial(shared, hint, search).await;
                    let _ = tell.send(News::Dialed(dialed)).await; // the driver is gone: so is the stream
                }));
            }
            Effect::StopDialing => self.dialing = None,
            Effect::Send { stream, frame } => {
                if let Some(stream) = self.streams.get(&stream) {
                    let _ = stream.send.send(frame); // a stream that is gone is told by its reader
                }
            }
            Effect::HangUp { stream } => {
                self.streams.remove(&stream);
            }
            Effect::Opened { open, result } => self.opened(open, result),
            Effect::Answered { key } => {
                if let Some(candidate) = self.candidates.get_mut(&key) {
                    candidate.serial = None;
                }
            }
            Effect::Decided { key, result } => self.decided(key, result),
            Effect::State { key, state } => {
                let lost = matches!(state, LeadershipState::Lost { .. });
                if let Some(leader) = self.leaders.get(&key) {
                    leader.state.send_replace(state);
                }
                if lost {
                    self.leaders.remove(&key);
                }
            }
            Effect::EndRequested { key, request } => {
                if let Some(leader) = self.leaders.get(&key) {
                    leader.requested.send_replace(Some(request));
                }
            }
            Effect::SessionAsked { session, wish } => {
                if let Some(session) = self.sessions.get(&session) {
                    session.wish.send_replace(Some(wish));
                }
            }
            Effect::EndGrant { session, election, token } => {
                let task = end_grant(Arc::clone(&self.shared), session, election, token, self.tell.clone());
                let task = self.shared.world.spawn("palisade-resign", task);
                self.ending.entry((session, token)).or_default().task = Some(task);
            }
            Effect::Over { session, why } => {
                if let Some(session) = self.sessions.remove(&session) {
                    session.over.send_replace(Some(why));
                }
                // The end of the session ends its grants.
                let ended: Vec<_> =
                    self.ending.range((session, Token::default())..=(session, Token::MAX)).map(|(it, _)| *it).collect();
                for (session, token) in ended {
                    self.grant_ended(session, token, &Ok(()));
                }
            }
            Effect::Closed { session, result } => {
                for reply in self.closing.remove(&session).unwrap_or_default() {
                    let _ = reply.send(result.clone()); // whoever asked may have stopped waiting
                }
            }
        }
    }

    fn opened(&mut self, open: OpenId, result: Result<IsOpen, Error>) {
        let Some(reply) = self.opening.remove(&open) else { return };
        let opened = result.map(|is| {
            let ((over, over_watched), (wish, wish_watched)) = (watch::channel(None), watch::channel(None));
            self.sessions.insert(is.session, Opened { over, wish });
            OpenedSession { is, over: over_watched, wish: wish_watched }
        });
        if let Err(Ok(unwanted)) = reply.send(opened) {
            self.own.push_back(Event::Close { session: unwanted.is.session });
        }
    }

    fn decided(&mut self, key: Key, result: Result<(Grant, LeadershipState), Error>) {
        let candidate = self.candidates.remove(&key);
        let granted = result.map(|(grant, state)| {
            let ((state, state_watched), (requested, requested_watched)) =
                (watch::channel(state), watch::channel(None));
            self.leaders.insert(key, Leads { state, requested });
            Led { grant, state: state_watched, requested: requested_watched }
        });
        match candidate.map(|it| it.reply.send(granted)) {
            Some(Ok(()) | Err(Err(_))) => {}
            // Nobody waits for it any more.
            Some(Err(Ok(_))) | None => self.own.push_back(Event::Abandon { key }),
        }
    }

    fn fresh(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }
}

impl Drop for SessionDriver {
    /// However it ends, nobody goes on believing.
    fn drop(&mut self) {
        for (_, leader) in std::mem::take(&mut self.leaders) {
            leader.state.send_replace(LeadershipState::Lost { why: LostWhy::ClientClosed });
        }
        for (_, session) in std::mem::take(&mut self.sessions) {
            session.over.send_replace(Some(SessionEnd::ClientClosed));
        }
    }
}

/// Hands the frames of a stream on until it ends.
async fn read(stream: StreamId, mut frames: tonic::Streaming<ServerFrame>, tell: mpsc::Sender<News>) {
    loop {
        let news = match frames.message().await {
            Ok(Some(frame)) => News::Frame(stream, Box::new(frame)),
            Ok(None) => News::Broken(stream, None),
            Err(status) => News::Broken(stream, Some(status)),
        };
        let over = matches!(news, News::Broken(..));
        if tell.send(news).await.is_err() || over {
            return;
        }
    }
}

/// Resigns a grant, until the store has said that it is over. A failed resign never forgets a leadership.
async fn end_grant(shared: Arc<Shared>, session: u64, election: String, token: Token, tell: mpsc::Sender<News>) {
    let request = v1::ResignRequest { election, token: token.get(), session, ..v1::ResignRequest::default() };
    let mut backoff = Backoff::up_to(AT_MOST);
    let result = loop {
        let attempt = shared.request(Repeat::Safe, |channel| {
            let request = request.clone();
            async move { ElectionServiceClient::new(channel).resign(request).await }
        });
        match Box::pin(attempt).await {
            Ok(_) => break Ok(()),
            Err(error) if is_over(&error) => break Ok(()),
            Err(error) if is_final(&error) => break Err(error),
            Err(error) => {
                tracing::warn!(%error, election = request.election, %token, "resigning is tried again");
                shared.world.sleep(backoff.pause(&shared.world)).await;
            }
        }
    };
    let _ = tell.send(News::GrantEnded { session, token, result }).await; // the driver is gone: so is the session
}

/// Refusals that say that the token leads no longer.
fn is_over(error: &Error) -> bool {
    let refused = matches!(error.kind, ErrorKind::SessionEnded | ErrorKind::ElectionNotFound | ErrorKind::StaleToken);
    refused && error.outcome == Outcome::NotApplied
}

/// Refusals that repeating cannot change.
fn is_final(error: &Error) -> bool {
    let refused = matches!(
        error.kind,
        ErrorKind::InvalidArgument | ErrorKind::HolderKeepsUntilTtl | ErrorKind::WrongCluster | ErrorKind::Generation
    );
    refused && error.outcome == Outcome::NotApplied
}

fn header_of(frame: &ServerFrame) -> Header {
    let header = match &frame.body {
        Some(Body::Opened(it)) => it.header.as_ref(),
        Some(Body::Attached(it)) => it.header.as_ref(),
        Some(Body::Campaigned(it)) => it.header.as_ref(),
        Some(Body::Closed(it)) => it.header.as_ref(),
        Some(Body::Granted(it)) => it.header.as_ref(),
        Some(Body::Revoked(it)) => it.header.as_ref(),
        Some(Body::Ended(it)) => it.header.as_ref(),
        Some(Body::Withdrew(it)) => it.header.as_ref(),
        Some(Body::Withdrawn(it)) => it.header.as_ref(),
        Some(Body::EndRequested(it)) => it.header.as_ref(),
        Some(Body::SessionAsked(it)) => it.header.as_ref(),
        Some(Body::Refused(it)) => it.error.as_ref().and_then(|error| error.header.as_ref()),
        Some(Body::KeptAlive(_)) | None => None,
    };
    Header::of(header)
}
