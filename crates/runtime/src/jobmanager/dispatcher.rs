//! The Dispatcher's endpoint: each message is one step that hands on to the jobs.

use palisade_rpc::{Answer, AppError, Context, RpcEndpoint};

use super::jobs::Jobs;
use crate::convert::{self, code};
use crate::job::JobSpec;
use crate::proto;

/// The endpoint.
pub(crate) struct Dispatcher {
    pub(crate) jobs: Jobs,
}

impl RpcEndpoint for Dispatcher {}

fn spec(json: &str) -> Result<JobSpec, AppError> {
    serde_json::from_str(json).map_err(|error| AppError::new(code::INVALID, format!("spec_json: {error}")))
}

impl proto::DispatcherEndpoint for Dispatcher {
    fn submit(&mut self, cx: &mut Context<Self>, request: proto::SubmitRequest) -> Answer<proto::SubmitReply> {
        let parsed = convert::job_id(&request.job_id).and_then(|id| Ok((id, spec(&request.spec_json)?)));
        let (id, spec) = match parsed {
            Ok(parsed) => parsed,
            Err(error) => return Answer::refuse(error),
        };
        let jobs = self.jobs.clone();
        let job_id = id.to_string();
        cx.then(async move { jobs.submit(id, spec).await }, move |_, _, submitted| {
            Answer::from(submitted.map(|known| proto::SubmitReply { job_id, known }))
        })
    }

    fn list(&mut self, _: &mut Context<Self>, _: proto::ListRequest) -> Answer<proto::ListReply> {
        Answer::ready(proto::ListReply { jobs: self.jobs.list().into_iter().map(convert::status_to).collect() })
    }

    fn status(&mut self, _: &mut Context<Self>, request: proto::JobRequest) -> Answer<proto::JobStatus> {
        let status = convert::job_id(&request.job_id).and_then(|id| self.jobs.status(&id));
        Answer::from(status.map(convert::status_to))
    }

    fn result(&mut self, _: &mut Context<Self>, request: proto::JobRequest) -> Answer<proto::ResultReply> {
        let result = convert::job_id(&request.job_id).and_then(|id| self.jobs.result(&id));
        Answer::from(result.map(|result| proto::ResultReply {
            state: result.state.name().to_owned(),
            parts: result.parts.iter().map(convert::part_to).collect(),
            why: result.why,
        }))
    }

    fn fetch_result(
        &mut self,
        cx: &mut Context<Self>,
        request: proto::FetchResultRequest,
    ) -> Answer<proto::FetchResultReply> {
        let id = match convert::job_id(&request.job_id) {
            Ok(id) => id,
            Err(error) => return Answer::refuse(error),
        };
        let jobs = self.jobs.clone();
        let fetched = async move { jobs.fetch(&id, request.part, request.offset).await };
        cx.then(fetched, |_, _, piece| {
            Answer::from(piece.map(|content| proto::FetchResultReply { content: content.into() }))
        })
    }

    fn cancel(&mut self, cx: &mut Context<Self>, request: proto::JobRequest) -> Answer<proto::JobStatus> {
        let id = match convert::job_id(&request.job_id) {
            Ok(id) => id,
            Err(error) => return Answer::refuse(error),
        };
        let jobs = self.jobs.clone();
        cx.then(async move { jobs.cancel(&id).await }, |_, _, ended| Answer::from(ended.map(convert::status_to)))
    }
}
