//! Fencing for any tonic service: calls of a leader that was replaced are refused, whatever the service does.
//!
//! You have a tonic service that a leader calls, and somebody who tells the leader its token: a number that is higher for every
//! later leader. Put [`FenceLayer`] before the service and [`Stamper`] before the client; nothing else changes.
//!
//! ```
//! use std::sync::Arc;
//! use palisade_fence::{Token, TokenSource};
//! use palisade_fence_tonic::{Election, FenceLayer, Refused, Stamper};
//! use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
//!
//! struct Granted(u32); // what our election granted us
//! impl TokenSource for Granted {
//!     fn token(&self) -> Option<Token> { Some(Token::new(0, self.0)) }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (_, service) = tonic_health::server::health_reporter(); // any tonic service
//! let fence = FenceLayer::worker([Election::named("billing")]);
//! # let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! # let address = format!("http://{}", listener.local_addr()?);
//! # let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
//! tokio::spawn(tonic::transport::Server::builder().layer(fence).add_service(service).serve_with_incoming(incoming));
//!
//! let channel = tonic::transport::Endpoint::from_shared(address)?.connect_lazy();
//! let leader = |token| HealthClient::with_interceptor(channel.clone(), Stamper::new("billing", Arc::new(Granted(token))));
//! leader(1).check(HealthCheckRequest::default()).await?;
//! leader(2).check(HealthCheckRequest::default()).await?; // the next leader calls
//! let status = leader(1).check(HealthCheckRequest::default()).await.unwrap_err(); // the old one wakes up
//! assert_eq!(Refused::of(&status).unwrap().current, Some(Token::new(0, 2)));
//! # Ok(()) }
//! ```
//!
//! # Tokens from somewhere else
//! Nothing here needs a Palisade server: whoever implements [`TokenSource`](palisade_fence::TokenSource) hands out tokens. Any
//! number that never goes back will do: the revision of the key that elected you in etcd, the `czxid` of your lock node in
//! ZooKeeper, a counter in a file that each new leader raises before it leads:
//!
//! ```
//! use palisade_fence::{Token, TokenSource};
//! use palisade_fence_tonic::Stamper;
//! use std::{fs, io, path::Path, sync::Arc};
//!
//! struct Raised(Token);
//! impl TokenSource for Raised {
//!     fn token(&self) -> Option<Token> { Some(self.0) }
//! }
//!
//! /// Called by who holds the lock on `path`, once, before it leads.
//! fn next(path: &Path) -> io::Result<Raised> {
//!     let last: Token = fs::read_to_string(path)?.trim().parse().map_err(io::Error::other)?;
//!     let token = last.next().ok_or_else(|| io::Error::other("all tokens are used"))?;
//!     fs::write(path, token.to_string())?; // in earnest: write beside it, sync, rename, sync the folder
//!     Ok(Raised(token))
//! }
//!
//! # let folder = std::env::temp_dir().join(format!("fence-tonic-{}", std::process::id()));
//! # fs::create_dir_all(&folder)?;
//! # let path = folder.join("token");
//! # fs::write(&path, "41")?;
//! let (one, two) = (next(&path)?, next(&path)?);
//! assert!(two.token() > one.token());
//! let stamper = Stamper::new("billing", Arc::new(two));
//! # fs::remove_dir_all(&folder)?;
//! # Ok::<(), io::Error>(())
//! ```
//!
//! # What is checked
//!
//! | the service belongs to | no token | lower | equal | higher |
//! |---|---|---|---|---|
//! | a worker ([`FenceLayer::worker`]): a guard that rises | `INVALID_ARGUMENT` | `stale` | runs | confirmed: the guard rises, then it runs; else `ahead` |
//! | a leader ([`FenceLayer::leader`]): its present token | `INVALID_ARGUMENT` | `stale` | runs | `ahead` |
//! | neither, or another election or cluster | `INVALID_ARGUMENT` | `not-leader` | `not-leader` | `not-leader` |
//!
//! A refused call is `FAILED_PRECONDITION` with the trailers of [`palisade_fence::metadata`]; [`Refused::of`] reads them. Calls
//! to a worker carry the *sender's* token, calls to a leader the *addressee's*
//! ([`PresentLeader`](palisade_fence::PresentLeader)).
//!
//! **Who confirms a higher token.** Without more, nobody: a worker admits any token that is higher than what it has seen. That
//! is right where all who can reach the port are trusted to send tokens that were granted; a token that was made up, or comes
//! from another installation, would lock the worker until a real one passes it. So give the layer an election to ask
//! ([`Election::confirmed_by`]) or a function of your own ([`Election::confirm`]).
//!
//! **A check is worth only as much as the step behind it.** A handler that began under one token and awaits something must not
//! go on under the next. So the layer takes it away: before the first call under a higher token runs, every handler under a
//! lower one has been dropped, at the await where it stood, and its caller is told `stale` with outcome `unknown`; streams end
//! alike. What a handler has handed to another task or to another machine is beyond its reach: let that carry the token on
//! ([`Admitted`] is in the request's extensions).
//!
//! **After a restart** a worker knows nothing and would believe an old leader again. If what it guards outlives the process,
//! give it a memory ([`Election::kept_in`]); the raise is written before the first call under it runs. Without one, but with an
//! election to ask, it admits nothing before it has asked.
//!
//! # Reading order
//! `election` (what a worker obeys), `stamper` (the sender), `layer` and `admission` (the receiver), `slot` (what is taken away),
//! `refusal` (what is said).
//!
//! # What is deliberately not here
//! Elections, connections, retries, time. It spawns nothing and waits for nothing but the election.

mod admission;
mod election;
mod layer;
mod refusal;
mod slot;
mod stamper;

pub use admission::Admitted;
pub use election::Election;
pub use layer::{FenceLayer, Fenced};
pub use refusal::{Refused, Why};
pub use stamper::Stamper;
