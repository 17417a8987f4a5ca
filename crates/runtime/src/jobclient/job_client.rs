//! The client of a cluster of JobManagers: finds the leader by itself, and asks the next one when it is replaced.
//!
//! Every request here may be repeated: reads change nothing, a submission is named by its job id, cancelling twice is
//! cancelling. So a failover costs the caller time and nothing else.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use palisade_client::Client;
use palisade_fence::LeaderSource;
use palisade_rpc::{
    AskLeaderError, LeaderRetriever, RpcAddress, RpcError, RpcService, RpcServiceConfig, Stamp, if_idempotent,
};
use palisade_world::World;
use thiserror::Error;

use crate::convert::{self, code};
use crate::dataflow::count::Counts;
use crate::introspection::INTROSPECTION;
use crate::job::{JobId, JobSpec, JobState, JobStatus};
use crate::jobmanager::DISPATCHER;
use crate::proto::{self, DispatcherGateway, IntrospectionGateway};

/// One attempt at a request; a leader that dies is noticed by its broken connection long before.
const ATTEMPT: Duration = Duration::from_secs(5);
/// Pause between two looks at a job that is waited for.
const POLL: Duration = Duration::from_millis(50);

/// A request did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum JobClientError {
    /// The request is wrong: nothing was done.
    #[error("{0}")]
    Invalid(String),
    /// There is no such job.
    #[error("{0}")]
    NoSuchJob(String),
    /// The job has no result: it has not ended, was cancelled, or failed.
    #[error("{0}")]
    NoResult(String),
    /// The leader could not do it.
    #[error("{0}")]
    Failed(String),
    /// No leader answered in time. Whether a submission or a cancellation was done is not known; it may be repeated.
    #[error("no JobManager answered within {limit:?}: {why}")]
    Unavailable {
        /// The time limit.
        limit: Duration,
        /// What was tried last.
        why: String,
    },
    /// What came back makes no sense.
    #[error("the answer cannot be read: {0}")]
    BadAnswer(String),
}

/// A counter of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CounterValue {
    /// As in `rpc_stale`.
    pub name: String,
    /// As in `endpoint=taskexecutor,election=jobmanager`.
    pub labels: String,
    /// How often, since the process started.
    pub value: u64,
}

/// The client. Cheap to clone.
#[derive(Clone)]
pub struct JobClient {
    service: RpcService,
    dispatcher: LeaderRetriever<DispatcherGateway>,
    world: World,
    limit: Duration,
}

impl JobClient {
    /// A client of the cluster that contests `election`. `limit` bounds each request, failovers included.
    pub async fn connect(client: &Client, election: &str, limit: Duration) -> Result<JobClient, JobClientError> {
        JobClient::following(Arc::new(client.follow(election)), limit, client.world().clone()).await
    }

    /// As [`JobClient::connect`], with an election of the caller's.
    pub async fn following(
        follower: Arc<dyn LeaderSource>,
        limit: Duration,
        world: World,
    ) -> Result<JobClient, JobClientError> {
        let service = RpcService::start(RpcServiceConfig::local(), world.clone()).await;
        let service = service.map_err(|error| JobClientError::Failed(error.to_string()))?;
        let dispatcher = LeaderRetriever::start(&service, follower, DISPATCHER, &world);
        Ok(JobClient { service, dispatcher, world, limit })
    }

    /// Submits a job under an id of the caller's; again is the same. Returns whether it was known.
    pub async fn submit(&self, id: &JobId, spec: &JobSpec) -> Result<bool, JobClientError> {
        spec.check().map_err(|error| JobClientError::Invalid(error.to_string()))?;
        let input = spec.input.absolute().map_err(|error| JobClientError::Invalid(format!("input: {error}")))?;
        let spec = JobSpec { input, ..spec.clone() };
        let spec_json = serde_json::to_string(&spec).map_err(|error| JobClientError::Invalid(error.to_string()))?;
        let request = proto::SubmitRequest { job_id: id.to_string(), spec_json };
        let reply = self.ask(|gateway| {
            let request = request.clone();
            async move { gateway.submit(request).await }
        });
        Ok(reply.await?.known)
    }

    /// All jobs.
    pub async fn list(&self) -> Result<Vec<JobStatus>, JobClientError> {
        let reply = self.ask(|gateway| async move { gateway.list(proto::ListRequest {}).await }).await?;
        reply.jobs.into_iter().map(|status| convert::status_from(status).map_err(JobClientError::BadAnswer)).collect()
    }

    /// One job.
    pub async fn status(&self, id: &JobId) -> Result<JobStatus, JobClientError> {
        let request = proto::JobRequest { job_id: id.to_string() };
        let reply = self.ask(|gateway| {
            let request = request.clone();
            async move { gateway.status(request).await }
        });
        convert::status_from(reply.await?).map_err(JobClientError::BadAnswer)
    }

    /// Cancels a job; returns once it is stored that it ended, one way or another.
    pub async fn cancel(&self, id: &JobId) -> Result<JobStatus, JobClientError> {
        let request = proto::JobRequest { job_id: id.to_string() };
        let reply = self.ask(|gateway| {
            let request = request.clone();
            async move { gateway.cancel(request).await }
        });
        convert::status_from(reply.await?).map_err(JobClientError::BadAnswer)
    }

