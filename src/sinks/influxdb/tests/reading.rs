//! Queries as they are asked, and answers as they are read.

use serde_json::Value;

use super::{asked, message, sink, statement};
use crate::message::Message;
use crate::sinks::influxdb::{Api, InfluxConfig};
use crate::sinks::target::Auth;
use crate::sinks::target::fake::{FakeServer, Reply};
use crate::sinks::{Query, Sink, SinkError};

fn tags(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

/// Reads with a server that gives these bodies one after another.
fn read(
    api: Api,
    bodies: &[&str],
    query: &Query,
    change: impl FnOnce(&mut InfluxConfig),
) -> (Result<Vec<Message>, SinkError>, Vec<String>) {
    let mut bodies: Vec<String> = bodies.iter().rev().map(ToString::to_string).collect();
    let server = FakeServer::start(move |_| Reply::text("200 OK", &bodies.pop().unwrap_or_default()));
    let sink = sink(&server, |config| {
        config.api = api;
        config.org = Some("o r".into());
        config.auth = Auth::Token("t".into());
        change(config);
    });
    let found = sink.reader().unwrap().read(query);
    let asked = asked(&server).into_iter().map(|request| match api {
        Api::V2 => {
            assert_eq!(request.line, "POST /api/v2/query?org=o%20r HTTP/1.1");
            let body: Value = serde_json::from_slice(&request.body).unwrap();
            assert_eq!(body["dialect"]["annotations"], serde_json::json!(["datatype", "group", "default"]));
            body["query"].as_str().unwrap().to_string()
        }
        _ => {
            assert_eq!(request.line, "POST /query?db=plantd_metrics&epoch=ns HTTP/1.1");
            statement(&request)
        }
    });
    (found, asked.collect())
}

fn hostile() -> Query {
    Query {
        service: Some("a\"; DROP".into()),
        metrics: vec!["x".into(), "time".into()],
        tags: tags(&[("ho\"st", "v' OR 1=1"), ("time", "C:\\")]),
        start_ns: 5,
        end_ns: 9,
        limit: 3,
    }
}

#[test]
fn influxql_is_quoted() {
    let (found, asked) = read(Api::V1, &["{\"results\":[{}]}"], &hostile(), |_| {});
    assert_eq!(found, Ok(Vec::new()));
    let expect = "SELECT \"x\"::field, \"x_\"::field, \"time_\"::field, *::tag \
                  FROM \"a\\\"; DROP_metrics\" WHERE time >= 5 AND time < 9 \
                  AND \"ho\\\"st\"::tag = 'v\\' OR 1=1' AND \"time_\"::tag = 'C:⧵' \
                  ORDER BY time DESC LIMIT 3";
    assert_eq!(asked, [expect]);
}

#[test]
fn flux_is_quoted() {
    let mut query = hostile();
    query.service = Some("${a}\"\\".into());
    let (found, asked) = read(Api::V2, &[""], &query, |_| {});
    assert_eq!(found, Ok(Vec::new()));
    let expect = "from(bucket: \"plantd_metrics\")\n  \
        |> range(start: time(v: 5), stop: time(v: 9))\n  \
        |> filter(fn: (r) => r._measurement == \"\\${a}\\\"\\\\_metrics\")\n  \
        |> filter(fn: (r) => r[\"ho\\\"st\"] == \"v' OR 1=1\" and r[\"time_\"] == \"C:⧵\")\n  \
        |> filter(fn: (r) => r._field == \"x\" or r._field == \"x_\" or r._field == \"time_\")\n  \
        |> drop(columns: [\"_start\", \"_stop\"])\n  \
        |> pivot(rowKey: [\"_time\"], columnKey: [\"_field\"], valueColumn: \"_value\")\n  \
        |> sort(columns: [\"_time\"], desc: true)\n  \
        |> limit(n: 3)\n  \
        |> group()\n  \
        |> sort(columns: [\"_time\"], desc: true)\n  \
        |> limit(n: 3)\n  \
        |> group()";
    assert_eq!(asked, [expect]);

    let (_, asked) = read(Api::V2, &[""], &Query::default(), |_| {});
    let begin = "import \"strings\"\nfrom(bucket: \"plantd_metrics\")\n  \
        |> range(start: time(v: -9223372036854775806), stop: time(v: 9223372036854775806))\n  \
        |> filter(fn: (r) => strings.hasSuffix(v: r._measurement, suffix: \"_metrics\"))\n  |> drop(";
    assert!(asked[0].starts_with(begin), "{}", asked[0]);
    let (_, asked) =
        read(Api::V2, &[""], &Query::default(), |config| config.measurement = "{service}".into());
    assert!(!asked[0].contains("filter") && !asked[0].contains("import"), "{}", asked[0]);
}

#[test]
fn rows_of_influxql_are_messages() {
    let measurements = r#"{"results":[{"series":[{"name":"measurements","columns":["name"],
        "values":[["a_metrics"],["of somebody else"],["b_metrics"]]}]}]}"#;
    // A tag x beside a field x of another message, and a tag that is called y_1.
    let rows = r#"{"results":[
        {"series":[{"name":"a_metrics","columns":["time","cpu","time_","x","y","site","x_1","y_1"],"values":[
            [30,45.2,null,2,1e300,"north","tag","one"],
            [10,null,-0.0,null,null,"south","",null]]}]},
        {"series":[{"name":"b_metrics","columns":["time","cpu","dir"],"values":[[20,1073741824,"C:⧵"]]}]}]}"#;
    let keys = r#"{"results":[{"series":[{"name":"a_metrics","columns":["tagKey"],"values":[["site"],["x"],["y_1"]]}]}]}"#;
    let with_tag = |config: &mut InfluxConfig| config.tags = tags(&[("site", "north")]);
    let (found, asked) = read(Api::V1, &[measurements, rows, keys], &Query::default(), with_tag);
    let expect = [
        message(30, "a", &[("x", "tag"), ("y_1", "one")], &[("cpu", 45.2), ("x", 2.0), ("y", 1e300)]),
        message(20, "b", &[("dir", "C:\\")], &[("cpu", 1_073_741_824.0)]),
        message(10, "a", &[("site", "south")], &[("time", -0.0)]),
    ];
    assert_eq!(found.unwrap(), expect);
    assert_eq!(asked.len(), 3);
    assert_eq!(asked[0], "SHOW MEASUREMENTS LIMIT 10000");
    let select = |name: &str| {
        format!(
            "SELECT *::field, *::tag FROM \"{name}\" WHERE time >= -9223372036854775806 \
             AND time < 9223372036854775806 ORDER BY time DESC LIMIT 100"
        )
    };
    assert_eq!(asked[1], format!("{}; {}", select("a_metrics"), select("b_metrics")));
    assert_eq!(asked[2], "SHOW TAG KEYS FROM \"a_metrics\"");
}

