//! Who tells a receiver or a sender about tokens. The client crate implements both traits on a Palisade election; anybody
//! else can implement them on something else.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::{ClusterId, Token};

/// Where a sender gets the token that it stamps on its messages.
pub trait TokenSource: Send + Sync {
    /// The token to stamp now; `None` when this process does not lead (then nothing fenced may be sent).
    fn token(&self) -> Option<Token>;
}

/// One election as an observer sees it: the present state, with no memory.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LeaderView {
    /// Which cluster says so. Views of different clusters are never compared.
    pub cluster: ClusterId,
    /// The order of views within a cluster and generation: a view with a lower `seq` is older.
    pub seq: u64,
    /// The present holder's token; `None` when nobody leads.
    pub token: Option<Token>,
    /// Where the leader is reached; empty until it has proclaimed an address.
    pub address: String,
    /// Further addresses by component name.
    pub components: BTreeMap<String, String>,
}

/// Boxed future of a leader look-up.
pub type Looked<'a> = Pin<Box<dyn Future<Output = Result<LeaderView, Unreachable>> + Send + 'a>>;

/// The election could not be asked in time. Says nothing about who leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreachable {
    /// What was tried and what came back.
    pub why: String,
}

impl std::fmt::Display for Unreachable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the election could not be asked: {}", self.why)
    }
}

impl std::error::Error for Unreachable {}

/// Where a receiver learns who leads an election.
pub trait LeaderSource: Send + Sync {
    /// Name of the election that this source follows.
    fn election(&self) -> &str;

    /// The newest view that the observe stream has brought; `None` before the first. Never goes back within a cluster.
    fn latest(&self) -> Option<LeaderView>;

    /// One bounded linearizable read. Cancelling it is harmless.
    fn read(&self) -> Looked<'_>;

    /// Resolves when [`LeaderSource::latest`] holds a view with a `seq` above `after` (0: any view). Cancelling it is harmless.
    fn changed(&self, after: u64) -> Pin<Box<dyn Future<Output = LeaderView> + Send + '_>>;
}

impl<S: LeaderSource + ?Sized> LeaderSource for Arc<S> {
    fn election(&self) -> &str {
        (**self).election()
    }

    fn latest(&self) -> Option<LeaderView> {
        (**self).latest()
    }

    fn read(&self) -> Looked<'_> {
        (**self).read()
    }

    fn changed(&self, after: u64) -> Pin<Box<dyn Future<Output = LeaderView> + Send + '_>> {
        (**self).changed(after)
    }
}

/// The token of whoever leads, for calls *to* the leader: they carry the addressee's token. As new as the source's stream.
#[derive(Clone, Copy, Debug)]
pub struct PresentLeader<S>(
    /// Where it is learnt who leads.
    pub S,
);

impl<S: LeaderSource> TokenSource for PresentLeader<S> {
    fn token(&self) -> Option<Token> {
        self.0.latest()?.token
    }
}
