//! The blocks of the contract document, word for word.

use plantd_metric::settings::{
    FileFormat, Level, LogFormat, Operator, Rotation, Settings, StorageKind, StorageSettings,
};

use crate::{Env, loaded, seconds};

const FILE: &str = r#"# config/metric.yaml
service:
  type: "consumer"  # or "producer"
  interval: "10s"
  batch_size: 100

logging:
  level: "info"
  format: "text"

bus:
  endpoint: "tcp://localhost:11001"
  topics:
    - "metrics.*"
    - "system.*"
    - "application.*"

storage:
  type: "influxdb"  # influxdb, prometheus, file
  url: "http://localhost:8086"
  database: "plantd_metrics"
  username: "plantd"
  password: "password"
  retention: "30d"

collection:
  system_metrics: true
  application_metrics: true
  custom_metrics: true
  
  # System metrics to collect
  system:
    - "cpu_usage"
    - "memory_usage"
    - "disk_usage"
    - "network_io"
    - "process_count"
  
  # Application metrics to collect
  application:
    - "request_count"
    - "response_time"
    - "error_rate"
    - "queue_depth"

alerts:
  enabled: true
  rules:
    - name: "high_cpu"
      metric: "cpu_usage"
      threshold: 80
      operator: ">"
      duration: "5m"
    - name: "high_memory"
      metric: "memory_usage"
      threshold: 90
      operator: ">"
      duration: "2m"
"#;

const INFLUXDB: &str = r#"storage:
  type: "influxdb"
  url: "http://localhost:8086"
  database: "plantd_metrics"
  username: "plantd"
  password: "password"
  retention: "30d"
  precision: "s"
"#;

const PROMETHEUS: &str = r#"storage:
  type: "prometheus"
  url: "http://localhost:9090"
  job_name: "plantd"
  scrape_interval: "15s"
  metrics_path: "/metrics"
"#;

const STORAGE_FILE: &str = r#"storage:
  type: "file"
  path: "/var/lib/plantd/metrics"
  format: "json"  # json, csv, parquet
  rotation: "daily"
  compression: true
"#;

const ALERTS: &str = r#"alerts:
  enabled: true
  webhook_url: "http://alertmanager:9093/api/v1/alerts"
  
  rules:
    - name: "high_cpu_usage"
      metric: "cpu_usage_percent"
      threshold: 80
      operator: ">"
      duration: "5m"
      severity: "warning"
      message: "CPU usage is above 80% for 5 minutes"
    
    - name: "critical_memory_usage"
      metric: "memory_usage_percent"
      threshold: 95
      operator: ">"
      duration: "1m"
      severity: "critical"
      message: "Memory usage is critically high"
    
    - name: "service_down"
      metric: "uptime_seconds"
      threshold: 60
      operator: "<"
      duration: "30s"
      severity: "critical"
      message: "Service appears to be down"
"#;

const PERFORMANCE: &str = r#"# Optimize for high-throughput scenarios
performance:
  batch_size: 1000
  flush_interval: "10s"
  worker_count: 4
  buffer_size: 10000
  compression: true
"#;

const ENVIRONMENT: Env = &[
    ("PLANTD_MODULE_METRIC_TYPE", "consumer"),
    ("PLANTD_MODULE_METRIC_LOG_LEVEL", "info"),
    ("PLANTD_MODULE_METRIC_LOG_FORMAT", "text"),
    ("PLANTD_MODULE_METRIC_BUS_ENDPOINT", "tcp://localhost:11001"),
    ("PLANTD_MODULE_METRIC_STORAGE_TYPE", "influxdb"),
    ("PLANTD_MODULE_METRIC_STORAGE_URL", "http://localhost:8086"),
    ("PLANTD_MODULE_METRIC_INTERVAL", "10s"),
    ("PLANTD_MODULE_METRIC_RETENTION", "30d"),
];

/// The environment of the consumer in compose and Kubernetes: the URL alone means InfluxDB.
const DEPLOYED: Env = &[
    ("PLANTD_MODULE_METRIC_TYPE", "consumer"),
    ("PLANTD_MODULE_METRIC_STORAGE_URL", "http://influxdb:8086"),
];

