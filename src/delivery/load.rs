//! What a delivery has in its hands: the messages of some whole epochs, and what of them is still to be done.
//!
//! A load is handed over in parts of a limited number of samples. A part that is refused is halved, by
//! samples, until single samples remain. When a part was refused and its first half was taken, the
//! second half is to blame: it is halved again without being offered whole. So one refused sample in a
//! part of N costs at most `2 log2 N + 1` writes, and k of them at most `2 k ceil(log2 N) + 1`, and
//! never more than `2 N - 1`.

use std::borrow::Cow;

use super::source::Stretch;
use crate::message::Message;
use crate::sinks::Position;

/// Whole epochs on their way.
#[derive(Default)]
pub(super) struct Load {
    messages: Vec<Message>,
    /// For each message, the number of samples up to its end.
    ends: Vec<u64>,
    samples: u64,
    /// The last epoch in it.
    upto: Position,
    /// What is still to be done, the next at the end; cut when the first is asked for.
    parts: Vec<Part>,
    cut: bool,
    begun: bool,
}

/// Samples `from..till` of a load.
struct Part {
    from: u64,
    till: u64,
    /// The part below it on the stack is the other half of what was refused.
    first_half: bool,
    known: Known,
}

/// What is known of a part.
enum Known {
    Nothing,
    /// Some of its samples will be refused.
    Bad,
    /// It is one sample, and this was the answer.
    Refused(String),
}

