//! Two processes: this test binary starts itself again, and kills what it started.

use std::process::Stdio;
use std::time::Duration;

use palisade_rpc::{Outcome, RpcAddress, RpcError, Stamp};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};

use crate::counter::*;
use crate::proto::*;
use crate::{soon, spawn};

/// Set in the child's environment only.
const CHILD: &str = "PALISADE_RPC_TEST_CHILD";

/// The child's half: not a test by itself, it passes at once unless it was started by one.
#[tokio::test]
async fn serves_in_a_child_process_when_asked_to() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let service = listening().await;
    let counter = unfenced(&service, "counter", &Probe::new(Gate::Shut)).await;
    println!("\nlistening {}", counter.address());
    // The parent holds the other end: when it is gone, so are we.
    let _ = tokio::io::stdin().read(&mut [0]).await;
}

async fn child() -> (tokio::process::Child, RpcAddress) {
    let mut child = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["processes::serves_in_a_child_process_when_asked_to", "--exact", "--nocapture"])
        .env(CHILD, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    loop {
        let line =
            soon("the child's address", lines.next_line()).await.unwrap().expect("the child says where it listens");
        if let Some(address) = line.strip_prefix("listening ") {
            return (child, address.parse().unwrap());
        }
    }
}

#[tokio::test]
async fn a_killed_process_is_noticed_at_once_and_what_was_sent_is_unknown() {
    let (mut child, address) = child().await;
    let caller = calling().await;
    let gateway: CounterGateway = caller.connect(&address, Stamp::Unfenced).await.unwrap();
    assert_eq!(gateway.add(amount(2)).await.unwrap().sum, 2);

    let patient = gateway.within(Duration::from_secs(3600));
    let begun = spawn({
        let patient = patient.clone();
        async move { patient.add_later(amount(1)).await }
    });
    // Answered behind it on the same stream: it has been sent.
    assert_eq!(patient.read(ReadRequest {}).await.unwrap().sum, 2);
    gateway.note(amount(1)).unwrap();
    child.start_kill().unwrap();
    let broken = soon("the break is told, not the deadline", begun).await.unwrap().unwrap_err();
    assert!(matches!(broken, RpcError::Disconnected { .. }), "{broken:?}");
    assert_eq!(broken.outcome(), Outcome::Unknown);
    let lost = soon("the break is reported for the tell", gateway.refusals().next()).await;
    assert_eq!(lost.error.outcome(), Outcome::Unknown, "{lost:?}");
    soon("the child's end", child.wait()).await.unwrap();
    let refused = soon("nobody listens", patient.add(amount(1))).await.unwrap_err();
    assert!(matches!(refused, RpcError::Unreachable { .. }), "surely not handled: {refused:?}");
}
