//! Prometheus text 0.0.4 and OpenMetrics 1.0 that is pushed: line by line, by the grammar of [`super::exposition`].
//!
//! A line's series is recognised by the very text before its value; then only the value and the time are read. What
//! its labels make it, says [`super::labels`]. A line without a time was observed when it arrived.

use std::borrow::Cow;

use operators::sample::MS;

use super::Codec;
use super::decoder::{Decoder, REJECTS_TOLD_MAX, ShapeId};
use super::exposition::{Line, TextFormat, TextSample, read_line, read_rest};
use super::labels::{Called, NAME, called};
use super::number;
use super::reject::{Malformed, Reason};

/// A text in one of the two formats.
pub struct Text(TextFormat);

/// Prometheus text 0.0.4.
pub static PROMETHEUS: Text = Text(TextFormat::Prometheus);
/// OpenMetrics 1.0.
pub static OPEN_METRICS: Text = Text(TextFormat::OpenMetrics);

impl Codec for Text {
    fn name(&self) -> &'static str {
        match self.0 {
            TextFormat::Prometheus => "prometheus_text",
            TextFormat::OpenMetrics => "openmetrics",
        }
    }

    fn decode(&self, body: &[u8], decoder: &mut Decoder) -> Result<(), Malformed> {
        let mut ended = false;
        let mut rest = body;
        let mut at = 0;
        while !rest.is_empty() {
            if !ended && let Some(len) = take_guessed(decoder, rest, self.0) {
                rest = &rest[len..];
                at += 1;
                continue;
            }
            let end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
            let (line, behind) = rest.split_at(end);
            rest = behind.get(1..).unwrap_or_default();
            at += 1;
            if line.is_empty() {
                continue;
            }
            if ended {
                refuse(decoder, None, Reason::Malformed, at, "expected nothing after '# EOF'".into());
                // Whatever it is that follows, it is one mistake.
                return Ok(());
            }
            if !take_known(decoder, line, self.0) {
                ended = take_new(decoder, line, at, self.0);
            }
        }
        if self.0 == TextFormat::OpenMetrics && !ended {
            let detail = "expected '# EOF' at the end, found the text cut short".into();
            return Err(Malformed { byte: body.len(), detail });
        }
        Ok(())
    }
}

/// Takes a line that has the series that came next last time, a plain number and perhaps a time. How long it was with
/// its end; `None`, and nothing was taken, if it is not of that form.
#[inline]
fn take_guessed(decoder: &mut Decoder, rest: &[u8], format: TextFormat) -> Option<usize> {
    let shape = decoder.shapes.guess()?;
    let spelled = decoder.shapes.spelling(shape).tags;
    let spelled_len = spelled.len();
    let observed = rest.strip_prefix(spelled)?;
    if spelled.is_empty() || observed.first() != Some(&b' ') {
        return None;
    }
    let (value, mut end) = number::plain(observed, 1)?;
    let mut time_ns = decoder.arrival_ns;
    if format == TextFormat::Prometheus && observed.get(end) == Some(&b' ') {
        let digits = observed[end + 1..].iter().take(14).take_while(|byte| byte.is_ascii_digit()).count();
        if !(1..14).contains(&digits) {
            return None;
        }
        let read = &observed[end + 1..][..digits];
        time_ns = read.iter().fold(0, |ms, digit| ms * 10 + i64::from(digit - b'0')) * MS;
        end += 1 + digits;
    }
    let is_end = matches!(observed.get(end), None | Some(b'\n'));
    if !is_end || !decoder.push_good(decoder.only_series(shape)?, time_ns, value) {
        return None;
    }
    decoder.messages += 1;
    decoder.shapes.came(shape);
    Some((spelled_len + end + 1).min(rest.len()))
}

