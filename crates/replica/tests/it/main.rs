//! Three replicas of a toy machine over real connections and real disks, in one process. Each node has a runtime of its
//! own, so that killing one ends its tasks and connections at once.
#![allow(clippy::unwrap_used)] // the helpers belong to the tests

mod catching_up;
mod cluster;
mod failing;
mod leading;
mod notes;
mod refusing;
mod succession;
