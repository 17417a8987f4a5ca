//! The process that gets killed or traced: this test binary again, started with an environment variable. It writes to a
//! store and says on its standard output what was acknowledged, after the acknowledgement.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

use bytes::Bytes;
use palisade_storage::{
    DataFolder, FileSnapshots, LogEngine, LogOp, MetaSlot, SledEngine, SnapshotStore, StorageError,
};

use crate::support::{Rng, append, options};

const JOB: &str = "PALISADE_STORAGE_WRITER";

/// Submits in flight: enough that a kill hits between group, sync and callback.
const WINDOW: u64 = 48;

/// What the process does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mode {
    /// Many writes in flight, without end.
    Stream,
    /// The same with records of up to some hundred KiB: whole segments of sled between two syncs.
    Heavy,
    /// Twenty writes, one at a time, announced before and after; each is called committed when it is acknowledged.
    Single,
    /// As many writes, one at a time, however each of them ends; at the end, whether the engine can be written to.
    Persistent,
    /// Entries of some pages, one at a time, until one is refused.
    UntilRefused,
    /// New data folders and snapshots, without end.
    Files,
    /// A backup of nothing is restored into the folder, which is opened then as a node's.
    Restore,
}

/// What a test asks of the process.
pub(crate) struct Job<'a> {
    pub(crate) mode: Mode,
    pub(crate) dir: &'a Path,
    /// Part of every value: later rounds write larger ones.
    pub(crate) round: u64,
    pub(crate) seed: u64,
    /// The name of a planted bug, or empty.
    pub(crate) planted: &'a str,
}

/// Starts it, under `wrapper` if that is not empty.
pub(crate) fn start(job: &Job<'_>, wrapper: &[&str]) -> Child {
    let own = std::env::current_exe().unwrap();
    let mut command = match wrapper.split_first() {
        Some((program, args)) => {
            let mut command = Command::new(program);
            command.args(args).arg(own);
            command
        }
        None => Command::new(own),
    };
    let Job { mode, dir, round, seed, planted } = job;
    command
        .args(["writer::the_process_itself", "--exact", "--nocapture"])
        .env(JOB, format!("{mode:?}|{}|{round}|{seed}|{planted}", dir.display()))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// The lines of a process, as they come.
pub(crate) fn lines(child: &mut Child) -> impl Iterator<Item = String> + use<> {
    BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok)
}

#[test]
fn the_process_itself() {
    let Ok(job) = std::env::var(JOB) else { return };
    let fields: Vec<&str> = job.split('|').collect();
    let [mode, dir, round, seed, planted] = fields[..] else { panic!("{job}") };
    // The test runner has begun a line of its own.
    say("");
    say("opening");
    plant(planted);
    let (round, seed) = (round.parse().unwrap(), seed.parse().unwrap());
    match mode {
        "Files" => return files(Path::new(dir), round),
        "Restore" => return restore(Path::new(dir)),
        _ => {}
    }
    let engine = match DataFolder::open(dir, 7).and_then(|folder| SledEngine::open(&folder, options())) {
        Ok(engine) => engine,
        Err(error) => return say(&format!("not opened: {error}")),
    };
    say("opened");
    match mode {
        "Stream" => stream(&engine, round, seed, &LIGHT),
        "Heavy" => stream(&engine, round, seed, &HEAVY),
        "Single" => single(&engine),
        "Persistent" => persistent(&engine),
        "UntilRefused" => until_refused(&engine),
        _ => panic!("{mode}"),
    }
}

/// Below how many bytes an entry stays: mostly, and four times in a hundred.
type Lengths = (u64, u64);

const LIGHT: Lengths = (300, 60_000);
const HEAVY: Lengths = (30_000, 300_000);

#[cfg(feature = "planted")]
fn plant(name: &str) {
    palisade_planted::choose((!name.is_empty()).then(|| name.parse().unwrap()));
}

#[cfg(not(feature = "planted"))]
fn plant(name: &str) {
    assert_eq!(name, "", "this build has no planted bugs");
}

/// One line in one `write`.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("{line}\n").as_bytes()).and_then(|()| out.flush()).unwrap();
}

fn single(engine: &SledEngine) {
    for index in 0..20 {
        say(&format!("submit {index}"));
        let (sent, received) = mpsc::channel();
        let ops = if index % 4 == 3 { vec![put_vote(index)] } else { vec![append(index - index / 4, "x")] };
        let done = move |outcome: Result<(), StorageError>| {
            outcome.unwrap();
            say(&format!("ack {index}"));
            sent.send(()).unwrap();
        };
        engine.submit(ops, Some(Box::new(done)));
        received.recv().unwrap();
        let mark = LogOp::Put { slot: MetaSlot::Committed, bytes: Bytes::from(index.to_string()) };
        engine.submit(vec![mark], None);
    }
}

