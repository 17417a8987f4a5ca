//! Streams between services: sizes, breaks, deadlines, order, bounds.

use std::time::Duration;

use palisade_rpc::v1::{Call, answer, error, frame};
use palisade_rpc::{Outcome, RpcError, RpcGateway, RpcServiceConfig, Stamp};

use crate::counter::*;
use crate::proto::*;
use crate::wire::Stream;
use crate::{soon, spawn};

#[tokio::test]
async fn c08_an_oversized_request_is_refused_at_the_sender_with_size_and_limit() {
    let (service, probe) = (listening().await, Probe::new(Gate::Open));
    let counter = unfenced(&service, "counter", &probe).await;
    let caller = start(RpcServiceConfig::local().max_message(1000)).await;
    let gateway: CounterGateway = caller.connect(&counter.address(), Stamp::Unfenced).await.unwrap();
    let large = || AddRequest { amount: 1, ballast: vec![0; 2000].into() };
    let refused = gateway.add(large()).await.unwrap_err();
    assert!(matches!(refused, RpcError::TooLarge { size: 2005, limit: 1000 }), "{refused:?}");
    assert_eq!(refused.outcome(), Outcome::NotHandled);
    assert!(matches!(gateway.note(large()), Err(RpcError::TooLarge { .. })));
    assert_eq!(gateway.add(amount(1)).await.unwrap().sum, 1);
    // C10: within the process there is no limit.
    let local: CounterGateway = counter.gateway(Stamp::Unfenced);
    let huge = AddRequest { amount: 1, ballast: vec![0; 11 << 20].into() };
    assert_eq!(local.add(huge).await.unwrap().sum, 2);
}

#[tokio::test]
async fn c09_an_oversized_answer_says_so_and_that_it_was_handled() {
    let service = start(RpcServiceConfig::listen("127.0.0.1:0").max_message(1000)).await;
    let counter = unfenced(&service, "counter", &Probe::new(Gate::Open)).await;
    let gateway: CounterGateway =
        calling().await.connect(&counter.address(), Stamp::Unfenced).await.unwrap_or_else(|e| panic!("{e}"));
    let refused = gateway.blob(BlobRequest { size: 2000 }).await.unwrap_err();
    assert!(matches!(refused, RpcError::ReplyTooLarge { limit: 1000, .. }), "{refused:?}");
    assert_eq!(refused.outcome(), Outcome::Handled);
    assert_eq!(gateway.blob(BlobRequest { size: 900 }).await.unwrap().blob.len(), 900);
}

#[tokio::test]
async fn messages_of_megabytes_pass_and_others_beside_them() {
    let service = listening().await;
    let counter = unfenced(&service, "counter", &Probe::new(Gate::Open)).await;
    let caller = calling().await;
    let gateway: CounterGateway = caller.connect(&counter.address(), Stamp::Unfenced).await.unwrap();
    let size = 9 << 20;
    let blobs = (0..3).map(|_| gateway.blob(BlobRequest { size }));
    let adds = (0..100).map(|_| gateway.add(AddRequest { amount: 1, ballast: vec![7; 10_000].into() }));
    let (blobs, adds) = tokio::join!(futures_util::future::join_all(blobs), futures_util::future::join_all(adds));
    assert!(blobs.into_iter().all(|blob| blob.unwrap().blob.len() as u64 == size));
    assert_eq!(
        adds.into_iter().map(|add| add.unwrap().sum).collect::<Vec<_>>(),
        (1..=100).collect::<Vec<_>>(),
        "in order"
    );
}

#[tokio::test]
async fn c03_c04_calls_under_way_are_answered_at_once_when_the_other_service_is_closed() {
    let (service, probe) = (listening().await, Probe::new(Gate::Shut));
    let counter = unfenced(&service, "counter", &probe).await;
    let caller = calling().await;
    let gateway: CounterGateway = caller.connect(&counter.address(), Stamp::Unfenced).await.unwrap();
    let patient = gateway.within(Duration::from_secs(3600));
    let begun = spawn({
        let patient = patient.clone();
        async move { patient.add_later(amount(1)).await }
    });
    probe.has_run(1).await;
    counter.stop();
    assert_eq!(soon("the endpoint's end is told", begun).await.unwrap(), Err(RpcError::EndpointGone));
    let gone = soon("no endpoint", patient.add(amount(1))).await;
    assert_eq!(gone, Err(RpcError::NoSuchEndpoint { endpoint: "counter".to_owned() }));
    service.close().await.unwrap();
    let gone = soon("no process", patient.add(amount(1))).await.unwrap_err();
    assert_eq!(gone.outcome(), Outcome::NotHandled, "{gone:?}");
}

