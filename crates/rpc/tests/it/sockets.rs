//! Connections: control and work on their own, reconnecting, routes of gateways that come and go, garbage, and a network that
//! wraps every socket, as encryption will.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use palisade_rpc::v1::{Call, Forget, answer, error, frame};
use palisade_rpc::{ConnectError, ENVELOPE_VERSION, Outcome, RpcError, RpcGateway, RpcServiceConfig, Stamp};
use palisade_world::{AcceptSocket, Listener, Net, Socket, TcpNet};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::counter::*;
use crate::proto::*;
use crate::soon;
use crate::wire::Stream;

/// A network that counts connections, and changes every byte by a key on both sides.
struct Scrambled {
    key: u8,
    connected: AtomicUsize,
}

impl Scrambled {
    fn new(key: u8) -> Arc<Scrambled> {
        Arc::new(Scrambled { key, connected: AtomicUsize::new(0) })
    }
}

/// What a key does to a socket; encryption would begin with a handshake here.
struct Wrapped {
    socket: Socket,
    key: u8,
}

impl AsyncRead for Wrapped {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let (before, key) = (buf.filled().len(), self.key);
        let polled = Pin::new(&mut self.socket).poll_read(cx, buf);
        buf.filled_mut()[before..].iter_mut().for_each(|byte| *byte ^= key);
        polled
    }
}

impl AsyncWrite for Wrapped {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let key = self.key;
        let changed: Vec<u8> = buf.iter().map(|byte| byte ^ key).collect();
        Pin::new(&mut self.socket).poll_write(cx, &changed)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

struct Accepting(Listener, u8);

#[tonic::async_trait]
impl AcceptSocket for Accepting {
    async fn accept(&mut self) -> io::Result<Socket> {
        let socket = self.0.accept().await?;
        let peer: Option<SocketAddr> = socket.peer();
        Ok(Socket::new(Wrapped { socket, key: self.1 }, peer))
    }
}

#[tonic::async_trait]
impl Net for Scrambled {
    async fn connect(&self, address: &str) -> io::Result<Socket> {
        self.connected.fetch_add(1, Ordering::SeqCst);
        let socket = TcpNet.connect(address).await?;
        let peer = socket.peer();
        Ok(Socket::new(Wrapped { socket, key: self.key }, peer))
    }

