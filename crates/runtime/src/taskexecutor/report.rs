//! What tasks say to their JobMaster.

use tokio::sync::mpsc;

use crate::dataflow::align::CheckpointId;
use crate::dataflow::source::SourcePosition;
use crate::job::ResultPart;
use crate::jobmaster::checkpoints::TaskSnapshot;
use crate::jobmaster::scheduler::Lasting;
use crate::jobmaster::task::TaskId;

/// One thing that a task says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Report {
    /// The first record was counted.
    Running,
    SourceEnded(SourcePosition),
    CountFinished(ResultPart),
    Failed {
        why: String,
        lasting: Lasting,
    },
    Acknowledge(CheckpointId, TaskSnapshot),
    Decline(CheckpointId, String),
}

/// Where the tasks of one attempt put their reports; one reporter sends them in this order until they are answered.
#[derive(Clone, Debug)]
pub(crate) struct Reports {
    task: TaskId,
    queue: mpsc::Sender<(TaskId, Report)>,
}

impl Reports {
    pub(crate) fn new(task: TaskId, queue: mpsc::Sender<(TaskId, Report)>) -> Reports {
        Reports { task, queue }
    }

    /// Queues a report; waits while the queue is full. When the reporter is gone the attempt is over, and nobody listens.
    pub(crate) async fn send(&self, report: Report) {
        let _ = self.queue.send((self.task, report)).await;
    }
}
