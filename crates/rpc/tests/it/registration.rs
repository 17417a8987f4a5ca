//! Registered with whoever leads: group G, registration and connection. In paused time, on the network in memory.

use std::sync::Arc;
use std::time::Duration;

use palisade_rpc::{
    Accepted, Connection, LeaderConnection, LeaderTarget, RegistrationPolicy, Rejected, RpcService, register,
};
use palisade_world::World;

use crate::election::token;
use crate::memory::{Door, MemoryNet};
use crate::office::*;
use crate::proto::*;

/// Limit of the first attempt.
const FIRST: Duration = Duration::from_secs(2);
/// The least first pause.
const PAUSE: Duration = Duration::from_millis(10);

fn target(leader: &Leads) -> LeaderTarget {
    let address = format!("{}/office", leader.node()).parse().unwrap();
    LeaderTarget { cluster: CLUSTER, election: ELECTION.to_owned(), token: leader.token, address }
}

async fn registered(
    service: &RpcService,
    world: &World,
    leader: &Leads,
) -> Result<Accepted<OfficeGateway, u64>, Rejected> {
    let target = target(leader);
    register(service, &target, RegistrationPolicy::default(), world, registers, |_, _| {}).await
}

/// Registers with a leader that says this; gives how long it took and how often it was asked.
async fn after(script: &[Say]) -> (Result<u64, Rejected>, Duration, usize) {
    let net = MemoryNet::default();
    let (service, world) = worker(&net).await;
    let leader = Leads::new(&net, 1, script).await;
    let began = world.now();
    let registered = registered(&service, &world, &leader).await;
    (registered.map(|accepted| accepted.answer), world.now() - began, leader.desk.registered())
}

fn connect(service: &RpcService, offices: &Arc<Offices>, world: &World) -> LeaderConnection<OfficeGateway, u64> {
    LeaderConnection::start(service, offices.clone(), COMPONENT, RegistrationPolicy::default(), world, registers)
}

/// Waits until the connection is registered with the n-th leader.
async fn is_registered(connection: &LeaderConnection<OfficeGateway, u64>, n: u32) -> OfficeGateway {
    let mut state = connection.state();
    let with = |state: &Connection<OfficeGateway, u64>| matches!(state, Connection::Registered { target, .. } if target.token == token(n));
    let Connection::Registered { gateway, .. } = state.wait_for(with).await.unwrap().clone() else {
        unreachable!("it was waited for")
    };
    gateway
}

#[tokio::test(start_paused = true)]
async fn g03_a_registration_that_succeeds_is_made_once_under_the_leaders_token() {
    let (net, offices) = (MemoryNet::default(), Offices::new());
    let (service, world) = worker(&net).await;
    let leader = Leads::new(&net, 1, &[]).await;
    let connection = connect(&service, &offices, &world);
    offices.proclaim(&leader);
    for _ in 0..3 {
        is_registered(&connection, 1).await;
        world.sleep(Duration::from_secs(60)).await;
    }
    let registrations = leader.desk.registrations.lock().unwrap().clone();
    assert_eq!(registrations.iter().map(|(_, token)| *token).collect::<Vec<_>>(), [Some(token(1))]);
}

