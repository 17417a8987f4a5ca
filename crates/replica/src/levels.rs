//! Which level the program of each member knows: asked by the store leader before the level of the state is raised.
//!
//! Keeps true: while the answers are held, nobody becomes a member, so that they stay the answers of all.

use futures_util::future::join_all;
use tokio::sync::SemaphorePermit;

use crate::replica::Replica;
use crate::{ChangeError, Machine, Peer};

/// What the members say. No change of the members is made while it is held.
pub struct Levels<'a> {
    /// Each member, and the highest level that it knows; `None`: it does not answer, or has not joined.
    pub members: Vec<(Peer, Option<u32>)>,
    _turn: SemaphorePermit<'a>,
}

impl<M: Machine> Replica<M> {
    /// Asks every member now, if this node leads the store. Ends within about a second and the election timeout.
    pub async fn levels(&self) -> Result<Levels<'_>, ChangeError> {
        let turn = self.0.changing.try_acquire();
        let turn = turn.map_err(|_| ChangeError::Busy { why: "a change of the members is under way".to_owned() })?;
        self.0.confirm().await?;
        let own = self.0.credentials.node_id;
        let asked = self.members().members.into_iter().map(|state| async move {
            let peer = state.member.peer;
            if peer.node_id == own {
                return (peer, Some(self.0.credentials.machine.level().known));
            }
            let hello = self.hello(&peer.address).await.ok();
            let hello = hello.filter(|hello| (hello.node_id, hello.store_id) == (peer.node_id, peer.store_id));
            (peer, hello.map(|hello| hello.level.known))
        });
        Ok(Levels { members: join_all(asked).await, _turn: turn })
    }
}
