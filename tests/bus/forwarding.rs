//! The embedded bus between libzmq's PUB and SUB.

use std::time::Duration;

use plantd_metric::bus::{Forwarder, ForwarderConfig, Framing, Publisher, PublisherConfig};
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use super::hostile::hello;
use super::peer::*;
use super::receiving::or_skip;

async fn forward(change: impl FnOnce(&mut ForwarderConfig)) -> Forwarder {
    let mut config = ForwarderConfig {
        publishers: vec![anywhere()],
        subscribers: vec![anywhere()],
        ..ForwarderConfig::default()
    };
    change(&mut config);
    Forwarder::start(config).await.unwrap()
}

/// XPUB tells what it is asked for: each of these, in order.
async fn asked_for(publisher: &mut Peer, expected: &[&str]) {
    let got = publisher.recv(expected.len() as u64, 5000).await;
    let got: Vec<&str> = got.iter().map(|frames| frames[0].as_str()).collect();
    assert_eq!(got, expected);
}

#[tokio::test]
async fn subscriptions_go_upstream_and_messages_down() {
    let mut publisher = or_skip!(Peer::open("XPUB"));
    let mut one = or_skip!(Peer::open("SUB"));
    let mut two = or_skip!(Peer::open("SUB"));
    let forwarder = forward(|_| {}).await;
    publisher.connect(forwarder.publishers()[0]).await;
    one.connect(forwarder.subscribers()[0]).await;
    two.connect(forwarder.subscribers()[0]).await;
    let counters = forwarder.counters();
    until("three peers", || counters.connections_open.get() == 3).await;
    one.subscribe("a").await;
    asked_for(&mut publisher, &["\x01a"]).await;
    two.subscribe("b").await;
    asked_for(&mut publisher, &["\x01b"]).await;
    publisher.send(&["a.x", "{}"]).await;
    publisher.send(&["b.x", "{}", "third"]).await;
    publisher.send(&["c.x", "{}"]).await;
    publisher.send(&["a{}"]).await;
    assert_eq!(one.recv(3, 300).await, [vec!["a.x", "{}"], vec!["a{}"]]);
    assert_eq!(two.recv(2, 300).await, [vec!["b.x", "{}", "third"]]);
    // A second who wants the same changes nothing upstream; the end of both does.
    two.subscribe("a").await;
    one.call(json!({"do": "unsubscribe", "prefix": "a"})).await;
    two.call(json!({"do": "unsubscribe", "prefix": "a"})).await;
    asked_for(&mut publisher, &["\x00a"]).await;
    // And so does a subscriber that vanishes.
    two.kill().await;
    asked_for(&mut publisher, &["\x00b"]).await;
}

#[tokio::test]
async fn a_publisher_that_comes_later_is_told_what_is_wanted() {
    let mut subscriber = or_skip!(Peer::open("SUB"));
    let mut publisher = or_skip!(Peer::open("XPUB"));
    let forwarder = forward(|_| {}).await;
    subscriber.subscribe("metrics.").await;
    subscriber.connect(forwarder.subscribers()[0]).await;
    let counters = forwarder.counters();
    until("the subscriber", || counters.connections_open.get() == 1).await;
    sleep(Duration::from_millis(100)).await;
    publisher.connect(forwarder.publishers()[0]).await;
    asked_for(&mut publisher, &["\x01metrics."]).await;
    let order = json!({"do": "send", "frames": ["metrics.n", "{ {i}}"], "times": 5000, "per_second": 20000});
    publisher.call(order).await;
    let got = subscriber.call(json!({"do": "count", "times": 5000})).await;
    assert_eq!(got, json!({"count": 5000, "in_order": true}));
}

