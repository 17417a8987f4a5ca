//! openraft's values as our messages, and back. What comes back may be damaged or foreign: every conversion from a message
//! is checked, and says what is missing. openraft's own formats are never used.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{BufMut, Bytes, BytesMut};
use palisade_wire::replica::v1 as wire;
use prost::Message;

use crate::Restored;
use crate::types::{
    Entry, EntryPayload, LeaderId, LogId, Membership, Node, Payload, SnapshotMeta, StoredMembership, Vote,
};

/// The version of everything that this crate writes to disk, as its first byte. Fields may be added to the messages
/// without raising it; it is raised when an older program would misread what it finds.
const FORMAT: u8 = 1;

/// The version of the head of a backup's state in a folder whose cluster is not formed yet: a program that knows nothing of restoring
/// would take such a folder for an empty one.
const RESTORED_FORMAT: u8 = 2;

/// Bytes or a message that do not mean what they should.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{what}: {why}")]
pub(crate) struct CodecError {
    what: &'static str,
    why: String,
}

impl CodecError {
    fn missing(what: &'static str, field: &'static str) -> CodecError {
        CodecError { what, why: format!("{field} is missing") }
    }
}

impl From<CodecError> for std::io::Error {
    fn from(error: CodecError) -> std::io::Error {
        std::io::Error::new(std::io::ErrorKind::InvalidData, error)
    }
}

/// A message as it is kept on disk.
pub(crate) fn to_disk(message: &impl Message) -> Bytes {
    let mut bytes = BytesMut::with_capacity(1 + message.encoded_len());
    bytes.put_u8(FORMAT);
    message.encode(&mut bytes).expect("the buffer grows");
    bytes.freeze()
}

/// A message from disk. Byte fields of it are slices of `bytes`, not copies.
pub(crate) fn from_disk<T: Message + Default>(what: &'static str, mut bytes: Bytes) -> Result<T, CodecError> {
    match bytes.first() {
        None => Err(CodecError { what, why: "it is empty".to_owned() }),
        Some(&FORMAT) => {
            let _format = bytes.split_to(1);
            T::decode(bytes).map_err(|error| CodecError { what, why: error.to_string() })
        }
        Some(other) => {
            Err(CodecError { what, why: format!("it has format {other}; this version reads format {FORMAT}") })
        }
    }
}

pub(crate) fn leader_id(id: LeaderId) -> wire::LeaderId {
    wire::LeaderId { term: id.term, node: id.node_id }
}

fn leader_id_from(what: &'static str, id: Option<wire::LeaderId>) -> Result<LeaderId, CodecError> {
    let id = id.ok_or_else(|| CodecError::missing(what, "the leader id"))?;
    Ok(LeaderId { term: id.term, node_id: id.node })
}

pub(crate) fn log_id(id: LogId) -> wire::LogId {
    wire::LogId { leader: Some(leader_id(id.leader_id)), index: id.index }
}

pub(crate) fn log_id_from(what: &'static str, id: wire::LogId) -> Result<LogId, CodecError> {
    Ok(LogId { leader_id: leader_id_from(what, id.leader)?, index: id.index })
}

/// Absent means "none", as in openraft.
pub(crate) fn log_id_option(what: &'static str, id: Option<wire::LogId>) -> Result<Option<LogId>, CodecError> {
    id.map(|id| log_id_from(what, id)).transpose()
}

pub(crate) fn vote(vote: &Vote) -> wire::Vote {
    wire::Vote { leader: Some(leader_id(vote.leader_id)), committed: vote.committed }
}

pub(crate) fn vote_from(what: &'static str, vote: Option<wire::Vote>) -> Result<Vote, CodecError> {
    let vote = vote.ok_or_else(|| CodecError::missing(what, "the vote"))?;
    Ok(Vote { leader_id: leader_id_from(what, vote.leader)?, committed: vote.committed })
}

pub(crate) fn entry(entry: &Entry) -> wire::LogEntry {
    let payload = match &entry.payload {
        EntryPayload::Blank => wire::log_entry::Payload::Blank(wire::Blank {}),
        EntryPayload::Normal(Payload(bytes)) => wire::log_entry::Payload::Normal(bytes.clone()),
        EntryPayload::Membership(members) => wire::log_entry::Payload::Membership(membership(members)),
    };
    wire::LogEntry {
        leader: Some(leader_id(entry.log_id.leader_id)),
        index: entry.log_id.index,
        payload: Some(payload),
    }
}

pub(crate) fn entry_from(entry: wire::LogEntry) -> Result<Entry, CodecError> {
    const WHAT: &str = "log entry";
    let log_id = LogId { leader_id: leader_id_from(WHAT, entry.leader)?, index: entry.index };
    let payload = match entry.payload.ok_or_else(|| CodecError::missing(WHAT, "the payload"))? {
        wire::log_entry::Payload::Blank(wire::Blank {}) => EntryPayload::Blank,
        wire::log_entry::Payload::Normal(bytes) => EntryPayload::Normal(Payload(bytes)),
        wire::log_entry::Payload::Membership(members) => EntryPayload::Membership(membership_from(members)?),
    };
    Ok(Entry { log_id, payload })
}

