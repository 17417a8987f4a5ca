//! Observe is complete and in order: after the state that an observer is told first, it is told every change of its election,
//! once, in the order of `seq`; a gap is closed by the state, which is the true one at its `seq`. One that comes back to a `seq` is told
//! every change after it. When everything has come to rest, every observer knows who leads.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use palisade_coord_core::Event;
use palisade_fence::Token;

use super::Invariant;
use super::history::History;
use crate::facts::{Applied, Fact, News, Restoration};
use crate::hosts::candidate::ELECTIONS;
use crate::phase::Phase;
use crate::plan::{Plan, Role, Who};

#[derive(Default)]
pub(super) struct ObserveIsComplete {
    history: History,
    /// By election and `seq`.
    changes: BTreeMap<String, BTreeMap<u64, News>>,
    /// By observer and election: what it was told last.
    told: BTreeMap<(String, String), (u64, News)>,
    /// Every observer, with every election that it observes.
    expected: BTreeSet<(String, String)>,
    resting: bool,
    /// Of the cluster.
    generation: u32,
    /// Of the backup that it began with: whoever comes back from another generation knows nothing that is later.
    before: u64,
}

impl ObserveIsComplete {
    pub(super) fn new(plan: &Plan) -> ObserveIsComplete {
        // Observers never crash: each keeps its first name.
        let of_each = |who: Who| ELECTIONS.map(|election| (format!("{who}.0"), election.to_owned()));
        ObserveIsComplete { expected: plan.all(Role::Observer).flat_map(of_each).collect(), ..Default::default() }
    }

    fn apply(&mut self, applied: &Applied) {
        for event in &applied.outcome.events {
            let (election, news) = match event {
                Event::Elected { grant, previous } => {
                    (&grant.election, News::Elected(grant.token, previous.map(|(token, _)| token)))
                }
                Event::ValueChanged { grant } => (&grant.election, News::Proclaimed(grant.token)),
                Event::Vacant { election, previous, .. } => (election, News::Vacant(*previous)),
                // For the session's own client, or about a key.
                _ => continue,
            };
            self.changes.entry(election.clone()).or_default().insert(applied.seq, news);
        }
    }

    fn leads(&self, election: &str, seq: u64) -> Option<Token> {
        self.changes.get(election)?.range(..=seq).next_back()?.1.leads()
    }

    fn observed(&self, last: Option<u64>, election: &str, seq: u64, news: &News) -> Result<(), String> {
        if last.is_some_and(|last| seq <= last) {
            return Err(format!("told seq {seq} after seq {last:?}"));
        }
        if let News::State(leader) = news {
            let leads = self.leads(election, seq);
            return if leads == *leader {
                Ok(())
            } else {
                Err(format!("told that {leader:?} led at seq {seq}, and {leads:?} did"))
            };
        }
        let Some(last) = last else { return Err(format!("told of seq {seq} before the state")) };
        let none = BTreeMap::new();
        let changes = self.changes.get(election).unwrap_or(&none);
        if changes.get(&seq) != Some(news) {
            return Err(format!("told {news:?} of seq {seq}, and it was {:?}", changes.get(&seq)));
        }
        match changes.range(last + 1..seq).next() {
            Some((missed, what)) => Err(format!("told of seq {seq} after {last}, and never of {what:?} at {missed}")),
            None => Ok(()),
        }
    }
}

