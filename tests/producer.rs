//! The producer against the real thing: this host's `/proc`, a small HTTP server, real children.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use operators::sample::TimeNs;
use operators::series::Target;
use plantd_metric::collectors::command::{CommandConfig, RunCommand};
use plantd_metric::collectors::scrape::{Scrape, ScrapeConfig};
use plantd_metric::collectors::{self, CollectError, CollectionConfig, Collector};
use plantd_metric::message::Message;
use plantd_metric::producer::{Producer, ProducerConfig};

const NOON_NS: TimeNs = 1_704_110_400_000_000_000;

/// Fails unless `done` comes true within ten seconds.
fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !done() {
        assert!(Instant::now() < deadline, "not within ten seconds: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn metric(messages: &[Message], name: &str) -> f64 {
    let mut found = messages.iter().flat_map(|m| &m.metrics).filter(|(n, _)| &**n == name);
    found.next().unwrap_or_else(|| panic!("no {name} in {messages:?}")).1
}

fn json(message: &Message) -> serde_json::Value {
    let mut out = Vec::new();
    message.write_json(&mut out);
    serde_json::from_slice(&out).unwrap()
}

mod host {
    //! Values of the system's message against `/proc` and `/sys`, read by hand right before and after.

    use super::*;

    fn host() -> Box<dyn Collector> {
        collectors::open(&CollectionConfig::default()).unwrap().swap_remove(0)
    }

    fn proc(path: &str) -> String {
        std::fs::read_to_string(path).unwrap()
    }

    fn meminfo(field: &str) -> f64 {
        let text = proc("/proc/meminfo");
        let line = text.lines().find(|line| line.starts_with(field)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() * 1024.0
    }

    fn processes() -> f64 {
        let dir = std::fs::read_dir("/proc").unwrap();
        let is_number = |name: &std::ffi::OsStr| name.to_str().is_some_and(|n| n.parse::<u32>().is_ok());
        dir.filter(|entry| is_number(&entry.as_ref().unwrap().file_name())).count() as f64
    }

    /// Bytes in use and available on all devices below `/dev/`, each once, or else at `/`, as `df` has it.
    fn disks() -> [f64; 2] {
        let out = std::process::Command::new("df")
            .args(["-a", "-B1", "--output=source,used,avail,target"])
            .output();
        let text = String::from_utf8(out.unwrap().stdout).unwrap();
        let mut devices = std::collections::BTreeMap::new();
        let mut root = [0.0; 2];
        for line in text.lines().skip(1) {
            let columns: Vec<_> = line.split_whitespace().collect();
            let number = |at: usize| columns[at].parse::<f64>().unwrap_or_default();
            let row = [number(1), number(2)];
            if columns[3] == "/" {
                root = row;
            }
            if columns[0].starts_with("/dev/") && !columns[0].starts_with("/dev/loop") {
                devices.insert(columns[0].to_string(), row);
            }
        }
        let sum = |at: usize| devices.values().map(|row| row[at]).sum();
        if devices.is_empty() { root } else { [sum(0), sum(1)] }
    }

    /// Bytes received on the interfaces that have a device behind them, or on all but the loopback.
    fn received() -> f64 {
        let text = proc("/proc/net/dev");
        let rows: Vec<(String, f64)> = text
            .lines()
            .skip(2)
            .map(|line| {
                let (name, counters) = line.split_once(':').unwrap();
                (name.trim().to_string(), counters.split_whitespace().next().unwrap().parse().unwrap())
            })
            .collect();
        let device = |name: &str| std::fs::metadata(format!("/sys/class/net/{name}/device")).is_ok();
        let any = rows.iter().any(|(name, _)| device(name));
        rows.iter().filter(|(name, _)| if any { device(name) } else { name != "lo" }).map(|(_, rx)| rx).sum()
    }

    /// The collector's value lies between two readings by hand, or at most `slack` outside them:
    /// other processes run while this is measured, so a try may miss.
    fn agrees(name: &str, slack: f64, by_hand: impl Fn() -> f64) {
        let mut host = host();
        let mut seen = Vec::new();
        for _ in 0..10 {
            let before = by_hand();
            let value = metric(&host.collect(NOON_NS).unwrap(), name);
            let after = by_hand();
            if (before.min(after) - slack..=before.max(after) + slack).contains(&value) {
                return;
            }
            seen.push((before, value, after));
        }
        panic!("{name}: {seen:?}");
    }

    #[test]
    fn values_agree_with_proc() {
        agrees("memory_usage_bytes", 64e6, || meminfo("MemTotal:") - meminfo("MemAvailable:"));
        agrees("memory_usage_percent", 1.0, || {
            100.0 * (1.0 - meminfo("MemAvailable:") / meminfo("MemTotal:"))
        });
        agrees("disk_usage_bytes", 16e6, || disks()[0]);
        agrees("disk_usage_percent", 1.0, || 100.0 * disks()[0] / (disks()[0] + disks()[1]));
        agrees("process_count", 3.0, processes);
        agrees("network_rx_bytes", 0.0, received);
        for (index, name) in
            ["load_average_1m", "load_average_5m", "load_average_15m"].into_iter().enumerate()
        {
            agrees(name, 0.01, || proc("/proc/loadavg").split(' ').nth(index).unwrap().parse().unwrap());
        }
    }

    /// What a container sees of a host whose `/proc` and `/sys` are mounted below a folder.
    #[test]
    fn a_mounted_host_is_read_where_it_is_mounted() {
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let dev = "Inter-|   Receive  |  Transmit\n face |bytes packets errs drop fifo frame compressed multicast|bytes\n\
                   \x20   lo: 7 1 0 0 0 0 0 0 7 1 0 0 0 0 0 0\n  eth0:1000 9 0 0 0 0 0 0 2000 8 0 0 0 0 0 0\n\
                   docker0: 50 1 0 0 0 0 0 0 60 1 0 0 0 0 0 0\n";
        write("proc/1/net/dev", dev);
        write("proc/42/stat", "");
        write("proc/meminfo", "");
        write("sys/class/net/eth0/device", "");
        let system = ["network_io", "process_count"].map(String::from).into();
        let config = CollectionConfig { system, host_root: folder.path().into(), ..Default::default() };
        let messages = collectors::open(&config).unwrap().swap_remove(0).collect(NOON_NS).unwrap();
        let values =
            ["network_rx_bytes", "network_tx_bytes", "process_count"].map(|name| metric(&messages, name));
        assert_eq!(values, [1000.0, 2000.0, 2.0]);
    }

    #[test]
    fn the_processor_is_busy_when_it_is() {
        let mut host = host();
        host.collect(NOON_NS).unwrap();
        let until = Instant::now() + Duration::from_millis(500);
        while Instant::now() < until {
            std::hint::black_box(until);
        }
        let busy = metric(&host.collect(NOON_NS).unwrap(), "cpu_usage_percent");
        let cores = std::thread::available_parallelism().unwrap().get() as f64;
        assert!(busy > 40.0 / cores && busy <= 100.0, "{busy}");
    }

    #[test]
    fn one_message_as_documented() {
        let messages = host().collect(NOON_NS).unwrap();
        assert_eq!(messages.len(), 1);
        let json = json(&messages[0]);
        assert_eq!(
            (&json["service"], &json["timestamp"]),
            (&"system".into(), &"2024-01-01T12:00:00Z".into())
        );
        let hostname = proc("/proc/sys/kernel/hostname");
        assert_eq!(json["tags"]["host"], hostname.trim());
        let mut names: Vec<_> = json["metrics"].as_object().unwrap().keys().map(String::as_str).collect();
        names.sort_unstable();
        let documented = [
            "cpu_usage_percent",
            "disk_usage_bytes",
            "disk_usage_percent",
            "load_average_15m",
            "load_average_1m",
            "load_average_5m",
            "memory_usage_bytes",
            "memory_usage_percent",
            "network_rx_bytes",
            "network_tx_bytes",
            "process_count",
        ];
        assert_eq!(names, documented);
        assert!((0.0..=100.0).contains(&json["metrics"]["disk_usage_percent"].as_f64().unwrap()));
    }
}

mod scraping {
    //! A small HTTP server that answers each connection with the bytes it was given.

    use super::*;

    /// Serves `answer` to every connection; the address. The server ends with the test.
    fn serve(answer: Vec<u8>, requests: Sender<String>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let Ok(mut connection) = connection else { return };
                let mut request = Vec::new();
                let mut byte = [0];
                while !request.ends_with(b"\r\n\r\n") && connection.read(&mut byte).is_ok_and(|n| n == 1) {
                    request.push(byte[0]);
                }
                let _ = requests.send(String::from_utf8_lossy(&request).to_ascii_lowercase());
                let _ = connection.write_all(&answer);
            }
        });
        format!("http://{address}/metrics")
    }

    fn http(headers: &str, body: &[u8]) -> Vec<u8> {
        let head = format!(
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n",
            body.len()
        );
        [head.as_bytes(), body].concat()
    }

    fn gzip(body: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(body).unwrap();
        encoder.finish().unwrap()
    }

    fn scrape(answer: Vec<u8>, config: ScrapeConfig) -> (Result<Vec<Message>, CollectError>, String) {
        let (requests, seen) = channel();
        let url = serve(answer, requests);
        let result =
            Scrape::new(ScrapeConfig { url, ..config }).unwrap_or_else(|e| panic!("{e}")).collect(NOON_NS);
        (result, seen.recv_timeout(Duration::from_secs(10)).unwrap_or_default())
    }

    const TEXT: &str = "# TYPE plantd_request_count counter\nplantd_request_count_total{job=\"api\",path=\"/a\"} 5\n\
                        response_time_ms{job=\"api\",path=\"/a\"} 15.5\nqueue_depth 3 1704110399500\ngoroutines 7\n";

    #[test]
    fn samples_become_messages() {
        for (headers, body) in [
            ("Content-Type: text/plain; version=0.0.4\r\n", TEXT.as_bytes().to_vec()),
            ("Content-Encoding: gzip\r\n", gzip(TEXT.as_bytes())),
        ] {
            let families =
                ["request_count", "response_time", "error_rate", "queue_depth"].map(String::from).into();
            let config = ScrapeConfig { service: "shop".into(), families, ..Default::default() };
            let (result, request) = scrape(http(headers, &body), config);
            assert!(
                request.starts_with("get /metrics http/1.1\r\n") && request.contains("accept-encoding: gzip")
            );
            let messages = result.unwrap();
            let seen: Vec<_> = messages.iter().map(json).collect();
            let instance = seen[0]["tags"]["instance"].as_str().unwrap();
            assert!(instance.starts_with("127.0.0.1:"), "{instance}");
            assert_eq!(
                seen[0],
                serde_json::json!({"timestamp": "2024-01-01T12:00:00Z", "service": "api",
                    "metrics": {"plantd_request_count_total": 5, "response_time_ms": 15.5},
                    "tags": {"instance": instance, "path": "/a"}})
            );
            assert_eq!(
                seen[1],
                serde_json::json!({"timestamp": "2024-01-01T11:59:59.500Z", "service": "shop",
                    "metrics": {"queue_depth": 3}, "tags": {"instance": instance}})
            );
            assert_eq!((seen.len(), metric(&messages, "scrape_up")), (3, 1.0));
            assert!(metric(&messages, "scrape_duration_seconds") > 0.0);
        }
    }

    #[test]
    fn a_failing_endpoint_is_down_and_says_why() {
        let limits =
            ScrapeConfig { body_max_bytes: 1000, timeout: Duration::from_millis(300), ..Default::default() };
        let bomb = gzip(&vec![b'\n'; 1_000_000]);
        assert!(bomb.len() < 2000);
        let unlimited = ScrapeConfig { body_max_bytes: 100_000, ..limits.clone() };
        let open_end = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\na 1".to_vec();
        for (answer, config, reason) in [
            (
                b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n".to_vec(),
                &limits,
                "expected status 200, found 500",
            ),
            (http("", &[b'#'; 1001]), &limits, "expected a body of at most 1000 bytes, found a longer one"),
            (
                http("Content-Encoding: gzip\r\n", &bomb),
                &unlimited,
                "expected a body of at most 100000 bytes",
            ),
            (http("Content-Encoding: gzip\r\n", b"a 1\n"), &limits, "expected a gzip body"),
            (
                http("Content-Encoding: br\r\n", b"a 1\n"),
                &limits,
                "expected content encoding gzip or identity, found 'br'",
            ),
            (open_end, &limits, "expected a whole body"),
            (b"SSH-2.0-none\r\n".to_vec(), &limits, "expected an HTTP answer"),
        ] {
            let error = scrape(answer, config.clone()).0.unwrap_err();
            assert!(error.reason.contains(reason), "{error}, not {reason}");
            assert_eq!(metric(&error.gathered, "scrape_up"), 0.0);
        }
    }

    #[test]
    fn a_silent_or_absent_endpoint_is_down_in_time() {
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let absent = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        for (address, reason) in [
            (silent.local_addr().unwrap(), "expected an answer within 300ms"),
            (absent, "expected a connection"),
        ] {
            let (url, timeout) = (format!("http://{address}/metrics"), Duration::from_millis(300));
            let config = ScrapeConfig { url, timeout, ..Default::default() };
            let started = Instant::now();
            let error = Scrape::new(config).unwrap_or_else(|e| panic!("{e}")).collect(NOON_NS).unwrap_err();
            assert!(error.reason.contains(reason), "{error}");
            assert_eq!(metric(&error.gathered, "scrape_up"), 0.0);
            assert!(started.elapsed() < Duration::from_secs(3));
        }
    }

    #[test]
    fn bad_lines_leave_their_neighbours() {
        let error = scrape(http("", b"a 1\n?\nb 2\n"), ScrapeConfig::default()).0.unwrap_err();
        assert!(
            error
                .reason
                .ends_with("1 lines not read, the first: line 2: byte 1: expected a metric name, found '?'")
        );
        assert_eq!((metric(&error.gathered, "b"), metric(&error.gathered, "scrape_up")), (2.0, 1.0));
    }
}

