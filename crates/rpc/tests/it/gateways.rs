//! Gateways: of the endpoint itself, of several interfaces, with and without serialization, with deadlines that are handed on and
//! errors that stay what they were.

use std::time::Duration;

use palisade_rpc::{
    Answer, AppError, AppFault, ConnectError, Context, Outcome, RawGateway, RpcEndpoint, RpcError, RpcGateway,
    RpcServiceConfig, Stamp,
};

use crate::counter::*;
use crate::election::{Disk, Election, token};
use crate::proto::*;
use crate::{SOON, soon, spawn};

#[tokio::test]
async fn a24_a_self_gateway_reaches_the_endpoint_and_another_interface_is_refused() {
    let (service, election, probe) = (listening().await, Election::granted(5), Probe::new(Gate::Open));
    let open = unfenced(&service, "open", &probe).await;
    let leads = leader(&service, 5, &election, &probe).await;
    for counter in [open, leads] {
        let from_outside: CounterGateway = counter.self_gateway().unwrap();
        assert_eq!(from_outside.add(amount(1)).await.unwrap().sum, 1);
        let other = counter.self_gateway::<OtherGateway>().unwrap_err();
        assert!(matches!(&other, ConnectError::Handshake { why, .. } if why.contains("OtherGateway")), "{other}");
        // From within, the call waits for its turn like any other.
        let (sender, answered) = tokio::sync::oneshot::channel();
        let step = move |_: &mut Counter, cx: &mut Context<Counter>| {
            let own: CounterGateway = cx.self_gateway().unwrap();
            cx.when_own(async move { own.add(amount(2)).await }, |counter, _, answer| {
                sender.send((counter.sum, answer.unwrap().sum)).unwrap();
            });
        };
        counter.run_async(step).unwrap();
        assert_eq!(soon("the answer", answered).await.unwrap(), (3, 3));
    }
}

#[tokio::test]
async fn d07_a_workers_self_gateway_carries_the_token_of_the_step_that_made_it() {
    let (service, election, probe) = (listening().await, Election::granted(5), Probe::new(Gate::Open));
    let guards = guards(&election, Some(&Disk::with(5)));
    let counter = worker(&service, &guards, &probe).await;
    // Its own work has no token: what it sends itself is refused like anybody's.
    let own = |cx: &mut Context<Counter>| cx.self_gateway::<CounterGateway>().unwrap();
    let without = counter.call_async(SOON, move |_, cx| own(cx)).await.unwrap();
    assert!(matches!(without.add(amount(1)).await, Err(RpcError::NoToken(_))));

    let (sender, made) = tokio::sync::oneshot::channel();
    let state = SelfCaller { made: Some(sender) };
    let caller = service.endpoint("self", state).serves(OtherGateway::serve()).guarded_by(guards.clone());
    let caller = caller.create().unwrap();
    caller.start().await.unwrap();
    let gateway: OtherGateway = caller.gateway(stamp(5));
    gateway.nothing(ReadRequest {}).unwrap();
    let of_five = soon("the step", made).await.unwrap();
    assert_eq!(RpcGateway::raw(&of_five).token(), Some(token(5)));
    of_five.nothing(ReadRequest {}).unwrap();
    election.grant(6);
    election.announce();
    soon("the guard rises", guards.raised_to(crate::election::ELECTION, token(6))).await;
    of_five.nothing(ReadRequest {}).unwrap();
    let refusal = soon("its token is stale now", of_five.refusals().next()).await;
    assert!(matches!(refusal.error, RpcError::Stale { current: Some(six), .. } if six == token(6)), "{refusal:?}");
}

/// Hands out the gateway to itself that its first call makes.
struct SelfCaller {
    made: Option<tokio::sync::oneshot::Sender<OtherGateway>>,
}

impl RpcEndpoint for SelfCaller {}

impl OtherEndpoint for SelfCaller {
    fn nothing(&mut self, cx: &mut Context<Self>, _request: ReadRequest) {
        if let Some(made) = self.made.take() {
            assert!(made.send(cx.self_gateway().unwrap()).is_ok());
        }
    }
}

#[tokio::test]
async fn a25_an_endpoint_serves_several_gateways() {
    let (service, probe) = (listening().await, Probe::new(Gate::Open));
    let counter = service.endpoint("counter", Counter::new(probe.clone()));
    let counter = counter.serves(CounterGateway::serve()).serves(OtherGateway::serve()).create().unwrap();
    counter.start().await.unwrap();
    let caller = calling().await;
    let first: CounterGateway = caller.connect(&counter.address(), Stamp::Unfenced).await.unwrap();
    let second: OtherGateway = caller.connect(&counter.address(), Stamp::Unfenced).await.unwrap();
    second.nothing(ReadRequest {}).unwrap();
    // One process, one stream: what was sent first is handled first, whichever gateway it went through.
    first.add(amount(1)).await.unwrap();
    counter.self_gateway::<OtherGateway>().unwrap().nothing(ReadRequest {}).unwrap();
    probe.has_run(3).await;
    assert_eq!(probe.log(), ["on_start", "nothing", "add", "nothing"]);
}

