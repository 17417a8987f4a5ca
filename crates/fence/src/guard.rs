//! What a receiver that outlives leaders keeps per (cluster, election): the highest token that it accepted.
//! A guard decides and never confirms: whoever holds it asks the election and then calls [`Guard::raise`].

use crate::Token;

/// The highest token that a receiver accepted for one (cluster, election).
///
/// Invariant: it never goes back. Once it stands at `t`, nothing below `t` is admitted again.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Guard {
    /// `None` until the first confirmed token.
    highest: Option<Token>,
}

/// A guard's answer to a message with a token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum GuardVerdict {
    /// The token is the highest accepted one: run the message.
    Admit,
    /// A newer leader has been accepted: refuse, and tell the sender.
    Stale {
        /// The highest accepted token.
        current: Token,
    },
    /// Higher than anything accepted. Confirm it with the election, raise the guard (durably if the resource outlives the
    /// process), then run the message; if it is not confirmed, refuse as "receiver is behind", guard unchanged.
    Confirm,
}

/// What [`Guard::raise`] did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Raise {
    /// The guard rose: work running under lower tokens must stop before the first message under the new one runs.
    Raised {
        /// Where it stood before.
        from: Option<Token>,
    },
    /// It stood there already.
    Unchanged,
    /// It stands higher: the token is stale.
    Refused {
        /// Where it stands.
        current: Token,
    },
}

impl Guard {
    /// A guard as it was kept on disk; `None` for a fresh one.
    pub fn restored(highest: Option<Token>) -> Guard {
        Guard { highest }
    }

    /// The highest accepted token.
    pub fn highest(&self) -> Option<Token> {
        self.highest
    }

    /// Judges a message. Ask at arrival and again on leaving the mailbox: the guard may have risen between.
    pub fn check(&self, token: Token) -> GuardVerdict {
        match self.highest {
            Some(current) if token < current => GuardVerdict::Stale { current },
            Some(current) if token == current => GuardVerdict::Admit,
            Some(_) | None => GuardVerdict::Confirm,
        }
    }

    /// Raises the guard to a token that the election has confirmed.
    pub fn raise(&mut self, confirmed: Token) -> Raise {
        match self.highest {
            Some(current) if confirmed < current => Raise::Refused { current },
            Some(current) if confirmed == current => Raise::Unchanged,
            from => {
                self.highest = Some(confirmed);
                Raise::Raised { from }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_guard_never_admits_below_what_it_accepted(steps in prop::collection::vec((1u64..50, any::<bool>()), 0..200)) {
            let mut guard = Guard::default();
            let mut model = 0;
            for (raw, raise) in steps {
                let token = Token::from_wire(raw).expect("1..50 is in range");
                if raise {
                    let _ = guard.raise(token);
                    model = model.max(raw);
                }
                prop_assert_eq!(guard.highest().map_or(0, Token::get), model);
                prop_assert_eq!(matches!(guard.check(token), GuardVerdict::Stale { .. }), raw < model);
                prop_assert_eq!(guard.check(token) == GuardVerdict::Admit, raw == model);
            }
        }
    }
}