#[tokio::test]
async fn a_slow_subscriber_loses_its_own_messages_only() {
    let mut publisher = or_skip!(Peer::open_with("PUB", json!({"SNDHWM": 0})));
    let mut slow = or_skip!(Peer::open_with("SUB", json!({"RCVHWM": 10, "RCVBUF": 65536})));
    let mut quick = or_skip!(Peer::open_with("SUB", json!({"RCVHWM": 0})));
    let forwarder = forward(|config| {
        config.queue_messages = 30_000;
        config.queue_bytes = 64 << 20;
    })
    .await;
    for subscriber in [&mut slow, &mut quick] {
        subscriber.subscribe("").await;
        subscriber.connect(forwarder.subscribers()[0]).await;
    }
    publisher.connect(forwarder.publishers()[0]).await;
    let counters = forwarder.counters();
    until("three peers", || counters.connections_open.get() == 3).await;
    sleep(Duration::from_millis(200)).await;
    let filler = "x".repeat(2000);
    quick.begin(json!({"do": "count", "times": 60_000, "timeout_ms": 5000})).await;
    let order = json!({"do": "send", "frames": [filler, "{ {i}}"], "times": 60_000, "per_second": 20_000});
    publisher.call(order).await;
    assert_eq!(quick.finish().await, json!({"count": 60_000, "in_order": true}));
    assert!(counters.dropped.get() > 0, "the slow one should have lost some");
    assert_eq!(counters.queued.get() + counters.dropped.get(), 120_000);
    let got = slow.call(json!({"do": "count", "times": 60_000, "timeout_ms": 1000})).await;
    assert_eq!(got["count"].as_u64().unwrap() + counters.dropped.get(), 60_000);
}

#[tokio::test]
async fn our_publisher_and_receiver_over_our_forwarder() {
    let forwarder = forward(|_| {}).await;
    for framing in [Framing::Frames, Framing::Envelope] {
        let endpoint = format!("tcp://{}", forwarder.publishers()[0]).parse().unwrap();
        let config = PublisherConfig { endpoints: vec![endpoint], framing, ..PublisherConfig::default() };
        let publisher = Publisher::start(config).await.unwrap();
        let endpoint = format!("tcp://{}", forwarder.subscribers()[0]);
        let mut receiver = receive(&endpoint, &["metrics.*"]).await;
        let since = Instant::now();
        while publisher.send(b"metrics.x", b"{\"first\":1}") != plantd_metric::bus::Outcome::Queued {
            assert!(since.elapsed() < PATIENCE);
            sleep(Duration::from_millis(5)).await;
        }
        for i in 0..10_000 {
            publisher.send(b"metrics.x", format!("{{\"n\":{i}}}").as_bytes());
        }
        let got = collect(&mut receiver, 10_001).await;
        assert_eq!(got[10_000], ("metrics.x".to_owned(), "{\"n\":9999}".to_owned()));
    }
}

#[tokio::test]
async fn an_interrupted_message_is_put_together() {
    let mut publisher =
        or_skip!(Peer::open_with("PUB", json!({"HEARTBEAT_IVL": 1, "HEARTBEAT_TIMEOUT": 5000, "SNDHWM": 0})));
    let mut subscriber = or_skip!(Peer::open_with("SUB", json!({"RCVHWM": 0})));
    let forwarder = forward(|_| {}).await;
    subscriber.subscribe("").await;
    subscriber.connect(forwarder.subscribers()[0]).await;
    publisher.connect(forwarder.publishers()[0]).await;
    let counters = forwarder.counters();
    until("two peers", || counters.connections_open.get() == 2).await;
    sleep(Duration::from_millis(200)).await;
    let frames = ["t", "u", "v", "w", "x", "{ {i}}"];
    let order = json!({"do": "send", "frames": frames, "times": 50_000, "per_second": 50_000});
    subscriber.begin(json!({"do": "count", "times": 50_000})).await;
    publisher.call(order).await;
    assert_eq!(subscriber.finish().await, json!({"count": 50_000, "in_order": true}));
}

#[tokio::test]
async fn pings_between_the_frames_of_a_message_stay_here() {
    let forwarder = forward(|_| {}).await;
    let endpoint = format!("tcp://{}", forwarder.subscribers()[0]);
    let mut receiver = receive(&endpoint, &["*"]).await;
    let mut publisher = TcpStream::connect(forwarder.publishers()[0]).await.unwrap();
    publisher.write_all(&hello()).await.unwrap();
    let counters = forwarder.counters();
    until("two peers", || counters.connections_open.get() == 2).await;
    let wire = b"\x01\x01a\x00\x02{}\x01\x01t\x04\x07\x04PING\x00\x00\x00\x03{1}\x00\x04z{2}";
    let since = Instant::now();
    while counters.queued.get() == 0 {
        assert!(since.elapsed() < PATIENCE);
        publisher.write_all(wire).await.unwrap();
        sleep(Duration::from_millis(20)).await;
    }
    let pair = |topic: &str, payload: &str| (topic.to_owned(), payload.to_owned());
    let expected = [pair("a", "{}"), pair("t", "{1}"), pair("z", "{2}")];
    assert_eq!(collect(&mut receiver, 3).await[..3], expected);
}
