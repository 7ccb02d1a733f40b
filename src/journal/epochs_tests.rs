//! Epochs as bytes, and bytes that are none.

use super::*;
use operators::rollup::Rollup;
use operators::rule::Grouping;
use operators::rule::{Level, Rule};
use operators::series::TargetMatcher;
use proptest::prelude::*;

fn any_epoch() -> impl Strategy<Value = Epoch> {
    let sample = (any::<u32>(), any::<i64>(), any::<u64>()).prop_map(|(series, time_ns, bits)| Sample {
        series,
        seq: 0,
        time_ns,
        value: f64::from_bits(bits),
    });
    let near = (0..50u32, 0..5_000i64, any::<f64>()).prop_map(|(series, ms, value)| Sample {
        series,
        seq: 0,
        time_ns: 1_700_000_000_000_000_000 + ms * 1_000_000,
        value,
    });
    let batch = prop_oneof![prop::collection::vec(sample, 0..20), prop::collection::vec(near, 0..200)];
    let target = (".{0,8}", prop::collection::vec((".{0,4}", ".{0,4}"), 0..4))
        .prop_map(|(s, tags)| Arc::new(Target::new(&s, tags.iter().map(|(n, v)| (n.as_str(), v.as_str())))));
    let entries = (
        prop::collection::vec(target, 1..4),
        prop::collection::vec((any::<u32>(), 0..3usize, ".{0,9}"), 0..9),
    )
        .prop_map(|(targets, entries)| {
            let entry = |(id, at, metric): (u32, usize, String)| Entry {
                id,
                key: SeriesKey { target: targets[at % targets.len()].clone(), metric: metric.into() },
            };
            entries.into_iter().map(entry).collect::<Vec<_>>()
        });
    let request = (any::<u128>(), any::<u32>(), any::<u32>()).prop_map(|(key, accepted, rejected)| Request {
        key,
        accepted,
        rejected,
    });
    let rule = |(number, name, threshold): (u32, String, f64)| {
        let level = Level::new(">=".parse().unwrap(), threshold);
        (number, Rule { name: name.into(), level, ..Rule::default() })
    };
    let change = (
        prop::collection::vec(any::<u32>(), 0..3),
        prop::collection::vec((any::<u32>(), ".{0,9}", -1e9..1e9), 0..3),
    );
    let change = change.prop_map(move |(removed, added)| {
        Arc::new(RuleChange { removed, added: added.into_iter().map(rule).collect() })
    });
    (
        (any::<u64>(), any::<i64>(), any::<i64>()),
        prop::collection::vec(batch, 0..5),
        entries,
        prop::collection::vec(request, 0..3),
        prop::option::of(change),
        any_change(),
    )
        .prop_map(|((number, arrival_ns, floor_ns), batches, entries, requests, rules, rollups)| Epoch {
            number,
            arrival_ns,
            floor_ns,
            batches,
            entries,
            requests,
            rules,
            rollups,
        })
}

fn any_change() -> impl Strategy<Value = RollupChange> {
    let rollup = (any::<u32>(), ".{0,9}", any::<i64>()).prop_map(|(number, name, width_ns)| {
        let rollup = Rollup {
            name: name.as_str().into(),
            metric: name,
            matcher: TargetMatcher::default(),
            over: None,
            grouping: Grouping::Without(vec!["host".into()]),
            width_ns,
            hop_ns: width_ns,
            functions: vec!["avg".into()],
            samples_min: 0,
            correct_ns: width_ns,
            keep_ns: 0,
        };
        (number, Arc::new(rollup))
    });
    (prop::collection::vec(any::<u32>(), 0..3), prop::collection::vec(rollup, 0..3))
        .prop_map(|(removed, added)| RollupChange { removed, added })
}

/// To compare values bit for bit.
fn bits(epoch: &Epoch) -> Vec<Vec<(u32, u32, i64, u64)>> {
    let of = |s: &Sample| (s.series, s.seq, s.time_ns, s.value.to_bits());
    epoch.batches.iter().map(|batch| batch.iter().map(of).collect()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_epoch_reads_back(epoch in any_epoch()) {
        let mut bytes = b"before".to_vec();
        let samples_len = encode(&epoch, &mut bytes);
        let back = decode(&bytes[6..]).unwrap();
        let batches = decode_batches(&bytes[6..samples_len]).unwrap();
        prop_assert_eq!(bits(&Epoch { batches, ..Epoch::default() }), bits(&epoch));
        prop_assert_eq!(
            (back.number, back.arrival_ns, back.floor_ns),
            (epoch.number, epoch.arrival_ns, epoch.floor_ns)
        );
        prop_assert_eq!(bits(&back), bits(&epoch));
        prop_assert_eq!(&back.entries, &epoch.entries);
        prop_assert_eq!(&back.requests, &epoch.requests);
        prop_assert_eq!(&back.rules, &epoch.rules);
        prop_assert_eq!(&back.rollups, &epoch.rollups);
        for pair in back.entries.windows(2) {
            let same = pair[0].key.target == pair[1].key.target;
            prop_assert_eq!(Arc::ptr_eq(&pair[0].key.target, &pair[1].key.target), same);
        }
        let mut entries = Vec::new();
        encode_entries(&epoch.entries, &mut entries);
        prop_assert_eq!(decode_entries(&entries).unwrap(), epoch.entries);
    }

    #[test]
    fn what_is_cut_is_no_epoch(epoch in any_epoch(), cut in any::<prop::sample::Index>()) {
        let mut bytes = Vec::new();
        encode(&epoch, &mut bytes);
        let cut = cut.index(bytes.len());
        prop_assert!(decode(&bytes[..cut]).is_err());
        bytes.push(0);
        prop_assert!(decode(&bytes).is_err());
    }

    #[test]
    fn any_bytes_are_an_epoch_or_none(mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&bytes);
        if let Some(first) = bytes.first_mut() {
            *first = VERSION;
        }
        let _ = decode(&bytes);
        let _ = decode_entries(&bytes);
    }
}

#[test]
fn an_absurd_count_takes_no_memory() {
    for (bytes, expected) in [
        (&[][..], "byte 0: expected more bytes"),
        (&[9], "byte 0: expected version 1, 2, 3 or 4"),
        (
            &[1, 1, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1],
            "byte 14: expected a count that the bytes can hold",
        ),
        (&[1, 1, 0, 0, 1, 0, 255, 255, 255, 255, 15], "byte 11: expected a count that the bytes can hold"),
        (&[1, 1, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0], "byte 5: expected 0 or 1"),
        (
            &[1, 255, 255, 255, 255, 255, 255, 255, 255, 255, 2],
            "byte 1: expected a number of at most ten bytes",
        ),
        (&[1, 1, 0, 0, 1, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0], "byte 7: expected a sample"),
    ] {
        assert_eq!(decode(bytes).unwrap_err().to_string(), expected);
    }
}