mod commands {
    //! Real children.

    use super::*;

    fn shell(script: &str, timeout: Duration) -> Result<Vec<Message>, CollectError> {
        let argv = ["sh", "-c", script].map(String::from).into();
        let config = CommandConfig { argv, timeout, output_max_bytes: 1000, ..Default::default() };
        RunCommand::new(config).unwrap_or_else(|e| panic!("{e}")).collect(NOON_NS)
    }

    #[test]
    fn what_it_prints_is_measured() {
        let long = Duration::from_secs(30);
        for script in ["echo '{\"t\": 23.5}'", "echo t 23.5", "head -c 300000 /dev/zero >&2; echo t 23.5"] {
            let messages = shell(script, long).unwrap();
            assert_eq!((messages.len(), metric(&messages, "t")), (1, 23.5), "{script}");
        }
    }

    #[test]
    fn what_goes_wrong_is_told() {
        let long = Duration::from_secs(30);
        for (script, reason) in [
            (
                "echo oops >&2; echo t 1; exit 3",
                "expected exit status 0, found exit status: 3, stderr \"oops\"",
            ),
            ("yes", "expected at most 1000 bytes of output, found more"),
            ("echo '[1'", "expected JSON"),
            ("kill -9 $$", "expected exit status 0, found signal: 9"),
        ] {
            let error = shell(script, long).unwrap_err();
            assert!(error.reason.starts_with("command custom: ") && error.reason.contains(reason), "{error}");
        }
        let none = CommandConfig { argv: vec!["/nowhere/none".into()], ..Default::default() };
        let error = RunCommand::new(none).unwrap_or_else(|e| panic!("{e}")).collect(NOON_NS).unwrap_err();
        assert!(error.reason.contains("expected '/nowhere/none' to start"), "{error}");
    }

