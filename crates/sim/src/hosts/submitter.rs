//! A submitter: writes a text, has its words counted by a job, waits over all failovers, fetches the result, begins again. It
//! counts the words itself while it makes the text up.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use palisade_runtime::dataflow::path::InputPath;
use palisade_runtime::{Input, JobClient, JobClientError, JobId, JobKind, JobSpec, JobStatus};
use palisade_world::files::{self, Files};

use super::taskexecutor::SLOTS;
use super::{ELECTION_OF_JOBS, Process};
use crate::facts::{Counted, Fact};
use crate::plan::Role;

/// One request, with the failovers that it may have to wait for, is bounded by this and then repeated.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a job takes if nothing goes wrong, about.
const LASTS: Duration = Duration::from_millis(2_000);
/// Words in the texts; few, so that each is counted by every source.
const VOCABULARY: u64 = 40;

/// Runs until the simulation ends.
pub(crate) async fn run(process: Process) -> turmoil::Result {
    let client = process.client();
    let jobs = JobClient::connect(&client, ELECTION_OF_JOBS, PATIENCE).await?;
    for number in 1.. {
        let text = Text::draw(&process, number);
        text.write(&*process.world.files())?;
        count(&process, &jobs, number, &text).await?;
    }
    Ok(())
}

/// One job, from its submission to its result.
async fn count(process: &Process, jobs: &JobClient, number: u64, text: &Text) -> Result<(), JobClientError> {
    let saw = |fact| process.witness.saw(process.who, fact);
    let id: JobId = format!("job-{number}").parse().expect("a short plain name is an id");
    let spec = text.job(process);
    while let Err(error) = jobs.submit(&id, &spec).await {
        again(process, "submitting", error)?;
    }
    saw(Fact::JobSubmitted { job: number });
    let mut seen = None;
    let ended = loop {
        let watched = |status: &JobStatus| {
            let token = status.token;
            let (attempt, restored) = (status.attempt, status.restored_checkpoint);
            let executors = status.registered_task_executors;
            if seen.replace((token, attempt, restored, executors)) != Some((token, attempt, restored, executors)) {
                saw(Fact::JobSeen { job: number, token, attempt, restored, executors });
            }
        };
        match jobs.wait(&id, watched).await {
            Ok(status) => break status,
            Err(error) => again(process, "waiting", error)?,
        }
    };
    let counted = loop {
        match jobs.result(&id).await {
            Ok(counts) => break Ok(Counted::new(counts)),
            Err(JobClientError::NoResult(why)) => break Err(why),
            Err(error) => again(process, "fetching", error)?,
        }
    };
    tracing::debug!(?ended, "the job has ended");
    saw(Fact::JobEnded { job: number, counted, expected: text.words.clone() });
    Ok(())
}

/// Whether a request is to be repeated: only for want of a leader. Everything else is wrong.
fn again(process: &Process, what: &str, error: JobClientError) -> Result<(), JobClientError> {
    match error {
        JobClientError::Unavailable { .. } => {
            process.trace(format_args!("{what} again: {error}"));
            Ok(())
        }
        error => Err(error),
    }
}

/// A text in a few files, and what is in it.
struct Text {
    folder: PathBuf,
    files: Vec<Vec<u8>>,
    words: Counted,
}

impl Text {
    fn draw(process: &Process, number: u64) -> Text {
        let random = |below: u64| process.world.random_u64() % below;
        let mut words = BTreeMap::<Vec<u8>, u64>::new();
        let mut file = || {
            let length = usize::try_from(random(12_000)).expect("it is small");
            let mut bytes = Vec::new();
            while bytes.len() < length {
                // The product of two draws: some words are frequent, some are rare.
                let word = format!("word{}", random(VOCABULARY) * random(VOCABULARY) / VOCABULARY).into_bytes();
                bytes.extend_from_slice(&word);
                bytes.extend_from_slice(
                    [b" ".as_slice(), b"\n", b" \t "][usize::try_from(random(3)).expect("it is small")],
                );
                *words.entry(word).or_default() += 1;
            }
            // The end of a file ends a word, too.
            bytes.truncate(bytes.trim_ascii_end().len());
            bytes
        };
        let files = (0..4 + random(4)).map(|_| file()).collect();
        Text { folder: PathBuf::from(format!("/input/{number}")), files, words: Counted::new(words) }
    }

    fn write(&self, files: &dyn Files) -> io::Result<()> {
        files.create_folder(&self.folder)?;
        for (number, bytes) in self.files.iter().enumerate() {
            files::replace(files, &self.folder.join(number.to_string()), &self.folder.join("temporary"), bytes)?;
        }
        Ok(())
    }

    fn job(&self, process: &Process) -> JobSpec {
        let bytes: u64 = self.files.iter().map(|file| file.len() as u64).sum();
        let slots = u64::from(SLOTS) * process.plan.count(Role::TaskExecutor) as u64;
        JobSpec {
            name: "words".to_owned(),
            kind: JobKind::WordCount,
            input: Input::Path(InputPath::from(self.folder.as_path())),
            parallelism: u32::try_from(1 + process.world.random_u64() % slots).expect("it is small"),
            checkpoint_interval_ms: 100 + process.world.random_u64() % 300,
            source_bytes_per_second: Some(bytes * 1_000 / u64::try_from(LASTS.as_millis()).expect("it is small")),
        }
    }
}
