//! The calls of a data stream that have no answer, and what becomes of them: pure. It sends nothing and reads no clock.
//!
//! Keeps true: a call is sent again only if it is surely not applied, or if repeating it cannot take effect twice; each call
//! ends once, by its answer, by its error, or when its time is up.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use palisade_planted::{self as planted, Bug};
use palisade_wire::coord::v1::pipeline_answer::Answer as Body;
use palisade_wire::coord::v1::pipeline_call::Request;
use palisade_wire::coord::v1::{Header as WireHeader, PipelineAnswer, PipelineCall};
use prost::Message;
use tokio::sync::oneshot;

use crate::requests::{Attempt, Repeat, out_of_time, refused_with, settled};
use crate::seen::{Position, Seen};
use crate::{Error, ErrorKind, Header};

/// Calls of one message, so that the first answers come while the rest is sent.
const MESSAGE_CALLS: usize = 512;

/// Bytes of one message, once there are two calls: below what the store accepts, with the largest request beside it.
const MESSAGE_BYTES: usize = 1 << 20;

/// What a call is asked with.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) request: Request,
    pub(super) repeat: Repeat,
    /// What this client had seen: a read must not answer from before it.
    pub(super) floor: Position,
    pub(super) give_up_at: Duration,
    pub(super) reply: oneshot::Sender<Result<Body, Error>>,
}

#[derive(Debug)]
struct Call {
    asked: Asked,
    stage: Stage,
    /// Set by the first attempt that may have been applied.
    unknown: Option<Error>,
    /// Why it was not applied last.
    refused: Option<Error>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// To be sent.
    Queued,
    /// Sent on the present stream.
    Sent,
}

/// What an answer says beside its own call.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Advice {
    /// Nothing.
    GoOn,
    /// This node does not lead the store; who does, if it said so.
    Elsewhere { hint: Option<String> },
    /// It has too much to do: send a little later.
    Later,
}

/// The calls without an answer, by number. Numbers rise with time, so the first is the oldest.
#[derive(Debug, Default)]
pub(super) struct Book {
    calls: BTreeMap<u64, Call>,
    /// Numbers to be sent, in order; those that have ended meanwhile are skipped.
    queue: VecDeque<u64>,
    sent: usize,
    last: u64,
}

impl Book {
    /// Calls without an answer.
    pub(super) fn len(&self) -> usize {
        self.calls.len()
    }

    /// Calls that were sent on the present stream and have no answer.
    pub(super) fn sent(&self) -> usize {
        self.sent
    }

    /// Whether there may be something to send.
    pub(super) fn has_queued(&self) -> bool {
        !self.queue.is_empty()
    }

    pub(super) fn ask(&mut self, asked: Asked) {
        self.last += 1;
        self.calls.insert(self.last, Call { asked, stage: Stage::Queued, unknown: None, refused: None });
        self.queue.push_back(self.last);
    }

    /// The next message; empty if there is nothing to send.
    pub(super) fn next_message(&mut self) -> Vec<PipelineCall> {
        let (mut message, mut bytes) = (Vec::with_capacity(self.queue.len().min(MESSAGE_CALLS)), 0);
        while message.len() < MESSAGE_CALLS
            && let Some(number) = self.queue.front()
        {
            let Some(call) = self.calls.get_mut(number) else {
                self.queue.pop_front();
                continue;
            };
            let size = size(&call.asked.request);
            if !message.is_empty() && bytes + size > MESSAGE_BYTES {
                break;
            }
            bytes += size;
            call.stage = Stage::Sent;
            self.sent += 1;
            message.push(PipelineCall { call: *number, request: Some(call.asked.request.clone()) });
            self.queue.pop_front();
        }
        message
    }

