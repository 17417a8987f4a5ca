//! What Flink's list does not ask for and a fence is for: old selves, leaders that slept, packets that come late or twice.

use std::sync::atomic::Ordering;

use palisade_rpc::v1::{Call, frame};
use palisade_rpc::{AnswerKind, ENVELOPE_VERSION as VERSION, RpcError, RpcGateway};
use palisade_world::{Random, SeededRandom};
use prost::Message;

use crate::counter::*;
use crate::election::{CLUSTER, Disk, ELECTION, Election, token};
use crate::proto::*;
use crate::soon;
use crate::wire::Stream;

#[tokio::test]
async fn a_process_that_is_elected_again_at_once_is_fenced_from_its_old_self() {
    let (service, election, probe) = (listening().await, Election::granted(5), Probe::new(Gate::Open));
    let guards = guards(&election, Some(&Disk::with(5)));
    let counter = worker(&service, &guards, &probe).await;
    // One process, one service: its gateway of the first leadership is still in some task's hands.
    let process = calling().await;
    let old: CounterGateway = process.connect(&counter.address(), stamp(5)).await.unwrap();
    // What its old self had put on the wire before, on a stream of its own.
    let twin: CounterGateway =
        calling().await.connect(&counter.address(), stamp(5)).await.unwrap_or_else(|e| panic!("{e}"));
    old.add(amount(1)).await.unwrap();
    election.grant(6);
    let new: CounterGateway = process.connect(&counter.address(), stamp(6)).await.unwrap();
    new.add(amount(10)).await.unwrap();
    let before = service.counters().total(AnswerKind::Stale);
    assert!(matches!(old.add(amount(1)).await, Err(RpcError::Stale { .. })));
    assert!(matches!(old.note(amount(1)), Err(RpcError::Stale { .. })));
    assert_eq!(service.counters().total(AnswerKind::Stale), before, "the process does not even send it");
    assert!(matches!(twin.add(amount(1)).await, Err(RpcError::Stale { .. })), "what was sent is refused over there");
    assert_eq!(sum(&counter).await, 11);
}

#[tokio::test]
async fn a_leader_that_slept_is_refused_when_it_wakes_and_learns_that_it_was_replaced() {
    let (service, election, probe) = (listening().await, Election::granted(5), Probe::new(Gate::Open));
    let guards = guards(&election, Some(&Disk::with(5)));
    let counter = worker(&service, &guards, &probe).await;
    let (asleep, awake) = (listening().await, calling().await);
    // The sleeper's own view of the election stands still with it.
    let its_view = Election::granted(5);
    let its_endpoint = leader(&asleep, 5, &its_view, &Probe::new(Gate::Open)).await;
    let to_worker: CounterGateway = asleep.connect(&counter.address(), stamp(5)).await.unwrap();
    to_worker.add(amount(1)).await.unwrap();

    election.grant(6);
    let successor: CounterGateway = awake.connect(&counter.address(), stamp(6)).await.unwrap();
    successor.add(amount(10)).await.unwrap();

    let refused = to_worker.add(amount(1)).await.unwrap_err();
    assert!(matches!(refused, RpcError::Stale { current: Some(six), .. } if six == token(6)), "{refused:?}");
    // A worker that was told of the successor calls the sleeper by mistake: that makes it look, and it stands down.
    its_view.grant(6);
    let by_mistake: CounterGateway = awake.connect(&its_endpoint.address(), stamp(6)).await.unwrap();
    assert!(matches!(by_mistake.add(amount(1)).await, Err(RpcError::Ahead { .. })));
    assert_eq!(soon("it learns that it was replaced", its_endpoint.replaced()).await.token, Some(token(6)));
    assert_eq!(its_view.reads.load(Ordering::SeqCst), 1);
    assert_eq!((sum(&counter).await, sum(&its_endpoint).await), (11, 0));
}

/// A message of the leader with the n-th token, as bytes that anybody can hold back.
fn packet(id: u64, n: u32) -> frame::Kind {
    frame::Kind::Call(Call {
        id,
        endpoint: "counter".to_owned(),
        interface: CounterGateway::INTERFACE.name.to_owned(),
        method: "Add".to_owned(),
        cluster: CLUSTER.0,
        election: ELECTION.to_owned(),
        token: token(n).get(),
        payload: AddRequest { amount: i64::from(n), ..AddRequest::default() }.encode_to_vec().into(),
        ..Call::default()
    })
}

/// What of a packet is known.
async fn answered(stream: &mut Stream) -> &'static str {
    use palisade_rpc::v1::{answer, error};
    match stream.answer().await.result {
        Some(answer::Result::Payload(_)) => "ran",
        Some(answer::Result::Error(error)) if error.kind() == error::Kind::Stale => "stale",
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_packet_that_comes_after_the_successor_acted_is_refused_and_so_is_its_double() {
    let (service, election, probe) = (listening().await, Election::granted(5), Probe::new(Gate::Open));
    let guards = guards(&election, Some(&Disk::with(5)));
    let counter = worker(&service, &guards, &probe).await;
    let to = service.local_addr().unwrap();
    let (mut held, mut successor) = (Stream::open(to, VERSION).await, Stream::open(to, VERSION).await);
    election.grant(6);
    successor.send(packet(1, 6));
    assert_eq!(answered(&mut successor).await, "ran");
    for _ in 0..3 {
        held.send(packet(1, 5)); // the same bytes, the same id
        assert_eq!(answered(&mut held).await, "stale");
    }
    assert_eq!((sum(&counter).await, probe.ran()), (6, 1));
}

/// Before the successor acts and before the stream tells of it, nobody can know: a late packet may run. But never after.
#[tokio::test]
async fn packets_that_come_at_any_moment_of_a_change_never_run_after_their_successors() {
    for seed in 0..12 {
        let random = SeededRandom::new(seed);
        let draw = |below: u64| random.next_u64() % below;
        let (service, election, probe) = (listening().await, Election::granted(5), Probe::new(Gate::Open));
        let guards = guards(&election, Some(&Disk::with(5)));
        let counter = worker(&service, &guards, &probe).await;
        let to = service.local_addr().unwrap();
        let mut streams = [Stream::open(to, VERSION).await, Stream::open(to, VERSION).await];
        let (mut sent, mut granted, mut after) = ([0, 0], false, 0);
        let at = draw(10);
        for step in 0..20 {
            if step == at {
                election.grant(6);
                granted = true;
            }
            if granted && draw(4) == 0 {
                election.announce();
                soon("the guard rises with the stream", guards.raised_to(ELECTION, token(6))).await;
                after += 1;
            }
            let new = granted && draw(2) == 0;
            sent[usize::from(new)] += 1;
            streams[usize::from(new)].send(packet(step + 1, if new { 6 } else { 5 }));
            if after > 0 && !new {
                // The stream has told: from here on it is certain.
                while sent[0] > 1 {
                    answered(&mut streams[0]).await;
                    sent[0] -= 1;
                }
                assert_eq!(answered(&mut streams[0]).await, "stale", "seed {seed}");
                sent[0] = 0;
            }
        }
        for (stream, sent) in streams.iter_mut().zip(sent) {
            for _ in 0..sent {
                answered(stream).await;
            }
        }
        let ran = counter.call_async(crate::SOON, |counter, _| counter.amounts.clone()).await.unwrap();
        assert!(ran.is_sorted(), "seed {seed}: {ran:?}");
    }
}
