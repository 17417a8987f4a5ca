//! Why a change of the members is not made, in words that say what to do.

/// The change would be wrong as things stand; nothing was changed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// There is no such node.
    #[error("node {node_id} is not a member of the cluster")]
    NotAMember {
        /// Who was meant.
        node_id: u64,
        /// The node that says so.
        by: u64,
        /// The highest id that the cluster ever had.
        highest: u64,
    },
    /// The id was used before, or lies below one that was.
    #[error("node id {node_id} cannot be used: an id is used once, in rising order; give it an id above {highest}")]
    IdUsedBefore {
        /// The id.
        node_id: u64,
        /// The highest that was used.
        highest: u64,
    },
    /// The node has another address.
    #[error("node {node_id} was added with the address {address}; to move it, remove it and add it under a new id")]
    OtherAddress {
        /// The node.
        node_id: u64,
        /// Its address.
        address: String,
    },
    /// Another node has the address.
    #[error("{address} is the address of node {by}")]
    AddressInUse {
        /// The address.
        address: String,
        /// Whose it is.
        by: u64,
    },
    /// The node is bound to another store.
    #[error("node {node_id} has another store: its store was lost; remove it and add it under a new id")]
    OtherStore {
        /// The node.
        node_id: u64,
        /// The node that says so.
        by: u64,
        /// The store that it is bound to.
        store_id: u64,
    },
    /// The store is another node's: a folder was copied.
    #[error("the store {store_id:016x} is node {by}'s: a data folder was copied; give node {node_id} an empty one")]
    StoreInUse {
        /// The node that came with it.
        node_id: u64,
        /// Whose it is.
        by: u64,
        /// The store.
        store_id: u64,
    },
    /// It was added and never came.
    #[error("node {node_id} has not joined yet: start it there with --id {node_id} --join, to be reached at {address}")]
    NotJoined {
        /// The node.
        node_id: u64,
        /// Where it is expected.
        address: String,
    },
    /// It does not answer.
    #[error("node {node_id} ({address}) does not answer")]
    Silent {
        /// The node.
        node_id: u64,
        /// Where it should.
        address: String,
    },
    /// It has not caught up.
    #[error(
        "node {node_id} has not caught up: {far}; repeat it later",
        far = entries.map_or("it is not known how far it is".to_owned(), |it| format!("it is {it} log entries behind"))
    )]
    Behind {
        /// The node.
        node_id: u64,
        /// How many entries it lacks, if that is known.
        entries: Option<u64>,
    },
    /// It does not vote.
    #[error("node {node_id} does not vote; promote it first")]
    NotAVoter {
        /// The node.
        node_id: u64,
    },
    /// Nobody would be left to vote.
    #[error("node {node_id} is the only one that votes")]
    LastVoter {
        /// The node.
        node_id: u64,
    },
    /// No majority would answer after the change.
    #[error(
        "the cluster would stop: only {answer} of {of} voters would answer (silent: {names}); bring those back, or remove them first",
        names = silent.iter().map(|id| format!("node {id}")).collect::<Vec<_>>().join(", ")
    )]
    NoMajority {
        /// Voters after the change.
        of: usize,
        /// Those of them that answer.
        answer: usize,
        /// The others.
        silent: Vec<u64>,
    },
    /// There are as many as there may be.
    #[error("a cluster has at most {limit} {what}")]
    TooMany {
        /// What.
        what: &'static str,
        /// How many.
        limit: usize,
    },
}

/// A change of the members, or of who leads the store, was not made.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ChangeError {
    /// Not made: this must not be, as things stand.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Not made: another node leads, or nobody does. Ask that one.
    #[error("this node does not lead the store")]
    NotLeader {
        /// Who leads, if known.
        hint: Option<crate::Peer>,
    },
    /// Not made: another change is under way, or this store leader is too new. Repeat it a little later.
    #[error("{why}")]
    Busy {
        /// What is in the way.
        why: String,
    },
    /// It may have been made, or may yet be. Repeating it is safe.
    #[error("the outcome is unknown: {why}")]
    Unknown {
        /// What broke.
        why: String,
    },
}
