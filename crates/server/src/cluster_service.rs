//! What this node says about itself and the cluster as it sees it. Served without a store leader, too; never by asking
//! other nodes.

use palisade_wire::convert;
use palisade_wire::coord::v1::cluster_service_server::ClusterService;
use palisade_wire::coord::v1::{HealthReply, HealthRequest, Member, StatusReply, StatusRequest};
use tonic::{Request, Response, Status};

use crate::api::Api;
use crate::build_info;
use crate::health::Health;
use crate::refusals;

/// The service.
pub(crate) struct Cluster {
    pub(crate) node_id: u64,
    pub(crate) api: Api,
    pub(crate) health: Health,
}

#[tonic::async_trait]
impl ClusterService for Cluster {
    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusReply>, Status> {
        let problems = self.health.problems();
        let status = self.health.status.borrow().clone();
        let members = status.members.iter().map(|member| Member {
            node_id: member.peer.node_id,
            address: member.peer.address.clone(),
            role: if member.voter { "voter" } else { "learner" }.to_owned(),
            store_id: member.peer.store_id,
        });
        let known = StatusReply {
            node_id: self.node_id,
            role: status.role.to_string(),
            term: status.term,
            last_applied: status.applied,
            committed: status.committed,
            store_leader: status.store_leader.as_ref().map(refusals::store_leader),
            members: members.collect(),
            healthy: problems.is_empty(),
            problems,
            version: build_info::VERSION.to_owned(),
            commit: build_info::COMMIT.to_owned(),
            ..StatusReply::default()
        };
        let reply = self.api.machine.read(|state| StatusReply {
            header: Some(convert::header(state)),
            sessions: state.session_count(),
            elections: state.election_count(),
            keys: state.keys().count(),
            ..known
        });
        Ok(Response::new(reply))
    }

    async fn health(&self, _: Request<HealthRequest>) -> Result<Response<HealthReply>, Status> {
        let problems = self.health.problems();
        Ok(Response::new(HealthReply { serving: problems.is_empty(), problems }))
    }
}
