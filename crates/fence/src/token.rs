//! The token: a number that only goes up. Keeps true: the order of tokens is the order of grants.

use std::fmt;
use std::str::FromStr;

/// A fencing token (Kleppmann, "How to do distributed locking"; Chubby's sequencer).
///
/// Bit 63 is zero, then 31 bits *generation* (raised by a restore from backup), then 32 bits counter of grants in the
/// cluster. The one comparison is the integer's: a higher token was granted later.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Token(u64);

impl Token {
    /// The largest token there can be.
    pub const MAX: Token = Token(u64::MAX >> 1);

    /// Puts a token together. `generation` has 31 bits; a larger one is a bug of the caller.
    pub fn new(generation: u32, counter: u32) -> Token {
        assert!(generation <= u32::MAX >> 1, "a generation has 31 bits, got {generation}");
        Token((u64::from(generation) << 32) | u64::from(counter))
    }

    /// Reads a token off the wire. Zero is "no token", and bit 63 must be clear: both give `None`.
    pub fn from_wire(raw: u64) -> Option<Token> {
        (raw != 0 && raw <= Token::MAX.0).then_some(Token(raw))
    }

    /// The number that is sent and printed.
    pub fn get(self) -> u64 {
        self.0
    }

    /// Raised by each restore from a backup, so that tokens never go back.
    pub fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Grants so far in this generation.
    pub fn counter(self) -> u32 {
        self.0 as u32
    }

    /// The token of the next grant; when the counter is full, the generation rises by one.
    /// `None` once all 2^63 - 1 tokens are used, which no cluster lives to see.
    pub fn next(self) -> Option<Token> {
        (self.0 < Token::MAX.0).then(|| Token(self.0 + 1))
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The text is not a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseTokenError {
    /// What was given.
    pub value: String,
}

impl fmt::Display for ParseTokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "token: '{}' is not a number from 1 to {}", self.value, Token::MAX)
    }
}

impl std::error::Error for ParseTokenError {}

impl FromStr for Token {
    type Err = ParseTokenError;

    fn from_str(text: &str) -> Result<Token, ParseTokenError> {
        text.parse().ok().and_then(Token::from_wire).ok_or_else(|| ParseTokenError { value: text.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counter_carries_into_the_generation() {
        let full = Token::new(7, u32::MAX);
        assert_eq!(full.next(), Some(Token::new(8, 0)));
        assert!(full.next() > Some(full));
        assert_eq!(Token::MAX.next(), None);
    }

    #[test]
    fn zero_and_bit_63_are_not_tokens() {
        assert_eq!(Token::from_wire(0), None);
        assert_eq!(Token::from_wire(1 << 63), None);
        assert_eq!(
            "12x".parse::<Token>().unwrap_err().to_string(),
            "token: '12x' is not a number from 1 to 9223372036854775807"
        );
    }
}
