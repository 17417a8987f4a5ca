//! Who is refused: nodes that have not joined, and stores that the membership does not name.

use std::time::Duration;

use bytes::Bytes;
use palisade_replica::{Change, ConfirmError, Role};
use palisade_wire::replica::v1::join_reply::Outcome;
use palisade_wire::replica::v1::replica_service_client::ReplicaServiceClient;
use palisade_wire::replica::v1::{
    AppendRequest, Envelope, JoinRequest, LeaderId, LevelUnknown, SnapshotChunk, SnapshotHead, Vote, VoteRequest,
};
use palisade_world::{World, grpc};
use tonic::Code;

use crate::cluster::{Three, within};
use crate::notes::RAISE;

/// What node `from` would send to node `to` to be elected.
fn candidacy(three: &Three, from: u64, to: u64) -> VoteRequest {
    let (from, to) = (&three.place(from).peer, &three.place(to).peer);
    let envelope = Envelope {
        cluster_id: 0,
        generation: 0,
        from_node: from.node_id,
        from_store: from.store_id,
        to_node: to.node_id,
        to_store: to.store_id,
        level: 1,
    };
    let leader = Some(LeaderId { term: 1_000, node: from.node_id });
    VoteRequest {
        envelope: Some(envelope),
        vote: Some(Vote { leader, committed: false }),
        last_log_id: None,
        leadership_transfer: false,
        lost_leader: None,
    }
}

fn client(three: &Three, to: u64) -> ReplicaServiceClient<tonic::transport::Channel> {
    ReplicaServiceClient::new(grpc::channel(&World::real(), &three.place(to).peer.address).unwrap())
}

#[tokio::test]
async fn a_node_that_has_not_joined_votes_for_nobody() {
    let three = Three::waiting(1_000).await;
    assert_eq!(three.place(2).running().status().borrow().role, Role::Waiting);
    assert!(!three.place(2).running().replica.is_initialized());
    let mut two = client(&three, 2);
    let ask = candidacy(&three, 1, 2);
    for refused in [
        within("a refusal", two.vote(ask)).await.map(drop),
        within("a refusal", two.pre_vote(ask)).await.map(drop),
        within("a refusal", two.heartbeat(AppendRequest { envelope: ask.envelope, ..Default::default() }))
            .await
            .map(drop),
        within("a refusal", two.append(tokio_stream::empty())).await.map(drop),
    ] {
        let refused = refused.expect_err("its gate is closed");
        assert_eq!(refused.code(), Code::Unavailable);
        assert!(refused.message().contains("has not joined"), "{refused}");
    }
    // It says who it is, though.
    let hello =
        within("an answer", three.place(1).running().replica.hello(&three.place(2).peer.address)).await.unwrap();
    assert_eq!((hello.node_id, hello.store_id, hello.initialized, hello.names_you), (2, 2 << 32, false, None));

    three.place(2).running().gate.open();
    let granted = within("a vote", two.vote(ask)).await.unwrap().into_inner();
    assert!(granted.granted);
}

