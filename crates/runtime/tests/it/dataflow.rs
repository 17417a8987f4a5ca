//! The whole dataflow of a word count, without processes: random inputs, random order of steps, random barriers, random
//! crashes. Whatever happens, the result is the plain count, and every completed checkpoint is a consistent cut.

use std::collections::{BTreeMap, VecDeque};

use palisade_runtime::dataflow::align::{Aligned, Aligner, CheckpointId};
use palisade_runtime::dataflow::batch::RecordBatch;
use palisade_runtime::dataflow::count::Counts;
use palisade_runtime::dataflow::hash::partition;
use palisade_runtime::dataflow::path::InputPath;
use palisade_runtime::dataflow::source::{Source, SourcePosition};
use palisade_runtime::dataflow::split::{InputFile, splits_of};
use palisade_runtime::dataflow::words::is_space;
use palisade_world::{Random, SeededRandom};
use proptest::prelude::*;

enum Message {
    Records(Vec<u8>),
    Barrier(CheckpointId),
    End,
}

struct SourceTask {
    source: Source,
    out: Vec<RecordBatch>,
    ended: bool,
}

struct CountTask {
    aligner: Aligner,
    counts: Counts,
    done: bool,
}

/// Bounded as the exchange is: a full channel holds its source back.
const QUEUE: usize = 3;

/// One execution attempt.
struct Attempt {
    sources: Vec<SourceTask>,
    counts: Vec<CountTask>,
    /// `channels[source][count]`.
    channels: Vec<Vec<VecDeque<Message>>>,
}

#[derive(Clone, Default)]
struct Checkpoint {
    sources: BTreeMap<usize, SourcePosition>,
    counts: BTreeMap<usize, Vec<u8>>,
}

struct Input {
    files: Vec<InputFile>,
    contents: Vec<Vec<u8>>,
    split_bytes: u64,
    parallelism: usize,
}

impl Attempt {
    fn start(input: &Input, from: Option<&Checkpoint>) -> Attempt {
        let parallelism = input.parallelism;
        let source = |subtask: usize| SourceTask {
            source: Source::new(
                splits_of(&input.files, input.split_bytes, subtask as u32, parallelism as u32),
                from.map(|checkpoint| checkpoint.sources[&subtask]),
            ),
            out: vec![RecordBatch::default(); parallelism],
            ended: false,
        };
        let count = |subtask: usize| CountTask {
            aligner: Aligner::new(parallelism),
            counts: from
                .map_or_else(Counts::default, |checkpoint| Counts::restore(&checkpoint.counts[&subtask]).unwrap()),
            done: false,
        };
        Attempt {
            sources: (0..parallelism).map(source).collect(),
            counts: (0..parallelism).map(count).collect(),
            channels: (0..parallelism).map(|_| (0..parallelism).map(|_| VecDeque::new()).collect()).collect(),
        }
    }

    /// Reads once, or ends; does nothing while a channel is full.
    fn step_source(&mut self, at: usize, input: &Input, read: u64) {
        let task = &mut self.sources[at];
        if task.ended || self.channels[at].iter().any(|queue| queue.len() >= QUEUE) {
            return;
        }
        match task.source.wants(read) {
            Some(read) => {
                let bytes = &input.contents[read.file][read.offset as usize..(read.offset + read.length) as usize];
                let out = &mut task.out;
                let of = out.len() as u32;
                task.source.feed(bytes, |word| out[partition(word, of) as usize].push(word)).unwrap();
            }
            None => task.ended = true,
        }
        self.flush(at);
        if self.sources[at].ended {
            self.channels[at].iter_mut().for_each(|queue| queue.push_back(Message::End));
        }
    }

    fn flush(&mut self, at: usize) {
        for (batch, queue) in self.sources[at].out.iter_mut().zip(&mut self.channels[at]) {
            if !batch.is_empty() {
                queue.push_back(Message::Records(batch.take()));
            }
        }
    }

    fn trigger(&mut self, at: usize, id: CheckpointId) -> SourcePosition {
        self.flush(at);
        if !self.sources[at].ended {
            self.channels[at].iter_mut().for_each(|queue| queue.push_back(Message::Barrier(id)));
        }
        self.sources[at].source.position()
    }

    /// Takes one message from a random readable channel; returns a snapshot if that completed one.
    fn step_count(&mut self, at: usize, random: &dyn Random) -> Option<(CheckpointId, Vec<u8>)> {
        let task = &mut self.counts[at];
        let start = random.next_u64() as usize;
        let readable = (0..self.channels.len())
            .map(|n| (start.wrapping_add(n)) % self.channels.len())
            .find(|from| task.aligner.is_readable(*from) && !self.channels[*from][at].is_empty())?;
        let aligned = match self.channels[readable][at].pop_front().unwrap() {
            Message::Records(bytes) => {
                task.counts.add_batch(&bytes).unwrap();
                Aligned::Wait
            }
            Message::Barrier(id) => task.aligner.on_barrier(readable, id),
            Message::End => task.aligner.on_end(readable),
        };
        match aligned {
            Aligned::Wait => None,
            Aligned::Snapshot(id) => Some((id, task.counts.snapshot())),
            Aligned::AllEnded => {
                task.done = true;
                None
            }
        }
    }

