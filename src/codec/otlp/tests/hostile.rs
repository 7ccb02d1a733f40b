//! What nobody should send: cut off, flipped, nested, endless; and generated requests in both forms.

use super::encoder::{field, request, varint};
use super::*;

/// A request with every kind of point.
fn everything() -> Value {
    let attributes = json!([{"key": "a", "value": {"arrayValue": {"values": [{"intValue": "1"}]}}}]);
    let time = nanos(0);
    json!({"resourceMetrics": [
        {"resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "one"}}]},
         "scopeMetrics": [{"metrics": [
            {"name": "g", "gauge": {"dataPoints": [{"timeUnixNano": time, "asInt": "1", "attributes": attributes}]}},
            {"name": "s", "sum": {"dataPoints": [{"timeUnixNano": time, "asDouble": 2.5}], "isMonotonic": true}},
         ]}]},
        {"resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "two"}}]},
         "scopeMetrics": [{"metrics": [
            {"name": "h", "histogram": {"dataPoints": [{"timeUnixNano": time, "count": "3", "sum": 1.0,
             "bucketCounts": ["1", "2"], "explicitBounds": [1.0], "attributes": attributes}]}},
            {"name": "e", "exponentialHistogram": {"dataPoints": [{"timeUnixNano": time, "count": "3", "scale": 1,
             "positive": {"offset": 3, "bucketCounts": ["1", "300"]}, "negative": {"bucketCounts": ["1"]}}]}},
            {"name": "q", "summary": {"dataPoints": [{"timeUnixNano": time, "count": "3",
             "quantileValues": [{"quantile": 0.5, "value": 1.5}]}]}},
         ]}]},
    ]})
}

#[test]
fn cut_off_at_any_byte_what_came_before_is_taken() {
    let body = request(&everything());
    let mut rig = Rig::new();
    let whole = rig.protobuf(&body);
    assert_eq!((whole.samples.len(), whole.rejects.len(), whole.malformed), (13, 0, None), "{whole:?}");
    let second = 1 + varint(body[1] as u64).len() + body[1] as usize;
    for end in 0..body.len() {
        let found = rig.protobuf(&body[..end]);
        let expected = if end < second { 0 } else { 2 };
        assert_eq!(found.samples, whole.samples[..expected], "{end}");
        assert_eq!(found.malformed.is_none(), end == 0 || end == second, "{end}: {found:?}");
    }
    let text = everything().to_string();
    for end in 0..text.len() {
        let found = rig.decode(&OtlpJson, &text.as_bytes()[..end]);
        // The last byte that was there, or the one behind it.
        assert!(found.malformed.is_some_and(|byte| byte + 1 >= end && byte <= end), "{end}: {found:?}");
        assert_eq!(found.samples.len(), 0);
    }
}

#[test]
fn a_message_cut_off_within_its_length_costs_itself() {
    let point = |bytes: &[u8]| field(1, bytes);
    let good = [&[0x19][..], &NOON_NS.to_le_bytes(), &[0x31], &1i64.to_le_bytes()].concat();
    let points = [point(&good), point(&good[..12]), point(&[0x1b]), point(&good)].concat();
    let metrics = [
        field(2, &[field(1, b"m"), field(5, &points)].concat()),
        field(2, &[field(1, b"\xff"), field(5, &points)].concat()),
        field(2, &[field(1, b"n"), field(5, &points[..30])].concat()),
        field(2, &[field(1, b"n"), vec![0x2a, 0x7f]].concat()),
    ];
    let body = field(1, &field(2, &metrics.concat()));
    let found = Rig::new().protobuf(&body);
    let one = |name: &str| (format!("unknown_service{{}} {name}"), 0.0, 1.0);
    assert_eq!(found.samples, [one("m"), one("m"), one("n")]);
    let words: Vec<&str> = found.rejects.iter().map(|(_, word)| *word).collect();
    assert_eq!((words, found.malformed), (vec!["bad_point"; 5], None));
}

