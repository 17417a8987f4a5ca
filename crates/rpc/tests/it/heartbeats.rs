//! Heartbeats: group H. In paused time; where a stream breaks, on the network in memory.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use palisade_rpc::{Gone, Heartbeat, HeartbeatPolicy, Heartbeats, LastHeard, LeaderTarget, RpcError, Stamp};
use palisade_world::World;

use crate::election::token;
use crate::memory::MemoryNet;
use crate::office::*;
use crate::proto::*;

const INTERVAL: Duration = Duration::from_millis(500);
const TIMEOUT: Duration = Duration::from_secs(5);

fn world() -> World {
    MemoryNet::default().world(1)
}

fn policy(failures: Option<u32>) -> HeartbeatPolicy {
    HeartbeatPolicy { interval: INTERVAL, timeout: TIMEOUT, failures }
}

fn watching(world: &World) -> Heartbeats<&'static str, u64> {
    Heartbeats::new(policy(Some(2)), world)
}

fn timed_out(target: &'static str) -> Heartbeat<&'static str, u64> {
    Heartbeat::Gone { target, why: Gone::TimedOut }
}

fn unreachable() -> RpcError {
    RpcError::Unreachable { why: "nobody is there".to_owned() }
}

/// What comes within so long.
async fn within(
    world: &World,
    span: Duration,
    heartbeats: &Heartbeats<&'static str, u64>,
) -> Vec<Heartbeat<&'static str, u64>> {
    let until = world.now() + span;
    let mut all = Vec::new();
    while let Some(event) = world.timeout(until.saturating_sub(world.now()), heartbeats.next()).await {
        all.push(event);
    }
    all
}

#[tokio::test(start_paused = true)]
async fn h01_a_request_of_a_watched_target_is_reported_and_may_be_answered_and_a_heartbeat_is_reported() {
    let world = world();
    let heartbeats = watching(&world);
    heartbeats.watch("a");
    assert!(heartbeats.requested(&"a", 7).is_some());
    assert_eq!(heartbeats.next().await, Heartbeat::Heard { target: "a", payload: 7 });
    assert!(heartbeats.heard(&"a", 8));
    assert_eq!(heartbeats.next().await, Heartbeat::Heard { target: "a", payload: 8 });
    assert!(heartbeats.requested(&"b", 7).is_none() && !heartbeats.heard(&"b", 7), "nobody watches it");
}

#[tokio::test(start_paused = true)]
async fn h02_h03_heartbeats_keep_a_target_and_their_end_is_told_with_its_name() {
    let world = world();
    let heartbeats = watching(&world);
    heartbeats.watch("a");
    heartbeats.watch("b");
    for payload in 0..20 {
        world.sleep(TIMEOUT - Duration::from_millis(1)).await;
        heartbeats.heard(&"a", payload);
        heartbeats.heard(&"b", payload);
        let heard = [heartbeats.next().await, heartbeats.next().await];
        assert!(heard.iter().all(|event| matches!(event, Heartbeat::Heard { .. })), "{heard:?}");
    }
    let last = world.now();
    world.sleep(TIMEOUT / 2).await;
    heartbeats.heard(&"b", 99);
    heartbeats.next().await;
    assert_eq!(heartbeats.next().await, timed_out("a"));
    assert_eq!(world.now() - last, TIMEOUT);
    assert_eq!(heartbeats.next().await, timed_out("b"));
    assert_eq!(world.now() - last, TIMEOUT / 2 * 3);
}