/// Takes a line whose series was seen before; whether it was one, with a value that counts.
#[inline]
fn take_known(decoder: &mut Decoder, line: &[u8], format: TextFormat) -> bool {
    let spelled = spelled_len(line);
    let Some(shape) = decoder.known_shape(b"", &line[..spelled]) else { return false };
    let Some(series) = decoder.only_series(shape) else { return false };
    let rest = std::str::from_utf8(&line[spelled..]).ok();
    let Some(Ok((value, time_ns))) = rest.map(|rest| read_rest(rest, format)) else { return false };
    if !value.is_finite() {
        return false;
    }
    decoder.messages += 1;
    decoder.shapes.came(shape);
    let time_ns = time_ns.unwrap_or(decoder.arrival_ns);
    if decoder.accept_time(time_ns) {
        decoder.push_known(series, "", time_ns, value);
    }
    true
}

/// Bytes of a line that spell its series: its name, and its labels up to the brace that closes them.
#[inline]
fn spelled_len(line: &[u8]) -> usize {
    let after = |from: usize, is: fn(&u8) -> bool| {
        let rest = &line[from..];
        from + rest.iter().position(|byte| !is(byte)).unwrap_or(rest.len())
    };
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let name_end =
        after(after(0, is_blank), |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':'));
    let mut at = after(name_end, is_blank);
    if line.get(at) != Some(&b'{') {
        return name_end;
    }
    let mut quoted = false;
    while at < line.len() {
        match line[at] {
            b'\\' if quoted => at += 1,
            b'"' => quoted = !quoted,
            b'}' if !quoted => return at + 1,
            _ => {}
        }
        at += 1;
    }
    line.len()
}

/// Takes any line by the grammar; whether it ends the text.
#[cold]
fn take_new(decoder: &mut Decoder, line: &[u8], at: usize, format: TextFormat) -> bool {
    match read_line(line, format) {
        Ok(Line::Sample(sample)) => {
            decoder.messages += 1;
            take_sample(decoder, &line[..spelled_len(line)], &sample, at);
        }
        Ok(Line::End) => return true,
        Ok(Line::Comment) => {}
        Err(why) => {
            decoder.messages += 1;
            refuse(decoder, None, Reason::Malformed, at, why);
        }
    }
    false
}

fn take_sample(decoder: &mut Decoder, spelled: &[u8], sample: &TextSample<'_>, at: usize) {
    let (shape, metric) = match learn(decoder, spelled, sample) {
        Ok(learnt) => learnt,
        Err((reason, found)) => return refuse(decoder, Some(&sample.name), reason, at, found),
    };
    if !sample.value.is_finite() {
        return refuse(decoder, Some(&metric), Reason::NotFinite, at, sample.value.to_string());
    }
    let time_ns = sample.time_ns.unwrap_or(decoder.arrival_ns);
    if decoder.accept_time(time_ns) {
        decoder.push(shape, 0, &metric, time_ns, sample.value);
    }
}

/// Longest spelling of a series that is remembered, in bytes.
const SPELLED_BYTES_MAX: usize = 64 << 10;

fn learn<'a>(
    decoder: &mut Decoder,
    spelled: &[u8],
    sample: &'a TextSample<'_>,
) -> Result<(ShapeId, Cow<'a, str>), (Reason, String)> {
    if spelled.len() > SPELLED_BYTES_MAX {
        return Err((Reason::TagTooLong, format!("{} bytes of labels", spelled.len())));
    }
    let name = std::iter::once((NAME, &*sample.name));
    let labels: Vec<(&str, &str)> =
        name.chain(sample.labels.iter().map(|(name, value)| (&**name, &**value))).collect();
    let Called { service, metric, tags } = called(&labels)?;
    let tags: Vec<(&str, &str)> = tags.iter().map(|(name, value)| (name.as_ref(), *value)).collect();
    let shape = match decoder.known_shape(b"", spelled) {
        Some(shape) => shape,
        None => decoder.learn_shape(b"", spelled, service, &tags)?,
    };
    decoder.shapes.came(shape);
    Ok((shape, metric))
}

