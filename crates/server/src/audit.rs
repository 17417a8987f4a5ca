//! Sees what a node applies, beside what its clients are told. A test bench that must know the truth hands one to
//! [`crate::Node::start_audited`]; a node in production has none.

use palisade_coord_core::{Command, Outcome, State};
use palisade_replica::Member;

/// Told of every change of a node's replicated state, in order, while nobody else can look at the state: it must not wait.
pub trait Audit: Send + Sync {
    /// A command was applied, and `state` is what it left.
    fn applied(&self, command: &Command, outcome: &Outcome, state: &State);
    /// The members are these from this entry of the log on.
    fn members(&self, _index: u64, _members: &[Member]) {}
    /// The state was replaced by that of a snapshot.
    fn restored(&self, state: &State);
}
