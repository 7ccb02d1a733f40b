//! Prometheus and vmagent send to us what they scrape: the windows hold what they have.
//!
//! Needs: real servers

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::Value;

#[path = "storage/promlike.rs"]
mod promlike;
#[allow(dead_code, reason = "of the service's tests a part")]
#[path = "service/running.rs"]
mod running;

use promlike::{Server, get};
use running::{Running, until};

/// Something to scrape, whose values tell which scrape they are of.
struct Scraped {
    addr: SocketAddr,
    scrapes: Arc<AtomicU64>,
    ended: Arc<AtomicBool>,
}

/// Scrapes that have the series that passes.
const PASSES_AFTER: u64 = 6;
/// Scrapes that a test waits for.
const ENOUGH: u64 = 15;

fn text(scrape: u64) -> String {
    let gauge = scrape as f64 * 0.25 - 3.0;
    let mut text = format!(
        "# HELP known_total Scrapes.\n# TYPE known_total counter\nknown_total{{code=\"200\"}} {scrape}\n\
        # TYPE known_gauge gauge\nknown_gauge{{zone=\"a b\\\"ü\"}} {gauge}\nknown_gauge{{zone=\"none\"}} 0\n\
        # TYPE known_seconds summary\nknown_seconds{{quantile=\"0.5\"}} NaN\nknown_seconds_sum 0\n\
        known_seconds_count 0\n"
    );
    if scrape < PASSES_AFTER {
        text.push_str("known_passing 1e-300\n");
    }
    text
}

impl Scraped {
    fn start() -> Scraped {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let (scrapes, ended) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, end) = (scrapes.clone(), ended.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if end.load(Ordering::SeqCst) {
                    return;
                }
                answer(stream.unwrap(), &count);
            }
        });
        Scraped { addr, scrapes, ended }
    }

    fn config(&self) -> String {
        format!(
            "global: {{ scrape_interval: 200ms, scrape_timeout: 200ms }}\nscrape_configs:\n- job_name: known\n  \
            static_configs: [{{ targets: [\"{}\"] }}]\n",
            self.addr
        )
    }

    fn wait(&self) {
        until("enough scrapes", || (self.scrapes.load(Ordering::SeqCst) >= ENOUGH).then_some(()));
    }
}

impl Drop for Scraped {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.addr);
    }
}

fn answer(mut stream: TcpStream, count: &AtomicU64) {
    stream.set_read_timeout(Some(running::PATIENCE)).unwrap();
    let mut head = Vec::new();
    let mut bytes = [0; 4096];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut bytes) {
            Ok(len @ 1..) => head.extend_from_slice(&bytes[..len]),
            _ => return,
        }
    }
    let text = text(count.fetch_add(1, Ordering::SeqCst));
    let len = text.len();
    let _ = write!(
        stream,
        "HTTP/1.1 200 OK\r\ncontent-type: text/plain; version=0.0.4\r\nconnection: close\r\n\
        content-length: {len}\r\n\r\n{text}"
    );
}

fn sends_to(service: &Running) -> String {
    format!(
        "remote_write:\n- url: http://{}/api/v1/write\n  queue_config: {{ batch_send_deadline: 100ms }}\n  \
        metadata_config: {{ send_interval: 1s }}\n",
        service.http
    )
}

/// Metric and labels, then milliseconds and bits of the values.
type Held = BTreeMap<BTreeMap<String, String>, BTreeMap<i64, u64>>;

/// What Prometheus has of the job by `end_ms`.
fn in_prometheus(server: &Server, end_ms: i64) -> Held {
    let time = format!("{}.{:03}", end_ms / 1000, end_ms % 1000);
    // {job="known"}[10m]
    let path = format!("/api/v1/query?query=%7Bjob%3D%22known%22%7D%5B10m%5D&time={time}");
    let answer: Value = serde_json::from_str(&get(server, &path)).unwrap();
    let mut held = Held::new();
    for series in answer["data"]["result"].as_array().unwrap() {
        let labels = series["metric"].as_object().unwrap().iter().filter(|(name, _)| *name != "job");
        let labels =
            labels.map(|(name, value)| (name.clone(), value.as_str().unwrap().to_string())).collect();
        let values = series["values"].as_array().unwrap().iter().map(|pair| {
            let value: f64 = pair[1].as_str().unwrap().parse().unwrap();
            ((pair[0].as_f64().unwrap() * 1000.0).round() as i64, value)
        });
        let values: BTreeMap<_, _> =
            values.filter(|(_, value)| value.is_finite()).map(|(at, value)| (at, value.to_bits())).collect();
        if !values.is_empty() {
            held.insert(labels, values);
        }
    }
    held
}