#[tokio::test(start_paused = true)]
async fn g05_after_a_failed_connection_it_connects_again_after_a_pause() {
    let net = MemoryNet::default();
    let (service, world) = worker(&net).await;
    let leader = Leads::new(&net, 1, &[]).await;
    let node = leader.node();
    let door = net.clone();
    net.door(&node, Door::Refuses);
    net.at_each_connect(move |address| {
        let first = door.attempts(address) == 1;
        door.door(address, Door::Open);
        if first { Door::Refuses } else { Door::Open }
    });
    let began = world.now();
    registered(&service, &world, &leader).await.unwrap();
    assert!(world.now() - began >= PAUSE);
    assert_eq!((net.attempts(&node), leader.desk.registered()), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn g06_attempts_that_time_out_are_repeated_at_once_with_twice_the_limit() {
    let (registered, took, asked) = after(&[Say::Nothing, Say::Nothing, Say::Accept]).await;
    assert_eq!((registered, asked), (Ok(3), 3));
    assert!((FIRST * 3..FIRST * 3 + PAUSE).contains(&took), "{took:?}");
    // The limit grows up to 10 s and no further: 2 + 4 + 8 + 10 + 10.
    let (_, took, _) = after(&[Say::Nothing; 5]).await;
    assert_eq!(took.as_secs(), 34);
}

#[tokio::test(start_paused = true)]
async fn g07_a_refusal_is_asked_again_after_a_pause_and_begins_anew_with_the_first_limit() {
    let (registered, took, asked) = after(&[Say::Nothing, Say::NotNow, Say::Nothing, Say::Accept]).await;
    assert_eq!((registered, asked), (Ok(4), 4));
    assert!((FIRST * 2 + PAUSE..FIRST * 2 + PAUSE * 2).contains(&took), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn g08_an_error_is_asked_again_after_a_pause_that_grows_to_a_second() {
    let (answer, took, asked) = after(&[Say::Fail, Say::Accept]).await;
    assert_eq!((answer, asked), (Ok(2), 2));
    assert!((PAUSE..PAUSE * 2).contains(&took), "{took:?}");
    let net = MemoryNet::default();
    let (service, world) = worker(&net).await;
    let leader = Leads::new(&net, 1, &[Say::Fail; 30]).await;
    registered(&service, &world, &leader).await.unwrap();
    let at: Vec<Duration> = leader.desk.registrations.lock().unwrap().iter().map(|(at, _)| *at).collect();
    let pauses: Vec<Duration> = at.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let (second, spread) = (Duration::from_secs(1), pauses[10..].iter().collect::<std::collections::BTreeSet<_>>());
    assert!(pauses.iter().all(|pause| *pause <= second) && pauses[10..].iter().all(|pause| *pause > second / 2));
    assert!(spread.len() > 10, "they are jittered: {spread:?}");
}

#[tokio::test(start_paused = true)]
async fn g09_whoever_stops_a_registration_stops_its_attempts() {
    let (net, offices) = (MemoryNet::default(), Offices::new());
    let (service, world) = worker(&net).await;
    let leader = Leads::new(&net, 1, &[Say::Nothing]).await;
    let connection = connect(&service, &offices, &world);
    offices.proclaim(&leader);
    while leader.desk.registered() == 0 {
        world.sleep(PAUSE).await;
    }
    connection.close();
    world.sleep(Duration::from_secs(60)).await;
    assert_eq!(leader.desk.registered(), 1);
}

#[tokio::test(start_paused = true)]
async fn g10_a_rejection_is_final_for_this_leader_and_not_for_the_next() {
    let (rejected, _, asked) = after(&[Say::Never]).await;
    assert_eq!((rejected, asked), (Err(Rejected { why: "never".to_owned() }), 1));

    let (net, offices) = (MemoryNet::default(), Offices::new());
    let (service, world) = worker(&net).await;
    let (one, two) = (Leads::new(&net, 1, &[Say::Never]).await, Leads::new(&net, 2, &[]).await);
    let connection = connect(&service, &offices, &world);
    offices.proclaim(&one);
    world.sleep(Duration::from_secs(60)).await;
    let state = connection.state().borrow().clone();
    assert!(matches!(&state, Connection::Rejected { why, .. } if why == "never"), "{state:?}");
    offices.proclaim(&two);
    is_registered(&connection, 2).await;
    assert_eq!(one.desk.registered(), 1);
}

#[tokio::test(start_paused = true)]
async fn g11_a_connection_has_gateway_token_and_address_once_it_is_registered_and_not_before() {
    let (net, offices) = (MemoryNet::default(), Offices::new());
    let (service, world) = worker(&net).await;
    let leader = Leads::new(&net, 1, &[Say::Fail, Say::Fail, Say::Nothing]).await;
    let connection = connect(&service, &offices, &world);
    assert!(matches!(&*connection.state().borrow(), Connection::NoLeader));
    offices.proclaim(&leader);
    world.sleep(FIRST).await;
    let state = connection.state().borrow().clone();
    assert!(matches!(&state, Connection::Registering { failed: 2, why: Some(why), .. } if why.contains("no paper")));
    let gateway = is_registered(&connection, 1).await;
    let state = connection.state().borrow().clone();
    assert_eq!(state.target(), Some(&target(&leader)));
    gateway.beat(BeatRequest::default()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn g12_a_connection_that_is_closed_while_it_connects_still_says_to_whom() {
    let (net, offices) = (MemoryNet::default(), Offices::new());
    let (service, world) = worker(&net).await;
    let leader = Leads::new(&net, 1, &[]).await;
    net.door(&leader.node(), Door::Hangs);
    let connection = connect(&service, &offices, &world);
    offices.proclaim(&leader);
    world.sleep(PAUSE).await;
    connection.close();
    net.door(&leader.node(), Door::Open);
    world.sleep(Duration::from_secs(60)).await;
    assert_eq!(connection.state().borrow().target(), Some(&target(&leader)));
    assert_eq!(leader.desk.registered(), 0);
}

#[tokio::test(start_paused = true)]
pub(crate) async fn g13_a_registration_that_is_worth_nothing_any_more_is_made_again_until_the_connection_is_closed() {
    let (net, offices) = (MemoryNet::default(), Offices::new());
    let (service, world) = worker(&net).await;
    let leader = Leads::new(&net, 1, &[]).await;
    let connection = connect(&service, &offices, &world);
    assert!(!connection.reconnect(token(1)), "it is not registered");
    offices.proclaim(&leader);
    is_registered(&connection, 1).await;
    world.sleep(Duration::from_secs(2)).await;
    assert!(!connection.reconnect(token(2)), "with somebody else");
    let began = world.now();
    assert!(connection.reconnect(token(1)));
    world.sleep(PAUSE / 2).await;
    is_registered(&connection, 1).await;
    assert_eq!(leader.desk.registered(), 2);
    assert!(world.now() - began < PAUSE, "it had lasted: again at once");
    // It did not last: the next ones wait, longer each time.
    for _ in 0..10 {
        assert!(connection.reconnect(token(1)));
        world.sleep(PAUSE / 2).await;
        is_registered(&connection, 1).await;
    }
    assert!(world.now() - began > Duration::from_secs(3), "nobody goes round and round");
    connection.close();
    world.sleep(PAUSE).await;
    assert!(!connection.reconnect(token(1)));
    world.sleep(Duration::from_secs(60)).await;
    assert_eq!(leader.desk.registered(), 12);
}

#[tokio::test(start_paused = true)]
async fn a_change_of_leader_is_registered_at_once_whatever_the_last_one_waited_for() {
    let net = MemoryNet::default();
    for waits in [&[Say::Nothing][..], &[Say::NotNow; 100], &[Say::Never]] {
        let (offices, (service, world)) = (Offices::new(), worker(&net).await);
        let (one, two) = (Leads::new(&net, 1, waits).await, Leads::new(&net, 2, &[]).await);
        let connection = connect(&service, &offices, &world);
        offices.proclaim(&one);
        world.sleep(Duration::from_millis(1_700)).await;
        let replaced = world.now();
        offices.proclaim(&two);
        is_registered(&connection, 2).await;
        assert!(world.now() - replaced < PAUSE, "{waits:?}");
        let asked = one.desk.registered();
        world.sleep(Duration::from_secs(60)).await;
        assert_eq!(one.desk.registered(), asked, "the old leader is left alone");
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_gone_costs_nothing_until_there_is_another() {
    let (net, offices) = (MemoryNet::default(), Offices::new());
    let (service, world) = worker(&net).await;
    let (one, two) = (Leads::new(&net, 1, &[]).await, Leads::new(&net, 2, &[]).await);
    let connection = connect(&service, &offices, &world);
    offices.proclaim(&one);
    is_registered(&connection, 1).await;
    offices.vacate();
    world.sleep(Duration::from_secs(60)).await;
    is_registered(&connection, 1).await;
    offices.elect(two.token);
    world.sleep(PAUSE).await;
    assert!(matches!(&*connection.state().borrow(), Connection::NoLeader), "the older one is none any more");
    offices.proclaim(&two);
    is_registered(&connection, 2).await;
    assert_eq!((one.desk.registered(), two.desk.registered()), (1, 1));
}
