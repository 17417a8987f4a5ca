//! Connections to the store leader for what is forwarded: kept, and connected again by themselves. Calls, long streams and
//! sessions each have their own, so that bulk delays no keep-alive.
//!
//! Keeps true: no connection carries more than [`PER_CONNECTION`] calls at once; a node has no more of one purpose under way
//! than its bound says.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use palisade_world::World;
use palisade_world::grpc::{self, BadAddress};
use tonic::transport::Channel;

/// Calls at once on one connection: what every HTTP/2 server should allow. More would wait for others to end, and a stream
/// that lasts for hours ends for nobody.
const PER_CONNECTION: usize = 100;

/// What a connection is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Purpose {
    /// Requests with one answer.
    Calls,
    /// Streams that carry keys or elections.
    Streams,
    /// Session streams.
    Sessions,
}

impl Purpose {
    /// Calls under way at once for all clients of this node.
    const fn bound(self) -> usize {
        match self {
            // A quarter of what the store leader lets wait: each may hold a request of 1.5 MiB, but together no more than the
            // flow control of their connections lets in.
            Purpose::Calls => 4_096,
            // As many observers as a node serves by itself.
            Purpose::Streams => crate::hub::MAX_OBSERVERS,
            // As many streams as a store leader accepts.
            Purpose::Sessions => crate::sessions::MAX_STREAMS,
        }
    }
}

/// A place on a connection; given back when it is dropped.
pub(crate) struct Seat {
    pub(crate) channel: Channel,
    _taken: Arc<()>,
}

/// Why there is no place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum NoSeat {
    /// So many are under way.
    Full(usize),
    /// The store leader's address cannot be dialled.
    BadAddress(BadAddress),
}

/// All connections.
#[derive(Clone)]
pub(super) struct Links {
    world: World,
    connections: Arc<Mutex<Connections>>,
}

/// By address, too: a store leader that comes back finds its old streams still ending.
type Connections = BTreeMap<(Purpose, String), Vec<Connection>>;

struct Connection {
    channel: Channel,
    /// One reference here, and one in each [`Seat`].
    seats: Arc<()>,
}

impl Connection {
    fn taken(&self) -> usize {
        Arc::strong_count(&self.seats) - 1
    }
}

impl Links {
    pub(super) fn new(world: World) -> Links {
        Links { world, connections: Arc::default() }
    }

    /// A place on a connection to this address.
    pub(super) fn seat(&self, address: &str, purpose: Purpose) -> Result<Seat, NoSeat> {
        let mut all = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        let under_way = all.iter().filter(|((it, _), _)| *it == purpose).flat_map(|(_, it)| it).map(Connection::taken);
        if under_way.sum::<usize>() >= purpose.bound() {
            return Err(NoSeat::Full(purpose.bound()));
        }
        let key = (purpose, address.to_owned());
        if !all.contains_key(&key) {
            // Another leads: of the connections to others, those stay on which something still ends.
            all.retain(|(_, to), connections| to == address || connections.iter().any(|it| it.taken() > 0));
        }
        let connections = all.entry(key).or_default();
        let free = connections.iter().find(|it| it.taken() < PER_CONNECTION);
        if let Some(Connection { channel, seats }) = free {
            return Ok(Seat { channel: channel.clone(), _taken: Arc::clone(seats) });
        }
        let channel = match purpose {
            Purpose::Calls => grpc::channel(&self.world, address),
            // A client that does not read holds up nobody else who shares its connection.
            Purpose::Streams | Purpose::Sessions => grpc::channel_of_streams(&self.world, address),
        };
        let channel = channel.map_err(NoSeat::BadAddress)?;
        let seats = Arc::new(());
        let seat = Seat { channel: channel.clone(), _taken: Arc::clone(&seats) };
        connections.push(Connection { channel, seats });
        Ok(seat)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(links: &Links) -> usize {
        links.connections.lock().unwrap().values().map(Vec::len).sum()
    }

    #[tokio::test]
    async fn calls_share_a_connection_until_it_is_full() {
        let links = Links::new(World::real());
        let seats: Vec<Seat> = (0..PER_CONNECTION).map(|_| links.seat("a:1", Purpose::Calls).ok().unwrap()).collect();
        assert_eq!(count(&links), 1);
        let _more = links.seat("a:1", Purpose::Calls).ok().unwrap();
        assert_eq!(count(&links), 2);
        drop(seats);
        let _again = links.seat("a:1", Purpose::Calls).ok().unwrap();
        assert_eq!(count(&links), 2);
        let _other = links.seat("a:1", Purpose::Sessions).ok().unwrap();
        assert_eq!(count(&links), 3, "a session shares no connection with bulk");
    }

    #[tokio::test]
    async fn what_is_under_way_is_bounded() {
        let links = Links::new(World::real());
        let bound = Purpose::Calls.bound();
        let seats: Vec<Seat> = (0..bound).map(|_| links.seat("a:1", Purpose::Calls).ok().unwrap()).collect();
        assert_eq!(links.seat("b:1", Purpose::Calls).err(), Some(NoSeat::Full(bound)));
        drop(seats);
        assert!(links.seat("b:1", Purpose::Calls).is_ok());
        assert_eq!(count(&links), 1, "nothing ends on the connections to the one before");
    }
}
