//! Callers that do one thing again and again, for a while: each as soon as it has its answer (a closed loop), or all together
//! at a fixed rate (an open loop). At a rate, a latency counts from when the call was due, not from when a caller came round to
//! it: a store that stands still does not make its own figures better by being asked less.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use palisade_client as client;
use palisade_world::World;
use serde_json::{Value, json};

use super::{HEADER, Latencies, progress, progress_until};
use crate::cli::LoadArgs;
use crate::exit::Failure;
use crate::output;

/// What callers do.
pub(super) trait Work: Send + Sync + 'static {
    /// Does it once; an error says of what kind it is. Callers and the turns of each count from 0.
    fn once(&self, caller: u32, turn: u64) -> impl Future<Output = Result<(), String>> + Send;
}

/// The kind of an error of the client.
pub(super) fn kind(error: client::Error) -> String {
    format!("{:?}", error.kind)
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Measured {
    pub(super) latencies: Latencies,
    /// By kind.
    pub(super) errors: BTreeMap<String, u64>,
    pub(super) span: Duration,
}

impl Measured {
    fn new() -> Measured {
        Measured { latencies: Latencies::new(), errors: BTreeMap::new(), span: Duration::ZERO }
    }

    pub(super) fn per_second(&self) -> f64 {
        self.latencies.count() as f64 / self.span.as_secs_f64()
    }

    pub(super) fn failed(&self) -> u64 {
        self.errors.values().sum()
    }

    pub(super) fn document(&self, args: &LoadArgs) -> Value {
        let mut document = self.latencies.document();
        document["clients"] = args.clients.into();
        document["rate_per_second"] = json!(args.rate);
        document["pipelined"] = args.pipelined.into();
        document["span_ms"] = crate::units::ms(self.span).into();
        document["per_second"] = self.per_second().round().into();
        document["errors"] = json!(self.errors);
        document
    }

    pub(super) fn table(&self, name: &str) -> String {
        let mut row = self.latencies.row(name);
        row.extend([format!("{:.0}", self.per_second()), self.failed().to_string()]);
        output::table(&[&HEADER[..], &["PER S", "ERRORS"]].concat(), vec![row])
    }

    /// Errors are no figures: the command fails.
    pub(super) fn verdict(&self) -> Result<(), Failure> {
        if self.errors.is_empty() {
            return Ok(());
        }
        let kinds = self.errors.iter().map(|(kind, count)| format!("{kind} {count}")).collect::<Vec<_>>().join(", ");
        Err(Failure::failed(format!("{} requests failed: {kinds}", self.failed())))
    }
}

/// Has all callers work until the time is up.
pub(super) async fn drive<W: Work>(work: Arc<W>, args: &LoadArgs, world: &World) -> Result<Measured, Failure> {
    let start = world.now();
    let end = start + if args.count.is_some() { ENDLESS } else { args.span };
    let turns = Arc::new(Turns { taken: AtomicU64::new(0), count: args.count.unwrap_or(u64::MAX) });
    let pace = match args.rate {
        Some(rate) => Pace::Rate { start, rate, callers: args.clients },
        None => Pace::Closed,
    };
    let callers: Vec<_> = (0..args.clients)
        .map(|caller| {
            world.spawn("bench-caller", call(Arc::clone(&work), caller, pace, end, Arc::clone(&turns), world.clone()))
        })
        .collect();
    match args.count {
        Some(count) => turns.follow(count, world).await,
        None => progress_until(end, "measuring", world).await,
    }
    let mut all = Measured::new();
    for caller in callers {
        let measured = caller.await.map_err(|error| Failure::failed(error.to_string()))?;
        all.latencies.merge(&measured.latencies);
        for (kind, count) in measured.errors {
            *all.errors.entry(kind).or_default() += count;
        }
    }
    all.span = world.now() - start;
    Ok(all)
}

/// Longer than anybody measures.
const ENDLESS: Duration = Duration::from_secs(366 * 24 * 3_600);

/// Calls of all callers together.
struct Turns {
    taken: AtomicU64,
    count: u64,
}

impl Turns {
    /// Takes one, if there is one left.
    fn take(&self) -> bool {
        self.taken.fetch_add(1, Ordering::Relaxed) < self.count
    }

    /// Lets a bar follow until all are taken.
    async fn follow(&self, count: u64, world: &World) {
        let bar = progress(count, "measuring");
        loop {
            let taken = self.taken.load(Ordering::Relaxed).min(count);
            bar.set_position(taken);
            if taken == count {
                return bar.finish_and_clear();
            }
            world.sleep(Duration::from_millis(100)).await;
        }
    }
}

/// When a caller's next turn is due.
#[derive(Clone, Copy, Debug)]
enum Pace {
    Closed,
    Rate { start: Duration, rate: u32, callers: u32 },
}

impl Pace {
    /// Callers take turns, so that together they keep the rate.
    fn due(self, caller: u32, turn: u64, now: Duration) -> Duration {
        match self {
            Pace::Closed => now,
            Pace::Rate { start, rate, callers } => {
                let place = turn * u64::from(callers) + u64::from(caller);
                start + Duration::from_secs_f64(place as f64 / f64::from(rate))
            }
        }
    }
}

async fn call<W: Work>(
    work: Arc<W>,
    caller: u32,
    pace: Pace,
    end: Duration,
    turns: Arc<Turns>,
    world: World,
) -> Measured {
    let mut measured = Measured::new();
    let mut turn = 0;
    loop {
        let due = pace.due(caller, turn, world.now());
        if due >= end || !turns.take() {
            return measured;
        }
        world.sleep_until(due).await;
        match work.once(caller, turn).await {
            Ok(()) => measured.latencies.record(world.now().saturating_sub(due)),
            Err(kind) => *measured.errors.entry(kind).or_default() += 1,
        }
        turn += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_at_a_rate_take_turns() {
        let start = Duration::from_secs(5);
        let pace = Pace::Rate { start, rate: 100, callers: 4 };
        let ms = |caller, turn| (pace.due(caller, turn, Duration::ZERO) - start).as_millis();
        assert_eq!([ms(0, 0), ms(1, 0), ms(3, 0), ms(0, 1), ms(2, 25)], [0, 10, 30, 40, 1_020]);
    }

    struct Slow(World);

    impl Work for Slow {
        /// The first call stands still for 100 ms; the others take no time.
        async fn once(&self, _: u32, turn: u64) -> Result<(), String> {
            if turn == 0 {
                self.0.sleep(Duration::from_millis(100)).await;
            }
            Ok(())
        }
    }

    #[tokio::test]
    async fn at_a_rate_calls_that_were_held_up_count_from_when_they_were_due() {
        let world = World::real();
        let args = LoadArgs {
            clients: 1,
            span: Duration::from_millis(100),
            count: None,
            rate: Some(1_000),
            pipelined: false,
            own_cluster: false,
        };
        let measured = drive(Arc::new(Slow(world.clone())), &args, &world).await.expect("it ran");
        assert_eq!(measured.latencies.count(), 100);
        // Those that were due while the first stood still waited for half of that, on the average.
        assert!(measured.latencies.at(0.5) >= 40.0, "{:?}", measured.latencies.at(0.5));
    }
}
