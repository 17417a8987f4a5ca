//! The line of waiting candidates of one election: by priority, then by arrival. It knows no leader and no session's life.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::command::Value;
use crate::{Seq, Serial, SessionId};

/// A candidate's place in line. The order of places is the order of grants.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Place {
    /// Higher priority first.
    pub priority: Reverse<i32>,
    /// Then the campaign that was applied first; unique, because a command enters one candidate at most.
    pub arrived: Seq,
}

/// A candidate that waits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Candidate {
    /// Its id, unique within the election.
    pub candidate: String,
    /// The session that it lives and dies with.
    pub session: SessionId,
    /// The campaign that it came from.
    pub serial: Serial,
    /// What observers will need to reach it.
    pub value: Value,
}

/// The waiting candidates of one election.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Queue {
    /// In the order of grants.
    line: BTreeMap<Place, Arc<Candidate>>,
    /// Each candidate of `line` by its id, and nothing else.
    places: BTreeMap<String, Place>,
}

impl Queue {
    /// How many wait.
    pub fn len(&self) -> usize {
        self.line.len()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.line.is_empty()
    }

    /// Who waits, in the order of grants.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Place, &Candidate)> {
        self.line.iter().map(|(place, candidate)| (place, &**candidate))
    }

    /// The waiting candidate of this id.
    pub fn get(&self, candidate: &str) -> Option<&Candidate> {
        self.line.get(self.places.get(candidate)?).map(|it| &**it)
    }

    pub(crate) fn get_mut(&mut self, candidate: &str) -> Option<&mut Candidate> {
        self.line.get_mut(self.places.get(candidate)?).map(Arc::make_mut)
    }

    /// Whether a candidate may line up there.
    pub(crate) fn has_room(&self, place: &Place, candidate: &str) -> bool {
        !self.line.contains_key(place) && !self.places.contains_key(candidate)
    }

    /// Lines a candidate up. Its id must not wait already, nor its place be taken.
    pub(crate) fn enter(&mut self, place: Place, candidate: Candidate) {
        let doubled = self.places.insert(candidate.candidate.clone(), place);
        assert!(doubled.is_none(), "candidate {:?} waits twice", candidate.candidate);
        let taken = self.line.insert(place, Arc::new(candidate));
        assert!(taken.is_none(), "place {place:?} is taken twice");
    }

    /// Takes the first in line.
    pub(crate) fn first(&mut self) -> Option<Candidate> {
        let (_, candidate) = self.line.pop_first()?;
        let place = self.places.remove(&candidate.candidate);
        assert!(place.is_some(), "candidate {:?} had no place", candidate.candidate);
        Some(Arc::unwrap_or_clone(candidate))
    }

    /// Takes a candidate out of the line.
    pub(crate) fn leave(&mut self, candidate: &str) -> Option<Candidate> {
        let place = self.places.remove(candidate)?;
        let left = self.line.remove(&place);
        assert!(left.is_some(), "the place of candidate {candidate:?} was empty");
        left.map(Arc::unwrap_or_clone)
    }

    /// Whether the two indexes agree.
    pub(crate) fn is_whole(&self) -> bool {
        self.line.len() == self.places.len()
            && self.line.iter().all(|(place, candidate)| self.places.get(&candidate.candidate) == Some(place))
    }
}
