//! Processes that hold leaderships with the lowest TTL while others write as fast as they can: none may be lost. Whoever loses
//! one here had a store or a machine that was too busy for its TTL, and no fault of its own.

use palisade_world::World;
use serde_json::json;

use super::Found;
use super::candidates::Candidates;
use crate::bench::keys;
use crate::bench::nodes::Nodes;
use crate::cli::{FailoverArgs, LoadArgs};
use crate::exit::Failure;

/// Processes that hold a leadership each.
const HOLDERS: usize = 10;

/// Callers that write.
const WRITERS: u32 = 64;

pub(super) async fn measure(args: &FailoverArgs, nodes: &Nodes, world: &World) -> Result<Found, Failure> {
    let elections: Vec<String> = (0..HOLDERS).map(|holder| format!("bench-expiry-{holder}")).collect();
    let flags = ["--ttl".to_owned(), format!("{}ms", crate::units::ms(args.ttl))];
    let mut candidates = Candidates::start(&elections, &flags, nodes, world)?;
    for _ in 0..HOLDERS {
        candidates.granted().await?;
    }
    let start = world.now();
    let (span, own_cluster) = (args.span, false);
    let load = LoadArgs { clients: WRITERS, span, count: None, rate: None, pipelined: false, own_cluster };
    let measured = keys::measure(keys::Kind::Put, &load, nodes, &keys::Done::default(), world).await?;
    let said = candidates.said();
    let count = |event: &str| said.iter().filter(|heard| heard.event == event).count();
    let (lost, suspect) = (count("lost"), count("suspect"));
    let lost_at_s = said.iter().filter(|heard| heard.event == "lost");
    let lost_at_s: Vec<u64> = lost_at_s.map(|heard| heard.at.saturating_sub(start).as_secs()).collect();
    let wrong = (lost > 0).then(|| format!("{lost} leaderships were lost to a TTL of {:?} under load", args.ttl));
    let more = json!({
        "ttl_ms": crate::units::ms(args.ttl), "holders": HOLDERS, "lost": lost, "lost_at_s": lost_at_s,
        "suspect": suspect,
        "span_ms": crate::units::ms(measured.span), "writes_per_second": measured.per_second().round(),
        "write_errors": measured.errors,
    });
    Ok(Found {
        name: "expiry_under_load",
        title: "writes while holders live",
        latencies: measured.latencies,
        more,
        wrong,
    })
}
