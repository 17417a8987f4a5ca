//! Elections from outside: who leads, proclaim, resign. Campaigning is a session's.

use std::sync::Arc;

use palisade_fence::Token;
use palisade_wire::coord::v1;
use palisade_wire::coord::v1::election_service_client::ElectionServiceClient;

use crate::requests::{Repeat, Shared};
use crate::{Client, Error, Grant, Header, Session, Value};

/// One election.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ElectionSummary {
    /// Its name.
    pub election: String,
    /// Who leads; `None`: nobody.
    pub leader: Option<Grant>,
    /// Candidates that wait.
    pub waiting: u32,
}

/// A change of what a leader has proclaimed.
#[derive(Clone, Debug)]
pub struct ProclaimOptions<'a> {
    /// Name of the election.
    pub election: String,
    /// Must be its current token.
    pub token: Token,
    /// What observers will see.
    pub value: Value,
    /// The session that remembers the answer, so that an unknown outcome can be repeated; it need not be the holder's.
    pub session: Option<&'a Session>,
}

/// An end of a leadership from outside, by its token.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ResignOptions {
    /// Name of the election.
    pub election: String,
    /// The leadership to end.
    pub token: Token,
    /// Also when the holder keeps it until its TTL: it then goes on believing until its deadline.
    pub force: bool,
}

/// A leadership was ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Resigned {
    /// That token led no longer (a repetition of the same request may say so of its own first try).
    pub already: bool,
    /// Of the command.
    pub header: Header,
}

impl Client {
    /// Who leads; `None`: nobody. Linearizable.
    pub async fn leader(&self, election: &str) -> Result<Option<Grant>, Error> {
        Ok(leader(&self.shared, election).await?.1)
    }

    /// All elections by name. Linearizable.
    pub async fn elections(&self) -> Result<Vec<ElectionSummary>, Error> {
        let list = self.shared.request(Repeat::Read, |channel| async {
            ElectionServiceClient::new(channel).list(v1::ListElectionsRequest {}).await
        });
        let summary = |it: v1::ElectionSummary| {
            let leader = it.leader.map(Grant::of).transpose().map_err(Error::of_a_read)?;
            Ok(ElectionSummary { election: it.election, leader, waiting: it.waiting })
        };
        list.await?.elections.into_iter().map(summary).collect()
    }

    /// Changes what a leader has proclaimed; only with the current token.
    pub async fn proclaim(&self, options: ProclaimOptions<'_>) -> Result<Header, Error> {
        proclaim(&self.shared, options).await
    }

    /// Ends a leadership from outside. Idempotent, so it is repeated until it is answered, within the request timeout.
    pub async fn resign(&self, options: ResignOptions) -> Result<Resigned, Error> {
        let ResignOptions { election, token, force } = options;
        let request = v1::ResignRequest { election, token: token.get(), session: 0, force, request_id: None };
        let resign = self.shared.request(Repeat::Safe, |channel| {
            let request = request.clone();
            async move { ElectionServiceClient::new(channel).resign(request).await }
        });
        let reply = resign.await?;
        Ok(Resigned { already: reply.already, header: Header::of(reply.header.as_ref()) })
    }
}

pub(crate) async fn leader(shared: &Arc<Shared>, election: &str) -> Result<(Header, Option<Grant>), Error> {
    let request = v1::LeaderRequest { election: election.to_owned() };
    let ask = shared.request(Repeat::Read, |channel| {
        let request = request.clone();
        async move { ElectionServiceClient::new(channel).leader(request).await }
    });
    let reply = ask.await?;
    let leader = reply.leader.map(Grant::of).transpose().map_err(Error::of_a_read)?;
    Ok((Header::of(reply.header.as_ref()), leader))
}

pub(crate) async fn proclaim(shared: &Arc<Shared>, options: ProclaimOptions<'_>) -> Result<Header, Error> {
    let serial = options.session.map(|session| (session.id(), session.serial()));
    let request = v1::ProclaimRequest {
        election: options.election,
        token: options.token.get(),
        value: Some(options.value.to_wire()),
        request_id: serial.as_ref().map(|(session, serial)| serial.request_id(*session)),
    };
    let ask = shared.request(repeat(&request.request_id), |channel| {
        let request = request.clone();
        async move { ElectionServiceClient::new(channel).proclaim(request).await }
    });
    Ok(Header::of(ask.await?.header.as_ref()))
}

/// A write is repeated after an unknown outcome only under a request id.
pub(crate) fn repeat(id: &Option<v1::RequestId>) -> Repeat {
    if id.is_some() { Repeat::Safe } else { Repeat::Unsafe }
}
