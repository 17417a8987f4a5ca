//! The store's protobuf messages and their checked conversions.
//!
//! Reading order: [`coord::v1`] and [`replica::v1`] (generated from `proto/palisade`), [`limits`] (what a request may
//! contain), [`convert`] (requests to commands, outcomes to answers), [`status`] (refusals that say what is known), [`metadata`], [`log`]
//! and [`state`] (the store's own formats in the Raft log and in snapshots, each behind a version byte).
//!
//! Everything that comes off a wire is checked here, once, before it is proposed: a command that reaches the state
//! machine can trip no assertion there. Nothing here does I/O.

mod codec;
pub mod convert;
mod format;
pub mod limits;
pub mod log;
pub mod metadata;
mod refusal;
pub mod state;
pub mod status;

pub use format::WireError;

/// The public API of the store, and its own formats in log and snapshot.
pub mod coord {
    /// Generated from `proto/palisade/coord/v1`.
    // Documented in the .proto files, which generate this; not every field has a sentence.
    #[allow(missing_docs, clippy::large_enum_variant, clippy::doc_lazy_continuation)]
    pub mod v1 {
        tonic::include_proto!("palisade.coord.v1");
    }
}

/// What nodes say to each other.
pub mod replica {
    /// Generated from `proto/palisade/replica/v1`.
    // As above.
    #[allow(missing_docs, clippy::large_enum_variant, clippy::doc_lazy_continuation)]
    pub mod v1 {
        tonic::include_proto!("palisade.replica.v1");
    }
}

/// Descriptors of all messages and services of this crate, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
