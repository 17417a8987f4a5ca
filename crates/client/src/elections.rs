//! Elections from outside: who leads and led, proclaim, resign, transfer, withdraw. Campaigning is a session's.

use std::sync::Arc;

use palisade_fence::Token;
use palisade_wire::coord::v1;
use palisade_wire::coord::v1::election_service_client::ElectionServiceClient;

use crate::kv::identified;
use crate::requests::{Repeat, Shared};
use crate::{Client, Demand, Ended, Error, Grant, Header, History, Reading, Session, Value};

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
    /// For a holder that keeps it until its TTL.
    pub demand: Demand,
}

/// A hand-over from outside to a candidate that waits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TransferOptions {
    /// Name of the election.
    pub election: String,
    /// The leadership to end; `None`: whichever there is.
    pub token: Option<Token>,
    /// The candidate that is to lead; it must wait.
    pub to: String,
    /// For a holder that keeps it until its TTL.
    pub demand: Demand,
}

/// An end of a candidacy from outside, by the candidate's id.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WithdrawOptions {
    /// Name of the election.
    pub election: String,
    /// Who is to stand no more; one that waits goes at once.
    pub candidate_id: String,
    /// For one that leads and keeps that until its TTL.
    pub demand: Demand,
}

impl Client {
    /// Who leads; `None`: nobody. Linearizable.
    pub async fn leader(&self, election: &str) -> Result<Option<Grant>, Error> {
        Ok(leader(&self.shared, election, Reading::Linearizable).await?.1)
    }

    /// Who leads, as the caller wants to read.
    pub async fn leader_as(&self, election: &str, reading: Reading) -> Result<Option<Grant>, Error> {
        Ok(leader(&self.shared, election, reading).await?.1)
    }

    /// All elections by name, in the order of bytes. Linearizable.
    pub async fn elections(&self) -> Result<Vec<ElectionSummary>, Error> {
        self.elections_as(Reading::Linearizable).await
    }

    /// As [`Client::elections`], as the caller wants to read. They are asked for in parts, so that a long list is not of one moment.
    pub async fn elections_as(&self, reading: Reading) -> Result<Vec<ElectionSummary>, Error> {
        let mut all: Vec<ElectionSummary> = Vec::new();
        loop {
            let after = all.last().map_or(String::new(), |last| last.election.clone());
            let request = v1::ListElectionsRequest { serializable: reading.is_serializable(), after };
            let list = self.shared.request(reading.repeat(), |channel| {
                let request = request.clone();
                async move { ElectionServiceClient::new(channel).list(request).await }
            });
            let reply = list.await?;
            for it in reply.elections {
                let leader = it.leader.map(Grant::of).transpose().map_err(Error::of_a_read)?;
                all.push(ElectionSummary { election: it.election, leader, waiting: it.waiting });
            }
            if !reply.more {
                return Ok(all);
            }
        }
    }

    /// Who led an election before, oldest first; who leads now is not in it.
    pub async fn history(&self, election: &str, reading: Reading) -> Result<History, Error> {
        let request = v1::HistoryRequest { election: election.to_owned(), serializable: reading.is_serializable() };
        let ask = self.shared.request(reading.repeat(), |channel| {
            let request = request.clone();
            async move { ElectionServiceClient::new(channel).history(request).await }
        });
        History::of(ask.await?)
    }

    /// Changes what a leader has proclaimed; only with the current token.
    pub async fn proclaim(&self, options: ProclaimOptions<'_>) -> Result<Header, Error> {
        proclaim(&self.shared, options).await
    }

    /// Ends a leadership from outside, or asks its holder to. Idempotent, so it is repeated until it is answered, within the
    /// request timeout; a repetition may say `already` of its own first try.
    pub async fn resign(&self, options: ResignOptions) -> Result<Ended, Error> {
        let ResignOptions { election, token, demand } = options;
        let request = v1::ResignRequest {
            election,
            token: token.get(),
            force: demand.is_force(),
            end_session: demand.ends_session(),
            ..v1::ResignRequest::default()
        };
        let resign = self.shared.request(Repeat::Safe, |channel| {
            let request = request.clone();
            async move { ElectionServiceClient::new(channel).resign(request).await }
        });
        let reply = resign.await?;
        Ended::of(reply.header.as_ref(), reply.already, reply.requested)
    }

    /// Hands a leadership over to a candidate that waits, or asks its holder to. After an unknown outcome it is not sent again:
    /// [`Session::transfer`] is.
    pub async fn transfer(&self, options: TransferOptions) -> Result<Ended, Error> {
        transfer(&self.shared, options, None).await
    }

    /// Ends a candidacy by the candidate's id, or asks the candidate to if it leads. After an unknown outcome it is not sent
    /// again: [`Session::withdraw`] is.
    pub async fn withdraw(&self, options: WithdrawOptions) -> Result<Ended, Error> {
        withdraw(&self.shared, options, None).await
    }
}

impl Session {
    /// As [`Client::transfer`], by somebody who has a session: it remembers the answer, so that the request is repeated until it
    /// is answered, within the request timeout, and takes effect once. Whose leadership it is makes no difference.
    pub async fn transfer(&self, options: TransferOptions) -> Result<Ended, Error> {
        transfer(self.shared(), options, Some(self)).await
    }

    /// As [`Client::withdraw`], likewise.
    pub async fn withdraw(&self, options: WithdrawOptions) -> Result<Ended, Error> {
        withdraw(self.shared(), options, Some(self)).await
    }
}

async fn transfer(shared: &Arc<Shared>, options: TransferOptions, asker: Option<&Session>) -> Result<Ended, Error> {
    let TransferOptions { election, token, to, demand } = options;
    let (request_id, _serial) = identified(asker); // open until the answer is here
    let request = v1::TransferRequest {
        election,
        token: token.map_or(0, Token::get),
        to,
        force: demand.is_force(),
        end_session: demand.ends_session(),
        request_id,
        ..v1::TransferRequest::default()
    };
    let transfer = shared.request(repeat(&request.request_id), |channel| {
        let request = request.clone();
        async move { ElectionServiceClient::new(channel).transfer(request).await }
    });
    let reply = transfer.await?;
    Ended::of(reply.header.as_ref(), false, reply.requested)
}

async fn withdraw(shared: &Arc<Shared>, options: WithdrawOptions, asker: Option<&Session>) -> Result<Ended, Error> {
    let WithdrawOptions { election, candidate_id, demand } = options;
    let (request_id, _serial) = identified(asker); // open until the answer is here
    let request = v1::WithdrawRequest {
        election,
        candidate_id,
        force: demand.is_force(),
        end_session: demand.ends_session(),
        request_id,
        ..v1::WithdrawRequest::default()
    };
    let withdraw = shared.request(repeat(&request.request_id), |channel| {
        let request = request.clone();
        async move { ElectionServiceClient::new(channel).withdraw(request).await }
    });
    let reply = withdraw.await?;
    Ended::of(reply.header.as_ref(), false, reply.requested)
}

pub(crate) async fn leader(
    shared: &Arc<Shared>,
    election: &str,
    reading: Reading,
) -> Result<(Header, Option<Grant>), Error> {
    let request = v1::LeaderRequest { election: election.to_owned(), serializable: reading.is_serializable() };
    let ask = shared.request(reading.repeat(), |channel| {
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
