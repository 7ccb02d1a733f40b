//! influxd 1.6.

use std::collections::BTreeMap;
use std::path::Path;

use operators::sample::{HOUR, MINUTE, SECOND, TimeNs};
use plantd_metric::sinks::influxdb::{Api, InfluxConfig, InfluxSink};
use plantd_metric::sinks::target::Auth;
use plantd_metric::sinks::{Query, Sink, SinkError};
use serde_json::Value;

use crate::http::{FORM, ask, form};
use crate::odd::{Oracle, Series, messages, recent, sorted};
use crate::server::{Program, Server};

const INFLUXD: Program = Program { name: "influxd", package: "influxdb" };

fn configure(directory: &Path, ports: &[u16], with_auth: bool) -> Vec<String> {
    let (dir, http, backup) = (directory.display(), ports[0], ports[1]);
    let text = format!(
        "reporting-disabled = true\nbind-address = \"127.0.0.1:{backup}\"\n[meta]\ndir = \"{dir}/meta\"\n\
         [data]\ndir = \"{dir}/data\"\nwal-dir = \"{dir}/wal\"\nquery-log-enabled = false\n\
         [monitor]\nstore-enabled = false\n\
         [http]\nbind-address = \"127.0.0.1:{http}\"\nauth-enabled = {with_auth}\nlog-enabled = false\n"
    );
    let file = directory.join("influxdb.conf");
    std::fs::write(&file, text).unwrap();
    vec!["-config".into(), file.display().to_string()]
}

fn start() -> Server {
    Server::start(INFLUXD, 2, |directory, ports| configure(directory, ports, false))
}

fn sink(server: &Server, change: impl FnOnce(&mut InfluxConfig)) -> InfluxSink {
    let mut config = InfluxConfig { url: server.url(), ..InfluxConfig::default() };
    change(&mut config);
    InfluxSink::open(config).unwrap()
}

/// The tables of a query's answer.
fn tables(server: &Server, query: &str) -> Vec<Value> {
    let body = form(&[("db", "plantd_metrics"), ("epoch", "ns"), ("q", query)]);
    let (status, answer) = ask(server.port(), "POST", "/query", &[FORM], &body);
    let mut answer: Value = serde_json::from_str(&answer).unwrap();
    assert!(status == 200 && answer["results"][0]["error"].is_null(), "{query}: {answer}");
    match answer["results"][0]["series"].take() {
        Value::Array(tables) => tables,
        _ => Vec::new(),
    }
}

/// Everything that the database holds of a measurement.
fn held(server: &Server, measurement: &str) -> Oracle {
    let measurement_quoted = measurement.replace('\\', "\\\\").replace('"', "\\\"");
    let mut held = Oracle::new();
    for table in tables(server, &format!("SELECT *::field FROM \"{measurement_quoted}\" GROUP BY *")) {
        let text = |value: &Value| value.as_str().unwrap().to_string();
        let tags = table["tags"].as_object().unwrap().iter();
        let tags = tags.map(|(key, value)| (key.clone(), text(value))).filter(|(_, value)| !value.is_empty());
        let series: Series = (text(&table["name"]), tags.collect());
        assert_eq!(series.0, measurement);
        let columns: Vec<String> = table["columns"].as_array().unwrap().iter().map(text).collect();
        for row in table["values"].as_array().unwrap() {
            let fields = held.entry((series.clone(), row[0].as_i64().unwrap())).or_default();
            let cells =
                columns.iter().zip(row.as_array().unwrap()).skip(1).filter(|(_, cell)| !cell.is_null());
            fields.extend(cells.map(|(column, cell)| (column.clone(), cell.as_f64().unwrap().to_bits())));
        }
    }
    held
}

fn assert_holds(server: &Server, oracle: &Oracle) {
    let measurements: Vec<String> = oracle.keys().map(|((measurement, _), _)| measurement.clone()).collect();
    let all: std::collections::BTreeSet<String> = measurements.into_iter().collect();
    let held: Oracle = all.iter().flat_map(|measurement| held(server, measurement)).collect();
    assert_eq!(held.len(), oracle.len());
    for (key, fields) in oracle {
        assert_eq!(held.get(key), Some(fields), "{key:?}");
    }
}