#[tokio::test]
async fn a07_a_failure_that_comes_later_and_from_elsewhere_reaches_the_caller() {
    let (service, probe) = (listening().await, Probe::new(Gate::Open));
    let gone = unfenced(&service, "gone", &probe).await;
    let next: CounterGateway = gone.gateway(Stamp::Unfenced);
    gone.stop();
    gone.terminated().await.unwrap();
    let state = Counter { next: Some(next), ..Counter::new(probe) };
    let relay = service.endpoint("relay", state).serves(CounterGateway::serve()).create().unwrap();
    relay.start().await.unwrap();
    let remote: CounterGateway =
        calling().await.connect(&relay.address(), Stamp::Unfenced).await.unwrap_or_else(|e| panic!("{e}"));
    for gateway in [remote, relay.gateway(Stamp::Unfenced)] {
        let refused = gateway.relay(amount(1)).await.unwrap_err();
        assert_eq!(refused, RpcError::App(AppError::new(4, "unreachable: no endpoint 'gone'")));
    }
}

#[tokio::test]
async fn a_deadline_is_handed_on_and_a_cancelled_call_cancels_what_it_asked_for() {
    let (far, near) = (listening().await, listening().await);
    let (worker, probe) = (Probe::new(Gate::Shut), Probe::new(Gate::Open));
    let last = unfenced(&far, "last", &worker).await;
    let next: CounterGateway = near.connect(&last.address(), Stamp::Unfenced).await.unwrap();
    // Its own patience is an hour: the caller's counts.
    let state = Counter { next: Some(next.within(Duration::from_secs(3600))), ..Counter::new(probe.clone()) };
    let relay = near.endpoint("relay", state).serves(CounterGateway::serve()).create().unwrap();
    relay.start().await.unwrap();
    let gateway: CounterGateway =
        calling().await.connect(&relay.address(), Stamp::Unfenced).await.unwrap_or_else(|e| panic!("{e}"));
    let asked = spawn(async move { gateway.within(Duration::from_secs(1800)).relay(amount(1)).await });
    worker.has_run(1).await;
    assert_eq!(probe.log().last().unwrap(), "relays within 1799 s", "what is left of the caller's half an hour");
    asked.abort();
    let dropped = || worker.log().contains(&"add_later dropped".to_owned());
    soon("two processes further the work is dropped", crate::until(dropped)).await;
}

#[tokio::test]
async fn a08_an_answer_that_cannot_be_read_is_an_error_and_not_a_hang() {
    let (service, probe) = (listening().await, Probe::new(Gate::Open));
    let counter = unfenced(&service, "counter", &probe).await;
    let gateway: CounterGateway =
        calling().await.connect(&counter.address(), Stamp::Unfenced).await.unwrap_or_else(|e| panic!("{e}"));
    let raw: &RawGateway = gateway.raw();
    let blob = CounterGateway::METHODS.iter().position(|method| method.name == "Blob").unwrap();
    // Bytes where a number is expected.
    let answer: Result<AddReply, RpcError> = raw.ask(blob, BlobRequest { size: 3 }).await;
    let unreadable = answer.unwrap_err();
    assert!(matches!(unreadable, RpcError::BadReply { .. }), "{unreadable:?}");
    assert_eq!(unreadable.outcome(), Outcome::Unknown);
    // And a request that cannot be read was surely not handled.
    let add = CounterGateway::METHODS.iter().position(|method| method.name == "Add").unwrap();
    let refused: Result<AddReply, RpcError> = raw.ask(add, BlobReply { blob: vec![1].into() }).await;
    assert!(matches!(refused.unwrap_err(), RpcError::Invalid { .. }));
    assert_eq!(probe.ran(), 1);
}

#[tokio::test]
async fn a21_a22_c05_c07_empty_and_large_values_arrive_as_they_were_in_all_three_ways() {
    let (service, forced) = (listening().await, start(RpcServiceConfig::local().serialize_always()).await);
    let counter = unfenced(&service, "counter", &Probe::new(Gate::Open)).await;
    let serialized = unfenced(&forced, "counter", &Probe::new(Gate::Open)).await;
    let remote: CounterGateway =
        calling().await.connect(&counter.address(), Stamp::Unfenced).await.unwrap_or_else(|e| panic!("{e}"));
    let mut addresses = Vec::new();
    for gateway in [remote, counter.gateway(Stamp::Unfenced), serialized.gateway(Stamp::Unfenced)] {
        assert_eq!(gateway.add(amount(0)).await.unwrap(), AddReply::default());
        let ballast = prost::bytes::Bytes::from(vec![7; 100]);
        let at = ballast.as_ptr() as u64;
        let echoed = gateway.echo(AddRequest { amount: 0, ballast }).await.unwrap().ballast;
        assert_eq!(echoed, vec![7; 100]);
        addresses.push(echoed.as_ptr() as u64 == at);
        for size in [0, 1, 1 << 20] {
            let blob = gateway.blob(BlobRequest { size }).await.unwrap().blob;
            assert_eq!(blob.len() as u64, size);
        }
    }
    assert_eq!(addresses, [false, true, false], "only without serialization it is the caller's own memory");
}

