//! The history: JSON lines, append-only, one record for each invocation, one for its completion, one for each thing seen.
//!
//! HISTORY.md says what every field means; `record` holds the same table as code, and both the writer and the reader refuse what is
//! not in it. `ok`: it happened. `fail`: it surely had no effect. `info`: nobody knows, and that process never acts again under its
//! id. Nothing is refined without proof.

mod operations;
mod reader;
mod record;
mod writer;

pub use operations::{History, Op};
pub use reader::{ReadError, read, read_lines};
pub use record::{Breach, OnDisconnect, Record, Type};
pub use writer::Recorder;

/// The names of operations and of what is seen, as they stand in the field `f`.
pub mod f {
    pub use super::record::f::*;
}
