//! How a node comes to belong to a cluster: a pure judgement of what the other nodes say. [`crate::joining`] asks them and
//! carries the judgement out.
//!
//! Keeps true: a node with an empty store votes for nobody before it has heard that its store is the one that the cluster
//! knows under its id, or that no cluster exists yet; and the first cluster forms only when every node that `--initial`
//! names has told its store id. So no wiped store can be taken for the one that was lost. A cluster that begins with a backup forms
//! only when all of them bring the same one; and a node of another generation of the cluster counts for nothing.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use palisade_fence::ClusterId;
use palisade_planted::{self as planted, Bug};
use palisade_replica::{Peer, Restored};

/// This node, before it knows whether it belongs.
#[derive(Clone, Debug)]
pub(crate) struct Own {
    pub(crate) node_id: u64,
    pub(crate) store_id: u64,
    /// Where the others reach it.
    pub(crate) address: String,
    /// Whether its store holds a cluster's log.
    pub(crate) store: Store,
    /// The cluster that the store belongs to, if it holds its name.
    pub(crate) cluster: Option<ClusterId>,
    /// Of that cluster.
    pub(crate) generation: u32,
    /// The backup in a fresh store.
    pub(crate) restored: Option<Restored>,
    /// The highest level that this program knows.
    pub(crate) known_level: u32,
    /// Tells this process from another one on a copy of its folder; 0: nothing does.
    pub(crate) process: u64,
    /// The last entry of its log, or of what its snapshot covers. Read after the answers that it is judged by.
    pub(crate) last: Option<u64>,
}

/// What a store holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Store {
    /// Nothing: new, or lost.
    Fresh,
    /// A cluster's log.
    InUse,
}

/// What the node at one address says about itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Told {
    pub(crate) node_id: u64,
    pub(crate) store_id: u64,
    /// The cluster that it belongs to, once that has a name.
    pub(crate) cluster: Option<ClusterId>,
    /// Of that cluster.
    pub(crate) generation: u32,
    /// The backup in its store, until its cluster is formed.
    pub(crate) restored: Option<Restored>,
    /// The level of its cluster.
    pub(crate) level: u32,
    /// Whether it has a membership.
    pub(crate) store: Store,
    /// The store id that its membership names for the asking node; `None`: it names no such node.
    pub(crate) names_me: Option<u64>,
    /// Drawn when it started; 0: unknown.
    pub(crate) process: u64,
    /// The highest committed entry that it has heard the asking node's store acknowledge.
    pub(crate) acknowledged: Option<u64>,
    /// The asking node was a member and is none any more.
    pub(crate) removed_me: bool,
}

/// Where this node stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Standing {
    /// Nobody may be voted for: these have not said who they are.
    Waiting {
        /// The nodes, as `ID (ADDRESS)`.
        missing: Vec<String>,
    },
    /// It belongs; it may vote.
    Member,
    /// It was added to a running cluster, which does not know its store yet; the node that says so is reached there.
    Added(String),
    /// No cluster exists, all have reported, and this node is the one that forms it.
    Forms {
        /// With these members.
        peers: Vec<Peer>,
        /// With the state of the backup that all of them bring, in this generation.
        generation: Option<u32>,
    },
    /// It does not belong, and must stop.
    Refused(Misfit),
}

