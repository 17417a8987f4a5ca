//! `palisade job …`: finds the leading JobManager by itself and outlives failovers while it waits.

use palisade_runtime::{JobClient, JobClientError, JobId, JobSpec, JobState, JobStatus};
use palisade_world::World;
use serde_json::{Value, json};

use crate::cli::{Global, JobCommand};
use crate::exit::{Failure, REFUSED, UNREACHABLE, USAGE};
use crate::output;

pub(crate) async fn run(command: JobCommand, global: &Global, world: World) -> Result<(), Failure> {
    let client = crate::elect::connect(global, &world)?;
    let jobs = JobClient::connect(&client, "jobmanager", global.timeout).await.map_err(failure)?;
    match command {
        JobCommand::Submit { file, wait } => {
            let text = std::fs::read_to_string(&file)
                .map_err(|error| Failure::usage("FILE", file.display().to_string(), error.to_string()))?;
            let spec: JobSpec = serde_json::from_str(&text)
                .map_err(|error| Failure::usage("FILE", file.display().to_string(), error.to_string()))?;
            submit(&spec, wait, &jobs, global, &world).await
        }
        JobCommand::List => {
            let all = jobs.list().await.map_err(failure)?;
            let document = json!({ "jobs": all.iter().map(document).collect::<Vec<_>>() });
            output::show(global.output, &document, || table(&all));
            Ok(())
        }
        JobCommand::Status { id } => show(&jobs.status(&job_id(&id)?).await.map_err(failure)?, global),
        JobCommand::Cancel { id } => show(&jobs.cancel(&job_id(&id)?).await.map_err(failure)?, global),
        JobCommand::Result { id } => result(&job_id(&id)?, &jobs, global).await,
    }
}

pub(crate) fn failure(error: JobClientError) -> Failure {
    let (code, outcome) = match &error {
        JobClientError::Invalid(_) => (USAGE, "not_applied"),
        JobClientError::NoSuchJob(_) | JobClientError::NoResult(_) => (REFUSED, "not_applied"),
        JobClientError::Unavailable { .. } => (UNREACHABLE, "unknown"),
        JobClientError::Failed(_) | JobClientError::BadAnswer(_) => (crate::exit::FAILED, "unknown"),
    };
    Failure { code, kind: "job".into(), outcome, message: error.to_string(), ..Failure::default() }
}

fn job_id(text: &str) -> Result<JobId, Failure> {
    text.parse().map_err(|error| Failure::usage("ID", text, format!("{error}")))
}

async fn submit(spec: &JobSpec, wait: bool, jobs: &JobClient, global: &Global, world: &World) -> Result<(), Failure> {
    let id = JobId::random(world);
    jobs.submit(&id, spec).await.map_err(failure)?;
    if !wait {
        output::show(global.output, &json!({ "id": id.as_str() }), || id.to_string());
        return Ok(());
    }
    let bar = indicatif::ProgressBar::new_spinner();
    let waited = tokio::select! {
        _ = tokio::signal::ctrl_c() => return Err(Failure::interrupted()),
        waited = jobs.wait(&id, |status| {
            bar.set_message(format!("{}: {} records, {} checkpoints", status.state.name(), status.records_processed, status.completed_checkpoints));
            bar.tick();
        }) => waited.map_err(failure)?,
    };
    bar.finish_and_clear();
    show(&waited, global)?;
    if waited.state == JobState::Finished {
        Ok(())
    } else {
        Err(Failure::failed(format!("job {id} is {}: {}", waited.state.name(), waited.why.unwrap_or_default())))
    }
}

fn document(status: &JobStatus) -> Value {
    json!({
        "id": status.id.as_str(), "name": status.name, "state": status.state.name(), "token": status.token,
        "fence": format!("jobmanager:{}", status.token), "attempt": status.attempt,
        "task_executors": status.registered_task_executors, "slots": status.slots,
        "restored_checkpoint": status.restored_checkpoint, "last_checkpoint": status.last_checkpoint,
        "completed_checkpoints": status.completed_checkpoints, "records_processed": status.records_processed,
        "why": status.why,
    })
}

fn table(all: &[JobStatus]) -> String {
    let rows = all.iter().map(|status| {
        vec![
            status.id.to_string(),
            status.name.clone(),
            status.state.name().to_owned(),
            status.attempt.to_string(),
            status.records_processed.to_string(),
            status.completed_checkpoints.to_string(),
        ]
    });
    output::table(&["ID", "NAME", "STATE", "ATTEMPT", "RECORDS", "CHECKPOINTS"], rows.collect())
}

fn show(status: &JobStatus, global: &Global) -> Result<(), Failure> {
    output::show(global.output, &document(status), || table(std::slice::from_ref(status)));
    Ok(())
}

async fn result(id: &JobId, jobs: &JobClient, global: &Global) -> Result<(), Failure> {
    let counts = jobs.result(id).await.map_err(failure)?;
    let words: Vec<Value> = counts
        .iter()
        .map(|(word, count)| {
            let mut row = serde_json::Map::new();
            output::put_bytes(&mut row, "word", word);
            row.insert("count".into(), (*count).into());
            Value::Object(row)
        })
        .collect();
    output::show(global.output, &json!({ "id": id.as_str(), "words": words }), || {
        let rows =
            counts.iter().map(|(word, count)| vec![String::from_utf8_lossy(word).into_owned(), count.to_string()]);
        output::table(&["WORD", "COUNT"], rows.collect())
    });
    Ok(())
}