    /// Waits until a job has ended, over any number of failovers and without a time limit; `seen` gets every status on the way.
    pub async fn wait(&self, id: &JobId, mut seen: impl FnMut(&JobStatus)) -> Result<JobStatus, JobClientError> {
        loop {
            match self.status(id).await {
                Ok(status) => {
                    seen(&status);
                    if status.state.is_terminal() {
                        return Ok(status);
                    }
                }
                Err(JobClientError::Unavailable { .. }) => {}
                Err(error) => return Err(error),
            }
            self.world.sleep(POLL).await;
        }
    }

    /// The counts of a finished job.
    pub async fn result(&self, id: &JobId) -> Result<BTreeMap<Vec<u8>, u64>, JobClientError> {
        let request = proto::JobRequest { job_id: id.to_string() };
        let reply = self.ask(|gateway| {
            let request = request.clone();
            async move { gateway.result(request).await }
        });
        let reply = reply.await?;
        if JobState::named(&reply.state) != Some(JobState::Finished) {
            let why = reply.why.map(|why| format!(": {why}")).unwrap_or_default();
            return Err(JobClientError::NoResult(format!("job {id} is {}{why}", reply.state)));
        }
        let mut counts = Counts::default();
        for (index, part) in (0..).zip(reply.parts) {
            let part =
                convert::part_from(part).ok_or_else(|| JobClientError::BadAnswer("a part is empty".to_owned()))?;
            let bytes = self.fetch(id, index, part.payload.length).await?;
            if crc32fast::hash(&bytes) != part.payload.crc32 {
                return Err(JobClientError::BadAnswer(format!("part {index} of the result is damaged")));
            }
            counts.merge_snapshot(&bytes).map_err(|error| JobClientError::BadAnswer(error.to_string()))?;
        }
        Ok(counts.sorted().into_iter().map(|(word, count)| (word.to_vec(), count)).collect())
    }

    async fn fetch(&self, id: &JobId, part: u32, length: u64) -> Result<Vec<u8>, JobClientError> {
        let mut bytes = Vec::new();
        loop {
            let offset = u64::try_from(bytes.len()).expect("a usize fits in a u64");
            if offset >= length {
                return Ok(bytes);
            }
            let request = proto::FetchResultRequest { job_id: id.to_string(), part, offset };
            let piece = self.ask(|gateway| {
                let request = request.clone();
                async move { gateway.fetch_result(request).await }
            });
            let piece = piece.await?.content;
            if piece.is_empty() {
                return Err(JobClientError::BadAnswer(format!("part {part} ends at {offset} of {length} bytes")));
            }
            bytes.extend_from_slice(&piece);
        }
    }

    /// What the process at `host:port` counted. Asked once, at that process only.
    pub async fn counters_of(&self, node: &str) -> Result<Vec<CounterValue>, JobClientError> {
        let failed = |why: String| JobClientError::Unavailable { limit: ATTEMPT, why };
        let address =
            RpcAddress::new(node, INTROSPECTION).map_err(|error| JobClientError::Invalid(error.to_string()))?;
        let asked = async {
            let gateway: IntrospectionGateway =
                self.service.connect(&address, Stamp::Unfenced).await.map_err(|error| failed(error.to_string()))?;
            gateway.counters(proto::CountersRequest {}).await.map_err(|error| failed(error.to_string()))
        };
        let reply = self.world.timeout(ATTEMPT, asked).await.ok_or_else(|| failed("no answer".to_owned()))??;
        let value =
            |counter: proto::Counter| CounterValue { name: counter.name, labels: counter.labels, value: counter.value };
        Ok(reply.counters.into_iter().map(value).collect())
    }

    /// Asks the leader, and the next one if it is replaced, until the limit. Every request here may be repeated.
    async fn ask<R, F>(&self, call: impl Fn(DispatcherGateway) -> F) -> Result<R, JobClientError>
    where
        F: Future<Output = Result<R, RpcError>>,
    {
        // The leadership was ending, or its disk: the next leader may do it.
        let failed = |error: &RpcError| error.app().is_some_and(|refusal| refusal.code == code::FAILED);
        let again = |error: &RpcError| failed(error) || if_idempotent(error);
        let asked = self.dispatcher.ask(self.limit, |gateway| call(gateway.within(ATTEMPT)), again).await;
        asked.map_err(|error| match error {
            AskLeaderError::Answered(RpcError::TimedOut { limit }) => {
                JobClientError::Unavailable { limit, why: "no answer".to_owned() }
            }
            AskLeaderError::Answered(error) => refused(&error),
            AskLeaderError::Nobody { limit, why } => JobClientError::Unavailable { limit, why },
        })
    }
}

/// What an answer that is none means to the caller.
fn refused(error: &RpcError) -> JobClientError {
    let Some(refusal) = error.app() else { return JobClientError::Invalid(error.to_string()) };
    let message = refusal.message.clone();
    match refusal.code {
        code::NO_SUCH_JOB => JobClientError::NoSuchJob(message),
        code::NO_RESULT => JobClientError::NoResult(message),
        _ => JobClientError::Invalid(message),
    }
}
