//! What the sink makes of answers, and what it says of itself.

use std::time::Duration;

use super::{NOON, asked, message, one_x, plain, sink, statement};
use crate::message::Message;
use crate::sinks::influxdb::{InfluxConfig, InfluxSink};
use crate::sinks::target::fake::{FakeServer, Reply};
use crate::sinks::{Sink, SinkError};

/// What a write comes to that is answered so, and what the status says then.
fn answered(reply: Reply) -> (Result<(), SinkError>, String, u64) {
    let server = one_x(move |_| reply.clone());
    let mut sink = sink(&server, |_| {});
    let result = sink.write(&[plain(1.0)]);
    let status = sink.status();
    (result, status.status, status.failed)
}

#[test]
fn refusals_of_content_are_poison_and_all_else_is_tried_again() {
    let conflict = r#"{"error":"partial write: field type conflict: input field \"v\" dropped=1"}"#;
    let unprocessable = r#"{"code":"unprocessable entity","message":"failure writing points"}"#;
    for (reply, is_poison, says) in [
        (Reply::text("400 Bad Request", conflict), true, "field type conflict"),
        (Reply::text("422 Unprocessable", unprocessable), true, "failure writing points"),
        (Reply::text("413 Too Large", "<html>"), true, "found 413"),
        (Reply::text("400 Bad Request", "Client sent an HTTP request to an HTTPS server."), false, "HTTPS"),
        (Reply::text("400 Bad Request", "unsupported path requested"), false, "unsupported path"),
        (Reply::text("401 Unauthorized", r#"{"error":"authorization failed"}"#), false, "check the user"),
        (Reply::text("403 Forbidden", "{}"), false, "may not do this"),
        (Reply::text("500 Oops", r#"{"error":"timeout"}"#), false, "timeout"),
    ] {
        let (result, status, failed) = answered(reply);
        let error = result.unwrap_err();
        assert_eq!(matches!(error, SinkError::Poison { .. }), is_poison, "{error}");
        assert!(error.to_string().contains(says), "{error}");
        assert_eq!(status == "connected", is_poison, "{status}");
        assert_eq!(failed, 0);
    }
}

#[test]
fn what_is_too_old_for_the_server_is_counted_and_gone() {
    for (status, body) in [
        ("400 Bad Request", r#"{"error":"partial write: points beyond retention policy dropped=3"}"#),
        (
            "422 Unprocessable",
            r#"{"code":"unprocessable entity","message":"failure writing points to database: partial write: points beyond retention policy dropped=3"}"#,
        ),
    ] {
        assert_eq!(answered(Reply::text(status, body)), (Ok(()), "connected".into(), 3));
    }
}

#[test]
fn a_busy_server_is_given_the_time_it_asks_for() {
    for status in ["429 Too Many Requests", "503 Unavailable"] {
        let (result, ..) = answered(Reply::status(status).and("Retry-After", "30"));
        let after = Some(Duration::from_secs(30));
        assert!(matches!(result, Err(SinkError::Retry { after: found, .. }) if found == after), "{result:?}");
    }
}

#[test]
fn no_answer_in_time() {
    let server = one_x(|_| Reply::Silence(Duration::from_secs(5)));
    let mut sink = sink(&server, |config| config.timeout = Duration::from_millis(100));
    let error = sink.write(&[plain(1.0)]).unwrap_err();
    let expect = format!("POST {}/write: no answer within 100ms", server.url());
    assert_eq!(error, SinkError::retry(&expect));
    assert_eq!(sink.status().status, format!("error: {expect}"));
}

/// A flush has nothing to hold back, so it succeeds; the status says how it is.
#[test]
fn a_flush_without_a_server() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = InfluxConfig { url: format!("http://u:secret@{free}"), ..InfluxConfig::default() };
    let mut sink = InfluxSink::open(config).unwrap();
    assert_eq!(sink.status().status, "connected");
    sink.flush(7).unwrap();
    let status = sink.status().status;
    assert!(status.starts_with(&format!("error: GET http://{free}/ping: expected a connection")), "{status}");
    assert!(!status.contains("secret"));
    assert!(matches!(sink.write(&[plain(1.0)]), Err(SinkError::Retry { .. })));
}

#[test]
fn requests_have_so_many_lines_at_most() {
    let messages: Vec<Message> = (0..7).map(|at| plain(f64::from(at))).collect();
    for (batch_lines, expect) in [(3, vec![3, 3, 1]), (7, vec![7]), (1_000, vec![7]), (1, vec![1; 7])] {
        let server = one_x(|_| Reply::status("204 No Content"));
        let mut sink = sink(&server, |config| config.batch_lines = batch_lines);
        sink.write(&messages).unwrap();
        sink.write(&[]).unwrap();
        sink.write(&[message(NOON, "s", &[], &[])]).unwrap();
        let writes = asked(&server).into_iter().filter(|request| request.path().starts_with("/write"));
        let lines: Vec<usize> = writes.map(|request| request.text().lines().count()).collect();
        assert_eq!(lines, expect);
    }
}

/// After a failure in the middle everything is offered again, and nothing is counted twice.
#[test]
fn a_failure_between_two_requests() {
    let mut writes = 0;
    let server = one_x(move |_| {
        writes += 1;
        Reply::status(if writes == 2 { "503 Unavailable" } else { "204 No Content" })
    });
    let mut sink = sink(&server, |config| config.batch_lines = 2);
    let mut messages: Vec<Message> = (0..5).map(|at| plain(f64::from(at))).collect();
    messages[0].metrics.push(("none".into(), f64::NAN));
    assert!(matches!(sink.write(&messages), Err(SinkError::Retry { .. })));
    assert_eq!(sink.status().failed, 0);
    sink.write(&messages).unwrap();
    assert_eq!(sink.status().failed, 1);
    let writes = asked(&server).into_iter().filter(|request| request.path().starts_with("/write"));
    let values: String = writes.map(|request| request.text()).collect();
    let values: Vec<&str> = values.lines().map(|line| line.split(['=', ' ']).nth(3).unwrap()).collect();
    assert_eq!(values, ["0", "1", "2", "3", "0", "1", "2", "3", "4"]);
}

#[test]
fn a_database_that_is_gone_is_made_again() {
    for gone in [
        Reply::text("404 Not Found", r#"{"error":"database not found: \"plantd_metrics\""}"#),
        Reply::text("500 Oops", r#"{"error":"retention policy not found: plantd"}"#),
    ] {
        let mut writes = 0;
        let server = one_x(move |_| {
            writes += 1;
            if writes == 2 { gone.clone() } else { Reply::status("204 No Content") }
        });
        let mut sink = sink(&server, |_| {});
        sink.write(&[plain(1.0)]).unwrap();
        assert!(matches!(sink.write(&[plain(2.0)]), Err(SinkError::Retry { .. })));
        sink.write(&[plain(2.0)]).unwrap();
        let queries = asked(&server).into_iter().filter(|request| request.path().starts_with("/query"));
        let made = queries.filter(|request| statement(request).starts_with("CREATE DATABASE")).count();
        assert_eq!(made, 2);
    }
}

#[test]
fn the_status_tells_what_the_database_takes() {
    let stats = r#"{"results":[{"series":[
        {"name":"shard","tags":{"database":"plantd_metrics"},"columns":["diskBytes","seriesCreate"],"values":[[1500,7]]},
        {"name":"shard","tags":{"database":"other"},"columns":["diskBytes"],"values":[[77]]},
        {"name":"shard","tags":{"database":"plantd_metrics"},"columns":["diskBytes"],"values":[[600]]}]}]}"#;
    let server = FakeServer::start(move |request| match request.path() {
        "/ping" => Reply::status("204 No Content").and("X-Influxdb-Version", "1.6.7"),
        path if path.starts_with("/query") && statement(request).contains("STATS") => {
            Reply::text("200 OK", stats)
        }
        _ => Reply::text("200 OK", r#"{"results":[{}]}"#),
    });
    let mut sink = sink(&server, |_| {});
    sink.flush(1).unwrap();
    let status = sink.status();
    assert_eq!((status.kind, status.status.as_str()), ("influxdb", "connected"));
    assert_eq!((status.disk_usage_bytes, status.disk_usage.as_str()), (2_100, "2.1kB"));
    let asked_once = server.requests().len();
    sink.flush(2).unwrap();
    assert_eq!(server.requests().len(), asked_once, "not asked again so soon");
}
