//! The reasons that are told apart. Each is a list of all values that there are, so that a label can never be a client's.

use palisade_coord_core::EndReason;
use palisade_metrics::{Counter, Labelled};
use palisade_wire::coord::v1::error_detail::Kind;
use palisade_wire::status::{self, not_applied};
use tonic::Code;

/// Why a leadership or a session ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Ended(pub(crate) EndReason);

impl Labelled for Ended {
    const ALL: &'static [Ended] = &[
        Ended(EndReason::Resigned),
        Ended(EndReason::Closed),
        Ended(EndReason::Expired),
        Ended(EndReason::Disconnected),
        Ended(EndReason::Transferred),
        Ended(EndReason::Removed),
        Ended(EndReason::Restored),
    ];

    fn label(self) -> &'static str {
        self.0.as_str()
    }

    fn place(self) -> usize {
        place(self)
    }
}

/// What a grant came after: the end of another leadership, or nobody's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Follows(pub(crate) Option<EndReason>);

impl Labelled for Follows {
    const ALL: &'static [Follows] = &[
        Follows(None),
        Follows(Some(EndReason::Resigned)),
        Follows(Some(EndReason::Closed)),
        Follows(Some(EndReason::Expired)),
        Follows(Some(EndReason::Disconnected)),
        Follows(Some(EndReason::Transferred)),
        Follows(Some(EndReason::Removed)),
        Follows(Some(EndReason::Restored)),
    ];

    fn label(self) -> &'static str {
        self.0.map_or("vacant", EndReason::as_str)
    }

    fn place(self) -> usize {
        place(self)
    }
}

/// More kinds of refusals than there are: each has a counter at its number on the wire.
const KINDS: usize = 64;

/// What clients were refused, by our own reason.
#[derive(Debug)]
pub(crate) struct Refusals([Counter; KINDS]);

impl Default for Refusals {
    fn default() -> Refusals {
        Refusals([const { Counter::new() }; KINDS])
    }
}

impl Refusals {
    pub(crate) fn inc(&self, kind: Kind) {
        if let Some(counter) = usize::try_from(i32::from(kind)).ok().and_then(|number| self.0.get(number)) {
            counter.inc();
        }
    }

    /// Every kind that there is: gRPC's code for it, its name, how often.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&'static str, String, u64)> + '_ {
        self.0.iter().zip(0..).filter_map(|(counter, number)| {
            let kind = Kind::try_from(number).ok()?;
            let name = kind.as_str_name().to_lowercase();
            let name = name.strip_prefix("kind_").map_or(name.clone(), str::to_owned);
            let code = CodeLabel(status::code(&not_applied(kind, ""))).label();
            Some((code, name, counter.get()))
        })
    }
}

/// A code of gRPC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct CodeLabel(pub(crate) Code);

impl Labelled for CodeLabel {
    const ALL: &'static [CodeLabel] = &[
        CodeLabel(Code::Cancelled),
        CodeLabel(Code::Unknown),
        CodeLabel(Code::InvalidArgument),
        CodeLabel(Code::DeadlineExceeded),
        CodeLabel(Code::NotFound),
        CodeLabel(Code::AlreadyExists),
        CodeLabel(Code::PermissionDenied),
        CodeLabel(Code::ResourceExhausted),
        CodeLabel(Code::FailedPrecondition),
        CodeLabel(Code::Aborted),
        CodeLabel(Code::OutOfRange),
        CodeLabel(Code::Unimplemented),
        CodeLabel(Code::Internal),
        CodeLabel(Code::Unavailable),
        CodeLabel(Code::DataLoss),
        CodeLabel(Code::Unauthenticated),
    ];

    fn label(self) -> &'static str {
        match self.0 {
            Code::Ok => "ok",
            Code::Cancelled => "cancelled",
            Code::Unknown => "unknown",
            Code::InvalidArgument => "invalid_argument",
            Code::DeadlineExceeded => "deadline_exceeded",
            Code::NotFound => "not_found",
            Code::AlreadyExists => "already_exists",
            Code::PermissionDenied => "permission_denied",
            Code::ResourceExhausted => "resource_exhausted",
            Code::FailedPrecondition => "failed_precondition",
            Code::Aborted => "aborted",
            Code::OutOfRange => "out_of_range",
            Code::Unimplemented => "unimplemented",
            Code::Internal => "internal",
            Code::Unavailable => "unavailable",
            Code::DataLoss => "data_loss",
            Code::Unauthenticated => "unauthenticated",
        }
    }

    fn place(self) -> usize {
        place(self)
    }
}

/// Whom a gap was told to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum GapKind {
    /// An observer of an election.
    Observe,
    /// A watcher of keys.
    Watch,
}

impl Labelled for GapKind {
    const ALL: &'static [GapKind] = &[GapKind::Observe, GapKind::Watch];

    fn label(self) -> &'static str {
        match self {
            GapKind::Observe => "observe",
            GapKind::Watch => "watch",
        }
    }

    fn place(self) -> usize {
        place(self)
    }
}

/// Who was cut off because it does not read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum CutOff {
    /// An observer, or a part of the node that hears of all changes.
    Subscriber,
    /// A session's stream.
    SessionStream,
    /// A watcher of keys, whose replies nobody takes.
    Watcher,
}

impl Labelled for CutOff {
    const ALL: &'static [CutOff] = &[CutOff::Subscriber, CutOff::SessionStream, CutOff::Watcher];

    fn label(self) -> &'static str {
        match self {
            CutOff::Subscriber => "subscriber",
            CutOff::SessionStream => "session_stream",
            CutOff::Watcher => "watcher",
        }
    }

    fn place(self) -> usize {
        place(self)
    }
}

/// The lists are short, and no refusal is so frequent that a search among twenty matters.
fn place<L: Labelled + PartialEq>(label: L) -> usize {
    L::ALL.iter().position(|other| *other == label).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn differ<L: Labelled>() -> usize {
        let labels: BTreeSet<_> = L::ALL.iter().map(|label| label.label()).collect();
        assert_eq!(labels.len(), L::ALL.len(), "{labels:?}");
        labels.len()
    }

    #[test]
    fn all_labels_differ_and_every_kind_of_refusal_has_one() {
        differ::<Ended>();
        differ::<Follows>();
        differ::<CodeLabel>();
        differ::<GapKind>();
        differ::<CutOff>();
        let refusals = Refusals::default();
        refusals.inc(Kind::StaleToken);
        let all: Vec<_> = refusals.all().collect();
        let kinds = (0..10_000).filter_map(|number| Kind::try_from(number).ok()).count();
        assert_eq!(all.len(), kinds, "a kind of refusal is not counted");
        assert!(all.contains(&("failed_precondition", "stale_token".to_owned(), 1)), "{all:?}");
        assert!(all.contains(&("aborted", "unspecified".to_owned(), 0)), "{all:?}");
    }
}
