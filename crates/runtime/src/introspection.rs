//! What a process counted, for the demo and for operators. Not fenced: it only looks.

use palisade_rpc::{Answer, Context, RpcEndpoint, RpcService};

use crate::proto;
use crate::taskexecutor::Counters;

/// Id of the endpoint.
pub(crate) const INTROSPECTION: &str = "introspection";

/// Why the endpoint could not be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IntrospectionError {
    #[error(transparent)]
    Create(#[from] palisade_rpc::CreateError),
    #[error(transparent)]
    Start(#[from] palisade_rpc::EndpointFailure),
}

/// The endpoint.
pub(crate) struct Introspection {
    pub(crate) rpc: palisade_rpc::Counters,
    pub(crate) own: Counters,
}

impl RpcEndpoint for Introspection {}

impl proto::IntrospectionEndpoint for Introspection {
    fn counters(&mut self, _: &mut Context<Self>, _: proto::CountersRequest) -> Answer<proto::CountersReply> {
        let rpc = self.rpc.all().into_iter().map(|counted| proto::Counter {
            name: format!("rpc_{}", counted.answer.name()),
            labels: format!("endpoint={},election={}", counted.endpoint, counted.election),
            value: counted.count,
        });
        let own = self.own.all().into_iter().map(|(name, value)| proto::Counter {
            name: name.to_owned(),
            labels: String::new(),
            value,
        });
        Answer::ready(proto::CountersReply { counters: rpc.chain(own).collect() })
    }
}

/// Starts the endpoint of a process.
pub(crate) async fn start(service: &RpcService, state: Introspection) -> Result<(), IntrospectionError> {
    let endpoint = service.endpoint(INTROSPECTION, state).serves(proto::IntrospectionGateway::serve()).create()?;
    endpoint.start().await?;
    Ok(())
}
