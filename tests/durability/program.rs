//! The program as a child that can be killed and started again on the same data, and a client for it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Longest wait for anything that should happen.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A consumer on a folder; killed when it is dropped.
pub struct Program {
    child: Child,
    /// Where the API listens.
    pub http: SocketAddr,
}

impl Program {
    /// Starts a consumer whose data, journal included, is in `folder`; waits until its API listens.
    pub fn start(folder: &Path, variables: &[(&str, &str)]) -> Program {
        let mut command = Command::new(env!("CARGO_BIN_EXE_plantd-metric"));
        command.arg("consumer").env_clear().current_dir(folder).stderr(Stdio::piped());
        let usual = [
            ("_HTTP__LISTEN", "127.0.0.1:0"),
            ("_BUS__EMBEDDED__ENABLED", "true"),
            ("_BUS__EMBEDDED__FRONTEND", "tcp://127.0.0.1:0"),
            ("_BUS__EMBEDDED__BACKEND", "tcp://127.0.0.1:0"),
        ];
        for (name, value) in usual.iter().chain(variables) {
            command.env(format!("PLANTD_MODULE_METRIC_{name}"), value);
        }
        let mut child = command.spawn().expect("the program starts");
        let mut lines = BufReader::new(child.stderr.take().expect("it is piped")).lines();
        let mut said = String::new();
        let http = loop {
            let Some(Ok(line)) = lines.next() else {
                let _ = child.wait();
                panic!("the program ended before its API listened:\n{said}");
            };
            if let Some((_, address)) = line.split_once("API on http://") {
                break address.trim().parse().expect("an address");
            }
            said.push_str(&line);
            said.push('\n');
        };
        // Read on, so that the program never waits for its log.
        std::thread::spawn(move || lines.for_each(drop));
        Program { child, http }
    }

    /// Ends it at once, as `kill -9` does.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks it to stop; gives its exit code and how long that took.
    pub fn terminate(&mut self) -> (Option<i32>, Duration) {
        let began = Instant::now();
        let told = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        assert!(told.expect("kill is there").success());
        while began.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                return (status.code(), began.elapsed());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("the program did not end within {PATIENCE:?} of SIGTERM");
    }

    /// Resident memory in bytes.
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a figure");
        line.trim().trim_end_matches(" kB").trim().parse::<u64>().expect("kilobytes") * 1024
    }
}

/// A JSON answer.
pub fn json(http: SocketAddr, path: &str) -> Value {
    let answer = Client::new(http).send("GET", path, &[], "").expect("an answer");
    assert_eq!(answer.status, 200, "{path}: {}", answer.body);
    serde_json::from_str(&answer.body).unwrap_or_else(|error| panic!("{path}: {error}: {}", answer.body))
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}

/// An answer of the API.
#[derive(Debug)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Header lines, as they came.
    pub head: String,
    /// Body.
    pub body: String,
}

/// A client with one connection that is kept.
pub struct Client {
    http: SocketAddr,
    stream: Option<BufReader<TcpStream>>,
}

impl Client {
    /// A client that connects when it is needed.
    pub fn new(http: SocketAddr) -> Client {
        Client { http, stream: None }
    }

    /// One request; `None` when the connection breaks before the answer is whole.
    pub fn send(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Option<Answer> {
        let answer = self.try_send(method, path, headers, body);
        if answer.is_none() {
            self.stream = None;
        }
        answer
    }

    fn try_send(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Option<Answer> {
        if self.stream.is_none() {
            let stream = TcpStream::connect(self.http).ok()?;
            stream.set_nodelay(true).ok()?;
            stream.set_read_timeout(Some(PATIENCE)).ok()?;
            self.stream = Some(BufReader::new(stream));
        }
        let stream = self.stream.as_mut()?;
        let mut request =
            format!("{method} {path} HTTP/1.1\r\nhost: t\r\ncontent-length: {}\r\n", body.len());
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("\r\n");
        request.push_str(body);
        stream.get_mut().write_all(request.as_bytes()).ok()?;
        let (mut head, mut len) = (String::new(), 0);
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).ok()? == 0 {
                return None;
            }
            if line == "\r\n" {
                break;
            }
            if let Some(text) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                len = text.trim().parse().ok()?;
            }
            head.push_str(&line);
        }
        let status = head.split(' ').nth(1)?.parse().ok()?;
        let mut body = vec![0; len];
        stream.read_exact(&mut body).ok()?;
        Some(Answer { status, head, body: String::from_utf8(body).ok()? })
    }
}