impl Invariant for ObserveIsComplete {
    fn name(&self) -> &'static str {
        "observe-is-complete"
    }

    fn restored(&mut self, restoration: &Restoration) {
        self.history.restored(restoration);
        let Restoration { generation, backup, begins } = restoration;
        self.generation = *generation;
        for changes in self.changes.values_mut() {
            changes.retain(|seq, _| *seq <= backup.seq);
            // Nobody is told of it as of a change: the state comes first.
            changes.insert(begins.seq, News::State(None));
        }
        self.told.values_mut().for_each(|(seq, _)| *seq = (*seq).min(backup.seq));
        self.before = backup.seq;
    }

    fn on(&mut self, fact: &Fact, _: Duration) -> Result<(), String> {
        if let Some(applied) = self.history.next(fact) {
            self.apply(applied);
        }
        if let Fact::ObserveBegan { observer, election, after, generation } = fact {
            let observes = (observer.clone(), election.clone());
            match after {
                // It knows who led then.
                Some(seq) if *generation != Some(self.generation) => {
                    let seq = *seq.min(&self.before);
                    self.told.insert(observes, (seq, News::State(self.leads(election, seq))))
                }
                Some(seq) => self.told.insert(observes, (*seq, News::State(self.leads(election, *seq)))),
                None => self.told.remove(&observes),
            };
            return Ok(());
        }
        let Fact::Observed { observer, election, seq, news } = fact else { return Ok(()) };
        let told = self.told.insert((observer.clone(), election.clone()), (*seq, news.clone()));
        let judged = self.observed(told.map(|(last, _)| last), election, *seq, news);
        judged.map_err(|why| format!("{observer} observes {election:?}: {why}"))
    }

    fn phase(&mut self, phase: Phase, _: Duration) {
        self.resting |= phase == Phase::Rest;
    }

    fn missing(&self) -> Option<String> {
        if !self.resting {
            return None;
        }
        if let Some((observer, election)) = self.expected.iter().find(|observes| !self.told.contains_key(observes)) {
            return Some(format!("{observer} was told nothing of {election:?}"));
        }
        let late = |((_, election), (_, news)): &(&(String, String), &(u64, News))| {
            news.leads() != self.leads(election, u64::MAX)
        };
        let ((observer, election), told) = self.told.iter().find(late)?;
        Some(format!("{observer} was told {told:?} of {election:?} last"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::history::tests::{campaigned, elected, ended, fact, grant};
    use super::*;

    /// Token 1 at seq 5, token 2 at seq 8, both of "e".
    fn two_leaders() -> ObserveIsComplete {
        let expired = palisade_coord_core::EndReason::Expired;
        let next = elected(grant(8, "e", 2, 2), Some((1, expired)));
        let mut observe = ObserveIsComplete::default();
        for applied in [campaigned(5, "e", 1, 1), ended(8, 1, expired, Some(1), Some(next))] {
            observe.on(&fact(applied), Duration::ZERO).unwrap();
        }
        observe
    }

    fn told(told: &[(u64, News)]) -> Result<ObserveIsComplete, String> {
        let mut observe = two_leaders();
        for (seq, news) in told {
            let (observer, election) = (String::from("o"), String::from("e"));
            observe.on(&Fact::Observed { observer, election, seq: *seq, news: news.clone() }, Duration::ZERO)?;
        }
        Ok(observe)
    }

    #[test]
    fn it_can_object() {
        let token = |counter| Token::new(0, counter);
        let (state, first) = ((1, News::State(None)), (5, News::Elected(token(1), None)));
        let second = (8, News::Elected(token(2), Some(token(1))));
        assert!(told(&[state.clone(), first.clone(), second.clone()]).is_ok());
        assert!(told(&[state.clone(), second.clone()]).is_err(), "it was not told of the first");
        assert!(told(&[state.clone(), (9, News::State(Some(token(2))))]).is_ok(), "the state closes a gap");
        assert!(told(&[(7, News::State(Some(token(2))))]).is_err(), "a state of the future");
        assert!(told(&[(9, News::State(None))]).is_err(), "a state that is wrong");
        assert!(told(std::slice::from_ref(&first)).is_err(), "no state before it");
        assert!(told(&[state.clone(), first.clone(), first.clone()]).is_err(), "the same twice");
        assert!(told(&[state.clone(), (6, News::Vacant(token(1)))]).is_err(), "it never happened");
    }

    #[test]
    fn who_comes_back_is_told_what_followed() {
        let token = |counter| Token::new(0, counter);
        let comes_back = |after, seq, news| {
            let (observer, election) = (String::from("o"), String::from("e"));
            let mut observe = told(&[(1, News::State(None)), (5, News::Elected(token(1), None))]).expect("all is true");
            let began = Fact::ObserveBegan {
                observer: observer.clone(),
                election: election.clone(),
                after,
                generation: Some(0),
            };
            observe.on(&began, Duration::ZERO).expect("nothing is told");
            observe.on(&Fact::Observed { observer, election, seq, news }, Duration::ZERO)
        };
        let (first, second) = (News::Elected(token(1), None), News::Elected(token(2), Some(token(1))));
        assert!(comes_back(Some(5), 8, second.clone()).is_ok());
        assert!(comes_back(Some(1), 5, first.clone()).is_ok(), "it asked for it again");
        assert!(comes_back(Some(1), 8, second.clone()).is_err(), "it was not told of the first");
        assert!(comes_back(Some(8), 8, second.clone()).is_err(), "it has seen that");
        assert!(comes_back(None, 8, second).is_err(), "no state before it");
    }

    #[test]
    fn at_rest_everybody_knows() {
        let mut observe = told(&[(5, News::State(Some(Token::new(0, 1))))]).unwrap();
        assert_eq!(observe.missing(), None);
        observe.phase(Phase::Rest, Duration::ZERO);
        assert!(observe.missing().is_some(), "the second leader is not known");
    }

    #[test]
    fn at_rest_everybody_has_been_told_something() {
        let plan: Plan = "cast node 3 observer 1".parse().expect("a plan");
        let mut observe = ObserveIsComplete::new(&plan);
        observe.phase(Phase::Rest, Duration::ZERO);
        let mut told = |election: &str| {
            let (observer, election) = (String::from("observer-1.0"), election.to_owned());
            let fact = Fact::Observed { observer, election, seq: 1, news: News::State(None) };
            observe.on(&fact, Duration::ZERO).expect("nobody leads");
            observe.missing()
        };
        assert!(told(ELECTIONS[0]).is_some(), "it observes two");
        assert_eq!(told(ELECTIONS[1]), None);
    }
}
