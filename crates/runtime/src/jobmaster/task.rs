//! Names of tasks, attempts and TaskExecutors.

use palisade_fence::Token;
use serde::{Deserialize, Serialize};

/// An operator of the word count. They are joined by a shuffle, so each is a vertex of the job graph.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Vertex {
    /// Reads files, gives out words.
    Source,
    /// Counts words.
    Count,
}

/// One subtask of one vertex.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TaskId {
    /// Its operator.
    pub vertex: Vertex,
    /// From 0 to the parallelism, exclusive.
    pub subtask: u32,
}

impl std::fmt::Display for TaskId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let vertex = match self.vertex {
            Vertex::Source => "source",
            Vertex::Count => "count",
        };
        write!(f, "{vertex}-{}", self.subtask)
    }
}

/// One execution of all tasks of a job. Records of different attempts never meet.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct AttemptId {
    /// The leadership that started it.
    pub token: Token,
    /// From 1, anew under each leadership.
    pub number: u64,
}

impl std::fmt::Display for AttemptId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.token, self.number)
    }
}

/// One run of a TaskExecutor process: started again under the same name it is another one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ExecutorId {
    /// The name it was given.
    pub name: String,
    /// Random bits, new for each start.
    pub incarnation: u64,
}

impl std::fmt::Display for ExecutorId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{:016x}", self.name, self.incarnation)
    }
}

/// A slot that a job may use.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Slot {
    /// Whose.
    pub executor: ExecutorId,
    /// Where its gateway is reached.
    pub address: String,
    /// Where its data exchange is reached.
    pub data_address: String,
    /// Which of its slots.
    pub index: u32,
}
