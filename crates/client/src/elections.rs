//! Elections from outside: who leads, proclaim, resign. Campaigning is a session's.

use palisade_fence::Token;

use crate::{Client, Error, Grant, Header, Session, Value};

/// One election.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ElectionSummary {
    /// Its name.
    pub election: String,
    /// Who leads; `None`: nobody.
    pub leader: Option<Grant>,
    /// Candidates that wait.
    pub waiting: u32,
}

/// A change of what a leader has proclaimed.
#[derive(Clone, Debug)]
pub struct ProclaimOptions<'a> {
    /// Name of the election.
    pub election: String,
    /// Must be its current token.
    pub token: Token,
    /// What observers will see.
    pub value: Value,
    /// The session that remembers the answer, so that an unknown outcome can be repeated; it need not be the holder's.
    pub session: Option<&'a Session>,
}

/// An end of a leadership from outside, by its token.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ResignOptions {
    /// Name of the election.
    pub election: String,
    /// The leadership to end.
    pub token: Token,
    /// Also when the holder keeps it until its TTL: it then goes on believing until its deadline.
    pub force: bool,
}

/// A leadership was ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Resigned {
    /// That token led no longer (a repetition of the same request may say so of its own first try).
    pub already: bool,
    /// Of the command.
    pub header: Header,
}

impl Client {
    /// Who leads; `None`: nobody. Linearizable.
    pub async fn leader(&self, election: &str) -> Result<Option<Grant>, Error> {
        let _ = election;
        panic!("not yet")
    }

    /// All elections by name. Linearizable.
    pub async fn elections(&self) -> Result<Vec<ElectionSummary>, Error> {
        panic!("not yet")
    }

    /// Changes what a leader has proclaimed; only with the current token.
    pub async fn proclaim(&self, options: ProclaimOptions<'_>) -> Result<Header, Error> {
        let _ = options;
        panic!("not yet")
    }

    /// Ends a leadership from outside. Idempotent.
    pub async fn resign(&self, options: ResignOptions) -> Result<Resigned, Error> {
        let _ = options;
        panic!("not yet")
    }
}
