//! Tests of the wire: what goes through a format comes out the same, and what is not allowed is named.

// Helpers of tests, too, say what they expect by unwrapping; refusals are as large as in the crate.
#![allow(clippy::unwrap_used, clippy::result_large_err)]

mod formats;
mod keys;
mod requests;
// The same random commands as the state machine is tested with.
#[path = "../../../coord-core/tests/it/steps.rs"]
mod steps;
