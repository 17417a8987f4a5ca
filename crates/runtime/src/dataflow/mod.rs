//! The dataflow of a job, without clocks, files or sockets: words, splits, partitions, barriers, counts.

pub mod align;
pub mod batch;
pub mod count;
pub mod hash;
pub mod path;
pub mod source;
pub mod split;
mod varint;
pub mod words;
