//! What Rust users link: sessions, campaigns, leaderships, observers, keys.
//!
//! # How to lead
//!
//! ```no_run
//! use std::time::Duration;
//! use palisade_client::{CampaignOptions, Client, ClientConfig, LeadershipState, OnDisconnect, PutOptions, SessionOptions, Value};
//! use palisade_world::World;
//!
//! # async fn work_a_little() {}
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let endpoints = vec!["10.0.0.1:7070".to_owned(), "10.0.0.2:7070".to_owned(), "10.0.0.3:7070".to_owned()];
//! let client = Client::new(ClientConfig { endpoints, request_timeout: Duration::from_secs(5) }, World::real())?;
//! loop {
//!     let options = SessionOptions { ttl: Duration::from_secs(2), ..SessionOptions::default() };
//!     let session = client.open_session(options).await?;
//!     let leadership = session
//!         .campaign(CampaignOptions {
//!             election: "billing".to_owned(),
//!             candidate_id: "billing-1".to_owned(),
//!             value: Value::at("10.0.0.7:9000"), // what observers need to reach this leader
//!             priority: 0,
//!         })
//!         .await?; // waits for as long as it takes, across failovers of the store
//!
//!     let mut state = leadership.state();
//!     loop {
//!         let now = state.borrow_and_update().clone();
//!         match now {
//!             // Every write carries the fence: whoever was replaced meanwhile changes nothing.
//!             LeadershipState::Held { .. } => {
//!                 let (fence, session) = (Some(leadership.fence()), Some(&session));
//!                 client.put(PutOptions { fence, session, ..PutOptions::new("billing/progress", "42") }).await?;
//!             }
//!             // The connection broke. Still the leader until the deadline: finish, begin nothing long.
//!             LeadershipState::Suspect { .. } => {}
//!             // Over. Stop, then campaign again: the process need not exit.
//!             LeadershipState::Lost { why } => {
//!                 eprintln!("lost: {why}");
//!                 break;
//!             }
//!         }
//!         tokio::select! {
//!             _ = state.changed() => {} // at every acknowledged keep-alive, and when it is suspect or lost
//!             () = work_a_little() => {}
//!             // An administrator wants somebody else to lead: finish, then let go.
//!             _ = leadership.end_requested() => break,
//!         }
//!     }
//!     session.close().await?; // the next candidate leads at once
//! }
//! # }
//! ```
//!
//! # What the states mean
//!
//! | state | what is known | what to do |
//! |---|---|---|
//! | held | the store knows this leader; nobody else leads before the deadline | lead |
//! | suspect | the stream broke, or is silent. A holder that *keeps until the TTL* still leads until the deadline; one that is *released after N ms* may be released any time now | finish; begin nothing long; fence everything |
//! | lost | the store said so, or the limit passed without its word. Another may lead | stop at once; campaign again for a new token |
//!
//! A leadership that reaches its limit ends its session with it, so that nothing of it is left in the store; open another.
//!
//! A leadership that somebody else wants to end goes on until its holder is ready: [`Leadership::end_requested`] tells it, and
//! [`Leadership::resign`] hands over to whom the request names. A holder that is *released after N ms* is not asked; it is ended.
//!
//! # What not to do
//!
//! - Do not act on "I was the leader when I looked". Send the fence with every write, and let the resource compare: a process
//!   may stand still between the look and the write. [`Leadership::token_source`] stamps calls, and gives nothing once lost.
//! - Do not guard by the deadline alone with [`OnDisconnect::ReleaseAfter`]: only a holder that keeps until its TTL has one
//!   that nobody undercuts.
//! - Do not repeat a write whose outcome is [`Outcome::Unknown`]: give it a session, and the client repeats it so that it takes
//!   effect once.
//! - Do not resign before the work has stopped. [`Leadership::resign`] and [`Session::close`] make the others lead.
//! - Do not open a session per request, and do not share a candidate id between processes.
//!
//! # Reading order
//!
//! [`Client`] (connections and requests), [`Session`] and [`Leadership`] (what a holder has in its hands), `session_core` (what is
//! done about sessions: pure) and `session_driver` (which carries it out), `dial` (where the store leader is looked for),
//! `members` (which learns where the nodes are, whoever they are today), [`Observer`] and [`ElectionFollower`] (everybody else's view), [`Keys`] with [`Client::put`], [`Client::range`],
//! [`Client::txn`] and [`Watcher`], `requests` (what is sent again, and what never is), `course` (whom to ask next, and when to
//! ask through another node), [`Pipeline`] (many of them on one stream), [`Backup`] (all there is), [`Error`].
//!
//! This crate does not know the store's rules: who is granted, what expires and what a fence admits is decided there.

mod backoff;
mod backup;
mod client;
mod course;
mod demand;
mod dial;
mod elections;
mod error;
mod follower;
mod grant;
mod history;
mod keys;
mod kv;
mod leadership;
mod links;
mod listening;
mod members;
mod observer;
mod pipeline;
mod range;
mod requests;
mod seen;
mod serials;
mod session;
mod session_core;
mod session_driver;
mod sessions;
mod stream_links;
mod txn;
mod watcher;
mod way_back;

pub use backup::Backup;
pub use client::{Client, ClientConfig, ConfigError};
pub use demand::{Demand, Ended, Requested};
pub use elections::{ElectionSummary, ProclaimOptions, ResignOptions, TransferOptions, WithdrawOptions};
pub use error::{Error, ErrorKind, Outcome};
pub use follower::ElectionFollower;
pub use grant::{Grant, Header, Value};
pub use history::{History, Reading, Reign};
pub use keys::{KeyValue, Keys};
pub use kv::{Binding, DeleteOptions, Deleted, Got, Put, PutOptions};
pub use leadership::{EndRequest, LeaderToken, Leadership, LeadershipState, LostWhy};
pub use members::{ClusterMember, ClusterMembers};
pub use observer::{ObserveFrom, Observed, ObservedKind, Observer};
pub use palisade_fence::{Fence, Token};
pub use pipeline::Pipeline;
pub use range::{Direction, Found, RangeOptions, Ranged, SortBy};
pub use session::{CampaignOptions, OnDisconnect, Session, SessionEnd, SessionOptions, SessionWish};
pub use sessions::SessionSummary;
pub use txn::{Compare, DeleteOp, KeyOp, KeyOpResult, PutOp, Relation, Txn, TxnDone};
pub use watcher::{KeyChange, Tell, WatchOptions, Watched, WatchedKind, Watcher};
