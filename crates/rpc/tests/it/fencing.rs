//! A check is worth only as much as the step behind it: messages that waited, steps that awaited, tells that nobody waits for.

use std::sync::Arc;
use std::sync::mpsc as blocking;

use futures_util::FutureExt;
use palisade_rpc::{AnswerKind, Life, Outcome, RpcError, Stamp};

use crate::counter::*;
use crate::election::{CLUSTER, Disk, ELECTION, Election, token};
use crate::proto::*;
use crate::{soon, spawn};

/// What became of a tell and an ask under the fifth token that waited in the mailbox while the sixth was accepted.
#[derive(Debug)]
pub(crate) struct Waited {
    pub(crate) sum: i64,
    pub(crate) ask: Result<AddReply, RpcError>,
    pub(crate) stale: u64,
    pub(crate) refused_tells: u64,
}

/// A step blocks the mailbox; a tell and an ask arrive behind it, each admitted; the guard rises; the step ends.
pub(crate) async fn waited_while_the_guard_rose() -> Waited {
    let service = listening().await;
    let (election, probe) = (Election::granted(5), Probe::new(Gate::Open));
    let guards = guards(&election, Some(&Disk::with(5)));
    let counter = worker(&service, &guards, &probe).await;
    let caller = calling().await;
    let gateway: CounterGateway = caller.connect(&counter.address(), stamp(5)).await.unwrap();

    let (entered, begun) = tokio::sync::oneshot::channel();
    let (release, released) = blocking::channel::<()>();
    counter
        .run_async(move |_, _| {
            entered.send(()).unwrap();
            released.recv().unwrap();
        })
        .unwrap();
    soon("the step that blocks the mailbox", begun).await.unwrap();

    gateway.note(amount(1)).unwrap();
    let asking = gateway.add(amount(2));
    tokio::pin!(asking);
    assert!((&mut asking).now_or_never().is_none(), "it waits behind the step");
    // A handshake on the same stream is answered at arrival: the two messages before it have arrived, and were admitted.
    let _: CounterGateway = caller.connect(&counter.address(), stamp(5)).await.unwrap();
    assert_eq!(service.counters().of("counter", AnswerKind::Stale), 0);

    election.grant(6);
    election.announce();
    soon("the guard rises with the stream", guards.raised_to(ELECTION, token(6))).await;
    release.send(()).unwrap();
    let ask = soon("an answer", asking).await;
    let sum = sum(&counter).await;
    if sum == 0 {
        let refusal = soon("the refused tell is reported", gateway.refusals().next()).await;
        assert_eq!(refusal.method, "Note");
        assert!(matches!(refusal.error, RpcError::Stale { current: Some(six), .. } if six == token(6)), "{refusal:?}");
    }
    let stale = service.counters().of("counter", AnswerKind::Stale);
    Waited { sum, ask, stale, refused_tells: gateway.refusals().total() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn d10_d13_stale_messages_that_were_queued_before_the_change_are_refused_and_the_tell_is_reported() {
    let waited = waited_while_the_guard_rose().await;
    assert_eq!(waited.sum, 0, "neither took effect: {waited:?}");
    let stale = RpcError::Stale { current: Some(token(6)), leader: Some("leader-6:1".to_owned()) };
    assert_eq!(waited.ask, Err(stale));
    assert_eq!((waited.stale, waited.refused_tells), (2, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_queued_call_to_a_leader_is_refused_once_its_fence_is_closed() {
    let (service, election, probe) = (listening().await, Election::granted(5), Probe::new(Gate::Open));
    let counter = leader(&service, 5, &election, &probe).await;
    let gateway: CounterGateway = counter.gateway(stamp(5));
    let (entered, begun) = tokio::sync::oneshot::channel();
    let (release, released) = blocking::channel::<()>();
    counter
        .run_async(move |_, _| {
            entered.send(()).unwrap();
            released.recv().unwrap();
        })
        .unwrap();
    soon("the step that blocks the mailbox", begun).await.unwrap();
    gateway.note(amount(1)).unwrap();
    counter.close_fence();
    release.send(()).unwrap();
    let refusal = soon("the refused tell is reported", gateway.refusals().next()).await;
    assert!(matches!(refusal.error, RpcError::NotLeader { .. }), "{refusal:?}");
    assert_eq!(sum(&counter).await, 0);
}

#[tokio::test]
pub(crate) async fn d08_a_continuation_that_began_under_the_old_token_does_not_resume_under_the_new_one() {
    let (service, election, probe) = (listening().await, Election::granted(5), Probe::new(Gate::Shut));
    let guards = guards(&election, Some(&Disk::with(5)));
    let counter = worker(&service, &guards, &probe).await;
    let (old, new) = (calling().await, calling().await);
    let old: CounterGateway = old.connect(&counter.address(), stamp(5)).await.unwrap();
    let begun = spawn({
        let old = old.clone();
        async move { old.add_later(amount(1)).await }
    });
    probe.has_run(1).await;

    // The first call of the new leader: confirmed by a read, since the stream is silent.
    election.grant(6);
    let new: CounterGateway = new.connect(&counter.address(), stamp(6)).await.unwrap();
    assert_eq!(new.add(amount(10)).await.unwrap().sum, 10);
    assert_eq!(
        probe.log(),
        ["on_start", "add_later", "add_later dropped", "add"],
        "dropped before the first message ran"
    );
    probe.gate.send_replace(Gate::Open);

    let superseded = soon("the old caller is told", begun).await.unwrap().unwrap_err();
    assert!(matches!(superseded, RpcError::Superseded { current: Some(six), .. } if six == token(6)), "{superseded:?}");
    assert_eq!(superseded.outcome(), Outcome::Unknown, "it had begun");
    assert_eq!(new.read(ReadRequest {}).await.unwrap().sum, 10);
    assert_eq!(service.counters().of("counter", AnswerKind::Superseded), 1);
}

#[tokio::test]
async fn d09_d14_timers_and_queued_steps_of_a_lower_token_are_dropped_and_own_ones_are_not() {
    let (service, election, probe) = (listening().await, Election::granted(5), Probe::new(Gate::Shut));
    let guards = guards(&election, Some(&Disk::with(5)));
    let counter = worker(&service, &guards, &probe).await;
    let gate = probe.gate.clone();
    let (own, mut own_gate) = (probe.clone(), gate.subscribe());
    let gateway: CounterGateway = counter.gateway(stamp(5));
    // Leaves a step behind that waits for the gate, under the guard of the call.
    let asked = spawn(async move { gateway.add_later(amount(1)).await });
    probe.has_run(1).await;
    counter
        .run_async(move |_, cx| {
            assert_eq!(cx.token(), None);
            cx.when_own(
                async move { own_gate.wait_for(|gate| *gate == Gate::Open).await.map(|_| ()) },
                move |_, _, _| {
                    own.note("own step");
                },
            );
        })
        .unwrap();
    election.grant(6);
    election.announce();
    let superseded = soon("the caller is told at once, without a message under the new token", asked).await.unwrap();
    assert!(matches!(superseded, Err(RpcError::Superseded { .. })), "{superseded:?}");
    gate.send_replace(Gate::Open);
    let new: CounterGateway = counter.gateway(stamp(6));
    new.read(ReadRequest {}).await.unwrap();
    let mut seen = probe.log();
    while !seen.contains(&"own step".to_owned()) {
        new.read(ReadRequest {}).await.unwrap();
        seen = probe.log();
    }
    let of_five = ["add_later resumed", "leftover of add_later"];
    assert!(!of_five.iter().any(|line| seen.contains(&(*line).to_owned())), "{seen:?}");
    assert_eq!(sum(&counter).await, 0);
}

#[tokio::test]
async fn fencing_by_knowledge_a_delayed_packet_is_refused_before_the_successor_has_called() {
    let (service, election, probe) = (listening().await, Election::granted(5), Probe::new(Gate::Open));
    let guards = guards(&election, Some(&Disk::with(5)));
    let counter = worker(&service, &guards, &probe).await;
    let gateway: CounterGateway =
        calling().await.connect(&counter.address(), stamp(5)).await.unwrap_or_else(|e| panic!("{e}"));
    election.grant(6);
    election.announce();
    soon("the guard rises with the stream", guards.raised_to(ELECTION, token(6))).await;
    assert!(matches!(gateway.add(amount(1)).await, Err(RpcError::Stale { .. })));
    assert_eq!(probe.ran(), 0);
}

#[tokio::test]
async fn d01_d02_connecting_is_no_matter_of_tokens_and_calling_is() {
    let (service, election, probe) = (listening().await, Election::granted(5), Probe::new(Gate::Open));
    let counter = leader(&service, 5, &election, &probe).await;
    for (n, expected) in [(5, "ran"), (4, "stale"), (6, "ahead")] {
        let gateway: CounterGateway =
            calling().await.connect(&counter.address(), stamp(n)).await.unwrap_or_else(|e| panic!("{e}"));
        let answered = match gateway.add(amount(1)).await {
            Ok(_) => "ran",
            Err(RpcError::Stale { current: Some(five), .. }) if five == token(5) => "stale",
            Err(RpcError::Ahead { current: Some(five), .. }) if five == token(5) => "ahead",
            Err(other) => panic!("{other}"),
        };
        assert_eq!(answered, expected);
    }
    assert_eq!(sum(&counter).await, 1);
}

#[tokio::test]
async fn d03_a_gateway_without_a_token_says_so_and_is_refused_where_one_is_needed() {
    let (service, election, probe) = (listening().await, Election::granted(5), Probe::new(Gate::Open));
    let counter = leader(&service, 5, &election, &probe).await;
    let gateway: CounterGateway =
        calling().await.connect(&counter.address(), Stamp::Unfenced).await.unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(palisade_rpc::RpcGateway::raw(&gateway).token(), None);
    assert!(matches!(gateway.add(amount(1)).await, Err(RpcError::NoToken(_))));
    // And a sender that believes in a fence is not served by an endpoint that has none.
    let open = unfenced(&service, "open", &probe).await;
    let fenced: CounterGateway = open.gateway(stamp(5));
    assert!(matches!(fenced.add(amount(1)).await, Err(RpcError::NotLeader { .. })));
}

#[tokio::test]
async fn d11_a_process_that_does_not_lead_refuses_every_token_and_says_who_does() {
    let (service, election) = (listening().await, Election::granted(5));
    election.announce();
    service.declare::<CounterGateway>("counter", Some(election.clone()));
    let address = format!("{}/counter", service.node()).parse().unwrap();
    for n in 4..=6 {
        let gateway: CounterGateway =
            calling().await.connect(&address, stamp(n)).await.unwrap_or_else(|e| panic!("{e}"));
        let known = RpcError::NotLeader { current: Some(token(5)), leader: Some("leader-5:1".to_owned()) };
        assert_eq!(gateway.add(amount(1)).await, Err(known));
    }
}

#[tokio::test]
async fn a_gateway_never_goes_back_to_a_lower_token() {
    let (service, election, probe) = (listening().await, Election::granted(6), Probe::new(Gate::Open));
    let counter = leader(&service, 6, &election, &probe).await;
    let caller = calling().await;
    let old: CounterGateway = caller.connect(&counter.address(), stamp(5)).await.unwrap();
    let new: CounterGateway = caller.connect(&counter.address(), stamp(6)).await.unwrap();
    new.add(amount(1)).await.unwrap();
    let before = service.counters().total(AnswerKind::Stale);
    assert!(matches!(old.add(amount(1)).await, Err(RpcError::Stale { .. })));
    assert!(matches!(old.note(amount(1)), Err(RpcError::Stale { .. })));
    assert_eq!(service.counters().total(AnswerKind::Stale), before, "it was not even sent");
    let refused = caller.connect::<CounterGateway>(&counter.address(), stamp(5)).await.unwrap_err();
    assert!(matches!(refused, palisade_rpc::ConnectError::Stale { .. }), "{refused}");
}

#[tokio::test]
async fn a_gateway_under_its_own_token_follows_its_source_and_sends_nothing_without_one() {
    struct Leads(std::sync::Mutex<Option<palisade_fence::Token>>);
    impl palisade_fence::TokenSource for Leads {
        fn token(&self) -> Option<palisade_fence::Token> {
            *self.0.lock().unwrap()
        }
    }
    let (service, election, probe) = (listening().await, Election::granted(5), Probe::new(Gate::Open));
    let guards = guards(&election, None);
    let counter = worker(&service, &guards, &probe).await;
    let leads = Arc::new(Leads(std::sync::Mutex::new(None)));
    let own = Stamp::own(CLUSTER, ELECTION, leads.clone());
    let gateway: CounterGateway =
        calling().await.connect(&counter.address(), own).await.unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(gateway.add(amount(1)).await, Err(RpcError::NotLeading));
    *leads.0.lock().unwrap() = Some(token(5));
    assert_eq!(gateway.add(amount(1)).await.unwrap().sum, 1);
}

#[tokio::test]
async fn d06_d07_a_new_leadership_is_a_new_endpoint_and_nothing_of_the_old_one_reaches_it() {
    let (service, election, probe) = (listening().await, Election::granted(5), Probe::new(Gate::Shut));
    service.declare::<CounterGateway>("counter", Some(election.clone()));
    let first = leader(&service, 5, &election, &probe).await;
    let caller = calling().await;
    let gateway: CounterGateway = caller.connect(&first.address(), stamp(5)).await.unwrap();
    let begun = spawn({
        let gateway = gateway.clone();
        async move { gateway.add_later(amount(1)).await }
    });
    probe.has_run(1).await;
    first.stop();
    first.terminated().await.unwrap();
    assert_eq!(begun.await.unwrap(), Err(RpcError::EndpointGone));
    // Between two leaderships the process answers for itself.
    assert!(matches!(gateway.add(amount(1)).await, Err(RpcError::NotLeader { .. })));

    election.grant(6);
    let second = leader(&service, 6, &election, &Probe::new(Gate::Open)).await;
    assert_eq!(second.address(), first.address());
    assert_eq!(first.life(), Life::Terminated);
    assert!(matches!(gateway.add(amount(1)).await, Err(RpcError::Stale { .. })));
    probe.gate.send_replace(Gate::Open);
    assert_eq!(sum(&second).await, 0);
}

#[tokio::test]
async fn a13_while_on_stop_is_pending_a_leader_serves_only_its_own_work() {
    let (service, election, probe) = (listening().await, Election::granted(5), Probe::new(Gate::Shut));
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let state = Counter { stop: Some(stopped), ..Counter::new(probe.clone()) };
    let counter =
        service.endpoint("counter", state).serves(CounterGateway::serve()).leads(seat(5, &election)).create().unwrap();
    counter.start().await.unwrap();
    let gateway: CounterGateway = counter.gateway(stamp(5));
    let in_flight = spawn({
        let gateway = gateway.clone();
        async move { gateway.add_later(amount(1)).await }
    });
    probe.has_run(1).await;
    counter.stop();
    // Its own work is served, and sees that it ends; the fence was closed first.
    while counter.life() != Life::Terminating {
        tokio::task::yield_now().await;
    }
    assert!(!counter.call_async(crate::SOON, |_, cx| cx.is_running()).await.unwrap());
    assert!(matches!(gateway.add(amount(1)).await, Err(RpcError::NotLeader { .. })));
    probe.gate.send_replace(Gate::Open);
    assert_eq!(in_flight.await.unwrap().unwrap().sum, 1, "a reply in flight is served");
    stop.send(()).unwrap();
    counter.terminated().await.unwrap();
}
