//! Watchers against a plain list of all changes: random writes, removals, transactions and compactions, told late and in
//! pieces, while watchers begin, lag, and come back from where they were. Each has exactly the changes of its keys from where it
//! began, whole revisions in order, or an explicit gap.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::sync::Arc;

use palisade_coord_core::keys::op::{Delete, Put, Txn};
use palisade_coord_core::{Command, Event, KeyOp, Keys, Op, PageSize, Revision, State, apply};
use palisade_wire::convert::{Tells, Watch};
use palisade_wire::coord::v1::{WatchReply, key_event};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};

use super::follow::{Follow, Look};
use super::stream::{Read, read};
use super::wakers::{Ticket, Wakers};

/// What happens next.
#[derive(Clone, Debug)]
enum Step {
    /// A transaction of puts of so many keys from one on.
    Put {
        first: u8,
        count: u8,
        bytes: usize,
    },
    Delete(Keys),
    Compact {
        back: u64,
    },
    /// The oldest command that was applied and not yet told is told.
    Publish,
    Begin {
        keys: Keys,
        back: Option<u64>,
        tells: Tells,
        size: PageSize,
    },
    /// One of them takes what there is for it.
    Look {
        watcher: usize,
    },
    /// Its stream breaks; it comes back from where it was.
    Break {
        watcher: usize,
    },
    /// All streams break: a snapshot.
    CutOff,
}

