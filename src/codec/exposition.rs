//! Reads the Prometheus text format 0.0.4 and OpenMetrics 1.0: bytes -> samples, line by line.
//!
//! Grammar: Prometheus, "Exposition formats", text format 0.0.4 (with quoted UTF-8 names as of
//! Prometheus 3), and OpenMetrics 1.0.0 (RFC-style ABNF in its specification). Histograms and
//! summaries come as the plain series that they are written as; exemplars, `# HELP`, `# TYPE` and
//! `# UNIT` are passed over. A line that cannot be read is an error with its number, and its neighbours pass.

use std::borrow::Cow;

use operators::sample::TimeNs;

/// In which of the two formats a text is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextFormat {
    /// Prometheus text 0.0.4: times in milliseconds.
    Prometheus,
    /// OpenMetrics 1.0: times in seconds, exemplars, `# EOF` at the end.
    OpenMetrics,
}

impl TextFormat {
    /// The format that a `Content-Type` announces: OpenMetrics by name, else Prometheus text.
    pub fn of_content_type(content_type: Option<&str>) -> Self {
        let media = content_type.and_then(|c| c.split(';').next()).unwrap_or_default();
        if media.trim().eq_ignore_ascii_case("application/openmetrics-text") {
            TextFormat::OpenMetrics
        } else {
            TextFormat::Prometheus
        }
    }

    /// The format of a text without a `Content-Type`: OpenMetrics when it ends with `# EOF`.
    pub fn of_text(text: &[u8]) -> Self {
        let last = text.trim_ascii_end().rsplit(|byte| *byte == b'\n').next();
        if last == Some(b"# EOF") { TextFormat::OpenMetrics } else { TextFormat::Prometheus }
    }
}

/// One line with a value.
#[derive(Clone, Debug, PartialEq)]
pub struct TextSample<'a> {
    /// Metric name as written, with suffixes such as `_total` or `_bucket`.
    pub name: Cow<'a, str>,
    /// Labels in the order they were written; names are unique, values may be empty.
    pub labels: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    /// The value; always finite where [`read`] gives it.
    pub value: f64,
    /// Event time, where the line tells one.
    pub time_ns: Option<TimeNs>,
}

/// Why a line was turned away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineError {
    /// Line number, from 1.
    pub line: usize,
    /// What was expected and what was found.
    pub reason: String,
}

/// What became of a text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Samples handed over.
    pub samples: u64,
    /// Lines passed over because their value is `NaN` or an infinity.
    pub not_finite: u64,
    /// Lines turned away.
    pub rejected: u64,
    /// The first [`ERRORS_MAX`] reasons.
    pub errors: Vec<LineError>,
}

/// How many reasons an [`Outcome`] keeps.
pub const ERRORS_MAX: usize = 16;
/// Labels that a line may have.
pub const LABELS_MAX: usize = 128;

/// Reads `text` and hands each sample to `each`, in order. Never fails as a whole.
pub fn read(text: &[u8], format: TextFormat, mut each: impl FnMut(TextSample<'_>)) -> Outcome {
    let mut outcome = Outcome::default();
    let mut lines = 0;
    let mut ended = false;
    for (at, line) in text.split(|byte| *byte == b'\n').enumerate() {
        if line.is_empty() {
            continue;
        }
        lines = at + 1;
        let read = if ended { Err("expected nothing after '# EOF'".into()) } else { read_line(line, format) };
        match read {
            Ok(Line::Sample(sample)) if sample.value.is_finite() => {
                outcome.samples += 1;
                each(sample);
            }
            Ok(Line::Sample(_)) => outcome.not_finite += 1,
            Ok(Line::End) => ended = true,
            Ok(Line::Comment) => {}
            Err(reason) => outcome.reject(lines, reason),
        }
    }
    if format == TextFormat::OpenMetrics && !ended {
        outcome.reject(lines, "expected '# EOF' at the end, found the text cut short".into());
    }
    outcome
}

impl Outcome {
    fn reject(&mut self, line: usize, reason: String) {
        self.rejected += 1;
        if self.errors.len() < ERRORS_MAX {
            self.errors.push(LineError { line, reason });
        }
    }
}

/// What a line is.
pub(super) enum Line<'a> {
    /// A sample, its value finite or not.
    Sample(TextSample<'a>),
    /// A comment, or nothing.
    Comment,
    /// The end of OpenMetrics.
    End,
}

/// Reads a line, or says why it can't be read.
pub(super) fn read_line(line: &[u8], format: TextFormat) -> Result<Line<'_>, String> {
    let line = std::str::from_utf8(line)
        .map_err(|e| format!("expected UTF-8, found another byte at byte {}", e.valid_up_to() + 1))?;
    let line = line.strip_suffix('\r').unwrap_or(line).trim_end_matches([' ', '\t']);
    if line == "# EOF" && format == TextFormat::OpenMetrics {
        return Ok(Line::End);
    }
    let mut rest = Rest { line, at: 0 };
    rest.skip_blanks();
    if matches!(rest.next(), None | Some(b'#')) {
        return Ok(Line::Comment);
    }
    let sample = read_sample(&mut rest, format)?;
    Ok(Line::Sample(sample))
}

