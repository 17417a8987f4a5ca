//! The only crate of the store that touches files: log engines, snapshots, durable guards.
