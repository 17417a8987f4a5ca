//! A configuration file whose mistakes are refused when a process starts, with the file, the key, the value and the limit; and
//! one that is right is all that a process needs. The kinds of mistakes one by one are tests of `settings`.

use std::process::Stdio;

use crate::harness::{Running, code, eventually, free_addresses, palisade};

/// Starts a command with a file and gives its exit code and what it said.
fn refused(text: &str, args: &[&str]) -> (i32, String) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("palisade.toml");
    std::fs::write(&file, text).unwrap();
    let output = palisade().args(args).arg("--config").arg(&file).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).replace(file.to_str().unwrap(), "FILE");
    (code(output.status), said.trim_end().to_owned())
}

#[test]
fn a_mistake_is_refused_at_the_start_with_file_key_value_and_limit() {
    let server = ["server"];
    let start = "id = 1\ndata = 'd'\nlisten = '127.0.0.1:7071'\n";
    let initial = "initial = ['1=127.0.0.1:7071']\n";
    let cases = [
        // A key that is none.
        (
            "listne = '127.0.0.1:1'\n",
            "config 'FILE': listne: '127.0.0.1:1': there is no such flag; did you mean 'listen'?",
        ),
        // The wrong type.
        (
            "min-ttl = 0.5\n",
            "config 'FILE': min-ttl: '0.5': a float cannot be the value of a flag (text, a whole number, true or false, or a list of them)",
        ),
        // Out of range, which only the node knows.
        (
            "min-ttl = '10s'\nmax-ttl = '5s'\n",
            "palisade: config 'FILE': min-ttl: '10s': at most --max-ttl, which is 5s",
        ),
        // A contradiction between two keys.
        ("join = '127.0.0.1:7072'\n", "cannot be used together with"),
        // Another that only the node knows.
        (
            "advertise = '127.0.0.1:9'\n",
            "palisade: config 'FILE': advertise: '127.0.0.1:9': --initial names node 1 as 127.0.0.1:7071; both must be the same",
        ),
        // An address where nobody can listen.
        ("metrics = 'nowhere'\n", "palisade: config 'FILE': metrics: 'nowhere': HOST:PORT; there is no port"),
    ];
    for (mistake, words) in cases {
        let (exit, said) = refused(&format!("{start}{initial}{mistake}"), &server);
        assert_eq!(exit, 2, "{mistake}: {said}");
        assert!(said.contains(words) && said.contains("config 'FILE'"), "{mistake}: {said}");
    }
    let (exit, said) = refused("slots = 0\n", &["taskexecutor", "--id", "t", "--storage", "s", "--data", "d"]);
    assert_eq!(exit, 2, "{said}");
    assert!(said.starts_with("palisade: config 'FILE': slots: '0': "), "{said}");
}

#[test]
fn a_file_is_all_that_a_node_needs_and_a_flag_and_a_variable_win_over_it() {
    let dir = tempfile::tempdir().unwrap();
    let addresses = free_addresses(2);
    let file = dir.path().join("palisade.toml");
    let data = dir.path().join("data");
    let text = format!(
        "log-format = 'json'\nendpoints = ['{0}']\n[server]\nid = 1\nlisten = '{0}'\ninitial = ['1={0}']\ndata = '{1}'\nmetrics = '{2}'\n",
        addresses[0],
        data.display(),
        addresses[1],
    );
    std::fs::write(&file, text).unwrap();
    let log = dir.path().join("log");
    let mut command = palisade();
    command
        .arg("server")
        .arg("--config")
        .arg(&file)
        .args(["--metrics", "127.0.0.1:0"])
        .env("PALISADE_LOG_FORMAT", "text");
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(std::fs::File::create(&log).unwrap()).spawn();
    let _node = Running(child.unwrap());
    let put = |value: &str| palisade().args(["kv", "put", "k", value]).env("PALISADE_CONFIG", &file).output().unwrap();
    eventually("the node of the file serves, where the file says", || put("1").status.success().then_some(()));
    let said = std::fs::read_to_string(&log).unwrap();
    assert!(!said.contains(&addresses[1]), "the flag wins over the file: {said}");
    assert!(!said.contains("{\"timestamp\""), "the variable wins over the file: {said}");
}
