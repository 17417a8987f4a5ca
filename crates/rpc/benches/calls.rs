//! What a call costs, part by part, on one machine: the token's comparison, a call within a process as it is and with
//! serialization forced, a call over loopback; and the same work by kameo, whose actors know no fence and no wire.
//!
//! `cargo bench -p palisade-rpc --features bench`. Calls between two processes, beside plain tonic and a bare socket:
//! `palisade bench rpc`.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use futures_util::future::join_all;
use kameo::prelude::{Actor, ActorRef, Context as KameoContext, Message, Spawn};
use palisade_fence::{ClusterId, Guard, Token};
use palisade_rpc::{Answer, Context, EndpointHandle, LeaderSeat, RpcEndpoint, RpcService, RpcServiceConfig, Stamp};
use palisade_world::World;
use tokio::runtime::Runtime;

#[allow(missing_docs, unreachable_pub, dead_code)]
mod shop {
    include!(concat!(env!("OUT_DIR"), "/example.shop.v1.rs"));
}
use shop::{Nothing, Order, Receipt, ShopEndpoint, ShopGateway};

/// Calls that are made at once, and tells before the ask that waits for them.
const MANY: usize = 256;

const CLUSTER: ClusterId = ClusterId(1);

fn token() -> Token {
    Token::new(1, 7)
}

/// Adds up.
struct Shop {
    stock: u32,
}

impl RpcEndpoint for Shop {}

impl ShopEndpoint for Shop {
    fn sell(&mut self, _cx: &mut Context<Self>, order: Order) -> Answer<Receipt> {
        self.stock = self.stock.wrapping_sub(order.pieces);
        Answer::ready(Receipt { left: self.stock })
    }

    fn deliver(&mut self, _cx: &mut Context<Self>, order: Order) {
        self.stock = self.stock.wrapping_add(order.pieces);
    }

    fn alive(&mut self, _cx: &mut Context<Self>, _: Nothing) -> Answer<Nothing> {
        Answer::ready(Nothing {})
    }
}

impl Actor for Shop {
    type Args = Shop;
    type Error = std::convert::Infallible;

    async fn on_start(shop: Shop, _: ActorRef<Shop>) -> Result<Shop, Self::Error> {
        Ok(shop)
    }
}

struct Sell(u32);

struct Deliver(u32);

impl Message<Sell> for Shop {
    type Reply = u32;

    async fn handle(&mut self, Sell(pieces): Sell, _: &mut KameoContext<Shop, u32>) -> u32 {
        self.stock = self.stock.wrapping_sub(pieces);
        self.stock
    }
}

impl Message<Deliver> for Shop {
    type Reply = ();

    async fn handle(&mut self, Deliver(pieces): Deliver, _: &mut KameoContext<Shop, ()>) {
        self.stock = self.stock.wrapping_add(pieces);
    }
}

/// A leader's endpoint, and a gateway to it.
struct Ours {
    gateway: ShopGateway,
    _endpoint: EndpointHandle<Shop>,
    _services: Vec<RpcService>,
}

/// In one process; or, as `elsewhere` says, from another service, which has only the address.
async fn ours(config: RpcServiceConfig, elsewhere: Option<RpcServiceConfig>) -> Ours {
    let service = RpcService::start(config, World::real()).await.expect("a service starts");
    let seat = LeaderSeat { cluster: CLUSTER, election: "shop".to_owned(), token: token(), source: None };
    let shop = service.endpoint("shop", Shop { stock: 0 }).serves(ShopGateway::serve()).leads(seat);
    let shop = shop.create().expect("an endpoint is created");
    shop.start().await.expect("it starts");
    let mut services = vec![service];
    if let Some(config) = elsewhere {
        services.push(RpcService::start(config, World::real()).await.expect("a second service starts"));
    }
    let caller = services.last().expect("there is one");
    let stamp = Stamp::fixed(CLUSTER, "shop", token());
    let gateway = caller.connect(&shop.address(), stamp).await.expect("the endpoint is there");
    Ours { gateway, _endpoint: shop, _services: services }
}

fn calls(criterion: &mut Criterion) {
    let guard = Guard::restored(Some(token()));
    criterion.bench_function("token check", |bench| {
        bench.iter_batched(token, |token| black_box(&guard).check(black_box(token)), BatchSize::SmallInput);
    });

    let runtime = Runtime::new().expect("a runtime starts");
    let ways = [
        ("within a process", runtime.block_on(ours(RpcServiceConfig::local(), None))),
        ("serialized", runtime.block_on(ours(RpcServiceConfig::local().serialize_always(), None))),
        (
            "over loopback",
            runtime.block_on(ours(
                RpcServiceConfig::listen("127.0.0.1:0").interface::<ShopGateway>(),
                Some(RpcServiceConfig::local()),
            )),
        ),
    ];
    let kameo = {
        let _entered = runtime.enter();
        Shop::spawn_with_mailbox(Shop { stock: 0 }, kameo::mailbox::bounded(MANY * 2))
    };

    let mut one = criterion.benchmark_group("one ask");
    for (name, way) in &ways {
        one.bench_function(*name, |bench| {
            bench
                .to_async(&runtime)
                .iter(async || way.gateway.sell(Order { pieces: 1 }).await.expect("it is answered"));
        });
    }
    one.bench_function("kameo", |bench| {
        bench.to_async(&runtime).iter(async || kameo.ask(Sell(1)).await.expect("it is answered"));
    });
    one.finish();

    let mut many = criterion.benchmark_group("256 asks at once");
    many.throughput(Throughput::Elements(MANY as u64));
    for (name, way) in &ways {
        many.bench_function(*name, |bench| {
            bench.to_async(&runtime).iter(async || {
                let asks = join_all((0..MANY).map(|_| way.gateway.sell(Order { pieces: 1 }))).await;
                assert!(asks.iter().all(Result::is_ok));
            });
        });
    }
    many.bench_function("kameo", |bench| {
        bench.to_async(&runtime).iter(async || {
            let asks = join_all((0..MANY).map(|_| async { kameo.ask(Sell(1)).await })).await;
            assert!(asks.iter().all(Result::is_ok));
        });
    });
    many.finish();

    let mut tells = criterion.benchmark_group("256 tells and an ask");
    tells.throughput(Throughput::Elements(MANY as u64));
    for (name, way) in &ways {
        tells.bench_function(*name, |bench| {
            bench.to_async(&runtime).iter(async || {
                for _ in 0..MANY {
                    way.gateway.deliver(Order { pieces: 1 }).expect("there is room");
                }
                way.gateway.sell(Order { pieces: 1 }).await.expect("it is answered")
            });
        });
    }
    tells.bench_function("kameo", |bench| {
        bench.to_async(&runtime).iter(async || {
            for _ in 0..MANY {
                kameo.tell(Deliver(1)).await.expect("there is room");
            }
            kameo.ask(Sell(1)).await.expect("it is answered")
        });
    });
    tells.finish();
}

criterion_group!(benches, calls);
criterion_main!(benches);
