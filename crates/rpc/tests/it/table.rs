//! The table of fencing, for every method of every fenced gateway that there is, in both forms, for each kind of receiver. A new
//! method needs a row in [`crate::rows`], or nothing compiles.

use std::sync::Arc;

use palisade_rpc::{InterfaceInfo, MethodInfo, MethodKind, RpcService};

use crate::counter::*;
use crate::election::{Disk, Election, token};
use crate::proto::*;
use crate::rows::{self, Everything};
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
    let ran = match (method.kind, form) {
        (MethodKind::Tell, Form::Stream) => Reply::Silent,
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

/// A process that stands at the fifth token, as a leader, a worker or a standby, and serves every gateway.
pub(crate) struct Stands {
    receiver: Receiver,
    service: RpcService,
    election: Arc<Election>,
    guards: palisade_rpc::Guards,
    probe: Arc<Probe>,
}

impl Stands {
    pub(crate) async fn new(receiver: Receiver) -> Stands {
        let service = listening().await;
        let election = Election::granted(5);
        election.announce();
        let probe = Probe::new(Gate::Open);
        let guards = guards(&election, Some(&Disk::with(5)));
        let endpoint = || rows::serving(service.endpoint("counter", Everything(probe.clone())));
        match receiver {
            Receiver::Leader => endpoint().leads(seat(5, &election)).create().unwrap().start().await.unwrap(),
            Receiver::Worker => endpoint().guarded_by(guards.clone()).create().unwrap().start().await.unwrap(),
            Receiver::Standby => rows::declare(&service, "counter", &election),
        }
        Stands { receiver, service, election, guards, probe }
    }

    /// One message, and what came of it.
    pub(crate) async fn row(&self, claim: Claim, interface: &InterfaceInfo, method: &MethodInfo, form: Form) -> Row {
        if claim == Claim::HigherConfirmed {
            self.election.grant(6);
        }
        let n = match claim {
            Claim::NoToken => 0,
            Claim::Lower => token(4).get(),
            Claim::Equal => token(5).get(),
            Claim::HigherConfirmed | Claim::HigherForged => token(6).get(),
        };
        let (to, before) = (self.service.local_addr().unwrap(), self.probe.ran());
        let reply = send(form, to, interface.name, method, n, self.probe.has_run(before + 1)).await;
        let stands_at = match self.receiver {
            Receiver::Leader => Some(token(5).get()),
            Receiver::Worker => self.guards.highest(crate::election::ELECTION).map(palisade_fence::Token::get),
            Receiver::Standby => None,
        };
        Row { reply, ran: self.probe.ran() > before, stands_at }
    }
}

#[tokio::test]
async fn every_method_of_every_fenced_gateway_obeys_the_table_in_both_forms() {
    let mut asserted = 0;
    for receiver in [Receiver::Leader, Receiver::Worker, Receiver::Standby] {
        for claim in CLAIMS {
            let mut stands = Stands::new(receiver).await;
            for (interface, method) in rows::FENCED.iter().flat_map(|it| it.methods.iter().map(move |one| (*it, one))) {
                for form in [Form::Stream, Form::Plain] {
                    let row = stands.row(claim, interface, method, form).await;
                    let expected = expected(receiver, claim, method, form, stands.service.node());
                    assert_eq!(row, expected, "{receiver:?} {claim:?} {}.{} {form:?}", interface.name, method.name);
                    asserted += 1;
                    // What a confirmed token changed is changed for good.
                    if claim == Claim::HigherConfirmed {
                        stands.service.close().await.unwrap();
                        stands = Stands::new(receiver).await;
                    }
                }
            }
        }
    }
    let methods: usize = rows::FENCED.iter().map(|interface| interface.methods.len()).sum();
    assert_eq!(asserted, 3 * CLAIMS.len() * methods * 2, "every method in both forms with each claim");
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
