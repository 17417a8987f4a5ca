//! What generated code calls: everything that it would otherwise have to decide. Not for use by hand.

use prost::Message;

use crate::inbound::{Payload, ReplyTo};
use crate::{Answer, Context, InterfaceInfo, MethodKind, RpcEndpoint, RpcError, Served};

/// Runs one method: reads the request, takes the step, sees to the answer.
pub type Handler<E> = Box<dyn Fn(&mut E, &mut Context<E>, Payload, ReplyTo) + Send + Sync>;

/// The handler of an ask.
pub fn ask<E, Q, R>(step: fn(&mut E, &mut Context<E>, Q) -> Answer<R>) -> Handler<E>
where
    E: RpcEndpoint,
    Q: Message + Default + 'static,
    R: Message + 'static,
{
    Box::new(move |state, cx, payload, mut reply| match payload.take::<Q>() {
        Err(why) => reply.refuse(RpcError::Invalid { why }),
        Ok(request) => {
            reply.begin();
            step(state, cx, request).deliver(move |result| reply.answer(result));
        }
    })
}

/// The handler of a tell.
pub fn tell<E, Q>(step: fn(&mut E, &mut Context<E>, Q)) -> Handler<E>
where
    E: RpcEndpoint,
    Q: Message + Default + 'static,
{
    Box::new(move |state, cx, payload, mut reply| match payload.take::<Q>() {
        Err(why) => reply.refuse(RpcError::Invalid { why }),
        Ok(request) => {
            reply.begin();
            step(state, cx, request);
            reply.told();
        }
    })
}

/// The dispatch table of an interface.
pub fn served<E: RpcEndpoint>(interface: &'static InterfaceInfo, handlers: Vec<Handler<E>>) -> Served<E> {
    assert_eq!(interface.methods.len(), handlers.len(), "the generator writes one handler for each method");
    debug_assert!(interface.methods.iter().all(|method| matches!(method.kind, MethodKind::Tell | MethodKind::Ask)));
    Served { interface, handlers: handlers.into() }
}
