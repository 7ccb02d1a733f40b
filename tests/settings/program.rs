//! The flags of the program, run as a process of its own with an environment of its own.

use std::process::Command;

use crate::{Env, repository};

fn run(arguments: &[&str], env: Env) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_plantd-metric"));
    let output = command.args(arguments).env_clear().envs(env.iter().copied()).output().expect("it runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it prints UTF-8");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn check_config_answers_0_or_78() {
    let config = repository("config/metric.yaml").display().to_string();
    let (code, told, wrong) = run(&["--check-config", "-c", &config], &[]);
    assert_eq!((code, told.as_str(), wrong.as_str()), (Some(0), "configuration is good: consumer\n", ""));
    let env = [("PLANTD_MODULE_METRIC_INTERVAL", "1")];
    let (code, told, wrong) = run(&["standalone", "--check-config"], &env);
    let expected = "PLANTD_MODULE_METRIC_INTERVAL: service.interval: expected a duration from 10ms to 1d, such as \
                    10s, 5m or 1h30m, found \"1\"\n";
    assert_eq!((code, told.as_str(), wrong.as_str()), (Some(78), "", expected));
}

#[test]
fn print_config_says_where_values_come_from() {
    let env = [
        ("PLANTD_MODULE_METRIC_INTERVAL", "7s"),
        ("PLANTD_MODULE_METRIC_STORAGE_URL", "http://influxdb:8086"),
        ("PLANTD_MODULE_METRIC__STORAGE__PASSWORD", "hush"),
        ("PLANTD_MODULE_METRIC__SERVICE__TAGS", "rack=r1"),
        ("PLANTD_MODULE_METRIC__COLLECTION__APPLICATION", "http://a:1"),
    ];
    let (code, told, wrong) = run(&["standalone", "--print-config", "--listen", ":0"], &env);
    assert_eq!((code, wrong.as_str()), (Some(0), ""));
    for line in [
        "  type: standalone  # subcommand",
        "  interval: 7s  # PLANTD_MODULE_METRIC_INTERVAL",
        "  listen: \"0.0.0.0:0\"  # --listen",
        "  password: \"********\"  # PLANTD_MODULE_METRIC__STORAGE__PASSWORD",
        "  path: ./data  # default",
        "    rack: r1  # PLANTD_MODULE_METRIC__SERVICE__TAGS",
        "      url: \"http://a:1\"  # PLANTD_MODULE_METRIC__COLLECTION__APPLICATION",
    ] {
        assert!(told.lines().any(|told| told == line), "{line}\n{told}");
    }
    assert!(!told.contains("hush"));
}

#[test]
fn version_and_help() {
    let (code, told, _) = run(&["--version"], &[]);
    assert_eq!((code, told), (Some(0), format!("plantd-metric {}\n", env!("CARGO_PKG_VERSION"))));
    let (code, told, _) = run(&["--help"], &[]);
    assert!(code == Some(0) && told.contains("Examples:") && told.contains("--check-config"), "{told}");
    for wrong in [&["--nothing"][..], &["journal"], &["journal", "mend"]] {
        assert_eq!(run(wrong, &[]).0, Some(2), "{wrong:?}");
    }
}
