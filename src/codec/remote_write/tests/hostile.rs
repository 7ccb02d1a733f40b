//! References that lead nowhere, bytes cut off, bytes of malice.

use super::*;

#[test]
fn references_that_lead_nowhere() {
    let good = three()[0].clone();
    let (symbols, refs) = symbols_of(std::slice::from_ref(&good));
    let symbols: Vec<u8> = symbols.iter().flat_map(|symbol| message(4, symbol.as_bytes())).collect();
    let series = |refs: &[u8]| message(5, &[message(1, refs), samples(&good)].concat());
    for (refs, why) in [
        (&[1, 7][..], "expected label references below 7, found 7"),
        (&[1, 2, 3], "expected label references in pairs, found an odd count"),
        (
            &[1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
            "below 7, found 18446744073709551615",
        ),
        (&[1, 0x80], "label references, byte 1: expected a number, found the end"),
    ] {
        let body = [
            symbols.clone(),
            series(refs),
            series(&packed(&self::symbols_of(std::slice::from_ref(&good)).1[0])),
        ]
        .concat();
        let read = World::new().read(&V2, &body);
        assert_eq!(read.samples, [THREE[0]]);
        assert_eq!(read.rejects.len(), 1);
        assert!(read.rejects[0].ends_with(why), "found {}, expected {why}", read.rejects[0]);
    }
    let none = World::new().read(&V2, &[symbols, series(&[])].concat());
    assert_eq!(none.rejects, ["0 - empty_name: no label __name__"]);
    assert_eq!(refs[0].len(), 6);
}

#[test]
fn a_broken_series_and_a_broken_sample() {
    let all = three();
    let of = |inner: Vec<u8>| message(1, &inner);
    let labels = labels_v1(&all[0]);
    for (bad, samples, found) in [
        (
            [labels.clone(), samples(&all[0]), vec![0x12, 0x50]].concat(),
            1,
            "malformed: a series, byte 19: expected as many",
        ),
        (
            [labels.clone(), message(2, &[9, 1])].concat(),
            0,
            "malformed: a sample, byte 1: expected a fixed number",
        ),
        (
            [labels.clone(), message(2, &[8, 1])].concat(),
            0,
            "malformed: a sample, byte 2: expected a value and a time",
        ),
        (
            [message(1, b"\x0a\xff"), samples(&all[0])].concat(),
            0,
            "malformed: labels, byte 1: expected a number",
        ),
        (
            [message(1, b"\x0a\x01\xff"), samples(&all[0])].concat(),
            0,
            "malformed: expected labels in UTF-8, found \u{fffd}",
        ),
        (
            [message(1, b"\x08\x01"), samples(&all[0])].concat(),
            0,
            "malformed: labels, byte 2: expected a label of two",
        ),
        (vec![0x0a, 0x05], 0, "empty_name: no label __name__"),
        (vec![0x08, 0x05], 0, "malformed: labels, byte 2: expected a label of its"),
    ] {
        let body = [of(bad), request_v1(&all[1..2])].concat();
        let mut world = World::new();
        for _ in 0..2 {
            let read = world.read(&V1, &body);
            assert_eq!(read.samples.len(), samples + 3, "{found}");
            assert_eq!(read.rejects.len(), 1, "{found}: {:?}", read.rejects);
            assert!(read.rejects[0].contains(found), "found {}, expected {found}", read.rejects[0]);
        }
    }
}

#[test]
fn what_was_read_before_the_end_is_kept() {
    for (codec, body) in [(&V1 as &dyn Codec, request_v1(&three()[..2])), (&V2, request_v2(&three()[..2]))] {
        let whole = World::new().read(codec, &body);
        assert!(whole.malformed.is_none());
        for len in 0..body.len() {
            let read = World::new().read(codec, &body[..len]);
            assert!(whole.samples.starts_with(&read.samples), "{len}");
            let ended_well = read.malformed.is_none();
            let complete = read.samples.len() < whole.samples.len() || !ended_well || len == body.len();
            assert!(complete, "{len}");
        }
        let Malformed { byte, detail } =
            World::new().read(codec, &body[..body.len() - 1]).malformed.expect("cut");
        assert!(byte < body.len() && detail.starts_with("expected as many bytes"), "byte {byte}: {detail}");
    }
}

/// Bodies that are made to cost much; each is read within its time, and takes little.
#[test]
fn bodies_of_malice() {
    let mib = |bytes: &[u8]| bytes.repeat((4 << 20) / bytes.len());
    let good = &three()[0];
    let nan_samples = mib(&message(2, &sample(f64::NAN, 1)));
    let long_symbol = message(4, &vec![b'x'; 60_000]);
    let names_it = message(5, &message(1, &[0, 0, 0, 0]));
    let padded = message(1, &message(9, &vec![0; 4 << 20]));
    let stuffed = sent(&[("__name__", "m"), ("original_names", &"[".repeat(16_000))], &[(1.0, 1)]);
    for (what, codec, body, samples, rejects) in [
        ("empty series", &V1 as &dyn Codec, mib(b"\x0a\x00"), 0, 2 << 20),
        (
            "a series of NaN",
            &V1,
            message(1, &[labels_v1(good), nan_samples.clone()].concat()),
            0,
            4_194_304 / 13,
        ),
        ("a label of padding", &V1, message(1, &padded), 0, 1),
        ("a label a million times", &V1, message(1, &mib(&label("a", "b"))), 0, 1),
        ("empty symbols", &V2, mib(b"\x22\x00"), 0, 0),
        ("a long symbol named often", &V2, [long_symbol, mib(&names_it)].concat(), 0, 4_194_304 / 8),
        ("brackets in brackets", &V1, request_v1(&[stuffed]), 0, 1),
        ("a message in a message", &V1, (0..500).fold(vec![], |inner, _| message(1, &inner)), 0, 1),
        ("good ones after all", &V1, mib(&request_v1(std::slice::from_ref(good))), 4_194_304 / 66, 0),
    ] {
        let mut world = World::new();
        let read = world.read(codec, &body);
        let rejected = world.decoder.rejected();
        assert!(read.rejects.len() <= REJECTS_TOLD_MAX, "{what}");
        assert_eq!((read.samples.len(), rejected), (samples, rejects), "{what}");
        assert!(world.catalog.len() <= 1, "{what}");
    }
}