/// What we have of the service by `end_ms`, sample by sample.
fn here(service: &Running, end_ms: i64) -> Held {
    let json = service.json("/api/v1/metrics?service=known&limit=100000");
    let mut held = Held::new();
    for message in json["metrics"].as_array().unwrap() {
        let time: jiff::Timestamp = message["timestamp"].as_str().unwrap().parse().unwrap();
        if time.as_millisecond() > end_ms {
            continue;
        }
        for (metric, value) in message["metrics"].as_object().unwrap() {
            let tags = message["tags"].as_object().unwrap().iter();
            let mut labels: BTreeMap<_, _> =
                tags.map(|(name, value)| (name.clone(), value.as_str().unwrap().to_string())).collect();
            labels.insert("__name__".into(), metric.clone());
            let before = held
                .entry(labels)
                .or_default()
                .insert(time.as_millisecond(), value.as_f64().unwrap().to_bits());
            assert_eq!(before, None, "{metric} twice at {time}");
        }
    }
    held
}

/// Every window of `series` has the count and the sum that its samples have.
fn check_windows(service: &Running, labels: &BTreeMap<String, String>, samples: &BTreeMap<i64, u64>) {
    let mut expected: BTreeMap<i64, (f64, f64)> = BTreeMap::new();
    for (at_ms, bits) in samples {
        let (count, sum) = expected.entry(at_ms.div_euclid(10_000) * 10_000).or_default();
        *count += 1.0;
        *sum += f64::from_bits(*bits);
    }
    let zone = labels.get("zone").map(|zone| format!("&tag.zone={}", escaped(zone))).unwrap_or_default();
    let path = format!(
        "/api/v1/metrics/aggregate?service=known&metric={}{zone}&interval=10s&func=count,sum",
        labels["__name__"]
    );
    let json = service.json(&path);
    let values = |func: &str| -> BTreeMap<i64, f64> {
        let series = json["series"].as_array().unwrap().iter().find(|series| series["func"] == func).unwrap();
        let points = series["points"].as_array().unwrap().iter();
        let start = |point: &Value| point["start"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
        points.map(|point| (start(point).as_millisecond(), point["value"].as_f64().unwrap())).collect()
    };
    let (counts, sums) = (values("count"), values("sum"));
    for (start, (count, sum)) in expected {
        assert_eq!((counts[&start], sums[&start]), (count, sum), "{labels:?} at {start}: {json}");
    }
}

fn escaped(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// A counter of anybody's exposition, summed over its labels.
fn total(text: &str, name: &str) -> f64 {
    let lines =
        text.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{'])));
    let values = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    values.sum()
}

#[test]
fn the_windows_hold_what_prometheus_has() {
    let (service, scraped) = (Running::start_live("storage: { type: none }"), Scraped::start());
    let server = Server::prometheus_with(&(scraped.config() + &sends_to(&service)));
    scraped.wait();
    // No scrape comes in the middle of the comparison: the job ends.
    drop(scraped);
    let held = until("what Prometheus has is here", || {
        let end_ms = jiff::Timestamp::now().as_millisecond();
        let (theirs, ours) = (in_prometheus(&server, end_ms), here(&service, end_ms));
        let down = theirs.iter().any(|(labels, values)| {
            labels["__name__"] == "up" && values.values().any(|bits| f64::from_bits(*bits) == 0.0)
        });
        (down && theirs == ours).then_some(ours)
    });
    let known = |name: &str| held.iter().filter(|(labels, _)| labels["__name__"] == name).collect::<Vec<_>>();
    let (labels, counter) = known("known_total")[0];
    assert_eq!(labels["code"], "200");
    assert!(counter.len() as u64 >= ENOUGH - 1, "{counter:?}");
    assert_eq!(known("known_gauge").len(), 2);
    assert_eq!(known("known_seconds").len(), 0, "NaN is no value");
    assert_eq!(known("known_passing")[0].1.len() as u64, PASSES_AFTER);
    // Both of us go on only where the target is: what is down is `up` and the scrape's own series.
    for name in ["known_total", "known_gauge", "known_passing", "known_seconds_sum"] {
        for (labels, samples) in known(name) {
            check_windows(&service, labels, samples);
        }
    }
    let ours = service.get("/metrics").text();
    for reason in ["not_finite", "metadata"] {
        let name = format!("plantd_metric_samples_rejected_total{{reason=\"{reason}\"}}");
        assert!(total(&ours, &name) > 0.0, "{reason}");
    }
    // Each of the series that ended did so with a marker.
    let stale = ours
        .lines()
        .find_map(|line| line.strip_prefix("plantd_metric_samples_rejected_total{reason=\"stale_marker\"} "));
    assert!(stale.unwrap().parse::<f64>().unwrap() >= 5.0, "{ours}");
    let theirs = get(&server, "/metrics");
    assert!(total(&theirs, "prometheus_remote_storage_samples_total") > 0.0, "{theirs}");
    for name in
        ["samples_failed_total", "samples_retried_total", "samples_dropped_total", "metadata_failed_total"]
    {
        assert_eq!(total(&theirs, &format!("prometheus_remote_storage_{name}")), 0.0, "{name}");
    }
}

#[test]
fn what_is_turned_away_is_not_sent_again() {
    let service = Running::start_live("storage: { type: none }\ningest: { tags_per_series_max: 1 }");
    let scraped = Scraped::start();
    let server = Server::prometheus_with(&(scraped.config() + &sends_to(&service)));
    scraped.wait();
    drop(scraped);
    until("the others are here", || {
        let end_ms = jiff::Timestamp::now().as_millisecond();
        let mut theirs = in_prometheus(&server, end_ms);
        theirs.retain(|labels, _| labels.len() <= 2);
        (!theirs.is_empty() && theirs == here(&service, end_ms)).then_some(())
    });
    let theirs = get(&server, "/metrics");
    assert!(total(&theirs, "prometheus_remote_storage_samples_failed_total") > 0.0);
    assert_eq!(total(&theirs, "prometheus_remote_storage_samples_retried_total"), 0.0);
    assert!(service.json("/api/v1/rejected")["counts"]["too_many_tags"].as_u64().unwrap() > 0);
}

#[test]
fn the_windows_hold_what_vmagent_scraped() {
    let (service, scraped) = (Running::start_live("storage: { type: none }"), Scraped::start());
    let _server = Server::vmagent(&scraped.config(), &format!("http://{}/api/v1/write", service.http));
    scraped.wait();
    let served = scraped.scrapes.clone();
    drop(scraped);
    let served = served.load(Ordering::SeqCst);
    let held = until("the scrapes are here", || {
        let held = here(&service, i64::MAX);
        let counter = held.iter().find(|(labels, _)| labels["__name__"] == "known_total")?.1;
        (counter.len() as u64 >= served).then_some(held)
    });
    let of = |name: &str| held.iter().filter(|(labels, _)| labels["__name__"] == name).collect::<Vec<_>>();
    let values =
        |samples: &BTreeMap<i64, u64>| samples.values().map(|bits| f64::from_bits(*bits)).collect::<Vec<_>>();
    let (labels, counter) = of("known_total")[0];
    assert_eq!(
        labels.keys().map(String::as_str).collect::<BTreeSet<_>>(),
        ["__name__", "code", "instance"].into()
    );
    assert_eq!(values(counter), (0..served).map(|scrape| scrape as f64).collect::<Vec<_>>());
    let gauge = of("known_gauge").into_iter().find(|(labels, _)| labels["zone"] == "a b\"ü").unwrap();
    assert_eq!(values(gauge.1), (0..served).map(|scrape| scrape as f64 * 0.25 - 3.0).collect::<Vec<_>>());
    for (labels, samples) in held.iter().filter(|(labels, _)| labels["__name__"].starts_with("known")) {
        check_windows(&service, labels, samples);
    }
    assert!(total(&service.get("/metrics").text(), "plantd_metric_samples_rejected_total") > 0.0);
}
