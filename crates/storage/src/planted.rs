//! Deliberately broken variants, to prove that the checks catch them. Nothing of it is compiled without the feature
//! `planted`, which is off by default and in every release.

/// A bug that a test plants, chosen when an engine is opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Planted {
    /// Callbacks run before the sync.
    AckBeforeSync,
    /// The vote is acknowledged and never written.
    ForgetVote,
}

impl Planted {
    /// By the name under which harnesses choose it: `ack-before-sync`, `forget-vote`.
    pub fn from_name(name: &str) -> Option<Planted> {
        match name {
            "ack-before-sync" => Some(Planted::AckBeforeSync),
            "forget-vote" => Some(Planted::ForgetVote),
            _ => None,
        }
    }
}