#[tokio::test(start_paused = true)]
pub(crate) async fn h04_sender_and_receiver_keep_each_other_and_notice_the_others_end() {
    let world = world();
    let (sender, receiver) = (watching(&world), watching(&world));
    receiver.watch("sender");
    let (side, clock, stopped) = (receiver.clone(), world.clone(), Arc::new(AtomicU64::new(0)));
    let stop = stopped.clone();
    sender.request("receiver", move |_| {
        let (side, clock, stop) = (side.clone(), clock.clone(), stop.clone());
        async move {
            if stop.load(Ordering::SeqCst) == 1 {
                clock.sleep(TIMEOUT).await;
                return Err(RpcError::TimedOut { limit: TIMEOUT });
            }
            side.requested(&"sender", 1).ok_or(RpcError::NotStarted)?.until_due(INTERVAL).await;
            Ok(2)
        }
    });
    let minute = Duration::from_secs(60);
    let (at_sender, at_receiver) = tokio::join!(within(&world, minute, &sender), within(&world, minute, &receiver));
    let keeps = |heard: &[Heartbeat<&'static str, u64>], target, payload| {
        heard.len() >= 119 && heard.iter().all(|event| *event == Heartbeat::Heard { target, payload })
    };
    assert!(keeps(&at_sender, "receiver", 2), "{at_sender:?}");
    assert!(keeps(&at_receiver, "sender", 1), "{at_receiver:?}");
    stopped.store(1, Ordering::SeqCst);
    let (at_sender, at_receiver) = tokio::join!(within(&world, minute, &sender), within(&world, minute, &receiver));
    assert_eq!(at_sender.last(), Some(&timed_out("receiver")));
    assert_eq!(at_receiver.last(), Some(&timed_out("sender")));
}

#[tokio::test(start_paused = true)]
async fn h05_of_a_target_that_is_not_watched_no_end_is_told() {
    let world = world();
    let heartbeats = watching(&world);
    heartbeats.watch("a");
    assert!(heartbeats.unwatch(&"a") && !heartbeats.unwatch(&"a"));
    heartbeats.heard(&"b", 1);
    assert_eq!(within(&world, TIMEOUT * 3, &heartbeats).await, []);
}

#[tokio::test(start_paused = true)]
async fn h06_when_a_target_was_last_heard_of_is_known() {
    let world = world();
    let heartbeats = watching(&world);
    assert_eq!(heartbeats.last_heard(&"a"), LastHeard::NotWatched);
    heartbeats.watch("a");
    assert_eq!(heartbeats.last_heard(&"a"), LastHeard::Never);
    world.sleep(INTERVAL).await;
    heartbeats.heard(&"a", 1);
    assert_eq!(heartbeats.last_heard(&"a"), LastHeard::At(INTERVAL));
}

#[tokio::test(start_paused = true)]
async fn h07_each_target_gets_the_payload_that_is_meant_for_it() {
    let world = world();
    let heartbeats = Heartbeats::<&'static str, u64>::new(policy(Some(2)), &world);
    let sent = Arc::new(Mutex::new(Vec::new()));
    for target in ["a", "b"] {
        let (sent, world) = (sent.clone(), world.clone());
        heartbeats.request(target, move |to| {
            let payload = if *to == "a" { 10 } else { 20 };
            sent.lock().unwrap().push((*to, payload));
            let world = world.clone();
            async move {
                world.sleep(INTERVAL).await;
                Ok(payload + 1)
            }
        });
    }
    let heard = [heartbeats.next().await, heartbeats.next().await];
    assert_eq!(heard, [Heartbeat::Heard { target: "a", payload: 11 }, Heartbeat::Heard { target: "b", payload: 21 }]);
    assert_eq!(sent.lock().unwrap()[..2], [("a", 10), ("b", 20)]);
    // As a receiver: who is asked knows by whom, and answers that one; what one said is not taken for what the other did.
    heartbeats.watch("c");
    heartbeats.watch("d");
    let (c, d) = (heartbeats.requested(&"c", 30), heartbeats.requested(&"d", 40));
    assert!(c.is_some() && d.is_some());
    let heard = [heartbeats.next().await, heartbeats.next().await];
    assert_eq!(heard, [Heartbeat::Heard { target: "c", payload: 30 }, Heartbeat::Heard { target: "d", payload: 40 }]);
}

