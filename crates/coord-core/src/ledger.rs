//! Records of the past of all elections, bounded in each, in all, and in bytes: the oldest goes first. Each election's page
//! says how far back it is complete, so that whoever resumes is told of a gap. It does not know what is recorded.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use crate::Seq;
use crate::invariants::Broken;
use crate::shared::SharedMap;

/// How large a ledger may grow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    /// Records of one election.
    pub per_election: usize,
    /// Records of all elections.
    pub in_all: usize,
    /// Bytes of all records, as [`Weigh`] counts them.
    pub bytes: u64,
}

/// What a record counts for.
pub trait Weigh {
    /// In bytes, about as many as in a snapshot.
    fn weight(&self) -> u64;
}

/// Records by election.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ledger<T> {
    bounds: Bounds,
    pages: Pages<T>,
    /// Every record by its age, and nothing else: a command records once in an election.
    ages: BTreeSet<(Seq, Arc<str>)>,
    /// Exactly the weight of all records.
    bytes: u64,
}

/// The records of each election.
pub type Pages<T> = SharedMap<Arc<str>, Page<T>>;

/// The records of one election.
#[derive(PartialEq, Eq, Debug)]
pub struct Page<T> {
    /// Everything recorded after this is here. Before the first record; rises when one is dropped.
    pub complete_after: Seq,
    /// In the order of `seq`, rising, each above `complete_after`.
    pub records: VecDeque<(Seq, Arc<T>)>,
}

/// What lies between is no longer known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gap {
    /// Everything after this is known.
    pub complete_after: Seq,
}

impl<T: Weigh> Ledger<T> {
    /// Without records.
    pub(crate) fn new(bounds: Bounds) -> Ledger<T> {
        Ledger { bounds, pages: SharedMap::new(), ages: BTreeSet::new(), bytes: 0 }
    }

    /// Records of one election, oldest first.
    pub fn of(&self, election: &str) -> impl Iterator<Item = (Seq, &T)> {
        self.pages.get(election).into_iter().flat_map(|page| &page.records).map(|(seq, record)| (*seq, &**record))
    }

    /// Records of one election after `from`, oldest first.
    ///
    /// # Errors
    /// Some of them were dropped.
    pub fn after(&self, election: &str, from: Seq) -> Result<impl Iterator<Item = (Seq, &T)>, Gap> {
        let page = self.pages.get(election);
        if let Some(page) = page.filter(|page| from < page.complete_after) {
            return Err(Gap { complete_after: page.complete_after });
        }
        let records = page.map(|page| {
            let first = page.records.partition_point(|(seq, _)| *seq <= from);
            page.records.range(first..)
        });
        Ok(records.into_iter().flatten().map(|(seq, record)| (*seq, &**record)))
    }

    /// Everything that was recorded of an election after this is there.
    pub fn complete_after(&self, election: &str) -> Seq {
        self.pages.get(election).map_or(Seq(0), |page| page.complete_after)
    }

    /// The pages by election.
    pub fn pages(&self) -> &Pages<T> {
        &self.pages
    }

    /// Records what a command did in an election: after everything that is recorded, and once.
    pub(crate) fn record(&mut self, election: &str, seq: Seq, record: T) {
        let name = match self.pages.get_key_value(election) {
            Some((name, _)) => Arc::clone(name),
            None => Arc::from(election),
        };
        let page = self.pages.get_or_insert_with(Arc::clone(&name), Page::empty);
        let last = page.records.back().map_or(page.complete_after, |(seq, _)| *seq);
        assert!(seq > last, "election {election:?} was filled twice by one command");
        self.bytes += record.weight();
        page.records.push_back((seq, Arc::new(record)));
        let over = page.records.len() > self.bounds.per_election;
        self.ages.insert((seq, Arc::clone(&name)));
        if over {
            self.drop_oldest_of(&name);
        }
        while self.ages.len() > self.bounds.in_all || self.bytes > self.bounds.bytes {
            let (_, oldest) = self.ages.first().expect("what is over its bounds is not empty").clone();
            self.drop_oldest_of(&oldest);
        }
    }

    /// Drops everything: what was recorded up to now belongs to another generation.
    pub(crate) fn forget_up_to(&mut self, seq: Seq) {
        self.pages.for_each_mut(|page| *page = Page { complete_after: seq, records: VecDeque::new() });
        self.ages.clear();
        self.bytes = 0;
    }

    fn drop_oldest_of(&mut self, election: &Arc<str>) {
        let page = self.pages.get_mut(&**election).expect("a record has a page");
        let (seq, record) = page.records.pop_front().expect("a record by its age is in its page");
        page.complete_after = seq;
        self.bytes -= record.weight();
        let known = self.ages.remove(&(seq, Arc::clone(election)));
        assert!(known, "a record of {election:?} had no age");
    }

