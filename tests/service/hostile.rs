//! What nobody should send over HTTP: counted, answered or closed, and the service goes on.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use crate::ingest::SINGLE;
use crate::running::{Answer, Running, resident_bytes, until};

const LIMITS: &str = "
storage: { type: none }
http: { header_timeout: 300ms, request_timeout: 1s, connections_max: 20 }
";

/// It answers, and takes samples.
fn answers_on(service: &Running) {
    let answer = until("it takes samples", || {
        let answer = service.post("/api/v1/metrics", SINGLE);
        (![0, 503].contains(&answer.status)).then_some(answer)
    });
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(service.json("/health")["status"], "healthy");
}

/// A counter of our own.
fn counter(service: &Running, name: &str) -> f64 {
    let text = service.get("/metrics").text();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("plantd_metric_{name}_total ")));
    line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name} in {text}"))
}

/// Bodies that are no messages, with the least count of rejects that each makes.
fn bodies() -> Vec<(&'static str, Vec<u8>)> {
    let deep = |open: &str, close: &str| [open.repeat(200_000), close.repeat(200_000)].concat().into_bytes();
    vec![
        ("cut off", SINGLE.as_bytes()[..90].to_vec()),
        ("arrays in arrays", deep("[", "]")),
        ("arrays never closed", deep("[", "")),
        ("objects in objects", deep("{\"metrics\":", "")),
        (
            "deep metrics",
            [br#"{"service":"a","metrics":{"m":"#.to_vec(), deep("[", "]"), b"}}".to_vec()].concat(),
        ),
        (
            "deep tags",
            [br#"{"service":"a","metrics":{"m":1},"tags":"#.to_vec(), deep("{\"a\":", ""), b"}".to_vec()]
                .concat(),
        ),
        ("binary", (0..=255).cycle().take(10_000).collect()),
        ("no UTF-8", b"{\"service\":\"\xff\xfe\",\"metrics\":{\"m\":1}}".to_vec()),
        ("zeros", vec![0; 10_000]),
        ("wrong types", br#"{"service":7,"timestamp":{},"metrics":[1,null,"x"],"tags":[]}"#.to_vec()),
        ("half a surrogate", br#"{"service":"\ud800","metrics":{"m":1}}"#.to_vec()),
        ("a key twice", br#"{"service":"a","service":"b","metrics":{"m":1}}"#.to_vec()),
        (
            "a number without end",
            [br#"{"service":"a","metrics":{"m":"#.to_vec(), vec![b'9'; 100_000], b"}}".to_vec()].concat(),
        ),
        ("nothing but space", vec![b' '; 100_000]),
    ]
}

#[test]
fn bodies_that_are_no_messages() {
    let service = Running::start(LIMITS);
    for (what, body) in bodies() {
        let before = service.json("/api/v1/rejected")["total"].as_u64().expect("a number");
        let answer = service.post("/api/v1/metrics", &body);
        assert_eq!(answer.status, 400, "{what}: {}", answer.text());
        answer.json();
        let after = service.json("/api/v1/rejected")["total"].as_u64().expect("a number");
        assert!(after > before, "{what} is counted");
    }
    assert_eq!(service.json("/status")["series"], 0);
    answers_on(&service);
}

#[test]
fn a_hundred_megabytes() {
    let service = Running::start("storage: { type: none }");
    answers_on(&service);
    let before = resident_bytes();
    for _ in 0..3 {
        let mut stream = service.connect();
        let head = "POST /api/v1/metrics HTTP/1.1\r\nhost: t\r\nconnection: close\r\n";
        write!(stream, "{head}content-length: 100000000\r\n\r\n").expect("the head is taken");
        let piece = vec![b'['; 1 << 20];
        // It is refused by its announced length, and not read.
        let sent = (0..100).take_while(|_| stream.write_all(&piece).is_ok()).count();
        assert!(sent < 100, "all of it was read");
    }
    let counts = service.json("/api/v1/rejected")["counts"].clone();
    assert_eq!(counts["body_too_large"], 3, "{counts}");
    // Other tests run in this process at the same time; a body that is held would show all the same.
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 250 << 20, "{grown} bytes");
    answers_on(&service);
}

#[test]
fn clients_that_are_slow_are_closed() {
    let service = Running::start(LIMITS);
    // One byte of the head at a time.
    let mut stream = service.connect();
    let began = Instant::now();
    for byte in b"GET /health HTTP/1.1\r\nx-header: and so on and so on and so on".iter().cycle() {
        if stream.write_all(&[*byte]).is_err() {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "never closed");
        std::thread::sleep(Duration::from_millis(10));
    }
    // A body that never ends.
    let mut stream = service.connect();
    stream
        .write_all(b"POST /api/v1/metrics HTTP/1.1\r\nhost: t\r\ncontent-length: 1000\r\n\r\n{")
        .expect("the head is taken");
    let answer = Answer::read(&mut stream);
    assert!([408, 0].contains(&answer.status), "{}", answer.head);
    // Answers that nobody takes: more than any buffer between us.
    let mut stream = service.connect();
    let asked = "GET /metrics HTTP/1.1\r\nhost: t\r\n\r\n".repeat(3000);
    stream.write_all(asked.as_bytes()).expect("the requests are taken");
    until("it is closed", || stream.write_all(b"x").is_err().then_some(()));
    // One that says nothing at all.
    let mut stream = service.connect();
    let mut byte = [0];
    assert!(matches!(stream.read(&mut byte), Ok(0) | Err(_)), "closed, or reset");
    answers_on(&service);
}

#[test]
fn more_connections_than_allowed_are_refused_and_counted() {
    let service = Running::start("storage: { type: none }\nhttp: { connections_max: 20 }");
    let open: Vec<_> = (0..60).map(|_| service.connect()).collect();
    let refused = open
        .iter()
        .skip(20)
        .filter(|stream| {
            let mut stream = *stream;
            stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a time that is not zero");
            matches!(stream.read(&mut [0]), Ok(0))
                || matches!(stream.read(&mut [0]), Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset)
        })
        .count();
    assert_eq!(refused, 40);
    drop(open);
    answers_on(&service);
    // More than 40 if the seats were not free at once.
    assert!(counter(&service, "connections_refused") >= 40.0);
}

#[test]
fn heads_that_are_none() {
    let service = Running::start(LIMITS);
    let long = format!("GET /health HTTP/1.1\r\nx: {}\r\n\r\n", "x".repeat(1 << 20));
    let many = format!("GET /health HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(5000));
    let path = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(1 << 20));
    let pipelined = "GET /health HTTP/1.1\r\nhost: t\r\n\r\nwhat is this\0\x01\r\n\r\n\r\n".repeat(100);
    for (what, bytes) in [
        ("a long header", long.as_bytes()),
        ("many headers", many.as_bytes()),
        ("a long path", path.as_bytes()),
        ("garbage behind a request", pipelined.as_bytes()),
        ("binary", &[0xff; 100_000]),
        ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
        ("two lengths", b"POST /api/v1/metrics HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n{}"),
        ("no length", b"POST /api/v1/metrics HTTP/1.1\r\ncontent-length: x\r\n\r\n{}"),
        ("a bad chunk", b"POST /api/v1/metrics HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nZZ\r\n"),
        ("a bad escape", b"GET /api/v1/metrics?service=%ff%zz HTTP/1.1\r\nconnection: close\r\n\r\n"),
    ] {
        let mut stream = service.connect();
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let answer = Answer::read(&mut stream);
        assert!([0, 200, 400, 404, 408, 414, 431].contains(&answer.status), "{what}: {}", answer.head);
    }
    answers_on(&service);
}

#[test]
fn a_full_door_says_when_to_come_back() {
    let service = Running::start("storage: { type: none }\nperformance: { buffer_size: 1 }");
    // A hundred samples may be in flight: bodies of more than that pass alone, and what comes beside them does not.
    let metrics: Vec<String> = (0..3000).map(|n| format!("\"m{n}\":{n}")).collect();
    let body = format!("{{\"service\":\"a\",\"metrics\":{{{}}}}}", metrics.join(","));
    let end = Instant::now() + crate::running::PATIENCE;
    let refused = std::thread::scope(|scope| {
        let posting = || {
            while Instant::now() < end {
                let answer = service.post("/api/v1/metrics", &body);
                if answer.status == 503 {
                    return Some(answer);
                }
                assert_eq!(answer.status, 200, "{}", answer.text());
            }
            None
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(posting)).collect();
        threads.into_iter().filter_map(|thread| thread.join().expect("nobody panics")).next()
    });
    let refused = refused.expect("one of them meets the full door");
    assert_eq!(refused.header("retry-after"), Some("1"), "{}", refused.head);
    assert_eq!(refused.json()["error"], "unavailable");
    answers_on(&service);
    assert!(counter(&service, "intake_full") > 0.0);
}
