//! What watchers of keys are told.

/// One thing that a watcher is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum WatchNews {
    /// From this revision on it is told everything.
    Started {
        /// The first that is told.
        from: u64,
    },
    /// All that one revision changed of the keys.
    Changed {
        /// Which.
        revision: u64,
        /// In the order in which the command made them.
        changes: Vec<WatchedKey>,
    },
    /// It goes on after an interruption.
    Resumed {
        /// The first that is still to be told.
        from: u64,
    },
    /// Nothing has changed for a while.
    Progress {
        /// The first that is still to be told.
        from: u64,
    },
    /// Changes are missing.
    Gap {
        /// The first that is missing.
        from: u64,
        /// The first that is told again.
        to: u64,
    },
}

/// A key that changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WatchedKey {
    /// The key.
    pub key: String,
    /// Its value and its version; `None`: it was removed.
    pub value: Option<(String, u64)>,
}
