//! The only crate that knows openraft: it keeps a [`Machine`] the same on all nodes.
//!
//! The promise: an entry that [`Replica::propose`] answered with a reply is on the disks of a majority and is applied in
//! the same order everywhere; an error other than "unknown" means that it was not and will not be applied; and neither
//! votes nor acknowledgements of a store that the membership does not name are counted.
//!
//! Never here: what is inside an entry, sessions, elections, clients. openraft's types, its formats and its serde stay
//! behind this crate's border: disk and wire speak `proto/palisade/replica/v1`.
//!
//! Reading order: [`Machine`] (what is replicated), [`Replica`] (the handle), [`ReplicaStatus`] and [`Leadership`] (who
//! leads), [`ReplicaConfig`]; then, inside: `types` (what openraft is told), `codec` (its values as our messages),
//! `log_store` and `state_machine` (its view of disk and machine), `network`, `append_stream` and `links` (to other nodes),
//! `peer_service` and `credentials` (from other nodes, and who is refused), `succession` (a store leader whose connection is
//! gone), `rounds` (shared quorum rounds), `quorum` (what a round asks), `watcher` (metrics as status), `membership`, `changes`
//! and `joining` (which changes of the members are allowed, how they are made, and how a new node says which store it has),
//! `levels` (which versions the members are of).

mod acknowledged;
mod append_stream;
mod changes;
mod codec;
mod config;
mod credentials;
mod error;
mod figures;
mod gate;
mod joining;
mod levels;
mod links;
mod log_store;
mod machine;
mod membership;
mod network;
mod peer;
mod peer_service;
mod quorum;
mod reach;
mod refusal;
mod replica;
mod revocable;
mod room;
mod rounds;
mod seeds;
mod snapshot_transfer;
mod snapshots;
mod state_machine;
mod status;
mod succession;
#[cfg(test)]
mod suite;
mod types;
mod watcher;

pub use changes::{MemberState, Members};
pub use config::{ReplicaConfig, Timings};
pub use error::{ConfirmError, HelloError, InitializeError, ProposeError, ReadError, StartError};
pub use figures::{RaftFigures, ReplicaMetrics};
pub use gate::Gate;
pub use joining::JoinAnswer;
pub use levels::Levels;
pub use machine::{Cluster, Frozen, Level, Machine, MachineError};
pub use membership::{CAUGHT_UP, Change, MAX_MEMBERS, MAX_VOTERS};
pub use peer::{Hello, Member, Peer, Restored};
pub use peer_service::PeerService;
pub use refusal::{ChangeError, Refusal};
pub use replica::{MAX_ENTRY_BYTES, Replica};
pub use room::Room;
pub use snapshots::restored_head;
pub use status::{Leadership, MemberIds, ReplicaStatus, Role};
