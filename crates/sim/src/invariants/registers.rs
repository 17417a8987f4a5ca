//! Registers are linearizable, and what was acknowledged is durable: replayed in the order of `seq` and `revision`, every read
//! returns the last write before it, no answer is older than what anybody was told before its request began, and no write is
//! seen twice. An oracle of clients: it knows what they were told and nothing else, and an unknown write stays unknown until a
//! read or an answer proves it. Each answer is judged against its neighbours in that order, so that a run costs O(n log n).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Invariant;
use crate::facts::{Deed, Ended, Fact, Found, Ranged, Restoration};

#[derive(Default)]
pub(super) struct RegistersAreLinearizable {
    /// The newest that anybody was told of.
    told: Point,
    /// By `seq`: what is known of the state there.
    points: BTreeMap<u64, Known>,
    writes: BTreeMap<String, Write>,
    /// Reads in progress: what had been told when they began.
    reads: BTreeMap<String, Point>,
    registers: BTreeMap<String, Register>,
}

/// A place in the order of everything.
#[derive(Clone, Copy, Default, Debug)]
struct Point {
    seq: u64,
    revision: u64,
}

/// What is known of a `seq`.
#[derive(Debug)]
struct Known {
    revision: u64,
    /// The write that was applied there, and whether it changed anything.
    write: Option<(String, bool)>,
}

struct Write {
    key: String,
    deed: Deed,
    /// What had been told when it began: it takes effect after that.
    began: Point,
    ended: Option<Ended>,
    /// Proved by an answer or by a read.
    revision: Option<u64>,
}

#[derive(Default)]
struct Register {
    /// What is proved to have been written, by revision; `None`: removed.
    changes: BTreeMap<u64, Option<String>>,
    /// What was read, by the revision of the state; the value as the revision that wrote it.
    reads: BTreeMap<u64, Option<u64>>,
    /// Removals that may have taken effect, and the revision after which each began.
    open_removals: BTreeMap<String, u64>,
    /// Puts after which the key was read as absent, although no removal is proved.
    vanished: BTreeSet<u64>,
}

type Verdict = Result<(), String>;

impl RegistersAreLinearizable {
    fn write_ended(&mut self, name: &str, ended: Ended) -> Verdict {
        let Some(write) = self.writes.get_mut(name) else { return Err(format!("{name} ended and never began")) };
        let register = self.registers.entry(write.key.clone()).or_default();
        match (write.ended, ended) {
            (Some(Ended::Applied { .. }), Ended::Unknown) => return Ok(()),
            (Some(before @ (Ended::Applied { .. } | Ended::NotApplied)), now) if before != now => {
                return Err(format!("{name} was {before:?}, and then {now:?}"));
            }
            (Some(Ended::Applied { .. }), _) => return Ok(()),
            _ => write.ended = Some(ended),
        }
        match ended {
            Ended::Unknown => return Ok(()),
            Ended::NotApplied => {
                if let Some(revision) = write.revision {
                    return Err(format!("{name} was not applied, and was read at revision {revision}"));
                }
                register.open_removals.remove(name);
            }
            Ended::Applied { seq, revision, changed } => {
                let began = write.began;
                if seq <= began.seq {
                    return Err(format!("{name} was applied at seq {seq}, before it began at {began:?}"));
                }
                if let Some(seen) = write.revision.replace(revision).filter(|seen| *seen != revision) {
                    return Err(format!("{name} was applied at revision {revision}, and was read of {seen}"));
                }
                register.open_removals.remove(name);
                match (write.deed, changed) {
                    (Deed::Put, true) => register.change(revision, Some(name.to_owned()))?,
                    (Deed::Put, false) => return Err(format!("{name} is a put and changed nothing")),
                    (Deed::Delete, true) => register.change(revision, None)?,
                    // There was nothing to remove: as good as a read.
                    (Deed::Delete, false) => register.read(revision, None)?,
                    (Deed::Txn, _) => {}
                }
                register.explain()?;
                return self.point(Point { seq, revision }, Some((name.to_owned(), changed)));
            }
        }
        register.explain()
    }

