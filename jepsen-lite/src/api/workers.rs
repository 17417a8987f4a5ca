//! TaskExecutors from outside: plain gRPC with the token in metadata, as any language may call them.

use std::time::Duration;

use tonic::metadata::MetadataValue;
use tonic::transport::Channel;

use super::runtime::introspection_gateway_client::IntrospectionGatewayClient;
use super::runtime::task_executor_gateway_client::TaskExecutorGatewayClient;
use super::{TIMEOUT, channel, runtime};

/// How a fenced call to a worker ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Called {
    /// It ran.
    Ran,
    /// Refused by the fence, with its word as histories have it: `stale`, `ahead`, `not_leader`.
    Refused(String),
    Unknown(String),
}

/// A TaskExecutor, asked directly.
#[derive(Clone, Debug)]
pub(crate) struct Worker {
    channel: Channel,
}

impl Worker {
    pub(crate) fn at(address: &str) -> anyhow::Result<Worker> {
        Ok(Worker { channel: channel(address)? })
    }

    /// A fenced call that changes nothing: it only passes the guard.
    pub(crate) async fn call(&self, election: &str, token: u64) -> anyhow::Result<Called> {
        let mut request = tonic::Request::new(runtime::LeaderHeartbeatRequest::default());
        request.set_timeout(TIMEOUT);
        request.metadata_mut().insert("palisade-election", MetadataValue::try_from(election)?);
        request.metadata_mut().insert("palisade-token", MetadataValue::try_from(token.to_string())?);
        let mut client = TaskExecutorGatewayClient::new(self.channel.clone());
        let bound = TIMEOUT + Duration::from_millis(500);
        Ok(match tokio::time::timeout(bound, client.leader_heartbeat(request)).await {
            Ok(Ok(_)) => Called::Ran,
            Ok(Err(status)) => match status.metadata().get("palisade-fence").and_then(|word| word.to_str().ok()) {
                Some(word) => Called::Refused(word.replace('-', "_")),
                None => Called::Unknown(status.to_string()),
            },
            Err(_) => Called::Unknown("timeout".to_owned()),
        })
    }

    /// What the worker counted under a name since it started, over all labels that hold `label`.
    pub(crate) async fn counter(&self, name: &str, label: &str) -> anyhow::Result<u64> {
        let mut client = IntrospectionGatewayClient::new(self.channel.clone());
        let mut request = tonic::Request::new(runtime::CountersRequest {});
        request.set_timeout(TIMEOUT);
        let reply = tokio::time::timeout(TIMEOUT, client.counters(request)).await??.into_inner();
        let ours = reply.counters.iter().filter(|counter| counter.name == name && counter.labels.contains(label));
        Ok(ours.map(|counter| counter.value).sum())
    }

    /// Everything that the worker counted, for people.
    pub(crate) async fn counters(&self) -> anyhow::Result<Vec<String>> {
        let mut client = IntrospectionGatewayClient::new(self.channel.clone());
        let mut request = tonic::Request::new(runtime::CountersRequest {});
        request.set_timeout(TIMEOUT);
        let reply = tokio::time::timeout(TIMEOUT, client.counters(request)).await??.into_inner();
        let say = |counter: runtime::Counter| format!("{}{{{}}}={}", counter.name, counter.labels, counter.value);
        Ok(reply.counters.into_iter().map(say).collect())
    }
}
