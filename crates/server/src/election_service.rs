//! Elections over gRPC, all but campaigning: that goes through a session's stream. It decides nothing.

use std::ops::Bound;

use palisade_coord_core::{Command, Refusal, Reply, SessionId};
use palisade_wire::coord::v1::election_service_server::ElectionService;
use palisade_wire::coord::v1::{
    ElectionSummary, EndIsAsked, ErrorDetail, Header, HistoryReply, HistoryRequest, LeaderReply, LeaderRequest,
    ListElectionsReply, ListElectionsRequest, ObserveReply, ObserveRequest, ProclaimReply, ProclaimRequest,
    ResignReply, ResignRequest, TransferReply, TransferRequest, WithdrawReply, WithdrawRequest,
};
use palisade_wire::{convert, status};
use prost::Message;
use tokio_stream::Stream;
use tonic::{Request, Response, Status};

use crate::api::{Api, Fresh, wrong_reply};
use crate::observe;

/// Bytes of elections in one part of a list: below what gRPC takes in one message, and a few milliseconds under the state's lock.
const LISTED_BYTES: usize = 1 << 20;

/// The service.
pub(crate) struct Elections {
    pub(crate) api: Api,
}

impl Elections {
    /// Has a command applied that may end in asking a holder: then what that holder loses with its session.
    async fn apply_or_ask(
        &self,
        command: Result<Command, ErrorDetail>,
    ) -> Result<(Header, Reply, Option<EndIsAsked>), Status> {
        let op = command.as_ref().ok().map(|command| command.op.clone());
        let (header, reply) = self.api.apply(command).await?;
        let asked = match (&reply, &op) {
            (Reply::Requested { session }, Some(op)) => {
                let session: SessionId = *session;
                Some(self.api.machine.read(|state| convert::end_is_asked(convert::losing(state, session, op))))
            }
            _ => None,
        };
        Ok((header, reply, asked))
    }
}

#[tonic::async_trait]
impl ElectionService for Elections {
    async fn leader(&self, request: Request<LeaderRequest>) -> Result<Response<LeaderReply>, Status> {
        let LeaderRequest { election, serializable } = request.into_inner();
        let election = convert::election(election).map_err(status::refuse)?;
        let reply = self
            .api
            .read_as(Fresh::of(serializable), |state| LeaderReply {
                header: Some(convert::header(state)),
                leader: state.leader(&election).map(convert::grant),
            })
            .await?;
        Ok(Response::new(reply))
    }

    async fn list(&self, request: Request<ListElectionsRequest>) -> Result<Response<ListElectionsReply>, Status> {
        let ListElectionsRequest { serializable, after } = request.into_inner();
        let after = convert::elections_after(after).map_err(status::refuse)?;
        let reply = self.api.read_as(Fresh::of(serializable), |state| {
            let from = after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
            let mut bytes = 0;
            let mut elections: Vec<ElectionSummary> = Vec::new();
            for (name, election) in state.elections_from(from) {
                let summary = convert::election_summary(name, election);
                bytes += summary.encoded_len();
                if bytes > LISTED_BYTES && !elections.is_empty() {
                    return ListElectionsReply { header: Some(convert::header(state)), elections, more: true };
                }
                elections.push(summary);
            }
            ListElectionsReply { header: Some(convert::header(state)), elections, more: false }
        });
        Ok(Response::new(reply.await?))
    }

    type ObserveStream = std::pin::Pin<Box<dyn Stream<Item = Result<ObserveReply, Status>> + Send>>;

    async fn observe(&self, request: Request<ObserveRequest>) -> Result<Response<Self::ObserveStream>, Status> {
        let what = convert::observe(request.into_inner()).map_err(status::refuse)?;
        Ok(Response::new(Box::pin(observe::observe(&self.api, what).await?)))
    }

    async fn history(&self, request: Request<HistoryRequest>) -> Result<Response<HistoryReply>, Status> {
        let HistoryRequest { election, serializable } = request.into_inner();
        let election = convert::election(election).map_err(status::refuse)?;
        let reply = self
            .api
            .read_as(Fresh::of(serializable), |state| match state.election(&election) {
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
        let reply = |header, already, requested| ResignReply { header: Some(header), already, requested };
        match self.apply_or_ask(command).await? {
            (header, Reply::Resigned { already }, _) => Ok(Response::new(reply(header, already, None))),
            (header, Reply::Requested { .. }, asked) => Ok(Response::new(reply(header, false, asked))),
            (_, other, _) => Err(wrong_reply(&other)),
        }
    }

    async fn transfer(&self, request: Request<TransferRequest>) -> Result<Response<TransferReply>, Status> {
        let command = convert::transfer(request.into_inner(), self.api.unix_ms());
        match self.apply_or_ask(command).await? {
            (header, Reply::Transferred | Reply::Requested { .. }, requested) => {
                Ok(Response::new(TransferReply { header: Some(header), requested }))
            }
            (_, other, _) => Err(wrong_reply(&other)),
        }
    }

    async fn withdraw(&self, request: Request<WithdrawRequest>) -> Result<Response<WithdrawReply>, Status> {
        let command = convert::withdraw_by_id(request.into_inner(), self.api.unix_ms());
        match self.apply_or_ask(command).await? {
            (header, Reply::Withdrawn { .. } | Reply::Requested { .. }, requested) => {
                Ok(Response::new(WithdrawReply { header: Some(header), requested }))
            }
            (_, other, _) => Err(wrong_reply(&other)),
        }
    }
}
