//! Peers that keep to no protocol lose their connection; everybody else's goes on.

use std::time::Duration;

use plantd_metric::bus::{BusCounters, Receiver};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout};

use super::peer::*;
use super::receiving::or_skip;

/// What a PUB of ZMTP 3.1 says before its first message.
pub fn hello() -> Vec<u8> {
    let mut bytes = vec![0; 64];
    bytes[0] = 0xff;
    bytes[9] = 0x7f;
    bytes[10] = 3;
    bytes[11] = 1;
    bytes[12..16].copy_from_slice(b"NULL");
    bytes.extend_from_slice(b"\x04\x19\x05READY\x0bSocket-Type\x00\x00\x00\x03PUB");
    bytes
}

/// Accepts connections for ever, and does the same to each.
async fn attacker(first: Vec<u8>, again_and_again: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("tcp://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (first, again) = (first.clone(), again_and_again.clone());
            tokio::spawn(async move {
                stream.write_all(&first).await?;
                while !again.is_empty() {
                    stream.write_all(&again).await?;
                }
                // Stays until the other side goes.
                let mut sink = [0; 4096];
                while stream.read(&mut sink).await? > 0 {}
                std::io::Result::Ok(())
            });
        }
    });
    endpoint
}

/// A receiver that is connected to libzmq and to an attacker: the count that tells of the attack must grow, more than
/// once as we try again, and libzmq's messages must come.
async fn survives(name: &str, attacker: String, count: fn(&BusCounters) -> u64) {
    let mut publisher = or_skip!(Peer::open("PUB"));
    let endpoint = publisher.bind().await;
    let mut receiver = receive_with(&endpoint, &["*"], |config| {
        config.endpoints.push(attacker.parse().unwrap());
        config.link = impatient();
    })
    .await;
    joined(&mut publisher, &mut receiver, Instant::now()).await;
    let counters = receiver.counters();
    until(name, || count(&counters) >= 2).await;
    discard(&mut receiver, Duration::from_millis(20)).await;
    joined(&mut publisher, &mut receiver, Instant::now()).await;
    assert_eq!(counters.messages.get(), counters.bytes.get() / 15, "{name}: nothing of the attacker's");
}

#[tokio::test]
async fn a_frame_of_a_terabyte() {
    let mut bytes = hello();
    bytes.extend_from_slice(&[0x02, 0, 0, 1, 0, 0, 0, 0, 0]);
    survives("a terabyte", attacker(bytes, vec![]).await, |c| c.oversize_closes.get()).await;
}

#[tokio::test]
async fn a_frame_a_little_too_long() {
    let mut bytes = hello();
    bytes.push(0x02);
    bytes.extend_from_slice(&((8u64 << 20) + 1).to_be_bytes());
    survives("too long", attacker(bytes, vec![7; 65536]).await, |c| c.oversize_closes.get()).await;
}

#[tokio::test]
async fn frames_without_an_end() {
    for body in [0u8, 200] {
        let mut frame = vec![0x01, body];
        frame.extend(std::iter::repeat_n(7, usize::from(body)));
        let endless = attacker(hello(), frame.repeat(100)).await;
        survives("endless frames", endless, |c| c.oversize_closes.get()).await;
    }
}

#[tokio::test]
async fn flags_that_mean_nothing() {
    let bytes = [hello(), vec![0x40, 1, 1]].concat();
    survives("flags", attacker(bytes, vec![]).await, |c| c.protocol_closes.get()).await;
}

#[tokio::test]
async fn greetings_that_are_none() {
    let mut old = hello();
    old[10] = 1;
    let cases = [
        b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
        vec![0; 200],
        old[..12].to_vec(),
        [hello()[..64].to_vec(), b"\x04\x03\x02NO".to_vec()].concat(),
        [hello()[..64].to_vec(), b"\x00\x03abc".to_vec()].concat(),
        [hello()[..64].to_vec(), b"\x06\x00\x00\x01\x00\x00\x00\x00\x00".to_vec()].concat(),
    ];
    for bytes in cases {
        survives("garbage", attacker(bytes, vec![]).await, |c| c.handshake_refused.get()).await;
    }
}

