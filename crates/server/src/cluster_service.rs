//! What this node says about itself and the cluster as it sees it, and changes of who belongs to it.
//!
//! Status and health are served without a store leader, too; never by asking other nodes. Changes are decided and made by the
//! replica: here they are read and answered.

use palisade_coord_core::{Command, Op, Reply};
use palisade_replica::{Change, ChangeError, Machine, MemberState, Members};
use palisade_wire::coord::v1::cluster_service_server::ClusterService;
use palisade_wire::coord::v1::error_detail::Kind;
use palisade_wire::coord::v1::{
    AddNodeRequest, ErrorDetail, HealthReply, HealthRequest, Member, MembersReply, MembersRequest, PromoteNodeRequest,
    RaiseLevelReply, RaiseLevelRequest, RemoveNodeRequest, SnapshotRequest, StatusReply, StatusRequest,
    TransferStoreLeaderRequest,
};
use palisade_wire::{convert, status};
use palisade_world::World;
use palisade_world::grpc::check_address;
use tokio::sync::oneshot;
use tonic::{Request, Response, Status};

use crate::api::{ANSWER_LIMIT, Api, wrong_reply};
use crate::backup::{self, AT_ONCE, Parts, Places};
use crate::build_info;
use crate::health::Health;
use crate::proposer::SubmitError;
use crate::raise;
use crate::refusals;

/// The service.
pub(crate) struct Cluster {
    pub(crate) node_id: u64,
    pub(crate) commit: &'static str,
    pub(crate) api: Api,
    pub(crate) health: Health,
    pub(crate) backups: Places,
}

#[tonic::async_trait]
impl ClusterService for Cluster {
    type SnapshotStream = Parts;

    async fn snapshot(&self, _: Request<SnapshotRequest>) -> Result<Response<Parts>, Status> {
        let Some(place) = self.backups.take() else {
            let limit = format!("at most {AT_ONCE} backups of a node at once");
            return Err(status::refuse(ErrorDetail {
                limit,
                ..status::not_applied(Kind::Overloaded, "repeat it a little later")
            }));
        };
        // So everything is in it that was acknowledged before.
        self.api.barrier().await?;
        if self.api.machine.founded().borrow().is_none() {
            return Err(status::refuse(refusals::no_state()));
        }
        let (frozen, header) = self.api.machine.read(|state| (state.freeze(), convert::header(state)));
        Ok(Response::new(backup::parts(frozen, header, place, &self.api.world)))
    }

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusReply>, Status> {
        let problems = self.health.problems();
        let status = self.health.status.borrow().clone();
        let known = StatusReply {
            node_id: self.node_id,
            role: status.role.to_string(),
            term: status.term,
            last_applied: status.applied,
            committed: status.committed,
            store_leader: status.store_leader.as_ref().map(refusals::store_leader),
            members: self.api.replica.members().members.iter().map(member).collect(),
            healthy: problems.is_empty(),
            problems,
            version: build_info::VERSION.to_owned(),
            commit: self.commit.to_owned(),
            known_level: self.api.machine.level().known,
            ..StatusReply::default()
        };
        let reply = self.api.machine.read(|state| StatusReply {
            header: Some(convert::header(state)),
            sessions: state.session_count(),
            elections: state.election_count(),
            keys: state.keys().count(),
            level: state.level(),
            ..known
        });
        Ok(Response::new(reply))
    }

    async fn members(&self, _: Request<MembersRequest>) -> Result<Response<MembersReply>, Status> {
        self.api.barrier().await?;
        Ok(Response::new(self.reply(&self.api.replica.members())))
    }

    async fn add_node(&self, request: Request<AddNodeRequest>) -> Result<Response<MembersReply>, Status> {
        let AddNodeRequest { node_id, address } = request.into_inner();
        node_is_named(node_id)?;
        check_address(&address).map_err(|bad| invalid("address", &bad.value, &format!("HOST:PORT; {}", bad.why)))?;
        if address.ends_with(":0") {
            return Err(invalid("address", &address, "others cannot reach port 0; name a port"));
        }
        self.change(Box::pin(self.api.replica.change(&Change::Add { node_id, address }))).await
    }

    async fn promote_node(&self, request: Request<PromoteNodeRequest>) -> Result<Response<MembersReply>, Status> {
        let PromoteNodeRequest { node_id } = request.into_inner();
        node_is_named(node_id)?;
        self.change(Box::pin(self.api.replica.change(&Change::Promote { node_id }))).await
    }

    async fn remove_node(&self, request: Request<RemoveNodeRequest>) -> Result<Response<MembersReply>, Status> {
        let RemoveNodeRequest { node_id } = request.into_inner();
        node_is_named(node_id)?;
        self.change(Box::pin(self.api.replica.change(&Change::Remove { node_id }))).await
    }

    async fn transfer_store_leader(
        &self,
        request: Request<TransferStoreLeaderRequest>,
    ) -> Result<Response<MembersReply>, Status> {
        let TransferStoreLeaderRequest { node_id } = request.into_inner();
        node_is_named(node_id)?;
        self.change(self.api.replica.transfer(node_id)).await
    }

