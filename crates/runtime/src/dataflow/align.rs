//! Aligns checkpoint barriers over the input channels of one subtask.
//!
//! It holds no records: a channel that has delivered the barrier is *blocked*, and the task must not take anything from it
//! until the others have caught up; the channel's bounded queue then holds its sender back. A channel that has ended counts as
//! aligned with every barrier. It keeps true that a snapshot has exactly the records in front of the barrier of each channel.

/// Number of a checkpoint within a job; never used twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct CheckpointId(pub u64);

impl std::fmt::Display for CheckpointId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Channel {
    Open,
    /// It has delivered the barrier of `pending`.
    Blocked,
    Ended,
}

/// What the task does after a barrier or an end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Aligned {
    /// Go on with the channels that are not blocked.
    Wait,
    /// Take the snapshot now, before any other record.
    Snapshot(CheckpointId),
    /// Every channel has ended: the subtask's input is over.
    AllEnded,
}

/// Which channels are blocked for which checkpoint.
#[derive(Clone, Debug)]
pub struct Aligner {
    channels: Vec<Channel>,
    /// The newest checkpoint that a barrier has announced and that is not complete here.
    pending: Option<CheckpointId>,
    /// The newest checkpoint that was announced; older barriers are ignored.
    newest: Option<CheckpointId>,
}

impl Aligner {
    /// All channels open, no checkpoint pending.
    pub fn new(channels: usize) -> Aligner {
        Aligner { channels: vec![Channel::Open; channels], pending: None, newest: None }
    }

    /// Whether the task may take from this channel.
    pub fn is_readable(&self, channel: usize) -> bool {
        self.channels.get(channel) == Some(&Channel::Open)
    }

    /// A barrier arrived on a readable channel. A newer barrier gives up the older checkpoint: its coordinator has done so.
    pub fn on_barrier(&mut self, channel: usize, checkpoint: CheckpointId) -> Aligned {
        debug_assert!(self.is_readable(channel), "nothing is taken from a blocked channel");
        if self.newest.is_some_and(|newest| checkpoint < newest)
            || (self.newest == Some(checkpoint) && self.pending.is_none())
        {
            return Aligned::Wait;
        }
        if self.pending != Some(checkpoint) {
            self.unblock();
            self.pending = Some(checkpoint);
            self.newest = Some(checkpoint);
        }
        self.set(channel, Channel::Blocked);
        self.complete()
    }

    /// A channel's input is over.
    pub fn on_end(&mut self, channel: usize) -> Aligned {
        self.set(channel, Channel::Ended);
        match self.complete() {
            Aligned::Wait if self.channels.iter().all(|channel| *channel == Channel::Ended) => Aligned::AllEnded,
            other => other,
        }
    }

    fn complete(&mut self) -> Aligned {
        let Some(pending) = self.pending else { return Aligned::Wait };
        if self.channels.contains(&Channel::Open) {
            return Aligned::Wait;
        }
        self.pending = None;
        self.unblock();
        // All ended while a checkpoint was pending: it can only be complete if somebody had delivered its barrier and then
        // nothing else, and such a channel was blocked, not ended. So at least one channel is open again now.
        debug_assert!(self.channels.contains(&Channel::Open));
        Aligned::Snapshot(pending)
    }

    fn unblock(&mut self) {
        for channel in &mut self.channels {
            if *channel == Channel::Blocked {
                *channel = Channel::Open;
            }
        }
    }

    fn set(&mut self, channel: usize, state: Channel) {
        if let Some(slot) = self.channels.get_mut(channel) {
            *slot = state;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_waits_for_the_others() {
        let mut aligner = Aligner::new(3);
        assert_eq!(aligner.on_barrier(0, CheckpointId(1)), Aligned::Wait);
        assert!(!aligner.is_readable(0) && aligner.is_readable(1));
        assert_eq!(aligner.on_end(2), Aligned::Wait);
        assert_eq!(aligner.on_barrier(1, CheckpointId(1)), Aligned::Snapshot(CheckpointId(1)));
        assert!(aligner.is_readable(0) && aligner.is_readable(1) && !aligner.is_readable(2));
        assert_eq!(aligner.on_end(0), Aligned::Wait);
        assert_eq!(aligner.on_end(1), Aligned::AllEnded);
    }

    #[test]
    fn a_newer_barrier_gives_up_the_older_checkpoint() {
        let mut aligner = Aligner::new(2);
        assert_eq!(aligner.on_barrier(0, CheckpointId(1)), Aligned::Wait);
        assert_eq!(aligner.on_barrier(1, CheckpointId(2)), Aligned::Wait);
        assert!(aligner.is_readable(0) && !aligner.is_readable(1));
        assert_eq!(aligner.on_barrier(0, CheckpointId(2)), Aligned::Snapshot(CheckpointId(2)));
        assert_eq!(aligner.on_barrier(0, CheckpointId(1)), Aligned::Wait, "an old barrier changes nothing");
        assert!(aligner.is_readable(0));
    }

    #[test]
    fn an_end_completes_a_pending_checkpoint() {
        let mut aligner = Aligner::new(2);
        assert_eq!(aligner.on_barrier(0, CheckpointId(7)), Aligned::Wait);
        assert_eq!(aligner.on_end(1), Aligned::Snapshot(CheckpointId(7)));
        assert_eq!(aligner.on_end(0), Aligned::AllEnded);
    }
}
