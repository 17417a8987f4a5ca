//! What is said to a caller whose request has no outcome. Each sentence says what is known; nothing here is decided.

use palisade_planted::{self as planted, Bug};
use palisade_replica::{ChangeError, Peer, ReadError, Refusal};
use palisade_wire::coord::v1::error_detail::Kind;
use palisade_wire::coord::v1::{ErrorDetail, StoreLeader};
use palisade_wire::status::{not_applied, unknown};

use crate::proposer::SubmitError;
use crate::raise::NotRaised;

/// A command that has no outcome.
pub(crate) fn of_submit(error: SubmitError) -> ErrorDetail {
    match error {
        SubmitError::Unknown { .. } if planted::is(Bug::UnknownAsNotApplied) => no_store_leader(),
        SubmitError::NotStoreLeader { hint } => not_store_leader(hint),
        SubmitError::NoStoreLeader => no_store_leader(),
        SubmitError::Overloaded => ErrorDetail {
            limit: "the queue of writes is full".to_owned(),
            ..not_applied(Kind::Overloaded, "repeat it a little later")
        },
        SubmitError::DiskFull => not_applied(Kind::DiskFull, "free space on the disk of the store leader"),
        error @ SubmitError::Level { .. } => ErrorDetail {
            limit: error.to_string(),
            ..not_applied(Kind::Level, "upgrade all nodes, and raise the level")
        },
        SubmitError::Unknown { why } => unknown(Kind::LostLeadership, why),
    }
}

/// A read that was not served. A read has no effect, so all of these are safe to repeat.
pub(crate) fn of_read(error: ReadError) -> ErrorDetail {
    match error {
        ReadError::NotLeader { hint: Some(peer) } => not_store_leader(Some(peer)),
        ReadError::NotLeader { hint: None } => no_store_leader(),
        error => not_applied(Kind::NoStoreLeader, error.to_string()),
    }
}

/// A change of the members, or of who leads the store, that was not made.
pub(crate) fn of_change(error: ChangeError) -> ErrorDetail {
    match error {
        ChangeError::NotLeader { hint: Some(peer) } => not_store_leader(Some(peer)),
        ChangeError::NotLeader { hint: None } => no_store_leader(),
        // A race: the same request may be made again as it is.
        ChangeError::Busy { why } => not_applied(Kind::Unspecified, why),
        ChangeError::Unknown { why } => unknown(Kind::LostLeadership, why),
        ChangeError::Refused(refusal) => {
            let kind = match refusal {
                Refusal::NotAMember { .. } => "see 'palisade cluster members'",
                Refusal::NotJoined { .. } | Refusal::Silent { .. } | Refusal::Behind { .. } => "nothing was changed",
                _ => "",
            };
            ErrorDetail { limit: refusal.to_string(), ..not_applied(Kind::Membership, kind) }
        }
    }
}

/// A level that cannot be reached as things stand; nothing was changed.
pub(crate) fn of_level(why: NotRaised) -> ErrorDetail {
    ErrorDetail { limit: why.to_string(), ..not_applied(Kind::Level, "nothing was changed") }
}

/// "Ask that node."
pub(crate) fn not_store_leader(hint: Option<Peer>) -> ErrorDetail {
    ErrorDetail {
        store_leader: hint.map(|peer| store_leader(&peer)),
        ..not_applied(Kind::NotStoreLeader, "ask the store leader")
    }
}

/// "Nobody can answer this now."
pub(crate) fn no_store_leader() -> ErrorDetail {
    not_applied(Kind::NoStoreLeader, "repeat it a little later, at any node")
}

/// "This node cannot even answer from what it has."
pub(crate) fn no_state() -> ErrorDetail {
    not_applied(Kind::NoStoreLeader, "this node has heard of no cluster yet; ask another one")
}

/// A node to ask, as it is told to clients.
pub(crate) fn store_leader(peer: &Peer) -> StoreLeader {
    StoreLeader { node_id: peer.node_id, address: peer.address.clone() }
}

#[cfg(test)]
mod tests {
    use palisade_wire::coord::v1::error_detail::Outcome;

    use super::*;

    #[test]
    fn only_an_unknown_outcome_is_said_to_be_unknown() {
        let unknown = SubmitError::Unknown { why: "the node stops".to_owned() };
        assert_eq!(of_submit(unknown).outcome(), Outcome::Unknown);
        for error in [SubmitError::NoStoreLeader, SubmitError::Overloaded, SubmitError::DiskFull] {
            assert_eq!(of_submit(error).outcome(), Outcome::NotApplied);
        }
    }

    #[cfg(feature = "planted")]
    #[test]
    fn the_planted_bug_that_says_not_applied_of_an_unknown_outcome_is_caught() {
        let check = only_an_unknown_outcome_is_said_to_be_unknown;
        assert!(palisade_planted::caught(Bug::UnknownAsNotApplied, check).is_some());
    }
}
