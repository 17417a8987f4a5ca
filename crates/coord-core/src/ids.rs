//! The numbers that the state machine counts with, each a type of its own, so that none is taken for another.
//! They do no arithmetic beyond "the next one".

use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
        pub struct $name(pub u64);

        impl $name {
            /// The number that is sent and printed.
            pub fn get(self) -> u64 {
                self.0
            }

            /// The number after this one.
            pub(crate) fn next(self) -> $name {
                $name(self.0.checked_add(1).expect("a counter of 64 bits outlasts the cluster"))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// Names a session. One that the store chose names it for ever: generation in the high 32 bits, a counter below, like a
    /// token. One that a caller gave has bit 63 set, and may come again after its session has ended. Zero names none.
    SessionId
}

number! {
    /// Counts the commands applied; the order of everything.
    Seq
}

number! {
    /// Counts the commands that changed a key, as etcd does.
    Revision
}

number! {
    /// Rises whenever a session is attached to a stream. It starts at 1, and for an id that a caller gave at the `seq` of the
    /// opening, so that it never comes again with the id. An expiry is conditional on it.
    AttachGeneration
}

impl SessionId {
    const GIVEN: u64 = 1 << 63;

    /// The id that a caller chose by a number below 2^63; `None`: it is not below.
    pub fn given(number: u64) -> Option<SessionId> {
        (number < SessionId::GIVEN).then_some(SessionId(number | SessionId::GIVEN))
    }

    /// Whether a caller chose it.
    pub fn is_given(self) -> bool {
        self.0 & SessionId::GIVEN != 0
    }

    /// Of an id that the store chose: raised by a restore from backup, so that ids never come again.
    pub fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// A number that a client chooses, unique within its session and rising from 1: names a request or a candidacy.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Serial(pub u64);

impl Serial {
    /// There is none above it. The API does not take it; a log may have it.
    pub const LAST: Serial = Serial(u64::MAX);

    /// The number that is sent and printed.
    pub fn get(self) -> u64 {
        self.0
    }

    /// The serial after this one; the last has itself, because a client chooses freely and must not stop the cluster.
    pub(crate) fn next_or_last(self) -> Serial {
        Serial(self.0.saturating_add(1))
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