/// Of a membership, as of a vote, a log id and the head of a snapshot, each node makes its own values and writes them anew: fields that
/// its program has no name for are lost on the way. So a field here needs a level, as a command does, and must mean nothing before
/// that. (What is taken apart here is taken apart field by field, without a rest, so that whoever adds one comes by.)
fn membership(membership: &Membership) -> wire::Membership {
    let configs = membership.get_joint_config().iter();
    let nodes = membership.nodes().map(|(node_id, node)| wire::Peer {
        node_id: *node_id,
        address: node.address.clone(),
        store_id: node.store_id,
        highest_id: node.highest_id,
    });
    wire::Membership {
        configs: configs.map(|voters| wire::Voters { node_ids: voters.iter().copied().collect() }).collect(),
        nodes: nodes.collect(),
    }
}

fn membership_from(membership: wire::Membership) -> Result<Membership, CodecError> {
    let wire::Membership { configs, nodes } = membership;
    let configs = configs.into_iter();
    let set = |wire::Voters { node_ids }: wire::Voters| node_ids.into_iter().collect();
    let configs: Vec<BTreeSet<u64>> = configs.map(set).collect();
    let nodes = nodes.into_iter();
    let node = |peer: wire::Peer| {
        let wire::Peer { node_id, address, store_id, highest_id } = peer;
        (node_id, Node { address, store_id, highest_id })
    };
    let nodes: BTreeMap<u64, Node> = nodes.map(node).collect();
    if configs.is_empty() && nodes.is_empty() {
        return Ok(Membership::default());
    }
    Membership::new(configs, nodes).map_err(|error| CodecError { what: "membership", why: error.to_string() })
}

pub(crate) fn snapshot_meta(meta: &SnapshotMeta) -> wire::SnapshotMeta {
    wire::SnapshotMeta {
        last_log_id: meta.last_log_id.map(log_id),
        last_membership: Some(wire::StoredMembership {
            log_id: meta.last_membership.log_id().map(log_id),
            membership: Some(membership(meta.last_membership.membership())),
        }),
        restored: None,
    }
}

/// The head of a backup's state that waits for its cluster to be formed: a snapshot of nothing that Raft knows.
pub(crate) fn restored_head(restored: &Restored) -> Bytes {
    let restored = self::restored(&Restored { bytes: 0, crc32: 0, ..*restored });
    let head = wire::SnapshotMeta { restored: Some(restored), ..snapshot_meta(&SnapshotMeta::default()) };
    let mut bytes = to_disk(&head).to_vec();
    bytes[0] = RESTORED_FORMAT;
    bytes.into()
}

/// The head of a snapshot from disk; also that of a backup's state.
pub(crate) fn head_from_disk(bytes: Bytes) -> Result<wire::SnapshotMeta, CodecError> {
    const WHAT: &str = "snapshot head";
    match bytes.first() {
        Some(&RESTORED_FORMAT) => wire::SnapshotMeta::decode(bytes.slice(1..))
            .map_err(|error| CodecError { what: WHAT, why: error.to_string() }),
        _ => from_disk(WHAT, bytes),
    }
}

pub(crate) fn restored(it: &Restored) -> wire::Restored {
    let Restored { cluster, generation, seq, bytes, crc32, level } = *it;
    wire::Restored { cluster_id: cluster, generation, seq, bytes, crc32, level }
}

pub(crate) fn restored_from(it: wire::Restored) -> Restored {
    let wire::Restored { cluster_id, generation, seq, bytes, crc32, level } = it;
    Restored { cluster: cluster_id, generation, seq, bytes, crc32, level: level.max(1) }
}