    fn is_done(&self) -> bool {
        self.counts.iter().all(|task| task.done)
    }
}

fn plain_count(contents: &[Vec<u8>]) -> BTreeMap<Vec<u8>, u64> {
    let mut counts = BTreeMap::new();
    for content in contents {
        for word in content.split(|byte| is_space(*byte)).filter(|word| !word.is_empty()) {
            *counts.entry(word.to_vec()).or_default() += 1;
        }
    }
    counts
}

/// Runs to the end with crashes; returns the result and how many crashes went back to a checkpoint.
fn run(input: &Input, seed: u64, crashes: u32) -> (BTreeMap<Vec<u8>, u64>, u32) {
    let random = SeededRandom::new(seed);
    let below = |n: usize| (random.next_u64() % n.max(1) as u64) as usize;
    let parallelism = input.parallelism;
    let (mut crashes, mut restored) = (crashes, 0);
    let mut completed: Option<Checkpoint> = None;
    let mut next_id = 1;
    let mut attempt = Attempt::start(input, None);
    let mut pending: Option<(CheckpointId, Checkpoint)> = None;
    while !attempt.is_done() {
        match below(100) {
            0 if crashes > 0 => {
                crashes -= 1;
                restored += u32::from(completed.is_some());
                pending = None;
                attempt = Attempt::start(input, completed.as_ref());
            }
            // A coordinator may give a checkpoint up and start the next one.
            1..=4 if pending.is_none() || below(12) == 0 => {
                let id = CheckpointId(next_id);
                next_id += 1;
                pending = Some((id, Checkpoint::default()));
            }
            5..=40 => attempt.step_source(below(parallelism), input, 1 + below(12) as u64),
            41..=60 => {
                if let Some((id, checkpoint)) = &mut pending {
                    let at = below(parallelism);
                    checkpoint.sources.entry(at).or_insert_with(|| attempt.trigger(at, *id));
                }
            }
            _ => {
                let at = below(parallelism);
                if let Some((done, snapshot)) = attempt.step_count(at, &random)
                    && let Some((id, checkpoint)) = &mut pending
                    && *id == done
                {
                    checkpoint.counts.insert(at, snapshot);
                }
            }
        }
        if let Some((_, checkpoint)) = &pending
            && checkpoint.sources.len() == parallelism
            && checkpoint.counts.len() == parallelism
        {
            completed = pending.take().map(|(_, checkpoint)| checkpoint);
        }
    }
    let mut result = Counts::default();
    attempt.counts.iter().for_each(|task| result.merge_snapshot(&task.counts.snapshot()).unwrap());
    (result.sorted().into_iter().map(|(word, count)| (word.to_vec(), count)).collect(), restored)
}

fn input(contents: Vec<Vec<u8>>, split_bytes: u64, parallelism: usize) -> Input {
    let files = contents.iter().enumerate();
    let files = files
        .map(|(n, content)| InputFile { path: InputPath::from(format!("f{n}").as_str()), size: content.len() as u64 });
    Input { files: files.collect(), contents, split_bytes, parallelism }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn crashes_and_barriers_at_any_point_change_no_count(
        contents in prop::collection::vec(
            prop::collection::vec(prop_oneof![4 => b'a'..=b'd', 2 => Just(b' '), 1 => Just(b'\n'), 1 => any::<u8>()], 0..150), 1..4),
        split_bytes in 1u64..60, parallelism in 1usize..4, seed in any::<u64>(), crashes in 0u32..6)
    {
        let expected = plain_count(&contents);
        let (counted, _) = run(&input(contents, split_bytes, parallelism), seed, crashes);
        prop_assert_eq!(counted, expected);
    }
}

#[test]
pub(crate) fn runs_that_restore_from_checkpoints_count_every_word_once() {
    let contents = vec![b"one two three two three three ".repeat(60)];
    let input = input(contents.clone(), 37, 2);
    for seed in 0..20 {
        assert_eq!(run(&input, seed, 5).0, plain_count(&contents));
    }
}

#[test]
fn the_random_runs_do_restore_from_checkpoints() {
    let text = b"one two three two three three ".repeat(60);
    let input = input(vec![text], 37, 2);
    let restored: u32 = (0..20).map(|seed| run(&input, seed, 5).1).sum();
    assert!(restored >= 40, "only {restored} crashes of 100 went back to a checkpoint");
}
