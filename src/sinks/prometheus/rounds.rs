//! Messages -> requests. Times become milliseconds, and of several values of one series within a millisecond the
//! last stays. A request has at most one sample of a series, and a series' samples go out in the order of their
//! event times, in consecutive *rounds*: so what was taken and is sent again, because its answer was lost, is the newest
//! sample of its series there, which a receiver takes again without a word.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::Hasher;
use std::sync::Arc;

use operators::sample::MS;
use operators::series::Target;
use rapidhash::fast::RapidHasher;

use super::names::{Labels, Naming};
use crate::message::Message;

/// Labels of so many series are kept ready; beyond it they are made anew.
const SERIES_KEPT_MAX: usize = 100_000;

/// Labels of one request, so many bytes at most; receivers refuse bodies that are too long.
const REQUEST_BYTES_MAX: usize = 4 << 20;

/// So many samples that were taken from a refused or unfinished write are remembered.
const TAKEN_KEPT_MAX: usize = 65_536;

/// One sample to be sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// Index into the series of the [`Requests`].
    pub series: u32,
    /// Milliseconds since 1970.
    pub time_ms: i64,
    /// The value.
    pub value: f64,
}

/// What one write sends.
#[derive(Debug, Default, PartialEq)]
pub struct Requests {
    /// The samples of each request, in the order in which they have to be sent.
    pub each: Vec<Vec<Sample>>,
    /// Values left out for a later one of the same series and millisecond.
    pub superseded: u64,
    /// Values left out because they are no numbers.
    pub not_finite: u64,
    /// Values left out because the receiver has them.
    pub taken_before: u64,
}

/// The labels of series, and what is known to be stored of them.
pub struct Book {
    naming: Naming,
    by_target: HashMap<Arc<Target>, HashMap<Arc<str>, u32>>,
    series: Vec<Series>,
    taken: Taken,
}

struct Series {
    labels: Labels,
    /// Of the labels.
    hash: u64,
    /// Of the labels in a request.
    bytes: usize,
}

impl Book {
    /// A book without series.
    pub fn new(naming: Naming) -> Self {
        Book { naming, by_target: HashMap::new(), series: Vec::new(), taken: Taken::default() }
    }

    /// How series are called.
    pub fn naming(&self) -> &Naming {
        &self.naming
    }

    /// The labels of a sample's series.
    pub fn labels(&self, sample: &Sample) -> &Labels {
        &self.series[sample.series as usize].labels
    }

    /// The requests for `messages`, each of at most `samples_max` samples.
    pub fn requests(&mut self, messages: &[Message], samples_max: usize) -> Requests {
        if self.series.len() > SERIES_KEPT_MAX {
            self.by_target.clear();
            self.series.clear();
        }
        let mut requests = Requests::default();
        let mut samples = self.samples(messages, &mut requests);
        // The sort is stable: of one millisecond, the last is the one that came last.
        samples.sort_by_key(|sample| (sample.series, sample.time_ms));
        let all = samples.len();
        let mut kept: Vec<(u32, Sample)> = Vec::with_capacity(all);
        for (at, sample) in samples.iter().enumerate() {
            let same = |next: &Sample| (next.series, next.time_ms) == (sample.series, sample.time_ms);
            if samples.get(at + 1).is_some_and(same) {
                requests.superseded += 1;
            } else if self.taken.has(self.series[sample.series as usize].hash, sample) {
                requests.taken_before += 1;
            } else {
                let round = match kept.last() {
                    Some((round, last)) if last.series == sample.series => round + 1,
                    _ => 0,
                };
                kept.push((round, *sample));
            }
        }
        // Stable again: within a round, series stand as they came.
        kept.sort_by_key(|(round, _)| *round);
        requests.each = self.cut(&kept, samples_max.max(1));
        requests
    }

    /// Remembers that the receiver has these samples, for the next time they are offered.
    pub fn remember(&mut self, samples: &[Sample]) {
        for sample in samples {
            self.taken.add(self.series[sample.series as usize].hash, sample);
        }
    }

    fn samples(&mut self, messages: &[Message], requests: &mut Requests) -> Vec<Sample> {
        let mut samples = Vec::with_capacity(messages.iter().map(|message| message.metrics.len()).sum());
        for message in messages {
            let time_ms = message.time_ns.div_euclid(MS);
            for (metric, value) in &message.metrics {
                if !value.is_finite() {
                    requests.not_finite += 1;
                    continue;
                }
                let series = self.series(&message.target, metric);
                samples.push(Sample { series, time_ms, value: *value });
            }
        }
        samples
    }

    fn series(&mut self, target: &Arc<Target>, metric: &Arc<str>) -> u32 {
        let known = self.by_target.get(target).and_then(|metrics| metrics.get(metric));
        if let Some(index) = known {
            return *index;
        }
        let labels = self.naming.labels(target, metric);
        let mut hasher = RapidHasher::default();
        let mut bytes = 0;
        for (name, value) in &labels {
            for text in [name, value] {
                hasher.write(text.as_bytes());
                hasher.write_u8(0xff); // No byte of UTF-8.
            }
            bytes += name.len() + value.len() + 10;
        }
        let index = self.series.len() as u32;
        self.series.push(Series { labels, hash: hasher.finish(), bytes });
        self.by_target.entry(target.clone()).or_default().insert(metric.clone(), index);
        index
    }

