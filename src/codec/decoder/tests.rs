//! Tests of the decoder's memory: every sample gets its own series, in whatever order names come, at few bytes a series.

use std::sync::Arc;

use operators::catalog::{Catalog, CatalogLimits};
use proptest::prelude::*;

use super::{Decoder, Limits, ShapeId};

fn decoder() -> (Decoder, Arc<Catalog>) {
    let catalog = Arc::new(Catalog::new(CatalogLimits::default()));
    (Decoder::new(catalog.clone(), Limits::default()), catalog)
}

fn shape(decoder: &mut Decoder, host: usize) -> ShapeId {
    let tags = format!("host={host}");
    decoder.known_shape(b"s", tags.as_bytes()).unwrap_or_else(|| {
        decoder.learn_shape(b"s", tags.as_bytes(), "s", &[("host", &host.to_string())]).unwrap()
    })
}

/// Pushes metrics of hosts, by number, and checks what became of each.
fn check(pushes: &[(usize, usize, usize)]) {
    let (mut decoder, catalog) = decoder();
    for (host, place, metric) in pushes {
        let shape = shape(&mut decoder, *host);
        decoder.samples.clear();
        decoder.push(shape, *place, &format!("m{metric}"), 7, 1.5);
        let key = catalog.key(decoder.samples[0].series).unwrap();
        let found = (key.target.tag("host"), &*key.metric);
        assert_eq!(found, (Some(&*host.to_string()), &*format!("m{metric}")));
    }
    let mut distinct: Vec<_> = pushes.iter().map(|(host, _, metric)| (host, metric)).collect();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(catalog.len(), distinct.len());
}

#[test]
fn names_in_another_order_each_time() {
    let mut pushes = Vec::new();
    for round in 0..5 {
        for host in 0..40 {
            for at in 0..90 {
                pushes.push((host, at, (at * (2 * host + 1) + round) % (50 + host)));
            }
        }
    }
    check(&pushes);
}

#[test]
fn many_names_of_one_target_take_linear_time_in_any_order() {
    let (mut decoder, catalog) = decoder();
    let shape = shape(&mut decoder, 1);
    let names: Vec<String> = (0..20_000).map(|number| format!("m{number}")).collect();
    for _ in 0..3 {
        for (place, name) in names.iter().rev().enumerate() {
            decoder.push(shape, place, name, 7, 1.0);
        }
        for (place, name) in names.iter().enumerate() {
            decoder.push(shape, place, name, 7, 1.0);
        }
    }
    assert_eq!((catalog.len(), decoder.samples.len()), (20_000, 120_000));
    let series = |range: std::ops::Range<usize>| decoder.samples[range].iter().map(|s| s.series);
    assert!(series(0..20_000).eq(series(20_000..40_000).rev()));
}

#[test]
fn a_series_costs_few_bytes() {
    let (mut decoder, _) = decoder();
    let names: Vec<String> = (0..10).map(|number| format!("a_name_of_a_metric_{number}")).collect();
    for host in 0..10_000 {
        let shape = shape(&mut decoder, host);
        for (place, name) in names.iter().enumerate() {
            decoder.push(shape, place, name, 7, 1.0);
        }
    }
    let bytes = decoder.shapes.bytes();
    assert!((300_000..1_500_000).contains(&bytes), "{bytes} bytes for 100,000 series");
}

#[test]
fn too_much_is_forgotten_between_bodies_and_learned_again() {
    let (mut decoder, catalog) = decoder();
    for round in 0..4 {
        decoder.begin(0);
        decoder.shapes.bytes_max = 10_000;
        assert!(decoder.known_shape(b"s", b"host=0").is_none(), "round {round}");
        for host in 0..1000 {
            let shape = shape(&mut decoder, host);
            decoder.push(shape, 0, "m", 7, 1.0);
        }
        assert_eq!((catalog.len(), decoder.samples.len()), (1000, 1000));
    }
}

proptest! {
    #![proptest_config(crate::codec::cases(200))]

    #[test]
    fn every_sample_gets_its_own_series(
        pushes in prop::collection::vec((0usize..4, 0usize..70, prop_oneof![0usize..5, 0usize..300]), 0..400),
        runs in prop::collection::vec((0usize..4, 0usize..300, 0usize..150), 0..8),
    ) {
        let runs = runs.into_iter().flat_map(|(host, from, len)| (0..len).map(move |at| (host, at, from + at)));
        let all: Vec<_> = runs.collect();
        let halves = [&all[..all.len() / 2], &pushes, &all[all.len() / 2..], &pushes].concat();
        check(&halves);
    }
}
