//! Endpoints and gateways from outside, over real sockets on free loopback ports.

mod first_call;

/// The gateways of these tests.
#[allow(missing_docs, unreachable_pub, clippy::all)] // generated
pub mod proto {
    include!(concat!(env!("OUT_DIR"), "/palisade.rpc.test.v1.rs"));
}
