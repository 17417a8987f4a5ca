//! Carries one data stream: opens it, sends what the book holds, hands answers to it, opens another when it breaks.
//! What is sent again is decided in the book.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt};
use palisade_wire::coord::v1::kv_service_client::KvServiceClient;
use palisade_wire::coord::v1::{PipelineAnswers, PipelineCalls};
use palisade_wire::limits::MESSAGE_BYTES;
use palisade_wire::status;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::book::{Advice, Asked, Book};
use crate::backoff::{AT_MOST, Backoff};
use crate::course::Course;
use crate::links::{Asking, Purpose};
use crate::listening::{forwarded_from, found};
use crate::requests::Shared;
use crate::way_back::{WayBack, way_back_to};
use crate::{Error, ErrorKind};

/// Calls without an answer; whoever asks beyond it waits. As many as the store takes of one stream.
pub(super) const MAX_OPEN: usize = 4_096;

/// Messages between us and the connection. More would only hide how far behind it is.
const MESSAGES: usize = 4;

/// Calls taken in at once.
const BATCH: usize = 512;

/// How long a node may take to accept a stream: a connection over a bad link, and one round trip.
const ACCEPT: Duration = Duration::from_secs(1);

/// How long a node that no longer leads the store may take to answer what it was sent.
const DRAIN: Duration = Duration::from_secs(1);

pub(super) struct Driver {
    shared: Arc<Shared>,
    asks: mpsc::Receiver<Asked>,
    book: Book,
    link: Link,
    /// Where the next stream is opened.
    course: Course,
    /// Of calls that a node has no room for.
    backoff: Backoff,
    /// Nothing is sent before then.
    not_before: Duration,
}

enum Link {
    /// There is none, and none is needed.
    Down,
    Dialing(BoxFuture<'static, Dialed>),
    Up(Box<Up>),
}

struct Up {
    address: String,
    send: mpsc::Sender<PipelineCalls>,
    receive: Streaming<PipelineAnswers>,
    /// This node forwards the calls: where the store leader is.
    way_back: Option<Arc<WayBack>>,
    /// This node does not lead the store: nothing more is sent, and the stream is left when all is answered, or then.
    leave_at: Option<Duration>,
}

type Dialed = Result<Box<Up>, Refused>;

/// No stream here.
enum Refused {
    /// Who might have one.
    Said(Option<String>),
    /// Nothing came back.
    Nothing,
}

enum Woken {
    Asked(usize),
    Dialed(Dialed),
    Answers(Result<Option<PipelineAnswers>, Status>),
    Room,
    /// The store leader answers this client again.
    WayBack(String),
    Time,
}

impl Driver {
    pub(super) fn new(shared: Arc<Shared>, asks: mpsc::Receiver<Asked>) -> Driver {
        let (book, backoff) = (Book::default(), Backoff::up_to(AT_MOST));
        let course = Course::new(&shared.links, Backoff::up_to(AT_MOST));
        Driver { shared, asks, book, link: Link::Down, course, backoff, not_before: Duration::ZERO }
    }

    /// Ends when nobody can ask any more and all is answered.
    pub(super) async fn run(mut self) {
        let mut asked = Vec::with_capacity(BATCH);
        loop {
            if let Link::Down = self.link
                && self.book.len() > 0
            {
                self.dial();
            }
            match self.next(&mut asked).await {
                Woken::Asked(0) if self.book.len() == 0 => return,
                Woken::Asked(_) => asked.drain(..).for_each(|asked| self.book.ask(asked)),
                Woken::Dialed(Ok(up)) => self.link = Link::Up(up),
                Woken::Dialed(Err(refused)) => self.refused(refused),
                Woken::WayBack(leader) => self.go_back(leader),
                Woken::Answers(Ok(Some(answers))) => self.answers(answers),
                Woken::Answers(Ok(None)) => self.broke("the stream ended"),
                Woken::Answers(Err(status)) => self.broke(status.message()),
                Woken::Room => {}
                Woken::Time => self.time(),
            }
            self.send();
        }
    }

    /// Waits for the next thing to do. Cancelling it loses nothing.
    async fn next(&mut self, asked: &mut Vec<Asked>) -> Woken {
        let wake_at = self.wake_at();
        let may_take = self.book.len() < MAX_OPEN && !(self.asks.is_closed() && self.asks.is_empty());
        let done = self.asks.is_closed() && self.asks.is_empty() && self.book.len() == 0;
        if done {
            return Woken::Asked(0);
        }
        let wants_room = self.book.has_queued() && self.shared.world.now() >= self.not_before;
        let world = self.shared.world.clone();
        tokio::select! {
            biased;
            woken = link(&mut self.link, wants_room) => woken,
            taken = self.asks.recv_many(asked, BATCH), if may_take => Woken::Asked(taken),
            () = async {
                match wake_at {
                    Some(at) => world.sleep_until(at).await,
                    None => std::future::pending().await,
                }
            } => Woken::Time,
        }
    }

    fn wake_at(&self) -> Option<Duration> {
        let leave_at = if let Link::Up(up) = &self.link { up.leave_at } else { None };
        let send_at = (self.book.has_queued() && self.not_before > Duration::ZERO).then_some(self.not_before);
        let send_at = send_at.filter(|at| *at > self.shared.world.now());
        [self.book.wake_at(), leave_at, send_at].into_iter().flatten().min()
    }

