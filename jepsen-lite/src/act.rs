//! The child of `palisade elect run` in a run of the harness: it connects to the harness, says who it is, and then all the time at
//! which moment of the machine's monotonic clock it acts. It ends only when it is killed: SIGTERM it does not obey, so that what ends
//! it is the guard's last means.

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use jepsen_lite::clock::RunClock;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::time::{ClockId, clock_gettime};

/// Between two words of a child.
const EVERY: Duration = Duration::from_millis(3);

/// Nanoseconds of the machine's monotonic clock.
fn monotonic() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}

/// The same moment on the run's clock, which is the same clock counted from another moment.
pub(crate) fn on_run_clock(clock: &RunClock, moment: u64) -> Option<u64> {
    let ago = Duration::from_nanos(monotonic().checked_sub(moment)?);
    Some(clock.at(Instant::now().checked_sub(ago)?))
}

/// Acts until it is killed.
pub(crate) fn act(address: &str) -> anyhow::Result<()> {
    let ignore = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
    // SAFETY: ignoring a signal runs no code of ours.
    #[allow(unsafe_code)]
    unsafe {
        sigaction(Signal::SIGTERM, &ignore)?;
    }
    let (name, token) = (std::env::var("PALISADE_CANDIDATE")?, std::env::var("PALISADE_TOKEN")?);
    let mut harness = TcpStream::connect(address)?;
    harness.set_nodelay(true)?;
    writeln!(harness, "{name} {token}")?;
    loop {
        writeln!(harness, "{}", monotonic())?;
        std::thread::sleep(EVERY);
    }
}
