//! What a running JobManager or TaskExecutor can be asked, for metrics and health. It only looks, and keeps nothing alive.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use palisade_fence::{ClusterId, LeaderSource, LeaderView, Token};
use palisade_rpc::Counted;
use tokio::sync::watch;

use crate::jobmanager::WorkView;
use crate::taskexecutor::Counters;

/// What a process knows of the election that it follows.
#[derive(Clone)]
pub(crate) struct Following(pub(crate) Arc<dyn LeaderSource>);

impl Following {
    /// A view from before the cluster was founded names none, and is none.
    fn view(&self) -> Option<LeaderView> {
        self.0.latest().filter(|view| view.cluster != ClusterId::default())
    }

    fn problem(&self) -> Option<String> {
        let election = self.0.election();
        self.view().is_none().then(|| format!("election '{election}': the store has not been heard yet"))
    }
}

/// Looks at a running JobManager.
#[derive(Clone)]
pub struct JobManagerObserver {
    pub(crate) rpc: palisade_rpc::Counters,
    pub(crate) following: Following,
    pub(crate) leads: watch::Receiver<Option<Token>>,
    pub(crate) work: watch::Receiver<Option<WorkView>>,
    pub(crate) leaderships: Arc<AtomicU64>,
}

/// A JobManager in numbers.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct JobManagerFigures {
    /// The token under which it leads.
    pub leads: Option<Token>,
    /// Leaderships that it was granted since it started.
    pub leaderships: u64,
    /// The token of whoever leads, as far as it has heard.
    pub leader: Option<Token>,
    /// TaskExecutors that are registered here; 0 while it does not lead, like all that follows.
    pub task_executors: u64,
    /// Their slots.
    pub slots: u64,
    /// Slots that run nothing.
    pub free_slots: u64,
    /// Jobs by the name of their state: every state that there is.
    pub jobs: BTreeMap<&'static str, u64>,
}

impl JobManagerObserver {
    /// How its endpoints answered.
    pub fn answers(&self) -> Vec<Counted> {
        self.rpc.all()
    }

    /// Why it could not take over now; empty: it leads, or stands by.
    pub fn problems(&self) -> Vec<String> {
        self.following.problem().into_iter().collect()
    }

    /// It in numbers.
    pub fn figures(&self) -> JobManagerFigures {
        let figures = JobManagerFigures {
            leads: *self.leads.borrow(),
            leaderships: self.leaderships.load(Ordering::Relaxed),
            leader: self.following.view().and_then(|view| view.token),
            jobs: WorkView::states(),
            ..JobManagerFigures::default()
        };
        match &*self.work.borrow() {
            Some(work) => work.fill(figures),
            None => figures,
        }
    }
}

/// Looks at a running TaskExecutor.
#[derive(Clone)]
pub struct TaskExecutorObserver {
    pub(crate) rpc: palisade_rpc::Counters,
    pub(crate) following: Following,
    pub(crate) registered: watch::Receiver<Option<Token>>,
    pub(crate) counters: Counters,
    pub(crate) slots: u32,
}

/// A TaskExecutor in numbers.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TaskExecutorFigures {
    /// The token of the leader that it is registered with.
    pub registered: Option<Token>,
    /// The token of whoever leads, as far as it has heard.
    pub leader: Option<Token>,
    /// How many subtasks it runs at once.
    pub slots: u32,
    /// What it counted, by name.
    pub counted: Vec<(&'static str, u64)>,
}

impl TaskExecutorObserver {
    /// How its endpoint answered.
    pub fn answers(&self) -> Vec<Counted> {
        self.rpc.all()
    }

    /// Why it takes no work now; empty: it is registered with a leader.
    pub fn problems(&self) -> Vec<String> {
        let alone = || self.registered.borrow().is_none().then(|| "it is registered with no leader".to_owned());
        self.following.problem().or_else(alone).into_iter().collect()
    }

    /// It in numbers.
    pub fn figures(&self) -> TaskExecutorFigures {
        TaskExecutorFigures {
            registered: *self.registered.borrow(),
            leader: self.following.view().and_then(|view| view.token),
            slots: self.slots,
            counted: self.counters.all(),
        }
    }
}
