//! The whole service within the test's process, on ports of the system's choice, and an HTTP client for it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use plantd_metric::service::{Service, wall_clock};
use plantd_metric::settings::{self, Flags, Settings};
use serde_json::Value;

/// Longest wait for anything that should happen.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The document's noon: 2024-01-01T12:00:00Z, as the arrival clock shows it unless a test moves it.
pub const NOON_NS: i64 = 1_704_110_400_000_000_000;

/// A running service.
pub struct Running {
    runtime: tokio::runtime::Runtime,
    service: Option<Service>,
    clock_ns: Arc<AtomicI64>,
    /// Where the API listens.
    pub http: SocketAddr,
    /// Where publishers connect to the embedded bus.
    pub frontend: SocketAddr,
    /// Where StatsD is received, if it is.
    pub statsd: Option<SocketAddr>,
    folder: Arc<tempfile::TempDir>,
}

/// Settings of a consumer with an embedded bus, `yaml` on top of what the tests need.
pub fn settings(yaml: &str, data: &std::path::Path) -> Settings {
    let folder = tempfile::tempdir().expect("a folder for the file");
    let config = folder.path().join("metric.yaml");
    std::fs::write(&config, yaml).expect("a file for the settings");
    let env = [
        ("PLANTD_MODULE_METRIC__BUS__EMBEDDED__ENABLED", "true"),
        ("PLANTD_MODULE_METRIC__BUS__EMBEDDED__FRONTEND", "tcp://127.0.0.1:0"),
        ("PLANTD_MODULE_METRIC__BUS__EMBEDDED__BACKEND", "tcp://127.0.0.1:0"),
        ("PLANTD_MODULE_METRIC__PERFORMANCE__WORKER_COUNT", "2"),
        ("PLANTD_MODULE_METRIC__STORAGE__PATH", data.to_str().expect("a path in UTF-8")),
    ];
    let env = env.map(|(name, value)| (name.to_string(), value.to_string()));
    let flags = Flags { config: Some(config), listen: Some("127.0.0.1:0".into()), ..Flags::default() };
    settings::load(&flags, env).unwrap_or_else(|told| panic!("{told}\n{yaml}"))
}

impl Running {
    /// A consumer with these settings, its arrival clock standing at noon.
    pub fn start(yaml: &str) -> Running {
        let folder = Arc::new(tempfile::tempdir().expect("a folder for the data"));
        Running::start_on(yaml, folder, Some(NOON_NS))
    }

    /// The same by the wall clock.
    pub fn start_live(yaml: &str) -> Running {
        let folder = Arc::new(tempfile::tempdir().expect("a folder for the data"));
        Running::start_on(yaml, folder, None)
    }

