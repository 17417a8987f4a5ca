//! Commands that have started other processes end those, too, however they are asked to end.

use tokio::signal::unix::{SignalKind, signal};

use crate::exit::Failure;

/// Does the work, unless Ctrl-C or SIGTERM comes first: then the work is dropped, and with it the processes that it started, which
/// are in groups of their own and hear of neither.
pub(crate) async fn or_interrupted<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = tokio::signal::ctrl_c() => Err(Failure::interrupted()),
        _ = terminate.recv() => Err(Failure::interrupted()),
        done = work => done,
    }
}
