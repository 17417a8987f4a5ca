//! Random operations on both engines against a plain model: after every step, and after every opening, all three agree.

use std::collections::BTreeMap;

use bytes::Bytes;
use palisade_storage::{LogEngine, LogOp, LogState, MetaSlot, SimDisk, SimEngine};
use proptest::prelude::*;

use crate::support::{Store, all};

/// A step, with positions relative to what the log holds, so that every one is legal.
#[derive(Clone, Debug)]
enum Step {
    Append { count: u64, length: usize },
    TruncateAfter { below_next: u64, then: u64 },
    Purge { above_first: u64 },
    PurgeBeyond { above_last: u64 },
    Put { slot: MetaSlot, value: u8 },
    Read { from: u64, count: u64, max_bytes: usize },
    Sync,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let length = prop_oneof![4 => 0..300usize, 1 => Just(24 * 1024 - 9), 1 => 20_000..80_000usize];
    let slot = prop_oneof![Just(MetaSlot::Vote), Just(MetaSlot::Committed), Just(MetaSlot::Identity)];
    prop_oneof![
        8 => (1..6u64, length).prop_map(|(count, length)| Step::Append { count, length }),
        3 => (0..8u64, 0..4u64).prop_map(|(below_next, then)| Step::TruncateAfter { below_next, then }),
        2 => (0..20u64).prop_map(|above_first| Step::Purge { above_first }),
        1 => (0..9u64).prop_map(|above_last| Step::PurgeBeyond { above_last }),
        3 => (slot, any::<u8>()).prop_map(|(slot, value)| Step::Put { slot, value }),
        3 => (0..40u64, 0..20u64, 0..60_000usize).prop_map(|(from, count, max_bytes)| Step::Read { from, count, max_bytes }),
        2 => Just(Step::Sync),
        2 => Just(Step::Reopen),
    ]
}

/// The log as one would write it without a disk.
#[derive(Default)]
struct Model {
    entries: BTreeMap<u64, Bytes>,
    purged: Option<(u64, Bytes)>,
    slots: BTreeMap<MetaSlot, Bytes>,
    /// Makes every value different.
    values: u64,
}

impl Model {
    fn first(&self) -> u64 {
        let after_purge = self.purged.as_ref().map_or(0, |(purged, _)| purged + 1);
        self.entries.keys().next().copied().unwrap_or(after_purge)
    }

    fn next(&self) -> u64 {
        self.entries.keys().next_back().map_or(self.first(), |last| last + 1)
    }

    fn state(&self) -> LogState {
        LogState {
            first: self.first(),
            last: self.entries.keys().next_back().copied(),
            purged: self.purged.clone(),
            vote: self.slots.get(&MetaSlot::Vote).cloned(),
            committed: self.slots.get(&MetaSlot::Committed).cloned(),
            identity: self.slots.get(&MetaSlot::Identity).cloned(),
        }
    }

    fn append(&mut self, length: usize) -> LogOp {
        self.values += 1;
        let mut bytes = self.values.to_be_bytes().to_vec();
        bytes.resize(bytes.len().max(length), u8::try_from(self.values % 256).unwrap());
        bytes.truncate(length);
        let (index, bytes) = (self.next(), Bytes::from(bytes));
        self.entries.insert(index, bytes.clone());
        LogOp::Append { index, bytes }
    }

    fn truncate(&mut self, below_next: u64) -> Option<LogOp> {
        let kept = self.next().checked_sub(1 + below_next);
        if self.purged.as_ref().is_some_and(|(purged, _)| kept.is_none_or(|kept| kept < *purged)) {
            return None;
        }
        self.entries.retain(|index, _| kept.is_some_and(|kept| *index <= kept));
        Some(LogOp::TruncateAfter { index: kept })
    }

    fn purge(&mut self, up_to: u64) -> LogOp {
        let marker = Bytes::from(format!("purged {up_to}"));
        self.entries.retain(|index, _| *index > up_to);
        self.purged = Some((up_to, marker.clone()));
        LogOp::Purge { up_to, marker }
    }

    fn read(&self, from: u64, to: u64, max_bytes: usize) -> Vec<(u64, Bytes)> {
        let mut size = 0;
        let range = self.entries.iter().filter(|(index, _)| (from..to).contains(index));
        let limited = range.enumerate().take_while(|(position, (_, bytes))| {
            size += bytes.len();
            *position == 0 || size <= max_bytes
        });
        limited.map(|(_, (index, bytes))| (*index, bytes.clone())).collect()
    }
}

/// The operations of a step, taken by the model.
fn ops(model: &mut Model, step: &Step) -> Vec<LogOp> {
    match step {
        Step::Append { count, length } => (0..*count).map(|_| model.append(*length)).collect(),
        Step::TruncateAfter { below_next, then } => {
            let truncated = model.truncate(*below_next);
            let appended: Vec<_> = (0..*then).map(|_| model.append(50)).collect();
            truncated.into_iter().chain(appended).collect()
        }
        Step::Purge { above_first } if !model.entries.is_empty() => {
            let up_to = (model.first() + above_first).min(model.next() - 1);
            vec![model.purge(up_to)]
        }
        Step::PurgeBeyond { above_last } => {
            let up_to = model.next() + above_last;
            vec![model.purge(up_to)]
        }
        Step::Put { slot, value } => {
            let bytes = Bytes::from(vec![*value; usize::from(*value)]);
            model.slots.insert(*slot, bytes.clone());
            vec![LogOp::Put { slot: *slot, bytes }]
        }
        Step::Purge { .. } | Step::Read { .. } | Step::Sync | Step::Reopen => Vec::new(),
    }
}

fn agree(what: &str, engine: &dyn LogEngine, model: &Model) -> Result<(), TestCaseError> {
    prop_assert_eq!(engine.state(), model.state(), "{}", what);
    let expected: Vec<_> = model.entries.iter().map(|(index, bytes)| (*index, bytes.clone())).collect();
    prop_assert!(all(engine) == expected, "{} holds other entries", what);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, rng_seed: proptest::test_runner::RngSeed::Fixed(29), ..ProptestConfig::default() })]

    #[test]
    fn both_engines_are_the_plain_model(steps in prop::collection::vec(step(), 1..60)) {
        let mut store = Store::new();
        let disk = SimDisk::new();
        let mut simulated = SimEngine::open(&disk).unwrap();
        let mut model = Model::default();
        for step in &steps {
            let ops = ops(&mut model, step);
            match step {
                Step::Reopen => {
                    store.reopen();
                    simulated = SimEngine::open(&disk).unwrap();
                }
                Step::Sync => {
                    crate::support::write(store.engine(), Vec::new()).unwrap();
                    disk.sync();
                }
                Step::Read { from, count, max_bytes } => {
                    let (from, to) = (model.first().saturating_sub(5) + from, model.first() + from + count);
                    let expected = model.read(from, to, *max_bytes);
                    prop_assert!(store.engine().read(from, to, *max_bytes).unwrap() == expected);
                    prop_assert!(simulated.read(from, to, *max_bytes).unwrap() == expected);
                }
                _ => {
                    store.engine().submit(ops.clone(), None);
                    simulated.submit(ops, None);
                }
            }
            agree("sled", store.engine(), &model)?;
            agree("the simulated disk", &simulated, &model)?;
        }
        store.reopen();
        agree("sled, opened again", store.engine(), &model)?;
    }
}
