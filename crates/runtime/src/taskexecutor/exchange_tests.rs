//! The data exchange over a real socket: order, back-pressure, refusals.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use palisade_fence::{ClusterId, Token};
use palisade_world::{Task, World};
use tokio::sync::watch;

use super::counters::Counters;
use super::exchange_client::{ChannelSender, ExchangeClient};
use super::exchange_server::ExchangeServer;
use super::gate::{CREDITS, ChannelItem, GateId, Gates, InputGate};
use crate::dataflow::align::{Aligner, CheckpointId};
use crate::jobmaster::task::AttemptId;
use crate::proto::data_exchange_server::DataExchangeServer;

const PATIENCE: Duration = Duration::from_secs(20);

fn gate_id(token: u32, number: u64) -> GateId {
    GateId { job: "j".parse().unwrap(), attempt: AttemptId { token: Token::new(0, token), number }, count: 0 }
}

struct Receiver {
    gates: Gates,
    counters: Counters,
    address: String,
    _server: Task<()>,
}

async fn receiver(world: &World) -> Receiver {
    let listener = world.bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().to_string();
    let (gates, counters) = (Gates::default(), Counters::default());
    let (_, cluster) = watch::channel(Some(ClusterId(7)));
    let (of, counted) = (gates.clone(), counters.clone());
    let server =
        ExchangeServer { gates: of, election: "e".to_owned(), cluster, counters: counted, world: world.clone() };
    let serve = palisade_world::grpc::server(world).add_service(DataExchangeServer::new(server));
    let serve = serve.serve_with_incoming(palisade_world::grpc::incoming(listener));
    let server = world.spawn("exchange", async move { serve.await.unwrap() });
    Receiver { gates, counters, address, _server: server }
}

fn sender(world: &World, election: &str) -> ExchangeClient {
    ExchangeClient {
        gates: Gates::default(),
        own_address: "127.0.0.1:1".to_owned(),
        election: election.to_owned(),
        cluster: ClusterId(7),
        world: world.clone(),
        connections: Arc::default(),
    }
}

fn records(n: u8) -> ChannelItem {
    ChannelItem::Records(Bytes::copy_from_slice(&[1, n]))
}

async fn take(world: &World, gate: &mut InputGate) -> ChannelItem {
    let (channel, item) = world.timeout(PATIENCE, gate.next(&Aligner::new(1))).await.expect("it arrives");
    assert_eq!(channel, 0);
    item.expect("the channel is whole")
}

async fn open(world: &World, at: &Receiver, id: &GateId) -> ChannelSender {
    sender(world, "e").open(0, id, &at.address).await.unwrap()
}

#[tokio::test]
async fn a_sender_without_credit_waits_and_goes_on_in_order() {
    let world = World::real();
    let at = receiver(&world).await;
    let mut gate = at.gates.add(gate_id(5, 1), 1);
    let mut channel = open(&world, &at, &gate_id(5, 1)).await;
    let sent = Arc::new(std::sync::atomic::AtomicU8::new(0));
    let counter = sent.clone();
    let sending = world.spawn("sender", async move {
        for n in 0..100 {
            channel.send(records(n)).await.unwrap();
            counter.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        }
        channel.send(ChannelItem::Barrier(CheckpointId(9))).await.unwrap();
        channel.send(ChannelItem::End).await.unwrap();
        channel.finish().await.unwrap();
    });
    let sent = || u32::from(sent.load(std::sync::atomic::Ordering::SeqCst));
    world
        .timeout(PATIENCE, async {
            while sent() < CREDITS {
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("the first credits come");
    for n in 0..100 {
        assert!(sent() <= CREDITS + u32::from(n), "more was sent than there were credits for");
        assert_eq!(take(&world, &mut gate).await, records(n));
    }
    assert_eq!(take(&world, &mut gate).await, ChannelItem::Barrier(CheckpointId(9)));
    assert_eq!(take(&world, &mut gate).await, ChannelItem::End);
    world.timeout(PATIENCE, sending).await.expect("the sender ends").unwrap();
}

#[tokio::test]
async fn channels_of_old_attempts_old_leaders_and_other_elections_are_refused_and_counted() {
    let world = World::real();
    let at = receiver(&world).await;
    let _gate = at.gates.add(gate_id(5, 2), 1);
    let refused =
        async |election: &str, id: GateId| sender(&world, election).open(0, &id, &at.address).await.unwrap_err().why;
    assert!(refused("e", gate_id(5, 1)).await.contains("does not run here"));
    assert!(refused("other", gate_id(5, 2)).await.contains("another election"));
    let _channel = open(&world, &at, &gate_id(5, 2)).await;
    assert!(refused("e", gate_id(5, 2)).await.contains("opened before"));
    at.gates.raise(Token::new(0, 6));
    assert!(refused("e", gate_id(5, 2)).await.contains("newer leader"));
    assert_eq!(at.counters.all(), [("data_refused", 4)]);
}

#[tokio::test]
async fn both_ends_notice_when_the_other_is_gone() {
    let world = World::real();
    let at = receiver(&world).await;
    let mut gate = at.gates.add(gate_id(5, 1), 1);
    let channel = open(&world, &at, &gate_id(5, 1)).await;
    drop(channel);
    let (_, item) = world.timeout(PATIENCE, gate.next(&Aligner::new(1))).await.expect("it is noticed");
    assert_eq!(item, None, "a channel that ends without an end is broken");

    let gate = at.gates.add(gate_id(5, 2), 1);
    let mut channel = open(&world, &at, &gate_id(5, 2)).await;
    drop(gate);
    let broken = world.timeout(PATIENCE, async {
        loop {
            if let Err(broken) = channel.send(records(1)).await {
                return broken;
            }
        }
    });
    assert!(broken.await.expect("it is noticed").why.contains("the task has ended"));
}
