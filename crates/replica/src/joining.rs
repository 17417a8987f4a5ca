//! How a node that was added says which store it has: it asks a member, which leads the store or says who does.

use palisade_wire::replica::v1 as wire;
use palisade_wire::replica::v1::join_reply::Outcome;

use crate::changes::NotBound;
use crate::membership::Change;
use crate::replica::{HELLO_LIMIT, Inner, Replica};
use crate::{ChangeError, HelloError, Machine, Refusal};

/// What a member says to a node that wants to join.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum JoinAnswer {
    /// The membership names the asker's store.
    Joined,
    /// The membership names no such node.
    NotAMember {
        /// Who says so.
        by: u64,
        /// A new node needs an id above this one.
        highest: u64,
    },
    /// The id is bound to another store.
    OtherStore {
        /// Who says so.
        by: u64,
        /// The store.
        known: u64,
    },
    /// The node was added with another address.
    OtherAddress {
        /// Who says so.
        by: u64,
        /// The address.
        address: String,
    },
    /// The cluster is at a level that this program does not know.
    LevelUnknown {
        /// Who says so.
        by: u64,
        /// The level.
        level: u32,
    },
    /// It does not lead the store, or cannot change anything now.
    AskElsewhere {
        /// Who does, if known.
        leader: Option<String>,
        /// Why.
        why: String,
    },
}

impl<M: Machine> Replica<M> {
    /// Says to the member at an address which store this node has. `own_address`: where the others reach this one. Safe to repeat.
    pub async fn ask_to_join(&self, address: &str, own_address: &str) -> Result<JoinAnswer, HelloError> {
        let mut client = self.0.links.stranger(address).map_err(|bad| HelloError::Address(bad.to_string()))?;
        let (node_id, store_id) = (self.0.credentials.node_id, self.0.credentials.store_id);
        let level = self.0.credentials.machine.level().known;
        let request = wire::JoinRequest { node_id, store_id, address: own_address.to_owned(), level };
        let no_answer = |why: String| HelloError::NoAnswer { address: address.to_owned(), why };
        // As long as a committed change may take.
        let answer = match self.0.world.timeout(HELLO_LIMIT * 3, client.join(request)).await {
            None => return Err(no_answer("not in time".to_owned())),
            Some(Err(status)) => return Err(no_answer(format!("{:?}: {}", status.code(), status.message()))),
            Some(Ok(reply)) => reply.into_inner(),
        };
        Ok(match answer.outcome {
            Some(Outcome::Joined(wire::Joined {})) => JoinAnswer::Joined,
            Some(Outcome::NotAMember(wire::NotAMember { by, highest_id })) => {
                JoinAnswer::NotAMember { by, highest: highest_id }
            }
            Some(Outcome::OtherStore(wire::OtherStore { by, store_id })) => {
                JoinAnswer::OtherStore { by, known: store_id }
            }
            Some(Outcome::OtherAddress(wire::OtherAddress { by, address })) => JoinAnswer::OtherAddress { by, address },
            Some(Outcome::AskElsewhere(wire::AskElsewhere { store_leader, why })) => {
                JoinAnswer::AskElsewhere { leader: Some(store_leader).filter(|it| !it.is_empty()), why }
            }
            Some(Outcome::LevelUnknown(wire::LevelUnknown { by, level })) => JoinAnswer::LevelUnknown { by, level },
            None => return Err(no_answer("an answer that says nothing".to_owned())),
        })
    }
}

impl<M: Machine> Inner<M> {
    /// A node says which store it has.
    pub(crate) async fn join(&self, asker: wire::JoinRequest) -> wire::JoinReply {
        let wire::JoinRequest { node_id, store_id, address, level: knows } = asker;
        let by = self.credentials.node_id;
        let elsewhere = |leader: Option<String>, why: String| {
            Outcome::AskElsewhere(wire::AskElsewhere { store_leader: leader.unwrap_or_default(), why })
        };
        // What this node knows of the level may be too low, and never too high. The store leader looks again before it writes.
        let level = self.credentials.machine.level().at;
        let outcome = if store_id == 0 {
            elsewhere(None, "a node says which store it has".to_owned())
        } else if knows.max(1) < level {
            Outcome::LevelUnknown(wire::LevelUnknown { by, level })
        } else {
            match self.bind(&Change::Bind { node_id, store_id, address }, knows.max(1)).await {
                Ok(_) => Outcome::Joined(wire::Joined {}),
                Err(NotBound::LevelUnknown { level }) => Outcome::LevelUnknown(wire::LevelUnknown { by, level }),
                Err(NotBound::Change(refused)) => match refused {
                    ChangeError::Refused(Refusal::NotAMember { highest, .. }) => {
                        Outcome::NotAMember(wire::NotAMember { by, highest_id: highest })
                    }
                    ChangeError::Refused(Refusal::OtherStore { store_id, .. }) => {
                        Outcome::OtherStore(wire::OtherStore { by, store_id })
                    }
                    ChangeError::Refused(Refusal::OtherAddress { address, .. }) => {
                        Outcome::OtherAddress(wire::OtherAddress { by, address })
                    }
                    ChangeError::NotLeader { hint } => {
                        elsewhere(hint.map(|peer| peer.address), "this node does not lead the store".to_owned())
                    }
                    error @ (ChangeError::Refused(_) | ChangeError::Busy { .. } | ChangeError::Unknown { .. }) => {
                        elsewhere(None, error.to_string())
                    }
                },
            }
        };
        wire::JoinReply { cluster_id: self.credentials.machine.cluster().id, outcome: Some(outcome) }
    }
}
