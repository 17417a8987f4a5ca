//! A panic in a simulated task is a violation, although tokio would only end that task. A run has a thread of its own, and its
//! first panic stops that thread for good before anything is unwound: what is dropped in the middle of a simulated step panics
//! again, which would end the process, and nobody could say which seed it was.

use std::cell::RefCell;
use std::sync::Once;
use std::sync::mpsc::Sender;

thread_local! {
    /// The seed that this thread runs, and who is told how it ended.
    static RUN: RefCell<Option<(u64, Sender<String>)>> = const { RefCell::new(None) };
}

static HOOK: Once = Once::new();

/// From now on, a panic of this thread is printed with the seed, told to `ended`, and ends the thread's work without unwinding.
pub(crate) fn watch(seed: u64, ended: Sender<String>) {
    HOOK.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| match RUN.take() {
            Some((seed, ended)) => {
                eprintln!("seed {seed}: {info}\n{}", replay_command(seed));
                // Nobody listens only when the process is ending anyway.
                let _ = ended.send(info.to_string());
                loop {
                    std::thread::park();
                }
            }
            None => usual(info),
        }));
    });
    RUN.set(Some((seed, ended)));
}

/// The run is over: a panic of this thread is an ordinary one again.
pub(crate) fn unwatch() {
    RUN.set(None);
}

/// What to type to see a seed again.
pub fn replay_command(seed: u64) -> String {
    format!("replay with: cargo run --release -p palisade-sim -- replay {seed}")
}
