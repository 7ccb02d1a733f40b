//! Our PUB with libzmq's SUB.

use std::time::Duration;

use plantd_metric::bus::{Framing, Outcome, Publisher, PublisherConfig};
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::peer::*;
use super::receiving::or_skip;

async fn publish(endpoint: &str, framing: Framing) -> Publisher {
    let config =
        PublisherConfig { endpoints: vec![endpoint.parse().unwrap()], framing, ..PublisherConfig::default() };
    Publisher::start(config).await.unwrap()
}

/// Sends every 10 ms until somebody wants it; gives how long that took.
async fn wanted(publisher: &Publisher, since: Instant) -> Duration {
    while publisher.send(b"metrics.again", b"{}") != Outcome::Queued {
        assert!(since.elapsed() < PATIENCE, "nobody subscribed");
        sleep(Duration::from_millis(10)).await;
    }
    since.elapsed()
}

#[tokio::test]
async fn both_framings_arrive_at_libzmq() {
    let cases: [(Framing, &[&str]); 2] =
        [(Framing::Frames, &["metrics.a", "{\"a\":1}"]), (Framing::Envelope, &["metrics.a{\"a\":1}"])];
    for (framing, frames) in cases {
        let mut subscriber = or_skip!(Peer::open("SUB"));
        subscriber.subscribe("metrics.").await;
        let publisher = publish("@tcp://127.0.0.1:0", framing).await;
        subscriber.connect(publisher.bound()[0]).await;
        wanted(&publisher, Instant::now()).await;
        assert_eq!(publisher.send(b"other", b"{}"), Outcome::Unwanted);
        assert_eq!(publisher.send(b"metrics.a", b"{\"a\":1}"), Outcome::Queued);
        let got = subscriber.recv(2, 5000).await;
        assert_eq!(got[1], frames);
    }
}

#[tokio::test]
async fn subscriptions_come_and_go() {
    let mut subscriber = or_skip!(Peer::open("SUB"));
    let publisher = publish("@tcp://127.0.0.1:0", Framing::Frames).await;
    subscriber.connect(publisher.bound()[0]).await;
    let counters = publisher.counters();
    until("the subscriber", || counters.connections_open.get() == 1).await;
    for prefix in ["a", "b"] {
        subscriber.subscribe(prefix).await;
    }
    until("the subscription", || publisher.send(b"b", b"{}") == Outcome::Queued).await;
    assert_eq!(publisher.send(b"a", b"{}"), Outcome::Queued);
    subscriber.call(json!({"do": "unsubscribe", "prefix": "b"})).await;
    until("its end", || publisher.send(b"b", b"{}") == Outcome::Unwanted).await;
    assert_eq!(publisher.send(b"a", b"{}"), Outcome::Queued);
}

#[tokio::test]
async fn resumes_after_the_broker_came_back() {
    let address = free_address().await;
    let endpoint = format!("tcp://{address}");
    let publisher = publish(&endpoint, Framing::Frames).await;
    for absence_secs in [2, 5] {
        let mut broker = or_skip!(Peer::open("SUB"));
        broker.subscribe("metrics.").await;
        sleep(Duration::from_secs(absence_secs)).await;
        assert_eq!(publisher.send(b"metrics.a", b"{}"), Outcome::Unwanted);
        let since = Instant::now();
        broker.bind_to(&endpoint).await;
        // A bound SUB subscribes at its peers from within its calls, so it has to be in one.
        broker.begin(json!({"do": "recv", "timeout_ms": 20_000})).await;
        let gap = wanted(&publisher, since).await;
        assert!(gap < A_SECOND, "{gap:?}");
        assert_eq!(broker.finish().await[0][0], "metrics.again");
        broker.kill().await;
        let counters = publisher.counters();
        until("the broker is gone", || counters.connections_open.get() == 0).await;
    }
    assert_eq!(publisher.counters().reconnects.get(), 1);
}

#[tokio::test]
async fn libzmq_heartbeats_are_answered() {
    let options = json!({"HEARTBEAT_IVL": 50, "HEARTBEAT_TIMEOUT": 400});
    let mut subscriber = or_skip!(Peer::open_with("SUB", options));
    subscriber.subscribe("").await;
    let publisher = publish("@tcp://127.0.0.1:0", Framing::Frames).await;
    subscriber.connect(publisher.bound()[0]).await;
    wanted(&publisher, Instant::now()).await;
    sleep(Duration::from_millis(1500)).await;
    assert_eq!(publisher.counters().connections.get(), 1);
    assert_eq!(publisher.counters().connections_open.get(), 1);
}

#[tokio::test]
async fn a_shutdown_sends_what_is_queued() {
    let mut subscriber = or_skip!(Peer::open_with("SUB", json!({"RCVHWM": 0})));
    subscriber.subscribe("metrics.n").await;
    let publisher = publish("@tcp://127.0.0.1:0", Framing::Frames).await;
    subscriber.connect(publisher.bound()[0]).await;
    until("the subscriber", || publisher.send(b"metrics.n", b"{ 0}") == Outcome::Queued).await;
    for i in 1..=50_000 {
        assert_eq!(publisher.send(b"metrics.n", format!("{{ {i}}}").as_bytes()), Outcome::Queued);
    }
    publisher.shutdown().await;
    let got = subscriber.call(json!({"do": "count", "times": 50_001, "timeout_ms": 2000})).await;
    assert_eq!(got, json!({"count": 50_001, "in_order": true}));
}
