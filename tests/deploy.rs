//! The deployment files: they can be read, they have what the document shows, and each variable in them exists.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

#[path = "deploy/grafana.rs"]
mod grafana;
#[path = "deploy/kubernetes.rs"]
mod kubernetes;

/// The documented variables. Every other key has `PLANTD_MODULE_METRIC__SECTION__KEY`.
const VARIABLES: &[&str] = &[
    "PLANTD_MODULE_METRIC_TYPE",
    "PLANTD_MODULE_METRIC_CONFIG",
    "PLANTD_MODULE_METRIC_LOG_LEVEL",
    "PLANTD_MODULE_METRIC_LOG_FORMAT",
    "PLANTD_MODULE_METRIC_BUS_ENDPOINT",
    "PLANTD_MODULE_METRIC_STORAGE_TYPE",
    "PLANTD_MODULE_METRIC_STORAGE_URL",
    "PLANTD_MODULE_METRIC_INTERVAL",
    "PLANTD_MODULE_METRIC_RETENTION",
    "PLANTD_MODULE_METRIC_BATCH_SIZE",
    "PLANTD_MODULE_METRIC_FLUSH_INTERVAL",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// The documents of a YAML file.
fn yaml_of(path: &str, text: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(text).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn yaml(path: &str) -> Vec<Value> {
    yaml_of(path, &text(path))
}

/// Every file below `deploy/`, relative to the repository.
fn deploy_files() -> Vec<String> {
    let mut folders: Vec<PathBuf> = vec![root().join("deploy")];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
            let path = entry.expect("an entry of a folder that can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let relative = path.strip_prefix(root()).expect("below the root");
                files.push(relative.to_string_lossy().replace('\\', "/"));
            }
        }
    }
    files.sort();
    files
}

/// The strings of a list.
fn strings(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// The entry of a list whose `key` is `value`.
fn with<'a>(list: &'a Value, key: &str, value: &str) -> &'a Value {
    let found = list.as_array().into_iter().flatten().find(|entry| entry[key] == value);
    found.unwrap_or_else(|| panic!("no entry with {key}: {value} in {list}"))
}

/// Every word that begins like a variable of ours, with its line.
fn variables(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (at, line) in text.lines().enumerate() {
        for (start, _) in line.match_indices("PLANTD_MODULE_METRIC") {
            let is_part = |c: &char| c.is_ascii_alphanumeric() || *c == '_';
            found.push((at + 1, line[start..].chars().take_while(is_part).collect()));
        }
    }
    found
}

/// The key that a variable of the nested form stands for: sections and name in lower case.
fn nested_key(variable: &str) -> Option<Vec<String>> {
    let path = variable.strip_prefix("PLANTD_MODULE_METRIC__")?;
    let path = path.strip_suffix("_FILE").unwrap_or(path);
    let parts: Vec<String> = path.split("__").map(str::to_lowercase).collect();
    (parts.len() >= 2 && parts.iter().all(|part| !part.is_empty())).then_some(parts)
}

/// Whether `config/metric.yaml`, which explains every key, has this one (a key that is off stands in a comment).
fn explained(config: &str, key: &[String]) -> bool {
    key.iter().all(|part| {
        config.lines().any(|line| {
            let line = line.trim_start_matches(|c: char| c == '#' || c == '-' || c.is_whitespace());
            line.strip_prefix(part.as_str()).is_some_and(|rest| rest.starts_with(':'))
        })
    })
}

fn unknown_variables(path: &str, text: &str, config: &str) -> Vec<String> {
    let mut unknown = Vec::new();
    for (line, variable) in variables(text) {
        let known = VARIABLES.contains(&variable.as_str())
            || nested_key(&variable).is_some_and(|key| explained(config, &key));
        if !known {
            unknown.push(format!("{path}:{line}: there is no variable {variable}"));
        }
    }
    unknown
}

#[test]
fn every_file_can_be_read() {
    let mut read = 0;
    for path in deploy_files() {
        if path.ends_with(".yaml") {
            assert!(!yaml(&path).is_empty(), "{path} is empty");
            read += 1;
        } else if path.ends_with(".json") {
            let _: Value = serde_json::from_str(&text(&path)).unwrap_or_else(|e| panic!("{path}: {e}"));
            read += 1;
        }
    }
    assert!(read >= 8, "expected at least 8 files below deploy/, found {read}");
}

