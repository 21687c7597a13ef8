//! Tasks that end with their owner. Nothing else spawns.

use std::future::Future;

use tokio::task::{AbortHandle, JoinError, JoinSet};

/// A set of tasks; dropping it aborts them.
#[derive(Debug, Default)]
pub struct TaskGroup<T: 'static = ()>(JoinSet<T>);

impl<T: Send + 'static> TaskGroup<T> {
    /// An empty group.
    pub fn new() -> Self {
        TaskGroup(JoinSet::new())
    }

    /// Starts a task.
    pub fn spawn(&mut self, task: impl Future<Output = T> + Send + 'static) -> AbortHandle {
        self.0.spawn(task)
    }

    /// Starts blocking work on its own thread.
    pub fn spawn_blocking(&mut self, work: impl FnOnce() -> T + Send + 'static) -> AbortHandle {
        self.0.spawn_blocking(work)
    }

    /// The next task to end, or none when all have.
    pub async fn join_next(&mut self) -> Option<Result<T, JoinError>> {
        self.0.join_next().await
    }

    /// A task that has ended already, or none at this moment.
    pub fn try_join_next(&mut self) -> Option<Result<T, JoinError>> {
        self.0.try_join_next()
    }

    /// Ends all tasks and waits for them.
    pub async fn shutdown(&mut self) {
        self.0.shutdown().await;
    }

    /// How many are running.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none is running.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
