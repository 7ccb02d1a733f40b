//! `deploy/grafana/`.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{strings, text, with, yaml};

/// Fields that InfluxDB holds for service `system`: the document's, and the count of processes.
const SYSTEM_FIELDS: &[&str] = &[
    "cpu_usage_percent",
    "memory_usage_bytes",
    "memory_usage_percent",
    "disk_usage_bytes",
    "disk_usage_percent",
    "network_rx_bytes",
    "network_tx_bytes",
    "load_average_1m",
    "load_average_5m",
    "load_average_15m",
    "process_count",
];

fn dashboard() -> Value {
    serde_json::from_str(&text("deploy/grafana/dashboards/plantd-system.json")).expect("JSON")
}

#[test]
fn dashboard_has_the_documents_panels() {
    let dashboard = dashboard();
    assert_eq!(dashboard["title"], "Plantd System Metrics");
    for (title, query) in [
        (
            "CPU Usage",
            "SELECT mean(cpu_usage_percent) FROM system_metrics WHERE time >= now() - 1h GROUP BY time(1m)",
        ),
        (
            "Memory Usage",
            "SELECT mean(memory_usage_percent) FROM system_metrics WHERE time >= now() - 1h GROUP BY time(1m)",
        ),
    ] {
        let panel = with(&dashboard["panels"], "title", title);
        assert_eq!(panel["targets"][0]["query"], query);
        assert_eq!(panel["targets"][0]["rawQuery"], true);
    }
}

#[test]
fn dashboard_panels_ask_the_provisioned_source_for_what_there_is() {
    let sources = &yaml("deploy/grafana/provisioning/datasources/influxdb.yaml")[0];
    let uid = &sources["datasources"][0]["uid"];
    let providers = &yaml("deploy/grafana/provisioning/dashboards/plantd.yaml")[0];
    let mounted = strings(&yaml("deploy/compose.yaml")[0]["services"]["grafana"]["volumes"]).join("\n");
    let folder = providers["providers"][0]["options"]["path"].as_str().expect("a folder");
    assert!(
        mounted.contains(&format!("./grafana/dashboards:{folder}:ro")),
        "{folder} is not mounted: {mounted}"
    );

    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().expect("panels");
    let mut ids = BTreeSet::new();
    let mut asked = BTreeSet::new();
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64().expect("an id")), "two panels have the id {}", panel["id"]);
        assert_eq!(panel["type"], "timeseries", "`graph` is gone from Grafana");
        assert_eq!(panel["datasource"]["uid"], *uid);
        for target in panel["targets"].as_array().expect("targets") {
            assert_eq!(target["datasource"]["uid"], *uid);
            let query = target["query"].as_str().expect("a query");
            assert!(query.contains(" FROM system_metrics "), "{query}");
            let fields = query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            let field = fields.into_iter().find(|word| SYSTEM_FIELDS.contains(word));
            asked.insert(field.unwrap_or_else(|| panic!("no field that there is in: {query}")).to_owned());
        }
    }
    assert!(panels.len() > 2);
    for field in ["load_average_1m", "network_rx_bytes", "network_tx_bytes"] {
        assert!(asked.contains(field), "no panel shows {field}");
    }
}
