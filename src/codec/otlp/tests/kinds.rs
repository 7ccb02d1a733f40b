//! Every kind of point, in both forms.

use super::*;

/// As opentelemetry-proto 1.45 for Python writes it: resource {service.name = "s"}, scope "x", and a point {i = -3} of
/// each kind, the last one without a recorded value.
const GOLDEN: &str = "\
    0af0030a150a130a0c736572766963652e6e616d6512030a017312d6030a030a0178123b0a01671201641a026d732a2f0a2d\
    1100b6710e6137a6171900800c4a6137a61721000000000000f83f3a100a0169120b18fdffffffffffffffff0112430a0163\
    3a3e0a381100b6710e6137a6171900800c4a6137a6172a0919000000000000224031f9ffffffffffffff3a100a0169120b18\
    fdffffffffffffffff0110021801126d0a01684a680a641100b6710e6137a6171900800c4a6137a617210300000000000000\
    2900000000000012403210010000000000000002000000000000003a08000000000000f03f4a100a0169120b18fdffffffff\
    ffffffff0159000000000000f03f610000000000000440100112630a0165525e0a5a0a100a0169120b18fdffffffffffffff\
    ff011100b6710e6137a6171900800c4a6137a61721320100000000000029000000000000f03f300139020000000000000042\
    0708031203ac02014a05080212010371000000000000c03f100212790a01715a740a4a1100b6710e6137a6171900800c4a61\
    37a617210200000000000000290000000000000840321209000000000000e03f11000000000000f43f3a100a0169120b18fd\
    ffffffffffffffff010a261100b6710e6137a6171900800c4a6137a6173a100a0169120b18fdffffffffffffffff014001";

#[test]
fn golden_bytes() {
    let digits = |two: &[u8]| u8::from_str_radix(std::str::from_utf8(two).expect("ASCII"), 16).expect("hex");
    let body: Vec<u8> = GOLDEN.as_bytes().chunks(2).map(digits).collect();
    let found = Rig::new().protobuf(&body);
    let expected = [
        ("s{i=-3} g", 1.5),
        ("s{i=-3} c", -7.0),
        ("s{i=-3} h_count", 3.0),
        ("s{i=-3} h_sum", 4.5),
        ("s{i=-3} h_min", 1.0),
        ("s{i=-3} h_max", 2.5),
        ("s{i=-3,le=1} h_bucket", 1.0),
        ("s{i=-3,le=+Inf} h_bucket", 3.0),
        ("s{i=-3} e_count", 306.0),
        ("s{i=-3} e_sum", 1.0),
        ("s{i=-3,le=-4} e_bucket", 3.0),
        ("s{i=-3,le=0.125} e_bucket", 5.0),
        ("s{i=-3,le=0.25} e_bucket", 305.0),
        ("s{i=-3,le=1} e_bucket", 306.0),
        ("s{i=-3,le=+Inf} e_bucket", 306.0),
        ("s{i=-3} q_count", 2.0),
        ("s{i=-3} q_sum", 3.0),
        ("s{i=-3,quantile=0.5} q", 1.25),
    ];
    assert_eq!(found.samples, expected.map(|(name, value)| (name.to_string(), 0.0, value)));
    assert_eq!((found.rejects, found.passed_over, found.malformed), (vec![], vec!["no_value"], None));
}

#[test]
fn gauges_and_sums_are_values() {
    let points = json!([
        {"timeUnixNano": nanos(1), "asDouble": 1.5, "attributes": [{"key": "a", "value": {"stringValue": "b"}}]},
        {"timeUnixNano": nanos(2), "asInt": "-7"},
        {"timeUnixNano": nanos(3), "asInt": "9007199254740992", "flags": 0},
        {"asDouble": 4, "startTimeUnixNano": nanos(-5)},
    ]);
    let expected = [
        ("s{a=b} m", 1.0, 1.5),
        ("s{} m", 2.0, -7.0),
        ("s{} m", 3.0, 9_007_199_254_740_992.0),
        ("s{} m", 0.0, 4.0),
    ];
    check(&of_gauge(points.clone()), &expected, &[]);
    for temporality in [0, 1, 2] {
        let sum = json!({"dataPoints": points, "aggregationTemporality": temporality, "isMonotonic": true});
        check(&of_metric(json!({"sum": sum, "name": "m", "unit": "1", "description": "d"})), &expected, &[]);
    }
}

