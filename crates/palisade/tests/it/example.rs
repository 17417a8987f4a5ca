//! The example service in Rust, as its page says: two replicas, one of which hands out numbers, and is killed.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::harness::{Cluster, Running, eventually, free_addresses};

/// Built with the tests of this package.
fn program() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_palisade")).with_file_name("examples").join("invoices")
}

fn replica(cluster: &Cluster, id: &str, address: &str) -> Running {
    let log = std::fs::File::options().create(true).append(true).open(cluster.dir.path().join("invoices.log")).unwrap();
    let mut command = Command::new(program());
    command.args([&cluster.endpoints(), id, address]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    Running(command.spawn().unwrap())
}

/// What one replica says; `None`: it cannot be reached, or it died while it was asked.
fn ask(address: &str) -> Option<String> {
    let mut socket = TcpStream::connect(address).ok()?;
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    socket.write_all(b"next\n").ok()?;
    let mut line = String::new();
    BufReader::new(socket).read_line(&mut line).ok()?;
    line.ends_with('\n').then(|| line.trim_end().to_owned())
}

/// The next number, from whichever of the two leads, and who that is.
fn next_number(addresses: &[String]) -> (u64, usize) {
    eventually("one of the two hands out a number", || {
        addresses.iter().enumerate().find_map(|(at, address)| {
            let number = ask(address)?.strip_prefix("number ")?.parse().ok()?;
            Some((number, at))
        })
    })
}

#[test]
fn the_example_service_hands_out_each_number_once_though_its_leaders_are_killed() {
    let cluster = Cluster::start();
    let addresses = free_addresses(2);
    let ids = ["invoices-1", "invoices-2"];
    let mut replicas: Vec<Running> = (0..2).map(|at| replica(&cluster, ids[at], &addresses[at])).collect();
    let mut taken = BTreeSet::new();
    for kill in 0..3 {
        let mut leading = 0;
        for _ in 0..20 {
            let (number, at) = next_number(&addresses);
            assert!(taken.last().is_none_or(|last| *last < number), "number {number} was taken before");
            taken.insert(number);
            leading = at;
        }
        let other = 1 - leading;
        let answer = eventually("the other replica knows who leads", || {
            ask(&addresses[other]).filter(|answer| answer != "nobody leads")
        });
        assert_eq!(answer, format!("ask {}", addresses[leading]));
        replicas[leading].kill();
        let (number, at) = next_number(&addresses);
        assert_eq!(at, other, "the other one leads after kill {kill}");
        assert!(taken.insert(number), "number {number} was taken before");
        replicas[leading] = replica(&cluster, ids[leading], &addresses[leading]);
    }
    // Nobody was asked while a leader died, so there is no gap.
    assert_eq!(taken.len() as u64, *taken.last().unwrap());
}
