//! Topics: the patterns that a consumer writes, and what is on the bus.
//!
//! ZeroMQ subscribes by prefix and knows no wildcards: a literal `metrics.*` would match nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use super::{Batch, Receiver};

/// Topic patterns as prefixes to subscribe to and a filter for what the prefixes let through.
///
/// `metrics.` and `metrics.*` mean every topic that starts with `metrics.`; any other place of `*` (any bytes, also
/// none) or `?` (one byte) makes a pattern for the whole topic.
#[derive(Clone, Debug, Default)]
pub struct Topics {
    prefixes: BTreeSet<Vec<u8>>,
    globs: Vec<Vec<u8>>,
    plain: Vec<Vec<u8>>,
}

impl Topics {
    /// Sorts the patterns into prefixes and globs.
    pub fn new<P: AsRef<str>>(patterns: &[P]) -> Self {
        let mut topics = Self::default();
        for pattern in patterns {
            let pattern = pattern.as_ref().as_bytes();
            let stem = pattern.strip_suffix(b"*").unwrap_or(pattern);
            match stem.iter().position(|byte| b"*?".contains(byte)) {
                None => {
                    topics.prefixes.insert(stem.to_vec());
                    topics.plain.push(stem.to_vec());
                }
                Some(wildcard) => {
                    topics.prefixes.insert(stem[..wildcard].to_vec());
                    topics.globs.push(pattern.to_vec());
                }
            }
        }
        topics
    }

    /// What to subscribe to.
    pub fn prefixes(&self) -> &BTreeSet<Vec<u8>> {
        &self.prefixes
    }

    /// Whether a topic that came is one that was asked for. Without globs the publisher has filtered already.
    pub fn lets_through(&self, topic: &[u8]) -> bool {
        self.globs.is_empty()
            || self.plain.iter().any(|prefix| topic.starts_with(prefix))
            || self.globs.iter().any(|glob| matches(glob, topic))
    }
}

/// Whether a glob of `*` and `?` matches all of `text`. Linear for one star, never worse than their product.
fn matches(glob: &[u8], text: &[u8]) -> bool {
    let (mut g, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match glob.get(g) {
            Some(b'*') => {
                star = Some((g, t));
                g += 1;
            }
            Some(&byte) if byte == b'?' || byte == text[t] => {
                g += 1;
                t += 1;
            }
            _ => match star {
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    g = at + 1;
                    t = taken + 1;
                }
                None => return false,
            },
        }
    }
    glob[g..].iter().all(|&byte| byte == b'*')
}

/// One topic seen on the bus.
#[derive(Clone, Debug, PartialEq)]
pub struct TopicSeen {
    /// The topic; bytes that are not UTF-8 are replaced.
    pub topic: String,
    /// Messages seen.
    pub messages: u64,
    /// Bytes of their payloads.
    pub bytes: u64,
    /// Messages per second over the time watched.
    pub per_second: f64,
}

/// Counts topics; at most `topics_max` different ones, the messages of others are only counted together.
#[derive(Debug)]
pub struct TopicTally {
    topics: BTreeMap<Vec<u8>, (u64, u64)>,
    topics_max: usize,
    others: u64,
}

impl TopicTally {
    /// An empty tally.
    pub fn new(topics_max: usize) -> Self {
        Self { topics: BTreeMap::new(), topics_max, others: 0 }
    }

    /// Adds the messages of a batch.
    pub fn add(&mut self, batch: &Batch) {
        for (topic, payload) in batch.iter() {
            if let Some((messages, bytes)) = self.topics.get_mut(topic) {
                *messages += 1;
                *bytes += payload.len() as u64;
            } else if self.topics.len() < self.topics_max {
                self.topics.insert(topic.to_vec(), (1, payload.len() as u64));
            } else {
                self.others += 1;
            }
        }
    }

    /// The topics in order, with rates over `watched`.
    pub fn seen(&self, watched: Duration) -> Vec<TopicSeen> {
        let seconds = watched.as_secs_f64().max(f64::MIN_POSITIVE);
        let rows = self.topics.iter().map(|(topic, &(messages, bytes))| TopicSeen {
            topic: String::from_utf8_lossy(topic).into_owned(),
            messages,
            bytes,
            per_second: messages as f64 / seconds,
        });
        rows.collect()
    }

    /// Messages of topics beyond the limit.
    pub fn others(&self) -> u64 {
        self.others
    }
}

/// Watches a receiver for some time and tells which topics came, for `--list-topics`.
pub async fn observe(receiver: &mut Receiver, time: Duration, topics_max: usize) -> TopicTally {
    let mut tally = TopicTally::new(topics_max);
    let end = Instant::now() + time;
    while let Ok(Some(batch)) = tokio::time::timeout_at(end, receiver.recv()).await {
        tally.add(&batch);
    }
    tally
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_become_prefixes_and_filters() {
        // pattern, prefix subscribed, topics let through, topics not
        type Case<'a> = (&'a str, &'a str, &'a [&'a str], &'a [&'a str]);
        let cases: [Case<'_>; 8] = [
            ("metrics.*", "metrics.", &["metrics.", "metrics.a.b"], &[]),
            ("org.plantd", "org.plantd", &["org.plantd.Metric"], &[]),
            ("*", "", &["", "anything"], &[]),
            ("", "", &["anything"], &[]),
            (
                "metrics.*.cpu",
                "metrics.",
                &["metrics.a.cpu", "metrics.a.b.cpu"],
                &["metrics.cpu", "metrics.a.cpu2"],
            ),
            ("*.cpu*", "", &["a.cpu", "a.cpu.b"], &["cpu", "a.cp"]),
            ("a?c", "a", &["abc"], &["ac", "abcd", "abb"]),
            ("a*b*c", "a", &["abc", "a-b-b-c", "abbcc"], &["acb", "ab"]),
        ];
        for (pattern, prefix, through, not) in cases {
            let topics = Topics::new(&[pattern]);
            let prefixes: Vec<&[u8]> = topics.prefixes().iter().map(Vec::as_slice).collect();
            assert_eq!(prefixes, [prefix.as_bytes()], "{pattern}");
            through.iter().for_each(|t| assert!(topics.lets_through(t.as_bytes()), "{pattern} {t}"));
            not.iter().for_each(|t| assert!(!topics.lets_through(t.as_bytes()), "{pattern} {t}"));
        }
    }

    #[test]
    fn prefixes_beside_globs_keep_their_topics() {
        let topics = Topics::new(&["system.*", "metrics.*.cpu"]);
        assert_eq!(topics.prefixes().len(), 2);
        assert!(topics.lets_through(b"system.x"));
        assert!(topics.lets_through(b"metrics.a.cpu"));
        assert!(!topics.lets_through(b"metrics.a.disk"));
    }

    #[test]
    fn topics_are_tallied_up_to_a_limit() {
        let batch = Batch::of(&[(b"a", b"12"), (b"b", b""), (b"a", b"345"), (b"c", b"")]);
        let mut tally = TopicTally::new(2);
        tally.add(&batch);
        let seen = tally.seen(Duration::from_secs(2));
        assert_eq!(seen.len(), 2);
        assert_eq!((seen[0].topic.as_str(), seen[0].messages, seen[0].bytes), ("a", 2, 5));
        assert_eq!(seen[0].per_second, 1.0);
        assert_eq!(tally.others(), 1);
    }
}
