//! What befalls the holder of an election, again and again, and when the next is granted.

use nix::sys::signal::Signal;
use palisade_world::World;

use super::LIMIT;
use super::candidates::Candidates;
use crate::bench::nodes::Nodes;
use crate::bench::{Latencies, progress};
use crate::cli::FailoverArgs;
use crate::exit::Failure;

const ELECTION: &str = "bench-failover";

/// One holds, one takes over, and one waits while the first comes back.
const CANDIDATES: usize = 3;

/// What befalls a holder.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fate {
    /// `kill -9`: its connection ends at once, and with it its leadership.
    Killed,
    /// SIGSTOP: its connection stays, and its leadership lasts until its TTL.
    Stopped,
    /// SIGTERM: it resigns.
    Asked,
}

impl Fate {
    fn signal(self) -> Signal {
        match self {
            Fate::Killed => Signal::SIGKILL,
            Fate::Stopped => Signal::SIGSTOP,
            Fate::Asked => Signal::SIGTERM,
        }
    }

    fn title(self) -> &'static str {
        match self {
            Fate::Killed => "killing holders",
            Fate::Stopped => "stopping holders",
            Fate::Asked => "asking holders to go",
        }
    }

    fn flags(self, args: &FailoverArgs) -> Vec<String> {
        let ttl = format!("{}ms", crate::units::ms(args.ttl));
        let flags: &[&str] = match self {
            Fate::Killed => &["--release-after", "0ms", "--ttl", "2s"],
            Fate::Stopped => &["--ttl", &ttl],
            Fate::Asked => &["--ttl", "2s"],
        };
        flags.iter().map(|flag| (*flag).to_owned()).collect()
    }
}

/// From what befell the holder to the next grant.
pub(super) async fn measure(
    fate: Fate,
    args: &FailoverArgs,
    nodes: &Nodes,
    world: &World,
) -> Result<Latencies, Failure> {
    let client = nodes.client_with(LIMIT)?;
    let elections = vec![ELECTION.to_owned(); CANDIDATES];
    let mut candidates = Candidates::start(&elections, &fate.flags(args), nodes, world)?;
    let mut holder = candidates.granted().await?;
    let mut latencies = Latencies::new();
    let bar = progress(args.kills.into(), fate.title());
    for _ in 0..args.kills {
        candidates.until_waiting(ELECTION, CANDIDATES - 1, &client).await?;
        candidates.said();
        let at = candidates.signal(holder.who, fate.signal())?;
        let next = candidates.granted().await?;
        if next.token <= holder.token {
            return Err(Failure::failed(format!("token {} was granted after {}", next.token, holder.token)));
        }
        latencies.record(next.at - at);
        candidates.replace(holder.who).await?;
        holder = next;
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(latencies)
}
