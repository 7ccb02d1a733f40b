//! The service as a child process, looked at from outside: HTTP, and what `/proc` says of its threads.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(60);
/// Ticks a second in `/proc/PID/stat`, on every usual Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// A running service; killed when dropped.
pub struct Service {
    child: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Service {
    /// Starts the binary with shipped windows and rules, without storage, subscribed to `bus_port`. Its journal is in
    /// the target directory: what is temporary may be in memory, where a sync costs nothing.
    pub fn start(binary: &str, workers: usize, journal: &str, bus_port: u16) -> Service {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port();
        let folder =
            tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder for the configuration");
        let path = folder.path().join("metric.yaml");
        let journal =
            format!("{{ path: '{}', durability: {journal} }}", folder.path().join("journal").display());
        fs::write(&path, config(workers, &journal, bus_port, port)).expect("the folder is writable");
        let child = Command::new(binary)
            .arg("--config")
            .arg(&path)
            .stderr(Stdio::inherit())
            .spawn()
            .expect("the binary is built");
        let service = Service { child, port, _folder: folder };
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(began.elapsed() < PATIENCE, "the service should answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        service
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until so many samples can be queried.
    pub fn wait_until_visible(&self, samples: u64) {
        let began = Instant::now();
        loop {
            let status = self.get("/status");
            if status["samples_processed"].as_u64() >= Some(samples) {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "expected {samples} samples, found {status:#}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Samples of a metric in all windows of all series.
    pub fn counted(&self, metric: &str) -> u64 {
        let answer = self
            .get(&format!("/api/v1/metrics/aggregate?metric={metric}&func=count&interval=10s&by=service"));
        let points = answer["series"].as_array().into_iter().flatten();
        points
            .flat_map(|series| series["points"].as_array().into_iter().flatten())
            .filter_map(|point| point["count"].as_u64())
            .sum()
    }

    /// A JSON answer.
    pub fn get(&self, path: &str) -> Value {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("the service listens");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n").expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        let (_, body) = answer.split_once("\r\n\r\n").expect("an answer has a body");
        serde_json::from_str(body).unwrap_or_else(|why| panic!("GET {path}: {why}: {answer}"))
    }

    /// Resident and peak resident MiB.
    pub fn memory_mib(&self) -> (f64, f64) {
        let text = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("the service runs");
        let kib = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
            line.split_whitespace().next().and_then(|n| n.parse::<f64>().ok()).unwrap_or(f64::NAN)
        };
        (kib("VmRSS:") / 1024.0, kib("VmHWM:") / 1024.0)
    }

    /// CPU used since the service began.
    pub fn used(&self) -> Used {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).expect("the service runs");
        // The name of the program may hold spaces; what follows it does not. utime and stime are fields 14 and 15.
        let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().skip(11).take(2);
        let ticks: f64 = fields.filter_map(|field| field.parse::<f64>().ok()).sum();
        let mut thread_ns = BTreeMap::new();
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid())).expect("the service runs");
        for task in tasks.flatten() {
            let read = |name: &str| fs::read_to_string(task.path().join(name)).unwrap_or_default();
            let ns = read("schedstat").split_whitespace().next().and_then(|ns| ns.parse::<u64>().ok());
            *thread_ns.entry(read("comm").trim().to_owned()).or_default() += ns.unwrap_or_default();
        }
        Used { ticks, thread_ns }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It is our child: nothing else can have its number until it is waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// CPU time, by thread name.
pub struct Used {
    ticks: f64,
    thread_ns: BTreeMap<String, u64>,
}

impl Used {
    /// What was used after `before`.
    pub fn since(mut self, before: &Used) -> Used {
        self.ticks -= before.ticks;
        for (name, ns) in &mut self.thread_ns {
            *ns = ns.saturating_sub(before.thread_ns.get(name).copied().unwrap_or_default());
        }
        self
    }

    /// Seconds, user and system, of all threads.
    pub fn cpu_s(&self) -> f64 {
        self.ticks / TICKS_PER_SECOND
    }

    /// Nanoseconds by thread name.
    pub fn threads(&self) -> impl Iterator<Item = (&str, u64)> {
        self.thread_ns.iter().map(|(name, ns)| (name.as_str(), *ns))
    }
}

fn config(workers: usize, journal: &str, bus_port: u16, http_port: u16) -> String {
    format!(
        r#"
service: {{ type: consumer }}
bus: {{ endpoint: "tcp://127.0.0.1:{bus_port}", topics: ["metrics.*"] }}
http: {{ listen: "127.0.0.1:{http_port}" }}
storage: {{ type: none }}
journal: {journal}
performance: {{ worker_count: {workers} }}
alerts:
  rules:
    - {{ name: high_cpu_usage, metric: cpu_usage_percent, operator: ">", threshold: 80, duration: "5m", severity: warning, message: "CPU usage is above 80%" }}
    - {{ name: critical_memory_usage, metric: memory_usage_percent, operator: ">", threshold: 95, duration: "1m", severity: critical, message: "memory" }}
"#
    )
}
