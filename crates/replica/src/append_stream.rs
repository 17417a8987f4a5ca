//! Replication to one follower: one long-lived stream, several appends in flight, answers in the order of the requests.
//!
//! It repeats nothing: when the stream breaks or the follower is silent while something is in flight, it ends with an
//! error, and openraft begins again from what the follower has acknowledged.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::stream::{self, Stream, StreamExt};
use openraft::raft::{AppendEntriesRequest, StreamAppendResult};
use palisade_wire::replica::v1 as wire;
use palisade_world::World;
use tokio::sync::Semaphore;
use tonic::Streaming;

use crate::credentials::Credentials;
use crate::links::Client;
use crate::network::{CallError, append_request, append_result};
use crate::revocable::{Revoke, revocable};
use crate::types::Types;
use crate::{Machine, Peer};

/// Appends that a follower has not acknowledged yet. Enough to fill a link while its disk syncs; few enough that the
/// store leader's entries gather into large appends instead of queueing as small ones.
const IN_FLIGHT: usize = 16;

/// What is needed to open the stream.
pub(crate) struct AppendStream<M: Machine> {
    pub(crate) peer: Peer,
    pub(crate) client: Client,
    pub(crate) credentials: Arc<Credentials<M>>,
    pub(crate) world: World,
    pub(crate) patience: Duration,
}

/// How many appends wait for an answer, and room for more.
struct Window {
    room: Semaphore,
    waiting: AtomicUsize,
}

type Outcome<M> = Result<StreamAppendResult<Types<<M as Machine>::Reply>>, CallError>;

impl<M: Machine> AppendStream<M> {
    /// Opens the stream: appends come from `input`, of which the first must be there. Each answer stands for the oldest append
    /// without one. The stream ends after the first answer that is not a plain "matched up to here".
    pub(crate) async fn open<S>(self, input: S) -> Result<impl Stream<Item = Outcome<M>> + Send + 'static, CallError>
    where
        S: Stream<Item = AppendEntriesRequest<Types<M::Reply>>> + Send + Unpin + 'static,
    {
        let AppendStream { peer, mut client, credentials, world, patience } = self;
        let window = Arc::new(Window { room: Semaphore::new(IN_FLIGHT), waiting: AtomicUsize::new(0) });
        let (requests, revoke) = {
            let requests = requests(input, peer.clone(), Arc::clone(&credentials), Arc::clone(&window));
            revocable(requests.boxed())
        };
        let replies = match world.timeout(patience, client.append(requests)).await {
            Some(opened) => opened?.into_inner(),
            None => return Err(CallError::Broken(format!("{peer} opened no stream within {patience:?}"))),
        };
        let answers = Some(Answers { peer, credentials, replies, window, world, patience, _revoke: revoke });
        Ok(stream::unfold(answers, |answers| async move {
            let mut answers = answers?;
            let answer = answers.next().await?;
            let goes_on = matches!(answer, Ok(Ok(_)));
            Some((answer, goes_on.then_some(answers)))
        }))
    }
}

/// Appends as messages, held back while the window is full.
fn requests<M, S>(
    input: S,
    peer: Peer,
    credentials: Arc<Credentials<M>>,
    window: Arc<Window>,
) -> impl Stream<Item = wire::AppendRequest> + Send + 'static
where
    M: Machine,
    S: Stream<Item = AppendEntriesRequest<Types<M::Reply>>> + Send + Unpin + 'static,
{
    stream::unfold((input, window), move |(mut input, window)| {
        let (peer, credentials) = (peer.clone(), Arc::clone(&credentials));
        async move {
            // Room first: a request that was taken must not wait here while newer entries could have joined it.
            window.room.acquire().await.ok()?.forget();
            let request = input.next().await?;
            window.waiting.fetch_add(1, Ordering::AcqRel);
            credentials.acknowledged.committed(request.leader_commit.map(|id| id.index));
            Some((append_request(Some(credentials.envelope(&peer)), &request), (input, window)))
        }
    })
}

struct Answers<M: Machine> {
    peer: Peer,
    credentials: Arc<Credentials<M>>,
    replies: Streaming<wire::AppendReply>,
    window: Arc<Window>,
    world: World,
    patience: Duration,
    /// Appends that were not sent when this is dropped must never be.
    _revoke: Revoke<wire::AppendRequest>,
}

impl<M: Machine> Answers<M> {
    /// The next answer; `None` when the follower has closed the stream and owes nothing. Silence counts only while
    /// something is in flight, and is noticed after one to two times the patience.
    async fn next(&mut self) -> Option<Outcome<M>> {
        loop {
            let waiting_before = self.window.waiting.load(Ordering::Acquire);
            let reply = match self.world.timeout(self.patience, self.replies.message()).await {
                Some(reply) => reply,
                None if waiting_before == 0 => continue,
                None => {
                    let why = format!("{} has not acknowledged an append within {:?}", self.peer, self.patience);
                    return Some(Err(CallError::Broken(why)));
                }
            };
            return match reply {
                Ok(Some(reply)) => {
                    self.window.waiting.fetch_sub(1, Ordering::AcqRel);
                    self.window.room.add_permits(1);
                    Some(append_result(&self.peer, &self.credentials.acknowledged, reply))
                }
                Ok(None) if self.window.waiting.load(Ordering::Acquire) == 0 => None,
                Ok(None) => Some(Err(CallError::Broken(format!("{} closed the stream", self.peer)))),
                Err(status) => Some(Err(CallError::from(status))),
            };
        }
    }
}
