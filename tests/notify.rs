//! The notifier against a small HTTP server that fails, delays and records.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use operators::series::Target;
use plantd_metric::notify::desk::DeskConfig;
use plantd_metric::notify::payload::payload;
use plantd_metric::notify::silence::Silences;
use plantd_metric::notify::{
    Channel, HttpConfig, Notification, Notifier, NotifyCounters, ReceiverConfig, Running, Status,
};
use plantd_metric::service::wall_clock;
use serde_json::{Value, json};

const NOON_NS: i64 = 1_704_110_400_000_000_000;

/// What the server answers to a body: status line and headers, after a delay.
type Script = Box<dyn FnMut(usize, &Value) -> (&'static str, Duration) + Send>;

/// When a request came, its payload, and the status that it got.
type Seen = (Instant, Value, &'static str);

/// A webhook receiver on a port of its own; it ends with the test.
struct Receiver {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Receiver {
    fn start(script: impl FnMut(usize, &Value) -> (&'static str, Duration) + Send + 'static) -> Receiver {
        Self::on(TcpListener::bind("127.0.0.1:0").unwrap(), Box::new(script))
    }

    fn on(listener: TcpListener, mut script: Script) -> Receiver {
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let record = Arc::clone(&seen);
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let Ok(mut connection) = connection else { return };
                let Some(body) = read_request(&mut connection) else { continue };
                let came = Instant::now();
                let number = record.lock().unwrap().len();
                let (status, delay) = script(number, &body);
                record.lock().unwrap().push((came, body, status));
                std::thread::sleep(delay);
                let answer = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
                let _ = connection.write_all(answer.as_bytes());
            }
        });
        Receiver { address, seen }
    }

    fn requests(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    /// The alerts of the posts that were answered with 200, as (id, time in seconds after noon).
    fn taken(&self) -> Vec<(u64, i64)> {
        let seen = self.seen.lock().unwrap();
        let taken = seen.iter().filter(|(_, _, status)| status.starts_with("200"));
        taken.flat_map(|(_, body, _)| body["alerts"].as_array().unwrap().iter().map(position)).collect()
    }
}

fn position(alert: &Value) -> (u64, i64) {
    let time: jiff::Timestamp = alert["timestamp"].as_str().unwrap().parse().unwrap();
    (
        u64::from_str_radix(alert["id"].as_str().unwrap(), 16).unwrap(),
        time.as_second() - NOON_NS / 1_000_000_000,
    )
}

fn read_request(connection: &mut TcpStream) -> Option<Value> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        connection.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    if head.starts_with("get /api/v2/status ") {
        // No Alertmanager, at an address like one's.
        let _ =
            connection.write_all(b"HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        return None;
    }
    assert!(head.starts_with("post /api/v1/alerts http/1.1\r\n"), "{head}");
    assert!(head.contains("content-type: application/json\r\n"), "{head}");
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    connection.read_exact(&mut body).ok()?;
    Some(serde_json::from_slice(&body).unwrap())
}

fn notification(id: u128, after_noon_s: i64) -> Notification {
    Notification {
        id,
        rule: "high_cpu_usage".into(),
        target: Arc::new(Target::new(
            "org.plantd.Broker",
            [("host", "broker-01"), ("environment", "production")],
        )),
        metric: "cpu_usage_percent".into(),
        severity: "warning".into(),
        message: "CPU usage is above 80% for 5 minutes".into(),
        value: 85.2,
        threshold: 80.0,
        labels: Arc::default(),
        annotations: Arc::default(),
        expected: None,
        time_ns: NOON_NS + after_noon_s * 1_000_000_000,
        started_ns: NOON_NS - 300_000_000_000,
        status: Status::Firing,
        receipt: Default::default(),
    }
}

fn config(address: SocketAddr) -> ReceiverConfig {
    let url = format!("http://{address}/api/v1/alerts");
    ReceiverConfig {
        channel: Channel::Http(HttpConfig { url, ..Default::default() }),
        timeout: Duration::from_secs(2),
        backoff_min: Duration::from_millis(10),
        backoff_max: Duration::from_millis(40),
        jitter_seed: Some(1),
        ..Default::default()
    }
}

fn start(config: ReceiverConfig) -> (Notifier, Running) {
    Notifier::start(config, wall_clock(), Arc::new(Silences::default())).unwrap()
}

async fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !done() {
        assert!(Instant::now() < deadline, "not within ten seconds: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Every transition that was put in has ended in one way, or still waits.
fn assert_balance(counters: &NotifyCounters, waiting: usize) {
    let count = |counter: &AtomicU64| counter.load(Relaxed);
    let ended = [
        &counters.delivered,
        &counters.superseded,
        &counters.turned_away,
        &counters.rejected,
        &counters.given_up,
    ];
    let ended: u64 = ended.into_iter().map(count).sum();
    assert_eq!(count(&counters.notified), ended + waiting as u64, "{counters:?}");
}

#[test]
fn the_payload_is_the_documented_one() {
    let documented = json!({
        "name": "high_cpu_usage",
        "service": "org.plantd.Broker",
        "severity": "warning",
        "message": "CPU usage is above 80% for 5 minutes",
        "value": 85.2,
        "threshold": 80,
        "timestamp": "2024-01-01T12:00:00Z",
        "tags": {"environment": "production", "host": "broker-01"}
    });
    let mut written: Value = serde_json::from_slice(&payload(&[notification(0xabc, 0)])).unwrap();
    let alert = written["alerts"][0].as_object_mut().unwrap();
    let beside = ["metric", "status", "started_at", "id"].map(|key| alert.remove(key).unwrap());
    let expect = ["cpu_usage_percent", "firing", "2024-01-01T11:55:00Z", "00000000000000000000000000000abc"];
    assert_eq!(beside, expect);
    assert_eq!(written, json!({"alerts": [documented]}));
}

#[tokio::test]
async fn what_is_ready_goes_in_one_post() {
    let receiver = Receiver::start(|_, _| ("200 OK", Duration::from_millis(100)));
    let (notifier, running) = start(config(receiver.address));
    notifier.notify(notification(1, 0));
    eventually("the first post", || receiver.requests() == 1).await;
    (1..=5).for_each(|second| notifier.notify(notification(2, second)));
    assert_eq!(running.stop(Duration::from_secs(10)).await, 0);
    let sizes: Vec<_> =
        receiver.seen.lock().unwrap().iter().map(|(_, b, _)| b["alerts"].as_array().unwrap().len()).collect();
    assert_eq!(sizes, [1, 5]);
    assert_eq!(receiver.taken(), [(1, 0), (2, 1), (2, 2), (2, 3), (2, 4), (2, 5)]);
    assert_balance(notifier.counters(), 0);
}

#[tokio::test]
async fn some_answers_are_tried_again_and_some_are_not() {
    for (status, attempts, delivered, rejected) in [
        ("500 Internal Server Error", 2, 1, 0),
        ("503 Service Unavailable", 2, 1, 0),
        ("408 Request Timeout", 2, 1, 0),
        ("429 Too Many Requests", 2, 1, 0),
        ("204 No Content", 1, 1, 0),
        ("400 Bad Request", 1, 0, 1),
        ("401 Unauthorized", 1, 0, 1),
        ("404 Not Found", 1, 0, 1),
        ("410 Gone", 1, 0, 1),
        ("302 Found\r\nLocation: /elsewhere", 1, 0, 1),
    ] {
        let receiver =
            Receiver::start(move |number, _| (if number == 0 { status } else { "200 OK" }, Duration::ZERO));
        let (notifier, running) = start(config(receiver.address));
        notifier.notify(notification(1, 0));
        eventually(status, || notifier.waiting() == 0).await;
        assert_eq!(running.stop(Duration::from_secs(10)).await, 0, "{status}");
        assert_eq!(receiver.requests(), attempts, "{status}");
        let counters = notifier.counters();
        assert_eq!(
            (counters.delivered.load(Relaxed), counters.rejected.load(Relaxed)),
            (delivered, rejected),
            "{status}"
        );
        assert_eq!(counters.retries.load(Relaxed), attempts as u64 - 1, "{status}");
        assert_balance(counters, 0);
    }
}

#[tokio::test]
async fn a_receiver_may_ask_for_time() {
    let answer = "503 Service Unavailable\r\nRetry-After: 1";
    let receiver =
        Receiver::start(move |number, _| (if number == 0 { answer } else { "200 OK" }, Duration::ZERO));
    let (notifier, _running) = start(config(receiver.address));
    notifier.notify(notification(1, 0));
    eventually("delivered", || notifier.counters().delivered.load(Relaxed) == 1).await;
    let seen = receiver.seen.lock().unwrap();
    let waited = seen[1].0 - seen[0].0;
    assert!(waited >= Duration::from_millis(990), "{waited:?}");
}

#[tokio::test]
async fn one_bad_transition_is_refused_alone() {
    let receiver = Receiver::start(|number, body| {
        let bad = body["alerts"].as_array().unwrap().iter().any(|alert| position(alert).0 == 13);
        let delay = if number == 0 { Duration::from_millis(100) } else { Duration::ZERO };
        (if bad { "400 Bad Request" } else { "200 OK" }, delay)
    });
    let (notifier, running) = start(config(receiver.address));
    (0..32).for_each(|id| notifier.notify(notification(id, id as i64)));
    assert_eq!(running.stop(Duration::from_secs(10)).await, 0);
    let expect: Vec<_> = (0..32).filter(|id| *id != 13).map(|id| (id, id as i64)).collect();
    assert_eq!(receiver.taken(), expect);
    assert_eq!(notifier.counters().rejected.load(Relaxed), 1);
    assert_balance(notifier.counters(), 0);
}

#[tokio::test]
async fn a_failing_receiver_gets_each_alert_in_order() {
    // Fails two of three times, by status, by silence beyond the time-out, or after having taken it.
    let receiver = Receiver::start(|number, _| match number % 6 {
        0 | 3 => ("200 OK", Duration::ZERO),
        1 | 4 => ("503 Service Unavailable", Duration::ZERO),
        2 => ("500 Internal Server Error", Duration::from_millis(20)),
        _ => ("200 OK", Duration::from_millis(250)),
    });
    let patience = ReceiverConfig {
        timeout: Duration::from_millis(150),
        desk: DeskConfig { batch_len_max: 7, ..Default::default() },
        ..config(receiver.address)
    };
    let (notifier, running) = start(patience);
    for second in 0..100 {
        notifier.notify(notification((second * 7 % 5) as u128, second));
        if second % 10 == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    assert_eq!(running.stop(Duration::from_secs(30)).await, 0);
    assert_eq!(notifier.counters().delivered.load(Relaxed), 100);
    let mut by_alert: HashMap<u64, Vec<i64>> = HashMap::new();
    receiver.taken().into_iter().for_each(|(id, second)| by_alert.entry(id).or_default().push(second));
    for (id, seconds) in by_alert {
        // What was taken without being told so comes once more: the same batch again, from its start.
        let mut first_times = Vec::new();
        seconds.iter().for_each(|s| {
            if first_times.last().is_none_or(|last| s > last) {
                first_times.push(*s)
            }
        });
        let expect: Vec<_> = (0..100).filter(|second| (second * 7 % 5) as u64 == id).collect();
        assert_eq!(first_times, expect, "alert {id}: {seconds:?}");
    }
}

#[tokio::test]
async fn a_receiver_that_is_down_slows_nobody() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let desk = DeskConfig { queue_len_max: 100, ..Default::default() };
    let small = ReceiverConfig { desk, ..config(address) };
    let (notifier, running) = start(small);
    let started = Instant::now();
    let caller = notifier.clone();
    let calls = std::thread::spawn(move || {
        (0..20_000).for_each(|second| caller.notify(notification(second as u128 % 150, second)));
        started.elapsed()
    });
    let took = tokio::task::spawn_blocking(|| calls.join().unwrap()).await.unwrap();
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert!(notifier.waiting() <= 100 + 64, "{}", notifier.waiting());
    let counters = notifier.counters();
    assert!(counters.superseded.load(Relaxed) > 0 && counters.turned_away.load(Relaxed) > 0, "{counters:?}");
    eventually("retries", || notifier.counters().retries.load(Relaxed) >= 3).await;
    assert_balance(notifier.counters(), notifier.waiting());

    let stopping = Instant::now();
    let left = running.stop(Duration::from_millis(300)).await;
    assert!(stopping.elapsed() < Duration::from_secs(2));
    assert_eq!((left, left as u64), (notifier.waiting(), notifier.counters().left_at_stop.load(Relaxed)));
    assert!(left > 0);
    let refused = notifier.counters().turned_away.load(Relaxed);
    notifier.notify(notification(1, 1));
    assert_eq!(notifier.counters().turned_away.load(Relaxed), refused + 1, "stopped is stopped");
}

#[tokio::test]
async fn a_receiver_that_comes_back_gets_what_waited() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let (notifier, running) = start(config(address));
    (0..10).for_each(|second| notifier.notify(notification(1, second)));
    eventually("retries", || notifier.counters().retries.load(Relaxed) >= 2).await;
    let receiver =
        Receiver::on(TcpListener::bind(address).unwrap(), Box::new(|_, _| ("200 OK", Duration::ZERO)));
    assert_eq!(running.stop(Duration::from_secs(10)).await, 0);
    assert_eq!(receiver.taken(), (0..10).map(|second| (1, second)).collect::<Vec<_>>());
}

#[tokio::test]
async fn patience_has_an_end() {
    let receiver = Receiver::start(|_, body| {
        let first = position(&body["alerts"][0]).0 == 1;
        (if first { "500 Internal Server Error" } else { "200 OK" }, Duration::ZERO)
    });
    let hasty = ReceiverConfig {
        give_up_after: Duration::from_millis(100),
        desk: DeskConfig { batch_len_max: 1, ..Default::default() },
        ..config(receiver.address)
    };
    let (notifier, running) = start(hasty);
    (1..=2).for_each(|id| notifier.notify(notification(id, 0)));
    eventually("the next one's turn", || notifier.waiting() == 0).await;
    assert_eq!(running.stop(Duration::from_secs(10)).await, 0);
    assert_eq!((receiver.taken(), notifier.counters().given_up.load(Relaxed)), (vec![(2, 0)], 1));
}
