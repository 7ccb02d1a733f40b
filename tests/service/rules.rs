//! Rules and alerts through the API: in the shape of Prometheus, their history, previews, and who may write rules.

use serde_json::{Value, json};

use crate::running::{Running, at, names, until};

const RULES: &str = r#"
storage: { type: none }
alerts:
  rules:
    - name: "hot"
      metric: "cpu_usage"
      operator: ">"
      threshold: 80
      for: "30s"
      severity: "page"
      message: "{{service}} on {{tag.host}}: {{value | 1}} % of {{threshold}} %"
      labels: { team: "{{tag.zone}}" }
      annotations: { runbook: "https://runbooks/{{rule}}" }
    - { name: "cold", metric: "temperature_celsius", operator: "<", threshold: 5, service: "sensor*", tags: { room: "a" } }
    - { name: "off", metric: "cpu_usage", operator: ">", threshold: 0, enabled: false }
"#;

fn cpu(t: f64, host: &str, value: f64) -> Value {
    json!({
        "timestamp": at(t), "service": "org.plantd.Broker", "metrics": {"cpu_usage_percent": value},
        "tags": {"host": host, "zone": "z1"},
    })
}

/// `hot` pending on host a from 0 s, firing on host b from 30 s; `cold` firing from 10 s.
fn with_alerts(yaml: &str) -> Running {
    let service = Running::start(yaml);
    let cold = |t: f64, value: f64| json!({"timestamp": at(t), "service": "sensors", "metrics": {"temperature_celsius": value}, "tags": {"room": "a"}});
    service.accept(&json!([
        cpu(0.0, "b", 91.0),
        cpu(20.0, "b", 95.26),
        cpu(31.0, "b", 99.0),
        cpu(25.0, "a", 85.0)
    ]));
    service.accept(&json!([cold(9.0, 6.0), cold(10.0, 4.5)]));
    until("three alerts", || (service.json("/api/v1/alerts")["count"] == 3).then_some(()));
    service
}

#[test]
fn rules_are_listed_as_prometheus_lists_them() {
    let service = with_alerts(RULES);
    let answer = service.json("/api/v1/rules");
    assert_eq!((names(&answer), &answer["status"]), (vec!["data", "status"], &json!("success")));
    let groups = answer["data"]["groups"].as_array().expect("groups").clone();
    assert_eq!(groups.len(), 1);
    let group = &groups[0];
    let group_fields = ["evaluationTime", "file", "interval", "lastEvaluation", "limit", "name", "rules"];
    assert_eq!((names(group), &group["name"]), (group_fields.to_vec(), &json!("alerts")));
    let rules = group["rules"].as_array().expect("rules");
    let shown: Vec<_> = rules
        .iter()
        .map(|rule| [&rule["name"], &rule["state"], &rule["query"], &rule["enabled"]].map(Value::clone))
        .collect();
    let expected = [
        json!(["hot", "firing", "cpu_usage > 80", true]),
        json!(["cold", "firing", "temperature_celsius{service=~\"sensor.*\",room=\"a\"} < 5", true]),
        json!(["off", "inactive", "cpu_usage > 0", false]),
    ];
    assert_eq!(json!(shown), json!(expected));
    let hot = &rules[0];
    assert_eq!(
        names(hot),
        [
            "alerts",
            "annotations",
            "duration",
            "enabled",
            "evaluationTime",
            "health",
            "keepFiringFor",
            "labels",
            "lastError",
            "lastEvaluation",
            "name",
            "query",
            "state",
            "type"
        ]
    );
    assert_eq!(
        (&hot["type"], &hot["health"], &hot["duration"]),
        (&json!("alerting"), &json!("ok"), &json!(30.0))
    );
    assert_eq!(hot["labels"], json!({"severity": "page", "team": "{{tag.zone}}"}));
    assert_eq!(hot["alerts"].as_array().map(Vec::len), Some(2));
    assert_eq!(hot["alerts"][0]["state"], "firing");

    let named = |query: &str| -> Vec<String> {
        let answer = service.json(&format!("/api/v1/rules?{query}"));
        let groups = answer["data"]["groups"].as_array().expect("groups").clone();
        let rules = groups.iter().flat_map(|group| group["rules"].as_array().expect("rules").clone());
        rules.map(|rule| rule["name"].as_str().expect("a name").to_string()).collect()
    };
    let file = group["file"].as_str().expect("a file");
    assert_eq!(named("type=alert"), ["hot", "cold", "off"]);
    assert_eq!(named("type=record"), Vec::<String>::new());
    assert_eq!(named("rule_name[]=hot&rule_name[]=off"), ["hot", "off"]);
    assert_eq!(named("rule_group[]=alerts&rule_name[]=cold"), ["cold"]);
    assert_eq!(named("rule_group[]=another"), Vec::<String>::new());
    assert_eq!(named(&format!("file[]={file}")), ["hot", "cold", "off"]);
    let without = service.json("/api/v1/rules?exclude_alerts=true");
    assert_eq!(without["data"]["groups"][0]["rules"][0].get("alerts"), None);
    assert_eq!(service.refused("/api/v1/rules?type=all"), "type: expected alert or record, found \"all\"");
    assert!(service.refused("/api/v1/rules?name=hot").starts_with("unknown parameter \"name\""));
}