#[test]
fn nesting_ends_somewhere() {
    let mut value = json!({"stringValue": "x"});
    for _ in 0..15 {
        value = json!({"arrayValue": {"values": [value]}});
    }
    let deep = format!("s{{a={}\"x\"{}}} m", "[".repeat(15), "]".repeat(15));
    let of = |value: &Value| of_gauge(json!([{"asInt": 1, "attributes": [{"key": "a", "value": value}]}]));
    check(&of(&value), &[(&deep, 0.0, 1.0)], &[]);
    let deeper = json!({"kvlistValue": {"values": [{"key": "k", "value": value}]}});
    check(&of(&deeper), &[], &[(0, "bad_tags")]);
    // As deep as the limit on attributes allows, in both forms.
    let mut nested = Vec::new();
    while nested.len() < ATTRIBUTES_LEN_MAX - 200 {
        nested = field(5, &field(1, &nested));
    }
    let attribute = field(7, &[field(1, b"a"), field(2, &nested)].concat());
    let point = [vec![0x31], 1i64.to_le_bytes().to_vec(), attribute].concat();
    let metric = field(2, &[field(1, b"m"), field(5, &field(1, &point))].concat());
    let found = Rig::new().protobuf(&field(1, &field(2, &metric)));
    assert_eq!((found.samples.len(), found.rejects), (0, vec![(0, "bad_tags")]));
    for count in [1000, 100_000] {
        let (open, close) = (r#"{"arrayValue":{"values":["#.repeat(count), "]}}".repeat(count));
        let points = format!(r#"[{{"asInt":1,"attributes":[{{"key":"a","value":{open}{close}}}]}}]"#);
        let body = of_gauge(json!("POINTS")).to_string().replace("\"POINTS\"", &points);
        let found = Rig::new().decode(&OtlpJson, body.as_bytes());
        assert_eq!((found.samples.len(), found.rejects.len()), (0, 1), "{count}");
    }
}

#[test]
fn lists_end_somewhere() {
    let bounds: Vec<f64> = (0..BUCKETS_LEN_MAX).map(|bound| bound as f64).collect();
    let counts = vec![1; BUCKETS_LEN_MAX + 1];
    let quantiles = vec![json!({"quantile": 0.5, "value": 1}); BUCKETS_LEN_MAX + 1];
    for metric in [
        json!({"name": "m", "histogram": {"dataPoints": [
            {"count": 1, "bucketCounts": counts, "explicitBounds": bounds}]}}),
        json!({"name": "m", "exponentialHistogram": {"dataPoints": [
            {"count": 1, "positive": {"bucketCounts": counts}}]}}),
        json!({"name": "m", "exponentialHistogram": {"dataPoints": [
            {"count": 1, "negative": {"bucketCounts": counts}}]}}),
        json!({"name": "m", "summary": {"dataPoints": [{"count": 1, "quantileValues": quantiles}]}}),
    ] {
        let mut found = Rig::new().json(&of_metric(metric.clone()));
        found.samples.retain(|(name, ..)| name != "s{} m_sum");
        assert_eq!(found.samples, [("s{} m_count".to_string(), 0.0, 1.0)]);
        check(&of_metric(metric), &[("s{} m_count", 0.0, 1.0)], &[(0, "too_many_buckets")]);
    }
    let long =
        json!([{"asInt": 1, "attributes": [{"key": "a", "value": {"stringValue": "x".repeat(70_000)}}]}]);
    check(&of_gauge(long), &[], &[(0, "tag_too_long")]);
}

#[test]
fn a_resource_that_is_not_acceptable_costs_its_points_and_little_time() {
    let attributes = vec![json!({"key": "k", "value": {"stringValue": "v"}}); 100_000];
    let points = vec![json!({"asInt": 1}); 10_000];
    let metrics = json!([{"metrics": [{"name": "m", "gauge": {"dataPoints": points}}]}]);
    let body =
        json!({"resourceMetrics": [{"resource": {"attributes": attributes}, "scopeMetrics": metrics}]});
    let mut rig = Rig::new();
    for found in [rig.protobuf(&request(&body)), rig.json(&body)] {
        assert_eq!((found.samples.len(), found.rejects.len()), (0, 10_000));
    }
}

#[test]
fn resources_are_forgotten_and_never_confused() {
    let mut rig = Rig::new();
    let point = [vec![0x31], 1i64.to_le_bytes().to_vec()].concat();
    let metrics = field(2, &field(2, &[field(1, b"m"), field(5, &field(1, &point))].concat()));
    for round in 0..2 {
        for number in 0..10_005 {
            let value = field(2, &field(1, number.to_string().as_bytes()));
            let resource = field(1, &field(1, &[field(1, b"service.name"), value].concat()));
            let body = field(1, &[resource, metrics.clone()].concat());
            let found = rig.protobuf(&body);
            assert_eq!(found.samples, [(format!("{number}{{}} m"), 0.0, 1.0)], "{round}");
        }
    }
    assert_eq!(rig.catalog.len(), 10_005);
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!({})),
        "[a-z\"\\\\é]{0,6}".prop_map(|text| json!({"stringValue": text})),
        any::<bool>().prop_map(|value| json!({"boolValue": value})),
        any::<i64>().prop_map(|number| json!({"intValue": number.to_string()})),
        (-1e6f64..1e6).prop_map(|number| json!({"doubleValue": number})),
        Just(json!({"bytesValue": "AP8="})),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        let entry =
            ("[a-z]{1,3}", inner.clone()).prop_map(|(key, value)| json!({"key": key, "value": value}));
        prop_oneof![
            prop::collection::vec(inner, 0..4).prop_map(|values| json!({"arrayValue": {"values": values}})),
            prop::collection::vec(entry, 0..4).prop_map(|values| json!({"kvlistValue": {"values": values}})),
        ]
    })
}

