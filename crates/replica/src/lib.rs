//! The only crate that knows openraft.
