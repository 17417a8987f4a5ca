//! One current grant at each `seq`; in the order of `seq`, tokens rise. The candidates' and the observer's views agree.

use std::collections::BTreeMap;
use std::time::Duration;

use palisade_fence::Token;

use super::Invariant;
use crate::facts::Fact;

#[derive(Default)]
pub(super) struct TokensRise {
    by_seq: BTreeMap<u64, (Token, String)>,
}

impl Invariant for TokensRise {
    fn name(&self) -> &'static str {
        "tokens-rise"
    }

    fn on(&mut self, fact: &Fact, _: Duration) -> Result<(), String> {
        let (Fact::Granted { candidate, token, seq } | Fact::Elected { candidate, token, seq }) = fact else {
            return Ok(());
        };
        let seen = self.by_seq.entry(*seq).or_insert_with(|| (*token, candidate.clone()));
        if *seen != (*token, candidate.clone()) {
            return Err(format!("at seq {seq}: {seen:?} and ({token}, {candidate})"));
        }
        let below = self.by_seq.range(..seq).next_back();
        let above = self.by_seq.range(seq + 1..).next();
        match (below, above) {
            (Some((at, (lower, _))), _) if lower >= token => {
                Err(format!("token {token} at seq {seq} after token {lower} at seq {at}"))
            }
            (_, Some((at, (higher, _)))) if higher <= token => {
                Err(format!("token {token} at seq {seq} before token {higher} at seq {at}"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn granted(candidate: &str, token: u32, seq: u64) -> Fact {
        Fact::Granted { candidate: candidate.into(), token: Token::new(0, token), seq }
    }

    #[test]
    fn it_can_object() {
        let mut tokens = TokensRise::default();
        assert!(tokens.on(&granted("a", 1, 10), Duration::ZERO).is_ok());
        assert!(tokens.on(&granted("b", 3, 30), Duration::ZERO).is_ok());
        assert!(tokens.on(&granted("a", 2, 20), Duration::ZERO).is_ok());
        assert!(tokens.on(&granted("b", 3, 40), Duration::ZERO).is_err());
        assert!(tokens.on(&granted("b", 1, 10), Duration::ZERO).is_err());
        assert!(tokens.on(&granted("b", 9, 5), Duration::ZERO).is_err());
    }
}
