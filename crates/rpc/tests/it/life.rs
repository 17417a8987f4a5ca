//! The life of an endpoint and of its service.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use palisade_rpc::{AppError, ConnectError, CreateError, EndpointFailure, Life, RpcError, RpcServiceConfig, Stamp};

use crate::counter::*;
use crate::proto::*;
use crate::{soon, spawn};

#[tokio::test]
async fn a01_a04_a_call_before_the_start_is_refused_and_not_replayed() {
    let (service, probe) = (listening().await, Probe::new(Gate::Open));
    let counter =
        service.endpoint("counter", Counter::new(probe.clone())).serves(CounterGateway::serve()).create().unwrap();
    let caller = calling().await;
    let gateway: CounterGateway = caller.connect(&counter.address(), Stamp::Unfenced).await.unwrap();
    assert_eq!(palisade_rpc::RpcGateway::raw(&gateway).address(), &counter.address());
    assert_eq!(gateway.add(amount(1)).await, Err(RpcError::NotStarted));
    gateway.note(amount(1)).unwrap();
    assert_eq!(soon("the refused tell", gateway.refusals().next()).await.error, RpcError::NotStarted);
    counter.start().await.unwrap();
    assert_eq!(gateway.add(amount(2)).await.unwrap().sum, 2);
}

#[tokio::test]
async fn a02_a03_b08_connecting_to_what_is_not_there_fails_by_name() {
    let (service, probe) = (listening().await, Probe::new(Gate::Open));
    let counter = unfenced(&service, "counter", &probe).await;
    let caller = calling().await;
    let foobar = format!("{}/foobar", service.node()).parse().unwrap();
    let refused = caller.connect::<CounterGateway>(&foobar, Stamp::Unfenced).await.unwrap_err();
    assert!(matches!(&refused, ConnectError::NoSuchEndpoint { address } if address.ends_with("/foobar")), "{refused}");
    let refused = caller.connect::<OtherGateway>(&counter.address(), Stamp::Unfenced).await.unwrap_err();
    assert!(matches!(&refused, ConnectError::Handshake { why, .. } if why.contains("OtherGateway")), "{refused}");
    let nowhere = "no-such-host.invalid:1/counter".parse().unwrap();
    let refused = caller.connect::<CounterGateway>(&nowhere, Stamp::Unfenced).await.unwrap_err();
    assert!(refused.to_string().contains("no-such-host.invalid"), "{refused}");
}

#[tokio::test]
async fn a06_c01_an_application_says_no_in_its_own_words_here_and_remotely() {
    let (service, probe) = (listening().await, Probe::new(Gate::Open));
    let counter = unfenced(&service, "counter", &probe).await;
    let remote: CounterGateway =
        calling().await.connect(&counter.address(), Stamp::Unfenced).await.unwrap_or_else(|e| panic!("{e}"));
    let local: CounterGateway = counter.gateway(Stamp::Unfenced);
    let no = AppError { code: 7, message: "not today".to_owned(), details: vec![1, 2, 3].into() };
    for gateway in [remote, local] {
        assert_eq!(gateway.refuse(ReadRequest {}).await, Err(RpcError::App(no.clone())));
    }
}

#[tokio::test]
async fn a05_a12_a17_termination_waits_for_on_stop_which_runs_once() {
    let (service, probe) = (listening().await, Probe::new(Gate::Open));
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let state = Counter { stop: Some(stopped), ..Counter::new(probe.clone()) };
    let counter = service.endpoint("counter", state).serves(CounterGateway::serve()).create().unwrap();
    counter.start().await.unwrap();
    let gateway: CounterGateway = counter.gateway(Stamp::Unfenced);
    counter.stop();
    counter.stop();
    // A26: while on_stop is pending an endpoint without a fence goes on being served.
    while counter.life() == Life::Started {
        tokio::task::yield_now().await;
    }
    assert_eq!(gateway.add(amount(1)).await.unwrap().sum, 1);
    assert_eq!(counter.life(), Life::Terminating);
    stop.send(()).unwrap();
    soon("the end", counter.terminated()).await.unwrap();
    assert_eq!(probe.log(), ["on_start", "on_stop", "add"]);
    assert_eq!(gateway.add(amount(1)).await, Err(RpcError::NoSuchEndpoint { endpoint: "counter".to_owned() }));
    // A18: the id is free again.
    let again = unfenced(&service, "counter", &probe).await;
    assert_eq!(again.address(), counter.address());
}

