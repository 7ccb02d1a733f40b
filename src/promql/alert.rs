//! What an alert's expression compares, where a rule of ours can say the same. All else is refused with its place; what
//! is nearly the same is noted.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Expr, Kind, Matcher, Refused, Selector};

/// How far back Prometheus looks for the value of a series that has none just now.
pub const LOOKBACK: Duration = Duration::from_secs(300);

/// Labels that become the service where series come in with Prometheus' labels, and so are no tags.
const SERVICE: &[&str] = &["service", "job"];

/// What is compared with what.
#[derive(Clone, Debug, PartialEq)]
pub struct Compared {
    /// The left side.
    pub what: What,
    /// `>`, `>=`, `<`, `<=`, `==` or `!=`.
    pub operator: String,
    /// The right side.
    pub threshold: f64,
    /// What is not quite the same.
    pub notes: Vec<String>,
}

/// What can be compared.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// Each sample.
    Samples(Series),
    /// A window function.
    Window(Window, Grouping),
    /// One divided by another, over the same window and grouping.
    Ratio(Window, Window, Grouping),
    /// That there are no samples.
    Absence(Series),
}

/// Series by our names: exact texts, or prefixes before `*`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Series {
    /// Metric name.
    pub metric: String,
    /// The service.
    pub service: Option<String>,
    /// Tags.
    pub tags: BTreeMap<String, String>,
}

/// A window function over series.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    /// The series.
    pub series: Series,
    /// Our name of the function.
    pub func: String,
    /// Width.
    pub width: Duration,
}

/// Which series come together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Grouping {
    /// Each is on its own.
    #[default]
    Series,
    /// Those that agree in these.
    By(Vec<String>),
    /// Those that agree in all others.
    Without(Vec<String>),
}

/// What the expression compares; `interval` is how often Prometheus would look.
///
/// # Errors
/// The first part that a rule of ours cannot say.
pub fn compared(expr: &Expr, interval: Duration) -> Result<Compared, Refused> {
    let mut notes = Vec::new();
    if let Some(series) = absence(expr)? {
        notes.push(
            "absent() asks whether any such series is there; this watches each series that was there once"
                .into(),
        );
        return Ok(Compared { what: What::Absence(series), operator: ">".into(), threshold: 0.0, notes });
    }
    let Kind::Binary { operator, at, modifier, left, right } = &expr.kind else {
        return Refused::new(expr.column, "expected a comparison with a number, found none");
    };
    let mirrored = match operator.as_str() {
        ">" => "<",
        ">=" => "<=",
        "<" => ">",
        "<=" => ">=",
        "==" => "==",
        "!=" => "!=",
        _ => return Refused::new(*at, format!("expected a comparison with a number, found {operator}")),
    };
    if let Some((column, word)) = modifier {
        return Refused::new(*column, format!("expected a comparison alone, found {word}"));
    }
    let (side, threshold, operator) = match (constant(left), constant(right)) {
        (None, Some(threshold)) => (left, threshold, operator.as_str()),
        (Some(threshold), None) => (right, threshold, mirrored),
        (None, None) => return Refused::new(right.column, "expected a number to compare with, found series"),
        (Some(_), Some(_)) => {
            return Refused::new(expr.column, "expected series to compare, found numbers alone");
        }
    };
    if !threshold.is_finite() {
        return Refused::new(
            expr.column,
            format!("expected a finite number to compare with, found {threshold}"),
        );
    }
    let what = what(side, interval, &mut notes)?;
    Ok(Compared { what, operator: operator.into(), threshold, notes })
}

/// The value of an expression without series.
fn constant(expr: &Expr) -> Option<f64> {
    match &expr.kind {
        Kind::Number(number) => Some(*number),
        Kind::Negative(inner) => constant(inner).map(|number| -number),
        Kind::Binary { operator, modifier: None, left, right, .. } => {
            let (a, b) = (constant(left)?, constant(right)?);
            match operator.as_str() {
                "+" => Some(a + b),
                "-" => Some(a - b),
                "*" => Some(a * b),
                "/" => Some(a / b),
                "%" => Some(a % b),
                "^" => Some(a.powf(b)),
                _ => None,
            }
        }
        _ => None,
    }
}

