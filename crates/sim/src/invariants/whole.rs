//! Transactions are whole: whenever anybody looks at the accounts, at any revision, there are all of them or none, and together
//! they hold what they held at first. It knows nothing but what readers were told.

use std::time::Duration;

use super::Invariant;
use crate::facts::{Fact, Ranged};
use crate::hosts::transactor::{ACCOUNT, ACCOUNTS, HOLDS};

#[derive(Default)]
pub(super) struct TransactionsAreWhole;

impl Invariant for TransactionsAreWhole {
    fn name(&self) -> &'static str {
        "transactions-are-whole"
    }

    fn on(&mut self, fact: &Fact, _: Duration) -> Result<(), String> {
        let Fact::Ranged(Ranged { prefix, limit: 0, found, .. }) = fact else { return Ok(()) };
        if prefix != ACCOUNT || found.is_empty() {
            return Ok(());
        }
        let holds: Vec<u64> = found.iter().filter_map(|found| found.value.parse().ok()).collect();
        if holds.len() as u64 == ACCOUNTS && holds.iter().sum::<u64>() == ACCOUNTS * HOLDS {
            return Ok(());
        }
        Err(format!("{ACCOUNTS} accounts of {HOLDS} each have become {holds:?}: {fact:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::FoundKey;

    #[test]
    fn it_can_object() {
        let accounts = |holds: &[u64]| {
            let found = holds.iter().enumerate().map(|(number, holds)| FoundKey {
                key: format!("{ACCOUNT}{number}"),
                value: holds.to_string(),
                create_revision: 1,
                mod_revision: 1,
                version: 1,
                session: 0,
            });
            let (read, prefix) = (String::from("r"), ACCOUNT.to_owned());
            let (found, count) = (found.collect(), holds.len() as u64);
            let ranged =
                Ranged { read, prefix, asked: None, limit: 0, seq: 1, revision: 1, stale: false, found, count };
            TransactionsAreWhole.on(&Fact::Ranged(ranged), Duration::ZERO)
        };
        assert_eq!(accounts(&[]), Ok(()));
        assert_eq!(accounts(&[100; 6]), Ok(()));
        assert_eq!(accounts(&[50, 150, 100, 100, 100, 100]), Ok(()));
        assert!(accounts(&[50, 100, 100, 100, 100, 100]).is_err(), "it was taken and not given");
        assert!(accounts(&[120; 5]).is_err(), "one is missing");
    }
}
