//! A background observer that keeps the newest view of one election at hand, for receivers that check tokens.

use std::pin::Pin;

use palisade_fence::source::Looked;
use palisade_fence::{LeaderSource, LeaderView};

/// Follows one election until it is dropped.
#[derive(Debug)]
pub struct ElectionFollower {}

impl LeaderSource for ElectionFollower {
    fn election(&self) -> &str {
        panic!("not yet")
    }

    fn latest(&self) -> Option<LeaderView> {
        panic!("not yet")
    }

    fn read(&self) -> Looked<'_> {
        panic!("not yet")
    }

    fn changed(&self, after: u64) -> Pin<Box<dyn Future<Output = LeaderView> + Send + '_>> {
        let _ = after;
        panic!("not yet")
    }
}
