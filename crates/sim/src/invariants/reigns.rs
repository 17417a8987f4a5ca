//! What the store tells of leaders is true: who leads, at the `seq` of the answer; and who led before: all of them, in order, each
//! from its grant to its end, and why it ended.

use std::collections::BTreeMap;
use std::time::Duration;

use palisade_coord_core::EndReason;
use palisade_fence::Token;

use super::Invariant;
use super::history::History;
use crate::facts::{Applied, Fact, Reigned, Restoration};

#[derive(Default)]
pub(super) struct HistoryIsTrue {
    history: History,
    elections: BTreeMap<String, Reigns>,
}

#[derive(Default)]
struct Reigns {
    /// By the `seq` of the end.
    over: BTreeMap<u64, Reigned>,
    /// By `seq`: who leads from there on, and since when.
    leads: BTreeMap<u64, Option<(Token, String)>>,
}

impl Reigns {
    /// Who led then leads no more, because of the restore; who led later never did.
    fn restored(&mut self, restoration: &Restoration) {
        let (backup, begins) = (restoration.backup.seq, restoration.begins.seq);
        self.over.retain(|until, _| *until <= backup);
        self.leads.retain(|since, _| *since <= backup);
        if let Some((since, Some((token, candidate)))) = self.leads.last_key_value() {
            let (token, candidate, since) = (*token, candidate.clone(), *since);
            let why = EndReason::Restored.as_str().to_owned();
            self.over.insert(begins, Reigned { token, candidate, since, until: begins, why });
            self.leads.insert(begins, None);
        }
    }
}

impl HistoryIsTrue {
    fn apply(&mut self, applied: &Applied) {
        let seq = applied.seq;
        for change in applied.changes() {
            let reigns = self.elections.entry(change.election.to_owned()).or_default();
            let last = reigns.leads.last_key_value().and_then(|(since, led)| Some((*since, led.clone()?)));
            if let (Some((token, why)), Some((since, (led, candidate)))) = (change.ended, last)
                && token == led
            {
                let why = <EndReason>::as_str(why).to_owned();
                reigns.over.insert(seq, Reigned { token, candidate, since, until: seq, why });
            }
            let leads = change.began.map(|grant| (grant.token, grant.candidate.clone()));
            reigns.leads.insert(seq, leads);
        }
    }
}

impl Invariant for HistoryIsTrue {
    fn name(&self) -> &'static str {
        "history-is-true"
    }

    fn restored(&mut self, restoration: &Restoration) {
        self.history.restored(restoration);
        self.elections.values_mut().for_each(|reigns| reigns.restored(restoration));
    }

    fn on(&mut self, fact: &Fact, _: Duration) -> Result<(), String> {
        if let Some(applied) = self.history.next(fact) {
            self.apply(applied);
        }
        match fact {
            Fact::HistoryTold { election, seq, reigns } => {
                let over = self.elections.get(election).map(|reigns| reigns.over.range(..=seq));
                let over: Vec<_> = over.into_iter().flatten().map(|(_, reign)| reign.clone()).collect();
                if over == *reigns {
                    return Ok(());
                }
                Err(format!("at seq {seq} {reigns:?} were told of {election:?}: there were {over:?}"))
            }
            Fact::LeaderTold { election, seq, token } => {
                let led = self.elections.get(election).and_then(|reigns| reigns.leads.range(..=seq).next_back());
                let led = led.and_then(|(_, led)| Some(led.as_ref()?.0));
                if led == *token {
                    return Ok(());
                }
                Err(format!("{token:?} was told to lead {election:?} at seq {seq}, and {led:?} did"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::history::tests::{campaigned, elected, ended, fact, grant};
    use super::*;

    fn then(last: Fact) -> Result<(), String> {
        let mut history = HistoryIsTrue::default();
        let next = elected(grant(5, "e", 2, 2), Some((1, EndReason::Expired)));
        for applied in [campaigned(3, "e", 1, 1), ended(5, 1, EndReason::Expired, Some(1), Some(next))] {
            history.on(&fact(applied), Duration::ZERO)?;
        }
        history.on(&last, Duration::ZERO)
    }

    #[test]
    fn it_can_object_to_a_history() {
        let reign = |until, why: &str| Reigned {
            token: Token::new(0, 1),
            candidate: "of-1".into(),
            since: 3,
            until,
            why: why.into(),
        };
        let told =
            |seq, reigns: &[Reigned]| then(Fact::HistoryTold { election: "e".into(), seq, reigns: reigns.to_vec() });
        assert_eq!(told(5, &[reign(5, "expired")]), Ok(()));
        assert_eq!(told(4, &[]), Ok(()));
        assert!(told(5, &[]).is_err(), "one is missing");
        assert!(told(4, &[reign(5, "expired")]).is_err(), "it led still");
        assert!(told(5, &[reign(5, "resigned")]).is_err(), "it ended otherwise");
    }

    #[test]
    fn it_can_object_to_a_leader() {
        let told = |seq, counter: Option<u32>| {
            let token = counter.map(|counter| Token::new(0, counter));
            then(Fact::LeaderTold { election: "e".into(), seq, token })
        };
        assert_eq!(told(2, None), Ok(()));
        assert_eq!(told(4, Some(1)), Ok(()));
        assert_eq!(told(5, Some(2)), Ok(()));
        assert!(told(5, Some(1)).is_err() && told(4, None).is_err());
    }
}
