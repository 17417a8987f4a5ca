//! Reads that look at many keys. They are made on a copy of the state, off the threads that serve everything else, and a few at
//! once: no command and no keep-alive waits for one, however many ask.

use std::sync::Arc;

use palisade_coord_core::keys::op::Read;
use palisade_wire::convert;
use palisade_wire::coord::v1::error_detail::Kind;
use palisade_wire::coord::v1::{ErrorDetail, RangeReply};
use palisade_wire::status;
use palisade_world::World;
use tokio::sync::Semaphore;

use crate::machine::CoordMachine;

/// Long reads of a node at once; the others wait. Each keeps a core busy for up to a second, and what is written meanwhile is
/// kept twice.
const AT_ONCE: usize = 2;

/// Where they are made. Clones share the places.
#[derive(Clone, Debug)]
pub(crate) struct LongReads(Arc<Semaphore>);

impl LongReads {
    pub(crate) fn new() -> LongReads {
        LongReads(Arc::new(Semaphore::new(AT_ONCE)))
    }

    /// Reads in the state as it is when there is a place, which is no older than when it was asked for. Cancelling it gives the
    /// place back when what was begun has ended.
    pub(crate) async fn read(
        &self,
        machine: &CoordMachine,
        world: &World,
        read: Read,
    ) -> Result<RangeReply, ErrorDetail> {
        let stopped = || status::not_applied(Kind::NoStoreLeader, "the node stops; repeat it");
        let place = Arc::clone(&self.0).acquire_owned().await.map_err(|_| stopped())?;
        let (frozen, header) = machine.read(|state| (state.freeze(), convert::header(state)));
        let work = move || {
            let _place = place;
            match frozen.read(&read) {
                Ok(findings) => Ok(RangeReply { header: Some(header), result: Some(convert::range_result(&findings)) }),
                Err(why) => Err(convert::refusal(&why, header)),
            }
        };
        world.blocking("long-read", work).await.map_err(|_| stopped())?
    }
}