    /// Cuts at the end of each round, and where a request would be too large.
    fn cut(&self, samples: &[(u32, Sample)], samples_max: usize) -> Vec<Vec<Sample>> {
        let mut each: Vec<Vec<Sample>> = Vec::new();
        let (mut open_round, mut bytes) = (None, 0);
        for (round, sample) in samples {
            bytes += self.series[sample.series as usize].bytes;
            match each.last_mut() {
                Some(request)
                    if open_round == Some(round)
                        && request.len() < samples_max
                        && bytes <= REQUEST_BYTES_MAX =>
                {
                    request.push(*sample);
                }
                _ => {
                    each.push(vec![*sample]);
                    bytes = self.series[sample.series as usize].bytes;
                }
            }
            open_round = Some(round);
        }
        each
    }
}

/// The samples that a receiver has of writes that failed further on. They are offered again, whole or in
/// halves, and would then be out of order. The oldest are forgotten first.
#[derive(Default)]
struct Taken {
    known: HashSet<(u64, i64, u64)>,
    order: VecDeque<(u64, i64, u64)>,
}

impl Taken {
    fn key(series: u64, sample: &Sample) -> (u64, i64, u64) {
        (series, sample.time_ms, sample.value.to_bits())
    }

    fn has(&self, series: u64, sample: &Sample) -> bool {
        !self.known.is_empty() && self.known.contains(&Self::key(series, sample))
    }

    fn add(&mut self, series: u64, sample: &Sample) {
        let key = Self::key(series, sample);
        if self.known.insert(key) {
            self.order.push_back(key);
        }
        if self.order.len() > TAKEN_KEPT_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn book() -> Book {
        Book::new(Naming { job_name: "j".into(), prefix: String::new() })
    }

    fn message(service: &str, time_ns: i64, metrics: &[(&str, f64)]) -> Message {
        let metrics = metrics.iter().map(|(name, value)| ((*name).into(), *value)).collect();
        Message { time_ns, target: Arc::new(Target::new(service, [])), metrics }
    }

    fn shown(requests: &Requests) -> Vec<Vec<(u32, i64, f64)>> {
        let of = |request: &Vec<Sample>| request.iter().map(|s| (s.series, s.time_ms, s.value)).collect();
        requests.each.iter().map(of).collect()
    }

    #[test]
    fn a_request_has_one_sample_of_a_series_and_times_go_up() {
        let messages = [
            message("s", 7_999_999, &[("a", 1.0), ("b", 2.0), ("nan", f64::NAN)]),
            message("s", 3_000_000, &[("a", 3.0)]),
            message("t", 3_000_000, &[("a", 4.0)]),
            // Within the millisecond of the first: the last stays.
            message("s", 7_000_000, &[("a", 5.0)]),
            message("s", -1, &[("a", 6.0)]),
        ];
        let requests = book().requests(&messages, 2);
        let expected =
            vec![vec![(0, -1, 6.0), (1, 7, 2.0)], vec![(2, 3, 4.0)], vec![(0, 3, 3.0)], vec![(0, 7, 5.0)]];
        assert_eq!(shown(&requests), expected);
        assert_eq!((requests.superseded, requests.not_finite, requests.taken_before), (1, 1, 0));
        assert_eq!(book().requests(&[], 2), Requests::default());
    }

    #[test]
    fn what_was_taken_is_not_sent_again() {
        let mut book = book();
        let messages = [message("s", 1_000_000, &[("a", 1.0)]), message("s", 2_000_000, &[("a", 2.0)])];
        let requests = book.requests(&messages, 10);
        book.remember(&requests.each[0]);
        let again = book.requests(&messages, 10);
        assert_eq!(shown(&again), vec![vec![(0, 2, 2.0)]]);
        assert_eq!(again.taken_before, 1);
        let other_value = [message("s", 1_000_000, &[("a", 1.5)])];
        assert_eq!(book.requests(&other_value, 10).each.len(), 1);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut taken = Taken::default();
        let sample = |time_ms| Sample { series: 0, time_ms, value: 0.0 };
        for time_ms in 0..TAKEN_KEPT_MAX as i64 + 10 {
            taken.add(1, &sample(time_ms));
        }
        assert_eq!((taken.known.len(), taken.order.len()), (TAKEN_KEPT_MAX, TAKEN_KEPT_MAX));
        assert!(!taken.has(1, &sample(9)) && taken.has(1, &sample(10)) && !taken.has(2, &sample(10)));
    }

    #[test]
    fn series_are_many_and_requests_not_too_long() {
        let mut book = book();
        let long = "x".repeat(REQUEST_BYTES_MAX / 3);
        let messages: Vec<Message> = (0..4)
            .map(|n| Message {
                target: Arc::new(Target::new(&n.to_string(), [("t", long.as_str())])),
                ..message("", 0, &[("a", 1.0)])
            })
            .collect();
        let lengths: Vec<usize> = book.requests(&messages, 10).each.iter().map(Vec::len).collect();
        assert_eq!(lengths, [2, 2]);
    }
}
