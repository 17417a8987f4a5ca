//! What one node is told at its start, checked before anything is opened. Nothing here touches disk or network.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::time::Duration;

use palisade_coord_core::level;
use palisade_replica::Timings;
use palisade_wire::convert::KeyLimits;
use palisade_world::grpc::check_address;

use crate::connections::MAX_CONNECTIONS;

/// Lowest TTL that a client may ask for by default. Below it a keep-alive's quorum round takes a large part of the TTL.
pub const MIN_TTL: Duration = Duration::from_millis(200);

/// Highest TTL that a client may ask for by default: a holder that dies blocks its election no longer than this.
pub const MAX_TTL: Duration = Duration::from_secs(600);

/// The lowest that whole requests may be limited to: room for what a write has beside its key and value.
const LEAST_REQUEST_BYTES: usize = 1 << 10;

/// Nodes of a cluster. More voters make every write slower and none safer.
pub(crate) const MAX_NODES: usize = 9;

/// Raft log entries between snapshots: what a restart replays at most, some tens of milliseconds of work.
pub(crate) const SNAPSHOT_EVERY: u64 = 20_000;

/// Everything that one node is told.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// This node's id: from 1, unique in the cluster, never used again for another data folder.
    pub node_id: u64,
    /// The commit that the program was built from, for status and metrics; empty: not known.
    pub commit: &'static str,
    /// Drawn at each start: tells this process from another one on a copy of its data folder. 0: not drawn.
    pub process: u64,
    /// Where to listen, `HOST:PORT`; port 0 takes a free one.
    pub listen: String,
    /// How the other nodes and the clients reach this node, `HOST:PORT`.
    pub advertise: String,
    /// All nodes of a new cluster by id, this one included. Ignored once the data folder is in use.
    pub initial: Vec<(u64, String)>,
    /// Members of a running cluster to which this node was added, `HOST:PORT`; `initial` is empty then. Ignored once the data
    /// folder is in use.
    pub join: Vec<String>,
    /// Session TTLs that clients may ask for.
    pub ttl: RangeInclusive<Duration>,
    /// What may be written in keys.
    pub key_limits: KeyLimits,
    /// Raft's timers.
    pub timings: Timings,
    /// Raft log entries between snapshots.
    pub snapshot_every: u64,
    /// The highest level that this program knows. Anything but the default is for tests: so a node takes itself for one of another
    /// version.
    pub level: u32,
    /// Connections at once; fewer than the files that the process may open.
    pub max_connections: usize,
}

/// A configuration that cannot be used. `field` is named as the flag is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: '{value}': {limit}")]
pub struct ConfigError {
    /// What is wrong.
    pub field: &'static str,
    /// What it was.
    pub value: String,
    /// What is allowed.
    pub limit: String,
}

impl NodeConfig {
    /// The defaults for everything but who and where. The node is reached as `initial` names it, else where it listens.
    pub fn new(node_id: u64, listen: impl Into<String>, initial: Vec<(u64, String)>) -> NodeConfig {
        let listen = listen.into();
        let named = initial.iter().find(|(id, _)| *id == node_id).map(|(_, address)| address.clone());
        NodeConfig {
            node_id,
            commit: "",
            process: 0,
            advertise: named.unwrap_or_else(|| listen.clone()),
            listen,
            initial,
            join: Vec::new(),
            ttl: MIN_TTL..=MAX_TTL,
            key_limits: KeyLimits::default(),
            timings: Timings::default(),
            snapshot_every: SNAPSHOT_EVERY,
            level: level::KNOWN,
            max_connections: MAX_CONNECTIONS,
        }
    }

