//! The program itself as a child process: signals, exit codes, the newcomer's first command.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

#[allow(dead_code, reason = "each file of tests uses its part")]
#[path = "service/running.rs"]
mod running;

use running::{Answer, until};

/// The program with a clean environment, in a folder of its own.
fn program(folder: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_plantd-metric"));
    program.args(arguments).env_clear().current_dir(folder);
    for (name, value) in variables {
        program.env(format!("PLANTD_MODULE_METRIC_{name}"), value);
    }
    program
}

fn output(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let folder = tempfile::tempdir().expect("a folder");
    program(folder.path(), arguments, variables).output().expect("the program starts")
}

/// Ports of the system's choice for API and embedded bus.
const ANYWHERE: &[(&str, &str)] = &[
    ("_HTTP__LISTEN", "127.0.0.1:0"),
    ("_BUS__EMBEDDED__ENABLED", "true"),
    ("_BUS__EMBEDDED__FRONTEND", "tcp://127.0.0.1:0"),
    ("_BUS__EMBEDDED__BACKEND", "tcp://127.0.0.1:0"),
];

/// A running program; killed when it is dropped.
struct Program {
    child: Child,
    http: SocketAddr,
    frontend: String,
    backend: String,
    folder: tempfile::TempDir,
}

impl Program {
    /// Starts it and reads from its log where it listens.
    fn start(mode: &str, more: &[(&str, &str)]) -> Program {
        let folder = tempfile::tempdir().expect("a folder");
        let variables = [ANYWHERE, more].concat();
        let mut child = program(folder.path(), &[mode], &variables)
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut lines = BufReader::new(child.stderr.take().expect("it is piped")).lines();
        let mut next = |part: &str| {
            let found = lines.by_ref().map_while(Result::ok).find(|line| line.contains(part));
            found.unwrap_or_else(|| panic!("the log says nothing of {part}"))
        };
        let api = next("API on http://");
        let http =
            api.rsplit("http://").next().and_then(|addr| addr.trim().parse().ok()).expect("an address");
        let bus = next("embedded bus");
        let mut addresses =
            bus.split("tcp://").skip(1).map(|rest| rest.split([',', ' ']).next().unwrap_or_default());
        let mut address = || format!("tcp://{}", addresses.next().expect("an address"));
        let (frontend, backend) = (address(), address());
        // Read on, so that the program never waits for its log.
        std::thread::spawn(move || lines.for_each(drop));
        Program { child, http, frontend, backend, folder }
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &id]).status().expect("kill is there").success());
    }

    /// Waits for its end; gives the status and how long that took.
    fn end(&mut self) -> (ExitStatus, Duration) {
        let began = Instant::now();
        let status = until("the program ends", || self.child.try_wait().expect("it is our child"));
        (status, began.elapsed())
    }

    fn json(&self, path: &str) -> Value {
        let answer = request(self.http, &format!("GET {path}"), "").expect("an answer");
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()
    }
}

/// One request; `None` if nobody listens.
fn request(http: SocketAddr, head: &str, body: &str) -> Option<Answer> {
    let mut stream = TcpStream::connect(http).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    let len = body.len();
    let head = format!("{head} HTTP/1.1\r\nhost: t\r\nconnection: close\r\ncontent-length: {len}\r\n\r\n");
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(body.as_bytes()).ok()?;
    Some(Answer::read(&mut stream))
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Samples in the files below `folder`: one object a line.
fn stored(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).expect("the data's folder");
    let files = entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|e| e == "json"));
    let mut count = 0;
    for path in files {
        let text = std::fs::read_to_string(&path).expect("text");
        assert!(text.is_empty() || text.ends_with('\n'), "{} ends within a line", path.display());
        for line in text.lines() {
            let message: Value =
                serde_json::from_str(line).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            count += message["metrics"].as_object().expect("an object").len() as u64;
        }
    }
    count
}

