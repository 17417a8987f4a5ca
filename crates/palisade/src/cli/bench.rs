//! The command line of `palisade bench`, and nothing else.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use crate::units::duration;

#[derive(Subcommand, Debug)]
pub(crate) enum BenchCommand {
    /// Puts of 256 bytes.
    #[command(after_help = "Examples:\n  palisade bench put --own-cluster --clients 256 --pipelined\n  \
palisade bench put --own-cluster --clients 256 --pipelined --count 10000000 --curve nodes.svg")]
    Put(PutLoadArgs),
    /// Linearizable reads of 256 bytes.
    #[command(after_help = "Example:\n  palisade bench get --own-cluster --clients 64 --rate 5000")]
    Get(LoadArgs),
    /// Campaign and resign, each caller in an election of its own.
    #[command(after_help = "Example:\n  palisade bench elect --own-cluster --clients 64 --output json")]
    Elect(LoadArgs),
    /// Open a session, bind a key to it, close it; or, with --hold, keep many alive at once.
    #[command(after_help = "Examples:\n  palisade bench session --own-cluster --clients 64\n  \
palisade bench session --own-cluster --hold 100000 --for 60s")]
    Session(SessionLoadArgs),
    /// Tells many observers of one election, or watchers of one key, of its changes.
    #[command(after_help = "Examples:\n  palisade bench watch --own-cluster --observers 10000\n  \
palisade bench watch --own-cluster --observers 10000 --keys")]
    Watch(WatchLoadArgs),
    /// Fenced calls between two processes on this machine, beside raw tonic and a raw TCP echo.
    #[command(after_help = "Examples:\n  palisade bench rpc\n  palisade bench rpc --for 5s --rounds 3 --output json")]
    Rpc(RpcLoadArgs),
    /// Kills, stops and asks real processes on this machine, with three nodes of its own.
    #[command(after_help = "Examples:\n  palisade bench failover --mode holder --kills 1000\n  \
palisade bench failover --mode transfer --kills 100\n  palisade bench failover --mode load-expiry --for 10m")]
    Failover(FailoverArgs),
    /// What an idle node costs: how soon it serves, its memory, the size of the program.
    #[command(after_help = "Example:\n  palisade bench node --starts 20 --for 30s")]
    Node(NodeArgs),
}

#[derive(Args, Debug, Clone)]
pub(crate) struct LoadArgs {
    /// Callers; they share 12 connections.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) clients: u32,
    /// How long to measure.
    #[arg(long = "for", value_parser = duration, default_value = "10s", value_name = "D")]
    pub(crate) span: Duration,
    /// End after so many calls, however long they take, instead of after the time of --for.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// Calls in a second, of all callers together; latencies then count from when a call was due. By default each caller
    /// calls as soon as it has its answer.
    #[arg(long, value_name = "R", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rate: Option<u32>,
    /// Send calls over data streams, many in one message; put and get only.
    #[arg(long)]
    pub(crate) pipelined: bool,
    /// Measure three nodes of its own on this machine instead of --endpoints.
    #[arg(long)]
    pub(crate) own_cluster: bool,
}

#[derive(Args, Debug, Clone)]
pub(crate) struct PutLoadArgs {
    #[command(flatten)]
    pub(crate) load: LoadArgs,
    /// Look at the memory and the data folders of the nodes meanwhile, and draw them into this file (SVG); with --own-cluster.
    #[arg(long, value_name = "FILE", requires = "own_cluster")]
    pub(crate) curve: Option<PathBuf>,
}

#[derive(Args, Debug, Clone)]
pub(crate) struct SessionLoadArgs {
    #[command(flatten)]
    pub(crate) load: LoadArgs,
    /// Keep so many sessions alive for the time of --for; one that is lost fails the command.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) hold: Option<u32>,
    /// Time-to-live of the sessions.
    #[arg(long, value_parser = duration, default_value = "10s", value_name = "D")]
    pub(crate) ttl: Duration,
}

#[derive(Args, Debug, Clone)]
pub(crate) struct WatchLoadArgs {
    /// Observers, or watchers, of 12 clients; a hundred share a connection.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub(crate) observers: u32,
    /// Watchers of a key that is written, instead of observers of an election.
    #[arg(long)]
    pub(crate) keys: bool,
    /// How often the leader changes what it proclaims, or the key is written.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) changes: u32,
    /// Measure three nodes of its own on this machine instead of --endpoints.
    #[arg(long)]
    pub(crate) own_cluster: bool,
}

#[derive(Args, Debug, Clone)]
pub(crate) struct RpcLoadArgs {
    /// How long each load is measured in each round.
    #[arg(long = "for", value_parser = duration, default_value = "2s", value_name = "D")]
    pub(crate) span: Duration,
    /// How often all loads are measured, one after the other.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) rounds: u32,
    /// Asks, or messages of a plain stream, that are on the way at once when they are pipelined.
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=32_768))]
    pub(crate) in_flight: u32,
    /// Bytes of a message.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub(crate) bytes: u32,
    /// Only the load of this name; several are separated by commas.
    #[arg(long, value_delimiter = ',', value_name = "NAME,...")]
    pub(crate) only: Vec<String>,
    /// Be the other process.
    #[arg(long, hide = true)]
    pub(crate) serve: bool,
}

#[derive(Args, Debug, Clone)]
pub(crate) struct NodeArgs {
    /// How often a node is started, with a new data folder and again.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) starts: u32,
    /// How long three nodes do nothing before their memory is read.
    #[arg(long = "for", value_parser = duration, default_value = "30s", value_name = "D")]
    pub(crate) span: Duration,
}

#[derive(Args, Debug, Clone)]
pub(crate) struct FailoverArgs {
    /// What befalls whom; several are measured one after the other.
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "holder,silent-holder,hand-over,store-leader,store-pause",
        value_name = "MODE,..."
    )]
    pub(crate) mode: Vec<FailoverMode>,
    /// How many holders are killed, stopped, asked or transferred from.
    #[arg(long, default_value_t = 50)]
    pub(crate) kills: u32,
    /// How many store leaders are killed or paused.
    #[arg(long, default_value_t = 10)]
    pub(crate) store_kills: u32,
    /// Time-to-live of holders that stand still, and of those that live under load.
    #[arg(long, value_parser = duration, default_value = "200ms", value_name = "D")]
    pub(crate) ttl: Duration,
    /// How long holders live under load.
    #[arg(long = "for", value_parser = duration, default_value = "10s", value_name = "D")]
    pub(crate) span: Duration,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum FailoverMode {
    /// The holder of an election is killed: until the next is granted.
    Holder,
    /// The holder stands still: until the next is granted.
    SilentHolder,
    /// The holder is asked to go: until the next is granted.
    HandOver,
    /// An administrator hands the election over to a named candidate that waits: until that one is granted. Twice: holders that
    /// are released when they are cut off lead no longer by one command; those that keep until their TTL are asked.
    Transfer,
    /// The store leader is killed: the longest time without an acknowledged write.
    StoreLeader,
    /// The store leader stands still for a second: the longest time without an acknowledged write.
    StorePause,
    /// Holders with the TTL of --ttl live under full load for the time of --for: none may be lost.
    LoadExpiry,
}
