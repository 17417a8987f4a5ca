//! A worker's guard: what confirms a raise, what survives a restart, what a raise waits for.

use std::sync::atomic::Ordering;

use palisade_fence::ClusterId;
use palisade_rpc::{GuardSpec, Guards, RpcError, Stamp};
use palisade_world::World;

use crate::counter::*;
use crate::election::{CLUSTER, Disk, ELECTION, Election, token};
use crate::proto::*;
use crate::soon;

#[tokio::test]
pub(crate) async fn a_restarted_worker_remembers_what_it_accepted() {
    let (election, disk) = (Election::granted(6), Disk::with(5));
    let probe = Probe::new(Gate::Open);
    {
        let service = listening().await;
        let guards = guards(&election, Some(&disk));
        let counter = worker(&service, &guards, &probe).await;
        let gateway: CounterGateway = counter.gateway(stamp(6));
        gateway.add(amount(1)).await.unwrap();
        assert_eq!(disk.kept(), Some(token(6)), "durable before the first effect");
        service.close().await.unwrap();
    }
    // The election cannot be asked any more: the memory must do.
    election.cut_off();
    let service = listening().await;
    let guards = guards(&election, Some(&disk));
    let counter = worker(&service, &guards, &probe).await;
    let stale =
        calling().await.connect::<CounterGateway>(&counter.address(), stamp(5)).await.unwrap_or_else(|e| panic!("{e}"));
    assert!(matches!(stale.add(amount(1)).await, Err(RpcError::Stale { current: Some(six), .. }) if six == token(6)));
    let current: CounterGateway = counter.gateway(stamp(6));
    assert_eq!(current.add(amount(1)).await.unwrap().sum, 1);
}

#[tokio::test]
async fn without_a_durable_guard_nothing_is_served_before_a_linearizable_read() {
    let (service, election, probe) = (listening().await, Election::granted(5), Probe::new(Gate::Open));
    // The stream is one leadership behind, and says so first.
    election.announce();
    election.grant(6);
    let guards = guards(&election, None);
    let counter = worker(&service, &guards, &probe).await;
    let old: CounterGateway =
        calling().await.connect(&counter.address(), stamp(5)).await.unwrap_or_else(|e| panic!("{e}"));
    let refused = old.add(amount(1)).await.unwrap_err();
    assert!(matches!(refused, RpcError::Stale { current: Some(six), .. } if six == token(6)), "{refused:?}");
    assert_eq!(election.reads.load(Ordering::SeqCst), 1, "the stream was not believed");
    let new: CounterGateway = counter.gateway(stamp(6));
    assert_eq!(new.add(amount(1)).await.unwrap().sum, 1);
    assert_eq!(election.reads.load(Ordering::SeqCst), 1, "one read for good");
}

#[tokio::test]
async fn a_higher_token_is_not_believed_while_the_election_cannot_be_asked() {
    let (service, election, probe) = (listening().await, Election::granted(5), Probe::new(Gate::Open));
    let guards = guards(&election, Some(&Disk::with(5)));
    let counter = worker(&service, &guards, &probe).await;
    election.cut_off();
    let six: CounterGateway =
        calling().await.connect(&counter.address(), stamp(6)).await.unwrap_or_else(|e| panic!("{e}"));
    assert!(matches!(six.add(amount(1)).await, Err(RpcError::Ahead { current: Some(five), .. }) if five == token(5)));
    assert_eq!(guards.highest(ELECTION), Some(token(5)));
    // And the present leader is not locked out by it.
    let five: CounterGateway = counter.gateway(stamp(5));
    assert_eq!(five.add(amount(1)).await.unwrap().sum, 1);
}

#[tokio::test]
async fn a_raise_that_cannot_be_written_down_is_not_made() {
    let (service, election, probe) = (listening().await, Election::granted(6), Probe::new(Gate::Open));
    let disk = Disk::with(5);
    let guards = guards(&election, Some(&disk));
    let counter = worker(&service, &guards, &probe).await;
    *disk.full.lock().unwrap() = Some("no space left".to_owned());
    let gateway: CounterGateway = counter.gateway(stamp(6));
    assert_eq!(gateway.add(amount(1)).await, Err(RpcError::GuardNotDurable { why: "no space left".to_owned() }));
    assert_eq!((guards.highest(ELECTION), probe.ran()), (Some(token(5)), 0));
    *disk.full.lock().unwrap() = None;
    assert_eq!(gateway.add(amount(1)).await.unwrap().sum, 1);
}

#[tokio::test]
async fn a_raise_that_the_stream_asks_for_is_tried_again_until_it_is_written_down() {
    let (service, election, probe) = (listening().await, Election::granted(5), Probe::new(Gate::Open));
    let disk = Disk::with(5);
    let guards = guards(&election, Some(&disk));
    let counter = worker(&service, &guards, &probe).await;
    *disk.full.lock().unwrap() = Some("no space left".to_owned());
    election.grant(6);
    election.announce();
    soon("it was tried in vain", disk.was_refused()).await;
    assert_eq!(guards.highest(ELECTION), Some(token(5)), "durable first");
    *disk.full.lock().unwrap() = None;
    // Nobody calls, and the stream has nothing new.
    soon("the guard rises", guards.raised_to(ELECTION, token(6))).await;
    let late: CounterGateway = counter.gateway(stamp(5));
    assert!(matches!(late.add(amount(1)).await, Err(RpcError::Stale { .. })));
}