/// Posts until told to stop, counting the samples that were acknowledged.
fn load(http: SocketAddr, acknowledged: &AtomicU64, stopped: &AtomicBool) {
    let message = r#"{"service":"load","metrics":{"a":1,"b":2,"c":3}}"#;
    let body = format!("[{}]", vec![message; SAMPLES as usize / 3].join(","));
    while !stopped.load(Ordering::Relaxed) {
        match request(http, "POST /api/v1/metrics", &body) {
            Some(answer) if answer.status == 200 => drop(acknowledged.fetch_add(SAMPLES, Ordering::Relaxed)),
            _ => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}

/// Samples in one post.
const SAMPLES: u64 = 300;

#[test]
fn a_signal_under_load_loses_nothing_that_was_acknowledged() {
    for signal in ["-TERM", "-INT"] {
        let mut program = Program::start("consumer", &[("_STORAGE__COMPRESSION", "false")]);
        let (acknowledged, stopped) = (AtomicU64::new(0), AtomicBool::new(false));
        let http = program.http;
        let (status, took) = std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| load(http, &acknowledged, &stopped));
            }
            until("there is load", || (acknowledged.load(Ordering::Relaxed) > 30_000).then_some(()));
            program.signal(signal);
            let ended = program.end();
            stopped.store(true, Ordering::Relaxed);
            ended
        });
        assert_eq!(status.code(), Some(0), "{signal}");
        assert!(took < Duration::from_secs(5), "{signal}: {took:?}");
        let stored = stored(&program.folder.path().join("data"));
        let acknowledged = acknowledged.load(Ordering::Relaxed);
        // Of each client one answer may have been cut off by the end.
        let stored_as_well = acknowledged..=acknowledged + 3 * SAMPLES;
        assert!(stored_as_well.contains(&stored), "{signal}: {stored} stored, {acknowledged} acknowledged");
    }
}

