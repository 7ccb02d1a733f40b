//! Our SUB and PULL with libzmq's PUB and PUSH.

use std::time::Duration;

use plantd_metric::bus::topics::observe;
use plantd_metric::bus::{Attach, Endpoint, ReceiveKind};
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};

use super::peer::*;

macro_rules! or_skip {
    ($peer:expr) => {
        match $peer.await {
            Some(peer) => peer,
            None => return,
        }
    };
}
pub(crate) use or_skip;

#[tokio::test]
async fn both_framings_by_prefix() {
    let mut publisher = or_skip!(Peer::open("PUB"));
    let endpoint = publisher.bind().await;
    let mut receiver = receive(&endpoint, &["metrics.*", "org.plantd"]).await;
    joined(&mut publisher, &mut receiver, Instant::now()).await;
    discard(&mut receiver, Duration::from_millis(50)).await;
    let sent: [&[&str]; 6] = [
        &["metrics.a", "{\"a\":{\"b\":1}}"],
        &["metricsfoo", "{}"],
        &["org.plantd.Metric{\"x\":[1]}"],
        &["system.x", "{}"],
        &["metrics.three", "{}", "{}"],
        &["metrics.b", ""],
    ];
    for frames in sent {
        publisher.send(frames).await;
    }
    let got = collect(&mut receiver, 3).await;
    let expected =
        [("metrics.a", "{\"a\":{\"b\":1}}"), ("org.plantd.Metric", "{\"x\":[1]}"), ("metrics.b", "")];
    assert_eq!(got, expected.map(|(topic, payload)| (topic.to_owned(), payload.to_owned())));
    assert_eq!(receiver.counters().malformed.get(), 1);
}

#[tokio::test]
async fn globs_are_filtered_here() {
    let mut publisher = or_skip!(Peer::open("PUB"));
    let endpoint = publisher.bind().await;
    let mut receiver = receive(&endpoint, &["metrics.*.cpu", "metrics.again"]).await;
    joined(&mut publisher, &mut receiver, Instant::now()).await;
    discard(&mut receiver, Duration::from_millis(50)).await;
    for topic in ["metrics.a.disk", "metrics.a.cpu", "metrics.cpu", "metrics.b.cpu"] {
        publisher.send(&[topic, "{}"]).await;
    }
    let topics: Vec<String> = collect(&mut receiver, 2).await.into_iter().map(|(topic, _)| topic).collect();
    assert_eq!(topics, ["metrics.a.cpu", "metrics.b.cpu"]);
    assert_eq!(receiver.counters().filtered.get(), 2);
}

#[tokio::test]
async fn bound_for_publishers_that_connect() {
    let mut one = or_skip!(Peer::open("PUB"));
    let mut two = or_skip!(Peer::open("PUB"));
    let mut receiver = receive("@tcp://127.0.0.1:0", &["*"]).await;
    let address = receiver.bound()[0];
    one.connect(address).await;
    two.connect(address).await;
    let counters = receiver.counters();
    until("two publishers", || counters.connections_open.get() == 2).await;
    joined(&mut one, &mut receiver, Instant::now()).await;
    joined(&mut two, &mut receiver, Instant::now()).await;
}

