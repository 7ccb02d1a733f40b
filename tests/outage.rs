//! A storage whose target is away for long: memory stays where it was, and afterwards everything arrives, once.
//!
//! `OUTAGE_SECONDS=600 cargo test --release --test outage -- --nocapture` is the long run.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

#[allow(dead_code, reason = "each file of tests uses its part")]
#[path = "durability/bodies.rs"]
mod bodies;
#[allow(dead_code, reason = "each file of tests uses its part")]
#[path = "durability/program.rs"]
mod program;

use bodies::{SAMPLES, body};
use program::{Client, PATIENCE, Program};

/// Samples a second.
const RATE: u64 = 10_000;
const SENDER: u64 = 1;
/// How far memory may rise while the target is away.
const RISE_MAX: u64 = 64 << 20;

/// How often each line arrived, by series and time.
type Arrived = Arc<Mutex<HashMap<String, u64>>>;

/// A server that speaks as InfluxDB 1.x does, and can be away.
struct Target {
    addr: SocketAddr,
    arrived: Arrived,
    up: Arc<AtomicBool>,
}

impl Target {
    fn start() -> Target {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = listener.local_addr().expect("an address");
        let (arrived, up): (Arrived, _) = (Arrived::default(), Arc::new(AtomicBool::new(true)));
        std::thread::spawn({
            let (arrived, up) = (arrived.clone(), up.clone());
            move || {
                for stream in listener.incoming().map_while(Result::ok) {
                    // Away, it hangs up on whoever comes, and on who is there.
                    if up.load(Ordering::SeqCst) {
                        let (arrived, up) = (arrived.clone(), up.clone());
                        std::thread::spawn(move || serve(stream, &arrived, &up));
                    }
                }
            }
        });
        Target { addr, arrived, up }
    }

    fn set_up(&self, up: bool) {
        self.up.store(up, Ordering::SeqCst);
    }

    /// Lines that arrived, and those of them that did so more than once.
    fn count(&self) -> (usize, usize) {
        let arrived = self.arrived.lock().expect("nobody panicked");
        (arrived.len(), arrived.values().filter(|times| **times > 1).count())
    }
}

fn serve(stream: TcpStream, arrived: &Arrived, up: &AtomicBool) {
    let mut stream = BufReader::new(stream);
    loop {
        let (mut first, mut len, mut line) = (String::new(), 0, String::new());
        if !stream.read_line(&mut first).is_ok_and(|read| read > 0) || !up.load(Ordering::SeqCst) {
            return;
        }
        while stream.read_line(&mut line).is_ok_and(|read| read > 0) && line != "\r\n" {
            if let Some(text) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                len = text.trim().parse().unwrap_or(0);
            }
            line.clear();
        }
        let mut content = vec![0; len];
        if stream.read_exact(&mut content).is_err() || !up.load(Ordering::SeqCst) {
            return;
        }
        let answer = if first.starts_with("POST /write") {
            let mut arrived = arrived.lock().expect("nobody panicked");
            for line in String::from_utf8(content).expect("lines are UTF-8").lines() {
                let (series, rest) = line.split_once(' ').expect("a field follows");
                let (fields, time) = rest.rsplit_once(' ').expect("a time follows");
                for field in fields.split(',') {
                    let name = field.split('=').next().unwrap_or_default();
                    *arrived.entry(format!("{series} {name} {time}")).or_default() += 1;
                }
            }
            "HTTP/1.1 204 No Content\r\nX-Influxdb-Version: 1.6.7\r\n\r\n".to_owned()
        } else {
            let body = r#"{"results":[{"statement_id":0}]}"#;
            format!(
                "HTTP/1.1 200 OK\r\nX-Influxdb-Version: 1.6.7\r\nContent-Type: application/json\r\n\
                 Content-Length: {}\r\n\r\n{body}",
                body.len()
            )
        };
        if stream.get_mut().write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

/// Sends bodies at the rate for so long; every one is accepted. Gives the number of the next.
fn send(program: &Program, mut number: u64, for_s: u64) -> u64 {
    let (began, first) = (Instant::now(), number);
    let mut client = Client::new(program.http);
    while began.elapsed() < Duration::from_secs(for_s) {
        let due = began + Duration::from_secs_f64(((number - first) * SAMPLES) as f64 / RATE as f64);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let answer =
            client.send("POST", "/api/v1/metrics/batch", &[], &body(SENDER, number)).expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.body);
        number += 1;
    }
    number
}

#[test]
fn a_target_that_was_away_gets_everything_once_and_memory_stays() {
    let seconds = std::env::var("OUTAGE_SECONDS").map_or(8, |text| text.parse().expect("a number"));
    let (target, folder) = (Target::start(), tempfile::tempdir().expect("a folder"));
    let url = format!("http://{}", target.addr);
    let yaml = "windows: { tiers: ['10s for 1m'], recent: 1MiB }\nstorage: { gzip: false, retry_max: 1s }\n";
    std::fs::write(folder.path().join("metric.yaml"), yaml).expect("a file");
    let variables =
        [("CONFIG", "metric.yaml"), ("_STORAGE__TYPE", "influxdb"), ("_STORAGE__URL", url.as_str())];
    let mut program = Program::start(folder.path(), &variables);
    // Until everything that grows at first has grown.
    let mut number = send(&program, 0, (seconds / 10).clamp(3, 30));
    let delivered = |number: u64| {
        let began = Instant::now();
        while target.count().0 < (number * SAMPLES) as usize {
            assert!(
                began.elapsed() < PATIENCE + Duration::from_secs(seconds),
                "{:?} of {number}",
                target.count()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    delivered(number);
    let before = program.resident_bytes();

    target.set_up(false);
    number = send(&program, number, seconds / 2);
    let first_half = program.resident_bytes();
    let status = program::json(program.http, "/storage/status");
    assert!(status["status"].as_str().is_some_and(|text| text.starts_with("error")), "{status}");
    assert!(status["lag_epochs"].as_u64() > Some(0) && status["lag_bytes"].as_u64() > Some(0), "{status}");
    program.kill();
    program = Program::start(folder.path(), &variables);
    number = send(&program, number, seconds - seconds / 2);
    let second_half = program.resident_bytes();

    target.set_up(true);
    delivered(number);
    let (arrived, twice) = target.count();
    let rises = [first_half, second_half].map(|bytes| bytes.saturating_sub(before) >> 20);
    println!(
        "{seconds} s away, {} samples sent, {arrived} arrived, {twice} of them twice; memory {} MiB, +{rises:?} MiB",
        number * SAMPLES,
        before >> 20
    );
    assert_eq!((arrived as u64, twice), (number * SAMPLES, 0));
    assert!(first_half < before + RISE_MAX && second_half < before + RISE_MAX, "{rises:?} MiB more");
}