#[tokio::test]
async fn each_mismatch_is_refused_with_words() {
    let three = Three::formed(1_000).await;
    three.note("one").await;
    for running in three.runs() {
        running.has(1).await;
    }
    let good = candidacy(&three, 1, 2).envelope.unwrap();
    let cases = [
        (Envelope { to_node: 3, ..good }, "this is node 2, not node 3"),
        (Envelope { to_store: 5, ..good }, "add it under a new id"),
        (Envelope { from_store: 5, ..good }, "its store was lost"),
        (Envelope { cluster_id: 78, ..good }, "belongs to cluster"),
        (Envelope { cluster_id: 77, generation: 9, ..good }, "generation 9"),
    ];
    let mut two = client(&three, 2);
    for (envelope, words) in cases {
        let ask = VoteRequest { envelope: Some(envelope), ..candidacy(&three, 1, 2) };
        let refused = within("a refusal", two.vote(ask)).await.expect_err(words);
        assert_eq!(refused.code(), Code::FailedPrecondition);
        assert!(refused.message().contains(words), "{refused}");
    }
    let garbled = VoteRequest { vote: None, ..candidacy(&three, 1, 2) };
    assert_eq!(within("a refusal", two.vote(garbled)).await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(three.note("two").await, 2, "nothing was disturbed");
}

/// Trap: a wiped node rejoins under its old id and a committed write is lost.
#[tokio::test]
async fn a_wiped_store_under_the_old_id_counts_for_nothing() {
    let mut three = Three::formed(1_000).await;
    three.note("one").await;
    let followers = three.followers().await;
    let (leader, _) = three.leader().await;
    let (wiped, other) = (followers[0], followers[1]);
    three.place_mut(wiped).kill();
    three.place_mut(other).kill();

    // The folder is lost. Even a server that forgets to ask and opens the gate must not let it count.
    three.place_mut(wiped).folder = tempfile::tempdir().unwrap();
    three.place_mut(wiped).start(99).await;
    three.place(wiped).running().gate.open();

    let replica = three.place(leader).running().replica.clone();
    let hello =
        within("an answer", three.place(wiped).running().replica.hello(&three.place(leader).peer.address)).await;
    assert_eq!(hello.unwrap().names_you, Some(wiped << 32), "the membership names the store that was lost");
    for _ in 0..5 {
        let confirmed = within("an answer", replica.confirm_leadership()).await;
        assert!(matches!(confirmed, Err(ConfirmError::NoQuorum | ConfirmError::NotLeader { .. })), "{confirmed:?}");
    }
    let nothing = three.place(wiped).running().status().borrow().clone();
    assert_eq!((nothing.role, nothing.applied, nothing.members.len()), (Role::Waiting, 0, 0));
    drop(replica);

    three.restart(other).await;
    assert_eq!(three.note("two").await, 2, "the two whose stores are whole go on");
}

/// Trap: a folder is put back from a copy, and what was acknowledged since then is lost.
#[tokio::test]
async fn an_older_copy_of_a_store_is_not_counted_and_disturbs_nobody() {
    let mut three = Three::formed(1_000).await;
    three.note("one").await;
    let (leader, leadership) = three.leader().await;
    let victim = three.followers().await[0];
    three.place(victim).running().has(1).await;
    three.place_mut(victim).kill();
    // Once it is free, the folder is as the process has left it.
    drop(three.place(victim).folder_of(0).await);
    let older = tempfile::tempdir().unwrap();
    copy(three.place(victim).folder.path(), older.path());
    three.restart(victim).await;
    let leads = three.place(leader).running().replica.clone();
    let address = three.place(leader).peer.address.clone();
    let mut notes = 1;
    let acknowledged = loop {
        notes = three.note("more").await.max(notes);
        three.place(victim).running().has(notes).await;
        let hello = within("an answer", three.place(victim).running().replica.hello(&address)).await.unwrap();
        match hello.acknowledged {
            Some(acknowledged) if notes > 3 => break acknowledged,
            _ => {}
        }
    };
    assert!(acknowledged >= 2, "more than the copy has: {acknowledged}");
    three.place_mut(victim).kill();
    three.place_mut(victim).folder = older;

    // Even a server that forgets to ask and opens the gate must not make the store leader count it, or fall over it.
    three.restart(victim).await;
    let hello = within("an answer", three.place(victim).running().replica.hello(&address)).await.unwrap();
    assert!(hello.acknowledged >= Some(acknowledged), "it could know that it is an older copy");
    for _ in 0..5 {
        notes = three.note("after").await;
    }
    let now = within("an answer", leads.confirm_leadership()).await.unwrap();
    assert_eq!((now.node, now.term), (leader, leadership.term), "the same one leads");
    assert!(three.place(victim).running().machine.list().borrow().len() < notes, "nothing was sent to it");
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    let copied = std::process::Command::new("cp").arg("-a").arg(from.join(".")).arg(to).status().unwrap();
    assert!(copied.success());
}

/// A level that is committed and not applied yet counts: whoever joined below it would stop at it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_joins_when_the_store_leader_has_applied_all_that_is_committed_and_not_before() {
    let three = Three::formed(1_000).await;
    let (leader, _) = three.leader().await;
    let running = three.place(leader).running();
    let address = "n4:1".to_owned();
    let add = Change::Add { node_id: 4, address: address.clone() };
    within("a change", Box::pin(running.replica.change(&add))).await.unwrap();
    let (replica, machine) = (running.replica.clone(), running.machine.clone());
    let (held, free) = std::sync::mpsc::channel();
    let holding = {
        let (machine, (locked, is_locked)) = (machine.clone(), tokio::sync::oneshot::channel());
        let thread = std::thread::spawn(move || {
            let _held = machine.slow.lock().unwrap();
            locked.send(()).unwrap();
            free.recv().unwrap();
        });
        is_locked.await.unwrap();
        thread
    };
    let raise = async move { replica.propose(Bytes::from_static(RAISE)).await };
    let raise = World::real().spawn("raise", raise);
    within("it is applied", machine.raising().wait_for(|raising| *raising)).await.unwrap();
    let mut asker = client(&three, leader);
    let ask = JoinRequest { node_id: 4, store_id: 4 << 32, address, level: 1 };
    let mut asked = std::pin::pin!(asker.join(ask));
    // An answer in this time would be a wrong one.
    let early = World::real().timeout(Duration::from_millis(500), &mut asked).await;
    held.send(()).unwrap();
    holding.join().unwrap();
    let answer = match early {
        Some(answer) => answer,
        None => within("an answer", asked).await,
    };
    let outcome = answer.unwrap().into_inner().outcome;
    assert_eq!(outcome, Some(Outcome::LevelUnknown(LevelUnknown { by: leader, level: 2 })));
    within("it is raised", raise).await.unwrap().unwrap();
}

/// It would be written over what the receiver has, and could not be read.
#[tokio::test]
async fn a_state_of_a_level_that_a_node_does_not_know_takes_no_place_of_its_own() {
    let three = Three::formed(1_000).await;
    let (leader, _) = three.leader().await;
    let to = leader % 3 + 1;
    let head = SnapshotHead { envelope: candidacy(&three, leader, to).envelope, level: 3, ..SnapshotHead::default() };
    let mut asked = client(&three, to);
    let chunk = SnapshotChunk { head: Some(head.clone()), ..SnapshotChunk::default() };
    for refused in [
        within("a refusal", asked.offer_snapshot(head)).await.map(drop),
        within("a refusal", asked.install_snapshot(tokio_stream::once(chunk))).await.map(drop),
    ] {
        let refused = refused.expect_err("it knows levels up to 2");
        assert!(refused.message().contains("the state that was sent is of level 3"), "{refused}");
    }
}
