//! Runs futures to their end on this thread; nothing of ours that is fuzzed waits for anything.

/// Runs it.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime of one thread starts");
    }
    RUNTIME.with(|runtime| runtime.block_on(future))
}
