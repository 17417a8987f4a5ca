//! Deliberately broken variants of this crate, to prove that the tests catch them. Chosen per service, so that tests beside
//! it are not disturbed; without the feature `planted`, which no release has, nothing can be chosen.

/// A bug that can be switched on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(not(feature = "planted"), allow(dead_code, unreachable_pub))] // without the feature nothing makes one
pub enum Bug {
    /// Trusts the check at arrival: a message that waited in the mailbox runs under a token that is stale by then.
    SkipCheckAtDequeue,
    /// Takes a token that differs from the guard's for a newer one.
    CompareWithNotEqual,
}

impl std::str::FromStr for Bug {
    type Err = String;

    fn from_str(name: &str) -> Result<Bug, String> {
        match name {
            "skip-check-at-dequeue" => Ok(Bug::SkipCheckAtDequeue),
            "compare-with-not-equal" => Ok(Bug::CompareWithNotEqual),
            _ => Err(format!("no bug '{name}': there are skip-check-at-dequeue, compare-with-not-equal")),
        }
    }
}
