//! Nodes that come back: from their own disk, from the leader's log, from the leader's snapshot.

use bytes::Bytes;

use crate::cluster::{Three, within};

#[tokio::test]
async fn all_nodes_restart_from_disk() {
    let mut three = Three::formed(1_000).await;
    let notes: Vec<Bytes> = (0..20).map(|number| Bytes::from(format!("note {number}"))).collect();
    for note in &notes {
        three.note(std::str::from_utf8(note).unwrap()).await;
    }
    for node in 1..=3 {
        three.place_mut(node).kill();
    }
    for node in 1..=3 {
        three.restart(node).await;
        assert!(three.place(node).running().replica.is_initialized());
    }
    assert_eq!(three.note("after").await, notes.len() + 1);
    for running in three.runs() {
        assert_eq!(running.has(notes.len()).await, notes);
    }
}

#[tokio::test]
async fn a_follower_that_was_away_gets_the_log() {
    let mut three = Three::formed(1_000).await;
    three.note("before").await;
    let away = three.followers().await[0];
    three.place_mut(away).kill();
    for number in 0..50 {
        three.note(&format!("note {number}")).await;
    }
    three.restart(away).await;
    let back = three.place(away).running();
    let list = back.has(51).await;
    assert_eq!(list[50], Bytes::from_static(b"note 49"));
    assert_eq!(back.machine.restored(), 0, "the log was enough");
}

#[tokio::test]
async fn a_follower_that_was_away_for_long_gets_a_snapshot() {
    let mut three = Three::formed(20).await;
    three.note("before").await;
    let away = three.followers().await[0];
    three.place_mut(away).kill();
    let large = "x".repeat(20_000);
    for number in 0..200 {
        three.note(&format!("{number} {large}")).await;
    }
    three.restart(away).await;
    let back = three.place(away).running();
    let list = back.has(201).await;
    assert!(list[200].starts_with(b"199 "));
    assert!(back.machine.restored() > 0, "the entries that it missed are gone from the log");

    // It goes on with the log behind the snapshot, and finds both again on its own disk.
    three.note("after").await;
    three.place(away).running().has(202).await;
    three.place_mut(away).kill();
    three.restart(away).await;
    let list = three.place(away).running().has(202).await;
    assert_eq!(list[201], Bytes::from_static(b"after"));
}

#[tokio::test]
async fn a_leader_restarts_from_its_own_snapshot() {
    let mut three = Three::formed(20).await;
    for number in 0..100 {
        three.note(&format!("note {number}")).await;
    }
    let (leader, _) = three.leader().await;
    three.place_mut(leader).kill();
    three.restart(leader).await;
    let back = three.place(leader).running();
    assert!(back.machine.restored() > 0, "it began with a snapshot");
    within("all notes are back", back.has(100)).await;
    assert_eq!(three.note("after").await, 101);
}