    /// As a snapshot kept it.
    pub(crate) fn restored(bounds: Bounds, pages: Vec<(String, Page<T>)>) -> Result<Ledger<T>, Broken> {
        let mut ledger = Ledger::new(bounds);
        for (election, page) in pages {
            let name: Arc<str> = Arc::from(election);
            ledger.bytes += page.records.iter().map(|(_, record)| record.weight()).sum::<u64>();
            ledger.ages.extend(page.records.iter().map(|(seq, _)| (*seq, Arc::clone(&name))));
            if ledger.pages.insert(Arc::clone(&name), page).is_some() {
                return Err(Broken(format!("the records of {name:?} are there twice")));
            }
        }
        Ok(ledger)
    }

    /// Whether it is within its bounds, in order, and its sums are right.
    pub(crate) fn check(&self, now: Seq) -> Result<(), Broken> {
        let (mut count, mut bytes) = (0, 0);
        for (name, page) in &self.pages {
            let mut last = page.complete_after;
            for (seq, record) in &page.records {
                if *seq <= last || !self.ages.contains(&(*seq, Arc::clone(name))) {
                    return Err(Broken(format!("the records of {name:?} are out of order at {seq}")));
                }
                last = *seq;
                bytes += record.weight();
            }
            if last > now || page.records.len() > self.bounds.per_election {
                return Err(Broken(format!("{} records of {name:?}, up to {last}", page.records.len())));
            }
            count += page.records.len();
        }
        if count != self.ages.len() || count > self.bounds.in_all {
            return Err(Broken(format!("{count} records, {} of them by age", self.ages.len())));
        }
        if bytes != self.bytes || bytes > self.bounds.bytes {
            return Err(Broken(format!("{bytes} bytes of records, counted as {}", self.bytes)));
        }
        Ok(())
    }
}

impl<T> Clone for Page<T> {
    /// Shares the records.
    fn clone(&self) -> Page<T> {
        Page { complete_after: self.complete_after, records: self.records.clone() }
    }
}

impl<T> Page<T> {
    /// Of an election in which nothing happened: complete from the beginning.
    fn empty() -> Page<T> {
        Page { complete_after: Seq(0), records: VecDeque::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, PartialEq, Debug)]
    struct Of(u64);

    impl Weigh for Of {
        fn weight(&self) -> u64 {
            self.0
        }
    }

    fn ledger(records: &[(&str, u64)]) -> Ledger<Of> {
        let mut ledger = Ledger::new(Bounds { per_election: 3, in_all: 5, bytes: 100 });
        for (index, &(election, bytes)) in records.iter().enumerate() {
            let seq = Seq(index as u64 + 1);
            ledger.record(election, seq, Of(bytes));
            ledger.check(seq).unwrap();
        }
        ledger
    }

    fn seqs(ledger: &Ledger<Of>, election: &str) -> Vec<u64> {
        ledger.of(election).map(|(seq, _)| seq.get()).collect()
    }

    #[test]
    fn the_oldest_of_an_election_goes_first() {
        let ledger = ledger(&[("a", 1), ("a", 1), ("b", 1), ("a", 1), ("a", 1)]);
        assert_eq!((seqs(&ledger, "a"), seqs(&ledger, "b")), (vec![2, 4, 5], vec![3]));
    }

    #[test]
    fn the_oldest_of_all_goes_first() {
        let ledger = ledger(&[("a", 1), ("b", 1), ("b", 1), ("c", 1), ("c", 1), ("d", 1), ("d", 1)]);
        assert_eq!((seqs(&ledger, "a"), seqs(&ledger, "b"), seqs(&ledger, "c")), (vec![], vec![3], vec![4, 5]));
    }

    #[test]
    fn bytes_are_bounded() {
        let full = ledger(&[("a", 60), ("b", 40)]);
        assert_eq!((seqs(&full, "a"), seqs(&full, "b")), (vec![1], vec![2]));
        let over = ledger(&[("a", 60), ("b", 40), ("c", 1)]);
        assert_eq!((seqs(&over, "a"), seqs(&over, "b"), seqs(&over, "c")), (vec![], vec![2], vec![3]));
        // One that is larger than everything is not kept either: that is a gap like any other.
        let none = ledger(&[("a", 60), ("b", 101)]);
        assert_eq!((seqs(&none, "a"), seqs(&none, "b")), (vec![], vec![]));
    }

    #[test]
    fn who_resumes_gets_all_that_followed_or_is_told_of_a_gap() {
        let ledger = ledger(&[("a", 1), ("a", 1), ("b", 1), ("a", 1), ("a", 1)]);
        let after = |election, from| {
            let seqs = |it: Vec<(Seq, &Of)>| it.into_iter().map(|(seq, _)| seq.get()).collect::<Vec<_>>();
            ledger.after(election, Seq(from)).map(|it| seqs(it.collect()))
        };
        assert_eq!(after("a", 0), Err(Gap { complete_after: Seq(1) }));
        assert_eq!(after("a", 1), Ok(vec![2, 4, 5]));
        assert_eq!(after("a", 3), Ok(vec![4, 5]));
        assert_eq!(after("a", 5), Ok(vec![]));
        assert_eq!(after("b", 0), Ok(vec![3]));
        assert_eq!(after("never", 0), Ok(vec![]));
    }
}
