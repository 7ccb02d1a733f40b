//! Whatever an encoder writes is read, and whatever else comes does no harm.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-c]{0,2}", "\\PC{0,4}", "service|job|__name__|original_names|plantd"]
}

fn any_value() -> impl Strategy<Value = f64> {
    prop_oneof![any::<f64>(), Just(0.0), Just(-0.0), Just(f64::NAN), Just(f64::from_bits(STALE_BITS))]
}

fn any_time() -> impl Strategy<Value = i64> {
    prop_oneof![NOW_MS - 100_000..NOW_MS + 1_000_000, -10i64..10, any::<i64>()]
}

fn any_sent() -> impl Strategy<Value = Sent> {
    let labels = prop::collection::vec((any_text(), any_text()), 0..5);
    let named = ("[a-z]{1,3}", labels).prop_map(|(name, mut labels)| {
        labels.push(("__name__".into(), name));
        labels
    });
    (named, prop::collection::vec((any_value(), any_time()), 0..4))
        .prop_map(|(labels, samples)| Sent { labels, samples })
}

/// What a series should become, told without the reader.
fn expected(of: &Sent) -> Vec<String> {
    let mut labels = BTreeMap::new();
    for (name, value) in &of.labels {
        if name.is_empty() || labels.insert(name.as_str(), value.as_str()).is_some() {
            return vec![];
        }
    }
    if labels.iter().any(|(n, v)| n.chars().chain(v.chars()).any(char::is_control)) {
        return vec![];
    }
    labels.retain(|_, value| !value.is_empty());
    let Some(metric) = labels.remove("__name__") else { return vec![] };
    let (service, job) = (labels.remove("service"), labels.get("job").copied());
    if service.is_none() || job == Some("plantd") {
        labels.remove("job");
    }
    let service = service.or(job).unwrap_or("prometheus");
    let tags: String = labels.iter().map(|(name, value)| format!(" {name}={value}")).collect();
    let good = of.samples.iter().filter(|(value, at)| {
        value.is_finite() && at.checked_mul(MS).is_some_and(|ns| ns.saturating_sub(NOW_NS) <= 600 * SECOND)
    });
    good.map(|(value, at)| format!("{service} {metric}{tags} {value:?} @{at}")).collect()
}

proptest! {
    #[test]
    fn what_an_encoder_writes_is_read(all in prop::collection::vec(any_sent(), 0..6)) {
        let wanted: Vec<String> = all.iter().flat_map(expected).collect();
        let stale = all.iter().filter(|of| !expected(&Sent { samples: vec![(1.0, 0)], ..(*of).clone() }).is_empty());
        let stale = stale.flat_map(|of| &of.samples).filter(|(value, _)| value.to_bits() == STALE_BITS).count();
        for (codec, body) in [(&V1 as &dyn Codec, request_v1(&all)), (&V2, request_v2(&all))] {
            let mut world = World::new();
            for _ in 0..2 {
                let read = world.read(codec, &body);
                prop_assert_eq!(&read.samples, &wanted);
                prop_assert_eq!(read.malformed, None);
                prop_assert_eq!(read.passed_over.len(), stale);
            }
        }
    }

    #[test]
    fn any_bytes_are_read_without_panic(
        all in prop::collection::vec(any_sent(), 1..4),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        bytes in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut world = World::new();
        for (codec, mut body) in [(&V1 as &dyn Codec, request_v1(&all)), (&V2, request_v2(&all))] {
            for (at, byte) in &edits {
                let at = at.index(body.len());
                body[at] = *byte;
            }
            // A decoder that has learnt much and one that knows nothing read the same.
            let read = world.read(codec, &body);
            let again = world.read(codec, &body);
            prop_assert_eq!(&read.samples, &again.samples);
            prop_assert_eq!(read.rejects, again.rejects);
            prop_assert_eq!(&read.samples, &World::new().read(codec, &body).samples);
            world.read(codec, &bytes);
        }
    }
}