/// 20,000 samples of 200 series.
#[test]
fn what_is_written_is_held_and_comes_back_bit_for_bit() {
    let server = start();
    let begin_ns = recent();
    let (all, oracle) = messages(begin_ns, 100);
    assert_eq!(all.iter().map(|message| message.metrics.len()).sum::<usize>(), 20_000);
    let mut sink = sink(&server, |config| {
        config.retention_ns = Some(30 * 24 * HOUR);
        config.batch_lines = 700;
    });
    sink.flush(0).unwrap();
    assert_eq!(sink.status().status, "connected");
    for part in all.chunks(1_500) {
        sink.write(part).unwrap();
    }
    sink.flush(1).unwrap();
    assert_holds(&server, &oracle);
    documented_query(&server, &oracle);
    // Twice is as once.
    sink.write(&all).unwrap();
    assert_holds(&server, &oracle);

    let reader = sink.reader().unwrap();
    let whole = Query { limit: 100_000, ..Query::default() };
    assert_eq!(sorted(&reader.read(&whole).unwrap()), sorted(&all));
    for query in queries(begin_ns) {
        let found = reader.read(&query).unwrap();
        assert!(found.is_sorted_by(|a, b| a.time_ns >= b.time_ns), "{query:?}");
        let expect = expected(&all, &query);
        assert!(!expect.is_empty(), "{query:?}");
        let times = |messages: &[plantd_metric::message::Message]| -> Vec<TimeNs> {
            messages.iter().map(|message| message.time_ns).collect()
        };
        assert_eq!(times(&found), times(&expect), "{query:?}");
        // Which of those with the oldest time is open where the limit cuts.
        let oldest_ns = expect.last().unwrap().time_ns;
        let inner = |messages: Vec<_>| -> Vec<plantd_metric::message::Message> {
            let cut = messages.len() == query.limit;
            messages
                .into_iter()
                .filter(|m: &plantd_metric::message::Message| !cut || m.time_ns > oldest_ns)
                .collect()
        };
        assert_eq!(sorted(&inner(found)), sorted(&inner(expect)), "{query:?}");
    }
    let nothing = Query { service: Some("x' OR '1'='1".into()), ..Query::default() };
    assert_eq!(reader.read(&nothing).unwrap(), []);
    let nothing = Query { tags: vec![("copy".into(), "0' OR '1'='1".into())], ..Query::default() };
    assert_eq!(reader.read(&nothing).unwrap(), []);
}

/// The dashboard of the document, and the same by hand.
fn documented_query(server: &Server, oracle: &Oracle) {
    let query =
        "SELECT mean(cpu_usage_percent) FROM system_metrics WHERE time >= now() - 1h GROUP BY time(1m)";
    let mut sums: BTreeMap<TimeNs, (f64, f64)> = BTreeMap::new();
    for (((measurement, _), time_ns), fields) in oracle {
        if measurement == "system_metrics" {
            let (sum, count) = sums.entry(time_ns.div_euclid(MINUTE) * MINUTE).or_default();
            *sum += f64::from_bits(fields["cpu_usage_percent"]);
            *count += 1.0;
        }
    }
    let answer = tables(server, query);
    let rows = answer[0]["values"].as_array().unwrap();
    let means: BTreeMap<TimeNs, f64> =
        rows.iter().filter_map(|row| Some((row[0].as_i64()?, row[1].as_f64()?))).collect();
    assert_eq!(means, sums.into_iter().map(|(minute, (sum, count))| (minute, sum / count)).collect());
}

fn queries(begin_ns: TimeNs) -> Vec<Query> {
    let all = Query { limit: 100_000, ..Query::default() };
    let tag = |name: &str, value: &str| vec![(name.to_string(), value.to_string())];
    vec![
        Query { limit: 7, ..all.clone() },
        Query { limit: 333, ..all.clone() },
        Query { service: Some("system".into()), ..all.clone() },
        Query { service: Some("a b,c=d\"'".into()), limit: 3, ..all.clone() },
        Query { service: Some("back\\slash\\".into()), tags: tag("dir", "C:\\"), ..all.clone() },
        Query { tags: tag("k e,y=", "v\"al='"), ..all.clone() },
        Query { tags: tag("time", "tag"), metrics: vec!["x".into(), "time".into()], ..all.clone() },
        Query { metrics: vec!["odd ,=\"é\\".into()], limit: 20, ..all.clone() },
        Query { tags: [tag("copy", "3"), tag("host", "server-01")].concat(), ..all.clone() },
        Query { start_ns: begin_ns + 20 * SECOND, end_ns: begin_ns + 50 * SECOND, ..all.clone() },
        Query { start_ns: begin_ns + 1, end_ns: begin_ns + 10 * SECOND + 1, ..all },
    ]
}

