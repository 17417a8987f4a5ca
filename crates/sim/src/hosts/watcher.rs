//! A watcher: watches keys from now, from where it was, or from the past, for a while or until the end, and reports all that it is
//! told.

use std::time::Duration;

use palisade_client::{Keys, WatchOptions, Watched, WatchedKind};

use super::Process;
use super::candidate::unless_at_rest;
use super::transactor::{ACCOUNT, BOUND};
use crate::facts::{Fact, WatchNews, WatchedKey};

/// So far back it begins at most: what is compacted begins about there.
const PAST: u64 = 120;

/// Runs until the simulation ends.
pub(crate) async fn run(process: Process) -> turmoil::Result {
    let client = process.client();
    // The first revision that it was not told of.
    let mut next = 1_u64;
    for number in 1_u64.. {
        let random = |below: u64| process.world.random_u64() % below;
        let prefix = [ACCOUNT, BOUND, "register-", ""][usize::try_from(random(4)).expect("it is small")];
        let from = match random(3) {
            0 => None,
            1 => Some(next),
            _ => Some(next.saturating_sub(random(PAST)).max(1)),
        };
        let progress = Some(Duration::from_millis(100 + random(400)));
        let options = WatchOptions { from, progress, ..WatchOptions::new(Keys::prefix(prefix)) };
        let mut watcher = client.watch(options);
        let until = process.world.now() + Duration::from_millis(200 + random(3_000));
        let name = format!("{}/{number}", process.name());
        let (watched, asked) = (name.clone(), from);
        process.witness.saw(process.who, Fact::WatchBegan { watcher: watched, prefix: prefix.to_owned(), asked });
        loop {
            let told = tokio::select! {
                biased;
                told = watcher.next() => told?,
                () = unless_at_rest(&process, until) => break,
            };
            process.witness.saw(process.who, Fact::Watched { watcher: name.clone(), news: news(told) });
        }
        next = watcher.resume_revision().unwrap_or(next);
        process.witness.saw(process.who, Fact::WatchEnded { watcher: name });
        // Now and then something is missed, or is past when it goes on.
        process.world.sleep(process.world.jitter(Duration::from_millis(400))).await;
    }
    Ok(())
}

fn news(watched: Watched) -> WatchNews {
    match watched.kind {
        WatchedKind::Started { from } => WatchNews::Started { from },
        WatchedKind::Resumed { from } => WatchNews::Resumed { from },
        WatchedKind::Progress { from } => WatchNews::Progress { from },
        WatchedKind::Gap { from, to } => WatchNews::Gap { from, to },
        WatchedKind::Changed { revision, changes } => {
            let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
            let changes = changes.into_iter().map(|change| WatchedKey {
                key: text(change.key),
                value: change.kv.map(|kv| (text(kv.value), kv.version)),
            });
            WatchNews::Changed { revision, changes: changes.collect() }
        }
        other => unreachable!("a kind of news that the simulation does not know: {other:?}"),
    }
}
