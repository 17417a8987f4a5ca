//! What a node counts while it works, one field per number. Counting is a relaxed addition; nothing is decided by it.
//!
//! Reading order: here (what is counted), `labels` (the reasons that are told apart), `page` (what Prometheus is told).
//!
//! Keeps true: what was applied before this process started to serve is not counted, so that a restart does not count the log
//! again; every label is a variant that the code knows.

mod labels;
mod page;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use palisade_coord_core::{Event, Outcome};
use palisade_metrics::{Counter, Counters, Gauge, Histogram};
use palisade_wire::coord::v1::{ErrorDetail, ServerFrame, server_frame};
use palisade_wire::status;
use tonic::Code;
use tonic::codegen::http::HeaderMap;

pub(crate) use self::labels::{CodeLabel, CutOff, Ended, Follows, GapKind, Refusals};
pub(crate) use self::page::Sources;

/// What one node counts.
#[derive(Debug, Default)]
pub(crate) struct NodeMetrics {
    /// Index of the last entry of the log that was found at the start: applying up to there again is no news.
    found: AtomicU64,
    /// From a command's arrival to its outcome.
    pub(crate) proposal: Histogram,
    /// For one entry of the log: all its commands, under the state's lock.
    pub(crate) apply: Histogram,
    pub(crate) applied: Counter,
    /// Applied commands whose outcome is a refusal.
    pub(crate) refused_when_applied: Counter,
    pub(crate) grants: Counters<Follows>,
    pub(crate) leaderships_ended: Counters<Ended>,
    pub(crate) sessions_opened: Counter,
    pub(crate) sessions_ended: Counters<Ended>,
    /// What clients were refused, by our own reason.
    pub(crate) refusals: Refusals,
    /// What clients were refused without one, by gRPC's code.
    pub(crate) bare_refusals: Counters<CodeLabel>,
    pub(crate) gaps: Counters<GapKind>,
    pub(crate) cut_off: Counters<CutOff>,
    pub(crate) leader_changes: Counter,
    /// Entries that were handed to Raft and have no outcome yet.
    pub(crate) entries_in_flight: Gauge,
    /// Frames that wait for the session driver.
    pub(crate) session_inputs: Gauge,
    pub(crate) session_streams: Gauge,
    pub(crate) connections: Arc<Gauge>,
    /// Lines of the story that were left out because there were too many.
    pub(crate) untold: Counter,
}

impl NodeMetrics {
    pub(crate) fn new() -> Arc<NodeMetrics> {
        Arc::default()
    }

    /// What the log holds up to `index` was found at the start, and is not counted when it is applied again.
    pub(crate) fn found(&self, index: u64) {
        self.found.store(index, Ordering::Relaxed);
    }

    fn is_news(&self, index: u64) -> bool {
        index > self.found.load(Ordering::Relaxed)
    }

    /// The entry at `index` was applied.
    pub(crate) fn applied(&self, index: u64, outcomes: &[Outcome], took: Duration) {
        if !self.is_news(index) {
            return;
        }
        self.apply.observe(took);
        self.applied.add(outcomes.len() as u64);
        self.refused_when_applied.add(outcomes.iter().filter(|outcome| outcome.reply.is_err()).count() as u64);
        let opened = |outcome: &&Outcome| matches!(outcome.reply, Ok(palisade_coord_core::Reply::SessionOpened { .. }));
        self.sessions_opened.add(outcomes.iter().filter(opened).count() as u64);
    }

    /// These events of the entry at `index` were applied.
    pub(crate) fn events(&self, index: u64, events: &[Event]) {
        if !self.is_news(index) {
            return;
        }
        for event in events {
            match event {
                Event::Elected { previous, .. } => {
                    self.grants.inc(Follows(previous.map(|(_, why)| why)));
                    if let Some((_, why)) = previous {
                        self.leaderships_ended.inc(Ended(*why));
                    }
                }
                Event::Vacant { why, .. } => self.leaderships_ended.inc(Ended(*why)),
                Event::SessionEnded { why, .. } => self.sessions_ended.inc(Ended(*why)),
                Event::ValueChanged { .. }
                | Event::Revoked { .. }
                | Event::Withdrawn { .. }
                | Event::EndRequested { .. }
                | Event::SessionAsked { .. }
                | Event::KeyChanged { .. } => {}
            }
        }
    }

    /// A client was refused.
    pub(crate) fn refused(&self, detail: &ErrorDetail) {
        self.refusals.inc(detail.kind());
    }

    /// A session's stream is told something; counted if it is a refusal.
    pub(crate) fn told(&self, frame: &ServerFrame) {
        if let Some(server_frame::Body::Refused(refused)) = &frame.body {
            self.refused(&refused.error.clone().unwrap_or_default());
        }
    }

    /// A call was answered with these headers; counted if it is a refusal. An answer without an error costs one look.
    pub(crate) fn answered(&self, headers: &HeaderMap) {
        if !headers.contains_key("grpc-status") {
            return;
        }
        let Some(refusal) = tonic::Status::from_header_map(headers) else { return };
        if refusal.code() == Code::Ok {
            return;
        }
        match status::detail(&refusal) {
            Some(detail) => self.refused(&detail),
            None => self.bare_refusals.inc(CodeLabel(refusal.code())),
        }
    }
}

#[cfg(test)]
mod tests {
    use palisade_coord_core::EndReason;
    use palisade_fence::Token;
    use palisade_wire::coord::v1::error_detail::Kind;
    use palisade_wire::status::{not_applied, refuse};

    use super::*;

    fn vacant(why: EndReason) -> Event {
        Event::Vacant { election: "e".to_owned(), previous: Token::new(0, 1), why }
    }

    #[test]
    fn what_is_applied_again_at_a_start_is_not_counted_again() {
        let metrics = NodeMetrics::new();
        metrics.found(7);
        metrics.events(7, &[vacant(EndReason::Expired)]);
        metrics.applied(7, &[], Duration::from_millis(1));
        assert_eq!((metrics.leaderships_ended.get(Ended(EndReason::Expired)), metrics.apply.count()), (0, 0));
        metrics.events(8, &[vacant(EndReason::Expired), vacant(EndReason::Resigned)]);
        metrics.applied(8, &[], Duration::from_millis(1));
        assert_eq!((metrics.leaderships_ended.get(Ended(EndReason::Expired)), metrics.apply.count()), (1, 1));
    }

    #[test]
    fn a_refusal_is_counted_by_our_reason_or_by_grpcs_code() {
        let metrics = NodeMetrics::new();
        let refused = refuse(not_applied(Kind::StaleToken, "read the leader")).into_http::<()>();
        metrics.answered(refused.headers());
        metrics.answered(tonic::Status::cancelled("gone").into_http::<()>().headers());
        metrics.answered(&HeaderMap::new());
        assert!(metrics.refusals.all().any(|(_, name, count)| name == "stale_token" && count == 1));
        assert_eq!(metrics.bare_refusals.get(CodeLabel(Code::Cancelled)), 1);
    }
}