/// 3 is asked one statement at a time, and not for what would fall behind the limit.
#[test]
fn a_full_answer_narrows_what_is_asked_next() {
    let measurements = r#"{"results":[{"series":[{"name":"measurements","columns":["iox::measurement","name"],
        "values":[["measurements","a"],["measurements","b"]]}]}]}"#;
    let rows = |name: &str, times: [i64; 2]| {
        let [newer, older] = times;
        format!(
            r#"{{"results":[{{"series":[{{"name":"{name}","columns":["iox::measurement","time","v"],
            "values":[["{name}",{newer},1],["{name}",{older},2]]}}]}}]}}"#
        )
    };
    let query = Query { limit: 2, ..Query::default() };
    let bodies = [measurements, &rows("a", [50, 40]), &rows("b", [60, 45])];
    let (found, asked) = read(Api::V3, &bodies, &query, |config| config.measurement = "{service}".into());
    let found: Vec<_> = found.unwrap().iter().map(|m| (m.time_ns, m.target.service.to_string())).collect();
    assert_eq!(found, [(60, "b".to_string()), (50, "a".to_string())]);
    assert!(
        asked[1].contains("time >= -9223372036854775806") && asked[2].contains("time >= 40 "),
        "{asked:?}"
    );
}

#[test]
fn rows_of_flux_are_messages() {
    let csv = "#datatype,string,long,dateTime:RFC3339,string,string,double,double,string\r\n\
        #group,false,false,false,false,false,false,false,false\r\n\
        #default,_result,,,,,,,\r\n\
        ,result,table,_time,_measurement,host,cpu,\"me,m \"\"x\"\"\",table\r\n\
        ,,0,2024-01-01T12:00:00.000000001Z,a_metrics,\"h\n,1\",45.2,,t\r\n\
        ,,0,2024-01-01T12:00:00Z,a_metrics,,,-0.5,\r\n\
        \r\n\
        #datatype,string,long,dateTime:RFC3339,string,double\r\n\
        #group,false,false,true,true,false\r\n\
        #default,_result,,,b_metrics,\r\n\
        ,result,table,_time,_measurement,cpu\r\n\
        ,,1,2024-01-01T12:00:01Z,,1e+300\r\n\r\n";
    let (found, _) = read(Api::V2, &[csv], &Query::default(), |_| {});
    let noon = 1_704_110_400_000_000_000;
    let expect = [
        message(noon + 1_000_000_000, "b", &[], &[("cpu", 1e300)]),
        message(noon + 1, "a", &[("host", "h\n,1"), ("table", "t")], &[("cpu", 45.2)]),
        message(noon, "a", &[], &[("me,m \"x\"", -0.5)]),
    ];
    assert_eq!(found.unwrap(), expect);
}

#[test]
fn what_cannot_be_read_is_an_error() {
    let error_table = "#datatype,string,string\r\n#group,true,true\r\n#default,,\r\n,error,reference\r\n,\"out of, memory\",897\r\n";
    let query = Query { service: Some("s".into()), ..Query::default() };
    for (api, body, expect) in [
        (Api::V1, r#"{"results":[{"error":"not executed"}]}"#, "not executed"),
        (Api::V1, r#"{"error":"unable to parse"}"#, "unable to parse"),
        (Api::V1, "<html>", "expected the answer of a query"),
        (
            Api::V1,
            r#"{"results":[{"series":[{"name":"databases","columns":["name"]}]}]}"#,
            "no InfluxQL is spoken",
        ),
        (Api::V2, error_table, "out of, memory"),
    ] {
        let (found, _) = read(api, &[body], &query, |_| {});
        assert!(matches!(&found, Err(SinkError::Retry { why, .. }) if why.contains(expect)), "{found:?}");
    }
    for empty in [Query { limit: 0, ..query.clone() }, Query { start_ns: 5, end_ns: 5, ..query }] {
        assert_eq!(read(Api::V1, &["<html>"], &empty, |_| {}), (Ok(Vec::new()), Vec::new()));
    }
}

#[test]
fn what_is_stored_one_way_is_not_read() {
    let server = FakeServer::start(|_| Reply::status("204 No Content"));
    assert!(sink(&server, |config| config.measurement = "{metric}".into()).reader().is_none());
}
