//! Actors whose messages carry fencing tokens, so that a leader that was replaced is refused wherever it knocks.
//!
//! # In one example
//! Declare a gateway in a `.proto` file; a method that returns `Told` is a *tell*, any other an *ask*:
//! ```text
//! syntax = "proto3";
//! package shop.v1;
//! import "palisade/rpc/v1/told.proto";
//! service ShopGateway {
//!   rpc Sell(Order) returns (Receipt);
//!   rpc Heartbeat(Beat) returns (palisade.rpc.v1.Told);
//! }
//! ```
//! Generate in `build.rs`: `palisade_rpc_build::compile(&["shop.proto"], &["proto"])?;` and
//! `include!(concat!(env!("OUT_DIR"), "/shop.v1.rs"));`. Then implement the endpoint, start it, and call it:
//! ```text
//! struct Shop { sold: u64 }
//! impl RpcEndpoint for Shop {}
//! impl ShopEndpoint for Shop {
//!     fn sell(&mut self, cx: &mut Context<Self>, order: Order) -> Answer<Receipt> {
//!         self.sold += 1;                                           // a synchronous step: nothing else runs
//!         let written = write_somewhere(order);                      // a future, which cannot touch the state
//!         cx.then(written, |shop, _cx, id| Answer::ready(Receipt { id, sold: shop.sold })) // guarded again
//!     }
//!     fn heartbeat(&mut self, _cx: &mut Context<Self>, _beat: Beat) {}
//! }
//!
//! let service = RpcService::start(RpcServiceConfig::listen("127.0.0.1:0").interface::<ShopGateway>(), world).await?;
//! // A leader's endpoint (fixed token), a worker's (`.guarded_by(guards)`), or neither:
//! let shop = service.endpoint("shop", Shop { sold: 0 }).serves(ShopGateway::serve()).leads(seat).create()?;
//! shop.start().await?;
//!
//! let gateway: ShopGateway = other.connect(&shop.address(), Stamp::fixed(cluster, "shop", token)).await?;
//! let receipt = gateway.sell(order).await?;     // ask
//! gateway.heartbeat(Beat {})?;                  // tell; a refusal arrives in gateway.refusals()
//! ```
//!
//! # What is promised
//! - One message at a time; the state is reachable only in synchronous steps; every resume after an await checks the guard
//!   again; a higher token drops what ran under lower ones before the first message under it runs.
//! - Every refusal says why, with the current token and the leader's address if they are known; a refused tell is reported back.
//! - An [`RpcError`] says whether the message surely was not handled ([`RpcError::outcome`]).
//!
//! # Reading order
//! [`RpcAddress`], [`InterfaceInfo`] (what is generated), [`RpcError`], [`Answer`], [`RpcEndpoint`] and [`Context`] (what a user
//! writes), [`Stamp`] / [`LeaderSeat`] / [`Guards`] (fencing: sender, leader, worker), `recipient` (arrival), `actor` (the loop), [`RawGateway`] and
//! [`Refusals`], [`RpcService`], `transport` (streams between processes), `plain` (the same endpoints for any gRPC client),
//! [`Counters`].
//!
//! # What is deliberately not here
//! Any knowledge of a store: tokens and leaders come through [`palisade_fence::TokenSource`] and
//! [`palisade_fence::LeaderSource`]. A worker's durable guard is handed in as a [`DurableGuard`]; [`GuardFile`] keeps one in a file.

mod actor;
mod address;
mod answer;
pub mod codegen;
mod context;
mod counters;
mod endpoint;
mod error;
mod fencing;
mod gateway;
mod guard_file;
mod guards;
mod inbound;
mod interface;
mod leader_seat;
mod plain;
mod recipient;
mod refusals;
mod registry;
mod service;
mod stamp;
mod transport;

pub use address::{BadAddress, RpcAddress};
pub use answer::Answer;
pub use context::{CallInfo, Context, Timer};
pub use counters::{AnswerKind, Counted, Counters};
pub use endpoint::{CreateError, EndpointBuilder, EndpointFailure, EndpointHandle, Life, RpcEndpoint};
pub use error::{AppError, ConnectError, Outcome, RpcError};
pub use gateway::RawGateway;
pub use guard_file::{GuardFile, GuardFileError};
pub use guards::{DurableGuard, DurableGuardError, GuardSpec, Guards};
pub use interface::{InterfaceInfo, MethodInfo, MethodKind, RpcGateway, Served};
pub use leader_seat::LeaderSeat;
pub use refusals::{Refusal, Refusals};
pub use service::{CloseError, RpcService, RpcServiceConfig, StartError};
pub use stamp::Stamp;

/// The messages of the envelope; generated code names [`v1::Told`].
#[allow(missing_docs, clippy::all, unreachable_pub)] // generated
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/palisade.rpc.v1.rs"));
}
