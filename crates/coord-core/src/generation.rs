//! A restore from backup begins a new generation of the cluster: nothing of it can be taken for something of the one before,
//! of which the backup may have missed the end. It does not read the backup.

use std::fmt;

use palisade_fence::Token;
use palisade_planted::{self as planted, Bug};

use crate::command::EndReason;
use crate::elections::Vacated;
use crate::{Revision, Seq, SessionId, State, elections, sessions};

/// How far `seq` and the revision move ahead, so that they are above all that the old cluster reached after the backup: at a
/// hundred thousand commands a second that would take four months. 2^53, where JSON loses integers, is nine thousand restores
/// away.
const AHEAD: u64 = 1_000_000_000_000;

/// 2025-01-01, 00:00 UTC.
const EPOCH_UNIX_MS: u64 = 1_735_689_600_000;

/// The highest: a generation has 31 bits.
const HIGHEST: u32 = u32::MAX >> 1;

/// The generation of a restore: above that of the backup, at least what was asked for, and at least the whole seconds since 2025 on
/// the wall clock. Two restores of one backup have two, unless they are made in one second, or the clock was set back between them:
/// then somebody must ask for one that is high enough.
///
/// Nor does it help to restore a backup from before a cluster that was given a higher one than the clock's: nothing in that backup knows
/// of it.
pub fn of_restore(backup: u32, asked: Option<u32>, now_unix_ms: u64) -> u32 {
    backup.saturating_add(1).max(asked.unwrap_or(0)).max(of_clock(now_unix_ms))
}

/// The whole seconds since 2025 on a wall clock, as a generation.
pub fn of_clock(now_unix_ms: u64) -> u32 {
    let seconds = now_unix_ms.saturating_sub(EPOCH_UNIX_MS) / 1_000;
    u32::try_from(seconds).unwrap_or(HIGHEST).min(HIGHEST)
}

/// The generation does not rise, or has more than 31 bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadGeneration {
    /// What was asked for.
    pub asked: u32,
    /// What the state has.
    pub present: u32,
}

impl fmt::Display for BadGeneration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BadGeneration { asked, present } = self;
        write!(f, "generation {asked} is not between {present} and 2^31, the limits excluded")
    }
}

impl std::error::Error for BadGeneration {}

impl State {
    /// Ends all sessions, which vacates all elections and removes the keys that are bound to them; keeps the cluster's name,
    /// the other keys, and who led before. Observers and watchers of the old generation find a gap.
    ///
    /// # Errors
    /// The generation must rise; nothing was changed.
    pub fn begin_generation(&mut self, generation: u32, at_unix_ms: u64) -> Result<(), BadGeneration> {
        if generation <= self.generation || generation > HIGHEST {
            return Err(BadGeneration { asked: generation, present: self.generation });
        }
        let generation = if planted::is(Bug::ResetTokenOnRestore) { self.generation } else { generation };
        self.generation = generation;
        self.seq = Seq(self.seq.get() + AHEAD);
        self.revision = Revision(self.revision.get() + AHEAD);
        self.last_token = Token::new(generation, 0);
        self.last_session = SessionId(u64::from(generation) << 32);

        let mut vacated = Vacated::default();
        let sessions: Vec<SessionId> = self.sessions.keys().copied().collect();
        for id in sessions {
            sessions::take(self, id, EndReason::Restored, &mut vacated, &mut Vec::new());
        }
        elections::fill(self, vacated, at_unix_ms, &mut Vec::new());
        self.told.forget_up_to(self.seq);
        self.keys.forget_past(self.revision);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000;

    #[test]
    fn the_generation_of_a_restore_is_the_highest_of_three() {
        assert_eq!(of_restore(0, None, 0), 1, "a clock that stands at its beginning");
        assert_eq!(of_restore(0, None, EPOCH_UNIX_MS + 7 * SECOND + 999), 7);
        assert_eq!(of_restore(9, None, EPOCH_UNIX_MS + 7 * SECOND), 10);
        assert_eq!(of_restore(9, Some(12), EPOCH_UNIX_MS + 7 * SECOND), 12);
        assert_eq!(of_restore(9, Some(3), EPOCH_UNIX_MS + 7 * SECOND), 10, "never lower for being asked for");
        assert_eq!(of_restore(0, None, u64::MAX), HIGHEST);
    }
}
