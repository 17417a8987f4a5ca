//! Generates typed gateways from `.proto` files. Called from `build.rs`, by a user's own crate as easily as by ours; needs no
//! `protoc` (it compiles with protox).
//!
//! ```no_run
//! palisade_rpc_build::compile(&["proto/shop.proto"], &["proto"]).expect("the gateways compile");
//! ```
//!
//! and in the crate: `pub mod shop { include!(concat!(env!("OUT_DIR"), "/shop.v1.rs")); }`.
//!
//! For each service whose name ends in `Gateway`, say `ShopGateway`, the package's file gets, next to its messages:
//! - `trait ShopEndpoint`: what an endpoint implements, one synchronous step per method;
//! - `struct ShopGateway`: the typed proxy, local or remote, and `ShopGateway::serve()`: the dispatch table;
//! - `ShopGateway::METHODS`: name and kind of every method, so that one test can enumerate them all.
//!
//! A method that returns `palisade.rpc.v1.Told` is a tell, any other an ask; streams are not allowed. A method with
//! `option (palisade.rpc.v1.control) = true;` is a control message: a heartbeat, say, which does not wait behind work. Services
//! with other names become plain tonic services. `palisade/rpc/v1/told.proto` and `palisade/rpc/v1/options.proto` can be
//! imported without being on any include path.
//!
//! What is deliberately not here: any behaviour. The generated code calls into `palisade_rpc::codegen`, which holds it.

mod builder;
mod gateway_generator;

use std::path::Path;

pub use builder::{Builder, CompileError};

/// Compiles `protos`, found below `includes`, into `OUT_DIR` with the default settings of [`Builder`].
pub fn compile(protos: &[impl AsRef<Path>], includes: &[impl AsRef<Path>]) -> Result<(), CompileError> {
    Builder::new().compile(protos, includes)
}