    /// Says what is wrong, if anything is.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.node_id == 0 {
            return wrong("--id", "0", "a node id is a number from 1");
        }
        check("--listen", &self.listen)?;
        check("--advertise", &self.advertise)?;
        if self.advertise.ends_with(":0") {
            return wrong("--advertise", &self.advertise, "others cannot reach port 0; name a port");
        }
        self.validate_initial()?;
        self.validate_key_limits()?;
        self.validate_times()
    }

    fn validate_key_limits(&self) -> Result<(), ConfigError> {
        let (set, most) = (self.key_limits, KeyLimits::default());
        for (field, value, allowed) in [
            ("--max-key-bytes", set.key_bytes, 1..=most.key_bytes),
            ("--max-value-bytes", set.value_bytes, 0..=most.value_bytes),
            ("--max-txn-ops", set.txn_ops, 1..=most.txn_ops),
            ("--max-request-bytes", set.request_bytes, LEAST_REQUEST_BYTES..=most.request_bytes),
        ] {
            if !allowed.contains(&value) {
                return wrong(field, &value.to_string(), &format!("{} to {}", allowed.start(), allowed.end()));
            }
        }
        Ok(())
    }

    fn validate_join(&self) -> Result<(), ConfigError> {
        if !self.initial.is_empty() {
            return wrong("--join", &self.join.join(","), "a node joins, or is one of --initial; not both");
        }
        if self.join.len() > MAX_NODES {
            return wrong("--join", &format!("{} nodes", self.join.len()), &format!("at most {MAX_NODES} nodes"));
        }
        for address in &self.join {
            check("--join", address)?;
            if *address == self.advertise {
                return wrong("--join", address, "this is the node itself; name another member");
            }
        }
        Ok(())
    }

    fn validate_initial(&self) -> Result<(), ConfigError> {
        if !self.join.is_empty() {
            return self.validate_join();
        }
        if self.initial.is_empty() {
            return wrong("--initial", "", "name at least this node, as ID=HOST:PORT");
        }
        if self.initial.len() > MAX_NODES {
            return wrong("--initial", &format!("{} nodes", self.initial.len()), &format!("at most {MAX_NODES} nodes"));
        }
        let (mut ids, mut addresses) = (BTreeMap::new(), BTreeSet::new());
        for (id, address) in &self.initial {
            let entry = format!("{id}={address}");
            if *id == 0 {
                return wrong("--initial", &entry, "a node id is a number from 1");
            }
            check("--initial", address)?;
            if address.ends_with(":0") {
                return wrong("--initial", &entry, "others cannot reach port 0; name a port");
            }
            if let Some(other) = ids.insert(*id, address) {
                return wrong("--initial", &entry, &format!("node id {id} is used twice; it is {other} already"));
            }
            if !addresses.insert(address) {
                return wrong("--initial", &entry, "this address is used twice");
            }
        }
        match ids.get(&self.node_id) {
            None => {
                let known = ids.keys().map(u64::to_string).collect::<Vec<_>>().join(", ");
                wrong("--id", &self.node_id.to_string(), &format!("one of the nodes that --initial names: {known}"))
            }
            Some(address) if **address != self.advertise => wrong(
                "--advertise",
                &self.advertise,
                &format!("--initial names node {} as {address}; both must be the same", self.node_id),
            ),
            Some(_) => Ok(()),
        }
    }

    fn validate_times(&self) -> Result<(), ConfigError> {
        let (low, high) = (*self.ttl.start(), *self.ttl.end());
        if low.is_zero() {
            return wrong("--min-ttl", &format!("{low:?}"), "more than 0");
        }
        if low > high {
            return wrong("--min-ttl", &format!("{low:?}"), &format!("at most --max-ttl, which is {high:?}"));
        }
        if self.snapshot_every == 0 {
            return wrong("--snapshot-every", "0", "at least 1");
        }
        Ok(())
    }
}

fn wrong<T>(field: &'static str, value: &str, limit: &str) -> Result<T, ConfigError> {
    Err(ConfigError { field, value: value.to_owned(), limit: limit.to_owned() })
}

