//! `check` and `report` from outside: exit codes, the export, the page.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn run(arguments: &[&Path]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_jepsen-lite")).args(arguments).output().expect("it was built beside this test")
}

fn by_hand(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name)
}

fn code(history: &Path) -> Option<i32> {
    run(&[Path::new("check"), history]).status.code()
}

#[test]
fn the_exit_code_is_the_verdict() {
    assert_eq!(code(&by_hand("durable/pass_reads_what_was_written.jsonl")), Some(0));
    assert_eq!(code(&by_hand("durable/violation_acknowledged_and_gone.jsonl")), Some(1));
    assert_eq!(code(&by_hand("exactly-once/unknown_no_result.jsonl")), Some(3));
    assert_eq!(code(&by_hand("there-is-no-such-file.jsonl")), Some(4));
}

#[test]
fn a_line_that_is_torn_is_a_failure_of_the_harness_with_its_number() {
    let dir = tempfile::tempdir().unwrap();
    let history = dir.path().join("history.jsonl");
    let text = std::fs::read_to_string(by_hand("durable/pass_reads_what_was_written.jsonl")).unwrap();
    std::fs::write(&history, &text[..text.len() - 20]).unwrap();
    let refused = run(&[Path::new("check"), &history]);
    assert_eq!(refused.status.code(), Some(4));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains(&format!("line {} is not a record", text.lines().count())), "{said}");
}

#[test]
fn a_history_is_exported_beside_its_verdict() {
    let dir = tempfile::tempdir().unwrap();
    let edn = dir.path().join("history.edn");
    let history = by_hand("append/pass_serial.jsonl");
    let checked = run(&[Path::new("check"), &history, Path::new("--edn"), &edn]);
    assert_eq!(checked.status.code(), Some(0), "{checked:?}");
    let text = std::fs::read_to_string(&edn).unwrap();
    assert_eq!(
        text.lines().count(),
        std::fs::read_to_string(&history).unwrap().lines().count() - 1,
        "all but the comment"
    );
    assert!(text.contains(":f :txn, :value [[:append \"x\" 1] [:r \"y\" []]]"), "{text}");
}

#[test]
fn a_report_is_one_page_that_needs_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(by_hand("fence/violation_stale_after_the_next_grant.jsonl"), dir.path().join("history.jsonl"))
        .unwrap();
    let made = run(&[Path::new("report"), dir.path()]);
    assert_eq!(made.status.code(), Some(0), "{made:?}");
    let page = std::fs::read_to_string(dir.path().join("report.html")).unwrap();
    for wanted in ["VIOLATION", "a stale write was accepted at seq 30", "tr class=\"hit\"", "</html>"] {
        assert!(page.contains(wanted), "the page lacks '{wanted}'");
    }
    for outside in ["src=", "href=", "url(", "<script", "@import"] {
        assert!(!page.contains(outside), "the page holds '{outside}'");
    }
    assert_eq!(run(&[Path::new("report"), &dir.path().join("no-run")]).status.code(), Some(4));
}
