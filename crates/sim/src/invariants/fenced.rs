//! A write under a token takes effect only while that token is the newest: in the order of `seq`, the tokens of grants and of
//! acknowledged writes never go back.

use std::collections::BTreeMap;
use std::time::Duration;

use palisade_fence::Token;

use super::Invariant;
use crate::facts::Fact;

#[derive(Default)]
pub(super) struct StaleWritesAreRefused {
    by_seq: BTreeMap<u64, Token>,
}

impl Invariant for StaleWritesAreRefused {
    fn name(&self) -> &'static str {
        "stale-writes-are-refused"
    }

    fn on(&mut self, fact: &Fact, _: Duration) -> Result<(), String> {
        let (Fact::Granted { token, seq, .. } | Fact::Elected { token, seq, .. } | Fact::WroteFenced { token, seq }) =
            fact
        else {
            return Ok(());
        };
        self.by_seq.insert(*seq, *token);
        let below = self.by_seq.range(..seq).next_back();
        let above = self.by_seq.range(seq + 1..).next();
        match (below, above) {
            (Some((at, newer)), _) if newer > token => {
                Err(format!("at seq {seq} something happened under {token}, but {newer} was current since seq {at}"))
            }
            (_, Some((at, older))) if older < token => {
                Err(format!("at seq {at} something happened under {older}, but {token} was current since seq {seq}"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_can_object() {
        let mut fenced = StaleWritesAreRefused::default();
        let granted = |token, seq| Fact::Granted { candidate: "a".into(), token: Token::new(0, token), seq };
        let wrote = |token, seq| Fact::WroteFenced { token: Token::new(0, token), seq };
        assert!(fenced.on(&granted(1, 10), Duration::ZERO).is_ok());
        assert!(fenced.on(&wrote(1, 15), Duration::ZERO).is_ok());
        assert!(fenced.on(&granted(2, 20), Duration::ZERO).is_ok());
        assert!(fenced.on(&wrote(2, 25), Duration::ZERO).is_ok());
        assert!(fenced.on(&wrote(1, 22), Duration::ZERO).is_err(), "the leader before wrote");
        assert!(fenced.on(&wrote(3, 12), Duration::ZERO).is_err(), "a token before its grant");
    }
}
