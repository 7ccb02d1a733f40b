//! What of PromQL becomes a rule, and what is refused where.

use super::*;
use crate::promql::parse;

const MINUTE: Duration = Duration::from_secs(60);

/// `metric service tag=text... func width by(...)`.
fn shown(found: &Compared) -> String {
    let series = |series: &Series| {
        let tags = series.tags.iter().map(|(name, text)| format!(" {name}={text}")).collect::<String>();
        format!("{}@{}{tags}", series.metric, series.service.as_deref().unwrap_or("*"))
    };
    let window = |w: &Window| format!("{} {}s of {}", w.func, w.width.as_secs_f64(), series(&w.series));
    let grouping = |grouping: &Grouping| match grouping {
        Grouping::Series => String::new(),
        Grouping::By(names) => format!(" by {names:?}"),
        Grouping::Without(names) => format!(" without {names:?}"),
    };
    let what = match &found.what {
        What::Samples(samples) => series(samples),
        What::Window(w, g) => window(w) + &grouping(g),
        What::Ratio(a, b, g) => format!("{} over {}{}", window(a), window(b), grouping(g)),
        What::Absence(absent) => return format!("no {} ({})", series(absent), found.notes.len()),
    };
    format!("{what} {} {} ({})", found.operator, found.threshold, found.notes.len())
}

#[test]
fn what_a_rule_can_say() {
    for (text, expected) in [
        ("up == 0", "up@* == 0 (0)"),
        ("cpu{service=\"a\", host=~\"b.*\"} > 80", "cpu@a host=b* > 80 (0)"),
        ("cpu{job=\"a\", service=\"b\"} > 80", "cpu@b job=a > 80 (0)"),
        ("80 <= cpu{job=\"a\"}", "cpu@a >= 80 (0)"),
        ("cpu{host=~\".+\", zone=~\".*\", rack=~\"r\\\\.1\"} != 1", "cpu@* host=* rack=r.1 != 1 (0)"),
        ("disk > 5 * 1024 ^ 3", "disk@* > 5368709120 (0)"),
        ("disk < -(1 + 1)", "disk@* < -2 (0)"),
        ("avg_over_time(cpu[5m]) > 80", "avg 300s of cpu@* > 80 (0)"),
        ("quantile_over_time(0.999, t[1h]) > 1", "p99.9 3600s of t@* > 1 (0)"),
        ("quantile_over_time(0.29, t[1h]) > 1", "p29 3600s of t@* > 1 (0)"),
        ("stddev_over_time(t[1m]) > 1", "stddev 60s of t@* > 1 (0)"),
        ("rate(errors[5m]) > 0.1", "rate 300s of errors@* > 0.1 (0)"),
        (
            "sum by (host, job) (rate(errors[5m])) > 1",
            "rate 300s of errors@* by [\"host\", \"service\"] > 1 (0)",
        ),
        (
            "sum(increase(errors[1h])) without (instance) > 1",
            "increase 3600s of errors@* without [\"instance\"] > 1 (0)",
        ),
        ("max(max_over_time(cpu[5m])) > 1", "max 300s of cpu@* by [] > 1 (0)"),
        ("avg by (host) (avg_over_time(cpu[5m])) > 1", "avg 300s of cpu@* by [\"host\"] > 1 (1)"),
        ("avg by (host) (cpu) > 1", "avg 60s of cpu@* by [\"host\"] > 1 (1)"),
        ("free / total < 0.1", "last 300s of free@* over last 300s of total@* < 0.1 (0)"),
        (
            "sum(rate(errors{s=\"5\"}[5m])) / sum(rate(requests[5m])) > 0.05",
            "rate 300s of errors@* s=5 over rate 300s of requests@* by [] > 0.05 (0)",
        ),
        ("absent(up{job=\"a\"})", "no up@a (1)"),
        ("absent(up) == 1", "no up@* (1)"),
    ] {
        let expr = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let found = compared(&expr, MINUTE).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(shown(&found), expected, "{text}");
    }
}

#[test]
fn what_no_rule_can_say_is_refused_where_it_stands() {
    for (text, expected) in [
        ("up", "1: expected a comparison with a number, found none"),
        ("5 > 3", "1: expected series to compare, found numbers alone"),
        ("a > b", "5: expected a number to compare with, found series"),
        ("a > bool 5", "5: expected a comparison alone, found bool"),
        ("a > inf", "1: expected a finite number to compare with, found inf"),
        ("a > 1 and b > 2", "7: expected a comparison with a number, found and"),
        ("a > 1 or b > 2", "7: expected a comparison with a number, found or"),
        ("a * 100 > 5", "3: expected no arithmetic beside the comparison, found *: move it to the number"),
        ("a - b > 5", "3: expected a ratio of two metrics, found -"),
        ("a / on(x) b > 5", "5: expected a ratio of series with the same labels, found on"),
        ("rate(a[5m]) / rate(b[1m]) > 1", "15: expected the same range on both sides of /, found another"),
        (
            "sum(rate(a[5m])) / rate(b[5m]) > 1",
            "20: expected the same grouping on both sides of /, found another",
        ),
        ("a offset 5m > 1", "3: expected a selector alone, found offset"),
        ("rate(a[5m] offset 1h) > 1", "12: expected a selector alone, found offset"),
        ("max_over_time(rate(a[5m])[1h:]) > 1", "26: expected a selector alone, found a subquery"),
        ("a[5m] > 1", "1: expected a function of the range, found a range alone"),
        ("{host=\"a\"} > 1", "1: expected a metric name, found a selector without one"),
        ("a{b!=\"c\"} > 1", "3: expected an exact text or a prefix such as b=~\"a.*\", found b!=\"c\""),
        ("a{b=~\"c|d\"} > 1", "3: expected an exact text or a prefix such as b=~\"a.*\", found b=~\"c|d\""),
        ("a{b=~\"c.d\"} > 1", "3: expected an exact text or a prefix such as b=~\"a.*\", found b=~\"c.d\""),
        ("a{b=\"\"} > 1", "3: expected an exact text or a prefix such as b=~\"a.*\", found b=\"\""),
        ("a{b=\"c*\"} > 1", "3: expected an exact text or a prefix such as b=~\"a.*\", found b=\"c*\""),
        ("a{b=\"1\",b=\"2\"} > 1", "9: expected one matcher for b, found another"),
        ("topk(3, a) > 1", "1: expected one of sum, avg, min, max, found topk"),
        (
            "avg(rate(a[5m])) > 1",
            "1: expected sum of sum, count, rate or increase, or min of min, max of max, avg of avg, found avg of rate",
        ),
        ("max(sum(rate(a[5m]))) > 1", "5: expected one aggregation, found another within it"),
        ("quantile_over_time(2, a[5m]) > 1", "20: expected a number from 0 to 1, found another"),
    ] {
        let expr = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let error = compared(&expr, MINUTE).map(|found| shown(&found)).unwrap_err().to_string();
        assert_eq!(error, format!("character {expected}"), "{text}");
    }
    for text in ["irate(a[5m]) > 1", "histogram_quantile(0.9, rate(a[5m])) > 1", "sum(a) > 1"] {
        assert!(compared(&parse(text).unwrap(), MINUTE).is_err(), "{text}");
    }
}