fn keys() -> impl Strategy<Value = Keys> {
    let key = 0u8..8;
    prop_oneof![
        key.clone().prop_map(|key| Keys::One(vec![key])),
        (key.clone(), key.clone()).prop_map(|(from, to)| Keys::Span { from: vec![from], to: vec![to] }),
        key.prop_map(|from| Keys::From(vec![from])),
        Just(Keys::prefix([])),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let tells = prop_oneof![4 => Just(Tells::All), 1 => Just(Tells::Puts), 1 => Just(Tells::Deletes)];
    let size = (1usize..8, 1u64..400).prop_map(|(changes, bytes)| PageSize { changes, bytes });
    prop_oneof![
        6 => (0u8..8, 1u8..6, 0usize..60).prop_map(|(first, count, bytes)| Step::Put { first, count, bytes }),
        3 => keys().prop_map(Step::Delete),
        1 => (0u64..6).prop_map(|back| Step::Compact { back }),
        6 => Just(Step::Publish),
        2 => (keys(), prop::option::of(0u64..9), tells, size)
            .prop_map(|(keys, back, tells, size)| Step::Begin { keys, back, tells, size }),
        12 => (0usize..8).prop_map(|watcher| Step::Look { watcher }),
        2 => (0usize..8).prop_map(|watcher| Step::Break { watcher }),
        1 => Just(Step::CutOff),
    ]
}

/// Revision, key, and whether it was written or removed.
type Changed = (u64, Vec<u8>, key_event::Kind);

/// The whole: a state, what was applied and not told yet, the watchers, and the list.
struct World {
    state: State,
    wakers: Arc<Wakers>,
    untold: VecDeque<(Revision, Vec<Event>)>,
    present: BTreeMap<Vec<u8>, ()>,
    all: Vec<Changed>,
    watchers: Vec<Watcher>,
}

/// A watcher, and the client behind it.
struct Watcher {
    watch: Watch,
    size: PageSize,
    /// Where it began.
    from: u64,
    serving: Option<(Ticket, Follow)>,
    /// What it was told, whole revisions only.
    told: Vec<Changed>,
    /// Of a revision that was told in part.
    open: Vec<Changed>,
    resume: u64,
    /// The first revision that it could watch when it was told of a gap.
    gap: Option<u64>,
}

impl World {
    fn apply(&mut self, op: Op) {
        let outcome = apply(&mut self.state, &Command::new(0, op));
        if !outcome.events.is_empty() {
            self.untold.push_back((outcome.revision, outcome.events));
        }
    }

    fn publish(&mut self) -> bool {
        let next = self.untold.pop_front();
        next.inspect(|(revision, events)| self.wakers.publish(*revision, events)).is_some()
    }

    fn step(&mut self, step: Step) {
        let next = self.state.revision().get() + 1;
        match step {
            Step::Put { first, count, bytes } => {
                let keys: Vec<_> = (first..first + count).map(|key| vec![key]).collect();
                for key in &keys {
                    self.present.insert(key.clone(), ());
                    self.all.push((next, key.clone(), key_event::Kind::Put));
                }
                let puts = keys.into_iter().map(|key| KeyOp::Put(Put::new(key, vec![0; bytes])));
                self.apply(Op::Keys(KeyOp::Txn(Txn { success: puts.collect(), ..Txn::default() })));
            }
            Step::Delete(keys) => {
                let gone: Vec<_> = self.present.keys().filter(|key| keys.has(key)).cloned().collect();
                for key in gone {
                    self.present.remove(&key);
                    self.all.push((next, key, key_event::Kind::Delete));
                }
                self.apply(Op::Keys(KeyOp::Delete(Delete::new(keys))));
            }
            Step::Compact { back } => {
                let revision = Revision(self.state.revision().get().saturating_sub(back));
                self.apply(Op::Compact { revision });
            }
            Step::Publish => {
                self.publish();
            }
            Step::Begin { keys, back, tells, size } => {
                let from = back.map_or(next, |back| next.saturating_sub(back).max(1));
                let watch =
                    Watch { keys, from: back.map(|_| Revision(from)), shows_previous: false, tells, progress_ms: 1 };
                let (told, open) = (vec![], vec![]);
                self.watchers.push(Watcher { watch, size, from, serving: None, told, open, resume: from, gap: None });
                self.serve(self.watchers.len() - 1);
            }
            Step::Look { watcher } if watcher < self.watchers.len() => {
                self.look(watcher);
            }
            Step::Break { watcher } if watcher < self.watchers.len() => self.come_back(watcher),
            Step::Look { .. } | Step::Break { .. } => {}
            Step::CutOff => self.wakers.cut_off(),
        }
    }

    fn serve(&mut self, at: usize) {
        let watcher = &mut self.watchers[at];
        let ticket = self.wakers.register(&watcher.watch.keys).expect("there is room");
        let follow = Follow::begin(watcher.watch.from, self.state.revision());
        assert_eq!(follow.resume().get(), watcher.resume, "it tells everything from where it is asked to");
        watcher.serving = Some((ticket, follow));
    }

    /// A new stream from where the last one was.
    fn come_back(&mut self, at: usize) {
        let watcher = &mut self.watchers[at];
        if watcher.gap.is_some() {
            return;
        }
        watcher.serving = None;
        watcher.open.clear();
        watcher.watch.from = Some(Revision(watcher.resume));
        self.serve(at);
    }

    /// Whether there may be more.
    fn look(&mut self, at: usize) -> bool {
        let watcher = &mut self.watchers[at];
        let Some((ticket, follow)) = &mut watcher.serving else { return false };
        match follow.look(ticket) {
            Look::Nothing => return false,
            Look::CutOff => self.come_back(at),
            Look::Read => match read(&self.state, &watcher.watch, follow, watcher.size) {
                Read::Nothing => {}
                Read::Reply(reply, _) => watcher.take(&reply),
                Read::Gap(reply) => {
                    // What it has looked at since the last reply did not concern it.
                    assert!(reply.resume_revision >= watcher.resume, "the gap begins before where it was");
                    watcher.resume = reply.resume_revision;
                    watcher.gap = reply.gap.map(|gap| gap.first_revision);
                    watcher.serving = None;
                }
            },
        }
        true
    }

    /// Everything is told and taken; each has what the list says.
    fn finish(mut self) {
        while self.publish() {}
        for at in 0..self.watchers.len() {
            while self.look(at) {}
            let (watcher, list) = (&self.watchers[at], &self.all);
            let until = match watcher.gap {
                Some(first) => {
                    assert!(first > watcher.resume && first <= self.state.revision().get() + 1, "a gap of nothing");
                    watcher.resume
                }
                None => u64::MAX,
            };
            let wanted = |it: &&Changed| match watcher.watch.tells {
                Tells::All => true,
                Tells::Puts => it.2 == key_event::Kind::Put,
                Tells::Deletes => it.2 == key_event::Kind::Delete,
            };
            let mine = |it: &&Changed| watcher.from <= it.0 && it.0 < until && watcher.watch.keys.has(&it.1);
            let expected: Vec<_> = list.iter().filter(mine).filter(wanted).cloned().collect();
            assert_eq!(watcher.told, expected, "from {}: {:?}", watcher.from, watcher.watch);
        }
    }
}

impl Watcher {
    /// As the API tells its clients to.
    fn take(&mut self, reply: &WatchReply) {
        for event in &reply.events {
            let kv = event.kv.as_ref().expect("an event has its key");
            self.open.push((kv.mod_revision, kv.key.clone(), event.kind()));
        }
        let is_whole = |it: &Changed| !reply.fragment || it.0 < reply.resume_revision;
        let whole: Vec<_> = self.open.iter().filter(|it| is_whole(it)).cloned().collect();
        self.open.retain(|it| !is_whole(it));
        assert!(reply.resume_revision >= self.resume, "it goes back");
        assert!(
            whole.iter().all(|it| (self.resume..reply.resume_revision).contains(&it.0)),
            "{reply:?} after {}",
            self.resume
        );
        self.resume = reply.resume_revision;
        self.told.extend(whole);
    }
}

fn watchers_see_what_the_list_says() {
    let config =
        Config { cases: 2_000, failure_persistence: None, rng_seed: RngSeed::Fixed(20_250_101), ..Config::default() };
    let run = TestRunner::new(config).run(&prop::collection::vec(step(), 1..60), |steps| {
        let mut world = World {
            state: State::new(),
            wakers: Arc::default(),
            untold: VecDeque::new(),
            present: BTreeMap::new(),
            all: vec![],
            watchers: vec![],
        };
        steps.into_iter().for_each(|step| world.step(step));
        world.finish();
        Ok(())
    });
    run.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn watchers_see_every_change_in_order_or_are_told_of_the_gap() {
    watchers_see_what_the_list_says();
}

#[cfg(feature = "planted")]
mod planted {
    use palisade_planted::{Bug, caught};

    use super::watchers_see_what_the_list_says;

    #[test]
    fn the_planted_bug_that_loses_changes_between_past_and_present_is_caught() {
        assert!(caught(Bug::WatchSkipsToLive, watchers_see_what_the_list_says).is_some());
    }

    #[test]
    fn the_planted_bug_that_hides_a_compaction_is_caught() {
        assert!(caught(Bug::CompactionUntold, watchers_see_what_the_list_says).is_some());
    }

    #[test]
    fn the_planted_bug_that_splits_a_revision_is_caught() {
        assert!(caught(Bug::RevisionSplit, watchers_see_what_the_list_says).is_some());
    }
}
