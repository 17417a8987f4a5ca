//! What travels: values arrive as they were, and within the process they are the very same; and a registration that a fence refuses.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use palisade_rpc::{
    Answer, Context, LeaderTarget, RegistrationPolicy, RpcEndpoint, RpcService, RpcServiceConfig, Stamp, register,
};

use crate::counter::{calling, start};
use crate::election::token;
use crate::memory::MemoryNet;
use crate::office::{CLUSTER, ELECTION, Leads, registers, worker};
use crate::proto::*;

/// Notes where what it is given lies in memory.
struct Notes(Arc<Mutex<Vec<(usize, String)>>>);

impl RpcEndpoint for Notes {}

impl OfficeEndpoint for Notes {
    fn register(&mut self, _: &mut Context<Self>, request: RegisterRequest) -> Answer<RegisterReply> {
        self.0.lock().unwrap().push((request.worker.as_ptr() as usize, request.worker));
        Answer::ready(RegisterReply::default())
    }

    fn beat(&mut self, _: &mut Context<Self>, request: BeatRequest) -> Answer<BeatReply> {
        Answer::ready(BeatReply { payload: request.payload })
    }
}

type Noted = Arc<Mutex<Vec<(usize, String)>>>;

/// The endpoint, and a gateway to it from here and from another service.
async fn notes() -> (RpcService, [OfficeGateway; 2], Noted) {
    let service = start(RpcServiceConfig::listen("127.0.0.1:0")).await;
    let noted = Noted::default();
    let notes = service.endpoint("notes", Notes(noted.clone())).serves(OfficeGateway::serve()).create().unwrap();
    notes.start().await.unwrap();
    let remote = calling().await.connect(&notes.address(), Stamp::Unfenced).await.unwrap_or_else(|e| panic!("{e}"));
    (service, [notes.gateway(Stamp::Unfenced), remote], noted)
}

#[tokio::test]
async fn c05_c07_a_value_arrives_equal_and_within_the_process_it_is_the_very_same() {
    let (_service, [local, remote], noted) = notes().await;
    let value = "a value that lies on the heap".repeat(100);
    let place = value.as_ptr() as usize;
    local.register(RegisterRequest { worker: value.clone() }).await.unwrap();
    remote.register(RegisterRequest { worker: value.clone() }).await.unwrap();
    let moved = RegisterRequest { worker: value.clone() };
    let moved_place = moved.worker.as_ptr() as usize;
    local.register(moved).await.unwrap();
    let noted = noted.lock().unwrap();
    assert!(noted.iter().all(|(_, text)| *text == value));
    assert!(noted[0].0 != place && noted[2].0 == moved_place, "a local call moves the message and copies nothing");
}

#[tokio::test(start_paused = true)]
async fn d12_a_registration_under_another_leaderships_token_is_refused_at_the_fence() {
    let net = MemoryNet::default();
    let (_, world) = worker(&net).await;
    let leader = Leads::new(&net, 2, &[]).await;
    let address: palisade_rpc::RpcAddress = format!("{}/office", leader.node()).parse().unwrap();
    for (n, expected) in [(1, "stale"), (3, "behind")] {
        let own = RpcService::start(RpcServiceConfig::local(), world.clone()).await.unwrap();
        let target =
            LeaderTarget { cluster: CLUSTER, election: ELECTION.to_owned(), token: token(n), address: address.clone() };
        let why = Mutex::new(String::new());
        let failed = |_, text| *why.lock().unwrap() = text;
        let policy = RegistrationPolicy::default();
        let registering = register(&own, &target, policy, &world, registers, failed);
        assert!(world.timeout(Duration::from_secs(5), registering).await.is_none(), "it goes on trying");
        let why = why.into_inner().unwrap();
        assert!(why.contains(expected), "{why}");
    }
    assert_eq!(leader.desk.registered(), 0, "no handler was entered");
}