    #[test]
    fn too_late_kills_the_whole_group() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let script = format!("sleep 1000 & echo $! $$ > {}; wait", file.path().display());
        let started = Instant::now();
        let error = shell(&script, Duration::from_millis(500)).unwrap_err();
        assert!(error.reason.contains("expected an end within 500ms, found it still running"), "{error}");
        assert!(started.elapsed() < Duration::from_secs(10));
        let numbers = std::fs::read_to_string(file.path()).unwrap();
        assert_eq!(numbers.split_whitespace().count(), 2, "{numbers:?}");
        for number in numbers.split_whitespace() {
            // A killed grandchild may stay listed as a zombie until somebody reaps it.
            eventually(&format!("{number} is gone"), || {
                let stat = std::fs::read_to_string(format!("/proc/{number}/stat")).unwrap_or_default();
                stat.is_empty() || stat.contains(") Z ")
            });
        }
    }
}

mod running {
    //! The whole producer, with collectors made for it.

    use super::*;

    /// Collects by a closure, on its own interval.
    struct Made<F>(&'static str, F);

    impl<F: FnMut(TimeNs) -> Result<Vec<Message>, CollectError> + Send> Collector for Made<F> {
        fn name(&self) -> &str {
            self.0
        }

        fn collect(&mut self, now_ns: TimeNs) -> Result<Vec<Message>, CollectError> {
            (self.1)(now_ns)
        }
    }

    fn one(service: &str, time_ns: TimeNs, value: f64) -> Message {
        Message { time_ns, target: Arc::new(Target::new(service, [])), metrics: vec![("v".into(), value)] }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_slow_or_failing_collector_slows_nobody() {
        let (release, blocked) = channel::<()>();
        let mut runs = 0;
        let collectors: Vec<Box<dyn Collector>> = vec![
            Box::new(Made("good", |now_ns| {
                Ok(vec![one("good", now_ns, 1.0), one("empty", now_ns, f64::NAN)])
            })),
            Box::new(Made("hung", move |now_ns| {
                blocked.recv().ok();
                Ok(vec![one("hung", now_ns, 2.0)])
            })),
            Box::new(Made("bad", move |now_ns| {
                runs += 1;
                Err(CollectError { reason: format!("run {runs}"), gathered: vec![one("bad", now_ns, 3.0)] })
            })),
        ];
        let interval = Duration::from_millis(20);
        let config =
            ProducerConfig { interval, collect_timeout: Duration::from_millis(50), ..Default::default() };
        let producer = Producer::new(config, collectors).unwrap_or_else(|e| panic!("{e}"));
        let counters = producer.counters();
        let published = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&published);
        let publish = move |topic: &str, payload: &[u8]| {
            let json: serde_json::Value = serde_json::from_slice(payload).unwrap();
            sink.lock().unwrap().push((topic.to_string(), json));
        };
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let run = tokio::spawn(producer.run(publish, async { stopped.await.unwrap_or_default() }));

        let count = |topic: &str| published.lock().unwrap().iter().filter(|(t, _)| t == topic).count();
        eventually("ten ticks", || count("metrics.good") >= 10 && count("metrics.bad") >= 10);
        assert_eq!((count("metrics.hung"), count("metrics.empty")), (0, 0));
        eventually("the hung one is late", || counters.timeouts.load(Relaxed) == 1);
        assert!(counters.ticks_skipped.load(Relaxed) >= 5);
        assert!(counters.failures.load(Relaxed) >= 10);
        release.send(()).unwrap();
        eventually("the hung one's measure is published", || count("metrics.hung") == 1);

        stop.send(()).unwrap();
        run.await.unwrap();
        let published = published.lock().unwrap();
        assert_eq!(counters.messages.load(Relaxed), published.len() as u64);
        let times: Vec<_> = published
            .iter()
            .filter(|(topic, _)| topic == "metrics.good")
            .map(|(_, j)| j["timestamp"].clone())
            .collect();
        let mut unique = times.clone();
        unique.dedup();
        assert_eq!(times, unique, "each tick has a time of its own");
    }
}