/// What of a line is still to be read.
struct Rest<'a> {
    line: &'a str,
    at: usize,
}

impl<'a> Rest<'a> {
    fn text(&self) -> &'a str {
        &self.line[self.at..]
    }

    fn next(&self) -> Option<u8> {
        self.line.as_bytes().get(self.at).copied()
    }

    fn skip_blanks(&mut self) {
        self.take_while(|byte| byte == b' ' || byte == b'\t');
    }

    /// Takes `byte` (ASCII) if it comes next.
    fn take(&mut self, byte: u8) -> bool {
        let found = self.next() == Some(byte);
        self.at += usize::from(found);
        found
    }

    /// Takes ASCII bytes as long as `wanted` holds, which must be false for every byte above 127.
    fn take_while(&mut self, wanted: impl Fn(u8) -> bool) -> &'a str {
        let rest = self.text();
        let len = rest.bytes().position(|byte| !byte.is_ascii() || !wanted(byte)).unwrap_or(rest.len());
        self.at += len;
        &rest[..len]
    }

    /// Takes what stands up to the next blank or the end.
    fn token(&mut self) -> &'a str {
        let rest = self.text();
        let len = rest.find([' ', '\t']).unwrap_or(rest.len());
        self.at += len;
        &rest[..len]
    }

    fn expected<T>(&self, what: &str) -> Result<T, String> {
        let byte = self.at + 1;
        match self.text().chars().next() {
            Some(found) => Err(format!("byte {byte}: expected {what}, found {found:?}")),
            None => Err(format!("byte {byte}: expected {what}, found the end of the line")),
        }
    }
}

fn read_sample<'a>(rest: &mut Rest<'a>, format: TextFormat) -> Result<TextSample<'a>, String> {
    let start = rest.at;
    let name = rest.take_while(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b':');
    let mut name = (!name.is_empty()).then_some(Cow::Borrowed(name));
    if name.as_ref().is_some_and(|n| n.as_bytes()[0].is_ascii_digit()) {
        rest.at = start;
        return rest.expected("a metric name");
    }
    rest.skip_blanks();
    let mut labels = Vec::new();
    if rest.take(b'{') {
        read_labels(rest, &mut name, &mut labels)?;
    }
    let Some(name) = name else { return rest.expected("a metric name") };
    let (value, time_ns) = read_observed(rest, format)?;
    Ok(TextSample { name, labels, value, time_ns })
}

/// Reads what follows a series' name and labels: a value and perhaps a time.
pub(super) fn read_rest(line: &str, format: TextFormat) -> Result<(f64, Option<TimeNs>), String> {
    let line = line.strip_suffix('\r').unwrap_or(line).trim_end_matches([' ', '\t']);
    read_observed(&mut Rest { line, at: 0 }, format)
}

fn read_observed(rest: &mut Rest<'_>, format: TextFormat) -> Result<(f64, Option<TimeNs>), String> {
    rest.skip_blanks();
    let value = read_value(rest)?;
    rest.skip_blanks();
    let time_ns = match rest.next() {
        None | Some(b'#') => None,
        Some(_) => Some(read_time(rest, format)?),
    };
    rest.skip_blanks();
    let exemplar = format == TextFormat::OpenMetrics && rest.text().starts_with("# {");
    if rest.next().is_some() && !exemplar {
        return rest.expected("the end of the line");
    }
    Ok((value, time_ns))
}

type Labels<'a> = Vec<(Cow<'a, str>, Cow<'a, str>)>;

