//! A tiny client of the store's public API: one attempt per operation, no retries, and an honest outcome.

use std::time::Duration;

use prost::Message;
use tonic::transport::{Channel, Endpoint};

/// Generated from the public .proto files.
#[allow(missing_docs, clippy::large_enum_variant, clippy::doc_markdown, unreachable_pub)]
pub(crate) mod v1 {
    tonic::include_proto!("palisade.coord.v1");
}

use v1::election_service_client::ElectionServiceClient;
use v1::kv_service_client::KvServiceClient;

/// One attempt's bound.
const TIMEOUT: Duration = Duration::from_secs(2);

/// How an operation ended.
#[derive(Debug)]
pub(crate) enum Outcome<T> {
    Ok(T),
    /// Surely no effect; the kind tells why.
    Fail(v1::error_detail::Kind),
    /// Nobody knows.
    Info(String),
}

/// Channels to all nodes; asks one at a time and moves on when it is not the store leader.
#[derive(Clone)]
pub(crate) struct Api {
    nodes: Vec<Channel>,
    current: usize,
}

impl Api {
    pub(crate) fn new(addresses: &[String]) -> anyhow::Result<Api> {
        let channel = |address: &String| -> anyhow::Result<Channel> {
            Ok(Endpoint::from_shared(format!("http://{address}"))?
                .connect_timeout(Duration::from_millis(300))
                .timeout(TIMEOUT)
                .connect_lazy())
        };
        Ok(Api { nodes: addresses.iter().map(channel).collect::<anyhow::Result<_>>()?, current: 0 })
    }

    fn kv(&self) -> KvServiceClient<Channel> {
        KvServiceClient::new(self.nodes[self.current].clone())
    }

    /// A fenced put; gives the header of the reply.
    pub(crate) async fn put(&mut self, key: &str, value: &str, fence: Option<(&str, u64)>) -> Outcome<v1::Header> {
        let request = v1::PutRequest {
            key: key.as_bytes().to_vec(),
            value: value.as_bytes().to_vec(),
            fence: fence.map(|(election, token)| v1::Fence { election: election.to_owned(), token }),
            ..v1::PutRequest::default()
        };
        let answer = self.kv().put(request).await;
        self.outcome(answer.map(|reply| reply.into_inner().header.unwrap_or_default()))
    }

    /// A linearizable read; an absent key reads as the empty text.
    pub(crate) async fn get(&mut self, key: &str) -> Outcome<(v1::Header, String)> {
        let answer = self.kv().get(v1::GetRequest { key: key.as_bytes().to_vec(), ..v1::GetRequest::default() }).await;
        self.outcome(answer.map(|reply| {
            let reply = reply.into_inner();
            let value = reply.kv.map(|kv| String::from_utf8_lossy(&kv.value).into_owned()).unwrap_or_default();
            (reply.header.unwrap_or_default(), value)
        }))
    }

    /// The observe stream of an election, from the node that is asked now.
    pub(crate) async fn observe(&mut self, election: &str) -> Outcome<tonic::Streaming<v1::ObserveReply>> {
        let channel = self.nodes[self.current].clone();
        // A stream has no end of its own, so it gets a channel without a deadline.
        let request = v1::ObserveRequest { election: election.to_owned(), from: None };
        let mut request = tonic::Request::new(request);
        request.set_timeout(Duration::from_secs(24 * 3600));
        let answer = ElectionServiceClient::new(channel).observe(request).await;
        self.outcome(answer.map(tonic::Response::into_inner))
    }

    /// Only the typed detail can say "surely no effect"; a status without it is unknown, except a connection never made.
    fn outcome<T>(&mut self, answer: Result<T, tonic::Status>) -> Outcome<T> {
        match answer {
            Ok(value) => Outcome::Ok(value),
            Err(status) => {
                let detail = detail(&status);
                self.current = (self.current + 1) % self.nodes.len();
                match detail {
                    Some(detail) if detail.outcome() == v1::error_detail::Outcome::NotApplied => {
                        Outcome::Fail(detail.kind())
                    }
                    Some(detail) => Outcome::Info(format!("{:?}", detail.kind())),
                    None => Outcome::Info(status.to_string()),
                }
            }
        }
    }
}

/// google.rpc.Status, as far as we read it.
#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

fn detail(status: &tonic::Status) -> Option<v1::ErrorDetail> {
    let details = RpcStatus::decode(status.details()).ok()?.details;
    let ours = details.iter().find(|any| any.type_url.ends_with("/palisade.coord.v1.ErrorDetail"))?;
    v1::ErrorDetail::decode(ours.value.as_slice()).ok()
}