/// A sender whose requests fail as `fails` says by their number; gives when the target was told gone.
async fn failing(
    failures: Option<u32>,
    fails: impl Fn(u64) -> bool + Send + Sync + 'static,
) -> Option<(Duration, u64)> {
    let world = world();
    let heartbeats = Heartbeats::<&'static str, u64>::new(policy(failures), &world);
    let (asked, clock) = (Arc::new(AtomicU64::new(0)), world.clone());
    let counted = asked.clone();
    heartbeats.request("a", move |_| {
        let fails = fails(counted.fetch_add(1, Ordering::SeqCst) + 1);
        let clock = clock.clone();
        async move {
            if fails {
                return Err(unreachable());
            }
            clock.sleep(INTERVAL).await;
            Ok(0)
        }
    });
    let told = within(&world, TIMEOUT - INTERVAL, &heartbeats).await;
    let gone = told.iter().filter(|event| matches!(event, Heartbeat::Gone { .. })).count();
    let asked_then = asked.load(Ordering::SeqCst);
    world.sleep(TIMEOUT * 3).await;
    if gone > 0 {
        let why = Gone::Unreachable { why: unreachable().to_string() };
        assert_eq!(told.last(), Some(&Heartbeat::Gone { target: "a", why }), "told once, and last");
        assert_eq!(gone, 1);
        assert_eq!(asked.load(Ordering::SeqCst), asked_then, "and asked no more");
    }
    (gone == 1).then_some((world.now(), asked_then))
}

#[tokio::test(start_paused = true)]
async fn h08_a_sender_that_cannot_reach_its_target_says_so_long_before_the_timeout() {
    assert!(failing(Some(1), |_| true).await.is_some_and(|(_, asked)| asked == 1));
    assert!(failing(Some(2), |_| true).await.is_some_and(|(_, asked)| asked == 2));
}

#[tokio::test(start_paused = true)]
async fn h09_a_receiver_counts_requests_that_were_given_up_before_they_were_answered() {
    let world = world();
    let heartbeats = Heartbeats::<&'static str, u64>::new(policy(Some(5)), &world);
    heartbeats.watch("a");
    for _ in 0..4 {
        drop(heartbeats.requested(&"a", 1));
        // A request is a sign of life, and its end is not.
        heartbeats.next().await;
        assert!(heartbeats.next().now_or_never().is_none());
    }
    // Five without a sign of life between: the way to the target breaks with five requests on it.
    let held: Vec<_> = (0..5).map(|_| heartbeats.requested(&"a", 1).unwrap()).collect();
    heartbeats.next().await;
    for (n, held) in held.into_iter().enumerate() {
        assert!(heartbeats.next().now_or_never().is_none(), "not after {n}");
        drop(held);
    }
    let Heartbeat::Gone { target: "a", why: Gone::Unreachable { why } } = heartbeats.next().await else {
        panic!("it is unreachable")
    };
    assert!(why.contains("given up"), "{why}");
}

#[tokio::test(start_paused = true)]
async fn h10_without_a_threshold_a_target_is_never_unreachable() {
    assert_eq!(failing(None, |_| true).await, None);
}

#[tokio::test(start_paused = true)]
async fn h11_a_success_between_failures_begins_the_count_anew() {
    assert_eq!(failing(Some(3), |n| n % 3 != 0).await, None, "two failures, a success, two failures, ...");
    assert!(failing(Some(3), |n| n > 3).await.is_some());
}

#[tokio::test(start_paused = true)]
async fn h12_twice_is_once_and_after_the_end_nothing_is_told_again() {
    let world = world();
    let heartbeats = watching(&world);
    heartbeats.watch("a");
    world.sleep(TIMEOUT / 2).await;
    heartbeats.watch("a");
    assert_eq!(heartbeats.next().await, timed_out("a"));
    assert_eq!(world.now(), TIMEOUT, "watching again did not put it off");
    assert!(!heartbeats.heard(&"a", 1), "it is gone until it is watched anew");
    assert_eq!(within(&world, TIMEOUT * 3, &heartbeats).await, []);
    heartbeats.unwatch(&"a");
    heartbeats.watch("a");
    // An end that was not taken yet when the watch ended is not told.
    world.sleep(TIMEOUT * 2).await;
    heartbeats.unwatch(&"a");
    assert_eq!(within(&world, TIMEOUT * 3, &heartbeats).await, []);
    heartbeats.watch("a");
    heartbeats.stop();
    heartbeats.watch("b");
    assert!(!heartbeats.heard(&"a", 1) && heartbeats.requested(&"b", 1).is_none());
    assert_eq!(within(&world, TIMEOUT * 3, &heartbeats).await, []);
}

