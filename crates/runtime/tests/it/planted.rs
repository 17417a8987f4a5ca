//! Each planted bug is caught: a checkpoint that was confirmed is there for the next leader, and every word is counted once.

use palisade_planted::{Bug, caught, choose};
use palisade_runtime::JobId;

use crate::cluster::{Fault, MiniCluster};
use crate::dataflow;

/// Runs on one thread, because the bug is chosen for a thread. Returns whether a confirmed checkpoint was lost.
async fn loses_a_confirmed_checkpoint() -> bool {
    let cluster = MiniCluster::new();
    let _leader = cluster.lead().await;
    let _worker = cluster.task_executor("a", 1).await;
    let client = cluster.client().await;
    let id: JobId = "planted".parse().unwrap();
    cluster
        .within("the job", async {
            cluster.coordination.fail("checkpoints", Some(Fault::LoseRequest));
            client.submit(&id, &cluster.word_count(&[b"a b c ".repeat(10_000)], 1, 100)).await.unwrap();
            while cluster.coordination.attempts("checkpoints").len() < 3 {
                tokio::task::yield_now().await;
            }
            let confirmed = client.status(&id).await.unwrap().last_checkpoint;
            confirmed.is_some() && cluster.coordination.value("checkpoints").is_none()
        })
        .await
}

#[tokio::test]
async fn confirming_an_unknown_pointer_is_caught() {
    assert!(!loses_a_confirmed_checkpoint().await);
    choose(Some(Bug::ConfirmUnknownPointer));
    assert!(loses_a_confirmed_checkpoint().await);
    choose(None);
}

#[test]
fn a_restored_source_that_skips_a_word_is_caught() {
    let why = caught(Bug::RestoredSourceSkipsAWord, dataflow::runs_that_restore_from_checkpoints_count_every_word_once);
    assert!(why.is_some());
}