#[test]
fn every_variable_exists() {
    let config = text("config/metric.yaml");
    let mut unknown = Vec::new();
    for path in deploy_files().iter().map(String::as_str).chain(["Dockerfile", "docs/contract.md"]) {
        let text = text(path).replace("PLANTD_MODULE_METRIC__SECTION__KEY", "");
        unknown.extend(unknown_variables(path, &text, &config));
    }
    assert!(unknown.is_empty(), "{}", unknown.join("\n"));
}

#[test]
fn a_variable_that_does_not_exist_is_found() {
    let config = "bus:\n  embedded:\n    # enabled: false\nstorage:\n  password: x\n";
    for (text, found) in [
        ("A=1 PLANTD_MODULE_METRIC_TYPE=x", 0),
        ("PLANTD_MODULE_METRIC_TYP=x", 1),
        ("PLANTD_MODULE_METRIC__BUS__EMBEDDED__ENABLED=true", 0),
        ("PLANTD_MODULE_METRIC__BUS__EMBEDDED__ENABLE=true", 1),
        ("PLANTD_MODULE_METRIC__STORAGE__PASSWORD_FILE=/x", 0),
        ("PLANTD_MODULE_METRIC__STORAGE", 1),
        ("\n- PLANTD_MODULE_METRIC_STORAGE_URI: x", 1),
    ] {
        assert_eq!(unknown_variables("a", text, config).len(), found, "{text}");
    }
    assert!(unknown_variables("a", "\nPLANTD_MODULE_METRIC_X", config)[0].starts_with("a:2: "));
}

#[test]
fn the_contract_has_every_documented_variable() {
    let contract: BTreeSet<String> =
        variables(&text("docs/contract.md")).into_iter().map(|(_, v)| v).collect();
    for variable in VARIABLES {
        assert!(contract.contains(*variable), "docs/contract.md has no {variable}");
    }
}

