//! The least that there is: implement, start, connect, tell and ask. For the longer story see `examples/shop.rs`.

use palisade_fence::{ClusterId, Token};
use palisade_rpc::{Answer, Context, LeaderSeat, RpcEndpoint, RpcService, RpcServiceConfig, Stamp};
use palisade_world::World;

use crate::proto::*;

struct Counter {
    sum: i64,
}

impl RpcEndpoint for Counter {}

impl CounterEndpoint for Counter {
    fn add(&mut self, _cx: &mut Context<Self>, request: AddRequest) -> Answer<AddReply> {
        self.sum += request.amount;
        Answer::ready(AddReply { sum: self.sum })
    }

    fn note(&mut self, _cx: &mut Context<Self>, request: AddRequest) {
        self.sum += request.amount;
    }

    fn read(&mut self, _cx: &mut Context<Self>, _request: ReadRequest) -> Answer<AddReply> {
        Answer::ready(AddReply { sum: self.sum })
    }

    fn add_later(&mut self, cx: &mut Context<Self>, request: AddRequest) -> Answer<AddReply> {
        cx.then(tokio::task::yield_now(), move |counter, _cx, ()| {
            counter.sum += request.amount;
            Answer::ready(AddReply { sum: counter.sum })
        })
    }

    fn blob(&mut self, _cx: &mut Context<Self>, request: BlobRequest) -> Answer<BlobReply> {
        let size = usize::try_from(request.size).unwrap();
        Answer::ready(BlobReply { blob: vec![0; size].into() })
    }

    fn echo(&mut self, _cx: &mut Context<Self>, request: AddRequest) -> Answer<AddRequest> {
        Answer::ready(request)
    }

    fn refuse(&mut self, _cx: &mut Context<Self>, _request: ReadRequest) -> Answer<AddReply> {
        Answer::refuse(palisade_rpc::AppError::new(7, "not today"))
    }

    fn beat(&mut self, _cx: &mut Context<Self>, _request: ReadRequest) -> Answer<AddReply> {
        Answer::ready(AddReply { sum: self.sum })
    }

    fn beat_told(&mut self, _cx: &mut Context<Self>, _request: ReadRequest) {}

    fn relay(&mut self, _cx: &mut Context<Self>, _request: AddRequest) -> Answer<AddReply> {
        Answer::refuse(palisade_rpc::AppError::new(3, "nobody to relay to"))
    }

    fn panic(&mut self, _cx: &mut Context<Self>, _request: ReadRequest) -> Answer<AddReply> {
        panic!("a bug")
    }
}

#[tokio::test]
pub(crate) async fn a_gateway_tells_and_asks_over_a_socket() {
    let (cluster, token) = (ClusterId(1), Token::new(0, 5));
    let here = RpcService::start(RpcServiceConfig::listen("127.0.0.1:0").interface::<CounterGateway>(), World::real())
        .await
        .unwrap();
    let seat = LeaderSeat { cluster, election: "counter".to_owned(), token, source: None };
    let counter =
        here.endpoint("counter", Counter { sum: 0 }).serves(CounterGateway::serve()).leads(seat).create().unwrap();
    counter.start().await.unwrap();

    let there = RpcService::start(RpcServiceConfig::local(), World::real()).await.unwrap();
    let stamp = Stamp::fixed(cluster, "counter", token);
    let gateway: CounterGateway = there.connect(&counter.address(), stamp).await.unwrap();
    gateway.note(AddRequest { amount: 1, ..Default::default() }).unwrap();
    assert_eq!(gateway.add(AddRequest { amount: 2, ..Default::default() }).await.unwrap().sum, 3);
    assert_eq!(gateway.add_later(AddRequest { amount: 4, ..Default::default() }).await.unwrap().sum, 7);

    there.close().await.unwrap();
    here.close().await.unwrap();
}
