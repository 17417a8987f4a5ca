//! Elections, sessions and the cluster, as anybody may ask about them.

use super::v1::cluster_service_client::ClusterServiceClient;
use super::v1::election_service_client::ElectionServiceClient;
use super::v1::session_service_client::SessionServiceClient;
use super::{Api, Outcome, v1};

impl Api {
    fn election(&self) -> ElectionServiceClient<tonic::transport::Channel> {
        ElectionServiceClient::new(self.channel())
    }

    /// Who leads, linearizably.
    pub(crate) async fn leader(&mut self, election: &str) -> Outcome<(v1::Header, Option<v1::Grant>)> {
        let request = v1::LeaderRequest { election: election.to_owned(), serializable: false };
        let mut client = self.election();
        let answer = self.answered(client.leader(self.request(request))).await;
        answer.map(|reply| (reply.header.unwrap_or_default(), reply.leader))
    }

    /// The observe stream of an election, from the node that is asked now: the state first, or what followed `from`.
    pub(crate) async fn observe(
        &mut self,
        election: &str,
        from: Option<(u32, u64)>,
    ) -> Outcome<tonic::Streaming<v1::ObserveReply>> {
        let from = from.map(|(generation, seq)| v1::ObserveFrom { generation: Some(generation), seq });
        let mut client = self.election();
        self.answered(client.observe(Api::stream(v1::ObserveRequest { election: election.to_owned(), from }))).await
    }

    /// Ends a leadership: the holder's session says so itself, or (0) somebody from outside asks. Whether the holder was only asked.
    pub(crate) async fn resign(
        &mut self,
        election: &str,
        token: u64,
        session: u64,
        force: bool,
    ) -> Outcome<(v1::Header, bool)> {
        let request =
            v1::ResignRequest { election: election.to_owned(), token, session, force, ..v1::ResignRequest::default() };
        let mut client = self.election();
        let answer = self.answered(client.resign(self.request(request))).await;
        answer.map(|reply| (reply.header.unwrap_or_default(), reply.requested.is_some()))
    }

    /// Asks from outside that `to` leads next; whether the holder was only asked.
    pub(crate) async fn transfer(&mut self, election: &str, token: u64, to: &str) -> Outcome<(v1::Header, bool)> {
        let request = v1::TransferRequest {
            election: election.to_owned(),
            token,
            to: to.to_owned(),
            ..v1::TransferRequest::default()
        };
        let mut client = self.election();
        let answer = self.answered(client.transfer(self.request(request))).await;
        answer.map(|reply| (reply.header.unwrap_or_default(), reply.requested.is_some()))
    }

    /// All sessions that live, linearizably; of a thousand at most.
    pub(crate) async fn sessions(&mut self) -> Outcome<(v1::Header, Vec<u64>)> {
        let mut client = SessionServiceClient::new(self.channel());
        let request = self.request(v1::ListSessionsRequest { serializable: false, after: 0 });
        let answer = self.answered(client.list(request)).await;
        answer.map(|reply| {
            (reply.header.unwrap_or_default(), reply.sessions.iter().map(|summary| summary.session).collect())
        })
    }

    /// What the node that is asked now says about itself.
    pub(crate) async fn status(&mut self) -> Outcome<v1::StatusReply> {
        let mut client = ClusterServiceClient::new(self.channel());
        self.answered(client.status(self.request(v1::StatusRequest {}))).await
    }
}