    /// An answer came from `address`.
    pub(super) fn answered(&mut self, answer: PipelineAnswer, address: &str, seen: &Seen) -> Advice {
        let number = answer.call;
        let Some(call) = self.calls.get(&number).filter(|call| call.stage == Stage::Sent) else { return Advice::GoOn };
        let attempt = match answer.answer {
            Some(Body::Error(detail)) => refused_with(&detail),
            Some(body) => judge(&call.asked, address, seen, body),
            None => Attempt::Unknown(Error::unknown(ErrorKind::BadAnswer, format!("{address}: an empty answer"))),
        };
        match attempt {
            Attempt::Done(body) => self.end(number, |_, _| Ok(body)),
            Attempt::Failed(error) => self.end(number, |unknown, repeat| Err(settled(error, unknown, repeat))),
            Attempt::NotApplied { error, hint } => {
                let advice = match error.kind {
                    ErrorKind::NotStoreLeader | ErrorKind::NoStoreLeader => Advice::Elsewhere { hint },
                    _ => Advice::Later,
                };
                self.again(number, Known::NotApplied(error));
                return advice;
            }
            // Somebody answered, so it was reached; not applied is what it says.
            Attempt::NotReached(error) => {
                self.again(number, Known::NotApplied(error));
                return Advice::Later;
            }
            Attempt::Unknown(error) => self.again(number, Known::Unknown(error)),
        }
        Advice::GoOn
    }

    /// The present stream is gone: what was sent on it may have been applied.
    pub(super) fn broke(&mut self, error: &Error) {
        let sent: Vec<u64> =
            self.calls.iter().filter(|(_, call)| call.stage == Stage::Sent).map(|(number, _)| *number).collect();
        for number in sent {
            self.again(number, Known::Unknown(error.clone()));
        }
    }

    /// When the oldest call's time is up.
    pub(super) fn wake_at(&self) -> Option<Duration> {
        self.calls.first_key_value().map(|(_, call)| call.asked.give_up_at)
    }

    /// Ends the calls whose time is up. Whether one of them had been sent: then its stream answers too late.
    pub(super) fn expire(&mut self, now: Duration) -> bool {
        let mut silent = false;
        while let Some((number, call)) = self.calls.first_key_value()
            && call.asked.give_up_at <= now
        {
            let was_sent = call.stage == Stage::Sent;
            silent |= was_sent;
            let error = match &call.refused {
                _ if was_sent => Error::unknown(ErrorKind::TimedOut, "no answer in time"),
                Some(refused) => out_of_time(refused.clone()),
                None => out_of_time(Error::not_applied(ErrorKind::NoStoreLeader, "it could not be sent in time")),
            };
            self.end(*number, |unknown, repeat| Err(settled(error, unknown, repeat)));
        }
        silent
    }

    /// Sends a call again if that may be, or ends it.
    fn again(&mut self, number: u64, known: Known) {
        let Some(call) = self.calls.get_mut(&number) else { return };
        match known {
            Known::NotApplied(error) => call.refused = Some(error),
            Known::Unknown(error) => {
                if call.asked.repeat == Repeat::Unsafe && !planted::is(Bug::RetryUnknownWithoutId) {
                    return self.end(number, |_, _| Err(error));
                }
                call.unknown.get_or_insert(error);
            }
        }
        if call.stage == Stage::Sent {
            call.stage = Stage::Queued;
            self.sent -= 1;
            self.queue.push_back(number);
        }
    }

    fn end(&mut self, number: u64, answer: impl FnOnce(Option<Error>, Repeat) -> Result<Body, Error>) {
        let Some(call) = self.calls.remove(&number) else { return };
        if call.stage == Stage::Sent {
            self.sent -= 1;
        }
        let answer = answer(call.unknown, call.asked.repeat);
        let _ = call.asked.reply.send(answer); // whoever asked may have gone
    }
}

/// What is known of an attempt that brought no answer.
enum Known {
    NotApplied(Error),
    Unknown(Error),
}

fn judge(asked: &Asked, address: &str, seen: &Seen, body: Body) -> Attempt<Body> {
    let header = Header::of(header(&body));
    if let Err(error) = seen.admit(&header) {
        return Attempt::Failed(error);
    }
    if asked.repeat == Repeat::Read && Position::of(&header) < asked.floor {
        let message = format!("{address}: answered from before what this client has seen");
        return Attempt::NotApplied { error: Error::not_applied(ErrorKind::BadAnswer, message), hint: None };
    }
    Attempt::Done(body)
}

