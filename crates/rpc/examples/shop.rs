//! A fenced service from nothing: only the present leader sells.

use palisade_fence::{ClusterId, Token};
use palisade_rpc::{Answer, AppError, Context, LeaderSeat, RpcEndpoint, RpcError, RpcService, RpcServiceConfig, Stamp};
use palisade_world::World;

// What `palisade_rpc_build::compile(&["shop.proto"], &["proto"])` in build.rs has written.
#[allow(missing_docs, unreachable_pub, dead_code)]
mod shop {
    include!(concat!(env!("OUT_DIR"), "/example.shop.v1.rs"));
}
use shop::{Nothing, Order, Receipt, ShopEndpoint, ShopGateway};

/// The state. It is touched in synchronous steps only, one at a time.
struct Shop {
    stock: u32,
}

impl RpcEndpoint for Shop {} // `on_start`, `on_stop` and `on_replaced` have defaults

impl ShopEndpoint for Shop {
    fn sell(&mut self, cx: &mut Context<Self>, order: Order) -> Answer<Receipt> {
        // What takes time is a future, which cannot touch the state. The step behind it can: the fence is checked again first.
        let payment = async move { order.pieces };
        cx.then(payment, |shop, _cx, paid| match shop.stock.checked_sub(paid) {
            Some(left) => {
                shop.stock = left;
                Answer::ready(Receipt { left })
            }
            None => Answer::refuse(AppError::new(1, "sold out")),
        })
    }

    fn deliver(&mut self, _cx: &mut Context<Self>, order: Order) {
        self.stock += order.pieces;
    }

    fn alive(&mut self, _cx: &mut Context<Self>, _: Nothing) -> Answer<Nothing> {
        Answer::ready(Nothing {})
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // One service per process. The election (a session's `Leadership`) gives cluster and token; here they are made up.
    let service =
        RpcService::start(RpcServiceConfig::listen("127.0.0.1:0").interface::<ShopGateway>(), World::real()).await?;
    let seat = |counter| LeaderSeat {
        cluster: ClusterId(1),
        election: "shop".to_owned(),
        token: Token::new(0, counter),
        source: None, // the observe stream, so that it learns when it is replaced
    };
    let stamp = |counter| Stamp::fixed(ClusterId(1), "shop", Token::new(0, counter));
    let leader = service.endpoint("shop", Shop { stock: 0 }).serves(ShopGateway::serve()).leads(seat(5)).create()?;
    leader.start().await?;

    // Another process, usually: a gateway carries the token of the leader that it means.
    let elsewhere = RpcService::start(RpcServiceConfig::local(), World::real()).await?;
    let gateway: ShopGateway = elsewhere.connect(&leader.address(), stamp(5)).await?;
    gateway.alive(Nothing {}).await?;
    gateway.deliver(Order { pieces: 10 })?;
    assert_eq!(gateway.sell(Order { pieces: 3 }).await?.left, 7);
    let sold_out = gateway.sell(Order { pieces: 100 }).await;
    assert_eq!(sold_out.err().and_then(|error| error.app().map(|error| error.code)), Some(1));

    // The leadership passes on: a new leadership is a new endpoint, and who still means the old one is refused, by name.
    leader.stop();
    leader.terminated().await?;
    let next = service.endpoint("shop", Shop { stock: 7 }).serves(ShopGateway::serve()).leads(seat(6)).create()?;
    next.start().await?;
    let stale = gateway.sell(Order { pieces: 1 }).await;
    assert!(matches!(stale, Err(RpcError::Stale { current: Some(six), .. }) if six == Token::new(0, 6)));
    let gateway: ShopGateway = elsewhere.connect(&next.address(), stamp(6)).await?;
    assert_eq!(gateway.sell(Order { pieces: 1 }).await?.left, 6);

    elsewhere.close().await?;
    service.close().await?; // first the endpoints, then the transport
    Ok(())
}
