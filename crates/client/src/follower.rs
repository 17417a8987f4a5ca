//! A background observer that keeps the newest view of one election at hand, for receivers that check tokens.
//!
//! Keeps true: a view never replaces one that is newer. A view that no longer changes because the store cannot be reached
//! says nothing about who leads now: whoever needs to know reads.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use palisade_fence::source::{Looked, Unreachable};
use palisade_fence::{LeaderSource, LeaderView};
use palisade_world::Task;
use tokio::sync::watch;

use crate::elections::leader;
use crate::requests::Shared;
use crate::seen::Position;
use crate::{Client, Grant, Header, ObservedKind, Reading};

/// After an error that reconnecting cannot mend (mixed-up endpoints): somebody may mend it from outside.
const AFTER_ERROR: Duration = Duration::from_secs(1);

/// Follows one election until it is dropped.
#[derive(Debug)]
pub struct ElectionFollower {
    election: String,
    shared: Arc<Shared>,
    views: Arc<watch::Sender<Option<Placed>>>,
    /// Ends with this handle.
    _task: Task<()>,
}

/// A view and its place, with the generation that the view itself does not show.
#[derive(Clone, Debug)]
struct Placed {
    position: Position,
    view: LeaderView,
}

impl ElectionFollower {
    pub(crate) fn start(client: &Client, election: &str) -> ElectionFollower {
        let views = Arc::new(watch::Sender::new(None));
        let task =
            client.world().spawn("palisade-follow", follow(client.clone(), election.to_owned(), Arc::clone(&views)));
        ElectionFollower { election: election.to_owned(), shared: Arc::clone(&client.shared), views, _task: task }
    }
}

async fn follow(client: Client, election: String, views: Arc<watch::Sender<Option<Placed>>>) {
    loop {
        let mut observer = client.observe(&election);
        let error = loop {
            match observer.next().await {
                // A gap says nothing about who leads; the state comes with it.
                Ok(observed) if matches!(observed.kind, ObservedKind::Gap { .. }) => {}
                Ok(observed) => {
                    learn(&views, &observed.header, observed.kind.leader());
                }
                Err(error) => break error,
            }
        };
        tracing::warn!(%error, election, "the election cannot be followed; trying again");
        client.world().sleep(AFTER_ERROR).await;
    }
}

/// Makes this the newest view, unless a newer one is known.
fn learn(views: &watch::Sender<Option<Placed>>, header: &Header, leader: Option<&Grant>) -> LeaderView {
    let view = LeaderView {
        cluster: header.cluster,
        seq: header.seq,
        token: leader.map(|grant| grant.token),
        address: leader.map(|grant| grant.value.address.clone()).unwrap_or_default(),
        components: leader.map(|grant| grant.value.components.clone()).unwrap_or_default(),
    };
    let placed = Placed { position: Position::of(header), view: view.clone() };
    views.send_if_modified(|newest| {
        // At the same place: the later event of one command, or the same state read again.
        let news = newest.as_ref().is_none_or(|it| it.position <= placed.position && it.view != placed.view);
        if news {
            *newest = Some(placed);
        }
        news
    });
    view
}

impl LeaderSource for ElectionFollower {
    fn election(&self) -> &str {
        &self.election
    }

    fn latest(&self) -> Option<LeaderView> {
        self.views.borrow().as_ref().map(|it| it.view.clone())
    }

    fn read(&self) -> Looked<'_> {
        Box::pin(async {
            let (header, leader) = leader(&self.shared, &self.election, Reading::Linearizable)
                .await
                .map_err(|error| Unreachable { why: error.to_string() })?;
            Ok(learn(&self.views, &header, leader.as_ref()))
        })
    }

    fn changed(&self, after: u64) -> Pin<Box<dyn Future<Output = LeaderView> + Send + '_>> {
        let mut views = self.views.subscribe();
        Box::pin(async move {
            let newer = views.wait_for(|it| it.as_ref().is_some_and(|it| it.view.seq > after)).await;
            newer.expect("its sender lives in the follower").as_ref().expect("it was waited for").view.clone()
        })
    }
}

#[cfg(test)]
mod tests {
    use palisade_fence::{ClusterId, Token};

    use super::*;

    fn header(seq: u64) -> Header {
        Header { cluster: ClusterId(7), generation: 0, seq, revision: 0 }
    }

    #[test]
    fn a_late_read_does_not_replace_a_newer_view() {
        let views = watch::Sender::new(None);
        let grant = |counter| Grant {
            election: "e".to_owned(),
            candidate: "a".to_owned(),
            session: 1,
            serial: 1,
            token: Token::new(0, counter),
            seq: 0,
            since_unix_ms: 0,
            value: crate::Value::at("h:1"),
        };
        learn(&views, &header(5), Some(&grant(2)));
        learn(&views, &header(4), Some(&grant(1)));
        let newest = views.borrow().as_ref().map(|it| (it.view.seq, it.view.token));
        assert_eq!(newest, Some((5, Some(Token::new(0, 2)))));
        learn(&views, &header(6), None);
        assert_eq!(views.borrow().as_ref().map(|it| (it.view.seq, it.view.token)), Some((6, None)));
    }
}