#[test]
fn histograms_are_totals_and_what_is_at_most_a_bound() {
    let metric = json!({"name": "h", "histogram": {"aggregationTemporality": 2, "dataPoints": [
        {"timeUnixNano": nanos(0), "count": "6", "sum": 21.5, "min": 0.5, "max": 11, "bucketCounts": ["1", "2", 3],
         "explicitBounds": [0.005, 10.0], "attributes": [{"key": "le", "value": {"stringValue": "own"}}]},
        {"timeUnixNano": nanos(1), "count": "4"},
    ]}});
    let expected = [
        ("s{le=own} h_count", 0.0, 6.0),
        ("s{le=own} h_sum", 0.0, 21.5),
        ("s{le=own} h_min", 0.0, 0.5),
        ("s{le=own} h_max", 0.0, 11.0),
        ("s{le=0.005} h_bucket", 0.0, 1.0),
        ("s{le=10} h_bucket", 0.0, 3.0),
        ("s{le=+Inf} h_bucket", 0.0, 6.0),
        ("s{} h_count", 1.0, 4.0),
    ];
    check(&of_metric(metric), &expected, &[]);
}

#[test]
fn exponential_histograms_have_bounds_on_the_grid() {
    let metric = json!({"name": "e", "exponentialHistogram": {"aggregationTemporality": 1, "dataPoints": [
        {"timeUnixNano": nanos(0), "count": "9", "sum": 1, "scale": 0, "zeroCount": "2", "zeroThreshold": 0.25,
         "positive": {"offset": -1, "bucketCounts": ["0", "3"]}, "negative": {"offset": 1, "bucketCounts": [4]}},
        {"timeUnixNano": nanos(1), "count": "3", "scale": 3, "positive": {"offset": 16, "bucketCounts": ["1", "2"]}},
    ]}});
    let expected = [
        ("s{} e_count", 0.0, 9.0),
        ("s{} e_sum", 0.0, 1.0),
        ("s{le=-2} e_bucket", 0.0, 4.0),
        ("s{le=0.25} e_bucket", 0.0, 6.0),
        ("s{le=2} e_bucket", 0.0, 9.0),
        ("s{le=+Inf} e_bucket", 0.0, 9.0),
        ("s{} e_count", 1.0, 3.0),
        ("s{le=4.756828460010884} e_bucket", 1.0, 3.0),
        ("s{le=+Inf} e_bucket", 1.0, 3.0),
    ];
    check(&of_metric(metric), &expected, &[]);
}

#[test]
fn summaries_have_quantiles() {
    let metric = json!({"name": "q", "summary": {"dataPoints": [{"timeUnixNano": nanos(0), "count": 3, "sum": 6.0,
        "quantileValues": [{"quantile": 0, "value": 1}, {"quantile": 0.99, "value": 2.5}, {"value": 9, "quantile": 1}]}]}});
    let expected = [
        ("s{} q_count", 0.0, 3.0),
        ("s{} q_sum", 0.0, 6.0),
        ("s{quantile=0} q", 0.0, 1.0),
        ("s{quantile=0.99} q", 0.0, 2.5),
        ("s{quantile=1} q", 0.0, 9.0),
    ];
    check(&of_metric(metric), &expected, &[]);
}

#[test]
fn attributes_of_resource_and_point_are_tags() {
    let text = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
    let resource = json!({"droppedAttributesCount": 1, "attributes": [
        text("host.name", "h"), text("service.name", "shop"), text("service.namespace", "n"), text("zone", "a"),
        text("telemetry.sdk.version", "1"), text("process.command_line", &"x".repeat(5000)), text("empty", ""),
    ]});
    let point = json!({"timeUnixNano": nanos(0), "asInt": 1, "attributes": [
        text("zone", "b"), {"key": "i", "value": {"intValue": "-3"}}, {"key": "t", "value": {"boolValue": true}},
        {"key": "d", "value": {"doubleValue": 0.5}}, {"key": "y", "value": {"bytesValue": "AP8="}},
        {"key": "l", "value": {"arrayValue": {"values": [{"stringValue": "x"}, {"intValue": 2}, {}]}}},
        {"key": "k", "value": {"kvlistValue": {"values": [{"key": "a", "value": {"boolValue": false}}]}}},
        {"key": "n", "value": {}}, {"key": "v"},
    ]});
    // The resource stands behind its metrics here, which the wire allows.
    let metrics =
        json!([{"gauge": {"dataPoints": [point, {"timeUnixNano": nanos(0), "asInt": 2}]}, "name": "m"}]);
    let first = json!({"zzz": 1, "scopeMetrics": [{"metrics": metrics}], "resource": resource});
    let second = json!({"scopeMetrics": [{"scope": {"name": "x"}, "metrics": metrics}]});
    let tags = |zone: &str| format!("d=0.5,{zone}i=-3,k={{\"a\":false}},l=[\"x\",2,null],");
    let names = [
        format!("shop{{{}service.namespace=n,t=true,y=AP8=,zone=b}} m", tags("host.name=h,")),
        "shop{host.name=h,service.namespace=n,zone=a} m".into(),
        format!("unknown_service{{{}t=true,y=AP8=,zone=b}} m", tags("")),
        "unknown_service{} m".into(),
    ];
    let expected: Vec<_> =
        names.iter().zip([1.0, 2.0, 1.0, 2.0]).map(|(name, value)| (name.as_str(), 0.0, value)).collect();
    check(&json!({"resourceMetrics": [first, second]}), &expected, &[]);
}

