//! The other process: a leader's endpoint, a plain tonic service and a TCP echo, each on a port of its own. It ends with the
//! process that started it.

use std::pin::Pin;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use palisade_rpc::{Answer, Context, LeaderSeat, RpcEndpoint, RpcService, RpcServiceConfig};
use palisade_world::{World, grpc};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::{Request, Response, Status, Streaming};

use super::proto::raw_echo_server::{RawEcho, RawEchoServer};
use super::proto::{EchoEndpoint, EchoGateway, Handled, Load};
use super::{CLUSTER, ELECTION, token};
use crate::exit::Failure;

/// Tells that may wait: what a fast sender has on the way.
const MAILBOX: usize = 32_768;

pub(super) const ENDPOINT: &str = "echo";

/// Answers with what it was sent; counts tells.
pub(super) struct Echo {
    pub(super) tells: u64,
}

impl RpcEndpoint for Echo {}

impl EchoEndpoint for Echo {
    fn ask(&mut self, _cx: &mut Context<Self>, load: Load) -> Answer<Load> {
        Answer::ready(load)
    }

    fn tell(&mut self, _cx: &mut Context<Self>, load: Load) {
        std::hint::black_box(&load);
        self.tells += 1;
    }

    fn handled(&mut self, _cx: &mut Context<Self>, _load: Load) -> Answer<Handled> {
        Answer::ready(Handled { tells: self.tells })
    }
}

/// Plain tonic.
struct Plain;

#[tonic::async_trait]
impl RawEcho for Plain {
    async fn unary(&self, request: Request<Load>) -> Result<Response<Load>, Status> {
        Ok(Response::new(request.into_inner()))
    }

    type StreamStream = Pin<Box<dyn Stream<Item = Result<Load, Status>> + Send>>;

    async fn stream(&self, request: Request<Streaming<Load>>) -> Result<Response<Self::StreamStream>, Status> {
        Ok(Response::new(request.into_inner().boxed()))
    }
}

pub(super) async fn serve(world: World) -> Result<(), Failure> {
    let failed = |error: String| Failure::failed(error);
    let config = RpcServiceConfig::listen("127.0.0.1:0").interface::<EchoGateway>();
    let service = RpcService::start(config, world.clone()).await.map_err(|error| failed(error.to_string()))?;
    let seat = LeaderSeat { cluster: CLUSTER, election: ELECTION.to_owned(), token: token(), source: None };
    let echo = service.endpoint(ENDPOINT, Echo { tells: 0 }).serves(EchoGateway::serve()).leads(seat).mailbox(MAILBOX);
    let echo = echo.create().map_err(|error| failed(error.to_string()))?;
    echo.start().await.map_err(|error| failed(error.to_string()))?;

    let listener = world.bind("127.0.0.1:0").await?;
    let tonic = listener.local_addr();
    let serving = grpc::server(&world).add_service(RawEchoServer::new(Plain));
    let serving = serving.serve_with_incoming(grpc::incoming(listener));
    let _plain = world.spawn("plain", serving);

    let mut listener = world.bind("127.0.0.1:0").await?;
    let tcp = listener.local_addr();
    let echoes = world.clone();
    let _echoes = world.spawn("tcp echo", async move {
        while let Ok(mut socket) = listener.accept().await {
            let echo = async move {
                let mut buffer = vec![0; 64 << 10];
                while let Ok(read @ 1..) = socket.read(&mut buffer).await {
                    if socket.write_all(&buffer[..read]).await.is_err() {
                        return;
                    }
                }
            };
            echoes.spawn("tcp echo", echo).detach();
        }
    });
    eprintln!("bench listens on {},{tonic},{tcp}", echo.address());
    let parent = nix::unistd::getppid();
    while nix::unistd::getppid() == parent {
        world.sleep(Duration::from_secs(1)).await;
    }
    Ok(())
}
