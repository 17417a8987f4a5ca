//! The power goes at any moment, and everything that was acknowledged is there afterwards: entries unchanged and without a
//! hole, the last vote or a newer one, purges, folders with their ids, snapshots; and the log goes on.
//!
//! Ten rounds by default, on a disk in memory. `PALISADE_POWER_CUTS=150` asks for as many on the machine's own disk, and
//! `PALISADE_POWER_CUTS=150:7` with another seed. Needs root.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use palisade_storage::{DataFolder, FileSnapshots, SnapshotStore};

use crate::kill::{Acknowledged, run_and_kill};
use crate::loop_disk::{Below, LoopDisk};
use crate::support::{Rng, assert_no_blobs, skip};
use crate::writer::{Job, Mode, lines, start};

/// What is done before the power goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Round {
    /// A process writes.
    Write,
    /// It is killed, and the next one goes on with what was never synced.
    KillAndWrite,
    /// It is killed, and the power goes while the next one opens.
    KillAndOpen,
    /// The power went before; it goes again while the log recovers from that.
    CutAndOpen,
}

/// What the rounds came to: a test that never cut anything would prove nothing.
#[derive(Default, Debug)]
pub(crate) struct Seen {
    acknowledged: u64,
    cuts: u64,
    /// Of these while a log was being opened.
    cuts_while_opening: u64,
    purged: Option<u64>,
    /// Times that a segment of sled's file was seen to begin anew.
    segments_used_again: u64,
}

/// How many rounds, from which seed, and where.
fn asked() -> (u64, u64, Below) {
    let Ok(asked) = std::env::var("PALISADE_POWER_CUTS") else { return (10, 41, Below::Memory) };
    let (rounds, seed) = asked.split_once(':').unwrap_or((&asked, "41"));
    (rounds.parse().unwrap(), seed.parse().unwrap(), Below::Disk)
}

/// Cuts the power in as many rounds; the first thing that is missing, with the round, or what was seen.
pub(crate) fn rounds(disk: &LoopDisk, rounds: u64, seed: u64, planted: &str) -> Result<Seen, String> {
    let mut rng = Rng(seed);
    let mut acknowledged = Acknowledged::default();
    let mut seen = Seen::default();
    let dir = disk.path().join("store");
    let mut segments = Vec::new();
    for round in 1..=rounds {
        let kind = [Round::Write, Round::KillAndWrite, Round::KillAndOpen, Round::CutAndOpen];
        let kind = kind[usize::try_from(rng.below(4)).unwrap()];
        let mode = if rng.below(3) == 0 { Mode::Stream } else { Mode::Heavy };
        let mut job = Job { mode, dir: &dir, round: 2 * round, seed: rng.next(), planted };
        let moment = 1 + rng.below(300);
        if matches!(kind, Round::KillAndWrite | Round::KillAndOpen) {
            run_and_kill(&job, moment, &mut acknowledged);
            job = Job { round: 2 * round + 1, seed: rng.next(), ..job };
        }
        match kind {
            Round::Write | Round::KillAndWrite => run_and_cut(disk, &job, 1 + rng.below(300), &mut acknowledged),
            Round::KillAndOpen => cut_while_opening(disk, &job, &mut rng, &mut acknowledged),
            Round::CutAndOpen => {
                run_and_cut(disk, &job, moment, &mut acknowledged);
                disk.power_on();
                seen.cuts += 1;
                let next = Job { round: 2 * round + 1, seed: rng.next(), ..job };
                cut_while_opening(disk, &next, &mut rng, &mut acknowledged);
            }
        }
        seen.cuts += 1;
        seen.cuts_while_opening += u64::from(matches!(kind, Round::KillAndOpen | Round::CutAndOpen));
        disk.power_on();
        let listing = listing(&dir.join("log"));
        let checked = acknowledged.check(&dir);
        checked.map_err(|missing| format!("round {round} ({kind:?}, {mode:?}): {missing}; on the disk: {listing}"))?;
        assert_no_blobs(&dir);
        let before = std::mem::replace(&mut segments, segment_heads(&dir));
        seen.segments_used_again += segments.iter().zip(&before).filter(|(now, before)| now != before).count() as u64;
    }
    seen.acknowledged = acknowledged.count;
    seen.purged = acknowledged.purged;
    Ok(seen)
}

/// How each segment of sled's file begins: with a number that no other one ever has.
fn segment_heads(dir: &Path) -> Vec<[u8; 12]> {
    let file = File::open(dir.join("log/db")).unwrap();
    let mut head = [0; 12];
    (0..)
        .map_while(|segment| file.read_exact_at(&mut head, segment * 2 * 1024 * 1024).is_ok().then_some(head))
        .collect()
}

