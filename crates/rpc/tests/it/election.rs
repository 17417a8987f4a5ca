//! An election for tests: who leads, who says so on the stream, and whether it can be asked at all.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use palisade_fence::source::{Looked, Unreachable};
use palisade_fence::{ClusterId, LeaderSource, LeaderView, Token};
use palisade_rpc::{DurableGuard, DurableGuardError};
use tokio::sync::watch;

/// The cluster of all tests.
pub(crate) const CLUSTER: ClusterId = ClusterId(0xc1);

/// The election of all tests.
pub(crate) const ELECTION: &str = "counter/æ"; // must be percent-encoded in metadata

/// The n-th token.
pub(crate) fn token(n: u32) -> Token {
    Token::new(0, n)
}

/// The truth, and the stream that tells it late.
pub(crate) struct Election {
    cluster: ClusterId,
    name: &'static str,
    truth: Mutex<Option<LeaderView>>,
    stream: watch::Sender<Option<LeaderView>>,
    /// Reads wait until it is true.
    answers: watch::Sender<bool>,
    /// Linearizable reads so far.
    pub(crate) reads: AtomicU64,
}

impl Election {
    /// Granted under the n-th token; the stream has not said so.
    pub(crate) fn granted(n: u32) -> Arc<Election> {
        Election::of(CLUSTER, ELECTION, n)
    }

    /// The same of another cluster.
    pub(crate) fn in_cluster(cluster: ClusterId, n: u32) -> Arc<Election> {
        Election::of(cluster, ELECTION, n)
    }

    /// Another election of the cluster.
    pub(crate) fn named(name: &'static str, n: u32) -> Arc<Election> {
        Election::of(CLUSTER, name, n)
    }

    fn of(cluster: ClusterId, name: &'static str, n: u32) -> Arc<Election> {
        let election = Election {
            cluster,
            name,
            truth: Mutex::new(None),
            stream: watch::Sender::new(None),
            answers: watch::Sender::new(true),
            reads: AtomicU64::new(0),
        };
        election.grant(n);
        Arc::new(election)
    }

    /// A new leader; only a read knows.
    pub(crate) fn grant(&self, n: u32) {
        *self.truth.lock().unwrap() = Some(LeaderView {
            cluster: self.cluster,
            seq: u64::from(n),
            token: Some(token(n)),
            address: format!("leader-{n}:1"),
            components: BTreeMap::new(),
        });
    }

    /// Reads fail from now on.
    pub(crate) fn cut_off(&self) {
        *self.truth.lock().unwrap() = None;
    }

    /// Reads that begin from now on are not answered.
    pub(crate) fn hang(&self) {
        self.answers.send_replace(false);
    }

    /// The observe stream brings the truth.
    pub(crate) fn announce(&self) {
        let truth = self.truth.lock().unwrap().clone();
        self.stream.send_replace(truth);
    }
}

impl LeaderSource for Election {
    fn election(&self) -> &str {
        self.name
    }

    fn latest(&self) -> Option<LeaderView> {
        self.stream.borrow().clone()
    }

    fn read(&self) -> Looked<'_> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        let truth = self.truth.lock().unwrap().clone();
        let mut answers = self.answers.subscribe();
        Box::pin(async move {
            answers.wait_for(|answers| *answers).await.unwrap();
            truth.ok_or(Unreachable { why: "cut off".to_owned() })
        })
    }

    fn changed(&self, after: u64) -> Pin<Box<dyn Future<Output = LeaderView> + Send + '_>> {
        let mut stream = self.stream.subscribe();
        Box::pin(async move {
            let newer = |view: &Option<LeaderView>| view.as_ref().is_some_and(|view| view.seq > after || after == 0);
            stream.wait_for(newer).await.unwrap().clone().unwrap()
        })
    }
}

/// A durable guard that survives the endpoint, as a file would.
#[derive(Default)]
pub(crate) struct Disk {
    kept: Mutex<BTreeMap<(ClusterId, String), Token>>,
    /// Why writing fails, if it does.
    pub(crate) full: Mutex<Option<String>>,
    /// Writes that failed.
    refused: watch::Sender<u64>,
}

impl Disk {
    /// A disk on which an earlier life wrote the n-th token.
    pub(crate) fn with(n: u32) -> Arc<Disk> {
        let disk = Disk::default();
        disk.kept.lock().unwrap().insert((CLUSTER, ELECTION.to_owned()), token(n));
        Arc::new(disk)
    }

    /// A write has failed.
    pub(crate) async fn was_refused(&self) {
        self.refused.subscribe().wait_for(|refused| *refused > 0).await.unwrap();
    }

    /// What is written.
    pub(crate) fn kept(&self) -> Option<Token> {
        self.kept.lock().unwrap().get(&(CLUSTER, ELECTION.to_owned())).copied()
    }
}

impl DurableGuard for Disk {
    fn load(&self, cluster: ClusterId, election: &str) -> Result<Option<Token>, DurableGuardError> {
        Ok(self.kept.lock().unwrap().get(&(cluster, election.to_owned())).copied())
    }

    fn raise(&self, cluster: ClusterId, election: &str, token: Token) -> Result<(), DurableGuardError> {
        if let Some(why) = self.full.lock().unwrap().clone() {
            self.refused.send_modify(|refused| *refused += 1);
            return Err(DurableGuardError { why });
        }
        let before = self.kept.lock().unwrap().insert((cluster, election.to_owned()), token);
        assert!(before < Some(token), "a durable guard went from {before:?} to {token}");
        Ok(())
    }
}