    fn read_ended(&mut self, name: &str, key: &str, at: Point, found: Option<&Found>) -> Verdict {
        let began = self.reads.remove(name).unwrap_or_default();
        if at.seq < began.seq {
            return Err(format!("{name} read {key} at {at:?}, and {began:?} had been told before it began"));
        }
        self.point(at, None)?;
        let register = self.registers.entry(key.to_owned()).or_default();
        if let Some(found) = found {
            let Found { write, mod_revision, create_revision, version } = found;
            let by = self.writes.get_mut(write).filter(|by| by.key == key && by.deed == Deed::Put);
            let Some(by) = by else { return Err(format!("{name} read {write} of {key}, which nobody wrote")) };
            if by.ended == Some(Ended::NotApplied) {
                return Err(format!("{name} read {write} of {key}, which was not applied"));
            }
            if let Some(known) = by.revision.replace(*mod_revision).filter(|known| known != mod_revision) {
                return Err(format!("{write} took effect at revision {known} and at revision {mod_revision}"));
            }
            if *mod_revision <= by.began.revision || *mod_revision > at.revision {
                return Err(format!("{name} read {found:?} of {key} at {at:?}; the write began at {:?}", by.began));
            }
            if (create_revision == mod_revision) != (*version == 1) || create_revision > mod_revision {
                return Err(format!("{name} read {found:?} of {key}: its counters do not fit"));
            }
            register.change(*mod_revision, Some(write.clone()))?;
        }
        register.read(at.revision, found.map(|found| found.mod_revision))?;
        register.explain()
    }

    /// Revisions rise with `seq`, by each change and by nothing else.
    fn point(&mut self, at: Point, write: Option<(String, bool)>) -> Verdict {
        self.told = Point { seq: self.told.seq.max(at.seq), revision: self.told.revision.max(at.revision) };
        let known = self.points.entry(at.seq).or_insert(Known { revision: at.revision, write: None });
        if known.revision != at.revision || (write.is_some() && known.write.is_some()) {
            return Err(format!("at seq {} both {known:?} and {write:?}, revision {}", at.seq, at.revision));
        }
        known.write = known.write.take().or(write);
        let is_change = |known: &Known| known.write.as_ref().is_some_and(|(_, changed)| *changed);
        let rises = |(_, lower): (&u64, &Known), (_, higher): (&u64, &Known)| {
            lower.revision < higher.revision || (lower.revision == higher.revision && !is_change(higher))
        };
        let around: Vec<_> =
            self.points.range(..at.seq).next_back().into_iter().chain(self.points.range(at.seq..).take(2)).collect();
        match around.windows(2).find(|pair| !rises(pair[0], pair[1])) {
            Some(pair) => Err(format!("revisions do not rise with seq: {pair:?}")),
            None => Ok(()),
        }
    }
}

impl Register {
    /// What was written or read after the backup is undone.
    fn restored(&mut self, backup: u64, begins: u64) {
        self.changes.retain(|revision, _| *revision <= backup);
        self.reads.retain(|revision, _| *revision <= backup);
        self.vanished.retain(|revision| *revision <= backup);
        self.open_removals.values_mut().for_each(|began| *began = (*began).min(begins));
    }

    fn change(&mut self, revision: u64, what: Option<String>) -> Verdict {
        let known = self.changes.entry(revision).or_insert_with(|| what.clone());
        if *known != what {
            return Err(format!("at revision {revision} both {known:?} and {what:?}"));
        }
        let next = self.changes.range(revision + 1..).next().map_or(u64::MAX, |(next, _)| *next);
        for (read_at, found) in self.reads.range(revision..next) {
            match (&what, found) {
                (Some(_), Some(found)) if *found == revision => {}
                (None, None) => {}
                (Some(_), None) => {
                    self.vanished.insert(revision);
                }
                _ => return Err(format!("{what:?} of revision {revision} was not read at {read_at}: {found:?}")),
            }
        }
        Ok(())
    }

    fn read(&mut self, revision: u64, found: Option<u64>) -> Verdict {
        let known = *self.reads.entry(revision).or_insert(found);
        if known != found {
            return Err(format!("at revision {revision} both {known:?} and {found:?} were read"));
        }
        match (self.changes.range(..=revision).next_back(), found) {
            (Some((last, Some(_))), Some(found)) if *last == found => Ok(()),
            (Some((last, Some(_))), None) => {
                self.vanished.insert(*last);
                Ok(())
            }
            (None | Some((_, None)), None) => Ok(()),
            (last, found) => {
                Err(format!("revision {found:?} was read at revision {revision}, and the last was {last:?}"))
            }
        }
    }

    /// Each put that vanished needs a removal of its own, one that began before the put was missed.
    fn explain(&mut self) -> Verdict {
        let Register { changes, reads, open_removals, vanished } = self;
        let mut missed_at = Vec::new();
        vanished.retain(|put| {
            let next = changes.range(put + 1..).next().map_or(u64::MAX, |(next, _)| *next);
            let missed = reads.range(put..&next).find(|(_, found)| found.is_none()).map(|(at, _)| *at);
            missed_at.extend(missed);
            missed.is_some()
        });
        // The first to be missed needs the first to begin: if that does not explain it, nothing does.
        missed_at.sort_unstable();
        let mut began: Vec<u64> = open_removals.values().copied().collect();
        began.sort_unstable();
        let mut began = began.into_iter();
        if missed_at.iter().all(|missed| began.next().is_some_and(|began| began < *missed)) {
            return Ok(());
        }
        Err(format!("{vanished:?} vanished before {missed_at:?}, and only {open_removals:?} may have removed them"))
    }
}