/// What is left to be done, the next of it.
#[derive(Debug, PartialEq)]
pub(super) enum Left<'a> {
    /// To be offered to the sink: so many samples.
    Write(Cow<'a, [Message]>, u64),
    /// A message of one sample that is to be dead-lettered, and the target's answer.
    Letter(Message, &'a str),
}

impl Load {
    /// Takes a stretch that follows. Only before it was cut.
    pub(super) fn gather(&mut self, stretch: Stretch) {
        debug_assert!(!self.cut, "a load grows only before it is on its way");
        self.upto = stretch.upto;
        for message in stretch.messages {
            if !message.metrics.is_empty() {
                self.samples += message.metrics.len() as u64;
                self.ends.push(self.samples);
                self.messages.push(message);
            }
        }
    }

    /// Its samples, done or not.
    pub(super) fn samples(&self) -> u64 {
        self.samples
    }

    /// Its last epoch; 0 when it has none.
    pub(super) fn upto(&self) -> Position {
        self.upto
    }

    /// Whether it was cut: it is on its way.
    pub(super) fn on_its_way(&self) -> bool {
        self.cut
    }

    /// Whether the sink has taken some of it.
    pub(super) fn begun(&self) -> bool {
        self.begun
    }

    /// Whether nothing of it is left to be done, once it is on its way.
    pub(super) fn done(&self) -> bool {
        self.cut && self.parts.is_empty()
    }

    /// Divides it into parts of about the same size, at most `samples_max` each, between messages where that can be.
    pub(super) fn cut(&mut self, samples_max: u64) {
        let samples_max = samples_max.max(1);
        let even = self.samples.div_ceil(self.samples.div_ceil(samples_max).max(1));
        let mut from = 0;
        while from < self.samples {
            let reaching = self.ends.partition_point(|end| *end < from + even);
            let till = match self.ends.get(reaching) {
                Some(end) if *end <= from + samples_max => *end,
                // One message more would be too many: without it, if there is another.
                _ => match reaching.checked_sub(1).map(|before| self.ends[before]) {
                    Some(end) if end > from => end,
                    _ => from + samples_max,
                },
            };
            self.parts.push(Part { from, till, first_half: false, known: Known::Nothing });
            from = till;
        }
        self.parts.reverse();
        self.cut = true;
    }

    /// What is to be done next, if anything is.
    pub(super) fn left(&mut self) -> Option<Left<'_>> {
        while let Some(part) = self.parts.pop_if(|part| matches!(part.known, Known::Bad)) {
            self.halve(&part);
        }
        let part = self.parts.last()?;
        Some(match &part.known {
            Known::Refused(answer) => Left::Letter(self.sample(part.from), answer),
            _ => Left::Write(self.messages_of(part), part.till - part.from),
        })
    }

    /// The sink took what was to be written.
    pub(super) fn taken(&mut self) {
        self.begun = true;
        let Some(part) = self.parts.pop() else { return };
        if let Some(second) = self.parts.last_mut().filter(|_| part.first_half)
            && second.till - second.from > 1
        {
            second.known = Known::Bad;
        }
    }

    /// The sink refused what was to be written.
    pub(super) fn refused(&mut self, answer: String) {
        if let Some(part) = self.parts.last_mut() {
            part.known = if part.till - part.from > 1 { Known::Bad } else { Known::Refused(answer) };
        }
    }

    /// The dead letter is written.
    pub(super) fn lettered(&mut self) {
        self.parts.pop();
    }

    fn halve(&mut self, part: &Part) {
        let middle = part.from + (part.till - part.from) / 2;
        let half = |from, till, first_half| Part { from, till, first_half, known: Known::Nothing };
        self.parts.push(half(middle, part.till, false));
        self.parts.push(half(part.from, middle, true));
    }

    fn start_of(&self, message: usize) -> u64 {
        message.checked_sub(1).map_or(0, |before| self.ends[before])
    }

    /// The messages of a part; its first and last are copied where it begins or ends within them.
    fn messages_of(&self, part: &Part) -> Cow<'_, [Message]> {
        let first = self.ends.partition_point(|end| *end <= part.from);
        let last = self.ends.partition_point(|end| *end < part.till);
        if self.start_of(first) == part.from && self.ends[last] == part.till {
            return Cow::Borrowed(&self.messages[first..=last]);
        }
        Cow::Owned((first..=last).map(|message| self.clip(message, part.from, part.till)).collect())
    }

    fn sample(&self, at: u64) -> Message {
        self.clip(self.ends.partition_point(|end| *end <= at), at, at + 1)
    }

    /// What of a message lies in `from..till`.
    fn clip(&self, message: usize, from: u64, till: u64) -> Message {
        let start = self.start_of(message);
        let (message, end) = (&self.messages[message], self.ends[message]);
        let metrics = (from.max(start) - start) as usize..(till.min(end) - start) as usize;
        Message {
            time_ns: message.time_ns,
            target: message.target.clone(),
            metrics: message.metrics[metrics].to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use operators::series::Target;
    use std::sync::Arc;

    /// A load of messages of so many samples each, whose values count from 0.
    fn load(lens: &[u64]) -> Load {
        let target = Arc::new(Target::new("s", []));
        let mut value = 0..;
        let messages = lens.iter().map(|len| Message {
            time_ns: 0,
            target: target.clone(),
            metrics: (0..*len).zip(&mut value).map(|(_, value)| ("m".into(), f64::from(value))).collect(),
        });
        let mut load = Load::default();
        load.gather(Stretch { messages: messages.collect(), upto: 1, ..Stretch::default() });
        load
    }

    fn values(messages: &[Message]) -> Vec<u64> {
        messages.iter().flat_map(|m| m.metrics.iter().map(|(_, value)| *value as u64)).collect()
    }

    /// Works a load off against a target that refuses `poison`: writes, samples taken, samples dead-lettered.
    fn work_off(load: &mut Load, poison: &[u64]) -> (u64, Vec<u64>, Vec<u64>) {
        let (mut writes, mut taken, mut lettered) = (0, vec![], vec![]);
        while let Some(left) = load.left() {
            match left {
                Left::Write(messages, samples) => {
                    writes += 1;
                    let offered = values(&messages);
                    assert_eq!(offered.len() as u64, samples);
                    if offered.iter().any(|value| poison.contains(value)) {
                        load.refused("no".into());
                    } else {
                        taken.extend(offered);
                        load.taken();
                    }
                }
                Left::Letter(message, answer) => {
                    assert_eq!(answer, "no");
                    lettered.extend(values(&[message]));
                    load.lettered();
                }
            }
        }
        assert!(load.done());
        (writes, taken, lettered)
    }

    #[test]
    fn parts_are_even_and_end_between_messages_where_they_can() {
        for (lens, max, expected) in [
            (&[][..], 10, &[][..]),
            (&[4, 4, 2], 10, &[10]),
            (&[3; 4], 10, &[6, 6]),
            (&[0, 7, 7, 0, 7], 10, &[7, 7, 7]),
            (&[25], 10, &[10, 10, 5]),
            (&[1, 25, 1], 10, &[1, 10, 10, 6]),
            (&[1; 5], 1, &[1, 1, 1, 1, 1]),
        ] {
            let mut load = load(lens);
            load.cut(max);
            let sizes: Vec<u64> = load.parts.iter().rev().map(|part| part.till - part.from).collect();
            assert_eq!(sizes, expected, "{lens:?}");
            let all: Vec<u64> = (0..load.samples()).collect();
            assert_eq!(work_off(&mut load, &[]).1, all);
        }
    }

    /// For every N up to 1000 and some message lengths; every place in the small ones.
    #[test]
    fn one_refused_sample_in_n_costs_at_most_two_log2_n_and_one_writes() {
        for n in 1..=1_000_u64 {
            let bound = (2.0 * (n as f64).log2() + 1.0).floor() as u64;
            let step = if n < 70 { 1 } else { n as usize / 5 };
            for poison in (0..n).step_by(step).chain([n - 1]) {
                let lens = [vec![1; n as usize], vec![n], vec![7; n as usize / 7], vec![n % 7]];
                let lens = [&lens[0][..], &lens[1][..], &[&lens[2][..], &lens[3][..]].concat()];
                let mut load = load(lens[(poison % 3) as usize]);
                load.cut(n);
                let (writes, taken, lettered) = work_off(&mut load, &[poison]);
                assert!(writes <= bound, "{writes} writes for {poison} in {n}, expected {bound}");
                assert_eq!((lettered, taken.len() as u64), (vec![poison], n - 1), "{poison} in {n}");
                assert!(taken.is_sorted(), "{poison} in {n}");
            }
        }
    }

    #[test]
    fn many_refused_samples_cost_their_bound() {
        for n in [2_u64, 3, 10, 64, 100, 1_000] {
            for every in [1, 2, 3, 10, 50] {
                let poison: Vec<u64> = (0..n).step_by(every).collect();
                let k = poison.len() as u64;
                let bound = (2 * k * u64::from(n.next_power_of_two().ilog2()) + 1).min(2 * n - 1);
                let mut load = load(&[vec![5; n as usize / 5], vec![n % 5]].concat());
                load.cut(u64::MAX);
                let (writes, taken, lettered) = work_off(&mut load, &poison);
                assert!(writes <= bound, "{writes} writes for {k} in {n}, expected {bound}");
                assert_eq!((lettered, taken.len() as u64), (poison, n - k));
            }
        }
    }

    #[test]
    fn a_part_refused_only_as_a_whole_loses_nothing() {
        let mut load = load(&[1; 100]);
        load.cut(100);
        let (mut writes, mut taken) = (0, 0);
        while let Some(Left::Write(_, samples)) = load.left() {
            writes += 1;
            if samples > 30 {
                load.refused("too large".into());
            } else {
                taken += samples;
                load.taken();
            }
        }
        assert!(load.done() && writes < 30, "{writes}");
        assert_eq!(taken, 100);
    }
}