#[tokio::test]
async fn the_cluster_is_learnt_from_the_first_read_and_kept() {
    let (service, election, probe) = (listening().await, Election::granted(5), Probe::new(Gate::Open));
    let spec = GuardSpec { source: election.clone(), cluster: None, durable: Some(Disk::with(5)) };
    let guards = Guards::new(vec![spec], &World::real()).unwrap();
    let counter = worker(&service, &guards, &probe).await;
    let gateway: CounterGateway = counter.gateway(stamp(5));
    assert_eq!(gateway.add(amount(1)).await.unwrap().sum, 1);
    let foreign = palisade_rpc::Stamp::fixed(palisade_fence::ClusterId(CLUSTER.0 + 1), ELECTION, token(5));
    let foreign: CounterGateway = counter.gateway(foreign);
    assert!(matches!(foreign.add(amount(1)).await, Err(RpcError::NotLeader { .. })));
}

#[tokio::test]
async fn messages_that_wait_for_a_confirmation_run_in_the_order_they_were_sent() {
    let (service, election, probe) = (listening().await, Election::granted(5), Probe::new(Gate::Open));
    let guards = guards(&election, Some(&Disk::with(5)));
    let counter = worker(&service, &guards, &probe).await;
    election.grant(6);
    let gateway: CounterGateway =
        calling().await.connect(&counter.address(), stamp(6)).await.unwrap_or_else(|e| panic!("{e}"));
    for _ in 0..50 {
        gateway.note(amount(1)).unwrap();
        gateway.read(ReadRequest {}).await.unwrap();
    }
    gateway.note(amount(1)).unwrap();
    soon("the last tell", probe.has_run(101)).await;
    let log = probe.log();
    let expected: Vec<&str> =
        std::iter::once("on_start").chain((0..50).flat_map(|_| ["note", "read"])).chain(["note"]).collect();
    assert_eq!(log, expected);
}

#[tokio::test]
async fn messages_that_wait_for_a_read_go_before_later_ones_when_the_stream_is_faster() {
    for _ in 0..20 {
        let (service, election, probe) = (listening().await, Election::granted(5), Probe::new(Gate::Open));
        let guards = guards(&election, Some(&Disk::with(5)));
        let counter = worker(&service, &guards, &probe).await;
        election.grant(6);
        election.hang();
        let gateway: CounterGateway = counter.gateway(stamp(6));
        for _ in 0..3 {
            gateway.note(amount(1)).unwrap();
        }
        soon("the election is asked", async {
            while election.reads.load(Ordering::SeqCst) == 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        election.announce();
        soon("the guard rises with the stream", guards.raised_to(ELECTION, token(6))).await;
        assert_eq!(gateway.add(amount(1)).await.unwrap().sum, 4);
        assert_eq!(probe.log(), ["on_start", "note", "note", "note", "add"]);
    }
}

#[tokio::test]
async fn a_worker_serves_leaders_of_several_elections_and_clusters_each_under_its_own_guard() {
    let (service, probe) = (listening().await, Probe::new(Gate::Shut));
    let other_cluster = ClusterId(CLUSTER.0 + 1);
    // Two elections of one name in two clusters, and another name.
    let (one, two, three) =
        (Election::granted(5), Election::in_cluster(other_cluster, 50), Election::named("third", 7));
    let spec =
        |source: &std::sync::Arc<Election>, cluster| GuardSpec { source: source.clone(), cluster, durable: None };
    let specs = vec![spec(&one, Some(CLUSTER)), spec(&two, Some(other_cluster)), spec(&three, Some(CLUSTER))];
    let guards = Guards::new(specs, &World::real()).unwrap();
    let counter = worker(&service, &guards, &probe).await;
    let caller = calling().await;
    let mut begun = Vec::new();
    for (n, stamp) in
        [stamp(5), Stamp::fixed(other_cluster, ELECTION, token(50)), Stamp::fixed(CLUSTER, "third", token(7))]
            .into_iter()
            .enumerate()
    {
        let gateway: CounterGateway = caller.connect(&counter.address(), stamp).await.unwrap();
        begun.push(crate::spawn(async move { gateway.add_later(amount(1)).await }));
        probe.has_run(n as u64 + 1).await;
    }
    // The first cluster's election has a new leader: what runs under the others' tokens is none of its business.
    one.grant(6);
    one.announce();
    let superseded = soon("the replaced leader is told", begun.remove(0)).await.unwrap();
    assert!(matches!(superseded, Err(RpcError::Superseded { .. })), "{superseded:?}");
    probe.gate.send_replace(Gate::Open);
    for begun in begun {
        assert!(begun.await.unwrap().is_ok());
    }
    let stands = [(CLUSTER, ELECTION), (other_cluster, ELECTION), (CLUSTER, "third")]
        .map(|(cluster, election)| guards.highest_of(cluster, election));
    assert_eq!(stands, [Some(token(6)), Some(token(50)), Some(token(7))]);
    // Whoever names no cluster cannot be understood where there are two.
    let to = service.local_addr().unwrap();
    let mut metadata = tonic::metadata::MetadataMap::new();
    metadata.insert("palisade-election", palisade_fence::metadata::encode_election(ELECTION).parse().unwrap());
    metadata.insert("palisade-token", token(6).to_string().parse().unwrap());
    let path = format!("/{}/Add", <CounterGateway as palisade_rpc::RpcGateway>::INTERFACE.name);
    let status = crate::wire::plain(to, path, metadata).await.unwrap_err();
    assert!(status.code() == tonic::Code::InvalidArgument && status.message().contains("name one"), "{status:?}");
}
