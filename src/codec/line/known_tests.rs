//! The tiers of the line protocol against each other: the same samples and rejects on every body, known or new.
//!
//! For longer runs: `PROPTEST_CASES=1000000 cargo test --release --lib codec::line::known`.

use std::sync::Arc;

use operators::catalog::{Catalog, CatalogLimits};
use operators::sample::SECOND;
use proptest::prelude::*;
use proptest::sample::select;

use crate::codec::Codec;
use crate::codec::decoder::{Decoder, Limits};
use crate::codec::line::{LineProtocol, Precision, decode_fully};

/// Samples, rejects, what was passed over, lines, whether all that were taken have times, series of the catalog.
type Outcome = (Vec<(u32, u32, i64, u64)>, Vec<String>, String, u64, bool, usize);

struct Tiers {
    all: Decoder,
    scan: Decoder,
    full: Decoder,
    catalogs: [Arc<Catalog>; 3],
}

impl Tiers {
    fn new() -> Tiers {
        let catalogs = [(); 3].map(|()| Arc::new(Catalog::new(CatalogLimits::default())));
        let limits = Limits { dedup: true, ..Limits::default() };
        let [all, scan, full] = catalogs.clone().map(|catalog| Decoder::new(catalog, limits));
        Tiers { all, scan, full, catalogs }
    }

    /// Decodes by all tiers, compares, and tells how many lines of the next such body were not compared.
    fn agree(&mut self, body: &[u8], precision: Precision) -> u32 {
        let outcome = |decoder: &mut Decoder, catalog: &Catalog, is_full: bool| -> Outcome {
            decoder.begin(1_704_110_400 * SECOND);
            let decode = if is_full { decode_fully } else { super::super::decode_known };
            let all_have_times = decode(body, precision, decoder);
            let samples = decoder.samples.iter().map(|s| (s.series, s.seq, s.time_ns, s.value.to_bits()));
            let rejects = decoder.rejects.iter().map(|r| format!("{r:?}"));
            let untold = format!("{:?}", decoder.untold);
            (samples.collect(), rejects.collect(), untold, decoder.messages, all_have_times, catalog.len())
        };
        self.all.layouts.give_credit();
        let full = outcome(&mut self.full, &self.catalogs[2], true);
        let text = String::from_utf8_lossy(body);
        let mut scanned = 0;
        // Targets are learned first, then what their lines look like.
        for time in ["first", "second", "third"] {
            let all = outcome(&mut self.all, &self.catalogs[0], false);
            assert_eq!(all, full, "a {time} time: {text}");
            scanned = self.all.layouts.take_scanned();
            self.all.layouts.give_credit();
            if time == "second" {
                self.all.layouts.take_scanned();
            }
            // Without anything learned of what lines look like, the scanner has them.
            self.scan.layouts = Default::default();
            self.scan.layouts.take_scanned();
            let scan = outcome(&mut self.scan, &self.catalogs[1], false);
            assert_eq!(scan, full, "a {time} time, by the scanner: {text}");
        }
        scanned
    }
}

#[test]
fn lines_of_numbers_are_compared_once_they_were_learned() {
    let mut tiers = Tiers::new();
    for (body, full) in [
        ("m,t=1 a=1,b=2.5,c=3i,d=4u 17\nm,t=2 a=-1,b=0.001,c=-3i,d=44u\n", 0),
        ("m,t=1 a=7.25,b=2,c=9223372036854775807i,d=4u 17\r\nm,t=3 a=1,b=2,c=3i,d=4u", 0),
        ("m,t=1 a=1 17\nm,t=1 a=2,b=3 18\nm,t=1 b=2 19", 0),
        (r"m\ n,t\,=\=1 a\ =1,b\,=2 17", 0),
        ("\"m\",a=\"b\" \"v\"=1 1", 0),
        ("m,t=1  \t a=1,b=2 17\n\n \nm,t=1  \t a=1,b=2 -17", 0),
        ("m,t=1 a=1e5 17", 1),
        ("m,t=1 a=t 17", 1),
        ("m,t=1 a=01 17", 1),
        ("m,t=1 a=1,a=2 17", 1),
        ("m,t=1 a=-0i,b=-0 17", 0),
        ("m,t=1 a=1 17 ", 1),
    ] {
        assert_eq!(tiers.agree(body.as_bytes(), Precision::NANOSECOND), full, "{body}");
    }
}

