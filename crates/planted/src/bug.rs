//! The list of all bugs that can be planted, in the order of the crates that they break.

/// One line per bug: what it does wrong, and the name under which it is chosen.
macro_rules! bugs {
    ($(#[doc = $wrong:literal] $bug:ident = $name:literal,)+) => {
        /// A bug that can be switched on.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Bug {
            $(#[doc = $wrong] $bug,)+
        }

        #[cfg(feature = "planted")]
        impl Bug {
            /// Every bug.
            pub const ALL: &[Bug] = &[$(Bug::$bug,)+];

            /// The name under which it is chosen.
            pub const fn name(self) -> &'static str {
                match self { $(Bug::$bug => $name,)+ }
            }

            /// What it does wrong, in one sentence.
            pub fn wrong(self) -> &'static str {
                match self { $(Bug::$bug => $wrong.trim_ascii(),)+ }
            }
        }
    };
}

bugs! {
    // storage

    /// Callbacks run before the sync.
    AckBeforeSync = "ack-before-sync",
    /// The vote is acknowledged and never written.
    ForgetVote = "forget-vote",

    // coord-core

    /// Fills a vacated election twice in one command.
    GrantTwice = "grant-twice",
    /// Grants under the token that was granted last.
    TokenNotRaised = "token-not-raised",
    /// Accepts any fence.
    SkipFenceCheck = "skip-fence-check",

    // liveness

    /// Acknowledges a keep-alive as it arrives.
    AckWithoutQuorumRound = "ack-without-quorum-round",
    /// Proposes an end without the attach generation that it rests on.
    ExpireWithoutCondition = "expire-without-condition",

    // rpc

    /// Trusts the check at arrival: a message that waited in the mailbox runs under a token that is stale by then.
    SkipCheckAtDequeue = "skip-check-at-dequeue",
    /// Takes a token that differs from the guard's for a newer one.
    CompareWithNotEqual = "compare-with-not-equal",

    // runtime

    /// Takes a pointer write whose outcome is unknown for applied.
    ConfirmUnknownPointer = "confirm-unknown-pointer",
}

#[cfg(feature = "planted")]
impl std::str::FromStr for Bug {
    type Err = String;

    fn from_str(name: &str) -> Result<Bug, String> {
        let names = || Bug::ALL.iter().map(|bug| bug.name()).collect::<Vec<_>>().join(", ");
        let bug = Bug::ALL.iter().copied().find(|bug| bug.name() == name);
        bug.ok_or_else(|| format!("no planted bug '{name}': there are {}", names()))
    }
}
