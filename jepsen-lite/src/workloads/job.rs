//! A word count that runs for as long as the run does, over files that the harness made and counted by itself: it must come out
//! exactly, whatever was killed meanwhile.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jepsen_lite::history::{Record, Type, f};
use rand::RngExt;
use serde_json::{Value, json};

use crate::run::{Actor, Run};

const FILES: usize = 4;
/// Different words.
const WORDS: u32 = 200;
/// What the source reads of it in a second.
const RATE: u64 = 20_000;
/// The job ends so long after the faults at most.
const FINISHES_WITHIN: Duration = Duration::from_secs(120);

/// What the job counts, and what it must come to.
#[derive(Debug)]
pub(crate) struct Input {
    pub(crate) folder: PathBuf,
    expected: BTreeMap<String, u64>,
}

/// Makes files that take the source about as long as the run.
pub(crate) fn input(folder: &Path, span: Duration, mut rng: rand::rngs::SmallRng) -> anyhow::Result<Input> {
    std::fs::create_dir_all(folder)?;
    let mut expected = BTreeMap::new();
    let bytes = usize::try_from(RATE * span.as_secs().max(2))? / FILES;
    for file in 0..FILES {
        let mut text = String::with_capacity(bytes + 16);
        while text.len() < bytes {
            let word = format!("w{}", rng.random_range(0..WORDS));
            text.push_str(&word);
            text.push(if rng.random_range(0..12) == 0 { '\n' } else { ' ' });
            *expected.entry(word).or_default() += 1;
        }
        std::fs::write(folder.join(format!("{file}.txt")), text)?;
    }
    Ok(Input { folder: folder.to_owned(), expected })
}

/// A job that was handed in.
#[derive(Debug)]
pub(crate) struct Job {
    id: String,
}

/// Hands the job in; `seen` is how the processes call the input's folder.
pub(crate) async fn submit(run: &Run, input: &Input, seen: &Path) -> anyhow::Result<Job> {
    let parallelism = run.stage.shape.taskexecutors * 2;
    let spec = json!({
        "name": "jepsen-lite", "kind": "word_count", "input": seen, "parallelism": parallelism,
        "checkpoint_interval_ms": 200, "source_bytes_per_second": RATE,
    });
    let file = input.folder.with_extension("json");
    std::fs::write(&file, spec.to_string())?;
    let said = run.stage.submit(&file, &spec).await?;
    let document: Value = serde_json::from_str(&said)?;
    let id = document["id"].as_str().ok_or_else(|| anyhow::anyhow!("no id of the job: {said}"))?.to_owned();
    let actor = Actor::new(run);
    let mut invoke = actor.record(f::JOB_SUBMIT, "jobmanager");
    invoke.key = Some(id.clone());
    run.recorder.record(invoke.clone());
    run.recorder.record(invoke.ended(Type::Ok));
    let mut expected = Record::seen("harness", f::JOB_EXPECTED);
    (expected.key, expected.value) = (Some(id.clone()), serde_json::to_value(&input.expected)?);
    run.recorder.record(expected);
    Ok(Job { id })
}

/// What the leading JobManager says of the job, if it says anything.
pub(crate) async fn status(run: &Run, job: &Job) -> Option<Value> {
    let said = run.stage.palisade(&["job", "status", &job.id]).await.ok()?;
    serde_json::from_str(&said).ok()
}

/// Waits for the end of the job, and fetches its result.
pub(crate) async fn finish(run: &Run, job: &Job) -> anyhow::Result<()> {
    let until = tokio::time::Instant::now() + FINISHES_WITHIN;
    loop {
        let state = status(run, job).await.and_then(|status| status["state"].as_str().map(str::to_owned));
        match state.as_deref() {
            Some("finished") => break,
            Some("failed" | "cancelled") => {
                let mut record = Record::seen("harness", f::UNEXPECTED);
                record.error = Some(format!("the job is {}", state.unwrap_or_default()));
                run.recorder.record(record);
                return Ok(());
            }
            _ => {}
        }
        anyhow::ensure!(
            tokio::time::Instant::now() < until,
            "the job did not finish within {FINISHES_WITHIN:?} after the faults had ended"
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let actor = Actor::new(run);
    let mut invoke = actor.record(f::JOB_RESULT, "jobmanager");
    invoke.key = Some(job.id.clone());
    run.recorder.record(invoke.clone());
    let said = run.stage.palisade(&["job", "result", &job.id]).await?;
    let result: Value = serde_json::from_str(&said)?;
    let mut counts = serde_json::Map::new();
    for row in result["words"].as_array().into_iter().flatten() {
        let word = row["word"].as_str().map_or_else(|| row["word_base64"].to_string(), str::to_owned);
        counts.insert(word, row["count"].clone());
    }
    run.recorder.record(Record { value: Value::Object(counts), ..invoke.ended(Type::Ok) });
    Ok(())
}
