//! For every i and j: fail the i-th call to one leader and the j-th to another while a worker registers with both and sends its
//! heartbeats, and it still comes to be registered with both. A failure is a connection that is refused, one that breaks before the
//! call is handled, or one that breaks after it was and before the answer is there.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use palisade_rpc::{Connection, Gone, Heartbeat, HeartbeatPolicy, Heartbeats, LeaderConnection, RegistrationPolicy};
use palisade_world::World;

use crate::election::token;
use crate::memory::{Door, MemoryNet};
use crate::office::*;
use crate::proto::*;

/// To connect, to register, three heartbeats: then a worker is registered.
const CALLS: u64 = 5;

/// Calls to one leader, in order: each attempt to connect and each call that arrives counts one. A clean run makes fewer.
#[derive(Clone)]
struct Calls {
    net: MemoryNet,
    node: String,
    made: Arc<AtomicU64>,
    /// This one fails; 0: none.
    fails: u64,
    failed: Arc<Mutex<Option<u64>>>,
}

impl Calls {
    fn watch(net: &MemoryNet, leader: &Leads, fails: u64) -> Calls {
        let calls =
            Calls { net: net.clone(), node: leader.node(), made: Arc::default(), fails, failed: Arc::default() };
        let arrives = calls.clone();
        leader.desk.at_each_call.lock().unwrap().replace(Arc::new(move || {
            if arrives.is_the_one() {
                arrives.net.cut(&arrives.node);
            }
        }));
        calls
    }

    fn is_the_one(&self) -> bool {
        let made = self.made.fetch_add(1, Ordering::SeqCst) + 1;
        if made == self.fails {
            self.failed.lock().unwrap().replace(made);
        }
        made == self.fails
    }
}

/// A worker that registers with the leader of an election and beats, as long as it is held.
async fn works(net: &MemoryNet, offices: &Arc<Offices>, world: &World, beats: Arc<AtomicU64>) {
    let (service, _) = worker(net).await;
    let policy = RegistrationPolicy::default();
    let connection = LeaderConnection::start(&service, offices.clone(), COMPONENT, policy, world, registers);
    let policy = HeartbeatPolicy { interval: Duration::from_millis(100), ..HeartbeatPolicy::default() };
    let heartbeats = Heartbeats::<u64, u64>::new(policy, world);
    let mut state = connection.state();
    loop {
        let registered = match &*state.borrow_and_update() {
            Connection::Registered { gateway, answer, .. } => Some((gateway.clone(), *answer)),
            _ => None,
        };
        if let Some((gateway, registration)) = registered {
            heartbeats.request(registration, move |_| {
                let gateway = gateway.within(Duration::from_secs(1));
                async move {
                    let request = BeatRequest { answer_after_ms: 100, ..BeatRequest::default() };
                    gateway.beat(request).await.map(|reply| reply.payload)
                }
            });
        }
        tokio::select! {
            changed = state.changed() => changed.unwrap(),
            event = heartbeats.next() => match event {
                Heartbeat::Heard { .. } => {
                    beats.fetch_add(1, Ordering::SeqCst);
                }
                Heartbeat::Gone { target, why: Gone::TimedOut | Gone::Unreachable { .. } } => {
                    heartbeats.unwatch(&target);
                    connection.reconnect(token(1));
                }
            },
        }
    }
}

/// Fails the i-th call to one leader and the j-th to the other; gives how many calls there were until both heartbeats go.
async fn with_failures(i: u64, j: u64) -> [(u64, Option<u64>); 2] {
    let net = MemoryNet::default();
    let world = net.world(i * 100 + j);
    let leaders = [Leads::new(&net, 1, &[]).await, Leads::new(&net, 1, &[]).await];
    let calls = [Calls::watch(&net, &leaders[0], i), Calls::watch(&net, &leaders[1], j)];
    let both = calls.clone();
    net.at_each_connect(move |address| match both.iter().find(|calls| calls.node == address) {
        Some(calls) if calls.is_the_one() => Door::Refuses,
        _ => Door::Open,
    });
    let offices = [Offices::new(), Offices::new()];
    let beats = [Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0))];
    for (offices, leader) in offices.iter().zip(&leaders) {
        offices.proclaim(leader);
    }
    let registered = async {
        while beats.iter().any(|beats| beats.load(Ordering::SeqCst) < 3) {
            world.sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        () = works(&net, &offices[0], &world, beats[0].clone()) => unreachable!("it works for ever"),
        () = works(&net, &offices[1], &world, beats[1].clone()) => unreachable!("it works for ever"),
        within = world.timeout(Duration::from_secs(30), registered) => {
            assert!(within.is_some(), "({i}, {j}): registered {:?}", leaders.each_ref().map(|it| it.desk.registered()));
        }
    }
    // However often it was registered, each time under the leader's token.
    for leader in &leaders {
        assert!(leader.desk.registrations.lock().unwrap().iter().all(|(_, under)| *under == Some(token(1))));
    }
    calls.map(|calls| (calls.made.load(Ordering::SeqCst), *calls.failed.lock().unwrap()))
}

#[tokio::test(start_paused = true)]
async fn for_every_pair_of_failed_calls_a_worker_comes_to_be_registered_with_both_leaders() {
    let clean = with_failures(0, 0).await.map(|(made, _)| made);
    assert!(clean.iter().all(|made| *made >= CALLS), "{clean:?}");
    for i in 0..=CALLS {
        for j in 0..=CALLS {
            let failed = with_failures(i, j).await.map(|(_, failed)| failed.unwrap_or(0));
            assert_eq!(failed, [i, j], "what was to fail failed");
        }
    }
}