#[tokio::test]
async fn b07_another_version_of_the_envelope_is_refused_in_words() {
    let service = listening().await;
    let mut stream = Stream::open(service.local_addr().unwrap(), 99).await;
    let answer = stream.answer().await;
    let Some(answer::Result::Error(error)) = answer.result else { panic!("{answer:?}") };
    assert!(error.message.contains("version 99"), "{error:?}");
    stream.send(frame::Kind::Call(Call { id: 3, endpoint: "counter".to_owned(), ..Call::default() }));
    let answer = stream.answer().await;
    let Some(answer::Result::Error(error)) = answer.result else { panic!("{answer:?}") };
    assert_eq!((answer.id, error.kind()), (3, error::Kind::Invalid));
}

#[tokio::test]
async fn a_deadline_travels_and_drops_the_work() {
    let (service, probe) = (listening().await, Probe::new(Gate::Shut));
    let counter = unfenced(&service, "counter", &probe).await;
    let gateway: CounterGateway =
        calling().await.connect(&counter.address(), Stamp::Unfenced).await.unwrap_or_else(|e| panic!("{e}"));
    let late = gateway.within(Duration::from_millis(50)).add_later(amount(1)).await.unwrap_err();
    assert!(matches!(late, RpcError::TimedOut { .. }), "{late:?}");
    assert_eq!(late.outcome(), Outcome::Unknown);
    soon("the work is dropped", async {
        while !probe.log().contains(&"add_later dropped".to_owned()) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    probe.gate.send_replace(Gate::Open);
    assert_eq!(sum(&counter).await, 0);
}

#[tokio::test]
async fn a_caller_that_gives_up_or_goes_away_cancels_the_work() {
    let (service, probe) = (listening().await, Probe::new(Gate::Shut));
    let counter = unfenced(&service, "counter", &probe).await;
    let (stays, goes) = (calling().await, calling().await);
    // The deadline must not be what does it.
    let hour = Duration::from_secs(3600);
    let connected: CounterGateway = stays.connect(&counter.address(), Stamp::Unfenced).await.unwrap();
    let alone: CounterGateway = goes.connect(&counter.address(), Stamp::Unfenced).await.unwrap();
    drop(goes); // the gateway's call below is all that holds its stream
    let local: CounterGateway = counter.gateway(Stamp::Unfenced);
    for (n, gateway) in [(1, connected.within(hour)), (2, alone), (3, local.within(hour))] {
        let begun = spawn(async move { gateway.within(hour).add_later(amount(1)).await });
        probe.has_run(n).await;
        begun.abort();
        soon("the work is dropped", async {
            while probe.log().iter().filter(|line| *line == "add_later dropped").count() < usize::try_from(n).unwrap() {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_sender_is_held_up_where_it_sends_and_goes_on_when_there_is_room() {
    held_up_where_it_sends().await;
}

/// A gateway here and one elsewhere, to an endpoint that stands still and has room for ten.
pub(crate) async fn held_up_where_it_sends() {
    let (service, probe) = (listening().await, Probe::new(Gate::Open));
    let counter = service.endpoint("counter", Counter::new(probe.clone())).serves(CounterGateway::serve());
    let counter = counter.mailbox(10).create().unwrap();
    counter.start().await.unwrap();
    let caller = calling().await;
    let remote: CounterGateway = caller.connect(&counter.address(), Stamp::Unfenced).await.unwrap();
    let local: CounterGateway = counter.gateway(Stamp::Unfenced);
    for (round, gateway) in [remote, local].into_iter().enumerate() {
        let release = block(&counter).await;
        for sent in 1..=8 {
            gateway.note(amount(1)).unwrap();
            soon("it has arrived", crate::until(|| counter.waiting().work == sent)).await;
        }
        assert_eq!(gateway.note(amount(1)), Err(RpcError::Overloaded { limit: 8 }), "the mailbox has room for ten");
        // What is left is for asks: this one waits behind the tells.
        let asking = gateway.add(amount(1));
        tokio::pin!(asking);
        assert!(futures_util::poll!(&mut asking).is_pending());
        soon("it has arrived", crate::until(|| counter.waiting().work == 9)).await;
        {
            let ready = gateway.ready();
            tokio::pin!(ready);
            assert!(futures_util::poll!(&mut ready).is_pending());
            release.send(()).unwrap();
            soon("there is room again", ready).await.unwrap();
        }
        soon("it is answered", asking).await.unwrap();
        gateway.note(amount(1)).unwrap();
        probe.has_run(10 * (round as u64 + 1)).await;
        assert_eq!(gateway.refusals().total(), 0, "nothing was refused over there");
    }
    assert_eq!(sum(&counter).await, 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn who_ignores_the_window_is_refused_by_the_mailbox_and_others_are_not() {
    let (service, probe) = (listening().await, Probe::new(Gate::Open));
    let counter = service.endpoint("counter", Counter::new(probe.clone())).serves(CounterGateway::serve());
    let counter = counter.mailbox(10).create().unwrap();
    counter.start().await.unwrap();
    let sibling = unfenced(&service, "sibling", &probe).await;
    let release = block(&counter).await;
    let mut flood = Stream::open(service.local_addr().unwrap(), palisade_rpc::ENVELOPE_VERSION).await;
    for id in 1..=30 {
        flood.send(frame::Kind::Call(Call {
            id,
            endpoint: "counter".to_owned(),
            interface: CounterGateway::INTERFACE.name.to_owned(),
            method: "Add".to_owned(),
            ..Call::default()
        }));
    }
    for id in 11..=30 {
        let answer = flood.answer().await;
        let Some(answer::Result::Error(error)) = answer.result else { panic!("{answer:?}") };
        assert_eq!((answer.id, error.kind(), error.limit), (id, error::Kind::Overloaded, 10));
    }
    let caller = calling().await;
    let gateway: CounterGateway = caller.connect(&sibling.address(), Stamp::Unfenced).await.unwrap();
    gateway.add(amount(1)).await.unwrap();
    release.send(()).unwrap();
    for id in 1..=10 {
        let answer = flood.answer().await;
        assert!(matches!((answer.id, answer.result), (of, Some(answer::Result::Payload(_))) if of == id));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_heartbeat_does_not_wait_behind_work_here_remotely_and_as_plain_grpc() {
    heartbeats_pass_work(Arrived::InTheirLane).await;
}

/// How it is known that heartbeats have arrived.
#[derive(PartialEq)]
pub(crate) enum Arrived {
    InTheirLane,
    /// With the bug that queues them behind work.
    #[cfg(feature = "planted")]
    InAnyLane,
}

/// A hundred notes wait behind a step that stands still; then four heartbeats come.
pub(crate) async fn heartbeats_pass_work(arrived: Arrived) {
    let (service, probe) = (listening().await, Probe::new(Gate::Open));
    let counter = unfenced(&service, "counter", &probe).await;
    let remote: CounterGateway =
        calling().await.connect(&counter.address(), Stamp::Unfenced).await.unwrap_or_else(|e| panic!("{e}"));
    let local: CounterGateway = counter.gateway(Stamp::Unfenced);
    let release = block(&counter).await;
    for _ in 0..50 {
        remote.note(amount(1)).unwrap();
        local.note(amount(1)).unwrap();
    }
    soon("the notes have arrived", crate::until(|| counter.waiting().work == 100)).await;
    remote.beat_told(ReadRequest {}).unwrap();
    let to = service.local_addr().unwrap();
    let beats = spawn(async move {
        let path = format!("/{}/Beat", CounterGateway::INTERFACE.name);
        let plain = crate::wire::plain(to, path, tonic::metadata::MetadataMap::new());
        let (remote, local, plain) = tokio::join!(remote.beat(ReadRequest {}), local.beat(ReadRequest {}), plain);
        (remote.unwrap().sum, local.unwrap().sum, plain.unwrap())
    });
    let beats_wait = || match arrived {
        Arrived::InTheirLane => counter.waiting().control == 4,
        #[cfg(feature = "planted")]
        Arrived::InAnyLane => counter.waiting().work == 104,
    };
    soon("the beats have arrived", crate::until(beats_wait)).await;
    release.send(()).unwrap();
    soon("the beats are answered", beats).await.unwrap();
    probe.has_run(104).await;
    let log = probe.log();
    let last_beat = log.iter().rposition(|line| line.starts_with("beat")).unwrap();
    let first_note = log.iter().position(|line| line == "note").unwrap();
    assert!(last_beat < first_note, "not every beat came before the work: {log:?}");
}

#[tokio::test]
async fn thousands_in_flight_on_one_stream_are_all_answered() {
    let service = listening().await;
    let counter = service.endpoint("counter", Counter::new(Probe::new(Gate::Open))).serves(CounterGateway::serve());
    let counter = counter.mailbox(10_000).create().unwrap();
    counter.start().await.unwrap();
    let gateway: CounterGateway =
        calling().await.connect(&counter.address(), Stamp::Unfenced).await.unwrap_or_else(|e| panic!("{e}"));
    let all = (0..5000).map(|_| gateway.add(amount(1)));
    let sums = soon("all answers", futures_util::future::join_all(all)).await;
    let sums: Vec<i64> = sums.into_iter().map(|reply| reply.unwrap().sum).collect();
    assert_eq!(sums, (1..=5000).collect::<Vec<_>>());
}