fn check(field: &'static str, address: &str) -> Result<(), ConfigError> {
    check_address(address).or_else(|bad| wrong(field, &bad.value, &format!("HOST:PORT; {}", bad.why)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three() -> Vec<(u64, String)> {
        vec![(1, "a:1".to_owned()), (2, "b:1".to_owned()), (3, "c:1".to_owned())]
    }

    fn error(change: impl FnOnce(&mut NodeConfig)) -> String {
        let mut config = NodeConfig::new(1, "127.0.0.1:0", three());
        assert_eq!(config.validate(), Ok(()));
        change(&mut config);
        config.validate().expect_err("the change makes it wrong").to_string()
    }

    #[test]
    fn limits_on_keys_may_be_lowered_and_not_raised() {
        let most = KeyLimits::default();
        let error = |key_limits| error(|config| config.key_limits = key_limits);
        for (limits, words) in [
            (KeyLimits { key_bytes: 0, ..most }, "--max-key-bytes: '0': 1 to 4096"),
            (KeyLimits { value_bytes: most.value_bytes + 1, ..most }, "--max-value-bytes: '1048577': 0 to 1048576"),
            (KeyLimits { txn_ops: 129, ..most }, "--max-txn-ops: '129': 1 to 128"),
            (KeyLimits { request_bytes: 1_023, ..most }, "--max-request-bytes: '1023': 1024 to 1572864"),
        ] {
            assert_eq!(error(limits), words);
        }
    }

    #[test]
    fn a_node_is_reached_as_initial_names_it() {
        assert_eq!(NodeConfig::new(2, "0.0.0.0:7070", three()).advertise, "b:1");
        assert_eq!(NodeConfig::new(9, "127.0.0.1:7070", three()).advertise, "127.0.0.1:7070");
    }

    #[test]
    fn a_node_that_joins_names_others() {
        let config =
            |join: &str, initial| NodeConfig { join: vec![join.to_owned()], ..NodeConfig::new(4, "d:1", initial) };
        assert_eq!(config("a:1", Vec::new()).validate(), Ok(()));
        let error = |config: NodeConfig| config.validate().expect_err("it is wrong").to_string();
        assert_eq!(error(config("d:1", Vec::new())), "--join: 'd:1': this is the node itself; name another member");
        assert_eq!(error(config("a", Vec::new())), "--join: 'a': HOST:PORT; there is no port");
        assert_eq!(error(config("a:1", three())), "--join: 'a:1': a node joins, or is one of --initial; not both");
    }

    #[test]
    fn each_error_names_field_value_and_limit() {
        assert_eq!(error(|c| c.node_id = 0), "--id: '0': a node id is a number from 1");
        assert_eq!(error(|c| c.node_id = 7), "--id: '7': one of the nodes that --initial names: 1, 2, 3");
        assert_eq!(error(|c| c.listen = "nonsense".into()), "--listen: 'nonsense': HOST:PORT; there is no port");
        assert_eq!(
            error(|c| c.initial.push((2, "d:1".into()))),
            "--initial: '2=d:1': node id 2 is used twice; it is b:1 already"
        );
        assert_eq!(error(|c| c.initial.push((4, "b:1".into()))), "--initial: '4=b:1': this address is used twice");
        assert_eq!(error(|c| c.initial.push((0, "d:1".into()))), "--initial: '0=d:1': a node id is a number from 1");
        assert_eq!(
            error(|c| c.initial.push((4, "d:70000".into()))),
            "--initial: 'd:70000': HOST:PORT; the port is not a number from 0 to 65535"
        );
        assert_eq!(error(|c| c.initial.clear()), "--initial: '': name at least this node, as ID=HOST:PORT");
        assert_eq!(
            error(|c| c.advertise = "x:2".into()),
            "--advertise: 'x:2': --initial names node 1 as a:1; both must be the same"
        );
        assert_eq!(
            error(|c| c.ttl = Duration::from_secs(2)..=Duration::from_secs(1)),
            "--min-ttl: '2s': at most --max-ttl, which is 1s"
        );
    }
}
