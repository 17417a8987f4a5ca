//! Threads for work that blocks: on files, or for long on a core.

/// Where blocking work runs.
pub trait Threads: Send + Sync + 'static {
    /// Runs the work to its end, whoever still waits for it.
    fn run(&self, work: Box<dyn FnOnce() + Send>);
}

/// tokio's pool of blocking threads.
#[derive(Clone, Copy, Debug)]
pub struct ThreadPool;

impl Threads for ThreadPool {
    #[allow(clippy::disallowed_methods)] // this is the door
    fn run(&self, work: Box<dyn FnOnce() + Send>) {
        drop(tokio::task::spawn_blocking(work));
    }
}

#[cfg(test)]
mod tests {
    use crate::World;

    #[tokio::test]
    async fn work_comes_back_with_its_outcome_or_its_panic() {
        let world = World::real();
        assert_eq!(world.blocking("add", || 1 + 1).await.unwrap(), 2);
        let ended = world.blocking("fail", || assert_eq!(1, 2, "not equal")).await.unwrap_err();
        assert_eq!(ended.name, "fail");
        assert!(ended.panic.unwrap().contains("not equal"));
    }
}
