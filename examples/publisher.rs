//! Publishes documented messages on the bus.
//!
//! `cargo run --example publisher -- tcp://127.0.0.1:13000 10`: ten messages, one a second.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use operators::series::Target;
use plantd_metric::bus::{Attach, Endpoint, Publisher, PublisherConfig};
use plantd_metric::message::Message;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let endpoint = arguments.next().unwrap_or_else(|| "tcp://127.0.0.1:13000".into());
    let count: u32 = arguments.next().map_or(Ok(10), |text| text.parse())?;

    let config = PublisherConfig {
        endpoints: vec![Endpoint::parse(&endpoint, Attach::Connect)?],
        ..PublisherConfig::default()
    };
    let publisher = Publisher::start(config).await?;
    let target = Arc::new(Target::new("org.plantd.TempSensor", [("location", "server_room")]));
    for n in 0..count {
        // PUB drops what it sends before a subscriber has joined: the pause comes first.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let message = Message {
            time_ns: SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos() as i64,
            target: target.clone(),
            metrics: vec![("temperature_celsius".into(), 20.0 + f64::from(n) / 10.0)],
        };
        let mut payload = Vec::new();
        message.write_json(&mut payload);
        let outcome = publisher.send(b"metrics.org.plantd.TempSensor", &payload);
        println!("{outcome:?}: {}", String::from_utf8_lossy(&payload));
    }
    publisher.shutdown().await;
    Ok(())
}
