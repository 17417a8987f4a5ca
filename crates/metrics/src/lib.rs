//! What is counted while the others work, and how it is told: counters, gauges, histograms of time, and a [`Page`] in
//! Prometheus's text format.
//!
//! Ours, because what is needed is small: counting is one or two relaxed additions, and the format is lines of text. The
//! libraries for it bring registries behind locks, label maps that are hashed at each count, and a fifth of a megabyte.
//!
//! There is no registry. Whoever counts owns a plain struct of these, with one field per number; whoever is asked writes its
//! struct to a page. It reads no clock: spans are measured by the caller.
//!
//! Keeps true: the labels of what is counted are variants that the code knows ([`Counters`]), never names that a client chose,
//! so that no client can make a page grow.

mod counter;
mod histogram;
mod page;

pub use counter::{Counter, Counters, Gauge, Labelled};
pub use histogram::Histogram;
pub use page::{Family, Kind, Page};