#[tokio::test]
async fn c10_within_the_process_there_is_a_limit_only_if_messages_are_serialized_always() {
    let limited = RpcServiceConfig::local().max_message(1000);
    for (config, is_limited) in [(limited.clone(), false), (limited.serialize_always(), true)] {
        let service = start(config).await;
        let counter = unfenced(&service, "counter", &Probe::new(Gate::Open)).await;
        let gateway: CounterGateway = counter.gateway(Stamp::Unfenced);
        let large = || AddRequest { amount: 1, ballast: vec![0; 2000].into() };
        let (asked, told) = (gateway.add(large()).await, gateway.note(large()));
        let answer = gateway.blob(BlobRequest { size: 2000 }).await;
        assert_eq!(matches!(asked, Err(RpcError::TooLarge { size: 2005, limit: 1000 })), is_limited, "{asked:?}");
        assert_eq!(matches!(told, Err(RpcError::TooLarge { size: 2005, limit: 1000 })), is_limited, "{told:?}");
        assert_eq!(matches!(answer, Err(RpcError::ReplyTooLarge { limit: 1000, .. })), is_limited, "{answer:?}");
    }
}

/// An error type of an application's own.
#[derive(Debug, PartialEq, Eq)]
enum SoldOut {
    Until(i64),
    Forever,
}

impl AppFault for SoldOut {
    fn to_app(&self) -> AppError {
        match self {
            SoldOut::Until(day) => AppError::with_details(70, "sold out for now", &AddReply { sum: *day }),
            SoldOut::Forever => AppError::new(71, "sold out"),
        }
    }

    fn from_app(error: &AppError) -> Option<SoldOut> {
        match error.code {
            70 => Some(SoldOut::Until(error.details_as::<AddReply>()?.sum)),
            71 => Some(SoldOut::Forever),
            _ => None,
        }
    }
}

struct Shop;

impl RpcEndpoint for Shop {}

impl CounterEndpoint for Shop {
    fn add(&mut self, _cx: &mut Context<Self>, request: AddRequest) -> Answer<AddReply> {
        match request.amount {
            0 => Answer::fault(SoldOut::Forever),
            day => Answer::refuse(SoldOut::Until(day).into()),
        }
    }
    fn note(&mut self, _cx: &mut Context<Self>, _request: AddRequest) {}
    fn read(&mut self, _cx: &mut Context<Self>, _request: ReadRequest) -> Answer<AddReply> {
        Answer::refuse(AppError::new(1, "closed"))
    }
    fn add_later(&mut self, cx: &mut Context<Self>, request: AddRequest) -> Answer<AddReply> {
        cx.then(tokio::task::yield_now(), move |shop, cx, ()| shop.add(cx, request))
    }
    fn blob(&mut self, _cx: &mut Context<Self>, _request: BlobRequest) -> Answer<BlobReply> {
        Answer::ready(BlobReply::default())
    }
    fn refuse(&mut self, _cx: &mut Context<Self>, _request: ReadRequest) -> Answer<AddReply> {
        Answer::ready(AddReply::default())
    }
    fn echo(&mut self, _cx: &mut Context<Self>, request: AddRequest) -> Answer<AddRequest> {
        Answer::ready(request)
    }
    fn beat(&mut self, _cx: &mut Context<Self>, _request: ReadRequest) -> Answer<AddReply> {
        Answer::ready(AddReply::default())
    }
    fn beat_told(&mut self, _cx: &mut Context<Self>, _request: ReadRequest) {}
    fn relay(&mut self, _cx: &mut Context<Self>, _request: AddRequest) -> Answer<AddReply> {
        Answer::ready(AddReply::default())
    }
    fn panic(&mut self, _cx: &mut Context<Self>, _request: ReadRequest) -> Answer<AddReply> {
        Answer::ready(AddReply::default())
    }
}

#[tokio::test]
async fn an_error_type_of_the_users_own_arrives_as_what_it_was() {
    let service = listening().await;
    let shop = service.endpoint("shop", Shop).serves(CounterGateway::serve()).create().unwrap();
    shop.start().await.unwrap();
    let remote: CounterGateway =
        calling().await.connect(&shop.address(), Stamp::Unfenced).await.unwrap_or_else(|e| panic!("{e}"));
    for gateway in [remote, shop.gateway(Stamp::Unfenced)] {
        let at_once = gateway.add(amount(0)).await.unwrap_err();
        assert_eq!((at_once.fault(), at_once.outcome()), (Some(SoldOut::Forever), Outcome::Handled));
        assert_eq!(gateway.add_later(amount(3)).await.unwrap_err().fault(), Some(SoldOut::Until(3)));
        // Another error of the application, and one of the layer, are none of it.
        assert_eq!(gateway.read(ReadRequest {}).await.unwrap_err().fault::<SoldOut>(), None);
        assert_eq!(RpcError::Expired.fault::<SoldOut>(), None);
    }
}
