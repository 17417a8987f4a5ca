//! The only crate that knows openraft: it keeps a [`Machine`] the same on all nodes.
//!
//! The promise: an entry that [`Replica::propose`] answered with a reply is on the disks of a majority and is applied in
//! the same order everywhere; an error other than "unknown" means that it was not and will not be applied; and neither
//! votes nor acknowledgements of a store that the membership does not name are counted.

mod config;
mod error;
mod gate;
mod machine;
mod peer;
mod peer_service;
mod replica;
mod status;
mod types;

pub use config::{ReplicaConfig, Timings};
pub use error::{ConfirmError, HelloError, InitializeError, ProposeError, ReadError, StartError};
pub use gate::Gate;
pub use machine::{Cluster, Machine, MachineError};
pub use peer::{Hello, Member, Peer};
pub use peer_service::PeerService;
pub use replica::{MAX_ENTRY_BYTES, Replica};
pub use status::{Leadership, ReplicaStatus, Role};
