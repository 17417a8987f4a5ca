//! Stale messages, after the successor has acted: the bytes that the dead leader wrote while it led, let go by the proxies, and the
//! same calls made over plain gRPC with the old token. What became of them is read from the receivers' own counters.

use std::time::Duration;

use palisade_fence::Token;
use palisade_runtime::proto::{LeaderHeartbeatReply, LeaderHeartbeatRequest};
use palisade_world::grpc::channel;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Request, Status};

use super::report::Stale;
use super::{ELECTION, LOOK, Stage};
use crate::exit::Failure;

/// Plain gRPC calls with the old token to each TaskExecutor after each kill.
const PLAIN_CALLS: u64 = 3;
/// What was let go is refused within this, or it was not refused.
const ARRIVES_WITHIN: Duration = Duration::from_secs(5);
/// The counter of refusals, as every process shows it, and where it counts them.
const REFUSED: &str = "rpc_stale";
const REFUSED_BY: &str = "endpoint=taskexecutor,election=jobmanager";
const METHOD: &str = "/palisade.runtime.v1.TaskExecutorGateway/LeaderHeartbeat";

impl Stage<'_> {
    /// Gives how many stale messages were let loose, and how many of them the receivers say they refused.
    pub(super) async fn let_stale_arrive(&self, old: Token) -> Result<Stale, Failure> {
        let before = self.refused_as_stale().await?;
        let held: u64 = self.proxies.iter().map(super::proxy::Proxy::release).sum();
        let mut sent = held;
        for process in &self.taskexecutors {
            for _ in 0..PLAIN_CALLS {
                self.plain_call(&process.address, old).await?;
                sent += 1;
            }
        }
        let until = self.world.now() + ARRIVES_WITHIN;
        let mut rejected = 0;
        while self.world.now() < until && rejected < sent {
            self.world.sleep(LOOK).await;
            rejected = self.refused_as_stale().await? - before;
        }
        self.say(format_args!(
            "let {sent} messages with token {old} of {ELECTION} arrive: {rejected} were refused as stale"
        ));
        Ok(Stale { sent, held, without_held: 0, rejected })
    }

    /// What the TaskExecutors have refused as stale since they started.
    async fn refused_as_stale(&self) -> Result<u64, Failure> {
        let mut refused = 0;
        for process in &self.taskexecutors {
            let counters = self.jobs.counters_of(&process.address).await.map_err(crate::job::failure)?;
            refused += counters
                .iter()
                .filter(|counter| counter.name == REFUSED && counter.labels == REFUSED_BY)
                .map(|counter| counter.value)
                .sum::<u64>();
        }
        Ok(refused)
    }

    /// One call with the old token, as any gRPC client would make it. That it is refused is seen in the counters.
    async fn plain_call(&self, address: &str, old: Token) -> Result<(), Failure> {
        let channel = channel(self.world, address).map_err(|error| Failure::failed(error.to_string()))?;
        let mut grpc = tonic::client::Grpc::new(channel);
        grpc.ready().await.map_err(|error| Failure::failed(format!("{address}: {error}")))?;
        let mut request = Request::new(LeaderHeartbeatRequest::default());
        let metadata = request.metadata_mut();
        metadata.insert(palisade_fence::metadata::ELECTION, tonic::metadata::MetadataValue::from_static(ELECTION));
        metadata.insert(palisade_fence::metadata::TOKEN, old.to_string().parse().expect("digits are ASCII"));
        let codec = tonic_prost::ProstCodec::<LeaderHeartbeatRequest, LeaderHeartbeatReply>::default();
        let call = grpc.unary(request, PathAndQuery::from_static(METHOD), codec);
        let answer: Option<Result<_, Status>> = self.world.timeout(ARRIVES_WITHIN, call).await;
        match answer {
            Some(Err(status)) if status.metadata().contains_key(palisade_fence::metadata::FENCE) => Ok(()),
            Some(Err(status)) => {
                Err(Failure::failed(format!("{address}: a stale call was refused for another reason: {status}")))
            }
            Some(Ok(_)) => Err(Failure::failed(format!("{address}: a call with the stale token {old} was accepted"))),
            None => Err(Failure::failed(format!("{address}: a stale call was not answered within {ARRIVES_WITHIN:?}"))),
        }
    }
}
