//! What others than its client ask about a session: its end, and a list of all. No stream, no deadline is touched from here: what
//! a command brings about reaches the driver as an event.

use std::ops::Bound;

use palisade_coord_core::Reply;
use palisade_wire::coord::v1::{CloseSessionReply, CloseSessionRequest, ListSessionsReply, ListSessionsRequest};
use palisade_wire::{convert, status};
use palisade_world::World;
use tonic::Status;

use super::backend::SessionBackend;
use super::commands::{PROPOSAL_LIMIT, no_outcome};
use crate::api::{Fresh, wrong_reply};
use crate::refusals;

/// Sessions in one part of a list: below a megabyte, and about a millisecond under the state's lock.
const LISTED: usize = 10_000;

/// Ends a session, or asks its client to.
pub(super) async fn close<B: SessionBackend>(
    backend: &B,
    world: &World,
    request: CloseSessionRequest,
) -> Result<CloseSessionReply, Status> {
    let command = convert::close_session(request, world.unix_ms()).map_err(status::refuse)?;
    let op = command.op.clone();
    let outcome = world.timeout(PROPOSAL_LIMIT, backend.submit(command)).await.unwrap_or_else(no_outcome);
    let outcome = outcome.map_err(status::refuse)?;
    let (cluster, generation) = backend.read(|state| (state.cluster().unwrap_or_default(), state.generation()));
    let header = convert::header_at(cluster, generation, &outcome);
    match outcome.reply {
        Ok(Reply::SessionEnded) => Ok(CloseSessionReply { header: Some(header), requested: None }),
        Ok(Reply::Requested { session }) => {
            let requested = backend.read(|state| convert::end_is_asked(convert::losing(state, session, &op)));
            Ok(CloseSessionReply { header: Some(header), requested: Some(requested) })
        }
        Ok(other) => Err(wrong_reply(&other)),
        Err(refusal) => Err(status::refuse(convert::refusal(&refusal, header))),
    }
}

/// One part of the list of sessions.
pub(super) async fn list<B: SessionBackend>(
    backend: &B,
    request: &ListSessionsRequest,
) -> Result<ListSessionsReply, Status> {
    match Fresh::of(request.serializable) {
        Fresh::Linearizable => backend.barrier().await?,
        Fresh::Serializable if backend.read(|state| state.cluster().is_none()) => {
            return Err(status::refuse(refusals::no_state()));
        }
        Fresh::Serializable => {}
    }
    Ok(backend.read(|state| {
        let from = convert::sessions_after(request.after).map_or(Bound::Unbounded, Bound::Excluded);
        let mut sessions = state.sessions_from(from);
        let listed = sessions.by_ref().take(LISTED).map(|(id, session)| convert::session_summary(state, id, session));
        let listed = listed.collect();
        ListSessionsReply { header: Some(convert::header(state)), sessions: listed, more: sessions.next().is_some() }
    }))
}