#[test]
fn alerts_are_listed_in_both_shapes() {
    let service = with_alerts(RULES);
    let answer = service.json("/api/v1/alerts?rule=hot&state=firing");
    assert_eq!(names(&answer), ["alerts", "count", "data", "status"]);
    assert_eq!(
        answer["alerts"][0]["message"], "org.plantd.Broker on b: 95.3 % of 80 %",
        "to the half of a tenth"
    );
    let expected = json!({
        "labels": {
            "alertname": "hot", "severity": "page", "service": "org.plantd.Broker", "metric": "cpu_usage_percent",
            "host": "b", "zone": "z1", "team": "z1",
        },
        "annotations": {
            "runbook": "https://runbooks/hot", "message": "org.plantd.Broker on b: 95.3 % of 80 %",
        },
        "state": "firing",
        "activeAt": at(0.0),
        "value": "9.526e+01",
    });
    assert_eq!(answer["data"]["alerts"], json!([expected]));
    let count = |query: &str| service.json(&format!("/api/v1/alerts?{query}"))["count"].clone();
    for (query, expected) in [
        ("", 3),
        ("state=pending", 1),
        ("severity=page", 2),
        ("service=sensors", 1),
        ("tag.host=a", 1),
        ("tag.host=*", 2),
        ("rule=none", 0),
        ("limit=2", 2),
    ] {
        assert_eq!(count(query), expected, "{query}");
    }
    assert_eq!(service.json("/api/v1/alerts?limit=2")["total"], 3);
    assert_eq!(
        service.refused("/api/v1/alerts?state=on"),
        "state: expected one of pending, firing, found \"on\""
    );
}

#[test]
fn the_history_tells_the_newest_first_and_survives_a_restart() {
    let service = with_alerts(RULES);
    service.accept(&json!([cpu(40.0, "b", 10.0), cpu(41.0, "a", 10.0)]));
    until("hot ends", || (service.json("/api/v1/alerts?rule=hot")["count"] == 0).then_some(()));
    let told = |service: &Running, query: &str| -> Vec<[String; 3]> {
        let answer = service.json(&format!("/api/v1/alerts/history?{query}"));
        assert_eq!(answer["older_forgotten"], false);
        let entries = answer["history"].as_array().expect("a list");
        assert_eq!(answer["count"], entries.len());
        let text = |entry: &Value, key: &str| entry[key].as_str().unwrap_or_default().to_string();
        entries
            .iter()
            .map(|entry| [text(entry, "name"), text(entry, "state"), text(entry, "timestamp")])
            .collect()
    };
    let row = |name: &str, state: &str, t: f64| [name.to_string(), state.to_string(), at(t)];
    let ends = [row("hot", "cancelled", 41.0), row("hot", "resolved", 40.0)];
    let first_two = told(&service, "rule=hot&limit=2");
    assert!(ends.iter().all(|end| first_two.contains(end)), "{first_two:?}");
    assert_eq!(told(&service, "state=firing&rule=hot"), [row("hot", "firing", 30.0)]);
    assert_eq!(told(&service, "state=resolved&tag.host=b"), [row("hot", "resolved", 40.0)]);
    assert_eq!(told(&service, &format!("rule=cold&since={}", at(10.0))), [row("cold", "firing", 10.0)]);
    assert_eq!(told(&service, &format!("rule=cold&until={}", at(10.0))), Vec::<[String; 3]>::new());
    let all = told(&service, "");
    assert_eq!(all.len(), 6, "{all:?}");
    let entry = service.json("/api/v1/alerts/history?state=resolved")["history"][0].clone();
    assert_eq!(
        (&entry["no_data"], &entry["severity"], &entry["started_at"]),
        (&json!(false), &json!("page"), &json!(at(0.0)))
    );
    assert_eq!(entry["message"], "org.plantd.Broker on b: 99.0 % of 80 %");
    assert!(
        service
            .refused("/api/v1/alerts/history?state=on")
            .starts_with("state: expected one of pending, cancelled")
    );

    let service = service.restart(RULES);
    let again = until("what the outbox has", || Some(told(&service, "")).filter(|all| !all.is_empty()));
    assert_eq!(again, all);
}

