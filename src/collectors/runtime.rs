//! Lets a collector, which is asked on a thread of its own, wait for sockets and children with a time-out.

use std::future::Future;

use tokio::runtime::{Builder, Runtime};

use super::CollectError;

/// A small runtime that lives on the thread that collects; made at first use.
#[derive(Default)]
pub(super) struct OwnRuntime(Option<Runtime>);

impl OwnRuntime {
    /// Runs `future` to its end. Must not be called from within another runtime.
    pub(super) fn block_on<T>(&mut self, future: impl Future<Output = T>) -> Result<T, CollectError> {
        let runtime = match &mut self.0 {
            Some(runtime) => runtime,
            none => {
                let built = Builder::new_current_thread().enable_all().build();
                none.insert(
                    built.map_err(|e| CollectError::new(format!("expected a runtime to wait with: {e}")))?,
                )
            }
        };
        Ok(runtime.block_on(future))
    }
}
