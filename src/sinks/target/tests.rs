//! Requests as bytes on the wire, and what each kind of answer means.

use std::net::TcpListener;
use std::time::{Duration, SystemTime};

use super::answer::wait_asked_for;
use super::fake::{FakeServer, Reply};
use super::*;

fn target(url: String) -> Target {
    Target::new(TargetConfig { url, timeout: Duration::from_secs(5), ..TargetConfig::default() }).unwrap()
}

/// Why an answer with this status is no success.
fn refused(status: &'static str, body: &str) -> SinkError {
    let body = body.to_string();
    let server = FakeServer::start(move |_| Reply::text(status, &body));
    target(server.url()).post("/write", &[], b"x".to_vec()).unwrap().check().unwrap_err()
}

#[test]
fn a_request_as_it_leaves() {
    let server = FakeServer::start(|_| Reply::text("200 OK", "{\"a\": 1}").and("x-version", "1.6"));
    let config = TargetConfig {
        url: format!("http://us%40er:p%3Ass@{}/influx/?org=o#f", server.address),
        headers: vec![("x-scope".into(), "one".into())],
        ..TargetConfig::default()
    };
    let target = Target::new(config).unwrap();
    assert_eq!(target.shown(), format!("http://{}/influx/", server.address));
    let path = with_query("/query", &[("q", "SELECT \"ü\" &+"), ("db", "x")]);
    let answer = target.post(&path, &[("content-type", "text/plain")], b"body".to_vec()).unwrap();
    assert_eq!((answer.status, answer.body.as_str()), (200, "{\"a\": 1}"));
    assert_eq!(answer.header("X-Version"), Some("1.6"));

    let request = server.request();
    let expected = "POST /influx/query?org=o&q=SELECT%20%22%C3%BC%22%20%26%2B&db=x HTTP/1.1";
    assert_eq!(request.line, expected);
    assert_eq!(request.text(), "body");
    for (name, value) in [
        ("authorization", "Basic dXNAZXI6cDpzcw=="),
        ("content-type", "text/plain"),
        ("user-agent", concat!("plantd-metric/", env!("CARGO_PKG_VERSION"))),
        ("x-scope", "one"),
    ] {
        assert_eq!(request.header(name), Some(value), "{name}");
    }
}

#[test]
fn the_path_of_the_address_stays_where_a_request_has_none() {
    let server = FakeServer::start(|_| Reply::status("204 No Content"));
    let target = target(format!("{}/api/v1/write?x=1", server.url()));
    assert!(target.post("", &[], vec![1]).unwrap().is_success());
    assert!(target.get("?y=2", &[]).unwrap().is_success());
    let lines: Vec<_> = server.requests().into_iter().map(|request| request.line).collect();
    assert_eq!(lines, ["POST /api/v1/write?x=1 HTTP/1.1", "GET /api/v1/write?x=1&y=2 HTTP/1.1"]);
}

#[test]
fn each_way_to_say_who_we_are() {
    for (auth, header) in [
        (Auth::None, None),
        (Auth::Basic { username: "a".into(), password: String::new() }, Some("Basic YTo=")),
        (Auth::Bearer("t".into()), Some("Bearer t")),
        (Auth::Token("u:p".into()), Some("Token u:p")),
    ] {
        let server = FakeServer::start(|_| Reply::status("204 No Content"));
        let config = TargetConfig { url: server.url(), auth, ..TargetConfig::default() };
        assert!(!format!("{config:?}").contains("u:p"));
        Target::new(config).unwrap().get("/ping", &[]).unwrap();
        assert_eq!(server.request().header("authorization"), header);
    }
}

#[test]
fn base64_of_every_remainder() {
    for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")] {
        assert_eq!(base64(bytes.as_bytes()), text);
    }
    assert_eq!(base64(&[0xfb, 0xef, 0xff]), "++//");
}

#[test]
fn what_an_answer_means() {
    for (status, poison, advice) in [
        ("400 Bad Request", true, "found 400: no\u{20}such"),
        ("413 Too Large", true, "found 413:"),
        ("422 Unprocessable", true, "found 422:"),
        ("301 Moved", false, "found 301 (redirects are not followed"),
        ("401 Unauthorized", false, "found 401 (check the user and password, or the token): no such"),
        ("403 Forbidden", false, "found 403 (the user or token may not do this)"),
        ("404 Not Found", false, "found 404 (check the address, and the database or bucket)"),
        ("408 Late", false, "found 408"),
        ("429 Too Many Requests", false, "found 429"),
        ("500 Internal", false, "found 500"),
        ("503 Unavailable", false, "found 503"),
    ] {
        let error = refused(status, "no\r\n such\0thing");
        assert_eq!(matches!(error, SinkError::Poison { .. }), poison, "{status}");
        assert_eq!(matches!(error, SinkError::Retry { after: None, .. }), !poison, "{status}");
        assert!(error.to_string().contains(advice), "{error}");
    }
}

