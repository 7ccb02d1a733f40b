//! StatsD over UDP: what is sent can be asked for, and what nobody should send is counted.

use std::net::UdpSocket;

use serde_json::{Value, json};

use crate::running::{Running, until};

const SETTINGS: &str = "storage: { type: none }\nstatsd: { enabled: true, listen: '127.0.0.1:0', series_max: 5, \
                        datagram_max: 8KiB }";

struct Sender(UdpSocket);

impl Sender {
    fn to(service: &Running) -> Sender {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        socket.connect(service.statsd.expect("it listens")).expect("an address");
        Sender(socket)
    }

    /// Sends datagrams and waits until so many more lines were read.
    fn send(&self, service: &Running, datagrams: &[&str], lines: u64) {
        let count = || service.json("/status")["statsd"]["lines"].as_u64().expect("a number");
        let before = count();
        for datagram in datagrams {
            self.0.send(datagram.as_bytes()).expect("loopback takes it");
        }
        until("the lines are read", || (count() == before + lines).then_some(()));
    }
}

/// Moves the clock to the end of an interval, and waits until it has ended and can be read.
fn end_interval(service: &Running, at_s: f64) {
    let ended = || service.json("/status")["statsd"]["intervals"].as_u64().expect("a number");
    let before = ended();
    service.clock_at(at_s);
    until("the interval ends", || (ended() > before).then_some(()));
    // What comes behind it can be read, so it can be, too.
    service.accept(&json!({"service": "other", "metrics": {"x": 1}}));
}

fn value(service: &Running, metric: &str, func: &str, from_s: u32) -> Value {
    let path = format!(
        "/api/v1/metrics/aggregate?metric={metric}&interval=10s&func={func}&start=2024-01-01T12:00:{from_s:02}Z\
         &end=2024-01-01T12:00:{:02}Z",
        from_s + 10
    );
    service.json(&path)["series"][0]["points"][0]["value"].clone()
}

#[test]
fn every_type_comes_to_what_it_should() {
    let service = Running::start(SETTINGS);
    service.clock_at(1.0);
    let sender = Sender::to(&service);
    sender.send(
        &service,
        &[
            "hits:1|c\nhits:2|c|@0.5",
            "load:3|g\nload:-1|g",
            "took:10:20:60|ms",
            "users:a|s\nusers:b|s\nusers:a|s",
        ],
        8,
    );
    end_interval(&service, 10.0);
    for (metric, func, expected) in [
        ("hits", "increase", 5.0),
        ("load", "last", 2.0),
        ("took", "avg", 30.0),
        ("took", "max", 60.0),
        ("took_count", "increase", 3.0),
        ("users", "last", 2.0),
    ] {
        assert_eq!(value(&service, metric, func, 0), json!(expected), "{metric} {func}");
    }
    service.clock_at(12.0);
    sender.send(&service, &["hits:10|c"], 1);
    end_interval(&service, 20.0);
    assert_eq!(value(&service, "hits", "increase", 10), json!(10.0));
    assert_eq!(value(&service, "hits", "rate", 10), json!(1.0));
    let metrics = service.json("/api/v1/metrics?metric=hits&limit=1");
    assert_eq!(metrics["metrics"][0]["service"], "statsd");
    assert_eq!(metrics["metrics"][0]["timestamp"], "2024-01-01T12:00:19.999Z");
}

#[test]
fn what_nobody_should_send_is_counted() {
    let service = Running::start(SETTINGS);
    let sender = Sender::to(&service);
    let long = format!("a:{}|c", "1".repeat(9000));
    let many: String = (0..10).map(|n| format!("n{n}:1|c\n")).collect();
    sender.send(&service, &["a:1|c\nx\na:y|g\n_e{1,1}:a|b\na:-1|c", &long, "", "\n\n", &many], 15);
    let rejected = || service.json("/api/v1/rejected");
    until("all of it is counted", || (rejected()["total"] == 10).then_some(()));
    let expected = json!({"malformed": 1, "not_a_number": 1, "negative_step": 1, "datagram_too_long": 1,
        "statsd_limit": 6});
    assert_eq!(rejected()["counts"], expected);
    assert_eq!(rejected()["rejected"][0]["source"], "statsd");
    let counted = &service.json("/status")["statsd"];
    assert_eq!(
        (&counted["datagrams"], &counted["skipped"], &counted["series"]),
        (&json!(5), &json!(1), &json!(5))
    );
    let exposed = service.get("/metrics").text();
    for line in ["plantd_metric_statsd_datagrams_total 5\n", "plantd_metric_statsd_series 5\n"] {
        assert!(exposed.contains(line), "{exposed}");
    }
}

#[test]
fn every_datagram_is_read_or_counted_as_dropped() {
    let yaml =
        "storage: { type: none }\nstatsd: { enabled: true, listen: '127.0.0.1:0', receive_buffer: 4KiB }";
    let service = Running::start(yaml);
    let sender = Sender::to(&service);
    let datagram = format!("{}:1|c", "x".repeat(1000));
    let sent = 20_000u64;
    for _ in 0..sent {
        sender.0.send(datagram.as_bytes()).expect("loopback takes it");
    }
    let count = |name: &str| service.json("/status")["statsd"][name].as_u64().expect("a number");
    let mut at_s = 0.0;
    let dropped = until("all of it is accounted for", || {
        at_s += 10.0;
        end_interval(&service, at_s);
        let dropped = count("kernel_drops");
        (count("datagrams") + dropped == sent).then_some(dropped)
    });
    assert!(dropped > 0, "a buffer of a few datagrams does not hold {sent}");
}

#[test]
fn what_was_received_is_kept_when_it_stops() {
    let yaml = "storage: { type: file }\nstatsd: { enabled: true, listen: '127.0.0.1:0' }";
    let service = Running::start(yaml);
    service.clock_at(3.0);
    Sender::to(&service).send(&service, &["hits:7|c"], 1);
    let service = service.restart(yaml);
    assert_eq!(value(&service, "hits", "increase", 0), json!(7.0));
    // The next process counts from zero on: a reset, which loses nothing.
    service.clock_at(5.0);
    Sender::to(&service).send(&service, &["hits:2|c"], 1);
    end_interval(&service, 10.0);
    assert_eq!(value(&service, "hits", "increase", 0), json!(9.0));
}

#[test]
fn without_the_setting_nothing_listens() {
    let service = Running::start("storage: { type: none }");
    assert_eq!(service.statsd, None);
    assert_eq!(service.json("/status")["statsd"], json!({}));
}