    async fn raise_level(&self, request: Request<RaiseLevelRequest>) -> Result<Response<RaiseLevelReply>, Status> {
        let RaiseLevelRequest { level: asked } = request.into_inner();
        self.api.barrier().await?;
        let levels = self.api.machine.level();
        let level = if asked == 0 { levels.known } else { asked };
        if level == levels.at {
            // Nobody is asked, and nothing is proposed: a program from before levels stops at the command, also where it raises nothing.
            let header = Some(self.api.machine.read(convert::header));
            return Ok(Response::new(RaiseLevelReply { header, level, before: level }));
        }
        let asked = self.api.replica.levels().await.map_err(|error| status::refuse(refusals::of_change(error)))?;
        raise::may_be_raised(level, asked.at, &asked.members).map_err(|why| status::refuse(refusals::of_level(why)))?;
        let command = Command::new(self.api.unix_ms(), Op::RaiseLevel { level });
        // Under the leadership that has asked, and nobody becomes a member before the outcome: whoever was asked is everybody.
        let (proposer, leadership) = (self.api.proposer.clone(), asked.leadership);
        let proposed = async move { proposer.submit_as(leadership, command).await };
        let outcome = carry_through(&self.api.world, asked, proposed);
        let late = || Err(SubmitError::Unknown { why: "the node stops".to_owned() });
        let (header, reply) = self.api.answer(async { outcome.await.unwrap_or_else(late) }).await?;
        match reply {
            Reply::LevelRaised { before } => {
                let level = level.max(before);
                tracing::info!(level, from = before, "the level of the cluster was raised");
                Ok(Response::new(RaiseLevelReply { header: Some(header), level, before }))
            }
            reply => Err(wrong_reply(&reply)),
        }
    }

    async fn health(&self, _: Request<HealthRequest>) -> Result<Response<HealthReply>, Status> {
        let problems = self.health.problems();
        Ok(Response::new(HealthReply { serving: problems.is_empty(), problems }))
    }
}

impl Cluster {
    /// Answers with what a change came to.
    async fn change(
        &self,
        change: impl Future<Output = Result<Members, ChangeError>>,
    ) -> Result<Response<MembersReply>, Status> {
        let late = || Err(ChangeError::Unknown { why: format!("no outcome within {ANSWER_LIMIT:?}") });
        match self.api.world.timeout(ANSWER_LIMIT, change).await.unwrap_or_else(late) {
            Ok(members) => Ok(Response::new(self.reply(&members))),
            Err(error) => Err(status::refuse(refusals::of_change(error))),
        }
    }

    fn reply(&self, members: &Members) -> MembersReply {
        let store_leader = self.health.status.borrow().store_leader.as_ref().map(refusals::store_leader);
        let Members { index, members } = members;
        let members = members.iter().map(member).collect();
        let header = Some(self.api.machine.read(convert::header));
        MembersReply { header, members, store_leader, index: *index }
    }
}

/// Does something that must come to its end once it was begun, and holds `held` until it has: whoever waits for the outcome may be gone
/// by then. `None`: it had none.
fn carry_through<H, W>(world: &World, held: H, work: W) -> impl Future<Output = Option<W::Output>> + use<H, W>
where
    H: Send + 'static,
    W: Future<Output: Send> + Send + 'static,
{
    let (tell, outcome) = oneshot::channel();
    let carry = async move {
        let done = work.await;
        drop(held);
        let _ = tell.send(done); // whoever asked may have gone
    };
    world.spawn("raising the level", carry).detach();
    async move { outcome.await.ok() }
}

fn member(state: &MemberState) -> Member {
    let MemberState { member, behind, answers } = state;
    Member {
        node_id: member.peer.node_id,
        address: member.peer.address.clone(),
        role: if member.voter { "voter" } else { "learner" }.to_owned(),
        store_id: member.peer.store_id,
        behind: *behind,
        answers: *answers,
    }
}

fn node_is_named(node_id: u64) -> Result<(), Status> {
    if node_id == 0 { Err(invalid("node_id", "0", "a node id is a number from 1")) } else { Ok(()) }
}

fn invalid(field: &str, value: &str, limit: &str) -> Status {
    let (field, limit) = (field.to_owned(), limit.to_owned());
    let value: String = value.chars().take(128).collect();
    status::refuse(ErrorDetail { field, value, limit, ..status::not_applied(Kind::InvalidArgument, "") })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::Semaphore;

    use super::*;

    /// Else a node could join between an answer and the level that rests on it.
    #[tokio::test]
    async fn what_was_begun_holds_its_turn_until_its_outcome_whoever_has_gone() {
        let turns = Arc::new(Semaphore::new(1));
        let held = Arc::clone(&turns).try_acquire_owned().expect("it is free");
        let (end, ended) = oneshot::channel::<()>();
        let outcome = carry_through(&World::real(), held, async move { ended.await.is_ok() });
        // The call is cancelled.
        drop(outcome);
        tokio::task::yield_now().await;
        assert_eq!(turns.available_permits(), 0, "its turn is over, and what it began is not");
        end.send(()).expect("it waits");
        let _free = turns.acquire().await.expect("nobody closes it");
    }
}