fn header(body: &Body) -> Option<&WireHeader> {
    match body {
        Body::Put(reply) => reply.header.as_ref(),
        Body::Get(reply) => reply.header.as_ref(),
        Body::Delete(reply) => reply.header.as_ref(),
        Body::Range(reply) => reply.header.as_ref(),
        Body::Txn(reply) => reply.header.as_ref(),
        Body::Error(detail) => detail.header.as_ref(),
    }
}

/// Bytes of a call, near enough for bounding a message.
fn size(request: &Request) -> usize {
    const FRAME: usize = 512; // numbers, lengths, a fence
    FRAME
        + match request {
            Request::Put(put) => put.key.len() + put.value.len(),
            Request::Get(get) => get.key.len(),
            Request::Delete(delete) => delete.encoded_len(),
            Request::Range(range) => range.encoded_len(),
            Request::Txn(txn) => txn.encoded_len(),
        }
}

#[cfg(test)]
mod tests {
    use palisade_wire::coord::v1::error_detail::Kind;
    use palisade_wire::coord::v1::{GetReply, GetRequest, PutReply, PutRequest};
    use palisade_wire::status::not_applied;

    use super::*;
    use crate::Outcome;

    const SECOND: Duration = Duration::from_secs(1);

    type Answer = oneshot::Receiver<Result<Body, Error>>;

    fn ask(book: &mut Book, repeat: Repeat) -> Answer {
        let (reply, answer) = oneshot::channel();
        let request = match repeat {
            Repeat::Read | Repeat::ReadAnywhere => Request::Get(GetRequest { key: b"k".to_vec(), serializable: false }),
            Repeat::Safe | Repeat::Unsafe => Request::Put(PutRequest { key: b"k".to_vec(), ..Default::default() }),
        };
        book.ask(Asked { request, repeat, floor: Position::default(), give_up_at: SECOND, reply });
        answer
    }

    fn numbers(message: &[PipelineCall]) -> Vec<u64> {
        message.iter().map(|call| call.call).collect()
    }

    fn put_reply(call: u64) -> PipelineAnswer {
        PipelineAnswer { call, answer: Some(Body::Put(PutReply { version: 1, ..PutReply::default() })) }
    }

    fn refusal(call: u64, kind: Kind) -> PipelineAnswer {
        PipelineAnswer { call, answer: Some(Body::Error(not_applied(kind, ""))) }
    }

    fn lost() -> Error {
        Error::unknown(ErrorKind::ConnectionLost, "lost")
    }

    fn a_broken_stream_ends_what_cannot_be_repeated() {
        let mut book = Book::default();
        let (mut write, mut with_id, mut read) =
            (ask(&mut book, Repeat::Unsafe), ask(&mut book, Repeat::Safe), ask(&mut book, Repeat::Read));
        assert_eq!(numbers(&book.next_message()), [1, 2, 3]);
        let mut unsent = ask(&mut book, Repeat::Unsafe);
        book.broke(&lost());
        let error = write.try_recv().expect("a write without an id ends with its stream").unwrap_err();
        assert_eq!((error.outcome, error.kind), (Outcome::Unknown, ErrorKind::ConnectionLost));
        assert!(with_id.try_recv().is_err() && read.try_recv().is_err() && unsent.try_recv().is_err());
        let mut again = numbers(&book.next_message());
        again.sort_unstable();
        assert_eq!((again, book.sent()), (vec![2, 3, 4], 3));
    }

    #[test]
    fn a_broken_stream_ends_a_write_without_an_id_and_nothing_else() {
        a_broken_stream_ends_what_cannot_be_repeated();
    }

    #[cfg(feature = "planted")]
    #[test]
    fn the_planted_bug_that_sends_an_unknown_call_again_is_caught() {
        let why = palisade_planted::caught(Bug::RetryUnknownWithoutId, a_broken_stream_ends_what_cannot_be_repeated);
        assert!(why.is_some_and(|why| why.contains("ends with its stream")));
    }