/// The series of `absent(...)`, alone or compared with what it always is.
fn absence(expr: &Expr) -> Result<Option<Series>, Refused> {
    let call = match &expr.kind {
        Kind::Binary { operator, left, right, .. }
            if (operator == "==" && constant(right) == Some(1.0))
                || (operator == ">" && constant(right) == Some(0.0)) =>
        {
            left
        }
        _ => expr,
    };
    match &call.kind {
        Kind::Call { name, arguments } if name == "absent" => match arguments.as_slice() {
            [argument] => instant(argument).map(Some),
            _ => Refused::new(call.column, format!("expected one argument, found {}", arguments.len())),
        },
        _ => Ok(None),
    }
}

/// What stands on the side of a comparison that has series.
fn what(expr: &Expr, interval: Duration, notes: &mut Vec<String>) -> Result<What, Refused> {
    if let Kind::Binary { operator, at, modifier, left, right } = &expr.kind {
        if constant(left).is_some() || constant(right).is_some() {
            let text = format!(
                "expected no arithmetic beside the comparison, found {operator}: move it to the number"
            );
            return Refused::new(*at, text);
        }
        if operator != "/" {
            return Refused::new(*at, format!("expected a ratio of two metrics, found {operator}"));
        }
        if let Some((column, word)) = modifier {
            return Refused::new(
                *column,
                format!("expected a ratio of series with the same labels, found {word}"),
            );
        }
        return ratio(left, right, interval, notes);
    }
    if let Kind::Selector(Selector { range: None, .. }) = expr.kind {
        return instant(expr).map(What::Samples);
    }
    let (window, grouping) = window(expr, interval, notes)?;
    Ok(What::Window(window, grouping))
}

fn ratio(left: &Expr, right: &Expr, interval: Duration, notes: &mut Vec<String>) -> Result<What, Refused> {
    // The newest value of each, no older than Prometheus looks back.
    let half = |expr: &Expr, notes: &mut Vec<String>| match &expr.kind {
        Kind::Selector(Selector { range: None, .. }) => {
            Ok((Window { series: instant(expr)?, func: "last".into(), width: LOOKBACK }, Grouping::Series))
        }
        _ => window(expr, interval, notes),
    };
    let (above, grouping) = half(left, notes)?;
    let (below, other) = half(right, notes)?;
    if above.width != below.width {
        return Refused::new(right.column, "expected the same range on both sides of /, found another");
    }
    if grouping != other {
        return Refused::new(right.column, "expected the same grouping on both sides of /, found another");
    }
    Ok(What::Ratio(above, below, grouping))
}

/// A window function, perhaps with an aggregation over series around it.
fn window(expr: &Expr, interval: Duration, notes: &mut Vec<String>) -> Result<(Window, Grouping), Refused> {
    match &expr.kind {
        Kind::Call { name, arguments } => Ok((function(expr, name, arguments)?, Grouping::Series)),
        Kind::Aggregation { name, grouping, arguments } => {
            let [inner] = arguments.as_slice() else {
                return Refused::new(
                    expr.column,
                    format!("expected one of sum, avg, min, max, found {name}"),
                );
            };
            let window = aggregated(expr, name, inner, interval, notes)?;
            Ok((window, group(grouping.as_ref())))
        }
        Kind::Modified(_, at, word) => Refused::new(*at, format!("expected a selector alone, found {word}")),
        Kind::Selector(_) => {
            Refused::new(expr.column, "expected a function of the range, found a range alone")
        }
        _ => {
            Refused::new(expr.column, "expected a metric, a function of its range, or a ratio, found another")
        }
    }
}

