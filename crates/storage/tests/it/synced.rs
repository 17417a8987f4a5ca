//! "A callback implies that the data was synced", seen from outside: a traced process never writes its acknowledgement
//! before an `fdatasync` of sled's data file that began after the submit has returned.

use std::collections::BTreeMap;
use std::process::Command;

use crate::support::skip;
use crate::writer::{Job, Mode, lines, start};

/// Why strace cannot be used here, if it cannot.
pub(crate) fn strace_is_missing() -> Option<String> {
    match Command::new("strace").args(["-o", "/dev/null", "true"]).output() {
        Err(error) => Some(format!("strace cannot be started: {error}")),
        Ok(output) if !output.status.success() => {
            Some(format!("strace cannot trace: {}", String::from_utf8_lossy(&output.stderr).trim()))
        }
        Ok(_) => None,
    }
}

/// Traces a writer; returns how many acknowledgements were seen to follow their sync, and how often it synced for them, or the
/// first acknowledgement that does not follow one.
pub(crate) fn trace(planted: &str) -> Result<(usize, usize), String> {
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("trace");
    let store = dir.path().join("store");
    let wrapper = ["strace", "-f", "-y", "-e", "trace=fdatasync,fsync,write", "-o", trace.to_str().unwrap()];
    let job = Job { mode: Mode::Single, dir: &store, round: 1, seed: 1, planted };
    let mut child = start(&job, &wrapper);
    let said = lines(&mut child).filter(|line| line.starts_with("ack ")).count();
    assert!(child.wait().unwrap().success());
    assert_eq!(said, 20, "the writer did its work");
    let trace = std::fs::read_to_string(&trace).unwrap();
    check(&trace).map(|seen| (seen, syncs(&trace)))
}

/// Syncs of sled's data file after the first submit, until the engine was dropped.
fn syncs(trace: &str) -> usize {
    let submitted = trace.lines().skip_while(|line| !line.contains("\"submit 0"));
    submitted.filter(|line| line.contains(" fdatasync(") && line.contains("/log/db>")).count()
}

/// Reads a trace. Each line is `PID call(FD<path>, ...) = result`, or its beginning or its end when calls overlap.
fn check(trace: &str) -> Result<usize, String> {
    // Threads whose sync of the data file has begun, and whether that was after the submit at hand.
    let mut begun: BTreeMap<&str, Syncing> = BTreeMap::new();
    let mut synced = false;
    let mut seen = 0;
    for line in trace.lines() {
        let (pid, call) = line.trim().split_once(' ').ok_or("a line without a process")?;
        let call = call.trim_start();
        if call.starts_with("fdatasync(") && call.contains("/log/db>") {
            begun.insert(pid, Syncing::AfterSubmit);
        }
        if call.contains("fdatasync") && call.ends_with("= 0") && begun.remove(pid) == Some(Syncing::AfterSubmit) {
            synced = true;
        }
        if call.starts_with("write(1<") && call.contains("\"submit ") {
            synced = false;
            begun.values_mut().for_each(|syncing| *syncing = Syncing::BeforeSubmit);
        }
        if call.starts_with("write(1<") && call.contains("\"ack ") {
            if !synced {
                return Err(format!("acknowledged before the sync: {call}"));
            }
            seen += 1;
        }
    }
    Ok(seen)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Syncing {
    BeforeSubmit,
    AfterSubmit,
}

#[test]
fn a_callback_implies_that_the_data_was_synced() {
    if let Some(reason) = strace_is_missing() {
        return skip("a_callback_implies_that_the_data_was_synced", "strace", &reason);
    }
    let (acknowledged, syncs) = trace("").unwrap();
    assert_eq!(acknowledged, 20);
    // The writer also says what is committed after each of its writes: that needs a sync of its own where there is a pause only.
    assert!((21..40).contains(&syncs), "{syncs}");
}

#[test]
fn the_check_of_a_trace_can_fail() {
    let submit = "7 write(1<pipe:[1]>, \"submit 0\\n\", 9) = 9\n";
    let ack = "8 write(1<pipe:[1]>, \"ack 0\\n\", 6) = 6\n";
    let sync = "8 fdatasync(9</tmp/store/log/db>) = 0\n";
    let (begin, end) = ("8 fdatasync(9</tmp/store/log/db> <unfinished ...>\n", "8 <... fdatasync resumed>) = 0\n");
    let other = "8 fdatasync(9</tmp/store/else>) = 0\n";
    let fails = "8 fdatasync(9</tmp/store/log/db>) = -1 EIO (Input/output error)\n";
    for (good, lines) in [
        (true, vec![submit, sync, ack]),
        (true, vec![submit, begin, end, ack]),
        (false, vec![submit, ack, sync]),
        (false, vec![submit, begin, ack, end]),
        (false, vec![begin, submit, end, ack]),
        (false, vec![sync, submit, ack]),
        (false, vec![submit, other, ack]),
        (false, vec![submit, fails, ack]),
        (false, vec![submit, sync, ack, submit, ack]),
    ] {
        assert_eq!(check(&lines.concat()).is_ok(), good, "{lines:?}");
    }
}
