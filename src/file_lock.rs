//! Locks on files that one process has for itself.

use std::fs::{File, TryLockError};
use std::io;
use std::time::{Duration, Instant};

/// How long a lock that somebody else holds is tried for.
const PATIENCE: Duration = Duration::from_secs(1);
const INTERVAL: Duration = Duration::from_millis(10);

/// Locks `file` until it is closed. A lock that is just being given up is waited for: the process before us may be
/// about to end, and a command that was just started holds what its parent had open until it runs.
///
/// # Errors
/// `WouldBlock` if another process has it and keeps it.
pub fn lock(file: &File) -> io::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => std::thread::sleep(INTERVAL),
            Err(TryLockError::WouldBlock) => return Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => return Err(error),
            Ok(()) => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_is_kept_is_an_error_and_one_that_is_let_go_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let open = || File::create(dir.path().join("lock")).unwrap();
        let (first, second) = (open(), open());
        lock(&first).unwrap();
        assert_eq!(lock(&second).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(first);
        lock(&second).unwrap();
    }
}
