//! What a checker says, and what a run as a whole comes to. "Unknown" is never a pass.

use std::fmt;

/// Exit code of a usage error.
pub(crate) const USAGE: u8 = 2;
/// Exit code when the harness itself failed.
pub(crate) const HARNESS: u8 = 4;

/// One checker's word on one history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// The checker's name.
    pub(crate) checker: &'static str,
    pub(crate) verdict: Verdict,
    /// What was checked, or the counter-example.
    pub(crate) detail: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<18} {:<10} {}", self.checker, self.verdict.to_string(), self.detail)
    }
}

/// In rising order of weight: the verdict of a run is the heaviest of its findings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    /// Checked, and nothing is wrong.
    Pass,
    /// It could not be decided, or too little happened.
    Unknown,
    /// A promise was broken.
    Violation,
}

impl Verdict {
    /// A run without findings checked nothing.
    pub(crate) fn of(findings: &[Finding]) -> Verdict {
        findings.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Unknown)
    }

    pub(crate) fn code(self) -> u8 {
        match self {
            Verdict::Pass => 0,
            Verdict::Violation => 1,
            Verdict::Unknown => 3,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::Pass => "pass",
            Verdict::Unknown => "unknown",
            Verdict::Violation => "VIOLATION",
        })
    }
}
