//! Who leads, what it may do, and what another node answers.

use bytes::Bytes;
use futures_util::future::join_all;
use palisade_replica::{ConfirmError, InitializeError, Leadership, ProposeError, ReadError, Role};

use crate::cluster::{Three, within};

fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

#[tokio::test]
async fn three_nodes_elect_and_replicate() {
    let three = Three::formed(1_000).await;
    assert_eq!(three.note("one").await, 1);
    assert_eq!(three.note("two").await, 2);
    for running in three.runs() {
        assert_eq!(running.has(2).await, [bytes("one"), bytes("two")]);
        assert!(running.replica.is_initialized());
    }

    let (leader, leadership) = three.leader().await;
    let leads = three.place(leader).running();
    within("a read", leads.replica.read_barrier()).await.unwrap();
    let status = leads.status().borrow().clone();
    assert_eq!((status.role, status.leadership), (Role::Leader, Some(leadership)));
    assert_eq!(status.members.iter().map(|member| member.peer.clone()).collect::<Vec<_>>(), three.peers());
    assert!(status.members.iter().all(|member| member.voter) && status.fatal.is_none());

    let again = leads.replica.initialize(three.peers()).await;
    assert!(matches!(again, Err(InitializeError::AlreadyInitialized)), "{again:?}");
}

#[tokio::test]
async fn a_follower_names_the_store_leader_and_applies_nothing() {
    let three = Three::formed(1_000).await;
    three.note("one").await;
    let (leader, _) = three.leader().await;
    let leader = three.place(leader).peer.clone();
    for node in three.followers().await {
        let follower = three.place(node).running();
        let mut status = follower.status();
        within("a follower knows the leader", status.wait_for(|now| now.store_leader.is_some())).await.unwrap();
        let hint = Some(leader.clone());
        let refused = follower.replica.propose(bytes("no")).await;
        assert_eq!(refused, Err(ProposeError::NotLeader { hint: hint.clone() }));
        assert_eq!(follower.replica.read_barrier().await, Err(ReadError::NotLeader { hint: hint.clone() }));
        assert_eq!(follower.replica.confirm_leadership().await, Err(ConfirmError::NotLeader { hint }));
        assert_eq!(follower.status().borrow().leadership, None);
    }
    assert_eq!(three.note("two").await, 2, "the refused proposals left nothing behind");
}

#[tokio::test]
async fn a_conditional_proposal_of_a_deposed_leader_is_refused() {
    let mut three = Three::formed(1_000).await;
    let (old, deposed) = three.leader().await;
    let leads = three.place(old).running();
    assert_eq!(leads.replica.propose_as(deposed, bytes("one")).await, Ok(1));

    three.place_mut(old).kill();
    let (new, leadership) = three.leader().await;
    assert_ne!(deposed, leadership);
    three.restart(old).await;

    for place in &three.places {
        let refused = place.running().replica.propose_as(deposed, bytes("no")).await;
        assert!(matches!(refused, Err(ProposeError::NotLeader { .. })), "{refused:?}");
    }
    let other_term = Leadership { term: leadership.term + 1, ..leadership };
    let refused = three.place(new).running().replica.propose_as(other_term, bytes("no")).await;
    assert!(matches!(refused, Err(ProposeError::NotLeader { .. })), "{refused:?}");
    assert_eq!(three.note("two").await, 2, "the refused proposals left nothing behind");
}

#[tokio::test]
async fn acknowledged_entries_survive_killed_leaders() {
    let mut three = Three::formed(1_000).await;
    let mut acknowledged = Vec::new();
    for round in 0..4 {
        for number in 0..5 {
            let note = format!("{round}.{number}");
            three.note(&note).await;
            acknowledged.push(Bytes::from(note));
        }
        let (leader, _) = three.leader().await;
        three.place_mut(leader).kill();
        three.note(&format!("{round} after the kill")).await;
        acknowledged.push(Bytes::from(format!("{round} after the kill")));
        three.restart(leader).await;
    }
    for running in three.runs() {
        assert_eq!(running.has(acknowledged.len()).await, acknowledged);
    }
}

#[tokio::test]
async fn a_leader_that_stops_hands_over() {
    let mut three = Three::formed(1_000).await;
    three.note("one").await;
    let (old, before) = three.leader().await;
    let stopped = three.place(old).running().replica.clone();
    within("a stop", stopped.shutdown()).await;
    assert_eq!(stopped.propose(bytes("no")).await, Err(ProposeError::Stopped));
    assert_eq!(stopped.confirm_leadership().await, Err(ConfirmError::Stopped));
    let status = stopped.status().borrow().clone();
    assert_eq!((status.leadership, status.fatal), (None, None), "a stop is no failure");
    drop(stopped);
    three.place_mut(old).kill();
    assert_eq!(three.note("two").await, 2);
    let (_, after) = three.leader().await;
    assert!(after > before);
}

#[tokio::test]
async fn many_ask_at_once_and_all_are_answered() {
    let three = Three::formed(1_000).await;
    three.note("one").await;
    let (leader, leadership) = three.leader().await;
    let replica = &three.place(leader).running().replica;
    let confirmed = within("confirmations", join_all((0..500).map(|_| replica.confirm_leadership()))).await;
    assert!(confirmed.iter().all(|answer| *answer == Ok(leadership)), "{confirmed:?}");
    let read = within("reads", join_all((0..500).map(|_| replica.read_barrier()))).await;
    assert!(read.iter().all(Result::is_ok), "{read:?}");
}

#[tokio::test]
async fn a_leader_without_followers_is_not_confirmed() {
    let mut three = Three::formed(1_000).await;
    three.note("one").await;
    let (leader, _) = three.leader().await;
    for node in three.followers().await {
        three.place_mut(node).kill();
    }
    let replica = three.place(leader).running().replica.clone();
    for _ in 0..3 {
        let confirmed = within("an answer", replica.confirm_leadership()).await;
        assert!(matches!(confirmed, Err(ConfirmError::NoQuorum | ConfirmError::NotLeader { .. })), "{confirmed:?}");
        let read = within("an answer", replica.read_barrier()).await;
        assert!(matches!(read, Err(ReadError::NoQuorum | ReadError::NotLeader { .. })), "{read:?}");
    }
    drop(replica);
    let back = 1 + leader % 3;
    three.restart(back).await;
    assert_eq!(three.note("two").await, 2);
}