#[tokio::test]
async fn a09_a_failing_on_stop_is_the_end_that_is_told() {
    let (service, probe) = (listening().await, Probe::new(Gate::Open));
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let state = Counter { stop: Some(stopped), ..Counter::new(probe.clone()) };
    let counter = service.endpoint("counter", state).create().unwrap();
    counter.start().await.unwrap();
    counter.stop();
    drop(stop);
    let end = soon("the end", counter.terminated()).await;
    let why = RpcError::App(AppError::new(9, "could not stop"));
    assert_eq!(end, Err(EndpointFailure::Stop(why)));
}

#[tokio::test]
async fn a16_a_refusing_on_start_ends_the_endpoint() {
    let (service, probe) = (listening().await, Probe::new(Gate::Open));
    let error = AppError::new(1, "no database");
    let state = Counter { start_error: Some(error.clone()), ..Counter::new(probe) };
    let counter = service.endpoint("counter", state).create().unwrap();
    assert_eq!(counter.start().await, Err(EndpointFailure::Start(RpcError::App(error))));
    assert_eq!(counter.life(), Life::Terminated);
}

#[tokio::test]
async fn a_never_started_endpoint_ends_without_on_stop() {
    let (service, probe) = (listening().await, Probe::new(Gate::Open));
    let counter = service.endpoint("counter", Counter::new(probe.clone())).create().unwrap();
    counter.stop();
    counter.terminated().await.unwrap();
    assert!(probe.log().is_empty());
}

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
async fn an_id_is_taken_while_its_endpoint_lives() {
    let (service, probe) = (listening().await, Probe::new(Gate::Open));
    let _counter = unfenced(&service, "counter", &probe).await;
    let refused = service.endpoint("counter", Counter::new(probe)).create().err();
    assert_eq!(refused, Some(CreateError::Exists("counter".to_owned())));
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

#[tokio::test(start_paused = true)]
#[allow(clippy::disallowed_methods)] // tokio's own clock is the one that is paused
async fn a23_a33_timers_run_after_their_delay_unless_cancelled() {
    let service = start(RpcServiceConfig::local()).await;
    let probe = Probe::new(Gate::Open);
    let counter = unfenced(&service, "counter", &probe).await;
    let times = Arc::new(Mutex::new(Vec::new()));
    let begun = tokio::time::Instant::now();
    let (noted, ticks) = (times.clone(), times.clone());
    counter
        .run_async(move |_, cx| {
            cx.schedule(Duration::from_secs(2), move |_, _| noted.lock().unwrap().push(("once", begun.elapsed())));
            cx.schedule(Duration::from_secs(1), |_, _| panic!("cancelled")).cancel();
            let mut left = 3;
            let timer = Arc::new(Mutex::new(None::<palisade_rpc::Timer>));
            let own = timer.clone();
            *timer.lock().unwrap() = Some(cx.every_own(Duration::from_millis(900), move |_, _| {
                ticks.lock().unwrap().push(("tick", begun.elapsed()));
                left -= 1;
                if left == 0 {
                    own.lock().unwrap().as_ref().unwrap().cancel();
                }
            }));
        })
        .unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    let seen: Vec<(&str, u64)> =
        times.lock().unwrap().iter().map(|(what, at)| (*what, at.as_millis() as u64 / 100)).collect();
    assert_eq!(seen, [("tick", 9), ("tick", 18), ("once", 20), ("tick", 27)]);
}

#[tokio::test]
async fn a29_steps_never_overlap() {
    let (service, probe) = (listening().await, Probe::new(Gate::Open));
    let counter = unfenced(&service, "counter", &probe).await;
    let gateway: CounterGateway = counter.gateway(Stamp::Unfenced);
    let inside = Arc::new(std::sync::atomic::AtomicBool::new(false));
    for _ in 0..1000 {
        let inside = inside.clone();
        let step = move |_: &mut Counter, _: &mut palisade_rpc::Context<Counter>| {
            assert!(!inside.swap(true, std::sync::atomic::Ordering::SeqCst));
            std::hint::black_box(());
            inside.store(false, std::sync::atomic::Ordering::SeqCst);
        };
        while counter.run_async(step.clone()).is_err() {
            tokio::task::yield_now().await;
        }
        gateway.add(amount(1)).await.unwrap();
    }
    assert_eq!(sum(&counter).await, 1000);
}
