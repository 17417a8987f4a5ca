//! Clients that ask for too much, say nothing, or say nonsense: the node stays up, its memory stays bounded, and whoever behaves
//! well keeps its leadership and has its writes done.

use std::io::Write;
use std::net::TcpStream;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use palisade_wire::coord::v1::kv_service_client::KvServiceClient;
use palisade_wire::coord::v1::pipeline_call::Request;
use palisade_wire::coord::v1::session_service_client::SessionServiceClient;
use palisade_wire::coord::v1::{
    ClientFrame, GetRequest, KeepAlive, PipelineCall, PipelineCalls, PutRequest, client_frame,
};
use palisade_world::{Task, World, grpc};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::Channel;

use crate::harness::{Cluster, eventually, palisade};
use crate::skip::skip;

/// Connections that say nothing, or half of something.
const IDLE: u64 = 10_000;

/// Files that this process needs beside them.
const OTHER_FILES: u64 = 1_000;

/// Callers of single requests of each flood, and calls of each data stream.
const CALLERS: usize = 200;
const CALLS: u64 = 20_000;

/// Writes of the client that behaves.
const WRITES: u64 = 5;

/// Far more than a node needs, and far less than what it was sent.
const MEMORY_KB: u64 = 1_500_000;

fn raise_file_limit() -> Result<(), String> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(|error| error.to_string())?;
    if hard < IDLE + OTHER_FILES {
        return Err(format!("a process may open {hard} files here, and it takes {}", IDLE + OTHER_FILES));
    }
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map_err(|error| error.to_string())
}

fn memory_kb(cluster: &Cluster, id: usize) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", cluster.nodes[id - 1].id())).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    resident.trim().split(' ').next().unwrap().parse().unwrap()
}

/// Single requests as large as they may be, as many as there are callers, until it is dropped.
fn flood_requests(channel: &Channel, world: &World) -> Vec<Task<()>> {
    let caller = |n: usize| {
        let mut kv = KvServiceClient::new(channel.clone());
        let flood = async move {
            let put =
                PutRequest { key: format!("flood/{n}").into_bytes(), value: vec![7; 1 << 20], ..Default::default() };
            loop {
                let _ = kv.put(put.clone()).await; // refused or not
                let _ = kv.get(GetRequest { key: put.key.clone(), ..Default::default() }).await;
            }
        };
        world.spawn("flood", flood)
    };
    (0..CALLERS).map(caller).collect()
}

/// A data stream of which no answer is taken, and a session stream that is sent nothing but keep-alives of nobody.
async fn flood_streams(channel: &Channel) -> Box<dyn std::any::Any + Send> {
    let (calls, queue) = tokio::sync::mpsc::unbounded_channel();
    for first in (0..CALLS).step_by(1_000) {
        let call = |call| {
            let put = PutRequest { key: b"flood".to_vec(), value: vec![7; 1 << 10], ..Default::default() };
            PipelineCall { call, request: Some(Request::Put(put)) }
        };
        let message = PipelineCalls { calls: (first + 1..=first + 1_000).map(call).collect() };
        calls.send(message).unwrap();
    }
    let answers = KvServiceClient::new(channel.clone()).pipeline(UnboundedReceiverStream::new(queue)).await;
    let (frames, queue) = tokio::sync::mpsc::unbounded_channel();
    for call in 1..=CALLS {
        let sessions = (1..=100).collect();
        let body = client_frame::Body::KeepAlive(KeepAlive { sessions });
        frames.send(ClientFrame { call, body: Some(body) }).unwrap();
    }
    let told = SessionServiceClient::new(channel.clone()).stream(UnboundedReceiverStream::new(queue)).await;
    Box::new((calls, answers, frames, told))
}

/// Connections that say nothing, half of something, or nonsense.
fn hold_connections(address: &str) -> Vec<TcpStream> {
    let connect = |n| {
        let mut socket = TcpStream::connect(address).unwrap();
        let bytes: &[u8] = match n % 100 {
            0 => b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00",
            1 => b"\xff\x00 no protocol at all \r\n\r\n",
            _ => b"",
        };
        let _ = socket.write_all(bytes); // it may be closed already
        socket
    };
    (0..IDLE).map(connect).collect()
}

#[test]
fn whoever_behaves_well_is_served_while_others_flood_the_node() {
    if let Err(reason) = raise_file_limit() {
        return skip("whoever_behaves_well_is_served_while_others_flood_the_node", "files", &reason);
    }
    let cluster = Cluster::start();
    let leader = cluster.store_leader();
    let address = cluster.addresses[leader - 1].clone();
    let candidate = cluster.candidate("well-behaved", "a", &["--ttl", "20s"]);
    let fence = candidate.next("granted")["fence"].as_str().unwrap().to_owned();

    // The flood has this process for itself; whoever behaves well has processes of its own.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let world = World::real();
    let flood = runtime.block_on(async {
        let channel = || grpc::channel(&world, &address).unwrap();
        let requests: Vec<_> = (0..2).flat_map(|_| flood_requests(&channel(), &world)).collect();
        let mut streams = Vec::new();
        for _ in 0..3 {
            streams.push(flood_streams(&channel()).await);
        }
        (requests, streams)
    });
    let idle = hold_connections(&address);
    for serial in 1..=WRITES {
        let value = serial.to_string();
        let put = ["kv", "put", "well-behaved", value.as_str(), "--fence", fence.as_str(), "--timeout", "20s"];
        // Where the store leader changes under the flood, an outcome may be unknown; the same value may be written twice.
        eventually("a write is acknowledged", || cluster.run(&put).status.success().then_some(()));
    }
    for id in 1..=3 {
        assert!(memory_kb(&cluster, id) < MEMORY_KB, "node {id} has {} kB", memory_kb(&cluster, id));
    }
    drop((idle, flood));
    runtime.shutdown_background();

    let lost: Vec<_> = candidate.so_far().into_iter().filter(|said| said["event"] == "lost").collect();
    assert!(lost.is_empty(), "the leadership was lost: {lost:?}");
    assert_eq!(cluster.json(&["elect", "leader", "well-behaved"])["fence"], fence.as_str());
    assert_eq!(cluster.json(&["kv", "get", "well-behaved"])["value"], WRITES.to_string());
    for id in 1..=3 {
        eventually("the node serves", || {
            palisade().args(["health", &cluster.addresses[id - 1]]).output().unwrap().status.success().then_some(())
        });
    }
}
