//! The client against a small store in this process, over real sockets: what it sends, what it repeats, what it believes.

// The helpers of tests are tests too.
#![allow(clippy::unwrap_used)]

mod asking;
mod fake_store;
mod leadership;
mod observing;
mod pipeline;
#[cfg(feature = "planted")]
mod planted;
mod proxy;
mod requests;

use std::time::Duration;

use palisade_client::{CampaignOptions, Client, ClientConfig, OnDisconnect, Session, SessionOptions, Value};
use palisade_world::World;

/// The bound of everything that a test waits for.
const PATIENCE: Duration = Duration::from_secs(20);

async fn within<F: Future>(what: &str, future: F) -> F::Output {
    World::real().timeout(PATIENCE, future).await.unwrap_or_else(|| panic!("{what}: not within {PATIENCE:?}"))
}

fn client(endpoints: &[&str]) -> Client {
    client_with(endpoints, Duration::from_secs(10))
}

fn client_with(endpoints: &[&str], request_timeout: Duration) -> Client {
    let endpoints = endpoints.iter().map(|it| (*it).to_owned()).collect();
    Client::new(ClientConfig { endpoints, request_timeout }, World::real()).unwrap()
}

async fn session(client: &Client, ttl_ms: u64) -> Session {
    let options = SessionOptions {
        ttl: Duration::from_millis(ttl_ms),
        on_disconnect: OnDisconnect::KeepUntilTtl,
        ..SessionOptions::default()
    };
    within("opening a session", client.open_session(options)).await.unwrap()
}

fn candidate(id: &str) -> CampaignOptions {
    CampaignOptions {
        election: "e".to_owned(),
        candidate_id: id.to_owned(),
        value: Value::at(format!("{id}:1")),
        priority: 0,
    }
}
