//! The one way to skip a test: loudly. `PALISADE_REQUIRE=docker,root,strace` turns a skip into a failure.

/// Prints `SKIPPED name: reason`, or fails if `need` is required.
pub(crate) fn skip(name: &str, need: &str, reason: &str) {
    let required = std::env::var("PALISADE_REQUIRE").unwrap_or_default();
    assert!(
        !required.split(',').any(|required| required == need),
        "{name} needs {need}, which is required here: {reason}"
    );
    // Not println!: the harness of the tests would swallow it.
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "SKIPPED {name}: {reason}");
}

/// Whether a program can be started.
pub(crate) fn has(program: &str, argument: &str) -> bool {
    let output = std::process::Command::new(program).arg(argument).output();
    output.is_ok_and(|output| output.status.success())
}
