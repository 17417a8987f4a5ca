//! Elections over gRPC, all but campaigning: that goes through a session's stream. It decides nothing.

use palisade_coord_core::{Grant, Refusal, Reply};
use palisade_wire::coord::v1::election_service_server::ElectionService;
use palisade_wire::coord::v1::{
    ElectionSummary, HistoryReply, HistoryRequest, LeaderReply, LeaderRequest, ListElectionsReply,
    ListElectionsRequest, ObserveReply, ObserveRequest, ProclaimReply, ProclaimRequest, ResignReply, ResignRequest,
};
use palisade_wire::{convert, status};
use tokio_stream::Stream;
use tonic::{Request, Response, Status};

use crate::api::{Api, wrong_reply};
use crate::observe;

/// The service.
pub(crate) struct Elections {
    pub(crate) api: Api,
}

#[tonic::async_trait]
impl ElectionService for Elections {
    async fn leader(&self, request: Request<LeaderRequest>) -> Result<Response<LeaderReply>, Status> {
        let election = convert::election(request.into_inner().election).map_err(status::refuse)?;
        let reply = self
            .api
            .read(|state| LeaderReply {
                header: Some(convert::header(state)),
                leader: state.leader(&election).map(convert::grant),
            })
            .await?;
        Ok(Response::new(reply))
    }

    async fn list(&self, _: Request<ListElectionsRequest>) -> Result<Response<ListElectionsReply>, Status> {
        let reply = self
            .api
            .read(|state| ListElectionsReply {
                header: Some(convert::header(state)),
                elections: state
                    .elections()
                    .map(|(name, election)| ElectionSummary {
                        election: name.to_owned(),
                        leader: election.leader.as_ref().map(without_value),
                        waiting: u32::try_from(election.queue.len()).unwrap_or(u32::MAX),
                    })
                    .collect(),
            })
            .await?;
        Ok(Response::new(reply))
    }

    type ObserveStream = std::pin::Pin<Box<dyn Stream<Item = Result<ObserveReply, Status>> + Send>>;

    async fn observe(&self, request: Request<ObserveRequest>) -> Result<Response<Self::ObserveStream>, Status> {
        let election = convert::observe(request.into_inner()).map_err(status::refuse)?;
        Ok(Response::new(Box::pin(observe::observe(&self.api, election).await?)))
    }

    async fn history(&self, request: Request<HistoryRequest>) -> Result<Response<HistoryReply>, Status> {
        let election = convert::election(request.into_inner().election).map_err(status::refuse)?;
        let reply = self
            .api
            .read(|state| match state.election(&election) {
                Some(_) => Ok(convert::history(state, &election)),
                None => Err(convert::refusal(&Refusal::ElectionNotFound { election }, convert::header(state))),
            })
            .await?;
        reply.map(Response::new).map_err(status::refuse)
    }

    async fn proclaim(&self, request: Request<ProclaimRequest>) -> Result<Response<ProclaimReply>, Status> {
        let command = convert::proclaim(request.into_inner(), self.api.unix_ms());
        match self.api.apply(command).await? {
            (header, Reply::Proclaimed) => Ok(Response::new(ProclaimReply { header: Some(header) })),
            (_, other) => Err(wrong_reply(&other)),
        }
    }

    async fn resign(&self, request: Request<ResignRequest>) -> Result<Response<ResignReply>, Status> {
        let command = convert::resign(request.into_inner(), self.api.unix_ms());
        match self.api.apply(command).await? {
            (header, Reply::Resigned { already }) => Ok(Response::new(ResignReply { header: Some(header), already })),
            (_, other) => Err(wrong_reply(&other)),
        }
    }
}

/// A grant as a list shows it: values may be 64 KiB each, and a list may be long.
fn without_value(grant: &Grant) -> palisade_wire::coord::v1::Grant {
    palisade_wire::coord::v1::Grant {
        election: grant.election.clone(),
        candidate_id: grant.candidate.clone(),
        session: grant.session.get(),
        serial: grant.serial.get(),
        token: grant.token.get(),
        seq: grant.seq.get(),
        since_unix_ms: grant.since_unix_ms,
        value: None,
    }
}
