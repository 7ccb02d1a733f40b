//! Several collectors as one, whose samples of one target and event time travel in one message.

use std::collections::HashMap;
use std::sync::Arc;

use operators::sample::TimeNs;
use operators::series::Target;

use super::{CollectError, Collector};
use crate::message::Message;

/// Collectors that are asked one after another.
pub struct Together {
    name: String,
    members: Vec<Box<dyn Collector>>,
}

impl Together {
    /// `members` under the name `name`.
    pub fn new(name: &str, members: Vec<Box<dyn Collector>>) -> Self {
        Together { name: name.into(), members }
    }
}

impl Collector for Together {
    fn name(&self) -> &str {
        &self.name
    }

    /// A member that fails leaves the others' samples as they are.
    fn collect(&mut self, now_ns: TimeNs) -> Result<Vec<Message>, CollectError> {
        let mut gathered = Vec::new();
        let mut reasons = Vec::new();
        for member in &mut self.members {
            match member.collect(now_ns) {
                Ok(mut messages) => gathered.append(&mut messages),
                Err(mut error) => {
                    gathered.append(&mut error.gathered);
                    reasons.push(error.reason);
                }
            }
        }
        let gathered = merge(gathered);
        if reasons.is_empty() {
            Ok(gathered)
        } else {
            Err(CollectError { reason: reasons.join("; "), gathered })
        }
    }
}

/// Messages of the same target and event time become one, in the order they came; a metric that the
/// message already holds stays in a message of its own.
pub fn merge(messages: Vec<Message>) -> Vec<Message> {
    let mut merged: Vec<Message> = Vec::with_capacity(messages.len());
    let mut at: HashMap<(TimeNs, Arc<Target>), usize> = HashMap::new();
    for message in messages {
        let key = (message.time_ns, Arc::clone(&message.target));
        match at.get(&key).and_then(|at| merged.get_mut(*at)) {
            Some(first) if !shares_a_metric(first, &message) => first.metrics.extend(message.metrics),
            _ => {
                at.insert(key, merged.len());
                merged.push(message);
            }
        }
    }
    merged
}

fn shares_a_metric(a: &Message, b: &Message) -> bool {
    b.metrics.iter().any(|(name, _)| a.metrics.iter().any(|(n, _)| n == name))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed(Result<Vec<Message>, CollectError>);

    impl Collector for Fixed {
        fn name(&self) -> &str {
            "fixed"
        }

        fn collect(&mut self, _: TimeNs) -> Result<Vec<Message>, CollectError> {
            self.0.clone()
        }
    }

    fn message(time_ns: TimeNs, service: &str, metrics: &[(&str, f64)]) -> Message {
        let metrics = metrics.iter().map(|(n, v)| (Arc::from(*n), *v)).collect();
        Message { time_ns, target: Arc::new(Target::new(service, [])), metrics }
    }

    #[test]
    fn one_target_and_time_is_one_message() {
        let merged = merge(vec![
            message(1, "a", &[("x", 1.0)]),
            message(1, "b", &[("x", 2.0)]),
            message(1, "a", &[("y", 3.0)]),
            message(2, "a", &[("x", 4.0)]),
            message(1, "a", &[("x", 5.0)]),
        ]);
        let expect = vec![
            message(1, "a", &[("x", 1.0), ("y", 3.0)]),
            message(1, "b", &[("x", 2.0)]),
            message(2, "a", &[("x", 4.0)]),
            message(1, "a", &[("x", 5.0)]),
        ];
        assert_eq!(merged, expect);
    }

    #[test]
    fn a_failing_member_takes_nothing_from_the_others() {
        let failed = CollectError { reason: "no".into(), gathered: vec![message(1, "a", &[("y", 2.0)])] };
        let members: Vec<Box<dyn Collector>> =
            vec![Box::new(Fixed(Ok(vec![message(1, "a", &[("x", 1.0)])]))), Box::new(Fixed(Err(failed)))];
        let error = Together::new("t", members).collect(1).unwrap_err();
        assert_eq!(error.reason, "no");
        assert_eq!(error.gathered, vec![message(1, "a", &[("x", 1.0), ("y", 2.0)])]);
    }
}
