//! What runs on an endpoint's main thread besides messages: steps, delayed steps, steps with a value. Nothing else touches the
//! state, and nothing of one incarnation reaches the next.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use palisade_rpc::{Answer, Context, EndpointHandle, Life, RpcError, RpcServiceConfig, Stamp};

use crate::counter::*;
use crate::election::Election;
use crate::proto::*;
use crate::{SOON, soon, spawn};

#[tokio::test(start_paused = true)]
#[allow(clippy::disallowed_methods)] // tokio's own clock is the one that is paused
async fn a23_a33_timers_run_after_their_delay_unless_cancelled() {
    let service = start(RpcServiceConfig::local()).await;
    let probe = Probe::new(Gate::Open);
    let counter = unfenced(&service, "counter", &probe).await;
    let times = Arc::new(Mutex::new(Vec::new()));
    let begun = tokio::time::Instant::now();
    let (noted, ticks) = (times.clone(), times.clone());
    counter
        .run_async(move |_, cx| {
            cx.schedule(Duration::from_secs(2), move |_, _| noted.lock().unwrap().push(("once", begun.elapsed())));
            cx.schedule(Duration::from_secs(1), |_, _| panic!("cancelled")).cancel();
            let mut left = 3;
            let timer = Arc::new(Mutex::new(None::<palisade_rpc::Timer>));
            let own = timer.clone();
            *timer.lock().unwrap() = Some(cx.every_own(Duration::from_millis(900), move |_, _| {
                ticks.lock().unwrap().push(("tick", begun.elapsed()));
                left -= 1;
                if left == 0 {
                    own.lock().unwrap().as_ref().unwrap().cancel();
                }
            }));
        })
        .unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    let seen: Vec<(&str, u64)> =
        times.lock().unwrap().iter().map(|(what, at)| (*what, at.as_millis() as u64 / 100)).collect();
    assert_eq!(seen, [("tick", 9), ("tick", 18), ("once", 20), ("tick", 27)]);
}

#[tokio::test]
async fn a29_steps_never_overlap() {
    let (service, probe) = (listening().await, Probe::new(Gate::Open));
    let counter = unfenced(&service, "counter", &probe).await;
    let gateway: CounterGateway = counter.gateway(Stamp::Unfenced);
    let inside = Arc::new(std::sync::atomic::AtomicBool::new(false));
    for _ in 0..1000 {
        let inside = inside.clone();
        let step = move |_: &mut Counter, _: &mut palisade_rpc::Context<Counter>| {
            assert!(!inside.swap(true, std::sync::atomic::Ordering::SeqCst));
            std::hint::black_box(());
            inside.store(false, std::sync::atomic::Ordering::SeqCst);
        };
        while counter.run_async(step.clone()).is_err() {
            tokio::task::yield_now().await;
        }
        gateway.add(amount(1)).await.unwrap();
    }
    assert_eq!(sum(&counter).await, 1000);
}

