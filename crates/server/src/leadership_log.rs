//! Tells in the log who leads the store, and what this node is. It changes nothing.

use palisade_replica::Replica;
use palisade_world::{Task, World};

use crate::machine::CoordMachine;

/// Starts telling.
pub(crate) fn start(node_id: u64, replica: &Replica<CoordMachine>, world: &World) -> Task<()> {
    let mut status = replica.status();
    world.spawn("leadership log", async move {
        let mut told = None;
        loop {
            let (term, role, leader, ready) = {
                let now = status.borrow_and_update();
                (now.term, now.role, now.store_leader.clone(), now.leadership.is_some())
            };
            let news = (role, leader.as_ref().map(|leader| leader.node_id), ready);
            if told != Some(news) {
                let leader = leader
                    .map_or_else(|| "none".to_owned(), |leader| format!("{} ({})", leader.node_id, leader.address));
                tracing::info!(node = node_id, %role, term, store_leader = %leader, ready, "store leadership");
                told = Some(news);
            }
            if status.changed().await.is_err() {
                return;
            }
        }
    })
}
