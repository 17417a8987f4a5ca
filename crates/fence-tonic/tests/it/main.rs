//! A tonic service behind the layer, called in this process through its generated client: the health service, because everybody
//! has it. What is asserted is the table of the crate's page, and that nothing under a lower token takes another step.

#![allow(clippy::unwrap_used)] // helpers of tests; clippy knows only the tests themselves

mod service;
mod sources;
mod table;
mod taken_away;
