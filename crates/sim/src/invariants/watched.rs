//! Watchers see every change: from the revision that a watcher begins with it is told what each revision changed of its keys,
//! whole, once and in order, across all that happens to nodes; or it is told of a gap, and only of what was compacted. When
//! everything has come to rest, it knows all that there was to know.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Invariant;
use super::history::History;
use super::keyspace::Keyspace;
use crate::facts::{Ended, Fact, Restoration, WatchNews};
use crate::phase::Phase;

#[derive(Default)]
pub(super) struct WatchersSeeEveryChange {
    history: History,
    keys: Keyspace,
    watchers: BTreeMap<String, Watching>,
    /// The newest revision that anybody was told of.
    told: u64,
    /// At rest: what every watcher must have been told.
    goal: Option<u64>,
}

struct Watching {
    prefix: String,
    asked: Option<u64>,
    /// What had been told when it began.
    began: u64,
    /// Everything before it has been told; `None`: it was told nothing.
    next: Option<u64>,
    /// A restore lies between what it was told and what there is: a gap comes next.
    crosses: bool,
}

impl WatchersSeeEveryChange {
    fn watched(&mut self, watcher: &str, news: &WatchNews) -> Result<(), String> {
        let Some(watching) = self.watchers.get_mut(watcher) else {
            return Err(format!("{watcher} was told {news:?} and never began"));
        };
        let keys = &self.keys;
        let nothing_between = |first: u64, until: u64, prefix: &str| match keys.changes(prefix, first, until).first() {
            Some((revision, missed)) => Err(format!("{watcher} was never told of {missed:?} at revision {revision}")),
            None => Ok(()),
        };
        let prefix = watching.prefix.as_str();
        if watching.crosses {
            return match news {
                WatchNews::Gap { to, .. } if *to <= keys.watchable() => {
                    (watching.next, watching.crosses) = (Some(*to), false);
                    Ok(())
                }
                news => Err(format!("{watcher} was told {news:?} after {:?}, across a restore", watching.next)),
            };
        }
        match (watching.next, news) {
            (None, WatchNews::Started { from }) => {
                let rightly = match watching.asked {
                    Some(asked) => *from == asked,
                    // From now on: nothing that anybody knew before it began, and all that is written after it was told.
                    None => *from > watching.began && *from <= keys.revision() + 1,
                };
                if !rightly {
                    return Err(format!("{watcher} asked for {:?} and was told from {from} on", watching.asked));
                }
                watching.next = Some(*from);
            }
            (Some(next), WatchNews::Changed { revision, changes }) => {
                if *revision < next {
                    return Err(format!(
                        "{watcher} was told of revision {revision}, and before it of all until {next}"
                    ));
                }
                nothing_between(next, *revision, prefix)?;
                let made =
                    keys.changes(prefix, *revision, revision + 1).pop().map(|(_, made)| made).unwrap_or_default();
                if made != *changes {
                    return Err(format!(
                        "{watcher} was told that revision {revision} changed {changes:?}: it was {made:?}"
                    ));
                }
                watching.next = Some(revision + 1);
            }
            (Some(next), WatchNews::Resumed { from } | WatchNews::Progress { from }) => {
                if *from < next {
                    return Err(format!("{watcher} went back from {next} to {from}"));
                }
                nothing_between(next, *from, prefix)?;
                watching.next = Some(*from);
            }
            (next, WatchNews::Gap { from, to }) => {
                let first = next.or(watching.asked).unwrap_or(*from);
                nothing_between(first, *from, prefix)?;
                if *from < first || to <= from || *to > keys.watchable() {
                    let compacted = keys.compacted();
                    return Err(format!("{watcher} was told {news:?} after {first}, and {compacted} was compacted"));
                }
                watching.next = Some(*to);
            }
            (next, news) => return Err(format!("{watcher} was told {news:?} after {next:?}")),
        }
        Ok(())
    }
}