/// Series have no label `job` or `instance` of their own here that the service would not say.
fn group(grouping: Option<&(bool, Vec<String>)>) -> Grouping {
    let ours = |labels: &[String]| {
        let mut names: Vec<String> = Vec::new();
        for label in labels {
            let name = if SERVICE.contains(&label.as_str()) { "service" } else { label };
            if !names.iter().any(|known| known == name) {
                names.push(name.to_string());
            }
        }
        names
    };
    match grouping {
        None => Grouping::By(Vec::new()),
        Some((true, labels)) => Grouping::By(ours(labels)),
        Some((false, labels)) => Grouping::Without(ours(labels)),
    }
}

/// Functions of a range that are the same for us.
fn function(expr: &Expr, name: &str, arguments: &[Expr]) -> Result<Window, Refused> {
    let one = |func: &str| match arguments {
        [argument] => ranged(argument, func.to_string()),
        _ => Refused::new(expr.column, format!("expected one argument, found {}", arguments.len())),
    };
    match name {
        "avg_over_time" => one("avg"),
        "min_over_time" => one("min"),
        "max_over_time" => one("max"),
        "sum_over_time" => one("sum"),
        "count_over_time" => one("count"),
        "last_over_time" => one("last"),
        "first_over_time" => one("first"),
        "stddev_over_time" => one("stddev"),
        "rate" => one("rate"),
        "increase" => one("increase"),
        "quantile_over_time" => {
            let [quantile, argument] = arguments else {
                return Refused::new(
                    expr.column,
                    format!("expected two arguments, found {}", arguments.len()),
                );
            };
            match constant(quantile).filter(|quantile| (0.0..=1.0).contains(quantile)) {
                Some(quantile) => ranged(argument, percentile(quantile)),
                None => Refused::new(quantile.column, "expected a number from 0 to 1, found another"),
            }
        }
        _ => {
            let text = format!(
                "expected one of avg_over_time, min_over_time, max_over_time, sum_over_time, count_over_time, \
                 last_over_time, first_over_time, stddev_over_time, quantile_over_time, rate, increase, absent, \
                 found {name}"
            );
            Refused::new(expr.column, text)
        }
    }
}

/// `0.999` -> `p99.9`: the shortest percentage that is that quantile again.
fn percentile(quantile: f64) -> String {
    let exact = quantile * 100.0;
    let short = (0..=12).map(|decimals| format!("{exact:.decimals$}"));
    let mut short = short.filter(|text| text.parse::<f64>().is_ok_and(|percent| percent / 100.0 == quantile));
    format!("p{}", short.next().unwrap_or_else(|| exact.to_string()))
}

/// An aggregation over series that is a window function over all samples of the group.
fn aggregated(
    expr: &Expr,
    name: &str,
    inner: &Expr,
    interval: Duration,
    notes: &mut Vec<String>,
) -> Result<Window, Refused> {
    if let Kind::Selector(Selector { range: None, .. }) = inner.kind {
        if !matches!(name, "avg" | "min" | "max") {
            let text = format!(
                "expected a function of a range within {name}, such as sum(rate(...)), found the newest values, which a \
                 window does not hold apart"
            );
            return Refused::new(inner.column, text);
        }
        notes.push(format!(
            "{name} of all samples within {} in place of the newest of each series",
            crate::settings::units::show_duration(interval)
        ));
        return Ok(Window { series: instant(inner)?, func: name.into(), width: interval });
    }
    let (window, nested) = window(inner, interval, notes)?;
    if nested != Grouping::Series {
        return Refused::new(inner.column, "expected one aggregation, found another within it");
    }
    match (name, window.func.as_str()) {
        ("sum", "sum" | "count" | "rate" | "increase") | ("min", "min") | ("max", "max") => Ok(window),
        ("avg", "avg") => {
            notes.push(
                "the average of all samples of a group, in which series with more samples count for more"
                    .into(),
            );
            Ok(window)
        }
        (_, func) => {
            let text = format!(
                "expected sum of sum, count, rate or increase, or min of min, max of max, avg of avg, found {name} of \
                 {func}"
            );
            Refused::new(expr.column, text)
        }
    }
}