impl Invariant for RegistersAreLinearizable {
    fn name(&self) -> &'static str {
        "registers-are-linearizable"
    }

    fn restored(&mut self, restoration: &Restoration) {
        let Restoration { backup, begins, .. } = restoration;
        let begins = Point { seq: begins.seq, revision: begins.revision };
        self.points.retain(|seq, _| *seq <= backup.seq);
        self.registers.values_mut().for_each(|register| register.restored(backup.revision, begins.revision));
        // Whatever is still open may come to its end in the new cluster: it began before that.
        let open = self.writes.values_mut().filter(|write| matches!(write.ended, None | Some(Ended::Unknown)));
        for began in open.map(|write| &mut write.began).chain(self.reads.values_mut()) {
            if began.seq > begins.seq {
                *began = begins;
            }
        }
        self.told = begins;
    }

    fn on(&mut self, fact: &Fact, _: Duration) -> Result<(), String> {
        match fact {
            Fact::WriteBegan { write, key, deed, .. } => {
                if *deed == Deed::Delete {
                    let register = self.registers.entry(key.clone()).or_default();
                    register.open_removals.insert(write.clone(), self.told.revision);
                }
                let began = Write { key: key.clone(), deed: *deed, began: self.told, ended: None, revision: None };
                self.writes.insert(write.clone(), began);
                Ok(())
            }
            Fact::WriteEnded { write, ended } => self.write_ended(write, *ended),
            Fact::ReadBegan { read } => {
                self.reads.insert(read.clone(), self.told);
                Ok(())
            }
            Fact::ReadEnded { read, key, seq, revision, found } => {
                self.read_ended(read, key, Point { seq: *seq, revision: *revision }, found.as_ref())
            }
            Fact::BackedUp { read, seq, revision } => {
                let (began, at) =
                    (self.reads.remove(read).unwrap_or_default(), Point { seq: *seq, revision: *revision });
                if at.seq < began.seq {
                    return Err(format!("{read} is of {at:?}, and {began:?} had been told before it began"));
                }
                self.point(at, None)
            }
            // What is found is for another invariant; when it was found is for this one.
            Fact::Ranged(Ranged { read, seq, revision, stale: false, .. }) => {
                let (began, at) =
                    (self.reads.remove(read).unwrap_or_default(), Point { seq: *seq, revision: *revision });
                if at.seq < began.seq {
                    return Err(format!("{read} read at {at:?}, and {began:?} had been told before it began"));
                }
                self.point(at, None)
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn began(write: &str, deed: Deed) -> Fact {
        Fact::WriteBegan { write: write.into(), key: "k".into(), deed, session: None }
    }

    fn put(write: &str) -> Fact {
        began(write, Deed::Put)
    }

    fn remove(write: &str) -> Fact {
        began(write, Deed::Delete)
    }

    fn ended(write: &str, ended: Ended) -> Fact {
        Fact::WriteEnded { write: write.into(), ended }
    }

    fn ok(write: &str, seq: u64, revision: u64) -> Fact {
        ended(write, Ended::Applied { seq, revision, changed: true })
    }

    fn unknown(write: &str) -> Fact {
        ended(write, Ended::Unknown)
    }

    fn reads(read: &str) -> Fact {
        Fact::ReadBegan { read: read.into() }
    }

    fn found(read: &str, seq: u64, revision: u64, found: Option<(&str, u64)>) -> Fact {
        let found = found.map(|(write, mod_revision)| Found {
            write: write.into(),
            mod_revision,
            create_revision: mod_revision,
            version: 1,
        });
        Fact::ReadEnded { read: read.into(), key: "k".into(), seq, revision, found }
    }

    fn judge(facts: &[Fact]) -> Result<(), String> {
        let mut registers = RegistersAreLinearizable::default();
        facts.iter().try_for_each(|fact| registers.on(fact, Duration::ZERO))
    }

    fn good(facts: &[Fact]) {
        assert_eq!(judge(facts), Ok(()));
    }

    fn bad(facts: &[Fact]) {
        judge(facts).expect_err("it must object");
    }

    #[test]
    fn it_can_object_to_stale_reads() {
        let written = [put("a"), ok("a", 5, 2), put("b"), ok("b", 6, 3), reads("r")];
        let then = |last: Fact| written.iter().cloned().chain([last]).collect::<Vec<_>>();
        good(&then(found("r", 6, 3, Some(("b", 3)))));
        bad(&then(found("r", 5, 2, Some(("a", 2)))));
        bad(&then(found("r", 7, 3, Some(("a", 2)))));
        bad(&then(found("r", 7, 3, None)));
        bad(&then(found("r", 7, 3, Some(("c", 3)))));
        bad(&then(found("r", 7, 2, Some(("b", 3)))));
        // A read that was under way meanwhile may be as old as its beginning.
        good(&[reads("r"), put("a"), ok("a", 5, 2), found("r", 4, 1, None)]);
        bad(&[reads("r"), put("a"), ok("a", 5, 2), found("r", 5, 2, None)]);
        bad(&[reads("r"), put("a"), found("r", 5, 2, None), ok("a", 4, 2)]);
    }

    #[test]
    fn it_can_object_to_what_unknown_writes_did() {
        let seen = |write| found("r", 5, 2, Some((write, 2)));
        good(&[put("a"), unknown("a"), reads("r"), seen("a")]);
        good(&[put("a"), unknown("a"), reads("r"), seen("a"), ok("a", 4, 2)]);
        bad(&[put("a"), unknown("a"), reads("r"), seen("a"), ok("a", 6, 3)]);
        // Once, and then over.
        let over = [put("a"), unknown("a"), put("b"), reads("r"), seen("a"), ok("b", 7, 4), reads("s")];
        let then = |last: Fact| over.iter().cloned().chain([last]).collect::<Vec<_>>();
        good(&then(found("s", 8, 4, Some(("b", 4)))));
        bad(&then(found("s", 8, 5, Some(("a", 5)))));
        bad(&then(found("s", 8, 5, Some(("a", 2)))));
    }

    #[test]
    fn it_can_object_to_a_write_that_was_not_applied() {
        let seen = found("r", 5, 2, Some(("a", 2)));
        bad(&[put("a"), ended("a", Ended::NotApplied), reads("r"), seen.clone()]);
        bad(&[put("a"), reads("r"), seen, ended("a", Ended::NotApplied)]);
        bad(&[put("a"), ok("a", 5, 2), ended("a", Ended::NotApplied)]);
        good(&[put("a"), ok("a", 5, 2), ok("a", 5, 2)]);
        bad(&[put("a"), ok("a", 5, 2), ok("a", 6, 3)]);
    }

    #[test]
    fn it_can_object_to_what_vanished() {
        let gone = [put("a"), ok("a", 5, 2), reads("r"), found("r", 9, 5, None)];
        let after = |first: &[Fact], last: &[Fact]| first.iter().chain(&gone).chain(last).cloned().collect::<Vec<_>>();
        bad(&after(&[], &[]));
        good(&after(&[remove("d")], &[]));
        good(&after(&[remove("d"), unknown("d")], &[ok("d", 8, 4)]));
        bad(&after(&[remove("d"), ended("d", Ended::NotApplied)], &[]));
        bad(&after(&[remove("d"), unknown("d")], &[ok("d", 10, 6)]));
        // One removal does not explain two.
        let again = [put("b"), ok("b", 10, 6), reads("s"), found("s", 12, 9, None)];
        bad(&after(&[remove("d"), unknown("d")], &again));
        good(&after(&[remove("d"), unknown("d"), remove("e"), unknown("e")], &again));
        // Nor does one that began when the key was missed already.
        let (b, ok_b, missed) = (put("b"), ok("b", 8, 4), found("r", 6, 3, None));
        let then =
            |rest: &[Fact]| [put("a"), ok("a", 5, 2), reads("r")].iter().chain(rest).cloned().collect::<Vec<_>>();
        good(&then(&[remove("d"), b.clone(), ok_b.clone(), missed.clone()]));
        bad(&then(&[b, ok_b, remove("d"), missed]));
    }

    #[test]
    fn it_can_object_to_numbers_that_do_not_rise() {
        good(&[put("a"), put("b"), ok("b", 6, 3), ok("a", 5, 2)]);
        bad(&[put("a"), put("b"), ok("b", 6, 3), ok("a", 5, 3)]);
        bad(&[put("a"), put("b"), ok("b", 6, 3), ok("a", 7, 2)]);
        bad(&[put("a"), put("b"), ok("b", 6, 3), ok("a", 6, 3)]);
        bad(&[put("a"), ok("a", 5, 2), put("b"), ok("b", 4, 1)]);
    }
}
