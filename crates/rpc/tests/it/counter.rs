//! The endpoint of these tests: a number that is added to, and a probe that sees what happens inside.

use std::sync::{Arc, Mutex};

use palisade_fence::LeaderView;
use palisade_rpc::{
    Answer, AppError, Context, EndpointHandle, GuardSpec, Guards, LeaderSeat, RpcEndpoint, RpcService,
    RpcServiceConfig, Stamp,
};
use palisade_world::World;
use tokio::sync::watch;

use crate::election::{CLUSTER, Disk, ELECTION, Election, token};
use crate::proto::*;
use crate::soon;

/// What happens inside the endpoint, seen from outside.
pub(crate) struct Probe {
    /// Handlers that were entered.
    pub(crate) ran: watch::Sender<u64>,
    /// `AddLater` waits until it is open.
    pub(crate) gate: watch::Sender<Gate>,
    /// In the order of things.
    pub(crate) log: Mutex<Vec<String>>,
}

/// Whether `AddLater` goes on.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Gate {
    Open,
    Shut,
}

impl Probe {
    pub(crate) fn new(gate: Gate) -> Arc<Probe> {
        Arc::new(Probe { ran: watch::Sender::new(0), gate: watch::Sender::new(gate), log: Mutex::new(Vec::new()) })
    }

    pub(crate) fn note(&self, what: &str) {
        self.log.lock().unwrap().push(what.to_owned());
    }

    pub(crate) fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    pub(crate) fn ran(&self) -> u64 {
        *self.ran.borrow()
    }

    /// A handler is entered.
    pub(crate) fn enter(&self, method: &str) {
        self.note(method);
        self.ran.send_modify(|ran| *ran += 1);
    }

    pub(crate) async fn has_run(&self, times: u64) {
        let mut ran = self.ran.subscribe();
        soon("the handler runs", ran.wait_for(|ran| *ran >= times)).await.unwrap();
    }
}

/// Notes when it is dropped.
struct Dropped(Arc<Probe>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.note("add_later dropped");
    }
}

pub(crate) struct Counter {
    pub(crate) sum: i64,
    /// What `Add` added, in order.
    pub(crate) amounts: Vec<i64>,
    pub(crate) probe: Arc<Probe>,
    /// Awaited by `on_stop`.
    pub(crate) stop: Option<tokio::sync::oneshot::Receiver<()>>,
    /// Awaited by `on_start`.
    pub(crate) start: Option<tokio::sync::oneshot::Receiver<()>>,
    /// Refused by `on_start`.
    pub(crate) start_error: Option<AppError>,
    /// Asked by `Relay`.
    pub(crate) next: Option<CounterGateway>,
    pub(crate) _dropped: StateDropped,
}

impl Counter {
    pub(crate) fn new(probe: Arc<Probe>) -> Counter {
        let _dropped = StateDropped(probe.clone());
        Counter { sum: 0, amounts: Vec::new(), probe, stop: None, start: None, start_error: None, next: None, _dropped }
    }

    fn enter(&self, method: &str) {
        self.probe.enter(method);
    }
}

impl OtherEndpoint for Counter {
    fn nothing(&mut self, _cx: &mut Context<Self>, _request: ReadRequest) {
        self.enter("nothing");
    }
}

/// Notes the end of the state.
pub(crate) struct StateDropped(Arc<Probe>);

impl Drop for StateDropped {
    fn drop(&mut self) {
        self.0.note("state dropped");
    }
}

impl RpcEndpoint for Counter {
    fn on_start(&mut self, cx: &mut Context<Self>) -> Answer<()> {
        self.probe.note("on_start");
        if let Some(start) = self.start.take() {
            return cx.then(start, |_, _, _| Answer::ready(()));
        }
        match self.start_error.take() {
            Some(error) => Answer::refuse(error),
            None => Answer::ready(()),
        }
    }

    fn on_stop(&mut self, cx: &mut Context<Self>) -> Answer<()> {
        self.probe.note("on_stop");
        match self.stop.take() {
            Some(stop) => cx.then(stop, |_, _, stopped| match stopped {
                Ok(()) => Answer::ready(()),
                Err(_) => Answer::refuse(AppError::new(9, "could not stop")),
            }),
            None => Answer::ready(()),
        }
    }

    fn on_replaced(&mut self, _cx: &mut Context<Self>, by: &LeaderView) {
        self.probe.note(&format!("replaced by {}", by.token.unwrap()));
    }
}

impl CounterEndpoint for Counter {
    fn add(&mut self, _cx: &mut Context<Self>, request: AddRequest) -> Answer<AddReply> {
        self.enter("add");
        self.sum += request.amount;
        self.amounts.push(request.amount);
        Answer::ready(AddReply { sum: self.sum })
    }

    fn note(&mut self, _cx: &mut Context<Self>, request: AddRequest) {
        self.enter("note");
        self.sum += request.amount;
    }

    fn read(&mut self, _cx: &mut Context<Self>, _request: ReadRequest) -> Answer<AddReply> {
        self.enter("read");
        Answer::ready(AddReply { sum: self.sum })
    }

    fn add_later(&mut self, cx: &mut Context<Self>, request: AddRequest) -> Answer<AddReply> {
        self.enter("add_later");
        let mut leftover = self.probe.gate.subscribe();
        let opened = async move { leftover.wait_for(|gate| *gate == Gate::Open).await.map(|_| ()).unwrap() };
        cx.when(opened, |counter, _cx, ()| counter.probe.note("leftover of add_later"));
        let dropped = Dropped(self.probe.clone());
        let mut gate = self.probe.gate.subscribe();
        let opened = async move {
            let _dropped = dropped;
            gate.wait_for(|gate| *gate == Gate::Open).await.map(|_| ()).unwrap();
        };
        cx.then(opened, move |counter, _cx, ()| {
            counter.probe.note("add_later resumed");
            counter.sum += request.amount;
            Answer::ready(AddReply { sum: counter.sum })
        })
    }