fn attributes() -> impl Strategy<Value = Value> {
    let entry = ("[a-c.]{0,3}", any_value()).prop_map(|(key, value)| json!({"key": key, "value": value}));
    prop::collection::vec(entry, 0..4).prop_map(Value::Array)
}

fn point() -> impl Strategy<Value = Value> {
    let numbers = (-1000i64..1000, any::<i64>(), -1e9f64..1e9, 0u8..3, 0u64..3);
    let lists = (
        prop::collection::vec(0u64..9, 0..6),
        prop::collection::vec(-5.0f64..5.0, 0..6),
        -12i32..12,
        -9i32..9,
    );
    (numbers, lists, attributes()).prop_map(|((time, int, double, kind, flags), (counts, mut bounds, scale, offset), attributes)| {
        bounds.sort_by(f64::total_cmp);
        let mut point = json!({"timeUnixNano": nanos(time), "attributes": attributes, "flags": flags,
            "count": counts.len(), "sum": double, "min": double, "bucketCounts": counts, "explicitBounds": bounds,
            "scale": scale, "zeroCount": counts.first(), "positive": {"offset": offset, "bucketCounts": counts},
            "negative": {"offset": scale, "bucketCounts": counts},
            "quantileValues": bounds.iter().map(|bound| json!({"quantile": bound, "value": double})).collect::<Vec<_>>()});
        match kind {
            0 => point["asInt"] = json!(int.to_string()),
            1 => point["asDouble"] = json!(double),
            _ => {}
        }
        if point["zeroCount"].is_null() {
            point["zeroCount"] = json!("0");
        }
        point
    })
}

fn generated() -> impl Strategy<Value = Value> {
    let data = prop_oneof![
        Just(("gauge", 0)),
        Just(("sum", 0)),
        Just(("histogram", 1)),
        Just(("exponentialHistogram", 1)),
        Just(("summary", 2)),
    ];
    let metric = (data, "[a-z.]{0,4}", prop::collection::vec(point(), 0..3))
        .prop_map(|((key, _), name, points)| json!({"name": name, "unit": "s", key: {"dataPoints": points}}));
    let scopes = prop::collection::vec(prop::collection::vec(metric, 0..3), 0..3);
    let resource = (attributes(), scopes).prop_map(|(attributes, scopes)| {
        let scopes: Vec<Value> = scopes.into_iter().map(|metrics| json!({"metrics": metrics})).collect();
        json!({"resource": {"attributes": attributes}, "scopeMetrics": scopes})
    });
    prop::collection::vec(resource, 0..3).prop_map(|resources| json!({"resourceMetrics": resources}))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn both_forms_come_to_the_same(body in generated()) {
        let mut rig = Rig::new();
        let encoded = request(&body);
        let first = rig.protobuf(&encoded);
        prop_assert_eq!(first.malformed, None);
        prop_assert_eq!(&first, &rig.json(&body));
        prop_assert_eq!(&first, &rig.protobuf(&encoded));
        prop_assert_eq!(&first, &Rig::new().json(&body));
    }

    #[test]
    fn no_bytes_are_too_strange(flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let mut rig = Rig::new();
        let mut encoded = request(&everything());
        let mut text = everything().to_string().into_bytes();
        for (at, byte) in flips {
            let (in_message, in_text) = (at.index(encoded.len()), at.index(text.len()));
            encoded[in_message] = byte;
            text[in_text] = byte;
        }
        for found in [rig.protobuf(&encoded), rig.decode(&OtlpJson, &text)] {
            prop_assert!(found.samples.iter().all(|(_, _, value)| value.is_finite()));
            prop_assert!(found.samples.len() <= 30);
        }
    }
}
