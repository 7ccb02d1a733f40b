//! The name of the measurement: a text with placeholders, and the way back from a name to its service.

use std::borrow::Cow;

use super::names;
use crate::message::Message;
use crate::sinks::SinkError;

/// A validated `storage.measurement`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Text(String),
    Service,
    Metric,
    Tag(String),
}

impl Template {
    /// Reads `text`.
    pub(super) fn parse(text: &str) -> Result<Self, SinkError> {
        let wrong = |found: &str| {
            SinkError::unusable(format!(
                "storage.measurement: expected text with {{service}}, {{metric}} or {{tag.NAME}}, found {found:?}"
            ))
        };
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(open) = rest.find(['{', '}']) {
            let (before, from) = rest.split_at(open);
            let close = from.find('}').filter(|close| *close > 0).ok_or_else(|| wrong(text))?;
            parts.push(Part::Text(before.into()));
            parts.push(match &from[1..close] {
                "service" => Part::Service,
                "metric" => Part::Metric,
                other => match other.strip_prefix("tag.") {
                    Some(name) if !name.is_empty() => Part::Tag(name.into()),
                    _ => return Err(wrong(other)),
                },
            });
            rest = &from[close + 1..];
        }
        parts.push(Part::Text(rest.into()));
        parts.retain(|part| !matches!(part, Part::Text(text) if text.is_empty()));
        match parts.is_empty() {
            true => Err(wrong(text)),
            false => Ok(Template(parts)),
        }
    }

    /// Whether each metric has a measurement of its own.
    pub(super) fn is_per_metric(&self) -> bool {
        self.0.contains(&Part::Metric)
    }

    /// The measurement of `message`'s `metric`.
    pub(super) fn measurement(&self, message: &Message, metric: &str) -> String {
        let target = &message.target;
        let name: String = self
            .0
            .iter()
            .map(|part| match part {
                Part::Text(text) => text,
                Part::Service => &*target.service,
                Part::Metric => metric,
                Part::Tag(name) => target.tag(name).unwrap_or_default(),
            })
            .collect();
        held_name(&name).into_owned()
    }

    /// What stands before and behind `{service}`, where nothing else varies.
    pub(super) fn around_service(&self) -> Option<(&str, &str)> {
        match self.0.as_slice() {
            [Part::Service] => Some(("", "")),
            [Part::Text(before), Part::Service] => Some((before, "")),
            [Part::Service, Part::Text(behind)] => Some(("", behind)),
            [Part::Text(before), Part::Service, Part::Text(behind)] => Some((before, behind)),
            _ => None,
        }
    }

    /// The measurement of a service, where nothing else varies.
    pub(super) fn of_service(&self, service: &str) -> Option<String> {
        let (before, behind) = self.around_service()?;
        Some(held_name(&format!("{before}{service}{behind}")).into_owned())
    }

    /// The service whose measurement this is.
    pub(super) fn service(&self, measurement: &str) -> Option<String> {
        let (before, behind) = self.around_service()?;
        let name = names::restored(measurement);
        let service = name.strip_prefix(before)?.strip_suffix(behind)?;
        (!service.is_empty()).then(|| service.to_string())
    }
}

fn held_name(name: &str) -> Cow<'_, str> {
    names::held(if name.is_empty() { names::UNNAMED } else { name })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use operators::series::Target;

    use super::*;

    fn of(template: &str) -> String {
        let target = Arc::new(Target::new("org.plantd.Broker", [("host", "h#1")]));
        let message = Message { time_ns: 0, target, metrics: Vec::new() };
        Template::parse(template).unwrap().measurement(&message, "cpu")
    }

    #[test]
    fn placeholders_are_filled_in() {
        for (template, expect) in [
            ("{service}", "org.plantd.Broker"),
            ("{service}_metrics", "org.plantd.Broker_metrics"),
            ("all", "all"),
            ("#{service}-{tag.host}-{tag.none}-{metric}", "＃org.plantd.Broker-h#1--cpu"),
            ("{tag.none}", "unnamed"),
        ] {
            assert_eq!(of(template), expect);
        }
    }

    #[test]
    fn a_service_comes_back_where_nothing_else_varies() {
        for (template, service, measurement) in [
            ("{service}_metrics", "system", "system_metrics"),
            ("{service}", "a b\\", "a b⧵"),
            ("#x_{service}", "s", "＃x_s"),
            ("a{service}b", "ab", "aabb"),
        ] {
            let template = Template::parse(template).unwrap();
            assert_eq!(template.of_service(service).as_deref(), Some(measurement));
            assert_eq!(template.service(measurement).as_deref(), Some(service));
        }
        let template = Template::parse("{service}_metrics").unwrap();
        assert_eq!(template.service("_metrics"), None);
        assert_eq!(template.service("cpu"), None);
        for one_way in ["all", "{metric}", "{service}{service}", "{service}{tag.a}"] {
            assert_eq!(Template::parse(one_way).unwrap().of_service("s"), None, "{one_way}");
        }
    }

    #[test]
    fn other_placeholders_are_refused() {
        for (bad, found) in
            [("", ""), ("{", "{"), ("a}b{", "a}b{"), ("{host}", "host"), ("{tag.}", "tag."), ("{}", "")]
        {
            let error = Template::parse(bad).unwrap_err().to_string();
            assert!(error.ends_with(&format!("found {found:?}")), "{error}");
        }
    }
}
