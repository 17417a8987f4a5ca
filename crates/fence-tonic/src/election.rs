//! One election that a worker obeys: who confirms its tokens, and where its guard is kept. Settings only; nothing is judged here.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use palisade_fence::{ClusterId, DurableGuard, DurableGuardError, Guard, LeaderSource, Token};

/// A hook's answer: whether the token was granted.
pub(crate) type Confirmed = Pin<Box<dyn Future<Output = bool> + Send>>;

/// Who says whether a higher token was granted.
#[derive(Clone)]
pub(crate) enum Confirm {
    /// Nobody: it is believed.
    Nobody,
    /// An election that can be asked.
    Election(Arc<dyn LeaderSource>),
    /// A function of the user's.
    Hook(Arc<dyn Fn(Token) -> Confirmed + Send + Sync>),
}

/// An election that a worker obeys. See the page of the crate for what each setting is worth.
#[derive(Clone)]
pub struct Election {
    pub(crate) name: String,
    pub(crate) cluster: Option<ClusterId>,
    pub(crate) confirm: Confirm,
    pub(crate) durable: Option<Arc<dyn DurableGuard>>,
    pub(crate) guard: Guard,
}

impl Election {
    /// By name; of any cluster; any higher token is believed; nothing outlives the process.
    pub fn named(name: impl Into<String>) -> Election {
        Election { name: name.into(), cluster: None, confirm: Confirm::Nobody, durable: None, guard: Guard::default() }
    }

    /// Of this cluster only: calls that name another are answered `not-leader`. A worker may obey elections of one name in
    /// several clusters.
    #[must_use]
    pub fn of(mut self, cluster: ClusterId) -> Election {
        self.cluster = Some(cluster);
        self
    }

    /// A higher token counts once this source has it, from its stream or by a read. What the stream brings raises the guard at
    /// the next call even if the new leader has not called yet; [`crate::FenceLayer::follow`] makes that at once.
    #[must_use]
    pub fn confirmed_by(mut self, source: Arc<dyn LeaderSource>) -> Election {
        self.confirm = Confirm::Election(source);
        self
    }

    /// A higher token counts if this says so. Asked before the guard rises, as often as calls come; it must bound itself in
    /// time. Dropping its future must be harmless.
    #[must_use]
    pub fn confirm<F>(mut self, hook: impl Fn(Token) -> F + Send + Sync + 'static) -> Election
    where
        F: Future<Output = bool> + Send + 'static,
    {
        self.confirm = Confirm::Hook(Arc::new(move |token| Box::pin(hook(token))));
        self
    }

    /// Keeps the guard of this cluster's election where it outlives the process, and begins where it stood. An error means that
    /// it cannot be read: then the worker must not serve.
    pub fn kept_in(
        mut self,
        cluster: ClusterId,
        durable: Arc<dyn DurableGuard>,
    ) -> Result<Election, DurableGuardError> {
        self.guard = Guard::restored(durable.load(cluster, &self.name)?);
        self.cluster = Some(cluster);
        self.durable = Some(durable);
        Ok(self)
    }
}

impl std::fmt::Debug for Election {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let confirmed_by = match &self.confirm {
            Confirm::Nobody => "nobody",
            Confirm::Election(_) => "election",
            Confirm::Hook(_) => "hook",
        };
        f.debug_struct("Election")
            .field("name", &self.name)
            .field("cluster", &self.cluster)
            .field("confirmed_by", &confirmed_by)
            .field("durable", &self.durable.is_some())
            .field("highest", &self.guard.highest())
            .finish()
    }
}
