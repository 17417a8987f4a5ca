//! One self-contained HTML page for a run: no script, no font, no picture from anywhere else; it can be mailed and kept.
//!
//! From top to bottom it answers: did it pass; if not, what exactly happened, with the operations around it; who led when, under which
//! faults; how long things took; was enough tried. It judges nothing: verdicts come from the checkers, and what it computes besides
//! (latencies, failovers) is shown, not judged. However long the history, the page stays within some thousand shapes.

mod example;
mod failover;
mod latency;
mod page;
mod plot;
mod tables;
mod timeline;

use std::io;
use std::path::{Path, PathBuf};

use crate::checkers::{self, Budget, RunInfo};
use crate::history::{History, ReadError, read};
use crate::verdict::{Finding, Verdict};

use self::page::Page;

/// The name of the page in the folder of a run.
pub const FILE: &str = "report.html";
/// The name of the history in the folder of a run.
pub const HISTORY: &str = "history.jsonl";

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The history cannot be judged.
    #[error("{}: {error}", path.display())]
    History {
        /// Its file.
        path: PathBuf,
        /// Why.
        error: ReadError,
    },
    /// The page could not be written.
    #[error("writing {}: {error}", path.display())]
    Write {
        /// Its file.
        path: PathBuf,
        /// What the file system says.
        error: io::Error,
    },
}

/// Judges the history in the folder of a run and writes the page beside it. Gives the page's path and the verdict.
///
/// # Errors
/// The history is not there or not whole, or the page could not be written.
pub fn write(dir: &Path, budget: Budget) -> Result<(PathBuf, Verdict), ReportError> {
    let path = dir.join(HISTORY);
    let history = read(&path).map_err(|error| ReportError::History { path, error })?;
    let findings = checkers::check_within(&history, budget);
    Ok((write_judged(dir, &history, &findings)?, Verdict::of(&findings)))
}

/// Writes the page of a history that has been judged into the folder of its run: the search is not made twice.
///
/// # Errors
/// The page could not be written.
pub fn write_judged(dir: &Path, history: &History, findings: &[Finding]) -> Result<PathBuf, ReportError> {
    let path = dir.join(FILE);
    match std::fs::write(&path, html(history, findings)) {
        Ok(()) => Ok(path),
        Err(error) => Err(ReportError::Write { path, error }),
    }
}

/// How long failovers took, a line for each kind of fault: for a terminal, as the page has it.
pub fn failovers(history: &History) -> Vec<String> {
    failover::lines(history)
}

/// The page.
pub fn html(history: &History, findings: &[Finding]) -> String {
    let info = RunInfo::of(history).unwrap_or_default();
    let mut page = Page::new(&title(&info));
    tables::banner(&mut page, history, findings, &info);
    for finding in findings.iter().filter(|finding| !finding.lines.is_empty()) {
        example::show(&mut page, history, finding);
    }
    tables::findings(&mut page, findings);
    timeline::show(&mut page, history, findings);
    failover::show(&mut page, history);
    latency::show(&mut page, history);
    tables::gates(&mut page, history, &info);
    tables::operations(&mut page, history);
    tables::faults(&mut page, history);
    tables::notes(&mut page, history);
    page.finish()
}

fn title(info: &RunInfo) -> String {
    if info.scenario.is_empty() {
        "jepsen-lite".to_owned()
    } else {
        format!("jepsen-lite: {}, seed {}", info.scenario, info.seed)
    }
}
