//! Histories by hand: `testdata/CHECKER/VERDICT_what_it_shows.jsonl`, each beginning with a comment that says why.

use std::path::{Path, PathBuf};

use crate::history::{History, read};
use crate::verdict::{Finding, Verdict};

/// The histories of a folder of `testdata`, with the verdict that their names ask for.
pub(crate) fn by_hand(folder: &str) -> Vec<(PathBuf, Verdict, History)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(folder);
    let mut files: Vec<PathBuf> = std::fs::read_dir(&dir)
        .unwrap_or_else(|error| panic!("{}: {error}", dir.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    let told = |path: PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let verdict = match name.split('_').next().unwrap() {
            "pass" => Verdict::Pass,
            "violation" => Verdict::Violation,
            "unknown" => Verdict::Unknown,
            "nothing" => Verdict::Nothing,
            other => panic!("{name}: '{other}' is no verdict"),
        };
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("// "), "{name} does not say what it shows");
        let history = read(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(history.breaches().is_empty(), "{name}: {:?}", history.breaches());
        (path, verdict, history)
    };
    files.into_iter().map(told).collect()
}

/// Every history of the checker's folder gets the verdict of its name, good ones and bad ones are there, and a violation shows lines.
pub(crate) fn verdicts(folder: &str, check: impl Fn(&History) -> Finding) {
    let histories = by_hand(folder);
    for wanted in [Verdict::Pass, Verdict::Violation] {
        assert!(histories.iter().any(|(_, verdict, _)| *verdict == wanted), "{folder}: no history for '{wanted}'");
    }
    for (path, verdict, history) in histories {
        let finding = check(&history);
        assert_eq!(finding.verdict, verdict, "{}: {finding}", path.display());
        if verdict == Verdict::Violation {
            assert!(!finding.lines.is_empty(), "{}: a violation without the lines that show it", path.display());
            assert!(finding.lines.iter().all(|&line| line < history.records().len()));
        }
    }
}