fn persistent(engine: &SledEngine) {
    for index in 0..20 {
        let (sent, received) = mpsc::channel();
        engine.submit(vec![put_vote(index)], Some(Box::new(move |outcome| sent.send(outcome).unwrap())));
        match received.recv().unwrap() {
            Ok(()) => say(&format!("vote {index}")),
            Err(error) => say(&format!("refused {index} {error}")),
        }
    }
    say(&format!("health {}", engine.health()));
}

fn until_refused(engine: &SledEngine) {
    for index in 0.. {
        let (sent, received) = mpsc::channel();
        let entry = append(index, vec![1; 20_000]);
        engine.submit(vec![entry], Some(Box::new(move |outcome| sent.send(outcome).unwrap())));
        match received.recv().unwrap() {
            Ok(()) => say(&format!("entry {index}")),
            Err(error) => {
                say(&format!("refused {index} {error}"));
                // It ends as it is.
                std::process::abort();
            }
        }
    }
}

/// What is put into a folder that is restored, some steps of syncing long.
pub(crate) const RESTORED: usize = 5 << 20;

fn restore(dir: &Path) {
    let folder = DataFolder::begin_restore(dir, 7).unwrap();
    say("begun");
    let snapshots = FileSnapshots::open(&folder).unwrap();
    let mut draft = snapshots.begin(b"of a backup").unwrap();
    for piece in vec![3; RESTORED].chunks(64 * 1024) {
        draft.write(piece).unwrap();
    }
    draft.save().unwrap();
    folder.restored().unwrap();
    say("restored");
}

/// Folder after folder, each with an id and a snapshot of its own; and in the first one snapshot after snapshot.
fn files(dir: &Path, round: u64) {
    let mut first = None;
    for number in round.. {
        let folder = DataFolder::open(dir.join(number.to_string()), number).unwrap();
        say(&format!("folder {number}"));
        let snapshots = FileSnapshots::open(&folder).unwrap();
        let (first_number, first) = first.get_or_insert((number, snapshots));
        first.save(number.to_string().as_bytes(), &vec![1; 5000]).unwrap();
        say(&format!("snapshot {first_number} {number}"));
    }
}

fn stream(engine: &SledEngine, round: u64, seed: u64, lengths: &Lengths) {
    let mut rng = Rng(seed);
    let (finished, slots) = mpsc::channel();
    let mut in_flight = 0;
    let mut nonce = round * 1_000_000;
    loop {
        while in_flight >= WINDOW {
            slots.recv().unwrap();
            in_flight -= 1;
        }
        nonce += 1;
        let (ops, acks) = step(engine, &mut rng, nonce, *lengths);
        let finished = finished.clone();
        let done = move |outcome: Result<(), StorageError>| {
            outcome.unwrap();
            for ack in acks {
                say(&ack);
            }
            finished.send(()).unwrap();
        };
        engine.submit(ops, Some(Box::new(done)));
        in_flight += 1;
    }
}

/// Some operations, and what may be said once they are acknowledged.
fn step(engine: &SledEngine, rng: &mut Rng, nonce: u64, (short, long): Lengths) -> (Vec<LogOp>, Vec<String>) {
    let state = engine.state();
    let next = state.next();
    let held = next - state.first;
    match rng.below(100) {
        0..12 => (vec![put_vote(nonce)], vec![format!("vote {nonce}")]),
        12..16 if held > 4 => {
            let from = next - 1 - rng.below(3);
            let mut ops = vec![LogOp::TruncateAfter { index: Some(from - 1) }];
            let mut acks = Vec::new();
            for index in from..next {
                ops.push(append(index, content(index, nonce, rng.below(short))));
                acks.push(format!("entry {index} {nonce}"));
            }
            (ops, acks)
        }
        16..20 if held > 200 => {
            let up_to = next - 100;
            (vec![LogOp::Purge { up_to, marker: Bytes::from(up_to.to_string()) }], vec![format!("purged {up_to}")])
        }
        draw => {
            let length = if draw > 95 { rng.below(long) } else { rng.below(short) };
            (vec![append(next, content(next, nonce, length))], vec![format!("entry {next} {nonce}")])
        }
    }
}

fn put_vote(number: u64) -> LogOp {
    LogOp::Put { slot: MetaSlot::Vote, bytes: Bytes::from(number.to_string()) }
}

/// An entry that says what it is: index, nonce, and bytes that follow from them.
pub(crate) fn content(index: u64, nonce: u64, length: u64) -> Bytes {
    let mut bytes = format!("{index} {nonce} {length} ").into_bytes();
    let mut rng = Rng(nonce);
    bytes.extend((0..length).map(|_| rng.next().to_be_bytes()[0]));
    bytes.into()
}

/// The nonce of an entry, if it is what [`content`] made.
pub(crate) fn nonce_of(index: u64, bytes: &Bytes) -> Option<u64> {
    let mut words =
        bytes.splitn(4, |byte| *byte == b' ').take(3).map(|word| std::str::from_utf8(word).ok()?.parse().ok());
    let (found, nonce, length) = (words.next()??, words.next()??, words.next()??);
    (found == index && content(index, nonce, length) == *bytes).then_some(nonce)
}
