//! One gateway as its links see it: what its calls have in common, and the numbers that stand for it on the open streams.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use palisade_fence::{ClusterId, Token};

use super::Link;
use crate::InterfaceInfo;
use crate::tells::Tells;
use crate::v1::Call;

/// The calls of one gateway over its link.
pub(crate) struct Sender {
    pub(crate) link: Arc<Link>,
    /// Names it in the ids of its tells; unique on its link.
    pub(crate) number: u32,
    pub(crate) endpoint: Arc<str>,
    pub(crate) interface: &'static InterfaceInfo,
    pub(crate) cluster: Option<ClusterId>,
    pub(crate) election: Arc<str>,
    pub(crate) tells: Arc<Tells>,
    /// By method: number of the stream, and of the route on it. A route is a short name for all that the calls of a method
    /// have in common.
    routes: Box<[AtomicU64]>,
}

/// A route as one stream knows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Route(pub(crate) u32);

impl Sender {
    pub(crate) fn new(
        link: Arc<Link>,
        endpoint: Arc<str>,
        interface: &'static InterfaceInfo,
        cluster: Option<ClusterId>,
        election: Arc<str>,
        tells: Arc<Tells>,
    ) -> Sender {
        let number = link.number_sender();
        let routes = interface.methods.iter().map(|_| AtomicU64::new(0)).collect();
        Sender { link, number, endpoint, interface, cluster, election, tells, routes }
    }

    /// The route of a method on that stream, if it has one.
    pub(crate) fn route(&self, method: usize, stream: u32) -> Option<Route> {
        let known = self.routes[method].load(Ordering::Acquire);
        (known >> 32 == u64::from(stream)).then_some(Route(known as u32))
    }

    pub(crate) fn set_route(&self, method: usize, stream: u32, route: Route) {
        self.routes[method].store((u64::from(stream) << 32) | u64::from(route.0), Ordering::Release);
    }

    /// All its routes on that stream.
    pub(crate) fn routes(&self, stream: u32) -> impl Iterator<Item = Route> + '_ {
        (0..self.routes.len()).filter_map(move |method| self.route(method, stream))
    }

    /// A call without its payload, by its route.
    pub(crate) fn short(&self, route: Route, id: u64, token: Option<Token>) -> Call {
        Call { id, route: route.0, token: token.map_or(0, Token::get), ..Call::default() }
    }

    /// A call without its payload that names everything, and gives a route its meaning if there is one.
    pub(crate) fn full(&self, method: usize, route: Option<Route>, id: u64, token: Option<Token>) -> Call {
        Call {
            id,
            endpoint: self.endpoint.to_string(),
            interface: self.interface.name.to_owned(),
            method: self.interface.methods[method].name.to_owned(),
            cluster: self.cluster.map_or(0, |cluster| cluster.0),
            election: self.election.to_string(),
            token: token.map_or(0, Token::get),
            route: route.map_or(0, |route| route.0),
            window: self.tells.window(self.interface.methods[method].lane).limit(),
            ..Call::default()
        }
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.link.forget(self);
    }
}
