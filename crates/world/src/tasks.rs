//! Tasks that end with their handle, so that nothing outlives its owner by accident.

use std::any::Any;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::task::{JoinHandle, JoinSet};

/// A running task. Dropping it aborts the task; [`Task::detach`] lets it run on.
#[derive(Debug)]
#[must_use = "dropping the handle ends the task"]
pub struct Task<T> {
    name: &'static str,
    handle: Option<JoinHandle<T>>,
}

impl<T: Send + 'static> Task<T> {
    #[allow(clippy::disallowed_methods)] // this is the door
    pub(crate) fn start<F>(name: &'static str, future: F) -> Task<T>
    where
        F: Future<Output = T> + Send + 'static,
    {
        Task { name, handle: Some(tokio::spawn(future)) }
    }

    /// Lets the task run on without a handle.
    pub fn detach(mut self) {
        self.handle = None;
    }

    /// Ends the task at its next await.
    pub fn abort(&self) {
        if let Some(handle) = &self.handle {
            handle.abort();
        }
    }

    /// Whether the task has ended.
    pub fn is_finished(&self) -> bool {
        self.handle.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// The name it was started under.
    pub fn name(&self) -> &'static str {
        self.name
    }
}

/// The task panicked or was aborted.
#[derive(Debug)]
pub struct TaskEnded {
    /// The task's name.
    pub name: &'static str,
    /// Whether a panic ended it, with its message if that was text.
    pub panic: Option<String>,
}

impl std::fmt::Display for TaskEnded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.panic {
            Some(message) => write!(f, "task {} panicked: {message}", self.name),
            None => write!(f, "task {} was aborted", self.name),
        }
    }
}

impl std::error::Error for TaskEnded {}

/// What a panic said, if that was text.
pub(crate) fn panic_text(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "(no message)".to_owned())
}

impl<T> Future for Task<T> {
    type Output = Result<T, TaskEnded>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let name = self.name;
        let Some(handle) = self.handle.as_mut() else {
            return Poll::Ready(Err(TaskEnded { name, panic: None }));
        };
        Pin::new(handle).poll(cx).map(|done| {
            done.map_err(|error| {
                let panic = error.is_panic().then(|| panic_text(&*error.into_panic()));
                TaskEnded { name, panic }
            })
        })
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        if let Some(handle) = &self.handle {
            handle.abort();
        }
    }
}

/// A set of tasks that end together when it is dropped. Finished ones are reaped at each spawn.
#[derive(Debug, Default)]
pub struct Tasks(JoinSet<()>);

impl Tasks {
    /// An empty set.
    pub fn new() -> Tasks {
        Tasks::default()
    }

    /// Adds a task.
    pub fn spawn<F: Future<Output = ()> + Send + 'static>(&mut self, future: F) {
        while self.0.try_join_next().is_some() {}
        self.0.spawn(future);
    }

    /// Tasks that have not been reaped.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Ends all and waits until they are gone.
    pub async fn shutdown(&mut self) {
        self.0.shutdown().await;
    }
}
