//! A collector of one's own, and a producer that runs it: prints what would be published.
//!
//! `cargo run --example custom_collector`

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use operators::sample::TimeNs;
use operators::series::Target;
use plantd_metric::collectors::{CollectError, Collector};
use plantd_metric::message::Message;
use plantd_metric::producer::{Producer, ProducerConfig};

/// Counts the entries of a folder, such as the jobs of a spool.
struct Spool {
    folder: PathBuf,
    target: Arc<Target>,
}

impl Collector for Spool {
    fn name(&self) -> &str {
        "spool"
    }

    fn collect(&mut self, now_ns: TimeNs) -> Result<Vec<Message>, CollectError> {
        let entries = std::fs::read_dir(&self.folder)
            .map_err(|e| CollectError::new(format!("{}: expected a folder: {e}", self.folder.display())))?;
        let depth = entries.count() as f64;
        let metrics = vec![("queue_depth".into(), depth)];
        Ok(vec![Message { time_ns: now_ns, target: Arc::clone(&self.target), metrics }])
    }

    fn interval(&self) -> Option<Duration> {
        Some(Duration::from_millis(500))
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), CollectError> {
    let target = Arc::new(Target::new("org.example.Spool", [("folder", ".")]));
    let spool = Spool { folder: ".".into(), target };
    let producer = Producer::new(ProducerConfig::default(), vec![Box::new(spool)])?;
    let print = |topic: &str, payload: &[u8]| println!("{topic} {}", String::from_utf8_lossy(payload));
    producer.run(print, tokio::time::sleep(Duration::from_secs(2))).await;
    Ok(())
}