fn expected(all: &[plantd_metric::message::Message], query: &Query) -> Vec<plantd_metric::message::Message> {
    let matches = |message: &&plantd_metric::message::Message| {
        query.service.as_deref().is_none_or(|service| service == &*message.target.service)
            && query.tags.iter().all(|(name, value)| message.target.tag(name) == Some(value))
            && (query.start_ns..query.end_ns).contains(&message.time_ns)
    };
    let mut found: Vec<_> = all.iter().filter(matches).cloned().collect();
    for message in &mut found {
        message
            .metrics
            .retain(|(name, _)| query.metrics.is_empty() || query.metrics.iter().any(|m| **m == **name));
    }
    found.sort_by_key(|message| std::cmp::Reverse(message.time_ns));
    found.truncate(query.limit);
    found
}

/// Name, duration, default.
fn policies(server: &Server) -> Vec<(String, String, bool)> {
    let answer = tables(server, "SHOW RETENTION POLICIES ON plantd_metrics");
    let text = |value: &Value| value.as_str().unwrap().to_string();
    let rows = answer[0]["values"].as_array().unwrap().iter();
    rows.map(|row| (text(&row[0]), text(&row[1]), row[4].as_bool().unwrap())).collect()
}

#[test]
fn the_database_and_its_retention_follow_the_settings() {
    let server = start();
    let with = |retention_ns| sink(&server, |config| config.retention_ns = retention_ns);
    let autogen = |is_default| ("autogen".to_string(), "0s".to_string(), is_default);
    let ours = |duration: &str| ("plantd".to_string(), duration.to_string(), true);

    let mut plain = with(None);
    plain.flush(0).unwrap();
    assert_eq!(policies(&server), [autogen(true)], "left as it is");
    for (retention_ns, expect, shown) in [
        (Some(30 * 24 * HOUR), "720h0m0s", Some(30 * 24 * HOUR)),
        (Some(7 * 24 * HOUR), "168h0m0s", Some(7 * 24 * HOUR)),
        (None, "168h0m0s", None),
        (Some(MINUTE), "1h0m0s", Some(HOUR)),
    ] {
        let mut sink = with(retention_ns);
        sink.flush(0).unwrap();
        assert_eq!(policies(&server), [autogen(false), ours(expect)], "{retention_ns:?}");
        let status = sink.status();
        assert_eq!((status.retention, status.status.as_str()), (shown, "connected"));
        assert_eq!(status.database.as_deref(), Some("plantd_metrics"));
        let (all, _) = messages(recent() + 30 * MINUTE, 1);
        sink.write(&all).unwrap();
        assert_eq!(sink.reader().unwrap().read(&Query::default()).unwrap().len(), 50);
    }
}

#[test]
fn what_is_refused_is_told_apart() {
    let server = start();
    let (all, _) = messages(recent(), 2);
    let mut sink = sink(&server, |config| config.retention_ns = Some(24 * HOUR));
    sink.write(&all[..50]).unwrap();

    // Older than the retention: gone anyway, and counted.
    let mut mixed = all[50..].to_vec();
    mixed[3].time_ns -= 48 * HOUR;
    mixed[30].time_ns -= 48 * HOUR;
    sink.write(&mixed).unwrap();
    assert_eq!(sink.status().failed, 2);
    let whole = Query { limit: 1_000, ..Query::default() };
    assert_eq!(sink.reader().unwrap().read(&whole).unwrap().len(), 98);

    // A field that holds text already: the one line is refused with the server's words, the others are stored.
    // (A type holds within a shard.)
    let path = "/write?db=plantd_metrics&rp=plantd";
    let text = format!("clash_metrics,copy=9 text=\"a\" {}", all[0].time_ns);
    assert_eq!(ask(server.port(), "POST", path, &[], text.as_bytes()).0, 204);
    let mut poisoned = all[..50].to_vec();
    for message in &mut poisoned {
        message.time_ns += SECOND;
    }
    poisoned[8].metrics.push(("text".into(), 1.0));
    let refused = sink.write(&poisoned).unwrap_err();
    let SinkError::Poison { why } = &refused else { panic!("{refused:?}") };
    assert!(why.contains("found 400") && why.contains("field type conflict"), "{why}");
    assert_eq!(sink.status().status, "connected");
    assert!(matches!(sink.write(&poisoned[8..9]), Err(SinkError::Poison { .. })));
    sink.write(&poisoned[..8]).unwrap();
    sink.write(&poisoned[9..]).unwrap();
    assert_eq!(sink.reader().unwrap().read(&whole).unwrap().len(), 98 + 49);
}

