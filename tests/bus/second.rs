//! Crate `zeromq` as a peer (ZMTP 3.0), and as the second transport of the receiver.

use std::time::Duration;

use plantd_metric::bus::{
    Forwarder, ForwarderConfig, Outcome, Publisher, PublisherConfig, ReceiveKind, TransportKind,
};
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};
use zeromq::{PubSocket, PushSocket, Socket, SocketRecv, SocketSend, SubSocket, ZmqMessage};

use super::peer::*;
use super::receiving::or_skip;

fn message(topic: &str, payload: &str) -> ZmqMessage {
    let mut message = ZmqMessage::from(topic);
    message.push_back(payload.as_bytes().to_vec().into());
    message
}

#[tokio::test]
async fn its_publisher_to_our_receiver() {
    let mut publisher = PubSocket::new();
    let endpoint = publisher.bind("tcp://127.0.0.1:0").await.unwrap().to_string();
    let mut receiver = receive(&endpoint, &["metrics.*"]).await;
    let since = Instant::now();
    loop {
        assert!(since.elapsed() < PATIENCE);
        publisher.send(message("other", "{}")).await.unwrap();
        publisher.send(message("metrics.x", "{\"a\":1}")).await.unwrap();
        if let Ok(batch) = timeout(Duration::from_millis(20), receiver.recv()).await {
            let batch = batch.unwrap();
            let seen: Vec<_> = batch.iter().collect();
            assert_eq!(seen[0], (&b"metrics.x"[..], &b"{\"a\":1}"[..]));
            break;
        }
    }
    // Idle for several heartbeats: it does not know them and is not sent any.
    let counters = receiver.counters();
    assert_eq!((counters.connections.get(), counters.connections_open.get()), (1, 1));
}

#[tokio::test]
async fn no_heartbeats_to_peers_of_3_0() {
    let mut publisher = PubSocket::new();
    let endpoint = publisher.bind("tcp://127.0.0.1:0").await.unwrap().to_string();
    let receiver = receive_with(&endpoint, &["*"], |config| {
        config.link.heartbeat_interval = Duration::from_millis(50);
    })
    .await;
    let counters = receiver.counters();
    until("the publisher", || counters.connections_open.get() == 1).await;
    sleep(Duration::from_millis(500)).await;
    assert_eq!((counters.connections.get(), counters.heartbeat_timeouts.get()), (1, 0));
}

#[tokio::test]
async fn our_publisher_to_its_subscriber_directly_and_forwarded() {
    let forwarder = Forwarder::start(ForwarderConfig {
        publishers: vec![anywhere()],
        subscribers: vec![anywhere()],
        ..ForwarderConfig::default()
    })
    .await
    .unwrap();
    let to_forwarder = format!("tcp://{}", forwarder.publishers()[0]).parse().unwrap();
    let publisher = Publisher::start(PublisherConfig {
        endpoints: vec![anywhere(), to_forwarder],
        ..PublisherConfig::default()
    })
    .await
    .unwrap();
    for address in [publisher.bound()[0], forwarder.subscribers()[0]] {
        let mut subscriber = SubSocket::new();
        subscriber.subscribe("metrics.").await.unwrap();
        subscriber.connect(&format!("tcp://{address}")).await.unwrap();
        let since = Instant::now();
        let got = loop {
            assert!(since.elapsed() < PATIENCE);
            publisher.send(b"metrics.x", b"{}");
            if let Ok(got) = timeout(Duration::from_millis(20), subscriber.recv()).await {
                break got.unwrap();
            }
        };
        let frames: Vec<&[u8]> = got.iter().map(|frame| &frame[..]).collect();
        assert_eq!(frames, [&b"metrics.x"[..], b"{}"]);
    }
}

#[tokio::test]
async fn as_transport_it_receives_from_our_publisher() {
    let publisher =
        Publisher::start(PublisherConfig { endpoints: vec![anywhere()], ..PublisherConfig::default() })
            .await
            .unwrap();
    let endpoint = format!("tcp://{}", publisher.bound()[0]);
    let mut receiver = receive_with(&endpoint, &["metrics.*.cpu"], |config| {
        config.transport = TransportKind::Zeromq;
    })
    .await;
    let since = Instant::now();
    while publisher.send(b"metrics.a.cpu", b"{}") != Outcome::Queued {
        assert!(since.elapsed() < PATIENCE);
        sleep(Duration::from_millis(10)).await;
    }
    publisher.send(b"metrics.a.disk", b"{}");
    for i in 0..2000 {
        publisher.send(b"metrics.b.cpu", format!("{{{i}}}").as_bytes());
    }
    let got = collect(&mut receiver, 2001).await;
    assert_eq!(got[2000], ("metrics.b.cpu".to_owned(), "{1999}".to_owned()));
    assert_eq!(receiver.counters().filtered.get(), 1);
}

#[tokio::test]
async fn as_transport_it_receives_from_libzmq() {
    let mut publisher = or_skip!(Peer::open("PUB"));
    let mut receiver = receive_with("@tcp://127.0.0.1:0", &["*"], |config| {
        config.transport = TransportKind::Zeromq;
    })
    .await;
    publisher.connect(receiver.bound()[0]).await;
    joined(&mut publisher, &mut receiver, Instant::now()).await;
    publisher.send(&["org.plantd.Metric{\"a\":1}"]).await;
    publisher.send(&["a", "b", "c"]).await;
    let counters = receiver.counters();
    until("three frames", || counters.malformed.get() == 1).await;
}

#[tokio::test]
async fn its_pusher_to_our_pull() {
    let mut receiver =
        receive_with("@tcp://127.0.0.1:0", &[], |config| config.kind = ReceiveKind::Pull).await;
    let mut pusher = PushSocket::new();
    pusher.connect(&format!("tcp://{}", receiver.bound()[0])).await.unwrap();
    for i in 0..1000 {
        pusher.send(message("t", &json!({"n": i}).to_string())).await.unwrap();
    }
    let got = collect(&mut receiver, 1000).await;
    assert_eq!(got[999].1, "{\"n\":999}");
}
