//! Which level the program of each member knows: asked by the store leader before the level of the state is raised.
//!
//! Keeps true: while the answers are held, nobody becomes a member, so that they stay the answers of all; and they count for the
//! leadership alone that asked, which knew of every change of the members, and of the level, when it did.

use std::sync::Arc;

use futures_util::future::join_all;
use tokio::sync::OwnedSemaphorePermit;

use crate::replica::Replica;
use crate::{ChangeError, Leadership, Machine, Peer};

/// What the members say. No change of the members is made while it is held. Whoever proposes something because of it proposes it under
/// its leadership, and holds it until that has an outcome, whether or not anybody waits for that.
pub struct Levels {
    /// Confirmed before anybody was asked.
    pub leadership: Leadership,
    /// Of the state, with all that was acknowledged before this leadership.
    pub at: u32,
    /// Each member, and the highest level that it knows, 0 if its program is from before levels; `None`: it does not answer, or has
    /// not joined.
    pub members: Vec<(Peer, Option<u32>)>,
    _turn: OwnedSemaphorePermit,
}

impl<M: Machine> Replica<M> {
    /// Asks every member now, if this node leads the store. Ends within about a second and the election timeout.
    pub async fn levels(&self) -> Result<Levels, ChangeError> {
        let turn = Arc::clone(&self.0.changing).try_acquire_owned();
        let turn = turn.map_err(|_| ChangeError::Busy { why: "a change of the members is under way".to_owned() })?;
        let leadership = self.0.confirm_applied().await?;
        let (own, level) = (self.0.credentials.node_id, self.0.credentials.machine.level());
        let asked = self.members().members.into_iter().map(|state| async move {
            let peer = state.member.peer;
            if peer.node_id == own {
                return (peer, Some(level.known));
            }
            let hello = self.hello(&peer.address).await.ok();
            let hello = hello.filter(|hello| (hello.node_id, hello.store_id) == (peer.node_id, peer.store_id));
            (peer, hello.map(|hello| hello.level.known))
        });
        Ok(Levels { leadership, at: level.at, members: join_all(asked).await, _turn: turn })
    }
}
