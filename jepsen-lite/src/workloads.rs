//! What clients do while faults go on, and the good operations that must go through when all is healed.

mod append;
mod candidates;
mod cas;
mod job;
mod leaders;
mod observers;
mod register;
mod rpc;
mod runners;
mod sessions;
mod watches;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

pub(crate) use self::job::{
    Input, Job, finish as finish_job, input as job_input, status as job_status, submit as submit_job,
};
pub(crate) use self::register::link as writer_link;
use crate::run::Run;

/// What clients do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Workload {
    /// Candidates of the harness's own that keep their leadership until the TTL and know to the nanosecond until when they believe;
    /// they resign, close, are asked to hand over.
    Election,
    /// Candidates that are processes, and whoever leads writes the fenced registers under its token for as long as the run goes on,
    /// also when it has long been replaced.
    Register,
    /// As `Register`, without the fence: must show a stale write that was accepted.
    UnfencedRegister,
    /// Compare-and-set.
    Cas,
    /// Transactions that append to lists and read them.
    Append,
    /// Sessions that are renewed, closed, left alone, with keys bound to them.
    Sessions,
    /// Writers of keys, and watchers on every node that come back.
    Watch,
    /// Calls with the tokens of leaders past and present to TaskExecutors: tells and asks.
    Rpc,
    /// A word count over the whole run, which must come out exactly.
    Job,
    /// `elect run`: children that say all the time that they act.
    Runners,
}

impl Workload {
    /// Whether its candidates are processes, which are followed by others when they are ended.
    pub(crate) fn has_processes(self) -> bool {
        matches!(self, Workload::Register | Workload::UnfencedRegister | Workload::Runners)
    }

    /// Which checkers must have had something to check.
    pub(crate) fn checkers(self) -> &'static [&'static str] {
        match self {
            Workload::Election => &["election", "belief"],
            Workload::Register | Workload::UnfencedRegister => &["election", "fence", "replay"],
            Workload::Cas => &["linearizable", "replay"],
            Workload::Append => &["append"],
            Workload::Sessions => &["sessions"],
            Workload::Watch => &["watch"],
            Workload::Rpc => &["calls"],
            Workload::Job => &["exactly-once"],
            Workload::Runners => &["belief"],
        }
    }
}

/// Starts the clients of a workload. Each ends when the run stops; what one returns as an error is the harness's own failure.
pub(crate) async fn start(
    workload: Workload,
    run: &Run,
    vacancies: &mut Option<mpsc::Receiver<()>>,
    tasks: &mut JoinSet<anyhow::Result<()>>,
) -> anyhow::Result<()> {
    let mut taken =
        || vacancies.take().ok_or_else(|| anyhow::anyhow!("one workload at a time has candidates that are processes"));
    match workload {
        Workload::Election => candidates::start(run, tasks),
        Workload::Register | Workload::UnfencedRegister => {
            register::start(run, workload == Workload::Register, tasks);
            leaders::start(run, taken()?, tasks);
        }
        Workload::Cas => cas::start(run, tasks),
        Workload::Append => append::start(run, tasks),
        Workload::Sessions => sessions::start(run, tasks),
        Workload::Watch => watches::start(run, tasks),
        Workload::Rpc => rpc::start(run, tasks),
        // It is a process of the tested system's own; see `job`.
        Workload::Job => {}
        Workload::Runners => runners::start(run, taken()?, tasks).await?,
    }
    Ok(())
}

/// What must go through once all is healed: a good write and a good read of each object.
pub(crate) async fn finish(workload: Workload, run: &Run) -> anyhow::Result<()> {
    match workload {
        Workload::Election => candidates::finish(run).await,
        Workload::Register => register::finish(run).await,
        Workload::UnfencedRegister => register::good_read(run, "r0").await,
        Workload::Cas => cas::finish(run).await,
        Workload::Append => append::finish(run).await,
        Workload::Sessions => sessions::finish(run).await,
        Workload::Watch => watches::finish(run).await,
        Workload::Rpc => rpc::finish(run).await,
        Workload::Job => Ok(()),
        Workload::Runners => runners::finish(run).await,
    }
}

/// Who follows the elections of a run from outside.
pub(crate) fn observe(run: &Run, election: &'static str, tasks: &mut JoinSet<anyhow::Result<()>>) {
    observers::start(run, election, tasks);
}
