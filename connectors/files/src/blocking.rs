//! Work that blocks gets a thread of its own, and the caller waits for it. Nothing here decides what blocks.

use dmg_ambient::TaskGroup;
use dmg_connector::{Error, Result};
use dmg_protocol::Fault;

/// Runs the work on a blocking thread and waits for its end.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let mut group = TaskGroup::new();
    group.spawn_blocking(work);
    joined(group.join_next().await)
}

/// The outcome of a task of a group. A task that was lost is a fault of the program.
pub(crate) fn joined<T, E: std::error::Error + Send + Sync + 'static>(
    outcome: Option<std::result::Result<Result<T>, E>>,
) -> Result<T> {
    match outcome {
        Some(Ok(result)) => result,
        Some(Err(error)) => Err(Error::caused(lost(), error)),
        None => Err(lost().into()),
    }
}

fn lost() -> Fault {
    Fault::new("SystemErrorInternal", "A task that read or wrote a file ended without a result.")
}
