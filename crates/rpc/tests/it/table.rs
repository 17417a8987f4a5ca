//! The table of fencing, for every method of every gateway of these tests, in both forms, for each kind of receiver. A new
//! method is in it by itself: the generated list of methods is what is enumerated.

use std::sync::Arc;

use palisade_rpc::{MethodInfo, MethodKind, RpcGateway, RpcService};

use crate::counter::*;
use crate::election::{Disk, Election, token};
use crate::proto::*;
use crate::wire::{Form, Reply, send};

/// What a message claims. The receiver stands at the fifth token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Claim {
    NoToken,
    Lower,
    Equal,
    HigherConfirmed,
    HigherForged,
}

/// Who receives it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Receiver {
    Leader,
    Worker,
    Standby,
}

pub(crate) const CLAIMS: [Claim; 5] =
    [Claim::NoToken, Claim::Lower, Claim::Equal, Claim::HigherConfirmed, Claim::HigherForged];

/// One row: what came back, whether the handler was entered, and where the guard or the leader stands afterwards.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Row {
    pub(crate) reply: Reply,
    pub(crate) ran: bool,
    pub(crate) stands_at: Option<u64>,
}

fn expected(receiver: Receiver, claim: Claim, method: &MethodInfo, form: Form, node: &str) -> Row {
    let ran = match (method.name, form) {
        _ if method.kind == MethodKind::Tell && form == Form::Stream => Reply::Silent,
        ("Refuse" | "Panic" | "Relay", _) => Reply::RanBadly,
        _ => Reply::Answered,
    };
    let five = token(5).get();
    let runs = |at: u32| Row { reply: ran.clone(), ran: true, stands_at: Some(token(at).get()) };
    let refused = |reply: Reply| Row { reply, ran: false, stands_at: Some(five) };
    let fenced = |why, leader: &str| refused(Reply::Fenced { why, current: five, leader: leader.to_owned() });
    match (receiver, claim) {
        (Receiver::Standby, Claim::NoToken) => Row { stands_at: None, ..refused(Reply::NoToken) },
        (Receiver::Standby, _) => Row { stands_at: None, ..fenced("not-leader", "leader-5:1") },
        (_, Claim::NoToken) => refused(Reply::NoToken),
        (_, Claim::Equal) => runs(5),
        (Receiver::Leader, Claim::Lower) => fenced("stale", node),
        // The stream has only said that the fifth leads.
        (Receiver::Leader, _) => fenced("ahead", "leader-5:1"),
        (Receiver::Worker, Claim::Lower) => fenced("stale", "leader-5:1"),
        (Receiver::Worker, Claim::HigherConfirmed) => runs(6),
        (Receiver::Worker, Claim::HigherForged) => fenced("ahead", "leader-5:1"),
    }
}

/// One message to a fresh receiver.
pub(crate) async fn row(receiver: Receiver, claim: Claim, method: &MethodInfo, form: Form) -> (Row, String) {
    let service = listening().await;
    let election = Election::granted(5);
    election.announce();
    let probe = Probe::new(Gate::Open);
    let guards = guards(&election, Some(&Disk::with(5)));
    match receiver {
        Receiver::Leader => drop(leader(&service, 5, &election, &probe).await),
        Receiver::Worker => drop(worker(&service, &guards, &probe).await),
        Receiver::Standby => service.declare::<CounterGateway>("counter", Some(election.clone())),
    }
    if claim == Claim::HigherConfirmed {
        election.grant(6);
    }
    let n = match claim {
        Claim::NoToken => 0,
        Claim::Lower => token(4).get(),
        Claim::Equal => token(5).get(),
        Claim::HigherConfirmed | Claim::HigherForged => token(6).get(),
    };
    let to = service.local_addr().unwrap();
    let reply = send(form, to, CounterGateway::INTERFACE.name, method, n, probe.has_run(1)).await;
    let stands_at = match receiver {
        Receiver::Leader => Some(token(5).get()),
        Receiver::Worker => guards.highest(crate::election::ELECTION).map(palisade_fence::Token::get),
        Receiver::Standby => None,
    };
    let row = Row { reply, ran: probe.ran() > 0, stands_at };
    let node = service.node().to_owned();
    // An endpoint that panicked has not ended cleanly.
    let _ = service.close().await;
    (row, node)
}

#[tokio::test]
async fn every_method_obeys_the_table_in_both_forms() {
    let mut rows = 0;
    for receiver in [Receiver::Leader, Receiver::Worker, Receiver::Standby] {
        for method in CounterGateway::METHODS {
            for form in [Form::Stream, Form::Plain] {
                for claim in CLAIMS {
                    let (row, node) = row(receiver, claim, method, form).await;
                    let expected = expected(receiver, claim, method, form, &node);
                    assert_eq!(row, expected, "{receiver:?} {claim:?} {} {form:?}", method.name);
                    rows += 1;
                }
            }
        }
    }
    assert_eq!(rows, 3 * 11 * 2 * 5, "every method in both forms with each claim");
}

#[tokio::test]
async fn a_leader_that_is_called_with_a_confirmed_higher_token_steps_down() {
    let (service, election, probe) = (listening().await, Election::granted(5), Probe::new(Gate::Open));
    let counter = leader(&service, 5, &election, &probe).await;
    let caller = calling().await;
    let forged: CounterGateway = caller.connect(&counter.address(), stamp(6)).await.unwrap();
    let refused = forged.add(amount(1)).await.unwrap_err();
    assert!(
        matches!(refused, palisade_rpc::RpcError::Ahead { current: Some(five), .. } if five == token(5)),
        "{refused:?}"
    );

    // The same again, but now it is true: the election is read, and the fence is closed.
    election.grant(6);
    assert!(forged.add(amount(1)).await.is_err());
    let by = crate::soon("the leader learns that it was replaced", counter.replaced()).await;
    assert_eq!(by.token, Some(token(6)));
    let refused = forged.add(amount(1)).await.unwrap_err();
    assert!(matches!(refused, palisade_rpc::RpcError::NotLeader { .. }), "{refused:?}");
    assert_eq!(sum(&counter).await, 0);
    assert!(probe.log().contains(&format!("replaced by {}", token(6))), "{:?}", probe.log());
}

#[tokio::test]
async fn fences_of_other_elections_and_clusters_are_not_compared() {
    let (service, election, probe) = (listening().await, Election::granted(5), Probe::new(Gate::Open));
    let guards = guards(&election, None);
    let counter = worker(&service, &guards, &probe).await;
    let foreign = palisade_rpc::Stamp::fixed(palisade_fence::ClusterId(0xbad), crate::election::ELECTION, token(9));
    let other = palisade_rpc::Stamp::fixed(crate::election::CLUSTER, "another", token(9));
    for stamp in [foreign, other] {
        let gateway: CounterGateway = counter.gateway(stamp);
        let refused = gateway.add(amount(1)).await.unwrap_err();
        assert!(matches!(refused, palisade_rpc::RpcError::NotLeader { .. }), "{refused:?}");
    }
    assert_eq!(election.reads.load(std::sync::atomic::Ordering::SeqCst), 0, "a foreign token is not even confirmed");
    drop::<(RpcService, Arc<Probe>)>((service, probe));
}
