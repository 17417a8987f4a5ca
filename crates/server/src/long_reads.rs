//! Reads that look at many keys. They are made on a copy of the state, off the threads that serve everything else, and a few at
//! once: no command and no keep-alive waits for one, however many ask.

use std::sync::Arc;

use palisade_coord_core::keys::op::Read;
use palisade_coord_core::limits::LONG_READ;
use palisade_wire::convert;
use palisade_wire::coord::v1::error_detail::Kind;
use palisade_wire::coord::v1::{ErrorDetail, RangeReply};
use palisade_wire::status;
use tokio::sync::Semaphore;

use crate::api::{ANSWER_LIMIT, Api};

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

    /// Reads in the state as it is when there is a place, which is no older than when it was asked for. It goes on by itself, so that
    /// a place is never kept for somebody who does not look; whoever drops it takes it back.
    ///
    /// # Errors
    /// Not applied: there was no place for [`ANSWER_LIMIT`], or what was asked for is not known.
    pub(crate) fn begin(
        &self,
        api: &Api,
        read: Read,
    ) -> impl Future<Output = Result<RangeReply, ErrorDetail>> + Send + use<> {
        let (places, machine, world) = (Arc::clone(&self.0), Arc::clone(&api.machine), api.world.clone());
        let work = async move {
            let Some(Ok(place)) = world.timeout(ANSWER_LIMIT, places.acquire_owned()).await else {
                let limit = format!("{AT_ONCE} reads of more than {LONG_READ} keys at once");
                return Err(ErrorDetail { limit, ..status::not_applied(Kind::Overloaded, "repeat it a little later") });
            };
            let (frozen, header) = machine.read(|state| (state.freeze(), convert::header(state)));
            let look = move || {
                let _place = place;
                match frozen.read(&read) {
                    Ok(findings) => {
                        Ok(RangeReply { header: Some(header), result: Some(convert::range_result(&findings)) })
                    }
                    Err(why) => Err(convert::refusal(&why, header)),
                }
            };
            world.blocking("long-read", look).await.map_err(|_| stopped())?
        };
        let task = api.world.spawn("long-read", work);
        async move { task.await.map_err(|_| stopped())? }
    }
}

fn stopped() -> ErrorDetail {
    status::not_applied(Kind::NoStoreLeader, "the node stops; repeat it")
}