/// A body of lines that look like one another, but for what stands in them.
fn body() -> impl Strategy<Value = String> {
    let number = || {
        prop_oneof![
            6 => "-?(0|[1-9][0-9]{0,9})(\\.[0-9]{1,9})?",
            2 => "-?[0-9]{1,20}[iu]",
            1 => "-?[0-9.]{1,24}([eE][+-]?[0-9]{1,3})?[iu]?",
            1 => select(vec!["t", "false", "\"text\"", "\"a\n b=1\"", "-0i", "-0u", "1.5i", "9223372036854775808i", "x", ""]).prop_map(String::from),
        ]
    };
    let key =
        select(vec!["m,h=1", "m,h=2", "m", r"m\ ,h=1", "m,h=\"1\"", "n,é=ü", "m,h=1,h=2", "#m", " m,h=1"]);
    let long = "a_name_that_is_longer_than_thirty_two_bytes_1 a_name_that_is_longer_than_thirty_two_bytes_2";
    let names =
        select(vec![long, &long[46..], "a b c", "a b", "b a", "c", "a a", "a b c d", r"a\  b", "\"a\" b"]);
    let time = prop_oneof![
        2 => Just(String::new()),
        4 => " 17041104[0-9]{2}0{9}",
        1 => " -?[0-9]{1,20} ?",
        1 => " 1804110400000000000",
    ];
    let end = select(vec!["\n", "\n", "\n", "\r\n", "\n\n", "\n \t\n", "", "\r"]);
    let line = (key, names, prop::collection::vec(number(), 4), time, end);
    let line = line.prop_map(|(key, names, numbers, time, end)| {
        let names =
            names.split_inclusive(' ').map(|name| if name.ends_with(r"\ ") { name } else { name.trim_end() });
        let fields: Vec<String> =
            names.zip(numbers).map(|(name, number)| format!("{name}={number}")).collect();
        format!("{key} {}{time}{end}", fields.join(","))
    });
    prop::collection::vec(line, 1..6).prop_map(|lines| lines.concat())
}

fn precision() -> impl Strategy<Value = Precision> {
    let words = vec!["ns", "us", "s", "auto"];
    select(words).prop_map(|word| Precision::of_word(word).expect("a precision"))
}

proptest! {
    #![proptest_config(crate::codec::cases(500))]

    #[test]
    fn all_tiers_agree_on_lines(
        bodies in prop::collection::vec((body(), precision()), 1..6), hashes in select(vec![u64::MAX, 2]), bytes_max in select(vec![usize::MAX, 1000]),
    ) {
        let mut tiers = Tiers::new();
        for (body, precision) in bodies {
            for decoder in [&mut tiers.all, &mut tiers.scan, &mut tiers.full] {
                decoder.shapes.hashes = hashes;
            }
            tiers.all.shapes.bytes_max = bytes_max;
            tiers.agree(body.as_bytes(), precision);
        }
    }

    #[test]
    fn all_tiers_agree_on_damaged_lines(
        before in prop::collection::vec(body(), 1..3), body in body(), at in any::<prop::sample::Index>(),
        bytes in prop_oneof!["[=, \"\n\r\t\\\\0-9a-ciu.#-]".prop_map(String::into_bytes), prop::collection::vec(any::<u8>(), 0..3)],
        taken in select(vec![0, 1, 2, 1000]),
    ) {
        let mut tiers = Tiers::new();
        for body in before.iter().chain([&body]) {
            tiers.agree(body.as_bytes(), Precision::NANOSECOND);
        }
        let at = at.index(body.len() + 1);
        let end = (at + taken).min(body.len());
        let damaged = [&body.as_bytes()[..at], &bytes, &body.as_bytes()[end..]].concat();
        tiers.agree(&damaged, Precision::NANOSECOND);
    }

    #[test]
    fn a_whole_body_is_taken_or_nothing_of_it(bodies in prop::collection::vec(body(), 1..4)) {
        let protocol = LineProtocol { precision: Precision::NANOSECOND, is_whole: true };
        let mut tiers = Tiers::new();
        for body in bodies {
            tiers.all.begin(0);
            protocol.decode(body.as_bytes(), &mut tiers.all).expect("lines are never malformed");
            prop_assert!(tiers.all.rejected() == 0 || tiers.all.samples.is_empty());
        }
    }
}
