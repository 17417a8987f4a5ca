//! What is generated for each gateway: its name, its methods, its descriptors. Keeps true: a method without an entry cannot be
//! called, so that one test can enumerate all that can.

use std::sync::Arc;

use crate::codegen::Handler;
use crate::{RawGateway, RpcEndpoint};

/// Whether a method has an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MethodKind {
    /// No answer; a refusal is reported back.
    Tell,
    /// An answer, with a deadline.
    Ask,
}

/// Which of an endpoint's two queues a message waits in, and which of two connections it travels on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lane {
    /// Few and short: heartbeats. Taken first; overtakes work of the same sender.
    Control,
    /// Everything else, in the order in which it was sent.
    Work,
}

/// One method of a gateway.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MethodInfo {
    /// As in the `.proto` file.
    pub name: &'static str,
    /// Tell or ask.
    pub kind: MethodKind,
    /// `Control` if the method has the option `(palisade.rpc.v1.control) = true`.
    pub lane: Lane,
}

/// One gateway, as its `.proto` file declares it.
#[derive(Clone, Copy, Debug)]
pub struct InterfaceInfo {
    /// Full name of the service.
    pub name: &'static str,
    /// All methods, in the order of the file.
    pub methods: &'static [MethodInfo],
    /// An encoded `FileDescriptorSet` with the service and all that it imports, for server reflection.
    pub descriptors: &'static [u8],
}

/// A generated gateway.
pub trait RpcGateway: Clone + Send + Sync + 'static {
    /// Its declaration.
    const INTERFACE: &'static InterfaceInfo;

    /// Dresses an untyped gateway. Called by [`crate::RpcService::connect`], which has checked that the endpoint serves this.
    fn from_raw(raw: RawGateway) -> Self;

    /// The untyped gateway: address, refusals.
    fn raw(&self) -> &RawGateway;
}

/// A dispatch table: one handler for each method of an interface. Made by the generated `XGateway::serve()`.
pub struct Served<E: RpcEndpoint> {
    pub(crate) interface: &'static InterfaceInfo,
    pub(crate) handlers: Arc<[Handler<E>]>,
}
