//! A word count while leaders and workers are killed: the result is the plain count, every time.

use std::collections::BTreeMap;

use palisade_runtime::dataflow::words::is_space;
use palisade_runtime::{JobClient, JobId, JobState, JobStatus};
use palisade_world::{Random, SeededRandom};

use crate::cluster::{Fault, MiniCluster};

pub(crate) fn text(seed: u64, bytes: usize) -> Vec<u8> {
    let random = SeededRandom::new(seed);
    let mut text = Vec::new();
    while text.len() < bytes {
        let word = random.next_u64() % 997;
        text.extend_from_slice(format!("w{}", word * word % 499).as_bytes());
        text.push([b' ', b'\n', b'\t'][(word % 3) as usize]);
    }
    text
}

/// Independent of the dataflow: the definition, over whole files.
pub(crate) fn plain_count(contents: &[Vec<u8>]) -> BTreeMap<Vec<u8>, u64> {
    let mut counts = BTreeMap::new();
    for content in contents {
        for word in content.split(|byte| is_space(*byte)).filter(|word| !word.is_empty()) {
            *counts.entry(word.to_vec()).or_default() += 1;
        }
    }
    counts
}

pub(crate) async fn until(client: &JobClient, id: &JobId, what: &str, holds: impl Fn(&JobStatus) -> bool) -> JobStatus {
    loop {
        let status = client.status(id).await.unwrap();
        assert!(!status.state.is_terminal() || holds(&status), "{what}: the job ended before: {status:?}");
        if holds(&status) {
            return status;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_word_count_without_failures_is_exact() {
    let cluster = MiniCluster::new();
    let contents = [text(1, 200_000), text(2, 1000), Vec::new(), b"one".to_vec()];
    let _leader = cluster.lead().await;
    let (_a, _b) = (cluster.task_executor("a", 1).await, cluster.task_executor("b", 2).await);
    let client = cluster.client().await;
    let id: JobId = "plain".parse().unwrap();
    let spec = cluster.word_count(&contents, 3, 0);
    cluster
        .within("the job", async {
            assert!(!client.submit(&id, &spec).await.unwrap());
            assert!(client.submit(&id, &spec).await.unwrap(), "the same id is the same job");
            let ended = client.wait(&id, |_| ()).await.unwrap();
            assert_eq!((ended.state, ended.registered_task_executors, ended.attempt), (JobState::Finished, 2, 1));
            assert_eq!(client.result(&id).await.unwrap(), plain_count(&contents));
            assert_eq!(client.list().await.unwrap().len(), 1);
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaders_are_killed_again_and_again_and_no_word_is_lost_or_doubled() {
    let cluster = MiniCluster::new();
    let contents = [text(3, 120_000), text(4, 60_000)];
    let mut leader = cluster.lead().await;
    let (_a, _b) = (cluster.task_executor("a", 2).await, cluster.task_executor("b", 2).await);
    let client = cluster.client().await;
    let id: JobId = "kills".parse().unwrap();
    cluster
        .within("the job", async {
            client.submit(&id, &cluster.word_count(&contents, 4, 3)).await.unwrap();
            for kill in 1..=3 {
                let status = until(&client, &id, "two checkpoints", |status| {
                    status.token == leader.token.get()
                        && status.completed_checkpoints >= 2
                        && status.records_processed > 0
                })
                .await;
                let last = status.last_checkpoint.unwrap();
                drop(leader);
                leader = cluster.lead().await;
                let status = until(&client, &id, "a restart", |status| {
                    status.token == leader.token.get() && status.resumed_ms.is_some()
                })
                .await;
                assert!(
                    status.restored_checkpoint >= Some(last),
                    "kill {kill}: {status:?} goes on before checkpoint {last}"
                );
                assert_eq!(status.registered_task_executors, 2);
            }
            let ended = client.wait(&id, |_| ()).await.unwrap();
            assert_eq!(ended.state, JobState::Finished, "{ended:?}");
            assert_eq!(client.result(&id).await.unwrap(), plain_count(&contents));
            // A job with a result never runs again.
            drop(leader);
            let leader = cluster.lead().await;
            let status = until(&client, &id, "the next leader", |status| status.token == leader.token.get()).await;
            assert_eq!(status.state, JobState::Finished);
            assert_eq!(client.result(&id).await.unwrap(), plain_count(&contents));
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_task_executor_restarts_the_job_from_its_checkpoint() {
    let cluster = MiniCluster::new();
    let contents = [text(5, 150_000)];
    let _leader = cluster.lead().await;
    let a = cluster.task_executor("a", 1).await;
    let _b = cluster.task_executor("b", 1).await;
    let client = cluster.client().await;
    let id: JobId = "worker".parse().unwrap();
    cluster
        .within("the job", async {
            client.submit(&id, &cluster.word_count(&contents, 2, 2)).await.unwrap();
            until(&client, &id, "a checkpoint", |status| status.completed_checkpoints >= 1).await;
            drop(a);
            until(&client, &id, "a restart", |status| status.registered_task_executors == 1).await;
            let _again = cluster.task_executor("a", 1).await;
            let status = until(&client, &id, "the next attempt", |status| {
                status.attempt == 2 && status.restored_checkpoint.is_some()
            })
            .await;
            assert!(status.why.is_some(), "it says why: {status:?}");
            let ended = client.wait(&id, |_| ()).await.unwrap();
            assert_eq!(ended.state, JobState::Finished);
            assert_eq!(client.result(&id).await.unwrap(), plain_count(&contents));
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pointer_whose_outcome_is_unknown_is_repeated_under_its_request_id_and_not_confirmed_before() {
    for fault in [Fault::LoseAnswer, Fault::LoseRequest] {
        let cluster = MiniCluster::new();
        let contents = [text(6, 60_000)];
        let _leader = cluster.lead().await;
        let _a = cluster.task_executor("a", 1).await;
        let client = cluster.client().await;
        let id: JobId = "unknown".parse().unwrap();
        cluster
            .within("the job", async {
                cluster.coordination.fail("checkpoints", Some(fault));
                client.submit(&id, &cluster.word_count(&contents, 1, 1)).await.unwrap();
                while cluster.coordination.attempts("checkpoints").len() < 3 {
                    tokio::task::yield_now().await;
                }
                let status = client.status(&id).await.unwrap();
                assert_eq!(status.completed_checkpoints, 0, "nothing is confirmed while the outcome is unknown");
                let attempts = cluster.coordination.attempts("checkpoints");
                assert!(attempts.iter().all(|request| *request == attempts[0]), "one request id: {attempts:?}");
                cluster.coordination.fail("checkpoints", None);
                until(&client, &id, "checkpoints go on", |status| {
                    status.completed_checkpoints >= 2 || status.state.is_terminal()
                })
                .await;
                client.wait(&id, |_| ()).await.unwrap();
                assert_eq!(client.result(&id).await.unwrap(), plain_count(&contents));
                assert_eq!(
                    cluster.coordination.value("checkpoints"),
                    None,
                    "the pointer is removed when the job has ended"
                );
            })
            .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_is_cancelled_for_good_and_a_bad_one_is_refused() {
    let cluster = MiniCluster::new();
    let leader = cluster.lead().await;
    let _a = cluster.task_executor("a", 1).await;
    let client = cluster.client().await;
    let id: JobId = "cancelled".parse().unwrap();
    cluster
        .within("the job", async {
            let spec = cluster.word_count(&[text(7, 50_000)], 1, 100);
            client.submit(&id, &spec).await.unwrap();
            until(&client, &id, "running", |status| status.records_processed > 0).await;
            assert_eq!(client.cancel(&id).await.unwrap().state, JobState::Cancelled);
            assert!(client.result(&id).await.unwrap_err().to_string().contains("cancelled"));
            drop(leader);
            let _leader = cluster.lead().await;
            assert_eq!(client.status(&id).await.unwrap().state, JobState::Cancelled);

            let mut bad = spec.clone();
            bad.parallelism = 0;
            assert!(
                client
                    .submit(&"bad".parse().unwrap(), &bad)
                    .await
                    .unwrap_err()
                    .to_string()
                    .starts_with("parallelism: 0")
            );
            let mut nowhere = spec;
            nowhere.input = palisade_runtime::Input::Path("/nowhere/at/all".into());
            assert!(
                client
                    .submit(&"bad".parse().unwrap(), &nowhere)
                    .await
                    .unwrap_err()
                    .to_string()
                    .contains("/nowhere/at/all")
            );
            assert!(client.status(&"bad".parse().unwrap()).await.unwrap_err().to_string().contains("bad"));
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_cannot_be_counted_fails_and_says_which_file() {
    let cluster = MiniCluster::new();
    let _leader = cluster.lead().await;
    let _a = cluster.task_executor("a", 1).await;
    let client = cluster.client().await;
    cluster
        .within("the job", async {
            let id: JobId = "long".parse().unwrap();
            let mut content = b"short ".to_vec();
            content.resize(3 << 20, b'x');
            client.submit(&id, &cluster.word_count(&[content], 1, 0)).await.unwrap();
            let ended = client.wait(&id, |_| ()).await.unwrap();
            assert_eq!(ended.state, JobState::Failed);
            let why = ended.why.unwrap();
            assert!(why.contains("0.txt") && why.contains("1048576"), "{why}");
            assert!(client.result(&id).await.unwrap_err().to_string().contains("0.txt"));

            let id: JobId = "shrunk".parse().unwrap();
            client.submit(&id, &cluster.word_count(&[text(8, 100_000)], 1, 20)).await.unwrap();
            until(&client, &id, "running", |status| status.records_processed > 0).await;
            std::fs::write(cluster.path("input/0.txt"), "gone").unwrap();
            let ended = client.wait(&id, |_| ()).await.unwrap();
            assert_eq!(ended.state, JobState::Failed);
            assert!(ended.why.unwrap().contains("shorter"));
        })
        .await;
}
