//! The service of a process: it outlives each of its endpoints and ends all of them in order.

use std::time::Duration;

use palisade_rpc::{
    AppError, ConnectError, CreateError, EndpointFailure, Life, RpcError, RpcService, RpcServiceConfig, Stamp,
};
use palisade_world::World;

use crate::counter::*;
use crate::proto::*;
use crate::{soon, spawn};

#[tokio::test]
async fn a11_b03_b10_closing_the_service_ends_its_endpoints_and_refuses_new_ones() {
    let (service, probe) = (listening().await, Probe::new(Gate::Open));
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let state = Counter { stop: Some(stopped), ..Counter::new(probe.clone()) };
    let slow = service.endpoint("slow", state).create().unwrap();
    slow.start().await.unwrap();
    let quick = unfenced(&service, "quick", &probe).await;
    let closing = spawn({
        let service = service.clone();
        async move { service.close().await }
    });
    quick.terminated().await.unwrap();
    assert!(!closing.is_finished() && slow.life() != Life::Terminated, "it waits for on_stop");
    stop.send(()).unwrap();
    closing.await.unwrap().unwrap();
    assert_eq!(slow.life(), Life::Terminated);
    let refused = service.endpoint("late", Counter::new(probe)).create().err();
    assert_eq!(refused, Some(CreateError::Closed));
    let refused = service.connect::<CounterGateway>(&quick.address(), Stamp::Unfenced).await.unwrap_err();
    assert_eq!(refused, ConnectError::Closed);
    service.close().await.unwrap();
}

#[tokio::test]
async fn b09_a_panic_fails_its_call_and_its_endpoint_but_not_the_sibling() {
    let (service, probe) = (listening().await, Probe::new(Gate::Shut));
    let bad = unfenced(&service, "bad", &probe).await;
    let good = unfenced(&service, "good", &Probe::new(Gate::Open)).await;
    let caller = calling().await;
    let to_bad: CounterGateway = caller.connect(&bad.address(), Stamp::Unfenced).await.unwrap();
    let to_good: CounterGateway = caller.connect(&good.address(), Stamp::Unfenced).await.unwrap();
    let in_flight = spawn({
        let to_bad = to_bad.clone();
        async move { to_bad.add_later(amount(1)).await }
    });
    probe.has_run(1).await;
    let failed = to_bad.panic(ReadRequest {}).await.unwrap_err();
    assert!(matches!(failed, RpcError::EndpointFailed { .. }), "{failed:?}");
    assert!(matches!(in_flight.await.unwrap(), Err(RpcError::EndpointFailed { .. })));
    let end = soon("the end", bad.terminated()).await;
    assert_eq!(end, Err(EndpointFailure::Panicked("planned by a test".to_owned())));
    assert_eq!(to_bad.add(amount(1)).await, Err(RpcError::NoSuchEndpoint { endpoint: "bad".to_owned() }));
    assert_eq!(to_good.add(amount(1)).await.unwrap().sum, 1);
    let close = service.close().await;
    assert_eq!(close, Ok(()), "what had ended before is not the closing's failure");
}

#[tokio::test]
async fn b02_the_address_is_that_of_the_socket_or_the_advertised_one() {
    let service = listening().await;
    assert_eq!(service.node(), service.local_addr().unwrap().to_string());
    let behind = start(RpcServiceConfig::listen("127.0.0.1:0").advertise("shop.example:7000")).await;
    let counter = unfenced(&behind, "counter", &Probe::new(Gate::Open)).await;
    assert_eq!(counter.address().to_string(), "shop.example:7000/counter");
    let local = calling().await;
    assert_eq!((local.node(), local.local_addr()), ("", None));
    let taken = service.local_addr().unwrap().to_string();
    let refused = RpcService::start(RpcServiceConfig::listen(taken.clone()), World::real()).await.err().unwrap();
    assert!(refused.to_string().contains(&taken), "{refused}");
}

#[tokio::test]
async fn b04_an_endpoint_that_fails_to_stop_is_named_and_the_transport_ends_nevertheless() {
    let (service, probe) = (listening().await, Probe::new(Gate::Open));
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let state = Counter { stop: Some(stopped), ..Counter::new(probe.clone()) };
    let bad = service.endpoint("bad", state).create().unwrap();
    bad.start().await.unwrap();
    let good = unfenced(&service, "good", &Probe::new(Gate::Open)).await;
    let gateway: CounterGateway =
        calling().await.connect(&good.address(), Stamp::Unfenced).await.unwrap_or_else(|e| panic!("{e}"));
    drop(stop);
    let failures = service.close().await.unwrap_err().failures;
    let why = EndpointFailure::Stop(RpcError::App(AppError::new(9, "could not stop")));
    assert_eq!(failures, [("bad".to_owned(), why)]);
    assert_eq!(good.terminated().await, Ok(()));
    let gone = soon("nobody listens", gateway.add(amount(1))).await.unwrap_err();
    assert!(matches!(gone, RpcError::Unreachable { .. }), "{gone:?}");
    // B11, B10: what belongs to a closed service can be stopped again, and nothing happens.
    bad.stop();
    assert!(service.close().await.is_err(), "the same end is told to everybody");
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_does_not_end_is_ended_by_force() {
    let service = start(RpcServiceConfig::local().stop_within(Duration::from_secs(60))).await;
    let (_never, stopped) = tokio::sync::oneshot::channel::<()>();
    let probe = Probe::new(Gate::Open);
    let stuck = service.endpoint("stuck", Counter { stop: Some(stopped), ..Counter::new(probe.clone()) });
    let stuck = stuck.create().unwrap();
    stuck.start().await.unwrap();
    let failures = service.close().await.unwrap_err().failures;
    let limit = Duration::from_secs(60);
    assert_eq!(failures, [("stuck".to_owned(), EndpointFailure::Stop(RpcError::TimedOut { limit }))]);
    assert_eq!(stuck.terminated().await, Err(EndpointFailure::Dropped));
    assert_eq!(probe.log(), ["on_start", "on_stop", "state dropped"]);
}

#[tokio::test]
async fn b05_a_stopped_endpoint_is_unreachable_at_once_from_here() {
    let (service, probe) = (listening().await, Probe::new(Gate::Open));
    let counter = unfenced(&service, "counter", &probe).await;
    let gateway: CounterGateway = counter.gateway(Stamp::Unfenced);
    counter.stop();
    counter.terminated().await.unwrap();
    let gone = RpcError::NoSuchEndpoint { endpoint: "counter".to_owned() };
    assert_eq!(gateway.within(Duration::from_secs(3600)).add(amount(1)).await, Err(gone.clone()));
    gateway.note(amount(1)).unwrap();
    assert_eq!(gateway.refusals().take().unwrap().error, gone, "a tell is reported before it returns");
}

#[tokio::test]
async fn b06_services_of_one_version_call_each_other_both_ways() {
    let (one, two) = (listening().await, listening().await);
    let first = unfenced(&one, "counter", &Probe::new(Gate::Open)).await;
    let second = unfenced(&two, "counter", &Probe::new(Gate::Open)).await;
    let there: CounterGateway = one.connect(&second.address(), Stamp::Unfenced).await.unwrap();
    let back: CounterGateway = two.connect(&first.address(), Stamp::Unfenced).await.unwrap();
    let (there, back) = tokio::join!(there.add(amount(1)), back.add(amount(2)));
    assert_eq!((there.unwrap().sum, back.unwrap().sum), (1, 2));
}