/// Why a node must stop.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Misfit {
    /// The cluster knows another store under this node's id.
    #[error(
        "this node's store is lost: remove it and add it under a new id (node {by} knows node {node_id} with the store \
         {known:016x}, not {own:016x})"
    )]
    StoreLost {
        /// This node.
        node_id: u64,
        /// The node that says so.
        by: u64,
        /// The store that the cluster knows.
        known: u64,
        /// This node's store.
        own: u64,
    },
    /// The cluster exists and has no such member.
    #[error(
        "node {node_id} is not a member of the cluster that node {by} belongs to: add it there first, with \
         'palisade cluster add {node_id} {address}'"
    )]
    NotAMember {
        /// This node.
        node_id: u64,
        /// The node that says so.
        by: u64,
        /// Where this node is reached.
        address: String,
    },
    /// It was a member, or its id was used.
    #[error(
        "node {node_id} is not a member of the cluster that node {by} belongs to any more: it was removed, or a higher id was used \
         before; its data folder is of no use now. To bring this machine back, give it an empty folder and add it under a new id"
    )]
    Removed {
        /// This node.
        node_id: u64,
        /// The node that says so.
        by: u64,
    },
    /// It was added with another address.
    #[error(
        "node {node_id} was added with the address {added}, and it is reached at {own}: start it with --advertise {added}, or \
         remove it and add it under a new id"
    )]
    OtherAddress {
        /// This node.
        node_id: u64,
        /// What `cluster add` was told.
        added: String,
        /// What it was told itself.
        own: String,
    },
    /// Another process answers at this node's address.
    #[error(
        "node id {node_id} is used twice: another process with the store {other:016x} answers at {address} (this one has \
         the store {own:016x})"
    )]
    IdUsedTwice {
        /// The id.
        node_id: u64,
        /// Where the other answers.
        address: String,
        /// The other's store.
        other: u64,
        /// This node's store.
        own: u64,
    },
    /// Another process with this node's own store answers at its address.
    #[error(
        "a data folder was copied: another process with the same store {store:016x} answers at {address} as node {node_id}; \
         remove the copy, for two nodes of one store can lose what was acknowledged"
    )]
    FolderCopied {
        /// This node.
        node_id: u64,
        /// Where the other answers.
        address: String,
        /// The store of both.
        store: u64,
    },
    /// The store has forgotten what it had acknowledged.
    #[error(
        "this node's store is lost: remove it and add it under a new id (node {by} knows that node {node_id} had acknowledged \
         entry {acknowledged}, and its log ends {end}: the data folder was replaced by an older copy)",
        end = last.map_or("before the first entry".to_owned(), |last| format!("with entry {last}"))
    )]
    OlderCopy {
        /// This node.
        node_id: u64,
        /// The node that says so.
        by: u64,
        /// What was acknowledged.
        acknowledged: u64,
        /// What is there.
        last: Option<u64>,
    },
    /// The store was written in another cluster.
    #[error("the data folder belongs to cluster {own}, and the node at {address} to cluster {other}")]
    OtherCluster {
        /// The folder's cluster.
        own: ClusterId,
        /// The peer's cluster.
        other: ClusterId,
        /// The peer.
        address: String,
    },
    /// The cluster was restored from a backup, and this store is from before that.
    #[error(
        "the data folder has generation {own} of cluster {cluster}, and the node at {address} generation {other}: the cluster was \
         restored from a backup, and this folder is of the cluster before that. If that is as it should be, this node is not needed \
         any more; give it an empty folder and add it under a new id"
    )]
    Outlived {
        /// Of both.
        cluster: ClusterId,
        /// The folder's generation.
        own: u32,
        /// The peer's generation.
        other: u32,
        /// The peer.
        address: String,
    },
    /// The cluster is at a level that this program does not know.
    #[error(
        "downgrade refused: node {by} says that the cluster is at level {level}, and this program knows levels up to {known}; start \
         a newer one"
    )]
    LevelUnknown {
        /// The node that says so.
        by: u64,
        /// The cluster's level.
        level: u32,
        /// The highest that this program knows.
        known: u32,
    },
    /// It was restored from a backup that this program cannot read.
    #[error(
        "downgrade refused: the backup in this folder was written at level {level}, and this program knows levels up to {known}; \
         start a newer one. The folder was not touched"
    )]
    BackupLevel {
        /// The backup's.
        level: u32,
        /// The highest that this program knows.
        known: u32,
    },
    /// It was restored, and where it is to begin a new cluster another one runs.
    #[error(
        "the data folder holds a backup of cluster {cluster}, to begin a new cluster with, and the node at {address} belongs to a \
         cluster that runs (generation {generation}): stop the nodes of the old cluster first, or give the new ones other addresses"
    )]
    RestoredBesideRunning {
        /// The backup's.
        cluster: ClusterId,
        /// The peer.
        address: String,
        /// Of the peer's cluster.
        generation: u32,
    },
    /// It was restored, and is told to join.
    #[error(
        "the data folder holds a backup, to begin a new cluster with: start it with --initial; to join a cluster that runs, a node \
         needs an empty folder"
    )]
    RestoredJoins,
    /// The nodes do not bring the same backup.
    #[error(
        "the first nodes of a restored cluster bring the same backup: node {node_id} has {own}, and node {other_id} ({address}) \
         {other}. Restore the same file into the folder of each"
    )]
    OtherBackup {
        /// This node.
        node_id: u64,
        /// What it brings, in words.
        own: String,
        /// The other.
        other_id: u64,
        /// Where it is reached.
        address: String,
        /// What that brings, in words.
        other: String,
    },
    /// A node is not who it should be.
    #[error("the node at {address} is node {told}, and --initial names it node {expected}")]
    WrongNode {
        /// Where it answers.
        address: String,
        /// Who it says it is.
        told: u64,
        /// Who it should be.
        expected: u64,
    },
    /// Two nodes have one store id: a folder was copied.
    #[error(
        "nodes {one} and {other} have the same store {store:016x}: a data folder was copied; give one of them an empty folder"
    )]
    StoreCopied {
        /// The one.
        one: u64,
        /// The other.
        other: u64,
        /// The store that both have.
        store: u64,
    },
}

