//! A PUB socket that costs next to nothing: frames encoded beforehand, their times patched as they go out.
//!
//! It speaks just enough of ZMTP 3.0 (<https://rfc.zeromq.org/spec/23/>) to be subscribed to, and waits where a
//! real PUB would drop: what was sent has arrived.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// The metrics of a message.
pub const METRICS: [&str; 7] = [
    "cpu_usage_percent",
    "memory_usage_bytes",
    "memory_usage_percent",
    "disk_usage_percent",
    "network_rx_bytes",
    "network_tx_bytes",
    "load_average_1m",
];
/// Rounds over all sensors with values of their own.
const ROUNDS: usize = 4;
/// Bytes of a write, about.
const WRITE_LEN: usize = 64 * 1024;
const TIME_LEN: usize = "2024-01-01T12:00:00.000000Z".len();

/// The frames, and a socket that waits for its subscriber.
pub struct Publisher {
    listener: TcpListener,
    frames: Frames,
}

/// Encoded messages.
struct Frames {
    bytes: Vec<u8>,
    /// Of each message, where its time stands and where it ends.
    messages: Vec<(usize, usize)>,
}

/// A subscriber that may be sent to.
pub struct Connection {
    stream: TcpStream,
    frames: Frames,
}

impl Publisher {
    /// Encodes messages of so many sensors and listens on a free port.
    pub fn bind(sensors: usize) -> Publisher {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        Publisher { listener, frames: frames(sensors) }
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.listener.local_addr().expect("it is bound").port()
    }

    /// Waits for the subscriber and shakes hands.
    pub fn accept(self) -> Connection {
        let (mut stream, _) = self.listener.accept().expect("the service connects");
        let mut greeting = [0u8; 64];
        greeting[0] = 0xff;
        greeting[9..12].copy_from_slice(&[0x7f, 3, 0]);
        greeting[12..16].copy_from_slice(b"NULL");
        stream.write_all(&greeting).expect("the service reads the greeting");
        stream.read_exact(&mut [0; 64]).expect("the service greets");
        stream.write_all(b"\x04\x19\x05READY\x0bSocket-Type\0\0\0\x03PUB").expect("the service reads READY");
        // Its READY and its subscriptions come together or one after the other; a pause ends them.
        stream.set_read_timeout(Some(Duration::from_millis(300))).expect("a socket has timeouts");
        let mut said = Vec::new();
        let mut part = [0; 4096];
        while let Ok(len @ 1..) = stream.read(&mut part) {
            said.extend_from_slice(&part[..len]);
        }
        let subscribed = said.windows(9).any(|part| part == b"\x01metrics.");
        assert!(subscribed, "the service should subscribe to metrics.*");
        Connection { stream, frames: self.frames }
    }
}

impl Connection {
    /// Sends for `time`, whole messages; returns how many.
    pub fn send(&mut self, time: Duration, rate: u64) -> u64 {
        let write_len = if rate == 0 { usize::MAX } else { (rate as usize / 1000).max(1) };
        let (began, mut sent, mut at) = (Instant::now(), 0u64, 0);
        while began.elapsed() < time {
            let start = if at == 0 { 0 } else { self.frames.messages[at - 1].1 };
            let now = format!("{:.6}", jiff::Timestamp::now());
            assert_eq!(now.len(), TIME_LEN, "{now}");
            let (first, mut end) = (at, start);
            while at < self.frames.messages.len() && at - first < write_len && end - start < WRITE_LEN {
                let (time_at, message_end) = self.frames.messages[at];
                self.frames.bytes[time_at..time_at + TIME_LEN].copy_from_slice(now.as_bytes());
                end = message_end;
                at += 1;
            }
            self.stream.write_all(&self.frames.bytes[start..end]).expect("the service reads");
            sent += (at - first) as u64;
            at %= self.frames.messages.len();
            if rate > 0 {
                let due = Duration::from_secs_f64(sent as f64 / rate as f64);
                std::thread::sleep(due.saturating_sub(began.elapsed()));
            }
        }
        sent
    }
}

fn frames(sensors: usize) -> Frames {
    let mut frames = Frames { bytes: Vec::new(), messages: Vec::new() };
    let mut draw = Draw(7);
    for _ in 0..ROUNDS {
        for sensor in 0..sensors {
            let values: Vec<String> =
                METRICS.iter().map(|metric| format!("\"{metric}\":{:.3}", draw.value())).collect();
            let payload = format!(
                "{{\"timestamp\":\"{}\",\"service\":\"system\",\"metrics\":{{{}}},\"tags\":{{\"host\":\"server-{sensor:05}\",\
                 \"environment\":\"production\",\"location\":\"rack-{}\"}}}}",
                "0".repeat(TIME_LEN),
                values.join(","),
                sensor % 40,
            );
            frames.push(b"metrics.system", payload.as_bytes());
        }
    }
    frames
}

impl Frames {
    fn push(&mut self, topic: &[u8], payload: &[u8]) {
        self.frame(1, topic);
        self.frame(0, payload);
        let end = self.bytes.len();
        self.messages.push((end - payload.len() + "{\"timestamp\":\"".len(), end));
    }

    fn frame(&mut self, more: u8, body: &[u8]) {
        match u8::try_from(body.len()) {
            Ok(len) => self.bytes.extend_from_slice(&[more, len]),
            Err(_) => {
                self.bytes.push(more | 2);
                self.bytes.extend_from_slice(&(body.len() as u64).to_be_bytes());
            }
        }
        self.bytes.extend_from_slice(body);
    }
}

/// Pseudo-random values (Vigna's splitmix64).
struct Draw(u64);

impl Draw {
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Lognormal with a median of about 20, as measured values are.
    fn value(&mut self) -> f64 {
        let normal = (-2.0 * (1.0 - self.unit()).ln()).sqrt() * (std::f64::consts::TAU * self.unit()).cos();
        (3.0 + 1.2 * normal).exp()
    }
}