/// A selector with a range.
fn ranged(expr: &Expr, func: String) -> Result<Window, Refused> {
    match &expr.kind {
        Kind::Selector(selector @ Selector { range: Some(width), .. }) => {
            Ok(Window { series: series(expr, selector)?, func, width: *width })
        }
        Kind::Modified(_, at, word) => Refused::new(*at, format!("expected a selector alone, found {word}")),
        _ => Refused::new(expr.column, "expected a selector with a range such as [5m], found another"),
    }
}

/// A selector without a range.
fn instant(expr: &Expr) -> Result<Series, Refused> {
    match &expr.kind {
        Kind::Selector(selector @ Selector { range: None, .. }) => series(expr, selector),
        Kind::Modified(_, at, word) => Refused::new(*at, format!("expected a selector alone, found {word}")),
        _ => Refused::new(expr.column, "expected a selector without a range, found another"),
    }
}

fn series(expr: &Expr, selector: &Selector) -> Result<Series, Refused> {
    if selector.metric.is_empty() {
        return Refused::new(expr.column, "expected a metric name, found a selector without one");
    }
    let mut series = Series { metric: selector.metric.clone(), ..Series::default() };
    let has_service = selector.matchers.iter().any(|matcher| matcher.name == "service");
    for matcher in &selector.matchers {
        let Some(text) = text_of(matcher)? else { continue };
        let is_service = matcher.name == "service" || (matcher.name == "job" && !has_service);
        let before = if is_service {
            series.service.replace(text)
        } else if matcher.name == "__name__" {
            return Refused::new(matcher.column, "expected one metric name, found another matcher for it");
        } else {
            series.tags.insert(matcher.name.clone(), text)
        };
        if before.is_some() {
            return Refused::new(
                matcher.column,
                format!("expected one matcher for {}, found another", matcher.name),
            );
        }
    }
    Ok(series)
}

/// The exact text, or the prefix and `*`, that a matcher asks for; `None` where it asks for nothing.
fn text_of(matcher: &Matcher) -> Result<Option<String>, Refused> {
    let Matcher { column, name, operator, value } = matcher;
    let refused = || {
        let text = format!(
            "expected an exact text or a prefix such as {name}=~\"a.*\", found {name}{operator}{value:?}"
        );
        Refused::new(*column, text)
    };
    let exact = |text: &str| match text {
        // Absent, for Prometheus.
        "" => refused(),
        _ if text.ends_with('*') => refused(),
        _ => Ok(Some(text.to_string())),
    };
    match operator.as_str() {
        "=" => exact(value),
        "=~" => match (value.as_str(), value.strip_suffix(".*")) {
            (".*", _) => Ok(None),
            (".+", _) => Ok(Some("*".into())),
            (_, Some(prefix)) => match literal(prefix) {
                Some(prefix) => Ok(Some(format!("{prefix}*"))),
                None => refused(),
            },
            (whole, None) => match literal(whole) {
                Some(text) => exact(&text),
                None => refused(),
            },
        },
        _ => refused(),
    }
}

/// What a regular expression matches, if that is one text alone.
fn literal(pattern: &str) -> Option<String> {
    let mut text = String::new();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => text.push(chars.next().filter(|c| !c.is_ascii_alphanumeric())?),
            // A dot stands for any character; in names it is mostly meant as itself, but that is not what is asked.
            '.' | '+' | '*' | '?' | '(' | ')' | '[' | ']' | '{' | '}' | '|' | '^' | '$' => return None,
            _ => text.push(c),
        }
    }
    Some(text)
}

#[cfg(test)]
#[path = "alert_tests.rs"]
mod tests;
