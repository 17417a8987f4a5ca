//! Tests of the state machine through its public face: scenarios as text, and random commands against a plain model.

// Helpers of tests, too, say what they expect by unwrapping.
#![allow(clippy::unwrap_used)]

mod bounds;
mod change_pages;
mod exhaustive;
mod key_model;
mod keys;
mod limits;
mod model;
mod model_test;
#[cfg(feature = "planted")]
mod planted;
mod scenario;
mod scenarios;
mod steps;
