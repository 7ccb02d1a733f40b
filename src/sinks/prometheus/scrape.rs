//! The other way round: Prometheus scrapes us. Nothing is sent; what it needs to know is printed for its configuration.

use std::sync::Arc;
use std::time::Duration;

use operators::sample::DurationNs;

use crate::message::Message;
use crate::sinks::status::duration_text;
use crate::sinks::{Position, Reader, Sink, SinkError, SinkStatus};

/// What a scrape configuration says.
#[derive(Clone, Debug, PartialEq)]
pub struct ScrapeConfig {
    /// Value of the label `job`.
    pub job_name: String,
    /// How often Prometheus comes.
    pub scrape_interval: Duration,
    /// Where it asks.
    pub metrics_path: String,
    /// Host and port at which it reaches us.
    pub target: String,
}

/// The part of a `prometheus.yml` that makes Prometheus scrape us.
pub fn scrape_configs(config: &ScrapeConfig) -> String {
    let nanos = DurationNs::try_from(config.scrape_interval.as_nanos()).unwrap_or(DurationNs::MAX);
    // Prometheus counts in milliseconds, and takes none that are parts.
    let interval = duration_text((nanos / 1_000_000).max(1).saturating_mul(1_000_000));
    format!(
        "scrape_configs:\n  - job_name: {}\n    scrape_interval: {interval}\n    metrics_path: {}\n    \
         static_configs:\n      - targets: [{}]\n",
        quoted(&config.job_name),
        quoted(&config.metrics_path),
        quoted(&config.target),
    )
}

/// A YAML string. JSON's strings are YAML's (YAML 1.2, 1.3 "Relation to JSON").
fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a string always serialises")
}

/// The sink of `type: prometheus` without `url`: stores nothing, since Prometheus fetches what it stores.
pub struct ScrapedSink {
    metrics_path: String,
}

impl ScrapedSink {
    /// Scraped at `metrics_path`.
    pub fn new(metrics_path: String) -> Self {
        ScrapedSink { metrics_path }
    }
}

impl Sink for ScrapedSink {
    fn write(&mut self, _: &[Message]) -> Result<(), SinkError> {
        Ok(())
    }

    fn flush(&mut self, _upto: Position) -> Result<(), SinkError> {
        Ok(())
    }

    fn status(&self) -> SinkStatus {
        let mut status = SinkStatus::connected("prometheus");
        status.database = Some(format!("scraped at {}", self.metrics_path));
        status
    }

    fn reader(&self) -> Option<Arc<dyn Reader>> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_of_the_document() {
        let config = ScrapeConfig {
            job_name: "plantd".into(),
            scrape_interval: Duration::from_secs(15),
            metrics_path: "/metrics".into(),
            target: "127.0.0.1:8080".into(),
        };
        let expected = "scrape_configs:\n  - job_name: \"plantd\"\n    scrape_interval: 15s\n    metrics_path: \"/metrics\"\n    static_configs:\n      - targets: [\"127.0.0.1:8080\"]\n";
        assert_eq!(scrape_configs(&config), expected);
        let odd = ScrapeConfig {
            job_name: "a: \"b\"\n".into(),
            scrape_interval: Duration::from_micros(1_500_500),
            ..config
        };
        let text = scrape_configs(&odd);
        assert!(text.contains("job_name: \"a: \\\"b\\\"\\n\"\n    scrape_interval: 1500ms\n"), "{text}");
    }

    #[test]
    fn what_is_scraped_is_connected_and_says_where() {
        let sink = ScrapedSink::new("/m".into());
        let status = sink.status();
        assert_eq!(
            (status.status.as_str(), status.database.as_deref()),
            ("connected", Some("scraped at /m"))
        );
        assert!(sink.reader().is_none());
    }
}
