//! Prometheus and VictoriaMetrics, started for a test on a port and with a directory of their own.

#![allow(dead_code, reason = "each test file uses its part of it")]

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const READY_WITHIN: Duration = Duration::from_secs(60);

/// A running server; its end is the test's end.
pub struct Server {
    process: Process,
    stopped: Stopped,
}

/// What is needed to start it again where it was.
pub struct Stopped {
    program: PathBuf,
    arguments: Vec<String>,
    port: u16,
    directory: tempfile::TempDir,
}

/// A process that ends with its owner.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Server {
    /// Prometheus with its receiver; `window` is its `out_of_order_time_window`, if any.
    pub fn prometheus(window: &str) -> Server {
        Server::prometheus_with(&match window {
            "" => String::new(),
            window => format!("storage:\n  tsdb:\n    out_of_order_time_window: {window}\n"),
        })
    }

    /// The same with a configuration of one's own.
    pub fn prometheus_with(config: &str) -> Server {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("prometheus.yml");
        fs::write(&path, config).unwrap();
        let port = free_port();
        let arguments = vec![
            format!("--config.file={}", path.display()),
            format!("--storage.tsdb.path={}", directory.path().join("data").display()),
            format!("--web.listen-address=127.0.0.1:{port}"),
            "--web.enable-remote-write-receiver".into(),
        ];
        Stopped { program: program("prometheus", "prometheus"), arguments, port, directory }.start()
    }

    /// vmagent, which scrapes by the same configuration and sends to `url`.
    pub fn vmagent(config: &str, url: &str) -> Server {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("prometheus.yml");
        fs::write(&path, config).unwrap();
        let port = free_port();
        let arguments = vec![
            format!("-promscrape.config={}", path.display()),
            format!("-remoteWrite.tmpDataPath={}", directory.path().join("data").display()),
            format!("-remoteWrite.url={url}"),
            "-remoteWrite.flushInterval=100ms".into(),
            format!("-httpListenAddr=127.0.0.1:{port}"),
        ];
        Stopped { program: program("vmagent", "victoria-metrics"), arguments, port, directory }.start()
    }

    /// VictoriaMetrics; of samples of one series and millisecond it tells one.
    pub fn victoria_metrics() -> Server {
        let directory = tempfile::tempdir().unwrap();
        let port = free_port();
        let arguments = vec![
            format!("-storageDataPath={}", directory.path().join("data").display()),
            format!("-httpListenAddr=127.0.0.1:{port}"),
            "-dedup.minScrapeInterval=1ms".into(),
            "-retentionPeriod=1y".into(),
        ];
        Stopped { program: program("victoria-metrics", "victoria-metrics"), arguments, port, directory }
            .start()
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.stopped.port)
    }

    /// Ends it; its data stay.
    pub fn stop(self) -> Stopped {
        drop(self.process);
        self.stopped
    }
}

impl Stopped {
    /// Starts it, and waits until it answers.
    pub fn start(self) -> Server {
        let log = self.directory.path().join("log");
        let stderr = File::create(&log).unwrap();
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
        let process = Process(command.spawn().unwrap());
        let mut server = Server { process, stopped: self };
        let deadline = Instant::now() + READY_WITHIN;
        // Prometheus is healthy before it is ready; VictoriaMetrics says OK to both.
        while ask(&server, "/-/ready").is_none_or(|(status, _)| status != 200) {
            let ended = server.process.0.try_wait().unwrap();
            if ended.is_some() || Instant::now() > deadline {
                panic!("{}: not ready: {ended:?}: {}", server.url(), fs::read_to_string(log).unwrap());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        server
    }
}

/// The checker of Prometheus's configurations.
pub fn promtool() -> PathBuf {
    program("promtool", "prometheus")
}

/// The body at `path`.
pub fn get(server: &Server, path: &str) -> String {
    let (status, body) = ask(server, path).expect("an answer");
    assert!((200..300).contains(&status), "GET {path}: {status}: {body}");
    body
}

/// Status and body of a plain request of HTTP 1.0, whose answer ends with the connection.
fn ask(server: &Server, path: &str) -> Option<(u16, String)> {
    let mut connection = TcpStream::connect(("127.0.0.1", server.stopped.port)).ok()?;
    connection.set_read_timeout(Some(Duration::from_secs(30))).ok()?;
    write!(connection, "GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n").ok()?;
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).ok()?;
    let answer = String::from_utf8(answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_string()))
}

fn program(name: &str, package: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("no {name}: install {package} (Debian: apt install {package})"))
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
