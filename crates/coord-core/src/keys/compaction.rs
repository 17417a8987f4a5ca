//! Forgetting the past of keys: on request, and by itself when it would take too much memory. What is forgotten can no longer
//! be read or watched from that moment on; the memory comes back a little with each command, so that none takes long.

use crate::keys::space::{Change, KeySpace, weight};
use crate::limits::{MAX_KEY_HISTORY_BYTES, MAX_TRIMMED};
use crate::outcome::{Refusal, Reply};
use crate::{Revision, State};

/// Forgets what was before a revision; what keys had at it can still be read, and watched from it on.
pub(crate) fn compact(state: &mut State, revision: Revision) -> Result<Reply, Refusal> {
    if revision > state.revision {
        return Err(Refusal::FutureRevision { revision, current: state.revision });
    }
    if revision <= state.keys.compacted {
        return Err(Refusal::Compacted { revision, compacted: state.keys.compacted });
    }
    state.keys.compacted = revision;
    state.keys.watchable = revision;
    Ok(Reply::Compacted)
}

impl KeySpace {
    /// Gives back some of what is forgotten, and forgets the oldest changes if too much is kept.
    pub(crate) fn trim(&mut self) {
        let mut trimmed = 0;
        while trimmed < MAX_TRIMMED
            && let Some(oldest) = self.changes.pop_front_if(|oldest| oldest.revision < self.watchable)
        {
            self.forget(&oldest);
            trimmed += 1;
        }
        while self.past_bytes > MAX_KEY_HISTORY_BYTES {
            let oldest = self.changes.pop_front().expect("what is past was changed since");
            self.compacted = self.compacted.max(oldest.revision);
            self.watchable = self.watchable.max(oldest.revision.next());
            self.forget(&oldest);
        }
    }

    /// Forgets everything up to now, which is this revision.
    pub(crate) fn forget_past(&mut self, now: Revision) {
        self.compacted = now;
        self.watchable = now.next();
        while let Some(oldest) = self.changes.pop_front() {
            self.forget(&oldest);
        }
        assert_eq!(self.past_bytes, 0, "nothing is past");
    }

    /// Drops what a key had before a change, and the key itself if that change removed it.
    fn forget(&mut self, change: &Change) {
        let lineage = self.lineages.get_mut(&change.key).expect("a change that is kept has its version");
        while let Some(next) = lineage.past.get(1).or((lineage.past.len() == 1).then_some(&lineage.last))
            && next.revision <= change.revision
        {
            let old = lineage.past.pop_front().expect("there is one before the next");
            self.past_bytes -= weight(&change.key, old.kv.as_deref());
        }
        match lineage.past.front() {
            Some(first) if first.revision == change.revision && first.kv.is_none() => {
                lineage.past.pop_front();
                self.past_bytes -= weight(&change.key, None);
            }
            None if lineage.last.revision == change.revision && lineage.last.kv.is_none() => {
                self.lineages.remove(&change.key);
                self.past_bytes -= weight(&change.key, None);
            }
            Some(_) | None => {}
        }
    }
}
