//! The gateway of whoever leads: group G, the retriever. In paused time, on the network in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use palisade_rpc::{AskLeaderError, Found, LeaderRetriever, LeaderTarget, RpcError, if_idempotent, if_not_handled};

use crate::election::token;
use crate::memory::{Door, MemoryNet};
use crate::office::*;
use crate::proto::*;

/// A wait that only a bug makes longer.
const LIMIT: Duration = Duration::from_secs(30);

fn beat() -> BeatRequest {
    BeatRequest { payload: 7, ..BeatRequest::default() }
}

fn beat_for(ms: u64) -> BeatRequest {
    BeatRequest { answer_after_ms: ms, ..beat() }
}

#[tokio::test(start_paused = true)]
pub(crate) async fn g01_a_retriever_waits_for_a_leader_and_then_follows_from_one_to_the_next() {
    let (net, offices) = (MemoryNet::default(), Offices::new());
    let (service, world) = worker(&net).await;
    let retriever = LeaderRetriever::<OfficeGateway>::start(&service, offices.clone(), COMPONENT, &world);
    assert!(retriever.gateway().now_or_never().is_none());
    let (one, two) = (Leads::new(&net, 1, &[]).await, Leads::new(&net, 2, &[]).await);
    offices.elect(one.token);
    world.sleep(LIMIT).await;
    assert!(retriever.current().is_none(), "elected, and nobody knows where");
    offices.proclaim(&one);
    let led = retriever.gateway().await;
    assert_eq!((led.target.token, led.target.address.node()), (token(1), &*one.node()));
    led.gateway.beat(beat()).await.unwrap();

    offices.vacate();
    world.sleep(LIMIT).await;
    assert!(matches!(retriever.found(), Found::Nobody), "{retriever:?}");
    offices.proclaim(&two);
    let next = retriever.other_than(&led.target).await;
    assert_eq!(next.target.token, token(2));
    next.gateway.beat(beat()).await.unwrap();
    // A view of an older leadership that comes late, under whatever number.
    offices.proclaim(&one);
    world.sleep(LIMIT).await;
    assert_eq!(retriever.current().unwrap().target.token, token(2), "it never goes back");
}

#[tokio::test(start_paused = true)]
async fn g02_a_connection_that_failed_is_tried_again_at_once_when_somebody_asks() {
    let (net, offices) = (MemoryNet::default(), Offices::new());
    let (service, world) = worker(&net).await;
    let leader = Leads::new(&net, 1, &[]).await;
    net.door(&leader.node(), Door::Refuses);
    let retriever = LeaderRetriever::<OfficeGateway>::start(&service, offices.clone(), COMPONENT, &world);
    offices.proclaim(&leader);
    // By itself it comes back with growing pauses, of a second at most.
    world.sleep(Duration::from_secs(20)).await;
    assert!(matches!(retriever.found(), Found::Connecting { why: Some(_), .. }), "{retriever:?}");
    let attempts = net.attempts(&leader.node());
    assert!((20..40).contains(&attempts), "{attempts} attempts in 20 s");
    net.door(&leader.node(), Door::Open);
    let asked = world.now();
    retriever.gateway().await;
    let waited = world.now() - asked;
    assert!(waited < Duration::from_millis(100), "it waited {waited:?}, for its pause instead of the request");
}

#[tokio::test(start_paused = true)]
async fn g04_an_address_that_is_none_is_an_error_by_name_and_the_next_one_is_taken() {
    let (net, offices) = (MemoryNet::default(), Offices::new());
    let (service, world) = worker(&net).await;
    let leader = Leads::new(&net, 2, &[]).await;
    let retriever = LeaderRetriever::<OfficeGateway>::start(&service, offices.clone(), COMPONENT, &world);
    offices.proclaim_at(token(1), "nowhere");
    let view = palisade_fence::LeaderSource::latest(&*offices).unwrap();
    let bad = LeaderTarget::of(&view, ELECTION, COMPONENT).unwrap_err();
    assert!(bad.to_string().contains("'nowhere'"), "{bad}");
    world.sleep(LIMIT).await;
    assert!(retriever.current().is_none());
    offices.proclaim(&leader);
    assert_eq!(retriever.gateway().await.target.token, token(2));
}