    fn time(&mut self) {
        let now = self.shared.world.now();
        if self.book.expire(now) {
            return self.broke("it did not answer in time");
        }
        if let Link::Up(up) = &self.link
            && up.leave_at.is_some_and(|at| at <= now)
        {
            self.broke("it no longer leads the store and left calls without an answer");
        }
    }

    /// Sends what there is room for.
    fn send(&mut self) {
        let now = self.shared.world.now();
        let Link::Up(up) = &mut self.link else { return };
        if up.leave_at.is_some() {
            if self.book.sent() == 0 {
                self.link = Link::Down;
            }
            return;
        }
        if now < self.not_before {
            return;
        }
        while self.book.has_queued()
            && let Ok(room) = up.send.try_reserve()
        {
            let calls = self.book.next_message();
            if calls.is_empty() {
                return;
            }
            room.send(PipelineCalls { calls });
        }
    }

    fn answers(&mut self, answers: PipelineAnswers) {
        let Link::Up(up) = &mut self.link else { return };
        let mut served = false;
        for answer in answers.answers {
            match self.book.answered(answer, &up.address, &self.shared.seen) {
                Advice::GoOn => served = true,
                Advice::Later => self.not_before = self.shared.world.now() + self.backoff.pause(&self.shared.world),
                Advice::Elsewhere { hint } => {
                    if up.leave_at.is_none() {
                        up.leave_at = Some(self.shared.world.now() + DRAIN);
                        tracing::debug!(address = %up.address, "this node does not lead the store");
                        self.course.turned_away(&self.shared.links, hint);
                    }
                }
            }
        }
        if !served {
            return;
        }
        if up.leave_at.is_none() {
            self.course.served();
            if up.way_back.is_none() {
                self.shared.links.leads(&up.address);
            }
        }
        if self.not_before <= self.shared.world.now() {
            self.backoff.reset();
        }
    }

    fn broke(&mut self, why: &str) {
        let Link::Up(up) = std::mem::replace(&mut self.link, Link::Down) else { return };
        let message = format!("{}: no answer: {why}", up.address);
        tracing::debug!(why = message, "a data stream broke");
        self.book.broke(&Error::unknown(ErrorKind::ConnectionLost, message));
        // Of one that is being left it is known already where to go.
        if up.leave_at.is_none() {
            self.course.go_elsewhere(&self.shared.links);
        }
    }

    fn refused(&mut self, refused: Refused) {
        self.link = Link::Down;
        match refused {
            Refused::Said(hint) => self.course.turned_away(&self.shared.links, hint),
            Refused::Nothing => self.course.unanswered(&self.shared.links),
        }
    }

    /// Leaves a node that forwards, once it has answered.
    fn go_back(&mut self, leader: String) {
        let Link::Up(up) = &mut self.link else { return };
        up.way_back = None;
        if up.leave_at.is_none() {
            up.leave_at = Some(self.shared.world.now() + DRAIN);
            self.course.go_to(&self.shared.links, leader);
        }
    }

    /// Opens a stream where the store leader is thought to be.
    fn dial(&mut self) {
        let pause = self.course.attempt(&self.shared.links, &self.shared.world);
        let (address, asking) = (self.course.address().to_owned(), self.course.asking());
        self.link = Link::Dialing(open(Arc::clone(&self.shared), address, asking, pause).boxed());
    }
}

/// What the link waits for.
async fn link(link: &mut Link, wants_room: bool) -> Woken {
    match link {
        Link::Down => std::future::pending().await,
        Link::Dialing(dialing) => Woken::Dialed(dialing.await),
        Link::Up(up) => {
            let wants_room = wants_room && up.leave_at.is_none();
            let way_back = up.way_back.clone();
            tokio::select! {
                biased;
                answers = up.receive.next() => Woken::Answers(answers.transpose()),
                leader = found(way_back.as_deref()) => Woken::WayBack(leader),
                // An error: the stream is gone, which it says itself.
                Ok(_) = up.send.reserve(), if wants_room => Woken::Room,
            }
        }
    }
}

async fn open(shared: Arc<Shared>, address: String, asking: Asking, pause: Duration) -> Dialed {
    if !pause.is_zero() {
        shared.world.sleep(pause).await;
    }
    let Ok(channel) = shared.links.channel_asking(asking, Purpose::Requests, &address) else {
        return Err(Refused::Nothing);
    };
    let (send, messages) = mpsc::channel(MESSAGES);
    let mut client = KvServiceClient::new(channel).max_decoding_message_size(MESSAGE_BYTES);
    match shared.world.timeout(ACCEPT, client.pipeline(ReceiverStream::new(messages))).await {
        Some(Ok(accepted)) => {
            let way_back = forwarded_from(&accepted).map(|leader| way_back_to(&shared, &leader));
            Ok(Box::new(Up { address, send, receive: accepted.into_inner(), way_back, leave_at: None }))
        }
        Some(Err(refused)) => {
            tracing::debug!(address, %refused, "no data stream here");
            match status::detail(&refused) {
                Some(detail) => {
                    let hint = detail.store_leader.map(|leader| leader.address).filter(|hint| !hint.is_empty());
                    Err(Refused::Said(hint))
                }
                None => Err(Refused::Nothing),
            }
        }
        None => {
            shared.links.forget(Purpose::Requests, &address);
            Err(Refused::Nothing)
        }
    }
}
