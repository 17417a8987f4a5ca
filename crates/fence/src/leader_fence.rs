//! What a leader's own endpoint checks. Its token is fixed when it is created: a new leadership is a new endpoint.

use crate::Token;

/// The fence of a leader's endpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LeaderFence {
    /// Fixed for the life of the endpoint.
    token: Token,
    /// Closed first on the way down; from then on everything from outside is refused.
    open: bool,
}

/// A leader's answer to a message that carries the addressee's token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum LeaderVerdict {
    /// The sender means this leadership: run the message.
    Admit,
    /// The sender means an earlier leadership.
    Stale {
        /// This leadership's token.
        current: Token,
    },
    /// The sender knows a later leadership: do not run the message; re-read the election and step down if replaced.
    Ahead {
        /// This leadership's token.
        current: Token,
    },
    /// The fence is closed: this endpoint no longer leads.
    NotLeader,
}

impl LeaderFence {
    /// An open fence for one leadership.
    pub fn new(token: Token) -> LeaderFence {
        LeaderFence { token, open: true }
    }

    /// This leadership's token.
    pub fn token(&self) -> Token {
        self.token
    }

    /// Closes the fence for good; idempotent.
    pub fn close(&mut self) {
        self.open = false;
    }

    /// Judges a message from outside.
    pub fn check(&self, token: Token) -> LeaderVerdict {
        match token.cmp(&self.token) {
            _ if !self.open => LeaderVerdict::NotLeader,
            std::cmp::Ordering::Less => LeaderVerdict::Stale { current: self.token },
            std::cmp::Ordering::Equal => LeaderVerdict::Admit,
            std::cmp::Ordering::Greater => LeaderVerdict::Ahead { current: self.token },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_fence_admits_nothing() {
        let mut fence = LeaderFence::new(Token::new(0, 5));
        let at = |n| Token::new(0, n);
        assert_eq!(fence.check(at(4)), LeaderVerdict::Stale { current: at(5) });
        assert_eq!(fence.check(at(5)), LeaderVerdict::Admit);
        assert_eq!(fence.check(at(6)), LeaderVerdict::Ahead { current: at(5) });
        fence.close();
        for n in 4..=6 {
            assert_eq!(fence.check(at(n)), LeaderVerdict::NotLeader);
        }
    }
}
