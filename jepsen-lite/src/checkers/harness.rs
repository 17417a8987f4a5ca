//! Is the history itself worth judging, and did the tested system stay on its feet?
//!
//! A process of it that ended by itself or panicked is a violation, and so is a system that does not serve again within half a minute of
//! the end of all faults. A harness that broke the rules of a history, had trouble, or never
//! came to its end makes every other verdict worthless: unknown.

use crate::history::{History, f};
use crate::verdict::Finding;

pub(super) const NAME: &str = "harness";

pub(super) fn check(history: &History) -> Finding {
    let why = |at: usize| history.records()[at].error.clone().unwrap_or_default();
    let unexpected: Vec<usize> = history.seen(f::UNEXPECTED).map(|(at, _)| at).collect();
    if let Some(&first) = unexpected.first() {
        let detail = format!("{} unexpected; the first: {}", unexpected.len(), why(first));
        return Finding::violation(NAME, detail, unexpected);
    }
    if let Some((at, how)) = history.breaches().first() {
        let all = history.breaches().len();
        return Finding {
            lines: vec![*at],
            ..Finding::unknown(NAME, format!("the rules of a history were broken {all} times; the first: {how}"))
        };
    }
    if let Some((at, _)) = history.seen(f::TROUBLE).next() {
        return Finding { lines: vec![at], ..Finding::unknown(NAME, format!("the harness had trouble: {}", why(at))) };
    }
    let begun = history.seen(f::RUN).next().is_some();
    let ended = history.records().last().is_some_and(|last| last.f == f::END);
    match (begun, ended) {
        (true, false) => Finding::unknown(NAME, "the history ends before the run did"),
        (true, true) => Finding::pass(NAME, format!("{} lines, whole", history.records().len())),
        (false, _) => Finding::nothing(NAME, format!("no run around these {} lines", history.records().len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Record, Type};
    use crate::verdict::Verdict;

    fn verdict(records: Vec<Record>) -> Verdict {
        check(&History::new(records)).verdict
    }

    fn seen(f: &str) -> Record {
        Record { error: Some("it said so".into()), ..Record::seen("harness", f) }
    }

    #[test]
    fn only_a_whole_run_in_which_nothing_fell_over_passes() {
        assert_eq!(verdict(vec![seen(f::RUN), seen(f::END)]), Verdict::Pass);
        assert_eq!(verdict(vec![seen(f::RUN)]), Verdict::Unknown);
        assert_eq!(verdict(vec![seen(f::RUN), seen(f::TROUBLE), seen(f::END)]), Verdict::Unknown);
        assert_eq!(verdict(vec![seen(f::RUN), seen(f::UNEXPECTED), seen(f::END)]), Verdict::Violation);
        let never_begun = Record::new("1", Type::Ok, f::READ);
        assert_eq!(verdict(vec![seen(f::RUN), never_begun, seen(f::END)]), Verdict::Unknown);
        assert_eq!(verdict(vec![]), Verdict::Nothing);
    }
}
