//! The operator's page does what it says: its commands are run, as they stand there and in their order, by one shell against real
//! processes. Only the ports are others, so that two tests at once do not meet.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::harness::{Running, code, free_addresses};
use crate::skip::{has, skip};

const PAGE: &str = include_str!("../../OPERATING.md");

/// How long all of it may take.
const LIMIT: &str = "120";

/// The commands of the page: everything between ```sh and ```.
fn commands(page: &str) -> String {
    let blocks = page.split("```sh\n").skip(1);
    blocks.map(|block| block.split("```").next().unwrap()).collect::<Vec<_>>().join("\n")
}

/// Gives each port of the page a free one.
fn with_free_ports(script: &str) -> String {
    let mut parts = script.split("127.0.0.1:");
    let mut out = parts.next().unwrap().to_owned();
    let parts: Vec<(&str, &str)> =
        parts.map(|part| part.split_at(part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len()))).collect();
    let ports: std::collections::BTreeSet<&str> = parts.iter().map(|(port, _)| *port).collect();
    let free: BTreeMap<&str, String> = ports.iter().copied().zip(free_addresses(ports.len())).collect();
    for (port, rest) in parts {
        out.push_str(&free[port]);
        out.push_str(rest);
    }
    out
}

#[test]
fn the_commands_of_the_operators_page_work_as_they_stand_there() {
    let name = "the_commands_of_the_operators_page_work_as_they_stand_there";
    for tool in ["bash", "curl", "timeout"] {
        if !has(tool, "--version") {
            return skip(name, tool, &format!("there is no {tool}"));
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let bin = dir.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_palisade"), bin.join("palisade")).unwrap();
    let script = with_free_ports(&commands(PAGE));
    assert!(script.lines().count() > 30, "the page has no commands: {script}");
    // Every process that the page starts is a job of this one shell.
    let end = "trap 'jobs -p | xargs -r kill -9 2>/dev/null || true' EXIT";
    let path = dir.path().join("page.sh");
    std::fs::write(&path, format!("set -euo pipefail\n{end}\n{script}\necho 'the page is at its end'\n")).unwrap();
    let output = dir.path().join("output");
    let file = std::fs::File::create(&output).unwrap();
    let search = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let mut command = Command::new("timeout");
    command.args(["-k", "5", LIMIT, "bash", "-x"]).arg(&path).current_dir(dir.path()).env("PATH", search);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("PALISADE_")) {
        command.env_remove(name);
    }
    let stderr = file.try_clone().unwrap();
    let mut shell = Running(command.stdin(Stdio::null()).stdout(file).stderr(stderr).spawn().unwrap());
    let status = shell.0.wait().unwrap();
    let said = std::fs::read_to_string(&output).unwrap();
    let whole = status.success() && said.contains("\nthe page is at its end\n");
    assert!(whole, "exit {}: {said}\n{}", code(status), logs(dir.path()));
}

/// What the processes of the page said.
fn logs(dir: &Path) -> String {
    let mut logs = String::new();
    for entry in std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.extension().is_some_and(|extension| extension == "log") {
            let text = std::fs::read_to_string(&entry).unwrap_or_default();
            let last: Vec<&str> = text.lines().rev().take(20).collect();
            logs.push_str(&format!(
                "--- {}\n{}\n",
                entry.display(),
                last.into_iter().rev().collect::<Vec<_>>().join("\n")
            ));
        }
    }
    logs
}

#[test]
fn a_port_of_the_page_is_the_same_free_one_everywhere() {
    let out = with_free_ports("a 127.0.0.1:1 b 127.0.0.1:22 c http://127.0.0.1:1/x");
    let words: Vec<&str> = out.split(' ').collect();
    assert!(words[1] != words[3] && words[5] == format!("http://{}/x", words[1]), "{out}");
    assert_eq!(commands("x\n```sh\na\n```\ny\n```text\nb\n```\n```sh\nc\n```\n"), "a\n\nc\n");
}