/// Reads up to and with the closing brace; a quoted text without `=` is the metric name.
fn read_labels<'a>(
    rest: &mut Rest<'a>,
    name: &mut Option<Cow<'a, str>>,
    labels: &mut Labels<'a>,
) -> Result<(), String> {
    loop {
        rest.skip_blanks();
        if rest.take(b'}') {
            return Ok(());
        }
        let quoted = rest.next() == Some(b'"');
        let label = if quoted { read_quoted(rest)? } else { read_label_name(rest)? };
        rest.skip_blanks();
        if rest.take(b'=') {
            rest.skip_blanks();
            let value = read_quoted(rest)?;
            if labels.iter().any(|(n, _)| *n == label) {
                return Err(format!("expected each label once, found '{label}' twice"));
            }
            if labels.len() == LABELS_MAX {
                return Err(format!("expected at most {LABELS_MAX} labels, found more"));
            }
            labels.push((label, value));
        } else if quoted && name.is_none() && !label.is_empty() {
            *name = Some(label);
        } else {
            return rest.expected("'='");
        }
        rest.skip_blanks();
        if !rest.take(b',') && rest.next() != Some(b'}') {
            return rest.expected("',' or '}'");
        }
    }
}

fn read_label_name<'a>(rest: &mut Rest<'a>) -> Result<Cow<'a, str>, String> {
    let starts = rest.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    if !starts {
        return rest.expected("a label name or '}'");
    }
    Ok(Cow::Borrowed(rest.take_while(|b| b.is_ascii_alphanumeric() || b == b'_')))
}

/// Reads a text in double quotes, with the escapes `\\`, `\"` and `\n`; another escaped character
/// stands for both, as Prometheus reads it.
fn read_quoted<'a>(rest: &mut Rest<'a>) -> Result<Cow<'a, str>, String> {
    if !rest.take(b'"') {
        return rest.expected("'\"'");
    }
    let text = rest.text();
    let Some(plain) = text.find(['"', '\\']) else {
        rest.at = rest.line.len();
        return rest.expected("'\"'");
    };
    if text.as_bytes()[plain] == b'"' {
        rest.at += plain + 1;
        return Ok(Cow::Borrowed(&text[..plain]));
    }
    let mut read = String::with_capacity(plain + 16);
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => {
                rest.at += at + 1;
                return Ok(Cow::Owned(read));
            }
            '\\' => match chars.next() {
                Some((_, 'n')) => read.push('\n'),
                Some((_, escaped @ ('"' | '\\'))) => read.push(escaped),
                Some((_, other)) => read.extend(['\\', other]),
                None => break,
            },
            _ => read.push(c),
        }
    }
    rest.at = rest.line.len();
    rest.expected("'\"'")
}

/// Decimal numbers, `NaN`, `Inf`, `+Inf` and `-Inf` in any case.
fn read_value(rest: &mut Rest<'_>) -> Result<f64, String> {
    let byte = rest.at + 1;
    let token = rest.token();
    let number = token.parse::<f64>();
    number.map_err(|_| format!("byte {byte}: expected a number, found {}", shown(token)))
}

/// Milliseconds as an integer, or in OpenMetrics seconds with a fraction, read to the nanosecond.
fn read_time(rest: &mut Rest<'_>, format: TextFormat) -> Result<TimeNs, String> {
    let byte = rest.at + 1;
    let token = rest.token();
    let time_ns = match format {
        TextFormat::Prometheus => token.parse::<i64>().ok().and_then(|ms| ms.checked_mul(1_000_000)),
        TextFormat::OpenMetrics => seconds_to_ns(token),
    };
    let unit = if format == TextFormat::Prometheus { "milliseconds" } else { "seconds" };
    time_ns.ok_or_else(|| format!("byte {byte}: expected a time in {unit}, found {}", shown(token)))
}

/// Exact for plain decimals: `1704110400.123456789` would lose its last digits as an `f64`.
fn seconds_to_ns(token: &str) -> Option<TimeNs> {
    let (sign, digits) = match token.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, token.strip_prefix('+').unwrap_or(token)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let plain = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if !whole.is_empty() && plain(whole) && plain(fraction) {
        let nano = format!("{:0<9}", fraction.get(..9).unwrap_or(fraction)).parse::<i64>().ok()?;
        return whole.parse::<i64>().ok()?.checked_mul(1_000_000_000)?.checked_add(nano)?.checked_mul(sign);
    }
    let ns = token.parse::<f64>().ok()? * 1e9;
    (ns.abs() < 9.2e18).then_some(ns as i64)
}

/// The beginning of a token, for an error text.
fn shown(token: &str) -> String {
    if token.is_empty() {
        return "the end of the line".into();
    }
    let mut start: String = token.chars().take(32).collect();
    if start.len() < token.len() {
        start.push_str("..");
    }
    format!("{start:?}")
}

#[cfg(test)]
#[path = "exposition_tests.rs"]
mod tests;