#[test]
fn a_bad_point_costs_itself() {
    let attributes = |key: &str, value: &str| json!([{"key": key, "value": {"stringValue": value}}]);
    let points = json!([
        {"timeUnixNano": nanos(0), "asInt": 1},
        {"timeUnixNano": nanos(0)},
        {"timeUnixNano": nanos(0), "asDouble": "NaN"},
        {"timeUnixNano": nanos(86_400), "asInt": 1},
        {"timeUnixNano": "18446744073709551615", "asInt": 1},
        {"timeUnixNano": nanos(0), "flags": 1, "asInt": 1},
        {"timeUnixNano": nanos(0), "asInt": 1, "attributes": attributes("a", &"x".repeat(300))},
        {"timeUnixNano": nanos(0), "asInt": 1, "attributes": attributes("", "x")},
        {"timeUnixNano": nanos(0), "asInt": 1, "attributes": attributes("a", "\u{7}")},
        {"timeUnixNano": nanos(0), "asInt": 1, "attributes": vec![json!({"key": "k"}); 40]},
        {"timeUnixNano": nanos(1), "asInt": 2},
    ]);
    let rejects = [
        (1, "bad_point"),
        (2, "not_finite"),
        (3, "too_far_ahead"),
        (4, "too_far_ahead"),
        (6, "tag_too_long"),
        (7, "control_character"),
        (8, "control_character"),
        (9, "too_many_tags"),
    ];
    check(&of_gauge(points), &[("s{} m", 0.0, 1.0), ("s{} m", 1.0, 2.0)], &rejects);
    let nameless = of_metric(json!({"gauge": {"dataPoints": [{"asInt": 1}]}}));
    check(&nameless, &[], &[(0, "empty_name")]);
    let histogram = json!({"dataPoints": [
        {"count": 1, "bucketCounts": [1], "explicitBounds": [1, 2]},
        {"count": 1, "bucketCounts": [1, 0, 0], "explicitBounds": [2, 1]},
        {"count": 1},
    ]});
    let found = [("s{} h_count", 0.0, 1.0)];
    check(
        &of_metric(json!({"name": "h", "histogram": histogram})),
        &found,
        &[(0, "bad_point"), (1, "bad_point")],
    );
}

#[test]
fn json_of_another_shape_costs_itself() {
    let good = json!({"timeUnixNano": nanos(0), "asInt": 1});
    let points = json!([
        good, 7, {"asInt": "x"}, {"asInt": 1.5}, {"asInt": 1, "attributes": {"a": 1}}, null, {"asDouble": "1e3"},
        {"asInt": 1, "attributes": [{"key": "a", "value": {"bytesValue": "?"}}]},
    ]);
    let found = Rig::new().json(&of_gauge(points));
    assert_eq!(found.samples, [("s{} m".to_string(), 0.0, 1.0), ("s{} m".to_string(), 0.0, 1000.0)]);
    let words: Vec<&str> = found.rejects.iter().map(|(_, word)| *word).collect();
    assert_eq!(words, ["bad_point", "bad_point", "bad_point", "bad_tags", "bad_point", "bad_tags"]);
    let metrics = json!([{"metrics": 7}, 7, {"metrics": [{"name": 1}, {"name": "m", "gauge": {"dataPoints": [good]}}]}]);
    let found = Rig::new().json(&json!({"resourceMetrics": [{"scopeMetrics": metrics}, []]}));
    assert_eq!(found.samples.len(), 1, "{found:?}");
    assert_eq!(found.rejects.iter().map(|(_, word)| *word).collect::<Vec<_>>(), ["bad_point"; 4]);
    for (body, byte) in [("{\"resourceMetrics\":[}", 20), ("", 0), ("[1]x", 3), ("{\n\"a\":\u{1}}", 6)] {
        let found = Rig::new().decode(&OtlpJson, body.as_bytes());
        assert_eq!((found.malformed, found.samples.len()), (Some(byte), 0), "{body:?}");
    }
}
