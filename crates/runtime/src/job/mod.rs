//! What a job is: its id, its description, the graph that is made of the description at submission, its status, its result.

mod graph;
mod id;
mod input;
mod result;
mod spec;
mod status;

pub use graph::JobGraph;
pub use id::{BadJobId, JobId};
pub use input::{InputError, list_input};
pub use result::{JobResult, ResultPart};
pub use spec::{BadSpec, Input, JobKind, JobSpec, PARALLELISM_MAX};
pub use status::{JobState, JobStatus};
