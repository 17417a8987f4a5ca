//! Collections that are copied in a moment and changed afterwards at the price of what changes: how a state is kept as it was
//! at one moment ([`crate::Frozen`]) while commands go on being applied. They know nothing of what they hold.

mod map;
mod queue;

pub use map::SharedMap;
pub use queue::SharedQueue;