impl Invariant for WatchersSeeEveryChange {
    fn name(&self) -> &'static str {
        "watchers-see-every-change"
    }

    fn restored(&mut self, restoration: &Restoration) {
        self.history.restored(restoration);
        self.keys.restored(restoration);
        self.told = restoration.begins.revision;
        for watching in self.watchers.values_mut() {
            watching.crosses = watching.next.is_some();
            // One that was told nothing yet begins in the new cluster, whose numbers may be those of one that is undone.
            watching.began = watching.began.min(restoration.begins.revision);
        }
    }

    fn on(&mut self, fact: &Fact, _: Duration) -> Result<(), String> {
        if let Some(applied) = self.history.next(fact) {
            // Whether it changed what it should is for another invariant.
            let _ = self.keys.apply(applied);
        }
        match fact {
            Fact::WatchBegan { watcher, prefix, asked } => {
                let (prefix, asked, began) = (prefix.clone(), *asked, self.told);
                self.watchers.insert(watcher.clone(), Watching { prefix, asked, began, next: None, crosses: false });
                Ok(())
            }
            Fact::WatchEnded { watcher } => {
                self.watchers.remove(watcher);
                Ok(())
            }
            Fact::Watched { watcher, news } => self.watched(watcher, news),
            Fact::WriteEnded { ended: Ended::Applied { revision, .. }, .. } | Fact::ReadEnded { revision, .. } => {
                self.told = self.told.max(*revision);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn phase(&mut self, phase: Phase, _: Duration) {
        self.goal = (phase == Phase::Rest).then(|| self.keys.revision() + 1);
    }

    fn missing(&self) -> Option<String> {
        let goal = self.goal?;
        let late = |watching: &Watching| match watching.next.filter(|_| !watching.crosses) {
            None => true,
            Some(next) => !self.keys.changes(&watching.prefix, next, goal).is_empty(),
        };
        let (watcher, watching) = self.watchers.iter().find(|(_, watching)| late(watching))?;
        Some(format!("{watcher} was told until {:?}, and {goal} is to come", watching.next))
    }
}

#[cfg(test)]
mod tests {
    use palisade_coord_core::keys::op::Put;
    use palisade_coord_core::{Event, KeyOp, KeyReply, Op, Reply, Revision};

    use super::super::history::tests::{applied, fact};
    use super::*;
    use crate::facts::WatchedKey;

    fn wrote(seq: u64, key: &str) -> Fact {
        let changed = Event::KeyChanged { key: key.as_bytes().to_vec(), revision: Revision(seq), version: Some(1) };
        let reply = Reply::Keys(KeyReply::Put { version: 1, previous: None });
        fact(applied(seq, Op::Keys(KeyOp::Put(Put::new(key, "v"))), Ok(reply), vec![changed]))
    }

    fn changed(revision: u64, key: &str) -> WatchNews {
        let changes = vec![WatchedKey { key: key.to_owned(), value: Some(("v".to_owned(), 1)) }];
        WatchNews::Changed { revision, changes }
    }

    /// Revision 1 writes `k1`, 2 writes `other`, 3 writes `k3`; `w` watches `k` from the first on.
    fn told(told: &[WatchNews]) -> Result<WatchersSeeEveryChange, String> {
        let mut watchers = WatchersSeeEveryChange::default();
        let began = Fact::WatchBegan { watcher: "w".into(), prefix: "k".into(), asked: Some(1) };
        let facts = [began, wrote(1, "k1"), wrote(2, "other"), wrote(3, "k3")];
        facts.iter().try_for_each(|fact| watchers.on(fact, Duration::ZERO))?;
        for news in told {
            watchers.on(&Fact::Watched { watcher: "w".into(), news: news.clone() }, Duration::ZERO)?;
        }
        Ok(watchers)
    }

    #[test]
    fn it_can_object() {
        let started = WatchNews::Started { from: 1 };
        let (first, last) = (changed(1, "k1"), changed(3, "k3"));
        assert!(told(&[started.clone(), first.clone(), last.clone()]).is_ok());
        assert!(told(&[WatchNews::Started { from: 2 }]).is_err(), "it asked for the first");
        assert!(told(&[started.clone(), last.clone()]).is_err(), "the first is missing");
        assert!(told(&[started.clone(), first.clone(), first.clone()]).is_err(), "the same twice");
        assert!(told(&[started.clone(), changed(1, "k2")]).is_err(), "it never happened");
        assert!(told(&[started.clone(), first.clone(), WatchNews::Resumed { from: 3 }, last]).is_ok());
        assert!(told(&[started.clone(), first.clone(), WatchNews::Progress { from: 4 }]).is_err(), "one is missing");
        assert!(told(&[started.clone(), first.clone(), WatchNews::Resumed { from: 1 }]).is_err(), "it went back");
        assert!(told(&[started, first, WatchNews::Gap { from: 2, to: 4 }]).is_err(), "nothing was compacted");
    }

    #[test]
    fn at_rest_everything_was_told() {
        let mut watchers = told(&[WatchNews::Started { from: 1 }, changed(1, "k1")]).expect("it is right so far");
        assert_eq!(watchers.missing(), None);
        watchers.phase(Phase::Rest, Duration::ZERO);
        assert!(watchers.missing().is_some(), "the last is missing");
        let last = Fact::Watched { watcher: "w".into(), news: changed(3, "k3") };
        watchers.on(&last, Duration::ZERO).expect("it is right");
        assert_eq!(watchers.missing(), None);
    }
}