/// Judges what the nodes at `addresses` (by id) have told so far; an address without an entry in `told` has not answered.
pub(crate) fn judge(own: &Own, addresses: &BTreeMap<u64, String>, told: &BTreeMap<u64, Told>) -> Standing {
    // Its own address first: that says best what is wrong.
    let own_first = told.iter().filter(|(id, _)| **id == own.node_id).chain(told.iter());
    for (expected, told) in own_first {
        let address = &addresses[expected];
        if let Some(misfit) = misfit(own, *expected, address, told) {
            return Standing::Refused(misfit);
        }
    }
    if own.store == Store::InUse || told.values().any(|told| told.names_me == Some(own.store_id)) {
        return Standing::Member;
    }
    if let Some((id, _)) = told.iter().find(|(_, told)| told.names_me == Some(0)) {
        return if planted::is(Bug::UnboundLearnerCounts) {
            Standing::Member
        } else {
            Standing::Added(addresses[id].clone())
        };
    }
    // Before anybody is waited for: whoever brings another backup may stop, and would be waited for for ever.
    if let Some(misfit) = other_backup(own, addresses, told) {
        return Standing::Refused(misfit);
    }
    let missing: Vec<String> = addresses
        .iter()
        .filter(|(id, _)| **id != own.node_id && !told.contains_key(id))
        .map(|(id, address)| format!("{id} ({address})"))
        .collect();
    if !missing.is_empty() {
        return Standing::Waiting { missing };
    }
    form(own, addresses, told)
}

/// Nobody is missing and nobody has a membership: the lowest id forms the cluster, the others may vote for it.
fn form(own: &Own, addresses: &BTreeMap<u64, String>, told: &BTreeMap<u64, Told>) -> Standing {
    let mut peers: Vec<Peer> = Vec::with_capacity(addresses.len());
    for (id, address) in addresses {
        let store_id = if *id == own.node_id { own.store_id } else { told[id].store_id };
        if let Some(other) = peers.iter().find(|peer| peer.store_id == store_id) {
            return Standing::Refused(Misfit::StoreCopied { one: other.node_id, other: *id, store: store_id });
        }
        peers.push(Peer { node_id: *id, address: address.clone(), store_id });
    }
    let lowest = peers.first().map(|peer| peer.node_id);
    if lowest != Some(own.node_id) {
        return Standing::Member;
    }
    // Each folder was restored at its own time: the highest is above whatever any of them must be above.
    let brought = told.values().map(|told| &told.restored).chain([&own.restored]);
    Standing::Forms { peers, generation: brought.flatten().map(|it| it.generation).max() }
}

