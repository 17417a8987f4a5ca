//! An endpoint that ends with its owner, so that nothing of a leadership is left when its start or its end is cut short.

use std::ops::Deref;
use std::time::Duration;

use palisade_rpc::{CreateError, EndpointBuilder, EndpointHandle, RpcEndpoint};
use palisade_world::World;

/// How long an endpoint of the last leadership may take to end before this leadership gives up; its `on_stop` does nothing.
const FREE: Duration = Duration::from_secs(5);
/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(2);

/// The endpoint's handle. Dropping it stops the endpoint.
pub(super) struct OwnedEndpoint<E: RpcEndpoint>(EndpointHandle<E>);

impl<E: RpcEndpoint> OwnedEndpoint<E> {
    /// Creates the endpoint once its id is free.
    pub(super) async fn create(world: &World, make: impl Fn() -> EndpointBuilder<E>) -> Result<Self, CreateError> {
        let until = world.now() + FREE;
        loop {
            match make().create() {
                Ok(handle) => return Ok(OwnedEndpoint(handle)),
                Err(CreateError::Exists(_)) if world.now() < until => world.sleep(LOOK).await,
                Err(error) => return Err(error),
            }
        }
    }
}

impl<E: RpcEndpoint> Deref for OwnedEndpoint<E> {
    type Target = EndpointHandle<E>;

    fn deref(&self) -> &EndpointHandle<E> {
        &self.0
    }
}

impl<E: RpcEndpoint> Drop for OwnedEndpoint<E> {
    fn drop(&mut self) {
        self.0.stop();
    }
}
