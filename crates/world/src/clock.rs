//! Time. The boot-time clock goes on while the machine is suspended, so a deadline that passed during a suspend has passed.

use std::pin::Pin;
use std::time::Duration;

/// A clock that never goes back within a process.
pub trait Clock: Send + Sync + 'static {
    /// Time since a fixed origin.
    fn now(&self) -> Duration;
    /// Milliseconds since 1970, for stamps that people read.
    fn unix_ms(&self) -> u64;
    /// Sleeps for a span of this clock's time.
    fn sleep(&self, span: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// `CLOCK_BOOTTIME`, and tokio's timer for sleeping.
#[derive(Clone, Copy, Debug)]
pub struct BootClock;

impl Clock for BootClock {
    fn now(&self) -> Duration {
        let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME)
            .expect("CLOCK_BOOTTIME exists since Linux 2.6.39");
        Duration::new(u64::try_from(now.tv_sec()).unwrap_or(0), u32::try_from(now.tv_nsec()).unwrap_or(0))
    }

    #[allow(clippy::disallowed_methods)] // this is the door
    fn unix_ms(&self) -> u64 {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    fn sleep(&self, span: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(tokio::time::sleep(span))
    }
}
