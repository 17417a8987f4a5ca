//! `kill -9` at any moment: everything that was acknowledged is there afterwards, entries, votes and purges.
//! (It says nothing about the sync; `synced` does.)

use std::collections::BTreeMap;
use std::path::Path;

use palisade_storage::LogEngine;

use crate::support::{Rng, all, assert_no_blobs, open};
use crate::writer::{Job, Mode, lines, nonce_of, start};

const ROUNDS: u64 = 20;

/// What the killed processes said.
#[derive(Default)]
pub(crate) struct Acknowledged {
    /// The youngest value of each index.
    entries: BTreeMap<u64, u64>,
    pub(crate) vote: u64,
    pub(crate) purged: Option<u64>,
    pub(crate) count: u64,
}

impl Acknowledged {
    pub(crate) fn take(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |word: &str| word.parse::<u64>().unwrap();
        match words[..] {
            ["entry", index, nonce] => drop(self.entries.insert(number(index), number(nonce))),
            ["vote", vote] => self.vote = number(vote),
            ["purged", up_to] => self.purged = Some(number(up_to)),
            _ => return,
        }
        self.count += 1;
    }

    /// What is missing in the folder, in words.
    pub(crate) fn check(&self, dir: &Path) -> Result<(), String> {
        let engine = open(dir).map_err(|error| error.to_string())?;
        let state = engine.state();
        let vote: u64 = state.vote.map_or(0, |vote| std::str::from_utf8(&vote).unwrap().parse().unwrap());
        if vote < self.vote {
            return Err(format!("vote {} was acknowledged, {vote} is there", self.vote));
        }
        let purged = state.purged.map(|(up_to, marker)| {
            assert_eq!(marker, up_to.to_string());
            up_to
        });
        if purged < self.purged {
            return Err(format!("purge {:?} was acknowledged, {purged:?} is there", self.purged));
        }
        let found: BTreeMap<u64, _> = all(&engine).into_iter().collect();
        for (index, bytes) in &found {
            let nonce = nonce_of(*index, bytes).ok_or(format!("entry {index} is not what was written"))?;
            let least = self.entries.get(index).copied().unwrap_or(0);
            if nonce < least {
                return Err(format!("entry {index} of {least} was acknowledged, {nonce} is there"));
            }
        }
        match self.entries.keys().find(|index| Some(**index) > purged && !found.contains_key(index)) {
            Some(index) => Err(format!("entry {index} was acknowledged and is missing")),
            None => Ok(()),
        }
    }
}

/// Runs one process until `moment` acknowledgements were read, kills it, and hears what it had said by then.
pub(crate) fn run_and_kill(job: &Job<'_>, moment: u64, acknowledged: &mut Acknowledged) {
    let mut child = start(job, &[]);
    let until = acknowledged.count + moment;
    let mut killed = false;
    for line in lines(&mut child) {
        acknowledged.take(&line);
        if acknowledged.count >= until && !killed {
            child.kill().unwrap();
            killed = true;
        }
    }
    assert!(killed, "the process ended by itself");
    child.wait().unwrap();
}

#[test]
fn nothing_acknowledged_is_lost_by_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let mut rng = Rng(23);
    let mut acknowledged = Acknowledged::default();
    for round in 1..=ROUNDS {
        let job = Job { mode: Mode::Stream, dir: dir.path(), round, seed: rng.next(), planted: "" };
        let moment = 1 + rng.below(600);
        run_and_kill(&job, moment, &mut acknowledged);
        if round % 4 == 0 {
            kill_while_opening(&Job { round, ..job });
        }
        if let Err(missing) = acknowledged.check(dir.path()) {
            panic!("round {round}: {missing}");
        }
        assert_no_blobs(dir.path());
    }
    assert!(acknowledged.purged.is_some() && acknowledged.vote > 0, "the rounds did some of everything");
}

/// Recovery writes too; it must be possible to interrupt it.
fn kill_while_opening(job: &Job<'_>) {
    let mut child = start(job, &[]);
    let opening = lines(&mut child).find(|line| line == "opening");
    assert!(opening.is_some());
    child.kill().unwrap();
    child.wait().unwrap();
}
