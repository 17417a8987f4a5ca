//! An election and a disk for these tests.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use palisade_fence::source::{Looked, Unreachable};
use palisade_fence::{ClusterId, DurableGuard, DurableGuardError, LeaderSource, LeaderView, Token};
use tokio::sync::watch;

use crate::service::ELECTION;

pub(crate) const CLUSTER: ClusterId = ClusterId(0xc1);

/// The truth, and the stream that tells it late.
pub(crate) struct Granted {
    truth: Mutex<Option<LeaderView>>,
    stream: watch::Sender<Option<LeaderView>>,
}

impl Granted {
    pub(crate) fn at(n: u32) -> Arc<Granted> {
        let granted = Granted { truth: Mutex::new(None), stream: watch::Sender::new(None) };
        granted.grant(n);
        Arc::new(granted)
    }

    /// Only a read knows.
    pub(crate) fn grant(&self, n: u32) {
        *self.truth.lock().unwrap() = Some(LeaderView {
            cluster: CLUSTER,
            seq: u64::from(n),
            token: Some(Token::new(0, n)),
            address: format!("leader-{n}:1"),
            components: BTreeMap::new(),
        });
    }

    pub(crate) fn announce(&self) {
        self.stream.send_replace(self.truth.lock().unwrap().clone());
    }

    pub(crate) fn cut_off(&self) {
        *self.truth.lock().unwrap() = None;
    }
}

impl LeaderSource for Granted {
    fn election(&self) -> &str {
        ELECTION
    }

    fn latest(&self) -> Option<LeaderView> {
        self.stream.borrow().clone()
    }

    fn read(&self) -> Looked<'_> {
        let truth = self.truth.lock().unwrap().clone();
        Box::pin(async move { truth.ok_or(Unreachable { why: "cut off".to_owned() }) })
    }

    fn changed(&self, after: u64) -> Pin<Box<dyn Future<Output = LeaderView> + Send + '_>> {
        let mut stream = self.stream.subscribe();
        Box::pin(async move {
            let newer = |view: &Option<LeaderView>| view.as_ref().is_some_and(|view| view.seq > after);
            stream.wait_for(newer).await.unwrap().clone().unwrap()
        })
    }
}

/// Outlives the layer, as a file would.
#[derive(Default)]
pub(crate) struct Disk {
    kept: Mutex<Option<Token>>,
    pub(crate) full: Mutex<bool>,
}

impl Disk {
    pub(crate) fn kept(&self) -> Option<Token> {
        *self.kept.lock().unwrap()
    }
}

impl DurableGuard for Disk {
    fn load(&self, _: ClusterId, _: &str) -> Result<Option<Token>, DurableGuardError> {
        Ok(self.kept())
    }

    fn raise(&self, _: ClusterId, _: &str, token: Token) -> Result<(), DurableGuardError> {
        if *self.full.lock().unwrap() {
            return Err(DurableGuardError { why: "no space left".to_owned() });
        }
        let before = self.kept.lock().unwrap().replace(token);
        assert!(before < Some(token), "a durable guard went from {before:?} to {token}");
        Ok(())
    }
}
