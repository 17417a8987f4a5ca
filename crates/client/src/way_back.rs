//! The way back to a store leader that did not answer: while streams are forwarded for this client, one task per client asks now
//! and then whether the store leader answers again. Many streams share it; it ends with the last of them.
//!
//! It moves no stream: whoever owns one does that when it hears of it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use palisade_wire::coord::v1::StatusRequest;
use palisade_wire::coord::v1::cluster_service_client::ClusterServiceClient;
use palisade_world::Task;
use tokio::sync::watch;

use crate::backoff::AT_MOST;
use crate::links::Purpose;
use crate::requests::Shared;

/// How long it may take to answer: a connection over a bad link, and one round trip.
const ANSWER: Duration = Duration::from_secs(1);

/// What `role` says of the node that leads.
const LEADS: &str = "leader";

/// The ways that are being looked for, by the store leader's address.
#[derive(Debug, Default)]
pub(crate) struct WaysBack(Mutex<BTreeMap<String, Weak<WayBack>>>);

/// Looks for one store leader until it is dropped.
#[derive(Debug)]
pub(crate) struct WayBack {
    pub(crate) leader: String,
    found: watch::Receiver<bool>,
    /// Ends with this handle.
    _task: Task<()>,
}

impl WayBack {
    /// Waits until the store leader has answered this client. Cancelling it is harmless.
    pub(crate) async fn found(&self) {
        if self.found.clone().wait_for(|found| *found).await.is_err() {
            std::future::pending::<()>().await; // the task is gone, and with it the runtime
        }
    }
}

/// Somebody is served by way of another node than this store leader.
pub(crate) fn way_back_to(shared: &Arc<Shared>, leader: &str) -> Arc<WayBack> {
    let mut ways = shared.ways_back.0.lock().unwrap_or_else(PoisonError::into_inner);
    // One that has been found is over: whoever comes now was not served directly after all.
    let open = |way: &Arc<WayBack>| !*way.found.borrow();
    ways.retain(|_, way| way.upgrade().as_ref().is_some_and(open));
    if let Some(way) = ways.get(leader).and_then(Weak::upgrade) {
        return way;
    }
    let (tell, found) = watch::channel(false);
    let look = look(Arc::clone(shared), leader.to_owned(), tell);
    let task = shared.world.spawn("palisade-way-back", look);
    let way = Arc::new(WayBack { leader: leader.to_owned(), found, _task: task });
    ways.insert(leader.to_owned(), Arc::downgrade(&way));
    way
}

async fn look(shared: Arc<Shared>, leader: String, found: watch::Sender<bool>) {
    loop {
        // Nobody is without an answer meanwhile. Never at once: a node that answers this question and then serves no stream must
        // not be asked for one over and over.
        let half = AT_MOST / 2;
        shared.world.sleep(half + shared.world.jitter(half)).await;
        let Ok(channel) = shared.links.channel(Purpose::Requests, &leader) else { continue };
        match shared.world.timeout(ANSWER, ClusterServiceClient::new(channel).status(StatusRequest {})).await {
            // Another one would end the forwarded streams by itself.
            Some(Ok(status)) if status.get_ref().role == LEADS => {
                tracing::debug!(leader, "the store leader answers again");
                shared.links.leads(&leader);
                found.send_replace(true);
                return;
            }
            Some(Ok(_) | Err(_)) => {}
            None => shared.links.forget(Purpose::Requests, &leader),
        }
    }
}
