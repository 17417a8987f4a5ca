//! What this client has seen of its cluster: it never goes back, and it never mixes two clusters.

use std::sync::{Mutex, PoisonError};

use palisade_fence::ClusterId;

use crate::{Error, ErrorKind, Header, Outcome};

/// A place in the order of everything. Compared only within a cluster; a higher generation is later whatever its `seq`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(crate) struct Position {
    pub(crate) generation: u32,
    pub(crate) seq: u64,
}

impl Position {
    pub(crate) fn of(header: &Header) -> Position {
        Position { generation: header.generation, seq: header.seq }
    }
}

/// The newest that was seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    newest: Mutex<Option<(ClusterId, Position)>>,
}

impl Seen {
    /// The newest position; an answer to a read that begins now must not be older.
    pub(crate) fn newest(&self) -> Position {
        self.lock().map(|(_, position)| position).unwrap_or_default()
    }

    /// Learns from an answer. The first answer names the cluster; one of another cluster, or of an older generation, is refused.
    /// A header without a cluster id comes from a node that belongs to none yet: it says nothing.
    pub(crate) fn admit(&self, header: &Header) -> Result<(), Error> {
        if header.cluster == ClusterId::default() {
            return Ok(());
        }
        let position = Position::of(header);
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        match *newest {
            Some((cluster, _)) if cluster != header.cluster => {
                let message =
                    format!("an answer came from cluster {}; before it was cluster {cluster}", header.cluster);
                Err(Error::new(Outcome::Unknown, ErrorKind::WrongCluster, message)
                    .with_hint("the endpoints belong to different clusters"))
            }
            Some((_, seen)) if position.generation < seen.generation => {
                let (theirs, ours) = (position.generation, seen.generation);
                let message = format!(
                    "an answer came from generation {theirs} of the cluster; generation {ours} was seen before"
                );
                Err(Error::new(Outcome::Unknown, ErrorKind::Generation, message)
                    .with_hint("a node that was not restored with the others still runs"))
            }
            Some((_, seen)) if position <= seen => Ok(()),
            Some(_) | None => {
                *newest = Some((header.cluster, position));
                Ok(())
            }
        }
    }

    /// Whether an answer is of the cluster and the generation that were seen; learns nothing from it.
    pub(crate) fn fits(&self, header: &Header) -> bool {
        self.lock().is_none_or(|(cluster, seen)| cluster == header.cluster && seen.generation == header.generation)
    }

    fn lock(&self) -> Option<(ClusterId, Position)> {
        // A position is whole at any time, so a poisoned lock holds a good one.
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(cluster: u64, generation: u32, seq: u64) -> Header {
        Header { cluster: ClusterId(cluster), generation, seq, revision: 0 }
    }

    #[test]
    fn another_cluster_is_refused() {
        let seen = Seen::default();
        seen.admit(&header(7, 0, 5)).unwrap();
        assert_eq!(seen.admit(&header(8, 0, 6)).unwrap_err().kind, ErrorKind::WrongCluster);
        seen.admit(&header(0, 0, 0)).unwrap();
        assert_eq!(seen.newest(), Position { generation: 0, seq: 5 });
    }

    #[test]
    fn a_newer_generation_is_later_whatever_its_seq_and_an_older_one_is_refused() {
        let seen = Seen::default();
        seen.admit(&header(7, 1, 500)).unwrap();
        seen.admit(&header(7, 2, 3)).unwrap();
        assert_eq!(seen.newest(), Position { generation: 2, seq: 3 });
        assert_eq!(seen.admit(&header(7, 1, 501)).unwrap_err().kind, ErrorKind::Generation);
    }

    #[test]
    fn answers_that_cross_each_other_do_not_move_it_back() {
        let seen = Seen::default();
        seen.admit(&header(7, 0, 5)).unwrap();
        seen.admit(&header(7, 0, 4)).unwrap();
        assert_eq!(seen.newest().seq, 5);
    }
}
