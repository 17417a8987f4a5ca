//! Leaders that a worker registers with, on the network in memory: each answers as its script says. And an election that names
//! them.

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use palisade_fence::source::{Looked, Unreachable};
use palisade_fence::{ClusterId, LeaderSource, LeaderView, Token};
use palisade_rpc::{
    Answer, AppError, Attempt, Context, Decision, EndpointHandle, LeaderSeat, RpcEndpoint, RpcError, RpcService,
    RpcServiceConfig,
};
use palisade_world::World;
use tokio::sync::watch;

use crate::election::token;
use crate::memory::MemoryNet;
use crate::proto::*;

pub(crate) const CLUSTER: ClusterId = ClusterId(0x0ff1ce);
pub(crate) const ELECTION: &str = "offices";
pub(crate) const COMPONENT: &str = "office";

/// What the office says to the next registration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Say {
    Accept,
    NotNow,
    Never,
    /// It errs.
    Fail,
    /// Nothing, until the caller gives up.
    Nothing,
}

/// What an office has seen; outlives the office.
#[derive(Default)]
pub(crate) struct Desk {
    script: Mutex<VecDeque<Say>>,
    /// When registrations came, by the world's clock, and under which token.
    pub(crate) registrations: Mutex<Vec<(Duration, Option<Token>)>>,
    pub(crate) beats: Mutex<Vec<u64>>,
    /// Called when a call is entered.
    pub(crate) at_each_call: Mutex<Option<Arc<dyn Fn() + Send + Sync>>>,
}

impl Desk {
    pub(crate) fn new(script: &[Say]) -> Arc<Desk> {
        Arc::new(Desk { script: Mutex::new(script.iter().copied().collect()), ..Desk::default() })
    }

    pub(crate) fn registered(&self) -> usize {
        self.registrations.lock().unwrap().len()
    }

    fn entered(&self) {
        let hook = self.at_each_call.lock().unwrap().clone();
        if let Some(hook) = hook {
            hook();
        }
    }
}

pub(crate) struct Office(Arc<Desk>);

impl RpcEndpoint for Office {}

impl OfficeEndpoint for Office {
    fn register(&mut self, cx: &mut Context<Self>, _: RegisterRequest) -> Answer<RegisterReply> {
        self.0.registrations.lock().unwrap().push((cx.world().now(), cx.token()));
        self.0.entered();
        let number = self.0.registered() as u64;
        // What is not written down is accepted.
        match self.0.script.lock().unwrap().pop_front().unwrap_or(Say::Accept) {
            Say::Accept => Answer::ready(RegisterReply { number, ..RegisterReply::default() }),
            Say::NotNow => Answer::ready(RegisterReply { refused: "not now".to_owned(), ..RegisterReply::default() }),
            Say::Never => Answer::ready(RegisterReply { rejected: "never".to_owned(), ..RegisterReply::default() }),
            Say::Fail => Answer::refuse(AppError::new(1, "no paper")),
            Say::Nothing => cx.then(std::future::pending(), |_, _, ()| Answer::ready(RegisterReply::default())),
        }
    }

    fn beat(&mut self, cx: &mut Context<Self>, request: BeatRequest) -> Answer<BeatReply> {
        self.0.beats.lock().unwrap().push(request.payload);
        self.0.entered();
        let (world, hold) = (cx.world().clone(), Duration::from_millis(request.answer_after_ms));
        let payload = request.payload + 1;
        cx.then(async move { world.sleep(hold).await }, move |_, _, ()| Answer::ready(BeatReply { payload }))
    }
}

/// A process with an office that leads.
pub(crate) struct Leads {
    pub(crate) service: RpcService,
    pub(crate) desk: Arc<Desk>,
    pub(crate) token: Token,
    _office: EndpointHandle<Office>,
}

impl Leads {
    pub(crate) async fn new(net: &MemoryNet, n: u32, script: &[Say]) -> Leads {
        let world = net.world(u64::from(n));
        let service = RpcService::start(RpcServiceConfig::listen("127.0.0.1:0"), world).await.unwrap();
        let desk = Desk::new(script);
        let seat = LeaderSeat { cluster: CLUSTER, election: ELECTION.to_owned(), token: token(n), source: None };
        let office = service.endpoint("office", Office(desk.clone())).serves(OfficeGateway::serve()).leads(seat);
        let office = office.create().unwrap();
        office.start().await.unwrap();
        Leads { service, desk, token: token(n), _office: office }
    }

    pub(crate) fn node(&self) -> String {
        self.service.node().to_owned()
    }
}

/// An election whose stream is all there is.
pub(crate) struct Offices(watch::Sender<LeaderView>);

impl Offices {
    pub(crate) fn new() -> Arc<Offices> {
        Arc::new(Offices(watch::Sender::new(LeaderView { cluster: CLUSTER, seq: 1, ..LeaderView::default() })))
    }

    fn change(&self, change: impl FnOnce(&mut LeaderView)) {
        self.0.send_modify(|view| {
            view.seq += 1;
            change(view);
        });
    }

    /// Elected; no address yet.
    pub(crate) fn elect(&self, token: Token) {
        self.change(|view| (view.token, view.components) = (Some(token), BTreeMap::new()));
    }

    /// Elected, and its address is known.
    pub(crate) fn proclaim(&self, leader: &Leads) {
        self.proclaim_at(leader.token, &format!("{}/office", leader.node()));
    }

    pub(crate) fn proclaim_at(&self, token: Token, address: &str) {
        let components = BTreeMap::from([(COMPONENT.to_owned(), address.to_owned())]);
        self.change(|view| (view.token, view.components) = (Some(token), components));
    }

    pub(crate) fn vacate(&self) {
        self.change(|view| (view.token, view.components) = (None, BTreeMap::new()));
    }
}

impl LeaderSource for Offices {
    fn election(&self) -> &str {
        ELECTION
    }

    fn latest(&self) -> Option<LeaderView> {
        Some(self.0.borrow().clone())
    }

    fn read(&self) -> Looked<'_> {
        Box::pin(async { Err(Unreachable { why: "nobody asks here".to_owned() }) })
    }

    fn changed(&self, after: u64) -> Pin<Box<dyn Future<Output = LeaderView> + Send + '_>> {
        let mut views = self.0.subscribe();
        Box::pin(async move { views.wait_for(|view| view.seq > after).await.unwrap().clone() })
    }
}

/// The worker's process: it only calls.
pub(crate) async fn worker(net: &MemoryNet) -> (RpcService, World) {
    let world = net.world(99);
    (RpcService::start(RpcServiceConfig::local(), world.clone()).await.unwrap(), world)
}

/// One registration.
pub(crate) async fn registers(attempt: Attempt<OfficeGateway>) -> Result<Decision<u64>, RpcError> {
    let reply = attempt.gateway.register(RegisterRequest { worker: "w".to_owned() }).await?;
    Ok(match reply {
        RegisterReply { refused, .. } if !refused.is_empty() => Decision::Refused(refused),
        RegisterReply { rejected, .. } if !rejected.is_empty() => Decision::Rejected(rejected),
        RegisterReply { number, .. } => Decision::Accepted(number),
    })
}