pub(crate) fn snapshot_meta_from(meta: wire::SnapshotMeta) -> Result<SnapshotMeta, CodecError> {
    const WHAT: &str = "snapshot head";
    // That of a backup is looked for elsewhere.
    let wire::SnapshotMeta { last_log_id, last_membership, restored: _ } = meta;
    let stored = last_membership.ok_or_else(|| CodecError::missing(WHAT, "the membership"))?;
    let wire::StoredMembership { log_id, membership } = stored;
    let members = membership.ok_or_else(|| CodecError::missing(WHAT, "the membership"))?;
    Ok(SnapshotMeta {
        last_log_id: log_id_option(WHAT, last_log_id)?,
        last_membership: StoredMembership::new(log_id_option(WHAT, log_id)?, membership_from(members)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(index: u64) -> LogId {
        LogId { leader_id: LeaderId { term: 3, node_id: 2 }, index }
    }

    fn nodes() -> BTreeMap<u64, Node> {
        (1..=3)
            .map(|id| (id, Node { address: format!("n{id}:1"), store_id: id << 40, highest_id: id % 2 * 9 }))
            .collect()
    }

    fn members() -> Membership {
        Membership::new(vec![BTreeSet::from([1, 2]), BTreeSet::from([2])], nodes()).unwrap()
    }

    #[test]
    fn entries_come_back_as_they_were() {
        let payloads = [
            EntryPayload::Blank,
            EntryPayload::Normal(Payload(Bytes::from_static(b"payload"))),
            EntryPayload::Normal(Payload(Bytes::new())),
            EntryPayload::Membership(members()),
        ];
        for (index, payload) in payloads.into_iter().enumerate() {
            let before = Entry { log_id: at(index as u64), payload };
            let bytes = to_disk(&entry(&before));
            let after = entry_from(from_disk("log entry", bytes).unwrap()).unwrap();
            assert_eq!(after.log_id, before.log_id);
            assert_eq!(format!("{after:?}"), format!("{before:?}"));
        }
    }

    #[test]
    fn snapshot_heads_come_back_as_they_were() {
        let empty = SnapshotMeta { last_log_id: None, last_membership: StoredMembership::default() };
        let full =
            SnapshotMeta { last_log_id: Some(at(9)), last_membership: StoredMembership::new(Some(at(4)), members()) };
        for before in [empty, full] {
            let bytes = to_disk(&snapshot_meta(&before));
            assert_eq!(snapshot_meta_from(from_disk("snapshot head", bytes).unwrap()).unwrap(), before);
        }
    }

    /// Of the state machine's bytes nothing is read here: what a newer program put into them stays in them, whoever passes them on.
    #[test]
    fn fields_of_a_newer_program_pass_through_an_entry() {
        let newer = Bytes::from_static(b"\x01 \xfa\x07\x01x and what this program has no name for");
        let log_id = at(7);
        let before = Entry { log_id, payload: EntryPayload::Normal(Payload(newer.clone())) };
        let passed = entry_from(from_disk("log entry", to_disk(&entry(&before))).unwrap()).unwrap();
        let EntryPayload::Normal(Payload(after)) = passed.payload else { panic!("it was bytes") };
        assert_eq!(after, newer);
    }

    /// Of a membership they are not carried along, neither in the log nor in a snapshot: hence the rule that a field of it has a level.
    #[test]
    fn fields_of_a_newer_program_do_not_pass_through_a_membership() {
        #[derive(Clone, PartialEq, Message)]
        struct Newer {
            #[prost(message, optional, tag = "1")]
            leader: Option<wire::LeaderId>,
            #[prost(uint64, tag = "2")]
            index: u64,
            #[prost(message, optional, tag = "5")]
            membership: Option<NewerMembership>,
        }
        #[derive(Clone, PartialEq, Message)]
        struct NewerMembership {
            #[prost(message, repeated, tag = "1")]
            configs: Vec<wire::Voters>,
            #[prost(message, repeated, tag = "2")]
            nodes: Vec<NewerPeer>,
        }
        #[derive(Clone, PartialEq, Message)]
        struct NewerPeer {
            #[prost(uint64, tag = "1")]
            node_id: u64,
            #[prost(string, tag = "15")]
            zone: String,
        }
        let peer = NewerPeer { node_id: 1, zone: "north".to_owned() };
        let members = NewerMembership { configs: vec![wire::Voters { node_ids: vec![1] }], nodes: vec![peer] };
        let leader = Some(leader_id(at(7).leader_id));
        let newer = Newer { leader, index: 7, membership: Some(members) };
        let read = from_disk::<wire::LogEntry>("log entry", to_disk(&newer)).unwrap();
        let passed = entry(&entry_from(read).unwrap());
        let passed = from_disk::<Newer>("log entry", to_disk(&passed)).unwrap();
        let nodes = passed.membership.unwrap().nodes;
        assert_eq!(
            nodes,
            [NewerPeer { node_id: 1, zone: String::new() }],
            "the rule in ARCHITECTURE.md can be relaxed"
        );
    }

    #[test]
    fn a_backups_head_covers_no_entry() {
        let restored = Restored { cluster: 7, generation: 5, seq: 9, bytes: 0, crc32: 0, level: 2 };
        let head = head_from_disk(restored_head(&restored)).unwrap();
        assert_eq!(head.restored.map(restored_from), Some(restored));
        assert_eq!(snapshot_meta_from(head).unwrap(), SnapshotMeta::default());
        // A program from before restoring.
        let older = from_disk::<wire::SnapshotMeta>("snapshot head", restored_head(&restored)).unwrap_err();
        assert_eq!(older.to_string(), "snapshot head: it has format 2; this version reads format 1");
    }

    #[test]
    fn what_is_damaged_is_named() {
        let read = |bytes: &'static [u8]| from_disk::<wire::LogEntry>("log entry", Bytes::from_static(bytes));
        assert_eq!(read(b"").unwrap_err().to_string(), "log entry: it is empty");
        assert_eq!(read(b"\x07").unwrap_err().to_string(), "log entry: it has format 7; this version reads format 1");
        let no_leader = entry_from(read(b"\x01").unwrap()).unwrap_err();
        assert_eq!(no_leader.to_string(), "log entry: the leader id is missing");
        assert!(vote_from("vote", None).unwrap_err().to_string().contains("the vote is missing"));
    }
}
