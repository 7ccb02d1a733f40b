//! The service as a child process, looked at from outside: HTTP, and what `/proc` says of its threads.

use std::collections::BTreeMap;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::http::{Connection, post};
use crate::sender::now_ns;

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

/// What a service is started with.
pub struct Setup {
    pub workers: usize,
    /// Where a publisher waits for it; without one, it listens on a port that nobody knows.
    pub bus_port: Option<u16>,
    pub series_max: usize,
    /// Of the queue between the intake and the workers; none for the default.
    pub buffer_size: Option<usize>,
    /// `journal.durability`.
    pub journal: &'static str,
}

impl Service {
    /// Starts the binary with all functions, the journal in a folder of its own, one alert rule and no storage. That folder
    /// is in the target directory: what is temporary may be in memory, where a sync costs nothing.
    pub fn start(binary: &str, setup: &Setup) -> Service {
        let port = free_port();
        let target = env!("CARGO_TARGET_TMPDIR");
        let folder = fs::create_dir_all(target).and_then(|()| tempfile::tempdir_in(target));
        let folder = folder.unwrap_or_else(|why| {
            panic!("expected a folder for configuration and journal in {target}: {why}")
        });
        let path = folder.path().join("metric.yaml");
        fs::write(&path, config(setup, port, folder.path())).expect("the folder is writable");
        let child = Command::new(binary)
            .arg("--config")
            .arg(&path)
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap_or_else(|why| panic!("{binary}: {why}"));
        let mut service = Service { child, port, _folder: folder };
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let ended = service.child.try_wait().ok().flatten();
            assert!(ended.is_none(), "the service should start, it ended: {ended:?}");
            assert!(began.elapsed() < PATIENCE, "the service should answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        service
    }

    /// Where it serves HTTP.
    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until at least so many samples can be queried and none is on the way.
    pub fn wait_until_visible(&self, samples: u64) -> Result<Value, String> {
        let began = Instant::now();
        loop {
            let status = self.get("/status");
            let is_quiet = status["samples_in_flight"].as_u64() == Some(0);
            if is_quiet && status["samples_processed"].as_u64() >= Some(samples) {
                return Ok(status);
            }
            if began.elapsed() > PATIENCE {
                return Err(format!("expected {samples} samples to be visible, found {status:#}"));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Samples of a metric in all windows of all series, of the last two hours: no bench takes longer, and what has
    /// moved on to the tier of minutes is among them.
    pub fn counted(&self, metric: &str) -> u64 {
        let start_s = now_ns() / 1_000_000_000 / 60 * 60 - 7_200;
        let query = format!("metric={metric}&func=count&interval=1m&by=service&start={start_s}");
        let answer = self.get(&format!("/api/v1/metrics/aggregate?{query}"));
        let points = answer["series"].as_array().into_iter().flatten();
        points
            .flat_map(|series| series["points"].as_array().into_iter().flatten())
            .filter_map(|point| point["count"].as_u64())
            .sum()
    }

    /// A JSON answer.
    pub fn get(&self, path: &str) -> Value {
        let answer = Connection::open(self.port).and_then(|mut connection| connection.get(path));
        let body = answer.unwrap_or_else(|why| panic!("GET {path}: {why}")).body;
        serde_json::from_slice(&body)
            .unwrap_or_else(|why| panic!("GET {path}: {why}: {}", String::from_utf8_lossy(&body)))
    }

    /// Whether there is something at a path, asked without a body.
    pub fn serves(&self, path: &str, headers: &str) -> bool {
        let answer =
            Connection::open(self.port).and_then(|mut open| open.exchange(&post(path, headers, b"")));
        answer.is_ok_and(|answer| answer.status != 404 && answer.status != 405)
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

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("loopback has a free port").port()
}

fn config(setup: &Setup, http_port: u16, folder: &Path) -> String {
    let Setup { workers, bus_port, series_max, buffer_size, journal: durability } = setup;
    let buffer_size = buffer_size.map_or(String::new(), |size| format!(", buffer_size: {size}"));
    let bus = match bus_port {
        Some(port) => format!("endpoint: \"tcp://127.0.0.1:{port}\""),
        None => format!("bind: [ \"tcp://127.0.0.1:{}\" ]", free_port()),
    };
    let journal = folder.join("journal");
    format!(
        r#"
service: {{ type: consumer }}
logging: {{ level: error }}
bus: {{ {bus}, topics: ["metrics.*"] }}
http: {{ listen: "127.0.0.1:{http_port}" }}
windows: {{ series_max: {series_max}, series_per_service_max: {series_max} }}
journal: {{ path: "{}", durability: {durability} }}
storage: {{ type: none }}
performance: {{ worker_count: {workers}{buffer_size} }}
alerts:
  rules:
    - {{ name: high_cpu_usage, metric: cpu_usage_percent, operator: ">", threshold: 80, duration: "5m", severity: warning, message: "CPU usage is above 80%" }}
"#,
        journal.display()
    )
}
