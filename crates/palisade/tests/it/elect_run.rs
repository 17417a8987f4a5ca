//! `palisade elect run`: a command runs only while it leads, whatever becomes of it or of us.

use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::{Cluster, Running, code, eventually, palisade};

/// Runs a shell script under `elect run`; the script may write to `$OUT/NAME`.
fn run(cluster: &Cluster, id: &str, flags: &[&str], script: &str) -> Running {
    let mut command: Command = palisade();
    command.args(["elect", "run", "e", "--id", id, "--endpoints", &cluster.endpoints()]).args(flags);
    command.args(["--", "sh", "-c", script]).env("OUT", cluster.dir.path());
    let log =
        std::fs::File::options().create(true).append(true).open(cluster.dir.path().join(format!("{id}.log"))).unwrap();
    Running(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap())
}

fn read(cluster: &Cluster, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(cluster.dir.path().join(name)).ok()?;
    (!text.trim().is_empty()).then(|| text.trim().to_owned())
}

fn alive(pid: &str) -> bool {
    let gone = || matches!(kill(Pid::from_raw(pid.parse().unwrap()), None), Err(nix::errno::Errno::ESRCH));
    // An orphan that was handed to a parent which does not reap is a zombie: it runs nothing.
    let zombie = || std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z"));
    !gone() && !zombie()
}

#[test]
fn the_command_gets_its_token_and_its_exit_code_is_ours() {
    let cluster = Cluster::start();
    let script = r#"palisade_fence=$PALISADE_FENCE; echo "$PALISADE_ELECTION $PALISADE_TOKEN $PALISADE_CANDIDATE $palisade_fence" > $OUT/said; exit 7"#;
    let mut process = run(&cluster, "me", &[], script);
    assert_eq!(code(process.wait()), 7);
    let said = read(&cluster, "said").unwrap();
    let words: Vec<_> = said.split(' ').collect();
    assert_eq!((words[0], words[2], words[3]), ("e", "me", format!("e:{}", words[1]).as_str()));
    assert_eq!(cluster.refused(&["elect", "leader", "e"]).1["kind"], "no_leader", "it resigned");
}

#[test]
fn a_child_killed_by_a_signal_gives_128_plus_its_number() {
    let cluster = Cluster::start();
    assert_eq!(code(run(&cluster, "me", &[], "kill -KILL $$").wait()), 137);
    assert_eq!(code(run(&cluster, "me", &[], "exec /nonexistent/program").wait()), 127);
}

#[test]
fn sigterm_ends_the_child_then_resigns() {
    let cluster = Cluster::start();
    let mut first = run(&cluster, "first", &["--ttl", "10s"], "echo $$ > $OUT/first; exec sleep 1000");
    let pid = eventually("the first runs", || read(&cluster, "first"));
    let _second = run(&cluster, "second", &["--ttl", "10s"], "echo $$ > $OUT/second; exec sleep 1000");
    first.signal(Signal::SIGTERM);
    assert_eq!(code(first.wait()), 0);
    assert!(!alive(&pid));
    eventually("the second runs", || read(&cluster, "second"));
}

#[test]
fn a_child_that_ignores_sigterm_is_killed_before_the_next_one_runs() {
    let cluster = Cluster::start();
    let stubborn = "trap '' TERM; echo $$ > $OUT/first; while :; do sleep 0.1; done";
    let mut first = run(&cluster, "first", &["--ttl", "2s", "--grace", "300ms"], stubborn);
    let pid = eventually("the first runs", || read(&cluster, "first"));
    first.signal(Signal::SIGTERM);
    assert_eq!(code(first.wait()), 0);
    assert!(!alive(&pid));
}

#[test]
fn when_run_itself_is_killed_its_guardian_ends_the_child() {
    let cluster = Cluster::start();
    let mut first =
        run(&cluster, "first", &["--ttl", "1s"], "echo $$ > $OUT/first; sleep 1000 & echo $! > $OUT/forked; wait");
    let pid = eventually("the first runs", || read(&cluster, "first"));
    let forked = eventually("it forked", || read(&cluster, "forked"));
    let _second = run(&cluster, "second", &["--ttl", "1s"], "echo $$ > $OUT/second; exec sleep 1000");
    first.kill();
    eventually("the child and what it forked are gone", || (!alive(&pid) && !alive(&forked)).then_some(()));
    eventually("the second runs", || read(&cluster, "second"));
}

#[test]
fn when_run_itself_is_stopped_the_child_ends_at_the_deadline() {
    let cluster = Cluster::start();
    let first = run(&cluster, "first", &["--ttl", "1s"], "echo $$ > $OUT/first; exec sleep 1000");
    let pid = eventually("the first runs", || read(&cluster, "first"));
    // The second writes whether the first was still alive when it began.
    let script = r#"if kill -0 $(cat $OUT/first) 2>/dev/null; then echo overlap > $OUT/second; else echo alone > $OUT/second; fi; exec sleep 1000"#;
    let _second = run(&cluster, "second", &["--ttl", "1s"], script);
    first.signal(Signal::SIGSTOP);
    assert_eq!(eventually("the second runs", || read(&cluster, "second")), "alone");
    assert!(!alive(&pid));
    first.signal(Signal::SIGCONT);
}

#[test]
fn when_the_guardian_is_killed_the_command_is_gone_before_the_next_one_runs() {
    let cluster = Cluster::start();
    let _first = run(&cluster, "first", &["--ttl", "5s"], "echo $$ > $OUT/first; exec sleep 1000");
    let pid = eventually("the first runs", || read(&cluster, "first"));
    let script = r#"if kill -0 $(cat $OUT/first) 2>/dev/null; then echo overlap > $OUT/second; else echo alone > $OUT/second; fi; exec sleep 1000"#;
    let _second = run(&cluster, "second", &["--ttl", "5s"], script);
    // The guardian is the command's parent.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let guardian = stat.rsplit_once(") ").unwrap().1.split(' ').nth(1).unwrap().parse().unwrap();
    kill(Pid::from_raw(guardian), Signal::SIGKILL).unwrap();
    assert_eq!(eventually("the second runs", || read(&cluster, "second")), "alone");
    assert!(!alive(&pid));
}

#[test]
fn when_somebody_else_is_to_lead_the_command_ends_before_the_next_one_runs() {
    let cluster = Cluster::start();
    let mut first = run(&cluster, "first", &["--ttl", "10s"], "echo $$ > $OUT/first; exec sleep 1000");
    let pid = eventually("the first runs", || read(&cluster, "first"));
    let script = r#"if kill -0 $(cat $OUT/first) 2>/dev/null; then echo overlap > $OUT/second; else echo alone > $OUT/second; fi; exec sleep 1000"#;
    let _second = run(&cluster, "second", &["--ttl", "10s"], script);
    let waits = || cluster.json(&["elect", "list"])["elections"][0]["waiting"] == 1;
    eventually("the second waits", || waits().then_some(()));
    assert_eq!(cluster.json(&["elect", "transfer", "e", "--to", "second"])["requested"], true);
    assert_eq!(code(first.wait()), 0, "it did what it was asked for");
    assert_eq!(eventually("the second runs", || read(&cluster, "second")), "alone");
    assert!(!alive(&pid));
}