#[tokio::test]
async fn a10_a13_on_stop_schedules_own_work_and_waits_for_it() {
    struct Slow(Arc<Mutex<Vec<&'static str>>>);
    impl palisade_rpc::RpcEndpoint for Slow {
        fn on_stop(&mut self, cx: &mut Context<Self>) -> Answer<()> {
            // The state at hand: it is the main thread.
            self.0.lock().unwrap().push("on_stop");
            let (handle, (done, waited)) = (cx.handle(), tokio::sync::oneshot::channel());
            let work = move |state: &mut Slow, _: &mut Context<Slow>| {
                state.0.lock().unwrap().push("work");
                done.send(()).unwrap();
            };
            cx.when_own(std::future::ready(()), move |_, _, ()| handle.run_async(work).unwrap());
            cx.then(waited, |state, _, _| {
                state.0.lock().unwrap().push("stopped");
                Answer::ready(())
            })
        }
    }
    let (service, election) = (listening().await, Election::granted(5));
    for fenced in [false, true] {
        let log = Arc::new(Mutex::new(Vec::new()));
        let slow = service.endpoint("slow", Slow(log.clone()));
        let slow = if fenced { slow.leads(seat(5, &election)) } else { slow }.create().unwrap();
        slow.start().await.unwrap();
        slow.stop();
        soon("the end", slow.terminated()).await.unwrap();
        assert_eq!(*log.lock().unwrap(), ["on_stop", "work", "stopped"]);
    }
}

#[tokio::test]
async fn a27_a28_a_step_with_a_value_runs_on_the_main_thread_and_gives_it() {
    let service = start(RpcServiceConfig::local()).await;
    let counter = unfenced(&service, "counter", &Probe::new(Gate::Open)).await;
    let set = |counter: &mut Counter, _: &mut Context<Counter>| std::mem::replace(&mut counter.sum, 5);
    assert_eq!(counter.call_async(SOON, set).await, Ok(0));
    assert_eq!(counter.call_async(SOON, |counter, _| counter.sum).await, Ok(5));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a28_a_step_that_comes_too_late_is_timed_out_and_still_taken() {
    let service = listening().await;
    let counter = unfenced(&service, "counter", &Probe::new(Gate::Open)).await;
    let release = block(&counter).await;
    let limit = Duration::from_millis(20);
    let late = counter.call_async(limit, |counter, _| counter.sum += 1).await;
    assert_eq!(late, Err(RpcError::TimedOut { limit }));
    release.send(()).unwrap();
    assert_eq!(counter.call_async(SOON, |counter, _| counter.sum).await, Ok(1));
}

/// Notes an overlap if there ever is one.
#[derive(Clone, Default)]
struct Alone(Arc<AtomicBool>);

impl Alone {
    fn step(&self, counter: &mut Counter) {
        assert!(!self.0.swap(true, Ordering::SeqCst), "two steps at once");
        counter.sum += 1;
        self.0.store(false, Ordering::SeqCst);
    }
}

/// Ten thousand steps of four kinds from several tasks.
async fn crowd(counter: EndpointHandle<Counter>, gateway: CounterGateway) -> i64 {
    let alone = Alone::default();
    let tasks = (0..4).map(|_| {
        let (counter, gateway, alone) = (counter.clone(), gateway.clone(), alone.clone());
        spawn(async move {
            for turn in 0..2500 {
                let (step, delayed) = (alone.clone(), alone.clone());
                let queued = match turn % 4 {
                    0 => counter.run_async(move |counter, _| step.step(counter)),
                    1 => counter.call_async(SOON, move |counter, _| step.step(counter)).await,
                    2 => gateway.add(amount(1)).await.map(drop),
                    _ => {
                        let due = Duration::from_micros(turn % 7 * 100);
                        counter.schedule_run_async(due, move |counter, _| delayed.step(counter)).map(drop)
                    }
                };
                queued.unwrap();
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    soon("all delayed steps", async {
        loop {
            let sum = sum(&counter).await;
            if sum == 10_000 {
                return sum;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a29_a30_ten_thousand_steps_of_all_kinds_never_overlap_fenced_or_not() {
    let (service, election) = (listening().await, Election::granted(5));
    let open = unfenced(&service, "open", &Probe::new(Gate::Open)).await;
    assert_eq!(crowd(open.clone(), open.self_gateway().unwrap()).await, 10_000);
    let leads = leader(&service, 5, &election, &Probe::new(Gate::Open)).await;
    assert_eq!(crowd(leads.clone(), leads.self_gateway().unwrap()).await, 10_000);
}

#[tokio::test(start_paused = true)]
#[allow(clippy::disallowed_methods)] // tokio's own clock is the one that is paused
async fn a30_a33_b01_a_step_from_outside_waits_for_its_time_and_can_be_cancelled() {
    let service = start(RpcServiceConfig::local()).await;
    let counter = unfenced(&service, "counter", &Probe::new(Gate::Open)).await;
    let begun = tokio::time::Instant::now();
    let (ran, at) = tokio::sync::oneshot::channel();
    counter.schedule_run_async(Duration::from_millis(10), move |_, _| ran.send(begun.elapsed()).unwrap()).unwrap();
    assert!(at.await.unwrap() >= Duration::from_millis(10));
    let held = Arc::new(());
    let kept = held.clone();
    let never = counter.schedule_run_async(Duration::from_secs(3600), move |_, _| {
        let _kept = kept;
        panic!("cancelled");
    });
    never.unwrap().cancel();
    soon("what its step holds is let go at once", crate::until(|| Arc::strong_count(&held) == 1)).await;
    assert!(begun.elapsed() < Duration::from_secs(60), "not at its hour");
    assert_eq!(counter.life(), Life::Started);
}

#[tokio::test(start_paused = true)]
#[allow(clippy::disallowed_methods)] // tokio's own clock is the one that is paused
async fn a32_after_the_end_steps_are_refused_and_delayed_ones_of_the_old_incarnation_never_run() {
    let service = start(RpcServiceConfig::local()).await;
    let old = unfenced(&service, "counter", &Probe::new(Gate::Open)).await;
    let held = Arc::new(());
    let kept = held.clone();
    let timer = old.schedule_run_async(Duration::from_secs(5), move |counter, _| {
        let _kept = kept;
        counter.sum += 100;
    });
    old.stop();
    old.terminated().await.unwrap();
    assert_eq!(Arc::strong_count(&held), 1, "dropped with the incarnation");
    let gone = Err(RpcError::NoSuchEndpoint { endpoint: "counter".to_owned() });
    assert_eq!(old.run_async(|_, _| panic!("it is gone")), gone);
    assert_eq!(old.call_async(SOON, |_, _| ()).await, gone);
    assert_eq!(old.schedule_run_async(Duration::ZERO, |_, _| panic!("it is gone")).map(drop), gone);
    let new = unfenced(&service, "counter", &Probe::new(Gate::Open)).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    timer.unwrap().cancel(); // nothing left to cancel
    assert_eq!(sum(&new).await, 0);
    let gateway: CounterGateway = new.gateway(Stamp::Unfenced);
    assert_eq!(gateway.add(amount(1)).await.unwrap().sum, 1);
}

#[tokio::test]
async fn before_the_start_own_steps_are_refused_too() {
    let service = listening().await;
    let counter = service.endpoint("counter", Counter::new(Probe::new(Gate::Open))).create().unwrap();
    assert_eq!(counter.run_async(|_, _| panic!("not started")), Err(RpcError::NotStarted));
    assert_eq!(counter.call_async(SOON, |_, _| ()).await, Err(RpcError::NotStarted));
}