#[tokio::test]
async fn a_peer_that_never_greets() {
    let silent = attacker(vec![], vec![]).await;
    survives("silence", silent, |c| c.handshake_timeouts.get()).await;
    let half = attacker(hello()[..40].to_vec(), vec![]).await;
    survives("half a greeting", half, |c| c.handshake_timeouts.get()).await;
}

#[tokio::test]
async fn a_peer_that_demands_security() {
    let log = LOG.get_or_init(|| {
        let log = Log::default();
        tracing_subscriber::fmt().with_writer(log.clone()).with_ansi(false).init();
        log
    });
    for (options, name) in [(json!({"PLAIN_SERVER": 1}), "PLAIN"), (json!({"CURVE": 1}), "CURVE")] {
        let mut secured = or_skip!(Peer::open_with("PUB", options));
        let endpoint = secured.bind().await;
        survives("security", endpoint.clone(), |c| c.handshake_refused.get()).await;
        let expected = format!("the peer demands security mechanism {name}; only NULL is supported");
        let said = String::from_utf8(log.0.lock().clone()).unwrap();
        let told = said.lines().filter(|line| line.contains(&expected) && line.contains(&endpoint));
        assert_eq!(told.count(), 1, "told once, not at every attempt");
    }
}

/// What all tests logged, up to warnings.
static LOG: std::sync::OnceLock<Log> = std::sync::OnceLock::new();

#[derive(Clone, Default)]
struct Log(std::sync::Arc<parking_lot::Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> tracing_subscriber::fmt::MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn a_socket_of_the_wrong_type() {
    let mut wrong = or_skip!(Peer::open("REP"));
    let endpoint = wrong.bind().await;
    survives("wrong type", endpoint, |c| c.handshake_refused.get()).await;
}

#[tokio::test]
async fn pings_are_not_answered_without_bound() {
    // The attacker never reads our PONGs: at last we stop reading, and give it up.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("tcp://{}", listener.local_addr().unwrap());
    let receiver = receive_with(&endpoint, &["*"], |config| config.link = impatient()).await;
    let (mut stream, _) = listener.accept().await.unwrap();
    stream.write_all(&hello()).await.unwrap();
    let pings = b"\x04\x0a\x04PING\x00\x00abc".repeat(1000);
    let flood = async { while stream.write_all(&pings).await.is_ok() {} };
    timeout(PATIENCE, flood).await.expect("the flood should be cut off");
    drop(receiver);
}

async fn raw_peer(receiver: &Receiver) -> TcpStream {
    let mut stream = TcpStream::connect(receiver.bound()[0]).await.unwrap();
    stream.write_all(&hello()).await.unwrap();
    stream
}

#[tokio::test]
async fn more_peers_than_allowed_are_turned_away() {
    let receiver = receive_with("@tcp://127.0.0.1:0", &["*"], |config| config.link.peers_max = 2).await;
    let counters = receiver.counters();
    let (one, _two) = (raw_peer(&receiver).await, raw_peer(&receiver).await);
    until("two peers", || counters.connections_open.get() == 2).await;
    let mut third = TcpStream::connect(receiver.bound()[0]).await.unwrap();
    let mut byte = [0; 1];
    let closed = timeout(PATIENCE, third.read(&mut byte)).await.unwrap();
    assert!(matches!(closed, Ok(0) | Err(_)));
    assert_eq!(counters.peers_turned_away.get(), 1);
    drop(one);
    until("one left", || counters.connections_open.get() == 1).await;
    let _fourth = raw_peer(&receiver).await;
    until("another came", || counters.connections_open.get() == 2).await;
}

#[tokio::test]
async fn a_message_in_single_bytes() {
    let mut receiver = receive("@tcp://127.0.0.1:0", &["*"]).await;
    let mut stream = raw_peer(&receiver).await;
    stream.set_nodelay(true).unwrap();
    for byte in b"\x01\x01t\x04\x07\x04PING\x00\x00\x00\x02{}" {
        stream.write_all(&[*byte]).await.unwrap();
        sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(collect(&mut receiver, 1).await, [("t".to_owned(), "{}".to_owned())]);
}
