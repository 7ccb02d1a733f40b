//! Receivers that are programs: one run for each batch, the documented payload on its standard input, and what its
//! exit status means.
//!
//! 0: taken. 65 (`EX_DATAERR` of sysexits.h): this can't be read, perhaps one transition of many. 64 to 78 else, but
//! for 75 (`EX_TEMPFAIL`): it will not take it, whatever it holds. Anything else, a signal, and the time-out: worth
//! another attempt.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStderr, Command};

use super::desk::Entry;
use super::webhook::Verdict;
use super::{NotifyError, payload};

const EX_DATAERR: i32 = 65;
const EX_TEMPFAIL: i32 = 75;
/// Bytes of what it says on standard error that go into the log.
const COMPLAINT_BYTES_MAX: u64 = 512;

/// One program.
pub(super) struct Program {
    argv: Vec<String>,
    timeout: Duration,
}

impl Program {
    /// Nothing runs yet. Errors begin with `name`.
    pub(super) fn new(argv: &[String], timeout: Duration, name: &str) -> Result<Program, NotifyError> {
        if argv.first().is_none_or(String::is_empty) {
            return Err(NotifyError(format!("{name}: expected a program to run, found none")));
        }
        Ok(Program { argv: argv.to_vec(), timeout })
    }

    /// Runs it once. Past its time it is killed with what it has started.
    pub(super) async fn run(&self, entries: &[Entry]) -> Verdict {
        let mut command = Command::new(&self.argv[0]);
        command.args(&self.argv[1..]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        command.process_group(0).kill_on_drop(true);
        // This service's own configuration may hold secrets.
        for (variable, _) in std::env::vars_os() {
            if variable.to_string_lossy().starts_with("PLANTD_MODULE_METRIC") {
                command.env_remove(variable);
            }
        }
        let again = |reason: String| Verdict::Again { after: None, reason };
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => return again(format!("expected '{}' to start: {error}", self.argv[0])),
        };
        let body = payload::of_entries(entries);
        let done = tokio::time::timeout(self.timeout, finish(&mut child, &body)).await;
        let done = done.unwrap_or_else(|_| Err(format!("expected an end within {:?}", self.timeout)));
        match done {
            Ok((status, complaint)) => verdict(status, &complaint),
            Err(reason) => {
                kill_group(&mut child).await;
                again(reason)
            }
        }
    }
}

/// Exit status, and the beginning of standard error.
async fn finish(child: &mut Child, body: &[u8]) -> Result<(ExitStatus, String), String> {
    let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
    let write = async {
        if let Some(mut stdin) = stdin {
            // One that does not read to the end says by its status what it thinks of it.
            let _ = stdin.write_all(body).await;
            let _ = stdin.shutdown().await;
        }
    };
    let (_, complaint) = tokio::join!(write, complaint(stderr));
    let status = child.wait().await.map_err(|error| format!("expected an exit status: {error}"))?;
    Ok((status, complaint))
}

async fn complaint(stderr: Option<ChildStderr>) -> String {
    let Some(mut stderr) = stderr else { return String::new() };
    let mut said = Vec::new();
    let _ = (&mut stderr).take(COMPLAINT_BYTES_MAX).read_to_end(&mut said).await;
    // The rest is read, too, so that nobody waits to write it.
    let _ = tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await;
    String::from_utf8_lossy(&said).trim().to_string()
}

fn verdict(status: ExitStatus, complaint: &str) -> Verdict {
    let reason = format!("expected exit status 0, found {status}, stderr {complaint:?}");
    match status.code() {
        Some(0) => Verdict::Delivered,
        Some(EX_DATAERR) => Verdict::Unreadable(reason),
        Some(EX_TEMPFAIL) => Verdict::Again { after: None, reason },
        Some(64..=78) => Verdict::Refused(reason),
        _ => Verdict::Again { after: None, reason },
    }
}

/// Kills the child and whatever it has started in its group. The child has not been waited for, so its number, which
/// is the group's, still belongs to it.
async fn kill_group(child: &mut Child) {
    let number = child.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
    if let Some(group) = number {
        // Nobody left to kill is what was wanted.
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
    let _ = child.wait().await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::tests::notification;

    fn entries() -> Vec<Entry> {
        (1..=2).map(|id| Entry::new(notification(id), None)).collect()
    }

    async fn run(script: &str, timeout_ms: u64) -> Verdict {
        let argv = ["/bin/sh", "-c", script].map(String::from);
        Program::new(&argv, Duration::from_millis(timeout_ms), "r").unwrap().run(&entries()).await
    }

    #[tokio::test]
    async fn the_exit_status_decides() {
        for (script, expected) in [
            ("exit 0", "Delivered"),
            ("exit 65", "Unreadable"),
            ("exit 64", "Refused"),
            ("exit 78", "Refused"),
            ("exit 75", "Again"),
            ("exit 1", "Again"),
            ("kill -9 $$", "Again"),
        ] {
            let verdict = format!("{:?}", run(script, 10_000).await);
            assert!(verdict.starts_with(expected), "{script}: {verdict}");
        }
        let Verdict::Refused(reason) = run("echo no room >&2; exit 77", 10_000).await else {
            panic!("refused")
        };
        assert!(reason.contains("exit status: 77") && reason.ends_with("stderr \"no room\""), "{reason}");
    }

    #[tokio::test]
    async fn it_reads_the_payload_and_no_secret() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("got");
        let verdict = run(&format!("cat > {0}; env >> {0}.env", file.display()), 10_000).await;
        assert_eq!(verdict, Verdict::Delivered);
        assert_eq!(std::fs::read(&file).unwrap(), payload::of_entries(&entries()));
        let env = std::fs::read_to_string(folder.path().join("got.env")).unwrap();
        assert!(env.contains("PATH=") && !env.contains("PLANTD_MODULE_METRIC"), "{env}");
    }

    #[tokio::test]
    async fn one_that_hangs_ends_with_its_children() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pid");
        let began = std::time::Instant::now();
        let verdict = run(&format!("sleep 60 & echo $! > {}; wait", file.display()), 300).await;
        assert!(matches!(verdict, Verdict::Again { .. }), "{verdict:?}");
        assert!(began.elapsed() < Duration::from_secs(30));
        let child = std::fs::read_to_string(&file).unwrap();
        let has_ended = || {
            let state = std::fs::read_to_string(format!("/proc/{}/stat", child.trim())).unwrap_or_default();
            state.is_empty() || state.contains(") Z ")
        };
        while !has_ended() {
            assert!(began.elapsed() < Duration::from_secs(30), "the child of the child lives on");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // Nor does one wait that reads nothing and says a lot.
        assert_eq!(run("exec <&-; yes 2>/dev/null | head -c 300000 >&2", 10_000).await, Verdict::Delivered);
        assert!(Program::new(&[], Duration::from_secs(1), "r").is_err());
    }
}
