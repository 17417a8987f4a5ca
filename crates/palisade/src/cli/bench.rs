//! The command line of `palisade bench`, and nothing else.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use crate::units::duration;

#[derive(Subcommand, Debug)]
pub(crate) enum BenchCommand {
    /// Puts of 256 bytes.
    Put(LoadArgs),
    /// Linearizable reads of 256 bytes.
    Get(LoadArgs),
    /// Campaign and resign, each caller in an election of its own.
    Elect(LoadArgs),
    /// Open a session, bind a key to it, close it; or, with --hold, keep many alive at once.
    Session(SessionLoadArgs),
    /// Tells many observers of one election of its changes.
    Watch(WatchLoadArgs),
    /// Kills, stops and asks real processes on this machine, with three nodes of its own.
    Failover(FailoverArgs),
}

#[derive(Args, Debug, Clone)]
pub(crate) struct LoadArgs {
    /// Callers; they share 12 connections.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) clients: u32,
    /// How long to measure.
    #[arg(long = "for", value_parser = duration, default_value = "10s", value_name = "D")]
    pub(crate) span: Duration,
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
    /// Observers; they share 12 connections.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub(crate) observers: u32,
    /// How often the leader changes what it proclaims.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) changes: u32,
    /// Measure three nodes of its own on this machine instead of --endpoints.
    #[arg(long)]
    pub(crate) own_cluster: bool,
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
    /// How many holders are killed, stopped or asked.
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
    /// The store leader is killed: the longest time without an acknowledged write.
    StoreLeader,
    /// The store leader stands still for a second: the longest time without an acknowledged write.
    StorePause,
    /// Holders with the TTL of --ttl live under full load for the time of --for: none may be lost.
    LoadExpiry,
}