#[test]
fn a_long_refusal_is_cut_and_a_long_answer_is_an_error() {
    let error = refused("400 Bad Request", &"é".repeat(ERROR_BYTES_MAX)).to_string();
    assert!(error.ends_with("é …") && error.len() < 3_000, "{}", error.len());

    let server = FakeServer::start(|_| Reply::text("200 OK", &"x".repeat(100)));
    for (answer_bytes_max, fits) in [(100, true), (99, false)] {
        let config = TargetConfig { url: server.url(), answer_bytes_max, ..TargetConfig::default() };
        let answer = Target::new(config).unwrap().get("/query", &[]);
        assert_eq!(answer.map(|a| a.body.len()).ok(), fits.then_some(100));
    }
}

#[test]
fn waits_as_long_as_the_server_asks() {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_445_412_470);
    for (header, expect_s) in [
        ("120", Some(120)),
        (" 0 ", Some(0)),
        ("86400", Some(300)),
        ("Wed, 21 Oct 2015 07:28:00 GMT", Some(10)),
        ("Wed, 21 Oct 2015 07:00:00 GMT", Some(0)),
        ("soon", None),
        ("-1", None),
    ] {
        assert_eq!(wait_asked_for(header, now), expect_s.map(Duration::from_secs), "{header}");
    }
    let server = FakeServer::start(|_| Reply::status("503 Busy").and("Retry-After", "7"));
    let error = target(server.url()).post("/write", &[], vec![1]).unwrap().check().unwrap_err();
    assert!(matches!(error, SinkError::Retry { after: Some(after), .. } if after == Duration::from_secs(7)));
}

#[test]
fn no_server_and_no_answer_are_worth_a_retry() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = target(format!("http://u:secret@{free}")).get("/ping?p=secret", &[]).unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with(&format!("GET http://{free}/ping: expected a connection: ")), "{text}");
    assert!(matches!(error, SinkError::Retry { .. }) && !text.contains("secret"), "{text}");

    let server = FakeServer::start(|_| Reply::Silence(Duration::from_secs(2)));
    let config =
        TargetConfig { url: server.url(), timeout: Duration::from_millis(50), ..TargetConfig::default() };
    let error = Target::new(config).unwrap().get("/ping", &[]).unwrap_err();
    assert_eq!(error, SinkError::retry(format!("GET {}/ping: no answer within 50ms", server.url())));

    let server = FakeServer::start(|_| Reply::Silence(Duration::ZERO));
    let error = target(server.url()).get("/ping", &[]).unwrap_err();
    assert!(error.to_string().contains("expected an HTTP answer"), "{error}");
}

#[test]
fn configurations_that_cannot_be_right() {
    let with = |change: fn(&mut TargetConfig)| {
        let mut config = TargetConfig { url: "http://h".into(), ..TargetConfig::default() };
        change(&mut config);
        Target::new(config).err().map(|error| error.to_string()).unwrap_or_default()
    };
    for (change, expected) in [
        ((|c| c.url = "u:secret@host:8086".into()) as fn(&mut TargetConfig), "found 'host:8086'"),
        (|c| c.url = "ftp://host".into(), "storage.url: expected an address such as"),
        (|c| c.auth = Auth::Bearer("a\nb".into()), "expected a token of printable characters"),
        (|c| c.headers = vec![("a b".into(), "c".into())], "one named \"a b\""),
        (|c| c.ca_file = Some("/none".into()), "storage.ca_file: /none: "),
        (|c| c.ca_file = Some("/dev/null".into()), "expected certificates in PEM, found none"),
    ] {
        let error = with(change);
        assert!(error.contains(expected) && !error.contains("secret"), "{error}");
    }
}

/// Inside a runtime too, where neither waiting nor the end of another runtime is allowed; and from
/// two threads at once, one of them waiting longer.
#[test]
fn is_made_used_and_dropped_anywhere() {
    let server = FakeServer::start(|request| {
        if request.path() == "/slow" {
            std::thread::sleep(Duration::from_millis(100));
        }
        Reply::text("200 OK", request.path())
    });
    let url = server.url();
    let inside = async move {
        let target = target(url);
        assert_eq!(target.get("/a", &[]).unwrap().body, "/a");
    };
    Runtime::new().unwrap().block_on(inside);

    let target = target(server.url());
    std::thread::scope(|scope| {
        let slow = scope.spawn(|| target.get("/slow", &[]).unwrap().body);
        for at in 0..20 {
            let path = format!("/{at}");
            assert_eq!(target.get(&path, &[]).unwrap().body, path);
        }
        assert_eq!(slow.join().unwrap(), "/slow");
    });
}

/// A server that closes an idle connection costs the next request nothing.
#[test]
fn a_connection_closed_meanwhile_is_made_again() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = target(format!("http://{}", listener.local_addr().unwrap()));
    std::thread::spawn(move || {
        for connection in listener.incoming().map_while(Result::ok) {
            use std::io::{Read, Write};
            let mut connection = connection;
            let mut byte = [0];
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") && connection.read(&mut byte).unwrap_or(0) > 0 {
                head.push(byte[0]);
            }
            // No word about closing.
            let _ = connection.write_all(b"HTTP/1.1 204 No Content\r\n\r\n");
        }
    });
    for _ in 0..10 {
        assert_eq!(target.post("/write", &[], Vec::new()).unwrap().status, 204);
        // Until the end of the connection has come; without this both ways are tried.
        std::thread::sleep(Duration::from_millis(2));
    }
}
