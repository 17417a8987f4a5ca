//! What the demo measured: the timeline on stderr while it runs, the summary and the JSON document at the end.

use std::time::Duration;

use serde_json::{Value, json};

use crate::output;
use crate::units::ms_f;

/// One kill of a leading JobManager.
#[derive(Clone, Debug)]
pub(crate) struct JobManagerKill {
    pub(crate) id: String,
    pub(crate) token_before: u64,
    pub(crate) token_after: u64,
    /// From the kill until the successor's grant was seen.
    pub(crate) granted: Duration,
    /// … until every TaskExecutor was registered there.
    pub(crate) registered: Duration,
    /// … until the job processed records again.
    pub(crate) resumed: Duration,
}

/// The kill of the store leader.
#[derive(Clone, Debug)]
pub(crate) struct StoreKill {
    pub(crate) id: String,
    /// The longest time between two acknowledged writes around the kill.
    pub(crate) write_gap: Duration,
}

/// Stale messages that were let loose, and what became of them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stale {
    pub(crate) sent: u64,
    /// Of these: written by a leader while it led, and held back until its successor had acted.
    pub(crate) held: u64,
    /// Kills after which no such message was there to be held.
    pub(crate) without_held: u64,
    /// From the receivers' own counters.
    pub(crate) rejected: u64,
}

impl Stale {
    /// Adds what one kill brought.
    pub(crate) fn add(&mut self, kill: Stale) {
        self.sent += kill.sent;
        self.held += kill.held;
        self.rejected += kill.rejected;
        self.without_held += u64::from(kill.held == 0);
    }
}

/// The result against the plain count.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Words {
    pub(crate) counted: u64,
    pub(crate) expected: u64,
    pub(crate) distinct: u64,
    pub(crate) mismatched: u64,
}

/// Everything at the end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Summary {
    pub(crate) kills: Vec<JobManagerKill>,
    pub(crate) store_kill: Option<StoreKill>,
    pub(crate) stale: Stale,
    pub(crate) words: Words,
}

impl Summary {
    pub(crate) fn ok(&self) -> bool {
        let words = self.words;
        words.mismatched == 0
            && words.counted == words.expected
            && self.stale.sent == self.stale.rejected
            && self.stale.without_held == 0
            && self.kills.iter().all(|kill| kill.token_after > kill.token_before)
    }

    pub(crate) fn document(&self) -> Value {
        let mut kills: Vec<Value> = self
            .kills
            .iter()
            .map(|kill| {
                json!({
                    "what": "jobmanager", "id": kill.id, "token_before": kill.token_before, "token_after": kill.token_after,
                    "granted_ms": ms_f(kill.granted), "registered_ms": ms_f(kill.registered), "resumed_ms": ms_f(kill.resumed),
                })
            })
            .collect();
        kills.extend(
            self.store_kill
                .iter()
                .map(|kill| json!({ "what": "store", "id": kill.id, "write_gap_ms": ms_f(kill.write_gap) })),
        );
        let mut granted: Vec<Duration> = self.kills.iter().map(|kill| kill.granted).collect();
        granted.sort();
        let p50 = granted.get(granted.len() / 2).copied().map(ms_f);
        let max = granted.last().copied().map(ms_f);
        json!({
            "ok": self.ok(),
            "kills": kills,
            "stale_sent": self.stale.sent,
            "stale_held": self.stale.held,
            "stale_rejected": self.stale.rejected,
            "stale_accepted": self.stale.sent.saturating_sub(self.stale.rejected),
            "words": {
                "counted": self.words.counted, "expected": self.words.expected,
                "distinct": self.words.distinct, "mismatched": self.words.mismatched,
            },
            "failover_ms": { "p50": p50, "max": max },
        })
    }

    pub(crate) fn table(&self) -> String {
        let rows = self.kills.iter().map(|kill| {
            vec![
                kill.id.clone(),
                kill.token_before.to_string(),
                kill.token_after.to_string(),
                format!("{:.1}", ms_f(kill.granted)),
                format!("{:.1}", ms_f(kill.registered)),
                format!("{:.1}", ms_f(kill.resumed)),
            ]
        });
        let mut text = output::table(
            &["KILLED", "TOKEN", "NEXT TOKEN", "GRANTED MS", "REGISTERED MS", "RESUMED MS"],
            rows.collect(),
        );
        if let Some(kill) = &self.store_kill {
            text += &format!(
                "store leader (node {}) killed: longest gap in acknowledged writes {:.0} ms\n",
                kill.id,
                ms_f(kill.write_gap)
            );
        }
        let Stale { sent, held, rejected, .. } = self.stale;
        let words = self.words;
        text += &format!(
            "stale messages: {sent} sent ({held} of them written by leaders while they led), {rejected} refused\n"
        );
        text += &format!(
            "words: {} counted, {} by a plain count, {} distinct, {} differ\n",
            words.counted, words.expected, words.distinct, words.mismatched
        );
        text + if self.ok() { "exact: nothing was lost, nothing was doubled\n" } else { "FAILED\n" }
    }
}

/// The timeline: one line for each thing that happened, above a line that shows the job's progress.
pub(crate) struct Timeline {
    start: Duration,
    bar: indicatif::ProgressBar,
}

impl Timeline {
    pub(crate) fn new(start: Duration) -> Timeline {
        let bar = indicatif::ProgressBar::new_spinner();
        bar.enable_steady_tick(Duration::from_millis(120));
        Timeline { start, bar }
    }

    /// One line, with the time since the demo began.
    pub(crate) fn say(&self, now: Duration, what: impl std::fmt::Display) {
        let line = format!("{:>8.3}s  {what}", (now - self.start).as_secs_f64());
        if self.bar.is_hidden() { eprintln!("{line}") } else { self.bar.println(line) }
    }

    /// What is going on; shown on a terminal only.
    pub(crate) fn progress(&self, what: String) {
        self.bar.set_message(what);
    }
}

impl Drop for Timeline {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
