//! The life of an endpoint.

use palisade_rpc::{AppError, ConnectError, CreateError, EndpointFailure, Life, RpcError, Stamp};

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
async fn a05_a12_a17_a18_termination_waits_for_on_stop_which_runs_once() {
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
    assert_eq!(probe.log(), ["on_start", "on_stop", "add", "state dropped"]);
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
    assert_eq!(probe.log(), ["state dropped"]);
    assert_eq!(counter.start().await, Err(EndpointFailure::Stopped), "a new incarnation is needed");
}

#[tokio::test]
async fn an_id_is_taken_while_its_endpoint_lives() {
    let (service, probe) = (listening().await, Probe::new(Gate::Open));
    let _counter = unfenced(&service, "counter", &probe).await;
    let refused = service.endpoint("counter", Counter::new(probe)).create().err();
    assert_eq!(refused, Some(CreateError::Exists("counter".to_owned())));
}

#[tokio::test]
async fn a15_a_started_endpoint_is_not_started_again() {
    let (service, probe) = (listening().await, Probe::new(Gate::Open));
    let counter = unfenced(&service, "counter", &probe).await;
    counter.start().await.unwrap();
    assert_eq!(probe.log(), ["on_start"]);
}

#[tokio::test]
async fn a16_a_panic_in_on_start_is_the_cause_of_the_end() {
    struct Bad;
    impl palisade_rpc::RpcEndpoint for Bad {
        fn on_start(&mut self, _cx: &mut palisade_rpc::Context<Self>) -> palisade_rpc::Answer<()> {
            panic!("no database")
        }
    }
    let service = listening().await;
    let bad = service.endpoint("bad", Bad).create().unwrap();
    let why = Err(EndpointFailure::Panicked("no database".to_owned()));
    assert_eq!(bad.start().await, why);
    assert_eq!(bad.terminated().await, why);
}

#[tokio::test]
async fn a_stop_while_on_start_is_pending_is_obeyed_after_it() {
    let (service, probe) = (listening().await, Probe::new(Gate::Open));
    let (start, started) = tokio::sync::oneshot::channel();
    let state = Counter { start: Some(started), ..Counter::new(probe.clone()) };
    let counter = service.endpoint("counter", state).serves(CounterGateway::serve()).create().unwrap();
    let starting = spawn({
        let counter = counter.clone();
        async move { counter.start().await }
    });
    soon("on_start begins", crate::until(|| !probe.log().is_empty())).await;
    // Not started before on_start has ended: refused, not queued.
    let gateway: CounterGateway = counter.gateway(Stamp::Unfenced);
    assert_eq!(gateway.add(amount(1)).await, Err(RpcError::NotStarted));
    counter.stop();
    start.send(()).unwrap();
    soon("the end", counter.terminated()).await.unwrap();
    assert_eq!(probe.log(), ["on_start", "on_stop", "state dropped"]);
    // It may have been seen as started before it was seen as stopped.
    let seen = starting.await.unwrap();
    assert!(matches!(seen, Ok(()) | Err(EndpointFailure::Stopped)), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a14_after_on_stop_the_running_step_ends_and_the_next_message_is_not_handled() {
    nothing_is_taken_after_on_stop().await;
}

/// `on_stop` ends while a step runs, with a call behind it.
pub(crate) async fn nothing_is_taken_after_on_stop() {
    let (service, probe) = (listening().await, Probe::new(Gate::Open));
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let state = Counter { stop: Some(stopped), ..Counter::new(probe.clone()) };
    let counter = service.endpoint("counter", state).serves(CounterGateway::serve()).create().unwrap();
    counter.start().await.unwrap();
    counter.stop();
    soon("on_stop is pending", crate::until(|| counter.life() == Life::Terminating)).await;
    let release = block(&counter).await;
    let gateway: CounterGateway = counter.gateway(Stamp::Unfenced);
    let second = spawn(async move { gateway.add(amount(1)).await });
    soon("it waits behind the first", crate::until(|| counter.waiting().work == 1)).await;
    stop.send(()).unwrap();
    assert_eq!(counter.life(), Life::Terminating, "it waits for the step that runs");
    release.send(()).unwrap();
    let second = soon("the second is answered", second).await.unwrap();
    assert_eq!(second, Err(RpcError::NoSuchEndpoint { endpoint: "counter".to_owned() }));
    counter.terminated().await.unwrap();
    assert!(!probe.log().contains(&"add".to_owned()), "{:?}", probe.log());
}

#[tokio::test]
async fn a19_a_new_endpoint_of_the_same_name_from_what_follows_the_end() {
    let (service, probe) = (listening().await, Probe::new(Gate::Open));
    let counter = unfenced(&service, "counter", &probe).await;
    let next = spawn({
        let (counter, service) = (counter.clone(), service.clone());
        async move {
            counter.terminated().await.unwrap();
            unfenced(&service, "counter", &Probe::new(Gate::Open)).await
        }
    });
    counter.stop();
    let next = soon("the next incarnation", next).await.unwrap();
    assert_eq!(next.life(), Life::Started);
}

#[tokio::test]
async fn a26_a_handler_sees_whether_the_endpoint_is_running() {
    let (service, probe) = (listening().await, Probe::new(Gate::Open));
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let state = Counter { stop: Some(stopped), ..Counter::new(probe) };
    let counter = service.endpoint("counter", state).create().unwrap();
    counter.start().await.unwrap();
    assert!(counter.call_async(crate::SOON, |_, cx| cx.is_running()).await.unwrap());
    counter.stop();
    soon("on_stop is pending", crate::until(|| counter.life() == Life::Terminating)).await;
    assert!(!counter.call_async(crate::SOON, |_, cx| cx.is_running()).await.unwrap());
    stop.send(()).unwrap();
    counter.terminated().await.unwrap();
}

#[tokio::test]
async fn a34_what_the_state_holds_is_gone_when_the_end_is_told() {
    let (service, probe) = (listening().await, Probe::new(Gate::Shut));
    let counter = unfenced(&service, "counter", &probe).await;
    let gateway: CounterGateway = counter.gateway(Stamp::Unfenced);
    let held = spawn(async move { gateway.add_later(amount(1)).await });
    probe.has_run(1).await;
    counter.stop();
    counter.terminated().await.unwrap();
    assert_eq!(probe.log(), ["on_start", "add_later", "on_stop", "add_later dropped", "state dropped"]);
    assert_eq!(held.await.unwrap(), Err(RpcError::EndpointGone));

    // Also when the service is dropped instead of closed.
    let (dropped, probe) = (listening().await, Probe::new(Gate::Open));
    let counter = unfenced(&dropped, "counter", &probe).await;
    drop(dropped);
    let end = soon("the end", counter.terminated()).await;
    assert_eq!(end, Err(EndpointFailure::Dropped));
    assert_eq!(probe.log(), ["on_start", "state dropped"]);
}