#[test]
fn a_second_signal_stops_at_once() {
    // A receiver that takes connections and never answers: the first stop would wait for it.
    let deaf = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/", deaf.local_addr().expect("it is bound"));
    let rule = [
        ("_ALERTS__WEBHOOK_URL", url.as_str()),
        ("_ALERTS__RULES__0__NAME", "always"),
        ("_ALERTS__RULES__0__METRIC", "m"),
        ("_ALERTS__RULES__0__OPERATOR", ">"),
        ("_ALERTS__RULES__0__THRESHOLD", "0"),
        ("_ALERTS__RULES__0__DURATION", "0s"),
    ];
    let mut program = Program::start("consumer", &rule);
    let posted = request(program.http, "POST /api/v1/metrics", r#"{"service":"s","metrics":{"m":1}}"#);
    assert_eq!(posted.expect("an answer").status, 200);
    until("it fires", || (program.json("/api/v1/alerts")["count"] == 1).then_some(()));
    program.signal("-TERM");
    until("new input is refused", || TcpStream::connect(program.http).is_err().then_some(()));
    assert!(program.child.try_wait().expect("it is our child").is_none(), "there is nothing to wait for");
    program.signal("-TERM");
    let (status, took) = program.end();
    assert_eq!(status.code(), Some(75));
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[test]
fn the_newcomers_command_measures_this_host() {
    let began = Instant::now();
    let program = Program::start("standalone", &[("INTERVAL", "1s"), ("LOG_LEVEL", "info")]);
    let query = "/api/v1/metrics/aggregate?metric=cpu_usage_percent&interval=10s&func=avg,p95";
    let series = until("this host's windows", || {
        let series = program.json(query)["series"].clone();
        (series.as_array().expect("a list").len() == 2).then_some(series)
    });
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    assert_eq!(
        (&series[0]["service"], &series[0]["func"], &series[1]["func"]),
        (&"system".into(), &"avg".into(), &"p95".into())
    );
    assert!(series[0]["tags"]["host"].is_string(), "{series}");
    let value = series[0]["points"][0]["value"].as_f64().expect("a number");
    assert!((0.0..=100.0).contains(&value), "{value}");
    assert_eq!(program.json("/status")["mode"], "standalone");
    let exposed = request(program.http, "GET /metrics", "").expect("an answer").text();
    for name in [
        "plantd_cpu_usage_percent{service=\"system\",host=",
        "plantd_memory_usage_bytes{",
        "plantd_process_count{",
    ] {
        assert!(exposed.contains(name), "{name}");
    }
    // It says how it is itself, too: what `collection.application` lists, and what it always does.
    let own = [
        "uptime_seconds",
        "message_count",
        "message_rate",
        "error_count",
        "request_count",
        "response_time_ms",
        "error_rate",
        "queue_depth",
    ];
    until("its own metrics", || {
        let list = program.json("/api/v1/series?service=org.plantd.Metric")["series"].clone();
        let list = list.as_array().expect("a list");
        own.iter().all(|name| list.iter().any(|entry| entry["metric"] == *name)).then_some(())
    });

    let seen = output(&["--list-topics", "3"], &[("BUS_ENDPOINT", &program.backend)]);
    let text = String::from_utf8_lossy(&seen.stdout).into_owned();
    assert_eq!(seen.status.code(), Some(0), "{text}");
    for part in ["messages", "per s", "  metrics.system\n", "  metrics.org.plantd.Metric\n"] {
        assert!(text.contains(part), "{part} not in:\n{text}");
    }
}

#[test]
fn a_producer_publishes_to_a_consumer_elsewhere() {
    let consumer = Program::start("consumer", &[("LOG_FORMAT", "text")]);
    for framing in ["frames", "envelope"] {
        let folder = tempfile::tempdir().expect("a folder");
        let name = format!("host-{framing}");
        let variables = [
            ("TYPE", "producer"),
            ("BUS_ENDPOINT", consumer.frontend.as_str()),
            ("INTERVAL", "500ms"),
            ("_BUS__FRAMING", framing),
            ("_SERVICE__NAME", &name),
            ("BATCH_SIZE", "2"),
        ];
        let mut producer =
            program(folder.path(), &[], &variables).stderr(Stdio::null()).spawn().expect("it starts");
        until("what it measures arrives", || {
            let found = consumer.json(&format!("/api/v1/series?service={name}&metric=load_average_1m"));
            (found["total"] == 1).then_some(())
        });
        producer.kill().expect("it is our child");
        producer.wait().expect("it is our child");
    }
    let status = consumer.json("/status");
    assert_eq!(status["samples_rejected"], 0);
    // `service.batch_size`: two metrics in a message at most.
    let (messages, samples) = (status["metrics_processed"].as_u64(), status["samples_accepted"].as_u64());
    let (messages, samples) = (messages.expect("a number"), samples.expect("a number"));
    assert!(samples > messages && samples <= 2 * messages, "{samples} samples in {messages} messages");
}

#[test]
fn the_configuration_is_checked() {
    for (name, value, code) in
        [("LOG_LEVEL", "debug", 0), ("LOG_LEVEL", "loud", 78), ("_BUS__TOPIC", "x", 78)]
    {
        let output = output(&["--check-config"], &[(name, value)]);
        assert_eq!(output.status.code(), Some(code), "{name}={value}");
        let told =
            String::from_utf8_lossy(if code == 0 { &output.stdout } else { &output.stderr }).into_owned();
        assert!(told.contains(if code == 0 { "configuration is good: consumer" } else { name }), "{told}");
    }
    // What can't be started is told apart from what can't be read.
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let listen = taken.local_addr().expect("it is bound").to_string();
    let output = output(&["consumer", "--listen", &listen], &[("STORAGE_TYPE", "none")]);
    assert_eq!(output.status.code(), Some(69));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains(&format!("http.listen: {listen}")),
        "{output:?}"
    );
}

#[test]
fn health_is_asked_without_curl() {
    let program = Program::start("consumer", &[("STORAGE_TYPE", "none")]);
    let listen = program.http.to_string();
    for (arguments, code) in [
        (vec!["--check-health", "--listen", &listen], 0),
        (vec!["--check-health", &format!("http://{listen}/readyz")], 0),
        (vec!["--check-health", &format!("http://{listen}/nothing")], 69),
        (vec!["--check-health", "http://127.0.0.1:1/health"], 69),
        (vec!["--check-health", "here"], 69),
    ] {
        let output = output(&arguments, &[]);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {output:?}");
    }
}
