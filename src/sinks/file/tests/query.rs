//! Queries against a naive look at everything.

use super::super::*;
use super::*;

/// What the answer must be, by looking at everything. Ties in time are left open, so times are unique.
fn naive(messages: &[Message], query: &Query) -> Vec<Message> {
    let mut found: Vec<Message> = messages
        .iter()
        .filter(|m| query.start_ns <= m.time_ns && m.time_ns < query.end_ns)
        .filter(|m| query.service.as_deref().is_none_or(|service| service == &*m.target.service))
        .filter(|m| query.tags.iter().all(|(name, value)| m.target.tag(name) == Some(value)))
        .cloned()
        .collect();
    for message in &mut found {
        message.metrics.retain(|(name, _)| {
            query.metrics.is_empty() || query.metrics.iter().any(|wanted| **wanted == **name)
        });
        message.metrics.sort_by(|a, b| a.0.cmp(&b.0));
    }
    found.retain(|message| !message.metrics.is_empty());
    found.sort_by_key(|message| std::cmp::Reverse(message.time_ns));
    found.truncate(query.limit);
    found
}

#[test]
fn queries_agree_with_looking_at_everything() {
    for (format, compression) in KINDS {
        let mut place = Place::new(format, compression);
        place.config.rotation = Rotation::Hourly;
        let mut sink = place.open();
        let mut dice = Dice(7);
        let mut stored = Vec::new();
        for at in 0..400_i64 {
            let late = dice.below(3 * 3_600) as i64 * SECOND;
            let service = ["a", "b", "c"][dice.below(3) as usize];
            let host = ["x", "y"][dice.below(2) as usize];
            let value = dice.below(1_000) as f64 / 7.0;
            let metrics = [("m", value), ("n", -value), ("o", 1.0)];
            let from = dice.below(3) as usize;
            let message =
                message(NOON + at * 60 * SECOND - late + at, service, &[("host", host)], &metrics[from..]);
            sink.write(std::slice::from_ref(&message)).unwrap();
            stored.push(message);
            if dice.below(4) == 0 {
                sink.flush(0).unwrap();
            }
            place.wait(60 * SECOND);
        }
        sink.flush(0).unwrap();
        for _ in 0..200 {
            let start = NOON + (dice.below(400) as i64 - 100) * 60 * SECOND;
            let query = Query {
                service: [None, Some("a".to_string()), Some("none".to_string())][dice.below(3) as usize]
                    .clone(),
                metrics: [vec![], vec!["m".into()], vec!["n".into(), "o".into()]][dice.below(3) as usize]
                    .clone(),
                tags: [vec![], vec![("host".into(), "y".into())]][dice.below(2) as usize].clone(),
                start_ns: [TimeNs::MIN, start][dice.below(2) as usize],
                end_ns: [TimeNs::MAX, start + dice.below(9 * 3_600) as i64 * SECOND][dice.below(2) as usize],
                limit: [0, 1, 7, 100, 1_000][dice.below(5) as usize],
            };
            let mut found = read(&sink, &query);
            found.iter_mut().for_each(|message| message.metrics.sort_by(|a, b| a.0.cmp(&b.0)));
            assert_eq!(found, naive(&stored, &query), "{format:?} {compression} {query:?}");
        }
    }
}

#[test]
fn observations_that_share_time_and_series_all_stay() {
    for (format, compression) in KINDS {
        let place = Place::new(format, compression);
        let mut sink = place.open();
        let messages: Vec<Message> =
            (0..50).map(|at| message(NOON, "s", &[], &[("m", (at % 5) as f64), ("n", 1.0)])).collect();
        for part in messages.chunks(10) {
            sink.write(part).unwrap();
            sink.flush(0).unwrap();
        }
        assert_eq!(rows(&read(&sink, &all())), rows(&messages), "{format:?}");
        assert_eq!(read(&sink, &all()).len(), 50, "{format:?}");
        assert_eq!(read(&sink, &Query { limit: 20, ..Query::default() }).len(), 20);
    }
}