/// Turns the line at `at`, counted from 1, away.
#[cold]
fn refuse(decoder: &mut Decoder, metric: Option<&str>, reason: Reason, at: usize, found: String) {
    if decoder.rejects.len() >= REJECTS_TOLD_MAX {
        // The rest would not be told.
        return decoder.reject(None, reason, "");
    }
    decoder.reject(metric, reason, format!("line {at}: {found}"));
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use operators::catalog::{Catalog, CatalogLimits};
    use operators::sample::SECOND;
    use proptest::prelude::*;

    use super::super::decoder::Limits;
    use super::*;

    const NOW_NS: i64 = 1_704_110_400 * SECOND;

    struct World {
        catalog: Arc<Catalog>,
        decoder: Decoder,
    }

    impl World {
        fn new() -> World {
            let catalog = Arc::new(Catalog::new(CatalogLimits::default()));
            World { decoder: Decoder::new(catalog.clone(), Limits::default()), catalog }
        }

        /// Samples as `service metric tags value @ms`, rejects, and where the text is wrong as a whole.
        fn read(&mut self, codec: &Text, text: &[u8]) -> (Vec<String>, Vec<String>, Option<Malformed>) {
            self.decoder.begin(NOW_NS);
            let malformed = codec.decode(text, &mut self.decoder).err();
            let samples = self.decoder.samples.iter().map(|sample| {
                let key = self.catalog.key(sample.series).expect("a series of the catalog");
                let tags = key.target.tags.iter().map(|(name, value)| format!(" {name}={value}"));
                let tags: String = tags.collect();
                let (service, metric, at) = (&key.target.service, &key.metric, sample.time_ns / MS);
                format!("{service} {metric}{tags} {:?} @{at}", sample.value)
            });
            let rejects = self.decoder.rejects.iter();
            let rejects = rejects.map(|r| format!("{} {}: {}", r.index, r.reason.word(), r.found));
            (samples.collect(), rejects.collect(), malformed)
        }
    }

    #[test]
    fn lines_are_samples_when_they_are_new_and_when_they_are_known() {
        let text = br#"# HELP http_requests_total Requests.
# TYPE http_requests_total counter
http_requests_total{method="post",code="200"} 1027 1704110399000
http_requests_total{code="}\"{",service="s",job="j"} 3
up 1

{"a metric", b="1"} -2.5e3 -1
spaced 6
	spaced { a = "1" } 7
"#;
        let expected = [
            "prometheus http_requests_total code=200 method=post 1027.0 @1704110399000",
            "s http_requests_total code=}\"{ job=j 3.0 @1704110400000",
            "prometheus up 1.0 @1704110400000",
            "prometheus a metric b=1 -2500.0 @-1",
            "prometheus spaced 6.0 @1704110400000",
            "prometheus spaced a=1 7.0 @1704110400000",
        ];
        let mut world = World::new();
        for turn in ["new", "known"] {
            let (samples, rejects, malformed) = world.read(&PROMETHEUS, text);
            assert_eq!(samples, expected, "{turn}");
            assert_eq!((rejects, malformed), (vec![], None), "{turn}");
            assert_eq!(world.decoder.messages, 6);
        }
        assert_eq!(world.catalog.len(), 6);
    }

    #[test]
    fn open_metrics_has_seconds_exemplars_and_an_end() {
        let text = "a_total 1 1704110399.5 # {trace_id=\"x\"} 1 2\na_total 2\n# EOF\n";
        let mut world = World::new();
        for _ in 0..2 {
            let (samples, rejects, malformed) = world.read(&OPEN_METRICS, text.as_bytes());
            assert_eq!(
                samples,
                ["prometheus a_total 1.0 @1704110399500", "prometheus a_total 2.0 @1704110400000"]
            );
            assert_eq!((rejects, malformed), (vec![], None));
        }
        let (samples, _, malformed) = world.read(&OPEN_METRICS, b"a_total 1\n");
        assert_eq!((samples.len(), malformed.map(|m| m.byte)), (1, Some(10)));
        let (samples, rejects, _) = world.read(&OPEN_METRICS, b"a_total 1\n# EOF\nb 1\nc 2\n");
        assert_eq!((samples.len(), rejects.len()), (1, 1));
    }

    #[test]
    fn a_bad_line_costs_itself() {
        for (line, reject) in [
            ("up", "1 malformed: line 2: byte 3: expected a number, found the end of the line"),
            ("up x", "1 malformed: line 2: byte 4: expected a number, found \"x\""),
            ("up 1 x", "1 malformed: line 2: byte 6: expected a time in milliseconds, found \"x\""),
            ("up NaN", "1 not_finite: line 2: NaN"),
            ("up{a=\"1\",a=\"2\"} 1", "1 malformed: line 2: expected each label once, found 'a' twice"),
            ("up 1 1704111001000", "1 too_far_ahead: 601 s ahead"),
            ("up{__name__=\"m\"} 1", "1 tag_twice: line 2: __name__"),
            ("9 1", "1 malformed: line 2: byte 1: expected a metric name, found '9'"),
            ("up{a=\"1} 1", "1 malformed: line 2: byte 11: expected '\"', found the end of the line"),
        ] {
            let text = format!("a 1\n{line}\nup 2\n");
            let mut world = World::new();
            for _ in 0..2 {
                let (samples, rejects, malformed) = world.read(&PROMETHEUS, text.as_bytes());
                assert_eq!(
                    samples,
                    ["prometheus a 1.0 @1704110400000", "prometheus up 2.0 @1704110400000"],
                    "{line}"
                );
                assert_eq!((rejects, malformed), (vec![reject.to_string()], None));
            }
        }
    }

    #[test]
    fn a_text_of_mistakes_takes_little() {
        let mut world = World::new();
        world.read(&PROMETHEUS, "x\n".repeat(1 << 17).as_bytes());
        let decoder = &world.decoder;
        assert_eq!(decoder.rejects.len(), REJECTS_TOLD_MAX);
        assert_eq!(decoder.rejected(), 1 << 17);
    }

    proptest! {
        /// A decoder that knows a text's series and one that does not read the same.
        #[test]
        fn known_lines_are_read_as_new_ones(
            lines in prop::collection::vec("[ \t]?[a-c]{1,2}(\\{([a-b]=\"[ -~]{0,3}\",?){0,2}\\})?[ ]?([0-9.]{1,4}|NaN|-Inf)?( [0-9]{1,13})?( #.{0,5})?|.{0,12}", 0..8),
            open in any::<bool>(),
        ) {
            let codec = if open { &OPEN_METRICS } else { &PROMETHEUS };
            let text = lines.join("\n");
            let mut world = World::new();
            let first = world.read(codec, text.as_bytes());
            prop_assert_eq!(&first, &world.read(codec, text.as_bytes()));
            // And as the grammar alone reads them.
            let mut wanted = Vec::new();
            super::super::exposition::read(text.as_bytes(), codec.0, |sample| {
                let labels = sample.labels.iter().map(|(name, value)| (&**name, &**value));
                let labels: Vec<_> = labels.chain([(NAME, &*sample.name)]).collect();
                let time_ns = sample.time_ns.unwrap_or(NOW_NS);
                let printable = labels.iter().all(|(n, v)| !n.chars().chain(v.chars()).any(char::is_control));
                if let Ok(Called { service, metric, tags }) = called(&labels)
                    && printable && time_ns - NOW_NS <= 600 * SECOND
                {
                    let tags: String = tags.iter().map(|(name, value)| format!(" {name}={value}")).collect();
                    wanted.push(format!("{service} {metric}{tags} {:?} @{}", sample.value, time_ns / MS));
                }
            });
            prop_assert_eq!(first.0, wanted);
        }
    }
}