fn preview(service: &Running, body: &Value) -> Value {
    let answer = service.post("/api/v1/rules/preview", body.to_string());
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

#[test]
fn a_preview_says_when_a_rule_would_have_fired() {
    let service = Running::start("storage: { type: none }\n");
    let samples: Vec<Value> = (0..600)
        .map(|s| {
            cpu(f64::from(s) - 600.0, "a", if (100..160).contains(&s) || s >= 590 { 90.0 } else { 10.0 })
        })
        .collect();
    service.accept(&json!(samples));
    let rule = json!({"name": "r", "metric": "cpu_usage", "operator": ">", "threshold": 50, "for": "20s"});
    let answer = preview(&service, &json!({ "rule": rule }));
    assert_eq!(
        names(&answer),
        [
            "alerts",
            "count",
            "exact",
            "exact_from",
            "not_fired",
            "query",
            "rule",
            "samples",
            "series",
            "since",
            "until"
        ]
    );
    assert_eq!(
        (&answer["series"], &answer["samples"], &answer["exact"]),
        (&json!(1), &json!(600), &json!(true))
    );
    // The last breach is 10 s old at noon.
    assert_eq!((&answer["count"], &answer["not_fired"]), (&json!(1), &json!(1)));
    let expected = json!({
        "service": "org.plantd.Broker", "metric": "cpu_usage_percent", "tags": {"host": "a", "zone": "z1"},
        "started_at": at(-500.0), "fired_at": at(-480.0), "ended_at": at(-440.0), "no_data": false, "value": 90.0,
        "exact": true,
    });
    assert_eq!(answer["alerts"], json!([expected]));
    let later = preview(&service, &json!({ "rule": rule, "since": "5m" }));
    assert_eq!((&later["count"], &later["since"]), (&json!(0), &json!(at(-300.0))));
    let other =
        json!({"name": "r", "metric": "cpu_usage", "tags": {"host": "b"}, "operator": ">", "threshold": 50});
    assert_eq!(preview(&service, &json!({ "rule": other }))["series"], 0);

    let refused = |body: Value| {
        let answer = service.post("/api/v1/rules/preview", body.to_string());
        assert_eq!(answer.status, 400, "{}", answer.text());
        answer.json()["detail"].as_str().expect("a detail").to_string()
    };
    assert_eq!(
        refused(json!({ "rule": {"name": "r", "metric": "m", "operator": "=>", "threshold": 1} })),
        "body: rule.operator: expected one of >, >=, <, <=, ==, !=, outside, inside, found \"=>\"; did you mean >=?"
    );
    assert!(refused(json!({ "rule": rule, "since": "soon" })).starts_with("since: expected a duration"));
    assert!(refused(json!({ "rule": rule, "from": 1 })).contains("found \"from\""));
    assert!(refused(json!({})).contains("expected a mapping"));
}

#[test]
fn a_preview_says_from_when_on_it_is_exact() {
    let service = Running::start("storage: { type: none }\n");
    // So many in one pane are folded; the peak between them is known, but not when it was.
    let dense = (0..500).map(|n| cpu(-60.0 + f64::from(n) * 0.019, "a", if n == 100 { 99.0 } else { 10.0 }));
    let sparse = (0..30).map(|s| cpu(-40.0 + f64::from(s), "a", if s == 20 { 95.0 } else { 10.0 }));
    service.accept(&json!(dense.chain(sparse).collect::<Vec<_>>()));
    let rule = json!({"name": "r", "metric": "cpu_usage", "operator": ">", "threshold": 90});
    let answer = preview(&service, &json!({ "rule": rule }));
    assert_eq!((&answer["exact"], &answer["count"]), (&json!(false), &json!(2)), "{answer}");
    let exact_from = answer["exact_from"].as_str().expect("a time");
    assert!(*at(-60.0) < *exact_from && *exact_from < *at(-40.0), "{exact_from}");
    let exact: Vec<_> =
        answer["alerts"].as_array().expect("a list").iter().map(|alert| &alert["exact"]).collect();
    assert_eq!(exact, [false, true]);
    assert_eq!(answer["alerts"][1]["started_at"], at(-20.0));
    let later = preview(&service, &json!({ "rule": rule, "since": at(-45.0) }));
    assert_eq!((&later["exact"], &later["count"]), (&json!(true), &json!(1)));
}

#[test]
fn rules_are_written_only_where_that_is_allowed() {
    let rule = json!({"name": "new", "metric": "m", "operator": ">", "threshold": 1}).to_string();
    let send = |service: &Running, method: &str, path: &str, body: &str| {
        let answer = service.request(method, path, &[("content-type", "application/json")], body.as_bytes());
        (answer.status, answer.json()["detail"].as_str().unwrap_or_default().to_string())
    };
    let service = Running::start(RULES);
    for (method, path) in
        [("POST", "/api/v1/rules"), ("PUT", "/api/v1/rules/new"), ("DELETE", "/api/v1/rules/hot")]
    {
        let expected = (403, "rules may not be written here: alerts.api_rules is false".to_string());
        assert_eq!(send(&service, method, path, &rule), expected, "{method}");
    }
    let service = service.restart(&RULES.replace("alerts:\n", "alerts:\n  api_rules: true\n"));
    let expected = (409, "expected alerts.rules_dir to write rules to, found none".to_string());
    assert_eq!(send(&service, "POST", "/api/v1/rules", &rule), expected);
    let folder = tempfile::tempdir().expect("a folder for rules");
    let dir = format!("alerts:\n  api_rules: true\n  rules_dir: {:?}\n", folder.path().display().to_string());
    let service = service.restart(&RULES.replace("alerts:\n", &dir));
    for (method, path, body, status, detail) in [
        ("POST", "/api/v1/rules", "{", 400, "body: expected JSON"),
        (
            "POST",
            "/api/v1/rules",
            "{\"name\":\"new\"}",
            400,
            "body: rule.metric: expected this key, found none",
        ),
        ("PUT", "/api/v1/rules/other", rule.as_str(), 400, "rule.name: expected \"other\", as the path says"),
        ("POST", "/api/v1/rules", &rule.replace("new", "hot"), 409, "the rule \"hot\" stands at "),
        ("DELETE", "/api/v1/rules/hot", "", 409, "the rule \"hot\" stands at "),
        ("DELETE", "/api/v1/rules/none", "", 404, "there is no rule \"none\""),
    ] {
        let (found, told) = send(&service, method, path, body);
        assert!(found == status && told.contains(detail), "{method} {path} {body}: {found} {told}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).expect("it is there").count(), 0);
}

#[test]
fn a_rule_that_is_written_comes_into_force_and_goes() {
    let folder = tempfile::tempdir().expect("a folder for rules");
    let dir = format!("alerts:\n  api_rules: true\n  rules_dir: {:?}\n", folder.path().display().to_string());
    let service = Running::start(&RULES.replace("alerts:\n", &dir));
    service.accept(&json!([cpu(0.0, "a", 50.0)]));
    let send = |method: &str, path: &str, body: Value| {
        let answer = service.request(
            method,
            path,
            &[("content-type", "application/json")],
            body.to_string().as_bytes(),
        );
        assert!(answer.status < 300, "{method} {path}: {}", answer.text());
        answer.json()
    };
    let rule = |threshold: f64| json!({"name": "new", "metric": "cpu_usage", "operator": ">", "threshold": threshold});
    let active = || service.json("/api/v1/alerts?rule=new")["count"].clone();
    let answer = send("POST", "/api/v1/rules", rule(40.0));
    assert_eq!((&answer["rule"], &answer["added"]), (&json!("new"), &json!(1)));
    // It starts from the panes that there are.
    until("it fires", || (active() == 1).then_some(()));
    let state = |service: &Running| {
        service.json("/api/v1/rules?rule_name[]=new")["data"]["groups"][0]["rules"][0]["state"].clone()
    };
    assert_eq!(state(&service), "firing");
    send("PUT", "/api/v1/rules/new", rule(60.0));
    until("it is another rule", || (active() == 0).then_some(()));
    send("PUT", "/api/v1/rules/new", rule(45.0));
    until("it fires again", || (active() == 1).then_some(()));
    send("DELETE", "/api/v1/rules/new", json!({}));
    until("it is gone", || (active() == 0).then_some(()));
    assert_eq!(service.json("/api/v1/rules?rule_name[]=new")["data"]["groups"], json!([]));
    // And what stands in files, when they are read again.
    std::fs::write(
        folder.path().join("x.yaml"),
        "rules:\n  - { name: new, metric: cpu_usage, operator: '>', threshold: 1 }\n",
    )
    .expect("a file");
    assert_eq!(service.post("/-/reload", "").status, 200);
    until("it fires", || (active() == 1).then_some(()));
    assert_eq!(state(&service), "firing");
}