/// Runs one process until `moment` acknowledgements were read, cuts the power, and hears what it had said by then.
fn run_and_cut(disk: &LoopDisk, job: &Job<'_>, moment: u64, acknowledged: &mut Acknowledged) {
    let mut child = start(job, &[]);
    let until = acknowledged.count + moment;
    let mut cut = false;
    for line in lines(&mut child) {
        acknowledged.take(&line);
        if acknowledged.count >= until && !cut {
            cut_and_kill(disk, &mut child);
            cut = true;
        }
    }
    assert!(cut, "the process ended by itself");
    child.wait().unwrap();
}

/// The same, some moments after the process began to open the log; what it acknowledges counts if it comes so far.
fn cut_while_opening(disk: &LoopDisk, job: &Job<'_>, rng: &mut Rng, acknowledged: &mut Acknowledged) {
    let mut child = start(job, &[]);
    let mut said = lines(&mut child);
    assert!(said.any(|line| line == "opening"));
    // Opening takes some 30 ms. The moment is drawn; nothing is waited for. There is no seam for clocks down here.
    #[allow(clippy::disallowed_methods)]
    let (began, moment) = (Instant::now(), Duration::from_micros(rng.below(40_000)));
    while began.elapsed() < moment {
        std::thread::yield_now();
    }
    cut_and_kill(disk, &mut child);
    said.for_each(|line| acknowledged.take(&line));
    child.wait().unwrap();
}

fn cut_and_kill(disk: &LoopDisk, child: &mut Child) {
    disk.cut();
    child.kill().unwrap();
}

fn listing(dir: &Path) -> String {
    let Ok(entries) = std::fs::read_dir(dir) else { return "nothing".to_owned() };
    let entries = entries.map(|entry| {
        let entry = entry.unwrap();
        format!("{} {}", entry.file_name().display(), entry.metadata().unwrap().len())
    });
    entries.collect::<Vec<_>>().join(", ")
}

#[test]
fn nothing_acknowledged_is_lost_by_a_power_cut() {
    let (count, seed, below) = asked();
    let disk = match LoopDisk::new(below) {
        Ok(disk) => disk,
        Err(reason) => return skip("nothing_acknowledged_is_lost_by_a_power_cut", "root", &reason),
    };
    let seen = rounds(&disk, count, seed, "").unwrap();
    println!("{count} rounds with seed {seed}: {seen:?}");
    assert!(seen.purged.is_some() && seen.cuts_while_opening > 0 && seen.segments_used_again > 0, "{seen:?}");
}

/// The highest folder and, by folder, the snapshot that were acknowledged.
#[derive(Default)]
pub(crate) struct Files {
    folders: Vec<u64>,
    snapshots: BTreeMap<u64, u64>,
}

impl Files {
    fn take(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |word: &str| word.parse::<u64>().unwrap();
        match words[..] {
            ["folder", folder] => self.folders.push(number(folder)),
            ["snapshot", folder, snapshot] => drop(self.snapshots.insert(number(folder), number(snapshot))),
            _ => {}
        }
    }

    fn check(&self, dir: &Path) -> Result<(), String> {
        for number in &self.folders {
            let folder = DataFolder::open(dir.join(number.to_string()), u64::MAX).map_err(|error| error.to_string())?;
            if folder.store_id() != *number {
                return Err(format!("folder {number} had its id, and was opened as a new one"));
            }
            let found = FileSnapshots::open(&folder).map_err(|error| error.to_string())?.latest().unwrap();
            let found = found.map(|found| std::str::from_utf8(&found.meta).unwrap().parse::<u64>().unwrap());
            let said = self.snapshots.get(number).copied();
            if found < said {
                return Err(format!("snapshot {said:?} was acknowledged in folder {number}, {found:?} is there"));
            }
        }
        Ok(())
    }
}

/// Creates folders and snapshots until the power goes, in as many rounds; the first thing that is missing.
pub(crate) fn rounds_of_files(disk: &LoopDisk, rounds: u64, seed: u64, planted: &str) -> Result<(), String> {
    let mut rng = Rng(seed);
    let mut files = Files::default();
    for round in 1..=rounds {
        let dir = disk.path();
        let job = Job { mode: Mode::Files, dir: &dir, round: 1000 * round, seed: 0, planted };
        let mut child = start(&job, &[]);
        let moment = 1 + rng.below(40);
        let mut heard = 0;
        for line in lines(&mut child) {
            files.take(&line);
            heard += 1;
            if heard == moment {
                cut_and_kill(disk, &mut child);
            }
        }
        assert!(heard >= moment, "the process ended by itself");
        child.wait().unwrap();
        disk.power_on();
        files.check(&dir).map_err(|missing| format!("round {round}: {missing}"))?;
    }
    Ok(())
}

#[test]
fn no_name_that_was_acknowledged_is_lost_by_a_power_cut() {
    let (count, seed, below) = asked();
    let disk = match LoopDisk::new(below) {
        Ok(disk) => disk,
        Err(reason) => return skip("no_name_that_was_acknowledged_is_lost_by_a_power_cut", "root", &reason),
    };
    rounds_of_files(&disk, count, seed, "").unwrap();
}
