//! A repeater: sends again, late, what leaders sent, as a broken proxy might: on a stream that it keeps or on a new one, under an
//! id that is used already, or as plain gRPC. Mostly that is stale by then; what is not is run again, and counted. Now and then
//! it forges: puts a token in the message that is higher than any that will ever be granted.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use palisade_fence::{Fence, Token};
use palisade_world::{Task, grpc};

use super::candidate::ELECTION;
use super::{Process, address};
use crate::facts::{LedgerFact, Sender};
use crate::ledger::raw::{Listener, Speaker};
use crate::ledger::{Form, Message, Reply, Tape, plain, raw};
use crate::plan::{Role, Who};

/// Between two messages, and twice as much again at random.
const PAUSE: Duration = Duration::from_millis(40);

/// One message in four is repeated soon: one of the last so many.
const SOON: usize = 12;

/// How long a plain call may take.
const LIMIT: Duration = Duration::from_secs(2);

/// Runs until the simulation ends.
pub(crate) async fn run(process: Process, tape: Tape) -> turmoil::Result {
    let mut kept: BTreeMap<usize, Line> = BTreeMap::new();
    loop {
        let world = &process.world;
        world.sleep(PAUSE + world.jitter(PAUSE * 2)).await;
        let of = if process.one_in(4) { SOON } else { usize::MAX };
        let Some(message) = tape.pick(of, world.random_u64()) else { continue };
        if process.one_in(10) {
            send_plainly(&process, forged(message), Sender::Forger).await;
            continue;
        }
        if process.one_in(3) {
            send_plainly(&process, message, Sender::Repeater).await;
            continue;
        }
        if process.one_in(4) {
            kept.remove(&message.ledger);
        }
        let line = match kept.remove(&message.ledger) {
            Some(line) => Some(line),
            None => Line::open(&process, message.ledger).await,
        };
        if let Some(line) = line.filter(|line| line.repeat(&process, message)) {
            kept.insert(message.ledger, line);
        }
    }
}

fn address_of(ledger: usize) -> String {
    address(Who { role: Role::Ledger, number: ledger })
}

fn fence(message: Message) -> Fence {
    Fence { election: ELECTION.to_owned(), token: message.token }
}

/// The same under a token of a generation that no restore of a run reaches.
fn forged(message: Message) -> Message {
    let token = Token::new(message.token.generation() + (1 << 20), message.token.counter());
    Message { token, ..message }
}

fn sent(process: &Process, message: Message, by: Sender) {
    process.witness.saw(process.who, LedgerFact::Sent { message, by }.into());
}

fn replied(process: &Process, message: Message, reply: Reply, form: Form, by: Sender) {
    let fact = LedgerFact::Replied { message, reply, form, by, after: Duration::ZERO };
    process.witness.saw(process.who, fact.into());
}

async fn send_plainly(process: &Process, message: Message, by: Sender) {
    let to = grpc::channel(&process.world, &address_of(message.ledger));
    let to = to.expect("the simulated addresses are well formed");
    sent(process, message, by);
    let reply = plain::send(&process.world, &to, &fence(message), message, LIMIT).await;
    replied(process, message, reply, Form::Plain, by);
}

/// A stream to a ledger with all that was sent on it.
struct Line {
    speaker: Speaker,
    /// The id of each message is its place, from 1.
    sent: Arc<Mutex<Vec<Message>>>,
    _listening: Task<()>,
}

impl Line {
    async fn open(process: &Process, ledger: usize) -> Option<Line> {
        let (speaker, listener) = raw::open(&process.world, &address_of(ledger)).await?;
        let sent = Arc::<Mutex<Vec<Message>>>::default();
        let listening = process.world.spawn("listening", listen(process.clone(), listener, sent.clone()));
        Some(Line { speaker, sent, _listening: listening })
    }

    /// Sends a message, perhaps twice under one id. `false`: the stream has ended.
    fn repeat(&self, process: &Process, message: Message) -> bool {
        let id = {
            let mut all = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
            all.push(message);
            all.len() as u64
        };
        (0..=process.world.random_u64() % 2).all(|_| {
            sent(process, message, Sender::Repeater);
            self.speaker.send(id, &fence(message), message)
        })
    }
}

/// Reports what is answered, until the stream ends.
async fn listen(process: Process, mut listener: Listener, sent: Arc<Mutex<Vec<Message>>>) {
    while let Some(answers) = listener.next().await {
        for answer in answers {
            let at = usize::try_from(answer.id).unwrap_or(0).wrapping_sub(1);
            let message = sent.lock().unwrap_or_else(PoisonError::into_inner).get(at).copied();
            if let Some(message) = message {
                replied(&process, message, raw::reply_of(&answer, message), Form::Stream, Sender::Repeater);
            }
        }
    }
}