#[tokio::test]
async fn over_ipc() {
    let mut publisher = or_skip!(Peer::open("PUB"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bus");
    let mut receiver = receive(&format!("@ipc://{}", path.display()), &["*"]).await;
    publisher.call(json!({"do": "connect", "endpoint": format!("ipc://{}", path.display())})).await;
    joined(&mut publisher, &mut receiver, Instant::now()).await;
    drop(receiver);
    until("the socket file is removed", || !path.exists()).await;
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let again = Endpoint::parse(&format!("ipc://{}", path.display()), Attach::Bind).unwrap();
    receive_with("tcp://127.0.0.1:9", &["*"], |c| c.endpoints = vec![again]).await;
}

#[tokio::test]
async fn libzmq_heartbeats_are_answered() {
    let options = json!({"HEARTBEAT_IVL": 50, "HEARTBEAT_TIMEOUT": 400, "HEARTBEAT_TTL": 1000});
    let mut publisher = or_skip!(Peer::open_with("PUB", options));
    let endpoint = publisher.bind().await;
    let mut receiver = receive(&endpoint, &["*"]).await;
    joined(&mut publisher, &mut receiver, Instant::now()).await;
    discard(&mut receiver, Duration::from_millis(50)).await;
    // Idle for several timeouts, then with traffic.
    sleep(Duration::from_millis(1500)).await;
    let order = json!({"do": "send", "frames": ["t", "{\"n\": {i}}"], "times": 1000, "per_second": 500});
    publisher.begin(order).await;
    assert_eq!(collect(&mut receiver, 1000).await.len(), 1000);
    assert_eq!(publisher.finish().await, 1000);
    let counters = receiver.counters();
    assert_eq!((counters.connections.get(), counters.connections_open.get()), (1, 1));
}

#[tokio::test]
async fn a_silent_peer_is_given_up_and_found_again() {
    let mut publisher = or_skip!(Peer::open("PUB"));
    let endpoint = publisher.bind().await;
    let mut receiver = receive_with(&endpoint, &["*"], |config| {
        config.link.heartbeat_interval = Duration::from_millis(200);
        config.link.handshake_timeout = Duration::from_millis(300);
    })
    .await;
    joined(&mut publisher, &mut receiver, Instant::now()).await;
    let counters = receiver.counters();
    sleep(Duration::from_millis(1500)).await;
    assert_eq!(counters.heartbeat_timeouts.get(), 0, "libzmq answers our PINGs");
    assert_eq!(counters.connections.get(), 1);
    publisher.signal("-STOP").await;
    until("silence", || counters.heartbeat_timeouts.get() == 1).await;
    // Its system accepts connections for it, but nobody greets.
    until("handshake timeout", || counters.handshake_timeouts.get() > 0).await;
    publisher.signal("-CONT").await;
    joined(&mut publisher, &mut receiver, Instant::now()).await;
    assert!(counters.reconnects.get() >= 1);
}

#[tokio::test]
async fn a_publisher_that_comes_later_and_comes_back() {
    let address = free_address().await;
    let endpoint = format!("tcp://{address}");
    let mut publisher = or_skip!(Peer::open("PUB"));
    let mut receiver = receive(&endpoint, &["metrics.*"]).await;
    sleep(Duration::from_secs(2)).await;
    let since = Instant::now();
    publisher.bind_to(&endpoint).await;
    let gap = joined(&mut publisher, &mut receiver, since).await;
    assert!(gap < A_SECOND, "first: {gap:?}");
    publisher.kill().await;
    let counters = receiver.counters();
    until("the publisher is gone", || counters.connections_open.get() == 0).await;
    let mut publisher = or_skip!(Peer::open("PUB"));
    sleep(Duration::from_secs(5)).await;
    discard(&mut receiver, Duration::ZERO).await;
    let since = Instant::now();
    publisher.bind_to(&endpoint).await;
    let gap = joined(&mut publisher, &mut receiver, since).await;
    assert!(gap < A_SECOND, "again: {gap:?}");
    assert_eq!(counters.reconnects.get(), 1);
}

#[tokio::test]
async fn pull_loses_nothing() {
    let mut pusher = or_skip!(Peer::open("PUSH"));
    let endpoint = pusher.bind().await;
    let mut receiver = receive_with(&endpoint, &[], |config| config.kind = ReceiveKind::Pull).await;
    let order = json!({"do": "send", "frames": ["metrics.x", "{\"n\": {i}}"], "times": 100_000});
    pusher.begin(order).await;
    let got = collect(&mut receiver, 100_000).await;
    assert_eq!(pusher.finish().await, 100_000);
    for (i, (topic, payload)) in got.iter().enumerate() {
        assert_eq!((topic.as_str(), payload.as_str()), ("metrics.x", format!("{{\"n\": {i}}}").as_str()));
    }
}

#[tokio::test]
async fn a_full_queue_holds_the_sender_back_and_loses_nothing() {
    let mut pusher = or_skip!(Peer::open_with("PUSH", json!({"SNDHWM": 10, "SNDBUF": 65536})));
    let endpoint = pusher.bind().await;
    let mut receiver = receive_with(&endpoint, &[], |config| {
        config.kind = ReceiveKind::Pull;
        config.queue_batches = 2;
        config.queue_bytes = 1 << 20;
    })
    .await;
    let filler = "x".repeat(10_000);
    let order = json!({"do": "send", "frames": [filler, "{ {i}}"], "times": 100_000, "timeout_ms": 1000});
    let sent = pusher.call(order).await.as_u64().unwrap();
    assert!(sent < 100_000, "the sender should have been held back");
    assert!(receiver.counters().queue_full_waits.get() > 0);
    let got = collect(&mut receiver, sent as usize).await;
    let last = format!("{{ {}}}", sent - 1);
    assert_eq!(got.last().unwrap().1, last);
}

#[tokio::test]
async fn a_long_message_within_the_limit_passes() {
    let mut pusher = or_skip!(Peer::open("PUSH"));
    let endpoint = pusher.bind().await;
    let mut receiver = receive_with(&endpoint, &[], |config| config.kind = ReceiveKind::Pull).await;
    let long = "y".repeat(5 << 20);
    for payload in ["{1}", long.as_str(), "{2}"] {
        pusher.send(&["t", payload]).await;
    }
    let got = collect(&mut receiver, 3).await;
    assert_eq!((got[1].1.len(), got[2].1.as_str()), (5 << 20, "{2}"));
}

#[tokio::test]
async fn topics_are_listed() {
    let mut publisher = or_skip!(Peer::open("PUB"));
    let endpoint = publisher.bind().await;
    let mut receiver = receive(&endpoint, &["*"]).await;
    joined(&mut publisher, &mut receiver, Instant::now()).await;
    discard(&mut receiver, Duration::from_millis(50)).await;
    for topic in ["metrics.a", "metrics.b", "metrics.a"] {
        publisher.send(&[topic, "{}"]).await;
    }
    let time = Duration::from_millis(300);
    let seen = observe(&mut receiver, time, 100).await.seen(time);
    let seen: Vec<_> = seen.iter().map(|seen| (seen.topic.as_str(), seen.messages, seen.bytes)).collect();
    assert_eq!(seen, [("metrics.a", 2, 4), ("metrics.b", 1, 2)]);
}

#[tokio::test]
async fn a_shutdown_gives_what_was_received_and_then_ends() {
    let mut pusher = or_skip!(Peer::open("PUSH"));
    let endpoint = pusher.bind().await;
    let mut receiver = receive_with(&endpoint, &[], |config| config.kind = ReceiveKind::Pull).await;
    pusher.send(&["t", "{}"]).await;
    let counters = receiver.counters();
    until("the message", || counters.messages.get() == 1).await;
    receiver.shutdown();
    assert_eq!(collect(&mut receiver, 1).await.len(), 1);
    let end = timeout(PATIENCE, receiver.recv()).await.unwrap();
    assert!(end.is_none());
    assert_eq!(counters.connections_open.get(), 0);
}
