//! A panic in a simulated task is a violation, although tokio would only end that task. The first one of a run is kept, and
//! printed at once with its seed: a second one while the stack unwinds ends the process, and nobody could say which seed it was.

use std::cell::RefCell;
use std::sync::Once;

thread_local! {
    /// A run happens on one thread: its seed, and its first panic.
    static RUN: RefCell<Option<(u64, Option<String>)>> = const { RefCell::new(None) };
}

static HOOK: Once = Once::new();

/// Ends the watch when it is dropped.
pub(crate) struct Watch(());

impl Drop for Watch {
    fn drop(&mut self) {
        RUN.set(None);
    }
}

/// Watches this thread for the run of a seed.
pub(crate) fn watch(seed: u64) -> Watch {
    HOOK.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| match note(&info.to_string()) {
            Noted::First(seed) => eprintln!("seed {seed}: {info}\n{}", replay_command(seed)),
            Noted::Again => {}
            Noted::NoRun => usual(info),
        }));
    });
    RUN.set(Some((seed, None)));
    Watch(())
}

enum Noted {
    First(u64),
    Again,
    NoRun,
}

fn note(panic: &str) -> Noted {
    RUN.with(|run| match run.try_borrow_mut().as_deref_mut() {
        Ok(Some((_, Some(_)))) | Err(_) => Noted::Again,
        Ok(Some((seed, first))) => {
            *first = Some(panic.to_owned());
            Noted::First(*seed)
        }
        Ok(None) => Noted::NoRun,
    })
}

/// Whether nothing has panicked in this run.
pub(crate) fn none() -> Result<(), String> {
    RUN.with_borrow(|run| match run {
        Some((_, Some(panic))) => Err(format!("nothing-panics: {panic}")),
        _ => Ok(()),
    })
}

/// What to type to see a seed again.
pub fn replay_command(seed: u64) -> String {
    format!("replay with: cargo run --release -p palisade-sim -- replay {seed}")
}