#[test]
fn an_outage_costs_nothing() {
    let mut server = start();
    let (all, oracle) = messages(recent(), 4);
    let mut sink = sink(&server, |_| {});
    sink.write(&all[..100]).unwrap();
    let arguments = configure(server.directory(), &[server.port(), crate::server::free_ports(1)[0]], false);
    server.restart(INFLUXD, &arguments, || {
        let error = sink.write(&all[100..]).unwrap_err();
        assert!(
            matches!(&error, SinkError::Retry { why, .. } if why.contains("expected a connection")),
            "{error}"
        );
        assert!(sink.status().status.starts_with("error: "));
        assert!(sink.reader().unwrap().read(&Query::default()).is_err());
    });
    crate::server::until("the sink writes again", || sink.write(&all[100..]).ok());
    assert_eq!(sink.status().status, "connected");
    assert_holds(&server, &oracle);

    // A database that was dropped is made again.
    tables(&server, "DROP DATABASE plantd_metrics");
    let error = sink.write(&all).unwrap_err();
    assert!(matches!(&error, SinkError::Retry { why, .. } if why.contains("found 404")), "{error}");
    sink.write(&all).unwrap();
    assert_holds(&server, &oracle);
}

#[test]
fn users_and_passwords() {
    let server = Server::start(INFLUXD, 2, |directory, ports| configure(directory, ports, true));
    let admin = ("Authorization", "Basic YWRtaW46c2VjcmV0");
    for query in [
        "CREATE USER admin WITH PASSWORD 'secret' WITH ALL PRIVILEGES",
        "CREATE DATABASE plantd_metrics",
        "CREATE USER plantd WITH PASSWORD 'password'",
        "GRANT ALL ON plantd_metrics TO plantd",
    ] {
        let (status, answer) = ask(server.port(), "POST", "/query", &[FORM, admin], &form(&[("q", query)]));
        assert!(status == 200 && !answer.contains("error"), "{query}: {answer}");
    }
    let (all, _) = messages(recent(), 1);
    let with = |username: &str, password: &str| {
        let auth = Auth::Basic { username: username.into(), password: password.into() };
        sink(&server, |config| {
            config.auth = auth;
            config.retention_ns = Some(48 * HOUR);
        })
    };
    for mut stranger in [with("plantd", "wrong"), sink(&server, |_| {})] {
        let error = stranger.write(&all).unwrap_err();
        let SinkError::Retry { why, .. } = &error else { panic!("{error:?}") };
        assert!(why.contains("found 401 (check the user and password"), "{why}");
        assert!(!stranger.status().status.contains("wrong"));
    }
    // May write and read, but set no retention.
    let mut writer = with("plantd", "password");
    writer.write(&all).unwrap();
    writer.flush(0).unwrap();
    assert_eq!(writer.status().status, "connected");
    assert_eq!(writer.reader().unwrap().read(&Query::default()).unwrap().len(), 50);
    with("admin", "secret").flush(0).unwrap();
    let (_, answer) = ask(
        server.port(),
        "POST",
        "/query",
        &[FORM, admin],
        &form(&[("q", "SHOW RETENTION POLICIES ON plantd_metrics")]),
    );
    assert!(answer.contains("\"plantd\",\"48h0m0s\""), "{answer}");
}

/// The dialect is found, and a wrong one is an error that says so.
#[test]
fn the_dialect() {
    let server = start();
    let (all, _) = messages(recent(), 1);
    sink(&server, |config| config.api = Api::V1).write(&all).unwrap();
    let mut wrong = sink(&server, |config| {
        config.api = Api::V2;
        config.org = Some("plantd".into());
    });
    let error = wrong.write(&all).unwrap_err();
    assert!(
        matches!(&error, SinkError::Retry { why, .. } if why.contains("found 404 (check the address")),
        "{error}"
    );
}

/// Figures: `cargo test --release --test storage_influxdb -- --ignored --nocapture`.
#[test]
#[ignore = "prints figures"]
fn samples_per_second() {
    let server = start();
    let (all, _) = messages(recent(), 290);
    let samples: usize = all.iter().map(|message| message.metrics.len()).sum();
    for gzip in [false, true] {
        let mut sink = sink(&server, |config| config.gzip = gzip);
        sink.flush(0).unwrap();
        let began = std::time::Instant::now();
        for part in all.chunks(5_000) {
            sink.write(part).unwrap();
        }
        let per_second = samples as f64 / began.elapsed().as_secs_f64();
        println!("gzip {gzip}: {per_second:.0} samples/s");
    }
    let began = std::time::Instant::now();
    let newest = Query { service: Some("system".into()), limit: 1_000, ..Query::default() };
    assert_eq!(sink(&server, |_| {}).reader().unwrap().read(&newest).unwrap().len(), 1_000);
    println!("newest 1000 messages of a service: {:?}", began.elapsed());
}