    fn blob(&mut self, _cx: &mut Context<Self>, request: BlobRequest) -> Answer<BlobReply> {
        self.enter("blob");
        Answer::ready(BlobReply { blob: vec![0; usize::try_from(request.size).unwrap()].into() })
    }

    fn echo(&mut self, _cx: &mut Context<Self>, request: AddRequest) -> Answer<AddRequest> {
        self.enter("echo");
        Answer::ready(request)
    }

    fn refuse(&mut self, _cx: &mut Context<Self>, _request: ReadRequest) -> Answer<AddReply> {
        self.enter("refuse");
        Answer::refuse(AppError { code: 7, message: "not today".to_owned(), details: vec![1, 2, 3].into() })
    }

    fn beat(&mut self, _cx: &mut Context<Self>, _request: ReadRequest) -> Answer<AddReply> {
        self.enter("beat");
        Answer::ready(AddReply { sum: self.sum })
    }

    fn beat_told(&mut self, _cx: &mut Context<Self>, _request: ReadRequest) {
        self.enter("beat_told");
    }

    fn relay(&mut self, cx: &mut Context<Self>, request: AddRequest) -> Answer<AddReply> {
        self.enter("relay");
        let Some(next) = self.next.as_ref().map(|next| next.within_call(cx)) else {
            return Answer::refuse(AppError::new(3, "nobody to relay to"));
        };
        let patience = palisade_rpc::RpcGateway::raw(&next).limit();
        self.probe.note(&format!("relays within {} s", patience.as_secs()));
        cx.then(async move { next.add_later(request).await }, |_, _, relayed| {
            Answer::from(relayed.map_err(|error| AppError::new(4, error.to_string())))
        })
    }

    fn panic(&mut self, _cx: &mut Context<Self>, _request: ReadRequest) -> Answer<AddReply> {
        self.enter("panic");
        panic!("planned by a test")
    }
}

/// Blocks an endpoint with one step, until something is sent or the sender is dropped.
pub(crate) async fn block(counter: &EndpointHandle<Counter>) -> std::sync::mpsc::Sender<()> {
    let (entered, begun) = tokio::sync::oneshot::channel();
    let (release, released) = std::sync::mpsc::channel();
    let step = move |_: &mut Counter, _: &mut Context<Counter>| {
        entered.send(()).unwrap();
        let _ = released.recv();
    };
    counter.run_async(step).unwrap();
    soon("the step that blocks the mailbox", begun).await.unwrap();
    release
}

/// So much more.
pub(crate) fn amount(amount: i64) -> AddRequest {
    AddRequest { amount, ..AddRequest::default() }
}

/// A service that listens on a free port.
pub(crate) async fn listening() -> RpcService {
    start(RpcServiceConfig::listen("127.0.0.1:0")).await
}

/// A service that only calls.
pub(crate) async fn calling() -> RpcService {
    start(RpcServiceConfig::local()).await
}

pub(crate) async fn start(config: RpcServiceConfig) -> RpcService {
    RpcService::start(config.interface::<CounterGateway>(), World::real()).await.unwrap()
}

/// A leader's seat under the n-th token.
pub(crate) fn seat(n: u32, election: &Arc<Election>) -> LeaderSeat {
    LeaderSeat { cluster: CLUSTER, election: ELECTION.to_owned(), token: token(n), source: Some(election.clone()) }
}

/// A worker's guards.
pub(crate) fn guards(election: &Arc<Election>, disk: Option<&Arc<Disk>>) -> Guards {
    let durable = disk.cloned().map(|disk| -> Arc<dyn palisade_rpc::DurableGuard> { disk });
    let spec = GuardSpec { source: election.clone(), cluster: Some(CLUSTER), durable };
    Guards::new(vec![spec], &World::real()).unwrap()
}

/// A message of the leader with the n-th token, or to it.
pub(crate) fn stamp(n: u32) -> Stamp {
    Stamp::fixed(CLUSTER, ELECTION, token(n))
}

/// A started counter without a fence.
pub(crate) async fn unfenced(service: &RpcService, id: &str, probe: &Arc<Probe>) -> EndpointHandle<Counter> {
    let counter = service.endpoint(id, Counter::new(probe.clone())).serves(CounterGateway::serve()).create().unwrap();
    counter.start().await.unwrap();
    counter
}

/// A started counter that leads.
pub(crate) async fn leader(
    service: &RpcService,
    n: u32,
    election: &Arc<Election>,
    probe: &Arc<Probe>,
) -> EndpointHandle<Counter> {
    let counter = service.endpoint("counter", Counter::new(probe.clone())).serves(CounterGateway::serve());
    let counter = counter.leads(seat(n, election)).create().unwrap();
    counter.start().await.unwrap();
    counter
}

/// A started counter that obeys.
pub(crate) async fn worker(service: &RpcService, guards: &Guards, probe: &Arc<Probe>) -> EndpointHandle<Counter> {
    let counter = service.endpoint("counter", Counter::new(probe.clone())).serves(CounterGateway::serve());
    let counter = counter.guarded_by(guards.clone()).create().unwrap();
    counter.start().await.unwrap();
    counter
}

/// The sum as it is inside.
pub(crate) async fn sum(counter: &EndpointHandle<Counter>) -> i64 {
    counter.call_async(crate::SOON, |counter, _| counter.sum).await.unwrap()
}