/// A worker's heartbeats to a leader over a stream.
async fn over_a_stream(net: &MemoryNet, leader: &Leads, failures: u32) -> (World, Heartbeats<&'static str, u64>) {
    let (service, world) = worker(net).await;
    let address = format!("{}/office", leader.node()).parse().unwrap();
    let target = LeaderTarget { cluster: CLUSTER, election: ELECTION.to_owned(), token: token(1), address };
    let gateway: OfficeGateway = service.connect(&target.address, target.stamp()).await.unwrap();
    let gateway = gateway.within(TIMEOUT);
    let heartbeats = Heartbeats::new(policy(Some(failures)), &world);
    heartbeats.request("leader", move |_| {
        let (gateway, _keeps) = (gateway.clone(), service.clone());
        let answer_after_ms = INTERVAL.as_millis() as u64;
        async move {
            let request = BeatRequest { payload: 1, answer_after_ms, ..BeatRequest::default() };
            gateway.beat(request).await.map(|reply| reply.payload)
        }
    });
    assert_eq!(heartbeats.next().await, Heartbeat::Heard { target: "leader", payload: 2 });
    (world, heartbeats)
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_breaks_makes_its_target_unreachable_at_once() {
    let net = MemoryNet::default();
    let leader = Leads::new(&net, 1, &[]).await;
    let (world, heartbeats) = over_a_stream(&net, &leader, 2).await;
    world.sleep(INTERVAL / 4).await;
    let began = world.now();
    net.end(&leader.node());
    let gone = loop {
        if let Heartbeat::Gone { why, .. } = heartbeats.next().await {
            break why;
        }
    };
    assert!(matches!(gone, Gone::Unreachable { .. }), "{gone:?}");
    assert!(
        world.now() - began < Duration::from_millis(5),
        "the interval is {INTERVAL:?}, it took {:?}",
        world.now() - began
    );
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_was_only_reset_is_made_again_and_nobody_is_given_up() {
    let net = MemoryNet::default();
    let leader = Leads::new(&net, 1, &[]).await;
    let (world, heartbeats) = over_a_stream(&net, &leader, 2).await;
    for _ in 0..10 {
        net.cut(&leader.node());
        world.sleep(INTERVAL * 2).await;
        assert!(matches!(heartbeats.next().await, Heartbeat::Heard { .. }));
    }
}

#[tokio::test(start_paused = true)]
async fn a_target_that_hangs_is_given_up_at_the_timeout() {
    let net = MemoryNet::default();
    let leader = Leads::new(&net, 1, &[]).await;
    let (service, world) = worker(&net).await;
    let address = format!("{}/office", leader.node()).parse().unwrap();
    let stamp = Stamp::fixed(CLUSTER, ELECTION, token(1));
    let gateway = service.connect::<OfficeGateway>(&address, stamp).await.unwrap().within(TIMEOUT);
    let heartbeats = Heartbeats::<&'static str, u64>::new(policy(Some(1)), &world);
    heartbeats.request("leader", move |_| {
        let gateway = gateway.clone();
        async move {
            let request = BeatRequest { answer_after_ms: 3_600_000, ..BeatRequest::default() };
            gateway.beat(request).await.map(|reply| reply.payload)
        }
    });
    assert_eq!(heartbeats.next().await, timed_out("leader"));
    assert_eq!(world.now(), TIMEOUT, "its stream is whole: only its silence tells");
}
