//! The network of a run: every process is reached through a proxy of ours, which knows who calls whom.

pub(crate) mod faults;
pub(crate) mod proxy;
mod who;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tokio::sync::watch;

use self::faults::Faults;
use self::proxy::{Callers, Proxy};
pub(crate) use self::who::Who;

/// How the harness itself is called on the network.
pub(crate) const CLIENT: &str = "client";

/// Proxies by the name of whom they stand before, and the faults that they obey.
#[derive(Debug)]
pub(crate) struct Proxies {
    who: Who,
    faults: watch::Sender<Arc<Faults>>,
    by_name: Mutex<BTreeMap<String, Proxy>>,
    seed: u64,
}

impl Proxies {
    pub(crate) fn new(seed: u64) -> Proxies {
        let who = Who::default();
        who.is(std::process::id(), CLIENT);
        Proxies { who, faults: watch::channel(Arc::new(Faults::none())).0, by_name: Mutex::default(), seed }
    }

    /// Which process acts under which name.
    pub(crate) fn who(&self) -> &Who {
        &self.who
    }

    /// Puts a proxy before `name`, which listens at `upstream`; gives the address that everybody is to use.
    pub(crate) async fn before(&self, name: &str, upstream: &str) -> anyhow::Result<String> {
        let callers = Callers::ByProcess(self.who.clone());
        let proxy = Proxy::start(name, upstream, callers, self.faults.subscribe(), self.seed).await?;
        let address = proxy.address();
        self.lock().insert(name.to_owned(), proxy);
        Ok(address)
    }

    /// A proxy before `name` at `upstream` for one caller alone, `caller`; it ends when it is dropped.
    pub(crate) async fn own(&self, caller: &str, name: &str, upstream: &str) -> anyhow::Result<Proxy> {
        Proxy::start(name, upstream, Callers::Named(caller.to_owned()), self.faults.subscribe(), self.seed).await
    }

    /// Where `name` is reached, if there is a proxy before it.
    pub(crate) fn address(&self, name: &str) -> Option<String> {
        self.lock().get(name).map(Proxy::address)
    }

    /// `name` listens elsewhere now.
    pub(crate) fn moved(&self, name: &str, upstream: &str) {
        if let Some(proxy) = self.lock().get(name) {
            proxy.moved(upstream);
        }
    }

    /// What is wrong from now on, instead of what was before.
    pub(crate) fn set(&self, faults: Faults) {
        self.faults.send_replace(Arc::new(faults));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Proxy>> {
        self.by_name.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
