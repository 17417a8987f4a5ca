//! The connections of a client: one long-lived channel per endpoint for requests, another for the session stream, so that no
//! bulk of requests can delay a keep-alive. (Watchers and observers have their own, see `stream_links`.) It also remembers who was last known
//! to lead the store.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use palisade_wire::metadata;
use palisade_world::World;
use palisade_world::grpc::{self, BadAddress};
use tokio::sync::Notify;
use tonic::metadata::MetadataValue;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::{Request, Status, transport};

/// Addresses that were learnt from hints, beyond the given endpoints: a cluster has at most some ten members.
const LEARNT: usize = 16;

/// What a connection is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Purpose {
    Requests,
    Sessions,
}

/// A connection, with what its requests say about forwarding.
pub(crate) type Channel = InterceptedService<transport::Channel, Asking>;

/// Who may answer a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Asking {
    /// The node that gets it: one that does not lead the store refuses with a hint, which this client follows.
    Itself,
    /// That node may ask the store leader, for a client that cannot reach it.
    OthersToo,
}

impl Interceptor for Asking {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if *self == Asking::Itself {
            request.metadata_mut().insert(metadata::FORWARD, MetadataValue::from_static(metadata::NO));
        }
        Ok(request)
    }
}

/// All connections of a client.
#[derive(Debug)]
pub(crate) struct Links {
    world: World,
    endpoints: Vec<String>,
    inner: Mutex<Inner>,
    /// Who leads the store has changed, or somebody did not help.
    changed: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Inner {
    channels: BTreeMap<(Purpose, String), transport::Channel>,
    /// Where the store leader was last.
    leader: Option<String>,
    /// Where the members are, as the store leader told last; without those that are endpoints anyway.
    members: Vec<String>,
    /// Which endpoint to ask when nobody is known to lead.
    turn: usize,
}

impl Links {
    /// `endpoints` is not empty, and each has been checked.
    pub(crate) fn new(world: World, endpoints: Vec<String>) -> Links {
        assert!(!endpoints.is_empty(), "there is an endpoint");
        // Clients of one list do not all begin with the same node.
        let turn = usize::try_from(world.random_u64() % endpoints.len() as u64).unwrap_or(0);
        let inner = Mutex::new(Inner { turn, ..Inner::default() });
        Links { world, endpoints, inner, changed: Arc::default() }
    }

    /// Whom to ask: the endpoints that were given, which may be names of whoever serves today, and the members that are known.
    pub(crate) fn known(&self) -> Vec<String> {
        let inner = self.lock();
        self.endpoints.iter().chain(&inner.members).cloned().collect()
    }

    /// How many those are.
    pub(crate) fn count(&self) -> usize {
        self.endpoints.len() + self.lock().members.len()
    }

    /// The members are these now.
    pub(crate) fn set_members(&self, members: impl IntoIterator<Item = String>) {
        let others = members.into_iter().filter(|member| !self.endpoints.contains(member));
        self.lock().members = others.take(LEARNT).collect();
    }

    /// Told when another address leads the store, and when somebody did not help.
    pub(crate) fn changed(&self) -> Arc<Notify> {
        Arc::clone(&self.changed)
    }

    /// The channel to an address; made when first asked for, connected when first used.
    pub(crate) fn channel(&self, purpose: Purpose, address: &str) -> Result<Channel, BadAddress> {
        self.channel_asking(Asking::Itself, purpose, address)
    }

    /// The same connection, for requests that say this about forwarding.
    pub(crate) fn channel_asking(
        &self,
        asking: Asking,
        purpose: Purpose,
        address: &str,
    ) -> Result<Channel, BadAddress> {
        Ok(InterceptedService::new(self.connection(purpose, address)?, asking))
    }

    fn connection(&self, purpose: Purpose, address: &str) -> Result<transport::Channel, BadAddress> {
        let mut inner = self.lock();
        if let Some(channel) = inner.channels.get(&(purpose, address.to_owned())) {
            return Ok(channel.clone());
        }
        let channel = grpc::channel(&self.world, address)?;
        if inner.channels.len() >= 2 * (self.endpoints.len() + LEARNT) {
            // Too many hints: the learnt ones are learnt again when they are needed.
            inner.channels.retain(|(_, known), _| self.endpoints.contains(known));
        }
        inner.channels.insert((purpose, address.to_owned()), channel.clone());
        Ok(channel)
    }

    /// Forgets a connection that answers nothing: the next use dials anew instead of waiting behind a dead one.
    pub(crate) fn forget(&self, purpose: Purpose, address: &str) {
        self.lock().channels.remove(&(purpose, address.to_owned()));
    }

    /// Whom to ask: who was last known to lead, else the endpoint whose turn it is.
    pub(crate) fn first_choice(&self) -> String {
        let inner = self.lock();
        inner.leader.clone().unwrap_or_else(|| self.at(&inner).to_owned())
    }

    /// Whose turn it is, among all that are known.
    fn at<'a>(&'a self, inner: &'a Inner) -> &'a str {
        let turn = inner.turn % (self.endpoints.len() + inner.members.len());
        self.endpoints.get(turn).unwrap_or_else(|| &inner.members[turn - self.endpoints.len()])
    }

    /// Whom to ask after `failed` did not help.
    pub(crate) fn next_choice(&self, failed: &str) -> String {
        let mut inner = self.lock();
        if inner.leader.as_deref() == Some(failed) {
            inner.leader = None;
        }
        if let Some(leader) = &inner.leader {
            return leader.clone();
        }
        self.changed.notify_one();
        let known = self.endpoints.len() + inner.members.len();
        for _ in 0..known {
            inner.turn = (inner.turn + 1) % known;
            if self.at(&inner) != failed {
                break;
            }
        }
        self.at(&inner).to_owned()
    }

    /// This address leads the store, as it says itself or as another node says.
    pub(crate) fn leads(&self, address: &str) {
        let mut inner = self.lock();
        if inner.leader.as_deref() != Some(address) {
            inner.leader = Some(address.to_owned());
            self.changed.notify_one();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_that_are_learnt_have_their_turn_and_go_again() {
        let links = Links::new(World::real(), vec!["a:1".to_owned()]);
        links.set_members(["a:1", "b:1", "c:1"].map(str::to_owned));
        assert_eq!((links.known(), links.count()), (["a:1", "b:1", "c:1"].map(str::to_owned).to_vec(), 3));
        let mut asked = vec![links.first_choice()];
        for _ in 0..2 {
            asked.push(links.next_choice(asked.last().unwrap()));
        }
        asked.sort();
        assert_eq!(asked, ["a:1", "b:1", "c:1"]);
        links.set_members(["d:1".to_owned()]);
        assert_eq!(links.known(), ["a:1", "d:1"], "what was given stays");
        links.set_members([]);
        assert_eq!(links.next_choice("a:1"), "a:1", "there is nobody else");
    }

    #[test]
    fn a_failed_leader_is_forgotten_and_everybody_has_a_turn() {
        let links = Links::new(World::real(), ["a:1", "b:1", "c:1"].map(str::to_owned).to_vec());
        links.leads("x:9");
        assert_eq!(links.first_choice(), "x:9");
        let mut asked: Vec<String> = Vec::new();
        let mut failed = "x:9".to_owned();
        for _ in 0..3 {
            failed = links.next_choice(&failed);
            asked.push(failed.clone());
        }
        asked.sort();
        assert_eq!(asked, ["a:1", "b:1", "c:1"]);
    }
}
