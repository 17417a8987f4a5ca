//! What a checker says, and what a run as a whole comes to. "Unknown" is never a pass, and neither is having checked nothing.

use std::fmt;

/// Exit code of a usage error.
pub const USAGE: u8 = 2;
/// Exit code when the harness itself failed.
pub const HARNESS: u8 = 4;

/// One checker's word on one history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The checker's name.
    pub checker: &'static str,
    /// What it comes to.
    pub verdict: Verdict,
    /// What was checked, or the counter-example in words.
    pub detail: String,
    /// The lines that the counter-example stands on, as indexes into the records of the history; empty without one.
    pub lines: Vec<usize>,
}

impl Finding {
    /// Checked, and nothing is wrong; `detail` says how much was checked.
    pub fn pass(checker: &'static str, detail: impl Into<String>) -> Finding {
        Finding { checker, verdict: Verdict::Pass, detail: detail.into(), lines: Vec::new() }
    }

    /// The history has nothing that this checker looks at.
    pub fn nothing(checker: &'static str, detail: impl Into<String>) -> Finding {
        Finding { checker, verdict: Verdict::Nothing, detail: detail.into(), lines: Vec::new() }
    }

    /// It could not be decided.
    pub fn unknown(checker: &'static str, detail: impl Into<String>) -> Finding {
        Finding { checker, verdict: Verdict::Unknown, detail: detail.into(), lines: Vec::new() }
    }

    /// A promise was broken; `lines` are those that show it.
    pub fn violation(
        checker: &'static str,
        detail: impl Into<String>,
        lines: impl IntoIterator<Item = usize>,
    ) -> Finding {
        let mut lines: Vec<usize> = lines.into_iter().collect();
        lines.sort_unstable();
        lines.dedup();
        Finding { checker, verdict: Verdict::Violation, detail: detail.into(), lines }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<16} {:<10} {}", self.checker, self.verdict.to_string(), self.detail)
    }
}

/// In rising order of weight: the verdict of a run is the heaviest of its findings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// There was nothing of this kind to check.
    Nothing,
    /// Checked, and nothing is wrong.
    Pass,
    /// It could not be decided, or too little happened.
    Unknown,
    /// A promise was broken.
    Violation,
}

impl Verdict {
    /// The verdict of a run: the heaviest of its findings. A run in which no checker had anything to check is unknown.
    pub fn of(findings: &[Finding]) -> Verdict {
        match findings.iter().map(|finding| finding.verdict).max() {
            None | Some(Verdict::Nothing) => Verdict::Unknown,
            Some(verdict) => verdict,
        }
    }

    /// The exit code: 0 pass, 1 violation, 3 unknown.
    pub fn code(self) -> u8 {
        match self {
            Verdict::Pass => 0,
            Verdict::Violation => 1,
            Verdict::Nothing | Verdict::Unknown => 3,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::Nothing => "nothing",
            Verdict::Pass => "pass",
            Verdict::Unknown => "unknown",
            Verdict::Violation => "VIOLATION",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_heaviest_finding_decides_and_nothing_is_never_a_pass() {
        assert_eq!(Verdict::of(&[]).code(), 3);
        assert_eq!(Verdict::of(&[Finding::nothing("a", "")]).code(), 3);
        assert_eq!(Verdict::of(&[Finding::nothing("a", ""), Finding::pass("b", "")]).code(), 0);
        assert_eq!(Verdict::of(&[Finding::pass("a", ""), Finding::unknown("b", "")]).code(), 3);
        assert_eq!(Verdict::of(&[Finding::unknown("a", ""), Finding::violation("b", "", [])]).code(), 1);
    }
}
