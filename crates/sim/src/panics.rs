//! A panic in a simulated task is a violation, although tokio would only end that task. A run has a thread of its own, and its
//! first panic stops that thread for good before anything is unwound: what is dropped in the middle of a simulated step panics
//! again, which would end the process, and nobody could say which seed it was.

use std::cell::RefCell;
use std::sync::Once;
use std::sync::mpsc::Sender;

thread_local! {
    /// Who is told how the run of this thread ended.
    static RUN: RefCell<Option<Sender<String>>> = const { RefCell::new(None) };
}

static HOOK: Once = Once::new();

/// From now on, a panic of this thread is told to `ended` instead of being printed, and ends the thread's work without unwinding.
pub(crate) fn watch(ended: Sender<String>) {
    HOOK.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| match RUN.take() {
            Some(ended) => {
                // Nobody listens only when the process is ending anyway.
                let _ = ended.send(info.to_string());
                loop {
                    std::thread::park();
                }
            }
            None => usual(info),
        }));
    });
    RUN.set(Some(ended));
}

/// The run is over: a panic of this thread is an ordinary one again.
pub(crate) fn unwatch() {
    RUN.set(None);
}
