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

#[test]
fn a_nemesis_in_the_wrong_place_is_a_usage_error_that_names_the_right_one() {
    let asked = ["run", "kill-holder", "--target", "compose", "--nemesis", "kill-holder,stale-messages"];
    let refused = jepsen_lite(&asked);
    assert_eq!(refused.status.code(), Some(2));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("stale-messages does not work at compose; it does at local"), "{said}");
    let unknown = jepsen_lite(&["run", "kill-holder", "--nemesis", "earthquake"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("earthquake"));
}

#[test]
fn a_scenario_in_the_wrong_place_is_a_usage_error() {
    for (scenario, target) in [("job", "namespaces"), ("five-nodes", "compose"), ("mutual-exclusion", "compose")] {
        let refused = jepsen_lite(&["run", scenario, "--target", target]);
        assert_eq!(
            refused.status.code(),
            Some(2),
            "{scenario} at {target}: {}",
            String::from_utf8_lossy(&refused.stderr)
        );
    }
}

#[test]
fn it_prints_which_nemesis_works_where() {
    let printed = jepsen_lite(&["nemeses"]);
    assert!(printed.status.success());
    let table = String::from_utf8_lossy(&printed.stdout).into_owned();
    assert!(table.lines().any(|line| line.starts_with("| `kill-holder` |")), "{table}");
}
