//! The memory of answers: what makes a repeated write take effect at most once. Part of the state and of every snapshot.
//!
//! It remembers refusals too: "not applied" was told to the client, so a delayed copy of the same request must not be
//! applied after all. It keeps small answers only; it never keeps a value.

use std::collections::BTreeMap;

use crate::limits::MAX_ANSWERS;
use crate::{Refusal, Reply, Revision, Seq, Serial};

/// The answers of one session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Memory {
    /// Serials below it are forgotten: the client has their answers, or there were too many. Never goes back.
    floor: Serial,
    /// At most [`MAX_ANSWERS`], none below `floor`.
    answers: BTreeMap<Serial, Answer>,
}

/// A remembered answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// Of the request, to tell a repetition from another request under the same serial.
    pub fingerprint: u64,
    /// Of the command that took effect.
    pub seq: Seq,
    /// After that command.
    pub revision: Revision,
    /// Small: never a grant, never a value.
    pub reply: Result<Reply, Refusal>,
}

/// What is known of a serial.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Recall<'a> {
    /// Never seen, and it would be remembered if it had been.
    New,
    /// Answered before.
    Known(&'a Answer),
    /// It may have been answered before.
    Forgotten,
}

impl Memory {
    /// Of a session whose serials start there.
    pub(crate) fn from(floor: Serial) -> Memory {
        Memory { floor, answers: BTreeMap::new() }
    }

    /// Serials below this are forgotten.
    pub fn floor(&self) -> Serial {
        self.floor
    }

    /// The remembered answers by serial.
    pub fn answers(&self) -> impl ExactSizeIterator<Item = (Serial, &Answer)> {
        self.answers.iter().map(|(&serial, answer)| (serial, answer))
    }

    pub(crate) fn recall(&self, serial: Serial) -> Recall<'_> {
        match self.answers.get(&serial) {
            Some(answer) => Recall::Known(answer),
            None if serial < self.floor => Recall::Forgotten,
            // The floor reaches the last serial only with a request that has it, whose answer is gone again.
            None if serial == Serial::LAST && self.floor == Serial::LAST => Recall::Forgotten,
            None => Recall::New,
        }
    }

    /// Remembers an answer under a serial that was [`Recall::New`], and returns what it forgot to make room.
    pub(crate) fn remember(&mut self, serial: Serial, answer: Answer) -> BTreeMap<Serial, Answer> {
        assert!(serial >= self.floor, "serial {serial} is below the floor {}", self.floor);
        assert!(is_small(&answer.reply), "only small answers are remembered: {:?}", answer.reply);
        let twice = self.answers.insert(serial, answer);
        assert!(twice.is_none(), "serial {serial} was answered twice");
        if self.answers.len() <= MAX_ANSWERS {
            return BTreeMap::new();
        }
        let (&oldest, _) = self.answers.first_key_value().expect("it holds more than the limit");
        self.forget_up_to(oldest)
    }

    /// Forgets the answers to all serials up to this one, and returns them.
    pub(crate) fn forget_up_to(&mut self, serial: Serial) -> BTreeMap<Serial, Answer> {
        let mut forgotten = self.forget_below(serial.next_or_last());
        // Above the last serial there is no floor: its answer goes by its name.
        forgotten.extend(self.answers.remove_entry(&serial));
        forgotten
    }

    /// Forgets the answers to all serials below this one, and returns them.
    pub(crate) fn forget_below(&mut self, serial: Serial) -> BTreeMap<Serial, Answer> {
        if serial <= self.floor {
            return BTreeMap::new();
        }
        self.raise(serial);
        let kept = self.answers.split_off(&serial);
        std::mem::replace(&mut self.answers, kept)
    }

    fn raise(&mut self, floor: Serial) {
        assert!(floor >= self.floor, "the floor of a memory never goes back");
        self.floor = floor;
    }

    /// A memory as a snapshot kept it; [`crate::invariants`] judges it.
    pub(crate) fn restored(floor: Serial, answers: BTreeMap<Serial, Answer>) -> Memory {
        Memory { floor, answers }
    }
}

/// Whether a reply is of a kind that may be remembered.
pub(crate) fn is_small(reply: &Result<Reply, Refusal>) -> bool {
    match reply {
        Ok(Reply::Campaigned { grant }) => grant.is_none(),
        Ok(
            Reply::SessionOpened { .. }
            | Reply::SessionEnded
            | Reply::Proclaimed
            | Reply::Resigned { .. }
            | Reply::Withdrawn { .. }
            | Reply::Transferred
            | Reply::Requested { .. }
            | Reply::Compacted,
        ) => true,
        Ok(Reply::Keys(reply)) => *reply == reply.small(),
        Ok(Reply::Founded | Reply::Attached { .. } | Reply::LevelRaised { .. }) => false,
        Err(_) => true,
    }
}
