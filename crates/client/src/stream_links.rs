//! Connections for watchers and observers, apart from those for requests: there may be thousands of them, a user may leave one
//! unread, and neither may hold up anything else. As many as are needed, since a server bounds the streams of one connection.
//!
//! Keeps true: a connection is kept as long as somebody sits on it, and no longer.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use palisade_world::World;
use palisade_world::grpc::{self, BadAddress};
use tonic::service::interceptor::InterceptedService;
use tonic::transport;

use crate::links::{Asking, Channel};

/// Streams at once on one connection: what every HTTP/2 server should allow. One more would wait until another ends.
const PER_CONNECTION: usize = 100;

/// The connections, by address.
#[derive(Debug, Default)]
pub(crate) struct StreamLinks {
    connections: Mutex<BTreeMap<String, Vec<Connection>>>,
}

#[derive(Debug)]
struct Connection {
    channel: transport::Channel,
    /// One reference here, and one in each [`Seat`].
    seats: Arc<()>,
}

impl Connection {
    fn taken(&self) -> usize {
        Arc::strong_count(&self.seats) - 1
    }
}

/// A place on a connection; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) channel: Channel,
    _taken: Arc<()>,
}

impl StreamLinks {
    /// A place on a connection to this address.
    pub(crate) fn seat(&self, world: &World, address: &str, asking: Asking) -> Result<Seat, BadAddress> {
        let mut all = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, connections| {
            connections.retain(|it| it.taken() > 0);
            !connections.is_empty()
        });
        let connections = all.entry(address.to_owned()).or_default();
        let at = match connections.iter().position(|it| it.taken() < PER_CONNECTION) {
            Some(at) => at,
            None => {
                let channel = grpc::channel_of_streams(world, address)?;
                connections.push(Connection { channel, seats: Arc::default() });
                connections.len() - 1
            }
        };
        let Connection { channel, seats } = &connections[at];
        let channel = InterceptedService::new(channel.clone(), asking);
        Ok(Seat { channel, _taken: Arc::clone(seats) })
    }

    /// Puts nobody else on connections that answer nothing.
    pub(crate) fn forget(&self, address: &str) {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner).remove(address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(links: &StreamLinks) -> usize {
        links.connections.lock().unwrap().values().map(Vec::len).sum()
    }

    #[tokio::test]
    async fn streams_share_a_connection_until_it_is_full_and_the_last_one_closes_it() {
        let (links, world) = (StreamLinks::default(), World::real());
        let seat = |address| links.seat(&world, address, Asking::Itself);
        let seats: Vec<Seat> = (0..PER_CONNECTION).map(|_| seat("a:1").unwrap()).collect();
        assert_eq!(count(&links), 1);
        let more = seat("a:1").unwrap();
        assert_eq!(count(&links), 2);
        drop(seats);
        let _again = seat("a:1").unwrap();
        assert_eq!(count(&links), 1, "the one that nobody sits on is gone");
        links.forget("a:1");
        drop(more);
        let _anew = seat("a:1").unwrap();
        assert_eq!(count(&links), 1);
        assert!(seat("nonsense").is_err());
    }
}
