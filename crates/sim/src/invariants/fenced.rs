//! A write under a token takes effect only while that token is the newest: in the order of `seq`, the tokens of an election's
//! grants and of acknowledged writes never go back.

use std::collections::BTreeMap;
use std::time::Duration;

use palisade_fence::Token;

use super::Invariant;
use crate::facts::{Fact, News, Restoration};

#[derive(Default)]
pub(super) struct StaleWritesAreRefused {
    /// By election and `seq`.
    acted: BTreeMap<String, BTreeMap<u64, Token>>,
}

impl Invariant for StaleWritesAreRefused {
    fn name(&self) -> &'static str {
        "stale-writes-are-refused"
    }

    fn restored(&mut self, restoration: &Restoration) {
        for by_seq in self.acted.values_mut() {
            // The newest stays the newest, although it is undone: whoever held it may still be at work.
            let newest = by_seq.values().copied().max();
            by_seq.retain(|seq, _| *seq <= restoration.backup.seq);
            by_seq.extend(newest.map(|token| (restoration.begins.seq, token)));
        }
    }

    fn on(&mut self, fact: &Fact, _: Duration) -> Result<(), String> {
        let (Fact::Granted { election, token, seq, .. }
        | Fact::Observed { election, seq, news: News::Elected(token, _), .. }
        | Fact::WroteFenced { election, token, seq }) = fact
        else {
            return Ok(());
        };
        let by_seq = self.acted.entry(election.clone()).or_default();
        by_seq.insert(*seq, *token);
        let below = by_seq.range(..seq).next_back();
        let above = by_seq.range(seq + 1..).next();
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
        let token = |counter| Token::new(0, counter);
        let granted = |election: &str, counter, seq| Fact::Granted {
            election: election.into(),
            candidate: "a".into(),
            token: token(counter),
            seq,
        };
        let wrote = |counter, seq| Fact::WroteFenced { election: "e".into(), token: token(counter), seq };
        assert!(fenced.on(&granted("e", 1, 10), Duration::ZERO).is_ok());
        assert!(fenced.on(&granted("f", 2, 12), Duration::ZERO).is_ok(), "another election");
        assert!(fenced.on(&wrote(1, 15), Duration::ZERO).is_ok());
        assert!(fenced.on(&granted("e", 3, 20), Duration::ZERO).is_ok());
        assert!(fenced.on(&wrote(3, 25), Duration::ZERO).is_ok());
        assert!(fenced.on(&wrote(1, 22), Duration::ZERO).is_err(), "the leader before wrote");
        assert!(fenced.on(&wrote(4, 12), Duration::ZERO).is_err(), "a token before its grant");
    }
}
