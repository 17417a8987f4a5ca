//! Seeds for openraft's task-local random source. Whatever may start a task of openraft or draw one of its numbers runs
//! inside [`Seeds::scope`]: outside of one it panics. Tasks that openraft starts itself inherit a seed.

use std::future::Future;

use palisade_world::World;

use crate::types::Runtime;

/// Draws seeds from the world, so that one seed of the simulation decides every election timeout.
#[derive(Clone)]
pub(crate) struct Seeds {
    world: World,
}

impl Seeds {
    pub(crate) fn new(world: World) -> Seeds {
        Seeds { world }
    }

    /// Runs a future that calls into openraft.
    pub(crate) async fn scope<F: Future>(&self, future: F) -> F::Output {
        Runtime::scope(self.world.random_u64(), future).await
    }
}
