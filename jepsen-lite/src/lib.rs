//! The half of `jepsen-lite` that judges: what a history is, the checkers, verdicts, the EDN export and the report.
//!
//! It starts nothing, connects to nothing and asks no clock except to stamp records: everything here but the writer is a function of
//! the lines of a history (HISTORY.md), so that a verdict can be had again from the file alone. It shares no code with Palisade, and
//! does not even know its wire: that a mistake is made twice is what this avoids. Not affiliated with Jepsen.
//!
//! Reading order: [`history`] (records, operations, writer, reader), [`verdict`], [`checkers`], [`export`], [`report`].

#![allow(clippy::disallowed_methods)] // It runs in the real world only, and shares no seam with what it checks.

pub mod checkers;
pub mod clock;
pub mod export;
pub mod history;
pub mod report;
pub mod verdict;
