//! Kinds of values: how each is read from what was written, and shown again. Every key of a section has one.
//!
//! A kind never stops at what is wrong: it reports it, leaves the value as it was, and goes on.

use std::fmt::Display;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::time::Duration;

use super::report::{Report, closest};
use super::section::Key;
use super::units;
use super::words::{HttpUrl, MASK, Secret, Word};
use super::written::{Node, Value};

/// How values of `T` are read and shown.
pub(super) trait Kind<T> {
    /// Reads `node`, given for `key`, into `into`.
    fn read(&self, node: &Node, into: &mut T, key: &str, report: &mut Report);

    /// Shows a value so that reading it gives the same one.
    fn show(&self, value: &T) -> Shown;

    /// Whether the variable `..._FILE` may name a file that holds the value.
    fn may_be_secret(&self) -> bool {
        false
    }

    /// Adds the keys at and below `key`.
    fn keys(&self, key: &str, keys: &mut Vec<Key>) {
        keys.push(Key { path: key.to_string(), may_be_secret: self.may_be_secret() });
    }
}

/// A value as it is printed.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Shown {
    Null,
    /// Printed as it is.
    Word(String),
    /// Printed in quotes where YAML would read something else.
    Text(String),
    List(Vec<Shown>),
    Map(Vec<(String, Shown)>),
}

/// A kind whose values are scalars: a parser, a printer, and words for what is expected.
pub(super) struct Scalar<T, E> {
    pub(super) parse: fn(&str, &Limits) -> Option<T>,
    show: fn(&T) -> Shown,
    pub(super) expected: E,
    pub(super) limits: Limits,
    /// Whether numbers and booleans must stand in quotes, must not, or may.
    quotes: Quotes,
}

/// Inclusive bounds of counts, sizes and durations (in nanoseconds).
#[derive(Clone, Copy)]
pub(super) struct Limits {
    min: u64,
    max: u64,
}

#[derive(Clone, Copy, PartialEq)]
enum Quotes {
    /// A text: what looks like another type must be quoted.
    Text,
    /// A number or boolean: must not be quoted.
    Typed,
    /// A text of its own form, quoted or not.
    Either,
}

const NO_LIMITS: Limits = Limits { min: 0, max: u64::MAX };

impl<T, E: Display> Kind<T> for Scalar<T, E> {
    fn read(&self, node: &Node, into: &mut T, key: &str, report: &mut Report) {
        let text = match self.quotes {
            Quotes::Typed => node.unquoted(),
            Quotes::Text | Quotes::Either => node.text(),
        };
        if self.quotes == Quotes::Text && looks_typed(node) {
            let text = format!("expected {}, found {node}; in quotes it is a text", self.expected);
            return report.problem(&node.origin, key, text);
        }
        match text.and_then(|text| (self.parse)(text, &self.limits)) {
            Some(value) => *into = value,
            None => report.problem(&node.origin, key, format!("expected {}, found {node}", self.expected)),
        }
    }

    fn show(&self, value: &T) -> Shown {
        (self.show)(value)
    }
}

/// Whether YAML takes a plain scalar for a number or a boolean.
fn looks_typed(node: &Node) -> bool {
    match &node.value {
        Value::Plain(text) => is_bool(text).is_some() || text.parse::<f64>().is_ok(),
        _ => false,
    }
}

fn is_bool(text: &str) -> Option<bool> {
    match text {
        "true" | "True" | "TRUE" => Some(true),
        "false" | "False" | "FALSE" => Some(false),
        _ => None,
    }
}

/// `true` or `false`.
pub(super) const BOOL: Scalar<bool, &str> = Scalar {
    parse: |text, _| is_bool(text),
    show: |value| Shown::Word(value.to_string()),
    expected: "true or false",
    limits: NO_LIMITS,
    quotes: Quotes::Typed,
};

/// A text that is not empty.
pub(super) const TEXT: Scalar<String, &str> = text("a text");

/// A text that is not empty, with what it says as words.
pub(super) const fn text(expected: &'static str) -> Scalar<String, &'static str> {
    Scalar {
        parse: |text, _| (!text.is_empty()).then(|| text.to_string()),
        show: |value| Shown::Text(value.clone()),
        expected,
        limits: NO_LIMITS,
        quotes: Quotes::Text,
    }
}

/// A finite number.
pub(super) const NUMBER: Scalar<f64, &str> = Scalar {
    parse: |text, _| text.parse().ok().filter(|number: &f64| number.is_finite()),
    show: |value| Shown::Word(format!("{value:?}")),
    expected: "a finite number",
    limits: NO_LIMITS,
    quotes: Quotes::Typed,
};

/// A whole number from `min` to `max`.
pub(super) fn count(min: u64, max: u64) -> Scalar<usize, String> {
    Scalar {
        parse: |text, limits| {
            let count = text.parse::<u64>().ok().filter(|count| (limits.min..=limits.max).contains(count))?;
            usize::try_from(count).ok()
        },
        show: |value| Shown::Word(value.to_string()),
        expected: format!("a whole number from {min} to {max}"),
        limits: Limits { min, max },
        quotes: Quotes::Typed,
    }
}

/// A size of `min` to `max` bytes.
pub(super) fn size(min: u64, max: u64) -> Scalar<u64, String> {
    let (least, most) = (units::show_size(min), units::show_size(max));
    Scalar {
        parse: |text, limits| {
            units::parse_size(text).filter(|bytes| (limits.min..=limits.max).contains(bytes))
        },
        show: |value| Shown::Word(units::show_size(*value)),
        expected: format!("a size from {least} to {most}, such as 64MiB or 2.5GB"),
        limits: Limits { min, max },
        quotes: Quotes::Either,
    }
}

/// A duration from `min` to `max`, both written as in the configuration.
pub(super) fn duration(min: &str, max: &str) -> Scalar<Duration, String> {
    let limit_ns = |text| units::parse_duration(text).map_or(0, |limit| limit.as_nanos() as u64);
    Scalar {
        parse: |text, limits| {
            let in_range = |duration: &Duration| {
                u64::try_from(duration.as_nanos()).is_ok_and(|ns| (limits.min..=limits.max).contains(&ns))
            };
            units::parse_duration(text).filter(in_range)
        },
        show: |value| Shown::Word(units::show_duration(*value)),
        expected: format!("a duration from {min} to {max}, such as 10s, 5m or 1h30m"),
        limits: Limits { min: limit_ns(min), max: limit_ns(max) },
        quotes: Quotes::Either,
    }
}

/// A kind of its own form, by its parser and printer.
pub(super) const fn form<T>(
    parse: fn(&str, &Limits) -> Option<T>,
    show: fn(&T) -> Shown,
    expected: &'static str,
) -> Scalar<T, &'static str> {
    Scalar { parse, show, expected, limits: NO_LIMITS, quotes: Quotes::Either }
}

