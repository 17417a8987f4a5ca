//! What is measured between the two processes: the same message by a raw socket, by plain tonic and through a fenced gateway.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use palisade_rpc::{RpcAddress, RpcError, RpcService};
use palisade_world::{Socket, World, grpc};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::transport::Channel;

use super::proto::raw_echo_client::RawEchoClient;
use super::proto::{EchoGateway, Load as Message};
use super::stamp;
use crate::cli::RpcLoadArgs;
use crate::exit::Failure;

/// The ways to the other process; they stay connected between rounds.
#[derive(Clone)]
pub(super) struct Ways {
    pub(super) gateway: EchoGateway,
    pub(super) address: RpcAddress,
    tonic: Channel,
    tcp: Arc<tokio::sync::Mutex<Socket>>,
    message: Message,
    in_flight: u32,
}

impl Ways {
    /// `addresses`: of the endpoint, of plain tonic, of the TCP echo.
    pub(super) async fn connect(
        addresses: &str,
        service: &RpcService,
        args: &RpcLoadArgs,
        world: &World,
    ) -> Result<Ways, Failure> {
        let failed = |error: String| Failure::failed(error);
        let [endpoint, tonic, tcp] = addresses.split(',').collect::<Vec<_>>()[..] else {
            return Err(failed(format!("the other process says that it listens on '{addresses}'")));
        };
        let address: RpcAddress = endpoint.parse().map_err(|error| failed(format!("{error}")))?;
        let gateway = service.connect(&address, stamp()).await.map_err(|error| failed(error.to_string()))?;
        let tonic = grpc::channel(world, tonic).map_err(|error| failed(error.to_string()))?;
        let tcp = Arc::new(tokio::sync::Mutex::new(world.connect(tcp).await?));
        let message = Message { body: vec![7; args.bytes as usize].into() };
        Ok(Ways { gateway, address, tonic, tcp, message, in_flight: args.in_flight })
    }
}

/// What was done.
pub(super) struct Did {
    pub(super) count: u64,
    /// Microseconds, of what waits for answers.
    pub(super) latencies: Vec<u32>,
}

impl Did {
    fn each(latencies: Vec<u32>) -> Did {
        Did { count: latencies.len() as u64, latencies }
    }
}

type Doing = Pin<Box<dyn Future<Output = Result<Did, Failure>> + Send>>;

/// One load.
pub(super) struct Load {
    /// In the document.
    pub(super) name: &'static str,
    /// For people.
    pub(super) title: &'static str,
    pub(super) run: fn(Ways, Duration, World) -> Doing,
}

/// All of them, in the order of a round.
pub(super) const ALL: &[Load] = &[
    Load { name: "tcp_one", title: "TCP echo, one at a time", run: |w, s, o| Box::pin(tcp_one(w, s, o)) },
    Load {
        name: "tonic_unary_one",
        title: "tonic unary, one at a time",
        run: |ways, span, world| Box::pin(callers(unary, 1, ways, span, world)),
    },
    Load {
        name: "ask_one",
        title: "fenced ask, one at a time",
        run: |ways, span, world| Box::pin(callers(ask, 1, ways, span, world)),
    },
    Load {
        name: "tonic_unary_64",
        title: "tonic unary, 64 in flight",
        run: |ways, span, world| Box::pin(callers(unary, 64, ways, span, world)),
    },
    Load {
        name: "tonic_unary_pipelined",
        title: "tonic unary, pipelined",
        run: |ways, span, world| {
            let in_flight = ways.in_flight;
            Box::pin(callers(unary, in_flight, ways, span, world))
        },
    },
    Load {
        name: "ask_pipelined",
        title: "fenced ask, pipelined",
        run: |ways, span, world| {
            let in_flight = ways.in_flight;
            Box::pin(callers(ask, in_flight, ways, span, world))
        },
    },
    Load { name: "tonic_stream", title: "tonic stream, pipelined", run: |w, s, o| Box::pin(tonic_stream(w, s, o)) },
    Load { name: "tell", title: "fenced tell", run: |w, s, o| Box::pin(tells(w, s, o)) },
];

fn micros(span: Duration) -> u32 {
    u32::try_from(span.as_micros()).unwrap_or(u32::MAX)
}