#[test]
fn the_blocks_load() {
    let cases: &[(&str, Env)] = &[
        (FILE, &[]),
        (INFLUXDB, &[]),
        (PROMETHEUS, &[]),
        (STORAGE_FILE, &[]),
        ("", ENVIRONMENT),
        ("", DEPLOYED),
        (ALERTS, &[]),
        (PERFORMANCE, &[]),
        // the producer of compose and Kubernetes, and the advice for troubles
        ("", &[("PLANTD_MODULE_METRIC_TYPE", "producer"), ("PLANTD_MODULE_METRIC_INTERVAL", "30s")]),
        ("", &[("PLANTD_MODULE_METRIC_LOG_LEVEL", "trace")]),
        ("", &[("PLANTD_MODULE_METRIC_BATCH_SIZE", "50"), ("PLANTD_MODULE_METRIC_FLUSH_INTERVAL", "30s")]),
    ];
    for (yaml, env) in cases {
        loaded(yaml, env);
    }
}

/// Read without an environment.
fn as_written(yaml: &str) -> Settings {
    loaded(yaml, &[])
}

/// The one storage that there is.
fn only_storage(settings: Settings) -> StorageSettings {
    let mut storages = settings.storage.0;
    assert_eq!(storages.len(), 1);
    storages.remove(0)
}

#[test]
fn the_file_says() {
    let settings = as_written(FILE);
    assert_eq!((settings.service.interval, settings.service.batch_size), (seconds(10), 100));
    assert_eq!((settings.logging.level, settings.logging.format), (Level::Info, LogFormat::Text));
    assert_eq!(settings.bus.endpoints, ["tcp://localhost:11001"]);
    assert_eq!(settings.bus.topics, ["metrics.*", "system.*", "application.*"]);
    let storage = only_storage(settings.clone());
    assert_eq!((storage.kind, storage.database.as_str()), (StorageKind::Influxdb, "plantd_metrics"));
    assert_eq!(storage.username.as_deref(), Some("plantd"));
    assert_eq!(storage.password.as_ref().map(|secret| secret.reveal()), Some("password"));
    assert_eq!(storage.retention, Some(seconds(30 * 86_400)));
    assert_eq!(settings.collection.system.len(), 5);
    assert_eq!(settings.collection.own_metrics().count(), 4);
    let rules = settings.alerts.rules.iter();
    let rules: Vec<_> = rules.map(|r| (r.name.as_str(), r.operator, r.threshold, r.duration)).collect();
    let expected = [
        ("high_cpu", Operator::Above, 80.0.into(), seconds(300)),
        ("high_memory", Operator::Above, 90.0.into(), seconds(120)),
    ];
    assert_eq!(rules, expected);
    assert_eq!(settings.alerts.rules[0].message, "cpu_usage > 80 for 5m");
}

#[test]
fn the_other_blocks_say() {
    let storage = only_storage(as_written(STORAGE_FILE));
    assert_eq!((storage.kind, storage.path.as_str()), (StorageKind::File, "/var/lib/plantd/metrics"));
    let how = (storage.format, storage.rotation, storage.compression);
    assert_eq!(how, (FileFormat::Json, Rotation::Daily, true));

    let storage = only_storage(as_written(PROMETHEUS));
    assert_eq!((storage.job_name.as_str(), storage.metrics_path.as_str()), ("plantd", "/metrics"));
    assert_eq!((storage.kind, storage.scrape_interval), (StorageKind::Prometheus, seconds(15)));
    assert_eq!(only_storage(as_written(INFLUXDB)).precision.word(), "s");

    let alerts = as_written(ALERTS).alerts;
    let webhook = alerts.webhook_url.as_ref().map(|url| url.as_str());
    assert_eq!(webhook, Some("http://alertmanager:9093/api/v1/alerts"));
    let rule = &alerts.rules[2];
    assert_eq!(
        (rule.operator, rule.threshold, rule.severity.as_str()),
        (Operator::Below, 60.0.into(), "critical")
    );
    assert_eq!(rule.message, "Service appears to be down");

    let performance = as_written(PERFORMANCE).performance;
    assert_eq!((performance.batch_size, performance.flush_interval), (1000, seconds(10)));
    let rest = (performance.worker_count, performance.buffer_size, performance.compression);
    assert_eq!(rest, (4, 10_000, true));
}
