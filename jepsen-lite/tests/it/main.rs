//! The program from outside: what it lists, and that a mistake is a usage error.

mod check;

use std::process::{Command, Output};

fn jepsen_lite(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_jepsen-lite")).args(arguments).output().expect("it was built beside this test")
}

#[test]
fn it_lists_its_scenarios() {
    let listed = jepsen_lite(&["list"]);
    assert!(listed.status.success());
    assert!(String::from_utf8_lossy(&listed.stdout).lines().any(|line| line.starts_with("kill-holder")));
}

#[test]
fn an_unknown_scenario_is_a_usage_error() {
    let refused = jepsen_lite(&["run", "no-such-scenario", "--for", "1s"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("no-such-scenario"));
}
