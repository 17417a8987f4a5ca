//! Every method of every fenced gateway at the real endpoints, with no token, a stale, the current and a future one, on streams and
//! as plain gRPC. A method that is added is tested without another line here; that each has a row in the table of
//! fencing is tested in the RPC layer; what a standby answers also with real JobManagers (`real_store`).

use palisade_fence::{ClusterId, Token, metadata};
use palisade_rpc::{MethodKind, RawGateway, RpcError, RpcGateway, RpcService, RpcServiceConfig, Stamp};
use palisade_runtime::proto::{DispatcherGateway, Done, JobMasterGateway, ResourceManagerGateway, TaskExecutorGateway};
use palisade_runtime::{JobId, JobState};

use crate::cluster::{ELECTION, MiniCluster};

/// Calls a method with an empty message; `None`: the fence let it through.
pub(crate) async fn refusal(raw: &RawGateway, method: usize) -> Option<RpcError> {
    let error = match raw.interface().methods[method].kind {
        MethodKind::Ask => raw.ask::<Done, Done>(method, Done {}).await.err(),
        MethodKind::Tell => {
            raw.tell(method, Done {}).unwrap();
            // A refused tell is reported back; an ask behind it on the same stream shows that no report came.
            let _ = raw.ask::<Done, Done>(0, Done {}).await;
            raw.refusals().take().map(|refusal| refusal.error)
        }
    };
    // An empty message is bad input or an unknown job as a rule: then it has passed the fence.
    error.filter(|error| error.is_fenced() || matches!(error, RpcError::NoToken(_)))
}

/// The same as plain gRPC: what the trailers say of the fence, or `no-token`; `None`: the fence let it through.
pub(crate) async fn plain_refusal(
    cluster: &MiniCluster,
    node: &str,
    path: String,
    token: Option<Token>,
) -> Option<String> {
    let mut grpc = tonic::client::Grpc::new(palisade_world::grpc::channel(&cluster.world, node).unwrap());
    grpc.ready().await.unwrap();
    let mut request = tonic::Request::new(Done {});
    if let Some(token) = token {
        let election = metadata::encode_election(ELECTION).parse().unwrap();
        request.metadata_mut().insert(metadata::ELECTION, election);
        request.metadata_mut().insert(metadata::TOKEN, token.to_string().parse().unwrap());
    }
    let codec = tonic_prost::ProstCodec::<Done, Done>::default();
    let status = grpc.unary(request, path.parse().unwrap(), codec).await.err()?;
    let text = |name: &str| status.metadata().get(name).map(|value| value.to_str().unwrap().to_owned());
    match text(metadata::FENCE) {
        Some(why) => Some(format!("{why} {}", text(metadata::CURRENT_TOKEN).unwrap_or_default())),
        None => status.message().contains("without a token").then(|| "no-token".to_owned()),
    }
}

async fn every_method<G: RpcGateway>(cluster: &MiniCluster, address: &str, current: Token) {
    let older = Token::from_wire(current.get() - 1).unwrap();
    let newer = Token::from_wire(current.get() + 1).unwrap();
    let fixed = |token| Stamp::fixed(ClusterId(7), ELECTION, token);
    for (name, stamp) in
        [("none", Stamp::Unfenced), ("stale", fixed(older)), ("current", fixed(current)), ("future", fixed(newer))]
    {
        for (index, method) in G::INTERFACE.methods.iter().enumerate() {
            // A service for each call: a process that has been refused once does not send under a lower token again.
            let service = RpcService::start(RpcServiceConfig::local(), cluster.world.clone()).await.unwrap();
            let gateway: G = service.connect(&address.parse().unwrap(), stamp.clone()).await.unwrap();
            let refused = refusal(gateway.raw(), index).await;
            let what = format!("{}.{} with {name} token: {refused:?}", G::INTERFACE.name, method.name);
            match name {
                "none" => assert!(matches!(refused, Some(RpcError::NoToken(_))), "{what}"),
                "stale" => {
                    assert!(
                        matches!(refused, Some(RpcError::Stale { current: Some(at), .. }) if at == current),
                        "{what}"
                    );
                }
                "current" => assert_eq!(refused, None, "{what}"),
                _ => assert!(matches!(refused, Some(RpcError::Ahead { .. })), "{what}"),
            }

            let (node, _) = address.split_once('/').unwrap();
            let (path, token) = (format!("/{}/{}", G::INTERFACE.name, method.name), gateway.raw().token());
            let expected = match name {
                "none" => Some("no-token".to_owned()),
                "stale" => Some(format!("stale {current}")),
                "current" => None,
                _ => Some(format!("ahead {current}")),
            };
            assert_eq!(plain_refusal(cluster, node, path, token).await, expected, "plain {what}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fenced_method_follows_the_table() {
    let cluster = MiniCluster::new();
    let leader = cluster.lead().await;
    let worker = cluster.task_executor("a", 1).await;
    let client = cluster.client().await;
    let id: JobId = "fenced".parse().unwrap();
    cluster
        .within("the table", async {
            client.submit(&id, &cluster.word_count(&[b"a b c ".repeat(10_000)], 1, 100)).await.unwrap();
            while client.status(&id).await.unwrap().state != JobState::Running {
                tokio::task::yield_now().await;
            }
            let node = leader.service.node();
            every_method::<DispatcherGateway>(&cluster, &format!("{node}/dispatcher"), leader.token).await;
            every_method::<ResourceManagerGateway>(&cluster, &format!("{node}/resourcemanager"), leader.token).await;
            every_method::<JobMasterGateway>(&cluster, &format!("{node}/jobmaster-fenced"), leader.token).await;
            every_method::<TaskExecutorGateway>(&cluster, &format!("{}/taskexecutor", worker.address()), leader.token)
                .await;
            assert_eq!(client.status(&id).await.unwrap().state, JobState::Running, "nobody was disturbed");
            let counters = client.counters_of(worker.address()).await.unwrap();
            let stale: u64 =
                counters.iter().filter(|counter| counter.name == "rpc_stale").map(|counter| counter.value).sum();
            assert_eq!(stale, 2 * TaskExecutorGateway::METHODS.len() as u64, "{counters:?}");
        })
        .await;
}
