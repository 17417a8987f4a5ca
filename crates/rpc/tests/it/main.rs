//! Endpoints and gateways from outside, over real sockets on free loopback ports. A test that covers a line of the list of
//! Flink's behaviours carries its id in its name.

#![allow(clippy::unwrap_used)] // helpers of tests; clippy knows only the tests themselves

mod beyond;
mod conformance;
mod counter;
mod election;
mod fencing;
mod first_call;
mod gateways;
mod guard_file;
mod guards;
mod heartbeats;
mod life;
mod main_thread;
mod memory;
mod office;
mod pairs;
mod plain;
#[cfg(feature = "planted")]
mod planted;
mod processes;
mod registration;
mod retriever;
mod rows;
mod sockets;
mod supervision;
mod table;
mod transport;
mod values;
mod wire;

/// The gateways of these tests.
#[allow(missing_docs, unreachable_pub, dead_code, clippy::all)] // generated, and not all of it is used
pub(crate) mod proto {
    include!(concat!(env!("OUT_DIR"), "/palisade.rpc.test.v1.rs"));
}

/// The runtime's gateways: the table of fencing holds for them as well.
#[allow(missing_docs, unreachable_pub, dead_code, clippy::all)] // generated, and not all of it is used
pub(crate) mod runtime_proto {
    include!(concat!(env!("OUT_DIR"), "/palisade.runtime.v1.rs"));
}

/// Bounds the wait for a named condition: long enough for a loaded machine, short enough to end a hung test.
pub(crate) const SOON: std::time::Duration = std::time::Duration::from_secs(20);

/// Waits for `what`, or fails by its name.
pub(crate) async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    match palisade_world::World::real().timeout(SOON, future).await {
        Some(out) => out,
        None => panic!("not within {SOON:?}: {what}"),
    }
}

/// Waits until a condition that nothing announces is true.
pub(crate) async fn until(mut condition: impl FnMut() -> bool) {
    while !condition() {
        tokio::task::yield_now().await;
    }
}

/// Asks again until the answer is an error.
pub(crate) async fn until_err<T, E, F: Future<Output = Result<T, E>>>(mut ask: impl FnMut() -> F) -> E {
    loop {
        if let Err(error) = ask().await {
            return error;
        }
        tokio::task::yield_now().await;
    }
}

/// A task that ends with its handle.
pub(crate) fn spawn<F>(future: F) -> palisade_world::Task<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    palisade_world::World::real().spawn("test", future)
}
