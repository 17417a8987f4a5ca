//! What a gateway stamps on its messages. A call to a leader carries the addressee's token; a call from a leader to a worker
//! carries the sender's own.

use std::sync::Arc;

use palisade_fence::{ClusterId, Token, TokenSource};

/// The fence of a gateway's messages. Given when it is connected.
#[derive(Clone)]
pub enum Stamp {
    /// Nothing: for endpoints without a fence.
    Unfenced,
    /// One leadership's token for the life of the gateway: the addressee's, as its proclamation named it, or the sender's own.
    Fixed {
        /// The cluster that granted it.
        cluster: ClusterId,
        /// Name of the election.
        election: String,
        /// The token.
        token: Token,
    },
    /// The sender's own token, asked for at each message; while there is none, nothing is sent.
    Own {
        /// The cluster that grants it.
        cluster: ClusterId,
        /// Name of the election.
        election: String,
        /// Where the token comes from.
        source: Arc<dyn TokenSource>,
    },
}

impl Stamp {
    /// One token for good.
    pub fn fixed(cluster: ClusterId, election: impl Into<String>, token: Token) -> Stamp {
        Stamp::Fixed { cluster, election: election.into(), token }
    }

    /// The token of our own leadership, as it is at each message.
    pub fn own(cluster: ClusterId, election: impl Into<String>, source: Arc<dyn TokenSource>) -> Stamp {
        Stamp::Own { cluster, election: election.into(), source }
    }
}

impl std::fmt::Debug for Stamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Stamp::Unfenced => f.write_str("Unfenced"),
            Stamp::Fixed { cluster, election, token } => write!(f, "Fixed({cluster} {election}:{token})"),
            Stamp::Own { cluster, election, source } => write!(f, "Own({cluster} {election}:{:?})", source.token()),
        }
    }
}
