//! Knows whether this node is in touch with the cluster: whether a quorum still follows it, if it is the store leader, and
//! whether the store leader answers, if it is not. For those who only listen (observers) and for health.
//!
//! Reads and keep-alives do not rest on it: each asks for a quorum round of its own that began after it arrived.

use std::time::Duration;

use palisade_replica::{Leadership, Peer, Replica};
use palisade_world::{Task, World};
use tokio::sync::watch;

use crate::machine::CoordMachine;

/// How often it asks. An observer on a node that was cut off stays deaf no longer than this and [`PATIENCE`]; a quorum
/// round every half second costs nothing.
const INTERVAL: Duration = Duration::from_millis(500);

/// How long it waits for the answer: several times the longest election timeout.
const PATIENCE: Duration = Duration::from_secs(1);

/// Whom this node is in touch with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Touch {
    /// It is the store leader, and a quorum follows.
    Leads(Leadership),
    /// The store leader answers.
    Follows,
    /// It knows no store leader.
    NoLeader,
    /// It leads, as far as it knows, and no quorum says so.
    NoQuorum,
    /// This one leads, as far as it knows, and does not answer.
    LeaderSilent(Peer),
}

impl Touch {
    /// What is wrong, in words.
    pub(crate) fn problem(&self) -> Option<String> {
        match self {
            Touch::Leads(_) | Touch::Follows => None,
            Touch::NoLeader => Some("no store leader".to_owned()),
            Touch::NoQuorum => Some("no store leader: no majority answers this node".to_owned()),
            Touch::LeaderSilent(peer) => Some(format!("no store leader: {peer} led last and does not answer")),
        }
    }

    /// The leadership that is surely this node's.
    pub(crate) fn leadership(&self) -> Option<Leadership> {
        match self {
            Touch::Leads(leadership) => Some(*leadership),
            Touch::Follows | Touch::NoLeader | Touch::NoQuorum | Touch::LeaderSilent(_) => None,
        }
    }
}

/// Starts asking.
pub(crate) fn start(node_id: u64, replica: Replica<CoordMachine>, world: &World) -> (watch::Receiver<Touch>, Task<()>) {
    let (tell, touch) = watch::channel(Touch::NoLeader);
    let asker = Asker { node_id, replica, world: world.clone(), tell };
    (touch, world.spawn("confirmation", asker.run()))
}

struct Asker {
    node_id: u64,
    replica: Replica<CoordMachine>,
    world: World,
    tell: watch::Sender<Touch>,
}

impl Asker {
    async fn run(self) {
        let mut status = self.replica.status();
        loop {
            let (leadership, leader) = {
                let now = status.borrow_and_update();
                (now.leadership, now.store_leader.clone())
            };
            match leadership {
                // A new store leader has just had a quorum: its first entry is applied.
                Some(leadership) => self.say(Touch::Leads(leadership)),
                // It leads no longer, whatever else is known.
                None if self.tell.borrow().leadership().is_some() => self.say(Touch::NoLeader),
                None => {}
            }
            let asking = async {
                loop {
                    self.say(self.ask(leadership, leader.as_ref()).await);
                    self.world.sleep(INTERVAL).await;
                }
            };
            tokio::select! {
                biased;
                changed = status.wait_for(|now| now.leadership != leadership || now.store_leader != leader) => {
                    if changed.is_err() {
                        return;
                    }
                }
                () = asking => {}
            }
        }
    }

    async fn ask(&self, leadership: Option<Leadership>, leader: Option<&Peer>) -> Touch {
        match (leadership, leader) {
            (Some(leadership), _) => {
                let confirmed = self.world.timeout(PATIENCE, self.replica.confirm_leadership()).await;
                match confirmed.and_then(Result::ok) {
                    Some(confirmed) if confirmed == leadership => Touch::Leads(leadership),
                    Some(_) | None => Touch::NoQuorum,
                }
            }
            // It leads and has not applied its own first entry yet.
            (None, Some(peer)) if peer.node_id == self.node_id => Touch::NoLeader,
            (None, Some(peer)) => {
                let hello = self.world.timeout(PATIENCE, self.replica.hello(&peer.address)).await;
                match hello.and_then(Result::ok) {
                    Some(hello) if hello.store_id == peer.store_id => Touch::Follows,
                    Some(_) | None => Touch::LeaderSilent(peer.clone()),
                }
            }
            (None, None) => Touch::NoLeader,
        }
    }

    fn say(&self, touch: Touch) {
        self.tell.send_if_modified(|now| {
            let news = *now != touch;
            *now = touch;
            news
        });
    }
}
