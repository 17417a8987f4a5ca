//! What the store says about leaderships, in this crate's own types: a message that makes no sense is an error here and
//! nowhere later.

use std::collections::BTreeMap;

use palisade_fence::{ClusterId, Fence, Token};
use palisade_wire::coord::v1;

use crate::{Error, ErrorKind};

/// Where an answer or an event stands in the order of everything.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Header {
    /// Names the cluster for life.
    pub cluster: ClusterId,
    /// Raised by a restore from a backup; `seq`s of different generations are not compared.
    pub generation: u32,
    /// +1 for every command applied; in the answer to a command: that command's own.
    pub seq: u64,
    /// +1 for every command that changed a key.
    pub revision: u64,
}

impl Header {
    pub(crate) fn of(header: Option<&v1::Header>) -> Header {
        header.map_or_else(Header::default, |it| Header {
            cluster: ClusterId(it.cluster_id),
            generation: it.generation,
            seq: it.seq,
            revision: it.revision,
        })
    }
}

/// What observers need to reach a leader; 64 KiB at most, encoded.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Value {
    /// Where the leader is reached; empty until it has proclaimed one.
    pub address: String,
    /// Further addresses by component name.
    pub components: BTreeMap<String, String>,
    /// Anything else.
    pub data: Vec<u8>,
}

impl Value {
    /// A value that is only an address.
    pub fn at(address: impl Into<String>) -> Value {
        Value { address: address.into(), ..Value::default() }
    }

    pub(crate) fn to_wire(&self) -> v1::LeaderValue {
        v1::LeaderValue { address: self.address.clone(), components: self.components.clone(), data: self.data.clone() }
    }

    pub(crate) fn of(value: v1::LeaderValue) -> Value {
        Value { address: value.address, components: value.components, data: value.data }
    }
}

/// A leadership: a candidate holds an election.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Grant {
    /// Name of the election.
    pub election: String,
    /// The candidate's id.
    pub candidate: String,
    /// The candidate's session.
    pub session: u64,
    /// Names the candidacy within its session.
    pub serial: u64,
    /// The fencing token: rises with every grant.
    pub token: Token,
    /// Of the command that granted it.
    pub seq: u64,
    /// When, by the wall clock of the store leader; for people.
    pub since_unix_ms: u64,
    /// What the leader has proclaimed.
    pub value: Value,
}

impl Grant {
    /// `ELECTION:TOKEN`.
    pub fn fence(&self) -> Fence {
        Fence { election: self.election.clone(), token: self.token }
    }

    pub(crate) fn of(grant: v1::Grant) -> Result<Grant, Error> {
        let Some(token) = Token::from_wire(grant.token) else {
            let message = format!("the store sent a grant without a valid token: {}", grant.token);
            return Err(Error::unknown(ErrorKind::BadAnswer, message));
        };
        Ok(Grant {
            election: grant.election,
            candidate: grant.candidate_id,
            session: grant.session,
            serial: grant.serial,
            token,
            seq: grant.seq,
            since_unix_ms: grant.since_unix_ms,
            value: Value::of(grant.value.unwrap_or_default()),
        })
    }
}