#[tokio::test(start_paused = true)]
async fn asking_the_leader_goes_on_at_the_next_one_as_soon_as_there_is_one() {
    let (net, offices) = (MemoryNet::default(), Offices::new());
    let (service, world) = worker(&net).await;
    let (one, two) = (Leads::new(&net, 1, &[]).await, Leads::new(&net, 2, &[]).await);
    let retriever = LeaderRetriever::<OfficeGateway>::start(&service, offices.clone(), COMPONENT, &world);
    offices.proclaim(&one);
    let asks = Arc::new(AtomicU64::new(0));
    let counted = asks.clone();
    // The first leader would answer after an hour; a request that may be repeated does not wait for that.
    let asked = retriever.ask(
        LIMIT,
        move |gateway| {
            let hold = if counted.fetch_add(1, Ordering::SeqCst) == 0 { 3_600_000 } else { 0 };
            async move { gateway.within(LIMIT).beat(beat_for(hold)).await }
        },
        if_idempotent,
    );
    let replaced = async {
        world.sleep(Duration::from_secs(1)).await;
        offices.proclaim(&two);
        world.now()
    };
    let (asked, replaced) = tokio::join!(asked, replaced);
    assert_eq!(asked.unwrap().payload, 8);
    assert!(world.now() - replaced < Duration::from_millis(50));
    assert_eq!(asks.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_must_not_be_repeated_is_asked_again_only_if_it_surely_was_not_handled() {
    let (net, offices) = (MemoryNet::default(), Offices::new());
    let (service, world) = worker(&net).await;
    let leader = Leads::new(&net, 1, &[]).await;
    let retriever = LeaderRetriever::<OfficeGateway>::start(&service, offices.clone(), COMPONENT, &world);
    offices.proclaim(&leader);
    retriever.gateway().await;
    // Not sent: nobody is there for a while.
    net.cut(&leader.node());
    net.door(&leader.node(), Door::Refuses);
    world.sleep(Duration::from_millis(10)).await; // the break is known
    let opened = async {
        world.sleep(Duration::from_secs(2)).await;
        net.door(&leader.node(), Door::Open);
    };
    let call = |gateway: OfficeGateway| async move { gateway.beat(beat()).await };
    let (asked, ()) = tokio::join!(retriever.ask(LIMIT, call, if_not_handled), opened);
    assert_eq!(asked.unwrap().payload, 8);
    assert_eq!(leader.desk.beats.lock().unwrap().len(), 1);

    // Sent, and the connection breaks: unknown, and it stays so.
    let cut = async {
        world.sleep(Duration::from_secs(1)).await;
        net.cut(&leader.node());
    };
    let call = |gateway: OfficeGateway| async move { gateway.within(LIMIT).beat(beat_for(10_000)).await };
    let (asked, ()) = tokio::join!(retriever.ask(LIMIT, call, if_not_handled), cut);
    assert!(matches!(asked, Err(AskLeaderError::Answered(RpcError::Disconnected { .. }))), "{asked:?}");
    assert_eq!(leader.desk.beats.lock().unwrap().len(), 2, "it was sent once");
}

#[tokio::test(start_paused = true)]
async fn without_a_leader_asking_ends_at_its_limit_and_says_what_was_tried() {
    let (net, offices) = (MemoryNet::default(), Offices::new());
    let (service, world) = worker(&net).await;
    let retriever = LeaderRetriever::<OfficeGateway>::start(&service, offices.clone(), COMPONENT, &world);
    let call = |gateway: OfficeGateway| async move { gateway.beat(beat()).await };
    let asked = retriever.ask(LIMIT, call, if_not_handled).await.unwrap_err();
    assert_eq!(asked, AskLeaderError::Nobody { limit: LIMIT, why: "nobody leads".to_owned() });
    assert_eq!(world.now().as_secs(), LIMIT.as_secs());
    offices.proclaim_at(token(1), "127.0.0.1:9/office");
    let asked = retriever.ask(LIMIT, call, if_not_handled).await.unwrap_err();
    assert!(asked.to_string().contains("127.0.0.1:9"), "{asked}");
}
