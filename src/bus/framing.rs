//! Frames -> topic and payload, and back.
//!
//! Two framings are in use. The documented one sends two frames, topic and JSON. plantd's Go code sends a single
//! frame, its envelope immediately followed by the JSON: `org.plantd.Metric{"time":...}`.

use std::ops::Range;

use super::zmtp::{FLAG_MORE, put_frame, put_header};

/// How a publisher puts topic and payload into frames. A receiver understands both without being told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// Two frames: topic, payload.
    #[default]
    Frames,
    /// One frame: the topic immediately followed by the payload, which starts with `{` or `[`.
    Envelope,
}

impl Framing {
    /// The framing named `frames` or `envelope`.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "frames" => Some(Self::Frames),
            "envelope" => Some(Self::Envelope),
            _ => None,
        }
    }

    /// Appends a message as it goes over the wire.
    pub(super) fn put(self, out: &mut Vec<u8>, topic: &[u8], payload: &[u8]) {
        match self {
            Self::Frames => {
                put_frame(out, FLAG_MORE, topic);
                put_frame(out, 0, payload);
            }
            Self::Envelope => {
                put_header(out, 0, topic.len() + payload.len());
                out.extend_from_slice(topic);
                out.extend_from_slice(payload);
            }
        }
    }
}

/// Where topic and payload of a message are, given its frames as positions in `slab`; `None` if it has more than two.
///
/// A single frame is cut at its first `{` or `[`. One without either has no topic and is all payload: the decoder
/// shall say what is wrong with it.
pub(super) fn split(
    slab: &[u8],
    frames: u32,
    first: Range<usize>,
    second: Range<usize>,
) -> Option<(Range<usize>, Range<usize>)> {
    match frames {
        1 => {
            let cut = slab[first.clone()].iter().position(|&byte| byte == b'{' || byte == b'[');
            let cut = first.start + cut.unwrap_or(0);
            Some((first.start..cut, cut..first.end))
        }
        2 => Some((first, second)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::scan::{Scanner, Step};
    use super::*;

    fn there_and_back(framing: Framing, topic: &[u8], payload: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let mut wire = Vec::new();
        framing.put(&mut wire, topic, payload);
        let Ok(Step::Message(found)) = Scanner::new(1 << 20).step(&wire) else {
            panic!("expected a message");
        };
        assert_eq!(found.wire, 0..wire.len());
        let (topic, payload) = split(&wire, found.frames, found.first, found.second).unwrap();
        (wire[topic].to_vec(), wire[payload].to_vec())
    }

    #[test]
    fn both_framings_give_the_same() {
        let long = format!("{{\"a\":\"{}\"}}", "x".repeat(300));
        for framing in [Framing::Frames, Framing::Envelope] {
            for payload in [&b"{\"a\":1}"[..], b"[{}]", long.as_bytes()] {
                let (topic, back) = there_and_back(framing, b"org.plantd.Metric", payload);
                assert_eq!(topic, b"org.plantd.Metric", "{framing:?}");
                assert_eq!(back, payload, "{framing:?}");
            }
        }
    }

    #[test]
    fn odd_messages() {
        type Case<'a> = (u32, &'a str, Option<(&'a str, &'a str)>);
        let cases: [Case<'_>; 6] = [
            (1, "{\"a\":{}}", Some(("", "{\"a\":{}}"))),
            (1, "no braces", Some(("", "no braces"))),
            (1, "", Some(("", ""))),
            (1, "a[1]{", Some(("a", "[1]{"))),
            (3, "abc", None),
            (0, "", None),
        ];
        for (frames, text, expected) in cases {
            let got = split(text.as_bytes(), frames, 0..text.len(), 0..0);
            let got = got.map(|(topic, payload)| (&text[topic], &text[payload]));
            assert_eq!(got, expected, "{frames} {text}");
        }
        let (topic, payload) = there_and_back(Framing::Frames, b"t{", b"not json");
        assert_eq!((&topic[..], &payload[..]), (&b"t{"[..], &b"not json"[..]), "two frames are never cut");
    }
}