/// What is wrong if the nodes would not begin with the same state. Only one of them gives it to all: were it the wrong one, nobody
/// would notice.
fn other_backup(own: &Own, addresses: &BTreeMap<u64, String>, told: &BTreeMap<u64, Told>) -> Option<Misfit> {
    let same = |other: &Option<Restored>| match (&own.restored, other) {
        (Some(own), Some(other)) => own.is_of(other),
        (own, other) => own.is_none() && other.is_none(),
    };
    let begins = |told: &Told| told.store == Store::Fresh;
    let (other_id, other) = told.iter().find(|(_, told)| begins(told) && !same(&told.restored))?;
    Some(Misfit::OtherBackup {
        node_id: own.node_id,
        own: brings(&own.restored),
        other_id: *other_id,
        address: addresses[other_id].clone(),
        other: brings(&other.restored),
    })
}

fn brings(restored: &Option<Restored>) -> String {
    match restored {
        None => "an empty folder".to_owned(),
        Some(Restored { cluster, seq, bytes, crc32, .. }) => {
            let cluster = ClusterId(*cluster);
            format!("a backup of cluster {cluster} at seq {seq} ({bytes} bytes, checksum {crc32:08x})")
        }
    }
}

/// What is wrong with this node in the eyes of one other, or with that other.
fn misfit(own: &Own, expected: u64, address: &str, told: &Told) -> Option<Misfit> {
    if expected == own.node_id {
        return twin(own, address, told);
    }
    // Where a node with a log expects one, another may have taken its place since.
    if told.node_id != expected && own.store == Store::Fresh {
        return Some(Misfit::WrongNode { address: address.to_owned(), told: told.node_id, expected });
    }
    if let (Some(own), Some(other)) = (own.cluster, told.cluster)
        && own != other
    {
        return Some(Misfit::OtherCluster { own, other, address: address.to_owned() });
    }
    if let Some(misfit) = other_time(own, address, told) {
        return misfit;
    }
    if told.level > own.known_level {
        return Some(Misfit::LevelUnknown { by: told.node_id, level: told.level, known: own.known_level });
    }
    if let Some(acknowledged) = told.acknowledged.filter(|acknowledged| Some(*acknowledged) > own.last) {
        return Some(Misfit::OlderCopy { node_id: own.node_id, by: told.node_id, acknowledged, last: own.last });
    }
    if told.removed_me {
        return Some(Misfit::Removed { node_id: own.node_id, by: told.node_id });
    }
    match (told.store, told.names_me) {
        (Store::Fresh, _) | (Store::InUse, Some(0)) => None,
        (Store::InUse, Some(known)) if known == own.store_id || planted::is(Bug::WipedNodeVotes) => None,
        (Store::InUse, Some(known)) => {
            Some(Misfit::StoreLost { node_id: own.node_id, by: told.node_id, known, own: own.store_id })
        }
        // A member that is behind may not know of this node yet; one that has a log of its own must not stop for it.
        (Store::InUse, None) if own.store == Store::InUse => None,
        (Store::InUse, None) => {
            Some(Misfit::NotAMember { node_id: own.node_id, by: told.node_id, address: own.address.clone() })
        }
    }
}

/// What is wrong with this node, if anything is, beside one on the other side of a restore; `None`: it is on the same side.
fn other_time(own: &Own, address: &str, told: &Told) -> Option<Option<Misfit>> {
    let address = address.to_owned();
    if let (Some(restored), Store::Fresh, Store::InUse) = (&own.restored, own.store, told.store) {
        // The cluster that this one was to be of is formed: what that says of this store counts.
        let after = told.cluster == Some(ClusterId(restored.cluster)) && told.generation >= restored.generation;
        if after || told.names_me == Some(own.store_id) {
            return None;
        }
        let (cluster, generation) = (ClusterId(restored.cluster), told.generation);
        return Some(Some(Misfit::RestoredBesideRunning { cluster, address, generation }));
    }
    let cluster = own.cluster.filter(|_| own.store == Store::InUse && told.cluster.is_some())?;
    match told.generation.cmp(&own.generation) {
        Ordering::Equal => None,
        // Somebody has left it running. What it says is of another time.
        Ordering::Less => Some(None),
        Ordering::Greater => {
            Some(Some(Misfit::Outlived { cluster, own: own.generation, other: told.generation, address }))
        }
    }
}

