//! At most one holder per token; in the order of `seq`, the tokens of an election strictly rise.
//!
//! Grants are seen twice: by the candidate (`campaign` ok) and by an observer (`elected` ok). Both views must agree.

use std::collections::BTreeMap;

use crate::history::{Record, Type};
use crate::verdict::{Finding, Verdict};

pub(crate) fn check(history: &[Record]) -> Finding {
    let finding = |verdict, detail| Finding { checker: "election", verdict, detail };
    let mut elections: BTreeMap<&str, BTreeMap<u64, (u64, String)>> = BTreeMap::new();
    let mut grants = 0;
    for record in history.iter().filter(|r| r.kind == Type::Ok && (r.f == "campaign" || r.f == "elected")) {
        let (Some(election), Some(seq), Some(token)) = (record.election.as_deref(), record.seq, record.token) else {
            return finding(Verdict::Unknown, format!("a grant without election, seq or token: {record:?}"));
        };
        let candidate = record.value.as_str().unwrap_or_default().to_owned();
        grants += 1;
        let by_seq = elections.entry(election).or_default();
        let seen = by_seq.entry(seq).or_insert_with(|| (token, candidate.clone()));
        if *seen != (token, candidate.clone()) {
            let (other, holder) = seen;
            return finding(
                Verdict::Violation,
                format!(
                    "{election}: at seq {seq} one saw token {other} for {holder}, another token {token} for {candidate}"
                ),
            );
        }
    }
    for (election, by_seq) in &elections {
        let mut last: Option<(u64, u64, &str)> = None;
        for (seq, (token, candidate)) in by_seq {
            if let Some((before, at, holder)) = last
                && *token <= before
            {
                return finding(
                    Verdict::Violation,
                    format!(
                        "{election}: token {token} for {candidate} at seq {seq}, after token {before} for {holder} at seq {at}"
                    ),
                );
            }
            last = Some((*token, *seq, candidate));
        }
    }
    if grants == 0 {
        return finding(Verdict::Unknown, "nobody was ever elected".to_owned());
    }
    let distinct: usize = elections.values().map(BTreeMap::len).sum();
    finding(Verdict::Pass, format!("{distinct} grants, tokens strictly rising"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(f: &str, candidate: &str, token: u64, seq: u64) -> Record {
        let mut record = Record::new("1", Type::Ok, f);
        record.value = candidate.into();
        record.election = Some("e".into());
        record.token = Some(token);
        record.seq = Some(seq);
        record
    }

    #[test]
    fn rising_tokens_pass() {
        let history = [grant("campaign", "a", 1, 10), grant("elected", "a", 1, 10), grant("elected", "b", 2, 20)];
        assert_eq!(check(&history).verdict, Verdict::Pass);
    }

    #[test]
    fn a_token_that_does_not_rise_is_a_violation() {
        let history = [grant("elected", "a", 2, 10), grant("elected", "b", 2, 20)];
        assert_eq!(check(&history).verdict, Verdict::Violation);
        let history = [grant("elected", "b", 3, 20), grant("elected", "a", 4, 10)];
        assert_eq!(check(&history).verdict, Verdict::Violation);
    }

    #[test]
    fn two_holders_at_one_seq_are_a_violation() {
        let history = [grant("campaign", "a", 2, 10), grant("elected", "b", 2, 10)];
        assert_eq!(check(&history).verdict, Verdict::Violation);
    }

    #[test]
    fn an_empty_history_is_not_a_pass() {
        assert_eq!(check(&[]).verdict, Verdict::Unknown);
    }
}
