//! Tokens rise in the order of `seq`, whatever the election. The candidates' and the observers' views agree.

use std::collections::BTreeMap;
use std::time::Duration;

use palisade_fence::Token;

use super::Invariant;
use crate::facts::{Fact, News, Restoration};

#[derive(Default)]
pub(super) struct TokensRise {
    /// By `seq` and election: one command may grant several elections.
    granted: BTreeMap<(u64, String), Token>,
    /// The highest token that was granted before the last restore, also after its backup.
    undone: Option<Token>,
    /// Where the cluster began with that.
    begins: u64,
}

impl Invariant for TokensRise {
    fn name(&self) -> &'static str {
        "tokens-rise"
    }

    fn restored(&mut self, restoration: &Restoration) {
        // What was granted later is undone, and tokens rise above it all the same.
        self.undone = self.granted.values().copied().chain(self.undone).max();
        self.granted.retain(|(seq, _), _| *seq <= restoration.backup.seq);
        self.begins = restoration.begins.seq;
    }

    fn on(&mut self, fact: &Fact, _: Duration) -> Result<(), String> {
        let (Fact::Granted { election, token, seq, .. }
        | Fact::Observed { election, seq, news: News::Elected(token, _), .. }) = fact
        else {
            return Ok(());
        };
        if let Some(highest) = self.undone.filter(|highest| *seq > self.begins && highest >= token) {
            return Err(format!("token {token} at seq {seq}, and {highest} was granted before the restore"));
        }
        let seen = *self.granted.entry((*seq, election.clone())).or_insert(*token);
        if seen != *token {
            return Err(format!("at seq {seq} {election:?} was granted under {seen} and under {token}"));
        }
        let at = |seq| (seq, String::new());
        let below = self.granted.range(..at(*seq)).next_back();
        let above = self.granted.range(at(seq + 1)..).next();
        match (below, above) {
            (Some((at, lower)), _) if lower >= token => {
                Err(format!("token {token} at seq {seq} after {lower} at {at:?}"))
            }
            (_, Some((at, higher))) if higher <= token => {
                Err(format!("token {token} at seq {seq} before {higher} at {at:?}"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn granted(election: &str, token: u32, seq: u64) -> Fact {
        Fact::Granted { election: election.into(), candidate: "a".into(), token: Token::new(0, token), seq }
    }

    #[test]
    fn it_can_object() {
        let mut tokens = TokensRise::default();
        assert!(tokens.on(&granted("e", 1, 10), Duration::ZERO).is_ok());
        assert!(tokens.on(&granted("f", 4, 30), Duration::ZERO).is_ok());
        assert!(tokens.on(&granted("e", 3, 30), Duration::ZERO).is_ok(), "two elections in one command");
        assert!(tokens.on(&granted("e", 2, 20), Duration::ZERO).is_ok());
        assert!(tokens.on(&granted("e", 4, 40), Duration::ZERO).is_err());
        assert!(tokens.on(&granted("e", 2, 10), Duration::ZERO).is_err());
        assert!(tokens.on(&granted("f", 9, 5), Duration::ZERO).is_err());
    }
}
