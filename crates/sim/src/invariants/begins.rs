//! A restore begins anew: a cluster begins with the state of a backup in a generation of its own, with nobody's session and nobody's
//! leadership, and its numbers move ahead. Nobody follows a node of before.

use std::time::Duration;

use super::Invariant;
use crate::facts::{Beginning, Fact, Restoration};

#[derive(Default)]
pub(super) struct ARestoreBeginsAnew {
    last: Option<Restoration>,
}

impl ARestoreBeginsAnew {
    fn begins(restoration: &Restoration, found: &Beginning) -> Result<(), String> {
        let Restoration { generation, backup, begins } = restoration;
        if (found.generation, found.revision, found.led) != (*generation, begins.revision, 0) {
            return Err(format!("{restoration:?} has become {found:?}"));
        }
        if begins.seq <= backup.seq || begins.revision <= backup.revision {
            return Err(format!("the numbers of {restoration:?} do not move ahead"));
        }
        match found.keys.iter().find(|key| key.session != 0) {
            Some(key) => Err(format!("{key:?} is left of a session that is over")),
            None => Ok(()),
        }
    }
}

impl Invariant for ARestoreBeginsAnew {
    fn name(&self) -> &'static str {
        "a-restore-begins-anew"
    }

    fn restored(&mut self, restoration: &Restoration) {
        self.last = Some(*restoration);
    }

    fn on(&mut self, fact: &Fact, _: Duration) -> Result<(), String> {
        match (fact, &self.last) {
            (Fact::LeadsOutlived { node }, _) => Err(format!("node {node} is of before a restore and leads the store")),
            (Fact::Restored { node, seq, beginning, .. }, Some(restoration)) if *seq <= restoration.begins.seq => {
                let Some(found) = beginning.as_ref().filter(|_| *seq == restoration.begins.seq) else {
                    return Err(format!("node {node} begins with the state at seq {seq} after {restoration:?}"));
                };
                ARestoreBeginsAnew::begins(restoration, found)
            }
            (Fact::Applied(applied), Some(restoration)) if applied.seq <= restoration.begins.seq => {
                Err(format!("node {} goes on where the old cluster was: {applied:?}", applied.node))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::history::tests::{fact, put};
    use super::*;
    use crate::facts::{FoundKey, Place};

    const RESTORED: Restoration = Restoration {
        generation: 7,
        backup: Place { seq: 10, revision: 5 },
        begins: Place { seq: 1_000, revision: 900 },
    };

    fn after(seq: u64, found: Option<Beginning>) -> Result<(), String> {
        let mut begins = ARestoreBeginsAnew::default();
        assert!(begins.on(&fact(put(12, "a")), Duration::ZERO).is_ok());
        begins.restored(&RESTORED);
        begins.on(&Fact::Restored { node: 1, seq, digest: 0, beginning: found.map(Arc::new) }, Duration::ZERO)
    }

    #[test]
    fn it_can_object() {
        let found = Beginning { generation: 7, revision: 900, led: 0, keys: Vec::new() };
        assert!(after(1_000, Some(found.clone())).is_ok());
        assert!(after(1_000, None).is_err(), "somebody has a session");
        assert!(after(12, Some(found.clone())).is_err(), "what came after the backup lives on");
        assert!(after(1_000, Some(Beginning { generation: 0, ..found.clone() })).is_err());
        assert!(after(1_000, Some(Beginning { led: 1, ..found.clone() })).is_err());
        let (key, value) = ("k".to_owned(), "v".to_owned());
        let bound = FoundKey { key, value, create_revision: 1, mod_revision: 1, version: 1, session: 3 };
        assert!(after(1_000, Some(Beginning { keys: vec![bound], ..found })).is_err());
        assert!(after(1_001, None).is_ok(), "a later snapshot");
        let mut begins = ARestoreBeginsAnew::default();
        begins.restored(&RESTORED);
        assert!(begins.on(&fact(put(13, "b")), Duration::ZERO).is_err(), "the old cluster goes on");
        assert!(begins.on(&Fact::LeadsOutlived { node: 1 }, Duration::ZERO).is_err());
    }
}
