//! What befalls the holder of an election, again and again, and when the next is granted.

use std::time::Duration;

use nix::sys::signal::Signal;
use palisade_client::{Client, Demand, Token, TransferOptions};
use palisade_world::World;

use super::LIMIT;
use super::candidates::{Candidates, Heard, id};
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
    /// Transferred from: one command ends its leadership and makes another one's.
    Transferred,
    /// Transferred from, and it keeps until its TTL: it is asked, and resigns.
    AskedToHandOver,
}

impl Fate {
    /// `None`: nothing happens to its process.
    fn signal(self) -> Option<Signal> {
        match self {
            Fate::Killed => Some(Signal::SIGKILL),
            Fate::Stopped => Some(Signal::SIGSTOP),
            Fate::Asked => Some(Signal::SIGTERM),
            Fate::Transferred | Fate::AskedToHandOver => None,
        }
    }

    fn title(self) -> &'static str {
        match self {
            Fate::Killed => "killing holders",
            Fate::Stopped => "stopping holders",
            Fate::Asked => "asking holders to go",
            Fate::Transferred => "transferring",
            Fate::AskedToHandOver => "asking holders to hand over",
        }
    }

    fn flags(self, args: &FailoverArgs) -> Vec<String> {
        let ttl = format!("{}ms", crate::units::ms(args.ttl));
        let flags: &[&str] = match self {
            Fate::Killed | Fate::Transferred => &["--release-after", "0ms", "--ttl", "2s"],
            Fate::Stopped => &["--ttl", &ttl],
            Fate::Asked | Fate::AskedToHandOver => &["--ttl", "2s"],
        };
        flags.iter().map(|flag| (*flag).to_owned()).collect()
    }
}

/// Asks for a hand-over as an administrator does, at the time that is returned.
async fn transfer(from: &Heard, to: usize, fate: Fate, client: &Client, world: &World) -> Result<Duration, Failure> {
    let (election, token, to) = (ELECTION.to_owned(), Token::from_wire(from.token), id(to));
    let at = world.now();
    let ended = client.transfer(TransferOptions { election, token, to, demand: Demand::Request }).await?;
    if ended.requested.is_some() != (fate == Fate::AskedToHandOver) {
        return Err(Failure::failed(format!("a transfer was answered as of another kind of holder: {ended:?}")));
    }
    Ok(at)
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
    // Who is named in a transfer: from the second on whoever came last, and would not lead without its name.
    let mut heir = (holder.who + 1) % CANDIDATES;
    let mut latencies = Latencies::new();
    let bar = progress(args.kills.into(), fate.title());
    for _ in 0..args.kills {
        candidates.until_waiting(ELECTION, CANDIDATES - 1, &client).await?;
        candidates.said();
        let at = match fate.signal() {
            Some(signal) => candidates.signal(holder.who, signal)?,
            None => transfer(&holder, heir, fate, &client, world).await?,
        };
        let next = candidates.granted().await?;
        if fate.signal().is_none() && next.who != heir {
            return Err(Failure::failed(format!("{} was named, and {} was granted", id(heir), id(next.who))));
        }
        if next.token <= holder.token {
            return Err(Failure::failed(format!("token {} was granted after {}", next.token, holder.token)));
        }
        latencies.record(next.at - at);
        // One that was transferred from campaigns again by itself.
        if fate.signal().is_some() {
            candidates.replace(holder.who).await?;
        }
        (heir, holder) = (holder.who, next);
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(latencies)
}
