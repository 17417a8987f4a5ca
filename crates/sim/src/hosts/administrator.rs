//! An administrator: looks who leads and who led, and wants leaderships, candidacies and sessions of others to end: he asks for
//! it, has them renewed no more, or forces it. It speaks the wire without the
//! care of a client, because what it asks of holders must hold whoever asks.

use std::time::Duration;

use palisade_fence::Token;
use palisade_wire::coord::v1::election_service_client::ElectionServiceClient;
use palisade_wire::coord::v1::session_service_client::SessionServiceClient;
use palisade_wire::coord::v1::{
    CloseSessionRequest, HistoryRequest, LeaderRequest, ResignRequest, TransferRequest, WithdrawRequest,
};
use tonic::transport::Channel;

use super::Process;
use super::candidate::{ELECTIONS, unless_at_rest};
use super::wire::{Unanswered, Wire};
use crate::facts::{Fact, Reigned};
use crate::phase::Phase;
use crate::plan::Role;

/// Between two looks, and as much again at random.
const PAUSE: Duration = Duration::from_millis(150);

/// Runs until the simulation ends.
pub(crate) async fn run(process: Process) -> turmoil::Result {
    let mut administrator = Administrator { wire: Wire::new(&process), process };
    loop {
        let process = administrator.process.clone();
        let pause = PAUSE + process.world.jitter(PAUSE);
        unless_at_rest(&process, process.world.now() + pause).await;
        let election = ELECTIONS[usize::from(process.one_in(2))];
        let Some((token, session)) = administrator.leader(election).await else { continue };
        administrator.history(election).await;
        // Seldom: or nobody would have the time to lead.
        if process.one_in(6) && *process.phase.borrow() != Phase::Rest {
            administrator.end(election, token, session).await;
        }
    }
}

struct Administrator {
    process: Process,
    wire: Wire,
}

impl Administrator {
    fn elections(&self, node: usize) -> ElectionServiceClient<Channel> {
        ElectionServiceClient::new(self.wire.channel(node))
    }

    fn saw(&self, fact: Fact) {
        self.process.witness.saw(self.process.who, fact);
    }

    /// Whom to ask, and whether the answer may be stale.
    fn somebody(&self) -> (usize, bool) {
        if self.process.one_in(3) { (self.wire.any(), true) } else { (self.wire.leader_or_any(), false) }
    }

    /// A node answered, as of a state, or did not.
    fn heard(&mut self, node: usize, stale: bool, seq: u64, answer: Result<(), &Unanswered>) {
        // Whoever answers what may be stale need not lead.
        match (stale, answer) {
            (false, _) => self.wire.learn(node, answer),
            (true, Ok(())) => self.saw(Fact::ReadStale { by: self.process.who, node: node + 1, seq }),
            (true, Err(_)) => {}
        }
    }

    /// Who leads, and for which session; `None`: nobody does, or nobody says.
    async fn leader(&mut self, election: &str) -> Option<(Token, u64)> {
        let (node, serializable) = self.somebody();
        let request = LeaderRequest { election: election.to_owned(), serializable };
        let answer = self.wire.ask(self.elections(node).leader(request)).await;
        let seq = answer.as_ref().ok().and_then(|reply| reply.header).unwrap_or_default().seq;
        self.heard(node, serializable, seq, answer.as_ref().map(|_| ()));
        let reply = answer.ok().filter(|reply| !self.process.is_outlived(reply.header.as_ref()))?;
        let leads = reply.leader.and_then(|grant| Some((Token::from_wire(grant.token)?, grant.session)));
        self.saw(Fact::LeaderTold { election: election.to_owned(), seq, token: leads.map(|it| it.0) });
        leads
    }

    /// Who led before.
    async fn history(&mut self, election: &str) {
        let (node, serializable) = self.somebody();
        let request = HistoryRequest { election: election.to_owned(), serializable };
        let answer = self.wire.ask(self.elections(node).history(request)).await;
        let seq = answer.as_ref().ok().and_then(|reply| reply.header).unwrap_or_default().seq;
        self.heard(node, serializable, seq, answer.as_ref().map(|_| ()));
        let Ok(reply) = answer else { return };
        if self.process.is_outlived(reply.header.as_ref()) {
            return;
        }
        let reigned = |reign: palisade_wire::coord::v1::Reign| {
            let token = Token::from_wire(reign.token)?;
            let (since, until) = (reign.since_seq, reign.until_seq);
            Some(Reigned { token, candidate: reign.candidate_id, since, until, why: reign.why })
        };
        let reigns = reply.reigns.into_iter().filter_map(reigned).collect();
        self.saw(Fact::HistoryTold { election: election.to_owned(), seq, reigns });
    }

    /// Wants something to end, in one of the ways that there are.
    async fn end(&mut self, election: &str, token: Token, session: u64) {
        let random = |below: u64| self.process.world.random_u64() % below;
        let (election, candidate) = (election.to_owned(), self.some_candidate());
        let (force, end_session) = [(false, false), (false, true), (true, false)][random(3) as usize];
        let node = self.wire.leader();
        let answer = match random(4) {
            0 => {
                let token = token.get();
                let request = ResignRequest { election, token, force, end_session, ..ResignRequest::default() };
                self.wire.ask(self.elections(node).resign(request)).await.map(|_| ())
            }
            1 => {
                let to = candidate;
                let request = TransferRequest { election, to, force, end_session, ..TransferRequest::default() };
                self.wire.ask(self.elections(node).transfer(request)).await.map(|_| ())
            }
            2 => {
                let candidate_id = candidate;
                let request =
                    WithdrawRequest { election, candidate_id, force, end_session, ..WithdrawRequest::default() };
                self.wire.ask(self.elections(node).withdraw(request)).await.map(|_| ())
            }
            _ => {
                let request = CloseSessionRequest { session, force, end_session, ..CloseSessionRequest::default() };
                let mut sessions = SessionServiceClient::new(self.wire.channel(node));
                self.wire.ask(sessions.close(request)).await.map(|_| ())
            }
        };
        self.wire.learn(node, answer.as_ref().copied());
    }

    /// A candidate that may stand: whether it does is for the store to say.
    fn some_candidate(&self) -> String {
        let many = self.process.plan.count(Role::Candidate).max(1) as u64;
        let number = self.process.world.random_u64() % many + 1;
        format!("candidate-{number}.{}", if self.process.one_in(4) { 1 } else { 0 })
    }
}