    fn start_on(yaml: &str, folder: Arc<tempfile::TempDir>, at_ns: Option<i64>) -> Running {
        let settings = settings(yaml, folder.path());
        let clock_ns = Arc::new(AtomicI64::new(at_ns.unwrap_or_default()));
        let clock: plantd_metric::intake::Clock = match at_ns {
            None => wall_clock(),
            Some(_) => Arc::new({
                let clock_ns = clock_ns.clone();
                move || clock_ns.load(Ordering::SeqCst)
            }),
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.expect("threads for the service");
        let service = runtime.block_on(Service::start(&settings, clock)).expect("the service starts");
        let http = service.http_addr.expect("the API is on");
        let frontend = service.frontend.expect("the embedded bus is on");
        let statsd = service.statsd_addr;
        Running { runtime, service: Some(service), clock_ns, http, frontend, statsd, folder }
    }

    /// Stops it, and starts one with these settings on the same data.
    pub fn restart(mut self, yaml: &str) -> Running {
        let (folder, at_ns) = (self.folder.clone(), self.clock_ns.load(Ordering::SeqCst));
        assert!(self.stop_now(), "everything taken in should reach its place");
        Running::start_on(yaml, folder, Some(at_ns))
    }

    /// Moves the arrival clock to `seconds` after noon.
    pub fn clock_at(&self, seconds: f64) {
        self.clock_ns.store(NOON_NS + (seconds * 1e9) as i64, Ordering::SeqCst);
    }

    /// Where it stores.
    pub fn data(&self) -> PathBuf {
        self.folder.path().to_path_buf()
    }

    /// Stops it in order; whether everything taken in reached its place.
    pub fn stop_now(&mut self) -> bool {
        let service = self.service.take().expect("stopped once");
        self.runtime.block_on(service.stop())
    }

    /// `GET`.
    pub fn get(&self, path: &str) -> Answer {
        self.request("GET", path, &[], b"")
    }

    /// `GET` of a JSON answer that is a 200.
    pub fn json(&self, path: &str) -> Value {
        let answer = self.get(path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()
    }

    /// The detail of a `GET` that is refused with a 400.
    pub fn refused(&self, path: &str) -> String {
        let answer = self.get(path);
        assert_eq!(answer.status, 400, "{path}: {}", answer.text());
        let json = answer.json();
        assert_eq!(json["error"], "bad_request", "{path}");
        json["detail"].as_str().expect("a detail").to_string()
    }

    /// `POST`.
    pub fn post(&self, path: &str, body: impl AsRef<[u8]>) -> Answer {
        self.request("POST", path, &[("content-type", "application/json")], body.as_ref())
    }

    /// Posts messages that are all good and waits until they can be read; gives their epoch.
    pub fn accept(&self, messages: &Value) -> u64 {
        self.accept_text(&messages.to_string())
    }

    /// The same for a body as it is.
    pub fn accept_text(&self, body: &str) -> u64 {
        let answer = self.post("/api/v1/metrics/batch", body);
        assert_eq!(answer.status, 200, "{}", answer.text());
        let epoch = answer.json()["epoch"].as_u64().expect("an epoch");
        self.json(&format!("/api/v1/metrics?limit=1&min_epoch={epoch}"));
        epoch
    }

    /// One request on a connection of its own.
    pub fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut stream = self.connect();
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if matches!(method, "POST" | "PUT") {
            head.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        stream.write_all(head.as_bytes()).expect("the head is taken");
        // A body that is refused may not be read to its end.
        let _ = stream.write_all(body);
        Answer::read(&mut stream)
    }

    /// A connection to the API.
    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.http).expect("the API listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time that is not zero");
        stream.set_write_timeout(Some(PATIENCE)).expect("a time that is not zero");
        stream
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(service) = self.service.take() {
            self.runtime.block_on(service.stop());
        }
    }
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    /// Status.
    pub status: u16,
    /// Head, in lower case.
    pub head: String,
    /// Body.
    pub body: Vec<u8>,
}

impl Answer {
    /// Reads an answer to the end of its connection; status 0 if none came.
    pub fn read(stream: &mut TcpStream) -> Answer {
        let mut bytes = Vec::new();
        // What came before a reset counts.
        let _ = stream.read_to_end(&mut bytes);
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").map_or(bytes.len(), |at| at + 4);
        let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
        let chunked = head.contains("transfer-encoding: chunked");
        let body = if chunked { unchunked(&bytes[end..]) } else { bytes[end..].to_vec() };
        Answer { status, head, body }
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        assert!(self.head.contains("content-type: application/json"), "{}", self.head);
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let prefix = format!("{name}: ");
        self.head.lines().find_map(|line| line.strip_prefix(&prefix))
    }
}

fn unchunked(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(at) = rest.windows(2).position(|two| two == b"\r\n") {
        let len = std::str::from_utf8(&rest[..at]).ok().and_then(|hex| usize::from_str_radix(hex, 16).ok());
        let len = len.expect("a chunk's length");
        body.extend_from_slice(&rest[at + 2..at + 2 + len]);
        rest = &rest[at + 4 + len..];
    }
    body
}

/// Waits until `look` gives something.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "waited too long: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Bytes that the process holds in memory.
pub fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("this is Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("the kernel tells it");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

/// RFC 3339 of so many seconds after noon.
pub fn at(seconds: f64) -> String {
    let ns = NOON_NS + (seconds * 1e3).round() as i64 * 1_000_000;
    let time = jiff::Timestamp::from_nanosecond(ns.into()).expect("within a few years");
    if ns % 1_000_000_000 == 0 { time.to_string() } else { format!("{time:.3}") }
}

/// Names of an object, sorted.
pub fn names(value: &Value) -> Vec<&str> {
    let mut names: Vec<&str> = value.as_object().expect("an object").keys().map(String::as_str).collect();
    names.sort_unstable();
    names
}