/// What is wrong if another process answers where this node is reached.
fn twin(own: &Own, address: &str, told: &Told) -> Option<Misfit> {
    let (node_id, address) = (own.node_id, address.to_owned());
    if told.store_id != own.store_id {
        return Some(Misfit::IdUsedTwice { node_id, address, other: told.store_id, own: own.store_id });
    }
    let known = own.process != 0 && told.process != 0;
    (known && told.process != own.process).then_some(Misfit::FolderCopied { node_id, address, store: own.store_id })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses() -> BTreeMap<u64, String> {
        (1..=3).map(|id| (id, format!("n{id}:1"))).collect()
    }

    fn own(node_id: u64) -> Own {
        let (store_id, address) = (node_id * 10, format!("n{node_id}:1"));
        Own {
            node_id,
            store_id,
            address,
            store: Store::Fresh,
            cluster: None,
            generation: 0,
            restored: None,
            known_level: 1,
            process: node_id,
            last: None,
        }
    }

    fn fresh(node_id: u64) -> Told {
        Told {
            node_id,
            store_id: node_id * 10,
            cluster: None,
            generation: 0,
            restored: None,
            level: 1,
            store: Store::Fresh,
            names_me: None,
            process: node_id,
            acknowledged: None,
            removed_me: false,
        }
    }

    fn member(node_id: u64, names_me: Option<u64>) -> Told {
        Told { store: Store::InUse, cluster: Some(ClusterId(7)), names_me, ..fresh(node_id) }
    }

    fn standing(own: &Own, told: impl IntoIterator<Item = Told>) -> Standing {
        judge(own, &addresses(), &told.into_iter().map(|told| (told.node_id, told)).collect())
    }

    fn refusal(own: &Own, told: impl IntoIterator<Item = Told>) -> String {
        match standing(own, told) {
            Standing::Refused(why) => why.to_string(),
            other => panic!("expected a refusal, got {other:?}"),
        }
    }

    #[test]
    fn the_lowest_id_forms_the_cluster_when_all_have_reported() {
        assert_eq!(standing(&own(1), [fresh(2)]), Standing::Waiting { missing: vec!["3 (n3:1)".to_owned()] });
        let Standing::Forms { peers, generation: None } = standing(&own(1), [fresh(2), fresh(3)]) else {
            panic!("node 1 forms it")
        };
        assert_eq!(
            peers.iter().map(|peer| (peer.node_id, peer.store_id)).collect::<Vec<_>>(),
            [(1, 10), (2, 20), (3, 30)]
        );
        assert_eq!(standing(&own(2), [fresh(1), fresh(3)]), Standing::Member);
    }

    #[test]
    fn a_wiped_node_rejoins_under_its_old_id_and_is_refused() {
        let wiped = Own { store_id: 99, ..own(2) };
        assert!(refusal(&wiped, [member(1, Some(20))]).starts_with(
            "this node's store is lost: remove it and add it under a new id (node 1 knows node 2 with the store"
        ));
        // Nobody who knows it answers: it waits, and votes for nobody.
        assert!(matches!(standing(&wiped, []), Standing::Waiting { .. }));
        assert!(matches!(standing(&wiped, [fresh(3)]), Standing::Waiting { .. }));
    }

    #[test]
    fn a_new_node_that_the_cluster_already_names_is_a_member_at_once() {
        assert_eq!(standing(&own(2), [member(1, Some(20))]), Standing::Member);
        assert!(refusal(&own(2), [member(1, None)]).contains("node 2 is not a member"));
    }

    #[test]
    fn a_node_that_was_added_says_first_which_store_it_has() {
        assert_eq!(standing(&own(2), [member(1, Some(0))]), Standing::Added("n1:1".to_owned()));
        assert_eq!(standing(&own(2), [member(1, Some(0)), member(3, Some(20))]), Standing::Member, "node 1 is behind");
        let used = Own { store: Store::InUse, ..own(2) };
        assert_eq!(standing(&used, [member(1, Some(0))]), Standing::Member, "node 1 is behind");
    }

    #[test]
    fn a_node_that_was_removed_stops_with_or_without_a_log() {
        let removed = Told { removed_me: true, ..member(1, None) };
        for store in [Store::Fresh, Store::InUse] {
            let words = refusal(&Own { store, ..own(2) }, [removed.clone()]);
            assert!(words.contains("it was removed") && words.contains("add it under a new id"), "{words}");
        }
        let words = refusal(&own(2), [member(1, None)]);
        assert!(words.contains("'palisade cluster add 2 n2:1'"), "{words}");
    }

    #[test]
    fn a_node_with_a_log_waits_for_nobody_and_stops_only_for_another_store_or_cluster() {
        let used = Own { store: Store::InUse, cluster: Some(ClusterId(7)), ..own(2) };
        assert_eq!(standing(&used, []), Standing::Member);
        assert_eq!(standing(&used, [member(1, None), fresh(3)]), Standing::Member);
        assert!(refusal(&used, [member(1, Some(21))]).starts_with("this node's store is lost"));
        let foreign = Own { cluster: Some(ClusterId(8)), ..used };
        assert!(
            refusal(&foreign, [member(1, Some(20))]).starts_with("the data folder belongs to cluster 0000000000000008")
        );
    }

    #[test]
    fn a_node_with_a_log_does_not_mind_another_in_the_place_of_one_that_was_removed() {
        let used = Own { store: Store::InUse, ..own(2) };
        let replaced = BTreeMap::from([(1, member(4, Some(20)))]);
        assert_eq!(judge(&used, &addresses(), &replaced), Standing::Member);
    }

    #[test]
    fn an_id_that_is_used_twice_is_told() {
        let second = Own { store_id: 21, ..own(2) };
        assert!(refusal(&second, [fresh(2)]).starts_with("node id 2 is used twice"));
        let told = BTreeMap::from([(3, fresh(1))]);
        assert_eq!(
            judge(&own(2), &addresses(), &told),
            Standing::Refused(Misfit::WrongNode { address: "n3:1".to_owned(), told: 1, expected: 3 })
        );
        let copied = Told { store_id: 20, ..fresh(3) };
        assert!(refusal(&own(2), [fresh(1), copied]).starts_with("nodes 2 and 3 have the same store"));
    }

    fn backup(generation: u32) -> Restored {
        Restored { cluster: 7, generation, seq: 100, bytes: 1_000, crc32: 0xabc, level: 1 }
    }

    #[test]
    fn a_restored_cluster_forms_when_all_bring_the_same_backup_and_takes_the_highest_generation() {
        let own = |id| Own { restored: Some(backup(5)), ..own(id) };
        let told = |id, generation| Told { restored: Some(backup(generation)), ..fresh(id) };
        let Standing::Forms { peers, generation } = standing(&own(1), [told(2, 9), told(3, 4)]) else {
            panic!("node 1 forms it")
        };
        assert_eq!((peers.len(), generation), (3, Some(9)));
        assert_eq!(standing(&own(2), [told(1, 9), told(3, 4)]), Standing::Member);

        let words = refusal(&own(1), [told(2, 5), fresh(3)]);
        assert!(words.contains("node 1 has a backup of cluster 0000000000000007 at seq 100"), "{words}");
        assert!(words.contains("node 3 (n3:1) an empty folder"), "{words}");
        let other = Told { restored: Some(Restored { crc32: 0xabd, ..backup(5) }), ..fresh(3) };
        assert!(refusal(&own(1), [told(2, 5), other]).contains("checksum 00000abd"));
        assert!(refusal(&self::own(1), [fresh(2), told(3, 5)]).contains("node 1 has an empty folder"));
    }

    #[test]
    fn a_node_that_brings_another_backup_is_told_before_anybody_is_waited_for() {
        let own = |id| Own { restored: Some(backup(5)), ..own(id) };
        let other = |id| Told { restored: Some(Restored { seq: 101, ..backup(5) }), ..fresh(id) };
        let same = |id| Told { restored: Some(backup(9)), ..fresh(id) };
        // Each of the two, while the third is not there.
        assert!(refusal(&own(1), [other(2)]).contains("at seq 101"));
        assert!(refusal(&own(2), [other(1)]).contains("at seq 101"));
        assert!(refusal(&own(2), [fresh(1)]).contains("node 1 (n1:1) an empty folder"));
        assert_eq!(standing(&own(1), [same(2)]), Standing::Waiting { missing: vec!["3 (n3:1)".to_owned()] });
        // The one that was to form the cluster has done so, and has a backup no more.
        let formed = Told { generation: 9, ..member(1, Some(20)) };
        assert_eq!(standing(&own(2), [formed, same(3)]), Standing::Member);
    }

    #[test]
    fn a_program_that_does_not_know_the_level_of_the_cluster_takes_no_part() {
        for store in [Store::Fresh, Store::InUse] {
            let own = Own { store, ..own(2) };
            assert_eq!(standing(&own, [member(1, Some(20))]), Standing::Member);
            let words = refusal(&own, [Told { level: 2, ..member(1, Some(20)) }]);
            assert!(words.contains("cluster is at level 2, and this program knows levels up to 1"), "{words}");
        }
    }

    #[test]
    fn a_restored_node_begins_no_cluster_beside_one_that_runs() {
        let restored = Own { restored: Some(backup(5)), ..own(2) };
        for names_me in [None, Some(0), Some(99)] {
            let words = refusal(&restored, [member(1, names_me)]);
            assert!(words.contains("the node at n1:1 belongs to a cluster that runs (generation 0)"), "{words}");
        }
        // The one that was just formed, of the same backup, knows it.
        let formed = |names_me| Told { generation: 5, ..member(1, names_me) };
        assert_eq!(standing(&restored, [formed(Some(20))]), Standing::Member);
        // It was restored again after that.
        assert!(refusal(&restored, [formed(Some(99))]).starts_with("this node's store is lost"));
    }

    #[test]
    fn a_node_of_before_a_restore_stops_and_one_of_after_it_minds_nobody_of_before() {
        let used = |generation| Own { store: Store::InUse, cluster: Some(ClusterId(7)), generation, ..own(2) };
        let told = |generation| Told { generation, removed_me: true, ..member(1, Some(21)) };
        let words = refusal(&used(0), [told(5)]);
        assert!(words.contains("the data folder has generation 0 of cluster 0000000000000007"), "{words}");
        assert!(words.contains("the node at n1:1 generation 5: the cluster was restored from a backup"), "{words}");
        assert_eq!(standing(&used(5), [told(0)]), Standing::Member, "it says what was so before");
        assert!(matches!(standing(&used(5), [told(5)]), Standing::Refused(Misfit::Removed { .. })));
    }

    #[test]
    fn another_process_on_a_copy_of_the_folder_is_told() {
        let used = Own { store: Store::InUse, ..own(2) };
        assert_eq!(standing(&used, [fresh(2)]), Standing::Member, "it has asked itself");
        let copy = Own { process: 77, ..used.clone() };
        let words = refusal(&copy, [member(1, Some(20)), fresh(2)]);
        assert!(words.starts_with("a data folder was copied") && words.contains("n2:1"), "{words}");
        for (own, other) in [(0, 2), (77, 0)] {
            let told = Told { process: other, ..fresh(2) };
            let own = Own { process: own, ..used.clone() };
            assert_eq!(standing(&own, [told]), Standing::Member, "nothing is known of one of them");
        }
    }

    #[test]
    fn a_store_that_has_forgotten_what_it_acknowledged_is_lost() {
        let used = Own { store: Store::InUse, last: Some(7), ..own(2) };
        let told = |acknowledged| Told { acknowledged: Some(acknowledged), ..member(1, Some(20)) };
        assert_eq!(standing(&used, [told(7)]), Standing::Member);
        let words = refusal(&used, [told(8)]);
        assert!(words.starts_with("this node's store is lost: remove it and add it under a new id"), "{words}");
        assert!(words.contains("entry 8, and its log ends with entry 7: the data folder was replaced"), "{words}");
        let words = refusal(&Own { last: None, ..used }, [told(0)]);
        assert!(words.contains("entry 0, and its log ends before the first entry"), "{words}");
    }
}