async fn tcp_one(ways: Ways, span: Duration, world: World) -> Result<Did, Failure> {
    let mut socket = ways.tcp.lock().await;
    let end = world.now() + span;
    let mut buffer = vec![7; ways.message.body.len().max(1)];
    let mut latencies = Vec::new();
    loop {
        let begun = world.now();
        if begun >= end {
            return Ok(Did::each(latencies));
        }
        socket.write_all(&buffer).await?;
        socket.read_exact(&mut buffer).await?;
        latencies.push(micros(world.now() - begun));
    }
}

async fn unary(ways: &Ways) -> Result<(), String> {
    let mut client = RawEchoClient::new(ways.tonic.clone());
    client.unary(ways.message.clone()).await.map(|_| ()).map_err(|status| status.to_string())
}

async fn ask(ways: &Ways) -> Result<(), String> {
    ways.gateway.ask(ways.message.clone()).await.map(|_| ()).map_err(|error| error.to_string())
}

/// So many callers, each calls as soon as it has its answer.
async fn callers<F>(
    call: fn(&'static Ways) -> F,
    count: u32,
    ways: Ways,
    span: Duration,
    world: World,
) -> Result<Did, Failure>
where
    F: Future<Output = Result<(), String>> + Send + 'static,
{
    // A few hundred bytes for each load and round of one measurement.
    let ways: &'static Ways = Box::leak(Box::new(ways));
    let end = world.now() + span;
    let caller = |_| {
        let clock = world.clone();
        world.spawn("caller", async move {
            let mut latencies = Vec::new();
            loop {
                let begun = clock.now();
                if begun >= end {
                    return Ok(latencies);
                }
                call(ways).await?;
                latencies.push(micros(clock.now() - begun));
            }
        })
    };
    let mut all = Vec::new();
    for caller in (0..count).map(caller).collect::<Vec<_>>() {
        let of_caller: Result<Vec<u32>, String> = caller.await.map_err(|error| Failure::failed(error.to_string()))?;
        all.extend(of_caller.map_err(Failure::failed)?);
    }
    Ok(Did::each(all))
}

/// As many messages as are allowed to be on the way, all the time, on one plain stream.
async fn tonic_stream(ways: Ways, span: Duration, world: World) -> Result<Did, Failure> {
    let failed = |status: tonic::Status| Failure::failed(status.to_string());
    let room = Arc::new(tokio::sync::Semaphore::new(ways.in_flight as usize));
    let (end, message, clock, taken) = (world.now() + span, ways.message.clone(), world.clone(), room.clone());
    let messages = stream::unfold((), move |()| {
        let (message, clock, taken) = (message.clone(), clock.clone(), taken.clone());
        async move {
            taken.acquire().await.ok()?.forget();
            (clock.now() < end).then_some((message, ()))
        }
    });
    let mut answers = RawEchoClient::new(ways.tonic.clone()).stream(messages).await.map_err(failed)?.into_inner();
    let mut done = 0;
    while let Some(answer) = answers.next().await {
        answer.map_err(failed)?;
        done += 1;
        room.add_permits(1);
    }
    Ok(Did { count: done, latencies: Vec::new() })
}

/// As many tells as the endpoint takes. What counts is what it has handled.
async fn tells(ways: Ways, span: Duration, world: World) -> Result<Did, Failure> {
    let failed = |error: RpcError| Failure::failed(error.to_string());
    let before = handled(&ways.gateway).await.map_err(failed)?;
    let end = world.now() + span;
    let mut sent = 0;
    while world.now() < end {
        for _ in 0..256 {
            match ways.gateway.tell(ways.message.clone()) {
                Ok(()) => sent += 1,
                Err(RpcError::Overloaded { .. }) => ways.gateway.ready().await.map_err(failed)?,
                Err(error) => return Err(failed(error)),
            }
        }
        // The time that the connection's task needs on this thread is part of the price.
        tokio::task::yield_now().await;
    }
    // Behind all tells on the same stream.
    let done = handled(&ways.gateway).await.map_err(failed)? - before;
    match ways.gateway.refusals().total() {
        0 if done == sent => Ok(Did { count: done, latencies: Vec::new() }),
        refused => Err(Failure::failed(format!("{sent} tells sent, {done} handled, {refused} refused"))),
    }
}

/// How many tells the endpoint has handled.
async fn handled(gateway: &EchoGateway) -> Result<u64, RpcError> {
    gateway.handled(Message::default()).await.map(|answer| answer.tells)
}
