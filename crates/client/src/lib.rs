//! What Rust users link: session, campaign, leadership, observe, keys.

mod backoff;
mod client;
mod dial;
mod elections;
mod error;
mod follower;
mod grant;
mod kv;
mod leadership;
mod links;
mod observer;
mod requests;
mod seen;
mod serials;
mod session;
mod session_core;
mod session_driver;

pub use client::{Client, ClientConfig, ConfigError};
pub use elections::{ElectionSummary, ProclaimOptions, ResignOptions, Resigned};
pub use error::{Error, ErrorKind, Outcome};
pub use follower::ElectionFollower;
pub use grant::{Grant, Header, Value};
pub use kv::{DeleteOptions, Deleted, Got, KeyValue, Put, PutOptions};
pub use leadership::{LeaderToken, Leadership, LeadershipState, LostWhy};
pub use observer::{Observed, ObservedKind, Observer};
pub use palisade_fence::{Fence, Token};
pub use session::{CampaignOptions, OnDisconnect, Session, SessionEnd, SessionOptions};
