//! How insistently somebody other than a holder wants something to end, and what came of it.

use palisade_wire::coord::v1;

use crate::{Error, Grant, Header};

/// What to do about a holder that keeps its leaderships until its TTL and trusts its own clock. Other holders fence, and are ended
/// at once.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Demand {
    /// It is asked, and ends its leadership when it is ready. The request outlives the store leader.
    #[default]
    Request,
    /// As `Request`; also its session is renewed no more, so that all that it holds ends with its TTL at the latest.
    EndSession,
    /// Its leadership ends at once. It goes on believing until its deadline: only for leaders that fence, or are surely dead.
    Force,
}

impl Demand {
    pub(crate) fn is_force(self) -> bool {
        self == Demand::Force
    }

    pub(crate) fn ends_session(self) -> bool {
        self == Demand::EndSession
    }
}

/// What came of wanting something to end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ended {
    /// Of the command.
    pub header: Header,
    /// It had ended before; nothing changed.
    pub already: bool,
    /// The holder was asked, and nothing has ended yet. `None`: it has ended.
    pub requested: Option<Requested>,
}

/// A holder was asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Requested {
    /// What will end with its session, without values; empty unless the end of the session was asked for.
    pub losing: Vec<Grant>,
}

impl Ended {
    pub(crate) fn of(
        header: Option<&v1::Header>,
        already: bool,
        requested: Option<v1::EndIsAsked>,
    ) -> Result<Ended, Error> {
        let requested = requested.map(|asked| {
            let losing = asked.losing.into_iter().map(Grant::of).collect::<Result<_, _>>()?;
            Ok::<_, Error>(Requested { losing })
        });
        Ok(Ended { header: Header::of(header), already, requested: requested.transpose()? })
    }
}
