//! A token together with the election that it belongs to. Tokens of different elections, or of different clusters, are
//! never compared: that is why they travel together.

use std::fmt;
use std::str::FromStr;

use crate::Token;

/// Names a cluster for life; kept through a restore. Printed as 16 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ClusterId(pub u64);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for ClusterId {
    type Err = ParseFenceError;

    fn from_str(text: &str) -> Result<ClusterId, ParseFenceError> {
        u64::from_str_radix(text, 16)
            .map(ClusterId)
            .map_err(|_| ParseFenceError { value: text.to_owned(), why: "a cluster id is up to 16 hexadecimal digits" })
    }
}

/// "This write is made by the holder of `election` with `token`". Written `ELECTION:TOKEN`, split at the last colon,
/// because names may contain colons.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Fence {
    /// Name of the election.
    pub election: String,
    /// The holder's token.
    pub token: Token,
}

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.election, self.token)
    }
}

/// The text is not `ELECTION:TOKEN`, or not a cluster id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseFenceError {
    /// What was given.
    pub value: String,
    /// What is wrong with it.
    pub why: &'static str,
}

impl fmt::Display for ParseFenceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "fence: '{}': {}", self.value, self.why)
    }
}

impl std::error::Error for ParseFenceError {}

impl FromStr for Fence {
    type Err = ParseFenceError;

    fn from_str(text: &str) -> Result<Fence, ParseFenceError> {
        let wrong = |why| ParseFenceError { value: text.to_owned(), why };
        let (election, token) = text.rsplit_once(':').ok_or_else(|| wrong("expected ELECTION:TOKEN"))?;
        if election.is_empty() {
            return Err(wrong("the election's name is empty"));
        }
        let token = token.parse().map_err(|_| wrong("the token is not a number from 1 to 9223372036854775807"))?;
        Ok(Fence { election: election.to_owned(), token })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fence_is_split_at_the_last_colon() {
        let fence: Fence = "a:b:41".parse().unwrap();
        assert_eq!((fence.election.as_str(), fence.token), ("a:b", Token::new(0, 41)));
        assert_eq!(fence.to_string(), "a:b:41");
        assert!("41".parse::<Fence>().is_err());
        assert!(":41".parse::<Fence>().is_err());
        assert!("a:-1".parse::<Fence>().is_err());
    }
}