    async fn bind(&self, address: &str) -> io::Result<Listener> {
        let listener = TcpNet.bind(address).await?;
        let local = listener.local_addr();
        Ok(Listener::new(Accepting(listener, self.key), local))
    }
}

#[tokio::test]
async fn every_socket_can_be_wrapped_on_both_sides_and_who_does_not_is_not_understood() {
    let service = start(RpcServiceConfig::listen("127.0.0.1:0").net(Scrambled::new(0x5a))).await;
    let counter = unfenced(&service, "counter", &Probe::new(Gate::Open)).await;
    let caller = start(RpcServiceConfig::local().net(Scrambled::new(0x5a))).await;
    let gateway: CounterGateway = caller.connect(&counter.address(), Stamp::Unfenced).await.unwrap();
    assert_eq!(gateway.add(amount(1)).await.unwrap().sum, 1);
    let size = 3 << 20;
    assert_eq!(gateway.blob(BlobRequest { size }).await.unwrap().blob.len() as u64, size);
    for outsider in [calling().await, start(RpcServiceConfig::local().net(Scrambled::new(0x01))).await] {
        let refused = outsider.connect::<CounterGateway>(&counter.address(), Stamp::Unfenced).await.unwrap_err();
        assert!(matches!(refused, ConnectError::Unreachable { .. }), "{refused}");
    }
}

#[tokio::test]
async fn control_and_work_have_a_connection_each_and_gateways_share_them() {
    let (service, net) = (listening().await, Scrambled::new(0));
    let counter = unfenced(&service, "counter", &Probe::new(Gate::Open)).await;
    let caller = start(RpcServiceConfig::local().net(net.clone())).await;
    let one: CounterGateway = caller.connect(&counter.address(), Stamp::Unfenced).await.unwrap();
    one.add(amount(1)).await.unwrap();
    assert_eq!(net.connected.load(Ordering::SeqCst), 1, "no control, no connection for it");
    one.beat(ReadRequest {}).await.unwrap();
    assert_eq!(net.connected.load(Ordering::SeqCst), 2);
    let two: CounterGateway = caller.connect(&counter.address(), Stamp::Unfenced).await.unwrap();
    two.add(amount(1)).await.unwrap();
    two.beat(ReadRequest {}).await.unwrap();
    assert_eq!(net.connected.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_gateway_connects_again_by_itself_and_its_window_is_whole() {
    let (service, probe) = (listening().await, Probe::new(Gate::Open));
    let counter = service.endpoint("counter", Counter::new(probe)).serves(CounterGateway::serve()).mailbox(4);
    let counter = counter.create().unwrap();
    counter.start().await.unwrap();
    let (caller, node) = (calling().await, service.node().to_owned());
    let gateway: CounterGateway = caller.connect(&counter.address(), Stamp::Unfenced).await.unwrap();
    for _ in 0..3 {
        soon("room", gateway.ready()).await.unwrap();
        gateway.note(amount(1)).unwrap();
    }
    gateway.add(amount(1)).await.unwrap();
    service.close().await.unwrap();
    let gone = soon("the break is told", crate::until_err(|| gateway.add(amount(1)))).await;
    assert_eq!(gone.outcome(), Outcome::NotHandled, "{gone:?}");

    let again = start(RpcServiceConfig::listen(node)).await;
    let probe = Probe::new(Gate::Open);
    let counter = again.endpoint("counter", Counter::new(probe)).serves(CounterGateway::serve()).mailbox(4);
    let counter = counter.create().unwrap();
    counter.start().await.unwrap();
    soon("it reconnects", async {
        while gateway.read(ReadRequest {}).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    // More than a window, so that credits must come.
    for _ in 0..100 {
        soon("room", gateway.ready()).await.unwrap();
        gateway.note(amount(1)).unwrap();
    }
    assert_eq!(soon("an answer", gateway.add(amount(0))).await.unwrap().sum, 100);
}

#[tokio::test]
async fn gateways_come_and_go_and_their_short_names_are_given_again() {
    let service = listening().await;
    let counter = unfenced(&service, "counter", &Probe::new(Gate::Open)).await;
    let sibling = unfenced(&service, "sibling", &Probe::new(Gate::Open)).await;
    let caller = calling().await;
    let stays: CounterGateway = caller.connect(&sibling.address(), Stamp::Unfenced).await.unwrap();
    for round in 1..=50 {
        let goes: CounterGateway = caller.connect(&counter.address(), Stamp::Unfenced).await.unwrap();
        goes.note(amount(1)).unwrap();
        goes.note(amount(1)).unwrap();
        assert_eq!(goes.add(amount(1)).await.unwrap().sum, 3 * round);
        assert_eq!(stays.add(amount(1)).await.unwrap().sum, round);
    }
}

fn call(id: u64, route: u32) -> frame::Kind {
    frame::Kind::Call(Call { id, route, ..Call::default() })
}

#[tokio::test]
async fn a_route_that_means_nothing_is_refused_and_the_stream_goes_on() {
    let service = listening().await;
    let _counter = unfenced(&service, "counter", &Probe::new(Gate::Open)).await;
    let mut stream = Stream::open(service.local_addr().unwrap(), ENVELOPE_VERSION).await;
    let named = |id, route| {
        frame::Kind::Call(Call {
            id,
            route,
            endpoint: "counter".to_owned(),
            interface: CounterGateway::INTERFACE.name.to_owned(),
            method: "Read".to_owned(),
            ..Call::default()
        })
    };
    let mut expect = async |kind: frame::Kind, fails: Option<error::Kind>| {
        stream.send(kind);
        let answer = stream.answer().await;
        match (answer.result.unwrap(), fails) {
            (answer::Result::Payload(_), None) => {}
            (answer::Result::Error(error), Some(kind)) if error.kind() == kind => {}
            (other, _) => panic!("{other:?}"),
        }
    };
    expect(call(1, 7), Some(error::Kind::Invalid)).await;
    expect(named(2, 7), None).await;
    expect(call(3, 7), None).await;
    expect(call(4, u32::MAX), Some(error::Kind::Invalid)).await;
    expect(named(5, u32::MAX), Some(error::Kind::Invalid)).await;
    let endless = Call { id: 6, route: 9, endpoint: "x".repeat(5000), ..Call::default() };
    expect(frame::Kind::Call(endless), Some(error::Kind::Invalid)).await;
    expect(call(7, 9), Some(error::Kind::Invalid)).await;
    stream.send(frame::Kind::Forget(Forget { route: 7 }));
    stream.send(frame::Kind::Forget(Forget { route: 8 }));
    let answer = {
        stream.send(call(8, 7));
        stream.answer().await
    };
    assert!(matches!(answer.result, Some(answer::Result::Error(error)) if error.kind() == error::Kind::Invalid));
}

#[tokio::test]
async fn bytes_that_are_no_frames_end_their_stream_and_nothing_else() {
    let service = listening().await;
    let counter = unfenced(&service, "counter", &Probe::new(Gate::Open)).await;
    let to = service.local_addr().unwrap();
    let mut good = Stream::open(to, ENVELOPE_VERSION).await;
    // A frame that says it is longer than the batch; a tag that cannot be one.
    for bytes in [vec![0x0a, 0xff, 0xff, 0x01, 0x00], vec![0xff; 100]] {
        soon("the stream ends", crate::wire::end_of_stream_with(to, bytes)).await;
    }
    good.send(frame::Kind::Call(Call { id: 1, endpoint: "counter".to_owned(), ..Call::default() }));
    assert_eq!(good.answer().await.id, 1);
    let gateway: CounterGateway = counter.gateway(Stamp::Unfenced);
    assert_eq!(gateway.add(amount(1)).await.unwrap().sum, 1);
}

#[tokio::test]
async fn a_small_window_and_a_fast_sender_lose_nothing() {
    let (service, probe) = (listening().await, Probe::new(Gate::Open));
    let counter = service.endpoint("counter", Counter::new(probe)).serves(CounterGateway::serve()).mailbox(16);
    let counter = counter.create().unwrap();
    counter.start().await.unwrap();
    let gateway: CounterGateway =
        calling().await.connect(&counter.address(), Stamp::Unfenced).await.unwrap_or_else(|e| panic!("{e}"));
    for _ in 0..20_000 {
        while let Err(error) = gateway.note(amount(1)) {
            assert_eq!(error, RpcError::Overloaded { limit: 12 });
            soon("there is room", gateway.ready()).await.unwrap();
        }
    }
    let sum = soon("all of them", gateway.within(Duration::from_secs(60)).add(amount(0))).await.unwrap().sum;
    assert_eq!((sum, gateway.refusals().total()), (20_000, 0));
}