    #[test]
    fn what_is_surely_not_applied_is_sent_again_and_says_where() {
        let (mut book, seen) = (Book::default(), Seen::default());
        let mut write = ask(&mut book, Repeat::Unsafe);
        book.next_message();
        assert_eq!(
            book.answered(refusal(1, Kind::NotStoreLeader), "a:1", &seen),
            Advice::Elsewhere { hint: None },
            "another node is asked"
        );
        assert_eq!(numbers(&book.next_message()), [1]);
        assert_eq!(book.answered(refusal(1, Kind::Overloaded), "b:1", &seen), Advice::Later);
        assert_eq!(numbers(&book.next_message()), [1]);
        assert_eq!(book.answered(put_reply(1), "b:1", &seen), Advice::GoOn);
        assert!(write.try_recv().expect("it is answered").is_ok());
        assert_eq!((book.len(), book.sent()), (0, 0));
        // Not of a call that is open: nothing happens.
        assert_eq!(book.answered(put_reply(1), "b:1", &seen), Advice::GoOn);
    }

    #[test]
    fn a_refusal_after_an_unknown_attempt_stays_unknown() {
        let (mut book, seen) = (Book::default(), Seen::default());
        let mut write = ask(&mut book, Repeat::Safe);
        book.next_message();
        book.broke(&lost());
        book.next_message();
        book.answered(refusal(1, Kind::StaleToken), "a:1", &seen);
        assert_eq!(write.try_recv().expect("it ended").unwrap_err().outcome, Outcome::Unknown);
    }

    #[test]
    fn when_the_time_is_up_only_what_was_sent_is_unknown() {
        let mut book = Book::default();
        let mut sent = ask(&mut book, Repeat::Unsafe);
        book.next_message();
        let (mut unsent, mut read) = (ask(&mut book, Repeat::Unsafe), ask(&mut book, Repeat::Read));
        assert_eq!(book.wake_at(), Some(SECOND));
        assert!(!book.expire(SECOND / 2));
        assert!(book.expire(SECOND), "its stream did not answer");
        let outcome = |answer: &mut Answer| answer.try_recv().expect("it ended").unwrap_err().outcome;
        assert_eq!(outcome(&mut sent), Outcome::Unknown);
        assert_eq!((outcome(&mut unsent), outcome(&mut read)), (Outcome::NotApplied, Outcome::NotApplied));
        assert!(book.next_message().is_empty() && book.wake_at().is_none());
    }

    #[test]
    fn messages_are_bounded_and_a_large_call_goes_alone() {
        let mut book = Book::default();
        let _many: Vec<_> = (0..MESSAGE_CALLS + 1).map(|_| ask(&mut book, Repeat::Read)).collect();
        assert_eq!((book.next_message().len(), book.next_message().len()), (MESSAGE_CALLS, 1));
        for _ in 0..2 {
            let request = Request::Put(PutRequest { value: vec![0; 1 << 20], ..Default::default() });
            let (reply, _) = oneshot::channel();
            let floor = Position::default();
            book.ask(Asked { request, repeat: Repeat::Unsafe, floor, give_up_at: SECOND, reply });
        }
        assert_eq!((book.next_message().len(), book.next_message().len()), (1, 1));
    }

    #[test]
    fn a_read_from_before_what_was_seen_is_asked_again() {
        let (mut book, seen) = (Book::default(), Seen::default());
        let (reply, mut answer) = oneshot::channel();
        let request = Request::Get(GetRequest { key: b"k".to_vec(), serializable: false });
        let floor = Position { generation: 0, seq: 9 };
        book.ask(Asked { request, repeat: Repeat::Read, floor, give_up_at: SECOND, reply });
        book.next_message();
        let at = |seq| {
            let header = Some(WireHeader { cluster_id: 7, seq, ..Default::default() });
            PipelineAnswer { call: 1, answer: Some(Body::Get(GetReply { header, kv: None })) }
        };
        assert_eq!(book.answered(at(8), "a:1", &seen), Advice::Later);
        assert!(answer.try_recv().is_err());
        book.next_message();
        assert_eq!(book.answered(at(9), "a:1", &seen), Advice::GoOn);
        assert!(answer.try_recv().expect("it is answered").is_ok());
    }
}