#[test]
fn dockerfile_has_two_stages_and_no_root() {
    let file = text("Dockerfile");
    let joined = file.replace("\\\n", " ");
    let lines: Vec<&str> =
        joined.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')).collect();
    let manifest = text("Cargo.toml");
    let version =
        manifest.lines().find_map(|l| l.strip_prefix("rust-version = ")).expect("a minimum version");
    let stages: Vec<&str> = lines.iter().filter_map(|line| line.strip_prefix("FROM ")).collect();
    let builder = format!("rust:{}-bookworm AS build", version.trim_matches('"'));
    assert_eq!(stages, [builder.as_str(), "debian:bookworm-slim"]);

    let last = lines.iter().rposition(|line| line.starts_with("FROM ")).expect("two stages");
    let value = |key: &str| {
        let found = lines[last..].iter().find_map(|line| line.strip_prefix(key));
        found.unwrap_or_else(|| panic!("the last stage has no {key}")).trim().to_owned()
    };
    let user = value("USER ");
    assert!(
        user.starts_with(|c: char| ('1'..='9').contains(&c)),
        "expected a number that is not 0, found {user}"
    );
    assert!(value("HEALTHCHECK ").ends_with(r#"CMD ["plantd-metric", "--check-health"]"#));
    assert_eq!(value("EXPOSE "), "8080 13000 13001");
    assert_eq!(value("ENTRYPOINT "), r#"["plantd-metric"]"#);
    assert_eq!(value("VOLUME "), "/var/lib/plantd/metrics");
    assert!(value("ENV ").contains("PLANTD_MODULE_METRIC__HTTP__LISTEN=0.0.0.0:8080"));
    assert!(value("ENV ").contains("PLANTD_MODULE_METRIC__STORAGE__PATH=/var/lib/plantd/metrics"));
    let volume_at = lines.iter().position(|line| line.starts_with("VOLUME ")).expect("found above");
    let owner_at =
        lines.iter().position(|line| line.contains("install -d -o plantd")).expect("the folder's owner");
    assert!(owner_at < volume_at, "a change below VOLUME is lost");
}

/// The image is built from what .dockerignore lets in; a target that the manifest names has to be among it.
#[test]
fn the_image_gets_every_source_that_the_build_needs() {
    let let_in = text(".dockerignore");
    let mut needed = vec!["Cargo.toml", "Cargo.lock", "LICENSE", "src", "operators", "dataflows"];
    let manifest = text("Cargo.toml");
    for (table, folder) in [("[[bench]]", "benches"), ("[[test]]", "tests"), ("[[example]]", "examples")] {
        if manifest.contains(table) {
            needed.push(folder);
        }
    }
    for path in needed {
        assert!(
            let_in.lines().any(|line| line.strip_prefix('!') == Some(path)),
            ".dockerignore keeps {path} out"
        );
    }
}

#[test]
fn compose_has_what_the_document_shows() {
    let file = &yaml("deploy/compose.yaml")[0];
    assert!(file.get("version").is_none(), "`version` is obsolete");
    let services = &file["services"];

    let consumer = &services["metric-consumer"];
    let environment = strings(&consumer["environment"]);
    assert!(environment.contains(&"PLANTD_MODULE_METRIC_TYPE=consumer"));
    assert!(environment.contains(&"PLANTD_MODULE_METRIC_STORAGE_URL=http://influxdb:8086"));
    assert_eq!(strings(&consumer["volumes"]), ["metrics:/var/lib/plantd/metrics"], "its journal is kept");
    assert_eq!(consumer["build"], "..");
    assert_eq!(consumer["depends_on"]["influxdb"]["condition"], "service_healthy");

    let producer = &services["metric-producer"];
    let environment = strings(&producer["environment"]);
    assert!(environment.contains(&"PLANTD_MODULE_METRIC_TYPE=producer"));
    assert!(environment.contains(&"PLANTD_MODULE_METRIC_INTERVAL=30s"));
    assert_eq!(strings(&producer["volumes"]), ["/proc:/host/proc:ro", "/sys:/host/sys:ro"]);
    assert_eq!(producer["image"], consumer["image"]);

    let influxdb = &services["influxdb"];
    assert_eq!(influxdb["image"], "influxdb:1.8");
    let expected = ["INFLUXDB_DB=plantd_metrics", "INFLUXDB_USER=plantd", "INFLUXDB_USER_PASSWORD=password"];
    assert_eq!(strings(&influxdb["environment"]), expected);
    assert!(strings(&influxdb["ports"]).iter().any(|port| port.ends_with("8086:8086")));

    for (name, service) in services.as_object().expect("services by name") {
        for port in strings(&service["ports"]) {
            assert!(port.starts_with("127.0.0.1:"), "{name}: {port} is open to everybody");
        }
        if *name != "grafana" {
            assert!(service["healthcheck"]["test"].is_array(), "{name} has no healthcheck");
        }
        for volume in strings(&service["volumes"]).into_iter().filter_map(|volume| volume.split(':').next()) {
            let named = !volume.starts_with(['/', '.']);
            assert!(!named || file["volumes"].get(volume).is_some(), "{name}: there is no volume {volume}");
            let own = !volume.starts_with('.') || root().join("deploy").join(volume).exists();
            assert!(own, "{name}: there is no {volume}");
        }
    }
}

/// The producer publishes where the consumer's own bus listens.
#[test]
fn compose_joins_producer_and_consumer() {
    let file = &yaml("deploy/compose.yaml")[0];
    let of = |service: &str| strings(&file["services"][service]["environment"]).join("\n");
    assert!(of("metric-consumer").contains("__BUS__EMBEDDED__ENABLED=true"));
    assert!(of("metric-consumer").contains("__BUS__EMBEDDED__FRONTEND=tcp://0.0.0.0:13000"));
    assert!(of("metric-consumer").contains("__BUS__EMBEDDED__BACKEND=tcp://0.0.0.0:13001"));
    let twice = of("metric-consumer").contains("_BUS_ENDPOINT");
    assert!(!twice, "the consumer hears its own bus in any case; an endpoint would bring everything twice");
    assert!(of("metric-producer").contains("_BUS_ENDPOINT=tcp://metric-consumer:13000"));
}

/// Name and variables of each workload, those of the image among them.
fn workloads() -> Vec<(String, Vec<(String, String)>)> {
    let dockerfile = text("Dockerfile").replace("\\\n", " ");
    let image =
        dockerfile.lines().find_map(|line| line.strip_prefix("ENV ")).expect("the image sets variables");
    let pairs_of = |lines: &mut dyn Iterator<Item = &str>| -> Vec<(String, String)> {
        let pairs = lines.filter_map(|line| line.split_once('='));
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    };
    let image = pairs_of(&mut image.split_whitespace());
    let mut all = vec![("image".to_owned(), image.clone())];
    let compose = &yaml("deploy/compose.yaml")[0]["services"];
    for name in ["metric-consumer", "metric-producer"] {
        let own = pairs_of(&mut strings(&compose[name]["environment"]).into_iter());
        all.push((name.to_owned(), [image.clone(), own].concat()));
    }
    for object in
        kubernetes::objects().iter().filter(|o| o["kind"] == "Deployment" || o["kind"] == "DaemonSet")
    {
        let listed =
            object["spec"]["template"]["spec"]["containers"][0]["env"].as_array().expect("variables");
        let value = |entry: &Value| entry["value"].as_str().unwrap_or("node-1").to_owned();
        let own = listed.iter().map(|e| (e["name"].as_str().expect("a name").to_owned(), value(e))).collect();
        all.push((object["metadata"]["name"].to_string(), [image.clone(), own].concat()));
    }
    let file = text("deploy/systemd/plantd-metric.env");
    let mut unit = pairs_of(&mut file.lines().filter(|line| !line.starts_with('#')));
    unit.push((
        "PLANTD_MODULE_METRIC_CONFIG".to_owned(),
        root().join("config/metric.yaml").display().to_string(),
    ));
    all.push(("systemd".to_owned(), unit));
    all
}

/// What `--check-config` says with these variables alone.
fn check_config(variables: &[(String, String)]) -> (Option<i32>, String) {
    let mut program = Command::new(env!("CARGO_BIN_EXE_plantd-metric"));
    let folder = tempfile::tempdir().expect("a folder for a moment");
    program.arg("--check-config").env_clear().current_dir(folder.path());
    let out =
        program.envs(variables.iter().map(|(name, value)| (name, value))).output().expect("our program runs");
    (out.status.code(), String::from_utf8_lossy(&out.stderr).into_owned())
}

#[test]
fn the_program_accepts_what_each_file_sets() {
    let workloads = workloads();
    assert_eq!(workloads.len(), 7);
    for (name, variables) in workloads {
        assert!(variables.len() >= 2, "{name} sets {variables:?}");
        let (code, said) = check_config(&variables);
        assert_eq!(code, Some(0), "{name}: {variables:?}: {said}");
    }
    let wrong = [("PLANTD_MODULE_METRIC_TYPE".to_owned(), "nothing".to_owned())];
    assert_eq!(check_config(&wrong).0, Some(78), "the program takes anything");
}

#[test]
fn systemd_unit_has_three_sections_of_keys() {
    let unit = text("deploy/systemd/plantd-metric.service");
    let mut sections = Vec::new();
    let mut pairs = Vec::new();
    for (at, line) in unit.lines().enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
    {
        if let Some(section) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            sections.push(section);
        } else {
            let pair =
                line.split_once('=').unwrap_or_else(|| panic!("line {}: expected KEY=VALUE: {line}", at + 1));
            pairs.push(pair);
        }
    }
    assert_eq!(sections, ["Unit", "Service", "Install"]);
    for pair in [
        ("Type", "exec"),
        ("ExecStart", "/usr/local/bin/plantd-metric"),
        ("ExecStartPre", "/usr/local/bin/plantd-metric --check-config"),
        ("EnvironmentFile", "-/etc/plantd/metric.env"),
        ("RestartPreventExitStatus", "2 78"),
        ("DynamicUser", "yes"),
        ("NoNewPrivileges", "yes"),
        ("ProtectSystem", "strict"),
        ("StateDirectory", "plantd/metrics"),
        ("WantedBy", "multi-user.target"),
    ] {
        assert!(pairs.contains(&pair), "expected {}={}", pair.0, pair.1);
    }
    let stop: u32 =
        pairs.iter().find(|(key, _)| *key == "TimeoutStopSec").expect("a limit").1.parse().expect("seconds");
    assert!(stop > 5, "the program takes up to 5 s to stop, found {stop}");
    for (at, line) in text("deploy/systemd/plantd-metric.env").lines().enumerate() {
        let fine = line.is_empty() || line.starts_with('#') || line.contains('=');
        assert!(fine, "metric.env:{}: expected NAME=VALUE: {line}", at + 1);
    }
}
