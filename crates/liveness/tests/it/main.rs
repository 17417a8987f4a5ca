//! What liveness promises, rule by rule, and against a plain model.

mod asked;
mod model;
#[cfg(feature = "planted")]
mod planted;
mod rules;
mod run;
mod traps;