/// The same with words for what is expected that have to be put together first.
pub(super) fn scalar<T>(
    parse: fn(&str, &Limits) -> Option<T>,
    show: fn(&T) -> Shown,
    expected: String,
) -> Scalar<T, String> {
    Scalar { parse, show, expected, limits: NO_LIMITS, quotes: Quotes::Either }
}

/// `IP:PORT`; `localhost:PORT` is 127.0.0.1, `:PORT` every address of the machine.
pub(super) const LISTEN: Scalar<SocketAddr, &str> = form(
    |text, _| match text.rsplit_once(':') {
        Some(("localhost", port)) => Some(SocketAddr::from(([127, 0, 0, 1], port.parse().ok()?))),
        Some(("" | "*", port)) => Some(SocketAddr::from(([0, 0, 0, 0], port.parse().ok()?))),
        _ => text.parse().ok(),
    },
    |value| Shown::Text(value.to_string()),
    "an address to listen on such as 127.0.0.1:8080, localhost:8080 or :8080",
);

/// `tcp://HOST:PORT`, czmq's `>` (connect) or `@` (bind) before it allowed.
pub(super) const ENDPOINT: Scalar<String, &str> = form(
    |text, _| {
        let address = text.strip_prefix(['>', '@']).unwrap_or(text);
        let (host, port) = address.strip_prefix("tcp://")?.rsplit_once(':')?;
        let host_fits = !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || c == '/');
        let port_fits = port == "*" || port.parse::<u16>().is_ok();
        (host_fits && port_fits).then(|| text.to_string())
    },
    |value| Shown::Text(value.clone()),
    "an endpoint such as tcp://localhost:11001",
);

/// One of the words of a choice.
pub(super) struct Choice<T>(PhantomData<T>);

/// One of the words of `T`.
pub(super) const fn choice<T>() -> Choice<T> {
    Choice(PhantomData)
}

impl<T: Word> Kind<T> for Choice<T> {
    fn read(&self, node: &Node, into: &mut T, key: &str, report: &mut Report) {
        match node.text().and_then(T::parse) {
            Some(value) => *into = value,
            None => report.problem(&node.origin, key, expected_word(node, T::ALL)),
        }
    }

    fn show(&self, value: &T) -> Shown {
        Shown::Text(value.spelled().to_string())
    }
}

fn expected_word(node: &Node, words: &[&str]) -> String {
    let near = node.text().and_then(|text| closest(text, words.iter().copied()));
    let near = near.map(|word| format!("; did you mean {word}?")).unwrap_or_default();
    format!("expected one of {}, found {node}{near}", words.join(", "))
}

/// One of these names.
pub(super) struct OneOf(pub(super) &'static [&'static str]);

impl Kind<String> for OneOf {
    fn read(&self, node: &Node, into: &mut String, key: &str, report: &mut Report) {
        match node.text().filter(|text| self.0.contains(text)) {
            Some(text) => *into = text.to_string(),
            None => report.problem(&node.origin, key, expected_word(node, self.0)),
        }
    }

    fn show(&self, value: &String) -> Shown {
        Shown::Text(value.clone())
    }
}

/// An `http://` or `https://` address. What is wrong with it is said without showing it.
pub(super) struct Url;

impl Kind<HttpUrl> for Url {
    fn read(&self, node: &Node, into: &mut HttpUrl, key: &str, report: &mut Report) {
        let found = match node.text().map(HttpUrl::parse) {
            Some(Ok(url)) => return *into = url,
            Some(Err(why)) => format!("one with {why}"),
            None => node.to_string(),
        };
        let text = format!("expected an address such as http://localhost:8086, found {found}");
        report.problem(&node.origin, key, text);
    }

    fn show(&self, value: &HttpUrl) -> Shown {
        Shown::Text(value.masked())
    }

    fn may_be_secret(&self) -> bool {
        true
    }
}

/// A text that is never shown.
pub(super) struct Hidden;

impl Kind<Secret> for Hidden {
    fn read(&self, node: &Node, into: &mut Secret, key: &str, report: &mut Report) {
        match node.text() {
            Some(text) => *into = Secret::new(text),
            None => report.problem(&node.origin, key, format!("expected a text, found {node}")),
        }
    }

    fn show(&self, _: &Secret) -> Shown {
        Shown::Text(MASK.into())
    }

    fn may_be_secret(&self) -> bool {
        true
    }
}
