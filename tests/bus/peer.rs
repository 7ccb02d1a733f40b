//! libzmq at the other end: `peer.py` as a child process, and what the tests have in common.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use plantd_metric::bus::{Endpoint, LinkConfig, Receiver, ReceiverConfig};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::{Instant, sleep, timeout};

/// Longest wait for anything that should happen.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// "Within a second", and the time that a busy machine takes to notice.
pub const A_SECOND: Duration = Duration::from_millis(1400);

/// A libzmq socket in a process of its own, which ends with it.
pub struct Peer {
    child: Child,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Peer {
    /// A socket of the type, or `None` where pyzmq is missing and nobody insists.
    pub async fn open(kind: &str) -> Option<Self> {
        Self::open_with(kind, json!({})).await
    }

    /// The same, with options by their names in pyzmq.
    pub async fn open_with(kind: &str, mut options: Value) -> Option<Self> {
        let mut peer = Self::start().await?;
        options["do"] = json!("open");
        options["type"] = json!(kind);
        peer.call(options).await;
        Some(peer)
    }

    async fn start() -> Option<Self> {
        let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
        let has_zmq = Command::new(&python).args(["-c", "import zmq"]).output().await;
        if !has_zmq.is_ok_and(|output| output.status.success()) {
            let advice = "these tests need pyzmq: install python3-zmq (Debian) or `pip install pyzmq`";
            assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{advice}");
            eprintln!("SKIPPED: {advice}");
            return None;
        }
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bus/peer.py");
        let mut child = Command::new(python)
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let orders = child.stdin.take().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap()).lines();
        Some(Self { child, orders, answers })
    }

    /// Gives an order and waits for its answer.
    pub async fn call(&mut self, order: Value) -> Value {
        self.begin(order).await;
        self.finish().await
    }

    /// Gives an order; [`Peer::finish`] gives the answer.
    pub async fn begin(&mut self, order: Value) {
        self.orders.write_all(format!("{order}\n").as_bytes()).await.unwrap();
    }

    pub async fn finish(&mut self) -> Value {
        let line = timeout(PATIENCE * 2, self.answers.next_line()).await;
        let line = line.expect("the peer should answer in time").unwrap().unwrap();
        let mut answer: Value = serde_json::from_str(&line).unwrap();
        assert!(answer.get("error").is_none(), "{answer}");
        answer["ok"].take()
    }

    /// Binds to a port of the system's choice and gives the endpoint.
    pub async fn bind(&mut self) -> String {
        self.bind_to("tcp://127.0.0.1:*").await
    }

    pub async fn bind_to(&mut self, endpoint: &str) -> String {
        let bound = self.call(json!({"do": "bind", "endpoint": endpoint})).await;
        bound.as_str().unwrap().to_owned()
    }

    pub async fn connect(&mut self, address: SocketAddr) {
        self.call(json!({"do": "connect", "endpoint": format!("tcp://{address}")})).await;
    }

    pub async fn subscribe(&mut self, prefix: &str) {
        self.call(json!({"do": "subscribe", "prefix": prefix})).await;
    }

    pub async fn send(&mut self, frames: &[&str]) {
        assert_eq!(self.call(json!({"do": "send", "frames": frames})).await, 1);
    }

    /// Up to so many messages, as lists of frames.
    pub async fn recv(&mut self, times: u64, timeout_ms: u64) -> Vec<Vec<String>> {
        let got = self.call(json!({"do": "recv", "times": times, "timeout_ms": timeout_ms})).await;
        serde_json::from_value(got).unwrap()
    }

    /// Ends the process as a crash would.
    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// Sends a signal such as `-STOP`.
    pub async fn signal(&self, signal: &str) {
        let id = self.child.id().unwrap().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().await.unwrap().success());
    }
}

/// A receiver of these topics.
pub async fn receive(endpoint: &str, topics: &[&str]) -> Receiver {
    receive_with(endpoint, topics, |_| {}).await
}

/// The same with other settings changed.
pub async fn receive_with(
    endpoint: &str,
    topics: &[&str],
    change: impl FnOnce(&mut ReceiverConfig),
) -> Receiver {
    let mut config = ReceiverConfig {
        endpoints: vec![endpoint.parse().unwrap()],
        topics: topics.iter().map(ToString::to_string).collect(),
        ..ReceiverConfig::default()
    };
    change(&mut config);
    Receiver::start(config).await.unwrap()
}

/// Quick time limits, for peers that don't keep them.
pub fn impatient() -> LinkConfig {
    LinkConfig { handshake_timeout: Duration::from_millis(300), ..LinkConfig::default() }
}

/// Collects messages until there are so many.
pub async fn collect(receiver: &mut Receiver, count: usize) -> Vec<(String, String)> {
    let mut messages = Vec::new();
    while messages.len() < count {
        let batch = timeout(PATIENCE, receiver.recv()).await;
        let batch = batch.unwrap_or_else(|_| panic!("{} of {count} messages came", messages.len()));
        let batch = batch.expect("the receiver should be running");
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        messages.extend(batch.iter().map(|(topic, payload)| (text(topic), text(payload))));
    }
    messages
}

/// Drops what came so far and what comes within the time.
pub async fn discard(receiver: &mut Receiver, time: Duration) {
    let end = Instant::now() + time;
    while tokio::time::timeout_at(end, receiver.recv()).await.is_ok() {}
}

/// Waits until something is so.
pub async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "waited too long: {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// Sends every 10 ms until the receiver gets something; gives how long that took.
pub async fn joined(peer: &mut Peer, receiver: &mut Receiver, since: Instant) -> Duration {
    loop {
        peer.send(&["metrics.again", "{}"]).await;
        match timeout(Duration::from_millis(10), receiver.recv()).await {
            Ok(Some(_)) => return since.elapsed(),
            Ok(None) => panic!("the receiver stopped"),
            Err(_) => assert!(since.elapsed() < PATIENCE, "nothing came"),
        }
    }
}

/// The endpoint to bind on loopback, the system choosing the port.
pub fn anywhere() -> Endpoint {
    "@tcp://127.0.0.1:0".parse().unwrap()
}

/// An address that was free a moment ago.
pub async fn free_address() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}
