//! Series whose strange samples are known, extremes, and what must never change a judgement.

use super::*;
use crate::sample::{HOUR, MINUTE, SECOND};

/// Numbers without a pattern, the same every time.
struct Draws(u64);

impl Draws {
    /// From 0 to 1.
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }

    /// Normal, by twelve uniform ones.
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0
    }
}

fn observe_all(detector: &mut Detector, samples: impl IntoIterator<Item = (TimeNs, f64)>) -> Vec<Judgement> {
    samples.into_iter().map(|(time_ns, value)| detector.observe(time_ns, value)).collect()
}

fn judge(samples: impl IntoIterator<Item = (TimeNs, f64)>) -> Vec<Judgement> {
    observe_all(&mut Detector::new(&Settings::default()), samples)
}

/// One value every five minutes.
fn series(values: impl IntoIterator<Item = f64>) -> Vec<(TimeNs, f64)> {
    (0..).map(|n| n * 5 * MINUTE).zip(values).collect()
}

fn noise(len: usize, seed: u64) -> Vec<f64> {
    let mut draws = Draws(seed);
    (0..len).map(|_| 100.0 + 3.0 * draws.normal()).collect()
}

/// Where the scores are 0.5 or more.
fn alarms(judgements: &[Judgement]) -> Vec<usize> {
    (0..judgements.len()).filter(|n| judgements[*n].score >= 0.5).collect()
}

#[test]
fn a_detector_is_small() {
    for row in METHODS {
        let detector = Detector::new(&Settings { method: row.name.parse().unwrap() });
        assert!(detector.state_bytes() <= 4096, "{}: {}", row.name, detector.state_bytes());
    }
    let default = Detector::new(&Settings::default());
    assert!(default.state_bytes() > 3000, "all of it is counted: {}", default.state_bytes());
}

#[test]
fn each_strange_thing_is_found_where_it_begins_and_named() {
    type Change = fn(usize, f64) -> f64;
    // A name, what becomes of sample n after the change, within how many samples, and what may be said of it.
    let cases: &[(&str, Change, usize, &[Reason])] = &[
        ("spike", |n, value| if n == 0 { value + 60.0 } else { value }, 0, &[Reason::Spike, Reason::Record]),
        ("dip", |n, value| if n == 0 { value - 60.0 } else { value }, 0, &[Reason::Spike, Reason::Record]),
        ("level", |_, value| value + 40.0, 0, &[Reason::Spike, Reason::Record, Reason::Level]),
        (
            "slow level",
            |n, value| value + (n as f64).min(25.0),
            25,
            &[Reason::Level, Reason::Spike, Reason::Record],
        ),
        (
            "unrest",
            |_, value| 100.0 + 4.0 * (value - 100.0),
            12,
            &[Reason::Unrest, Reason::Step, Reason::Spike, Reason::Record],
        ),
    ];
    for (name, change, within, reasons) in cases {
        for seed in 1..6 {
            let mut values = noise(3000, seed);
            for (n, value) in values[2000..].iter_mut().enumerate() {
                *value = change(n, *value);
            }
            let judgements = judge(series(values));
            let found = alarms(&judgements).into_iter().find(|at| *at >= 2000);
            let at = found.unwrap_or_else(|| panic!("{name} {seed}: not found"));
            assert!(at <= 2000 + within, "{name} {seed}: found at {at}");
            assert!(reasons.contains(&judgements[at].reason), "{name} {seed}: {:?}", judgements[at]);
        }
    }
}

#[test]
fn a_line_gone_flat_is_named() {
    for seed in 1..6 {
        let mut values = noise(3000, seed);
        values[2000..].fill(100.0);
        let judgements = judge(series(values));
        // It grows strange sample by sample, each hardly stranger than the one before, so it stays below an alarm.
        let strangest = judgements[2000..2040].iter().max_by(|a, b| a.score.total_cmp(&b.score)).unwrap();
        assert_eq!(strangest.reason, Reason::Flat, "{seed}: {strangest:?}");
        assert!(strangest.score > 0.4, "{seed}: {strangest:?}");
    }
}

#[test]
fn what_comes_again_and_again_falls_silent() {
    // Two spikes in a hundred samples, on a line that is flat but for rounding.
    let spiky = |n: usize| if [0, 6].contains(&(n % 100)) { 20.0 } else { (n % 3) as f64 * 1e-3 };
    let judgements = judge(series((0..6000).map(spiky)));
    let (early, late) = (alarms(&judgements[..1000]).len(), alarms(&judgements[3000..]).len());
    assert!(early > 0 && late <= 30, "{early} alarms, then {late} of 60 spikes");
}

#[test]
fn a_level_that_stays_is_told_once() {
    for shift in [15.0, 40.0, 4e6, -4e6] {
        let mut values = noise(4000, 3);
        values[2000..].iter_mut().for_each(|value| *value += shift);
        let judgements = judge(series(values));
        let later = alarms(&judgements).into_iter().filter(|at| *at >= 2000).count();
        assert!((1..=8).contains(&later), "{shift}: {later} alarms");
        let settled = alarms(&judgements[2300..]).len();
        assert!(settled <= 4, "{shift}: {settled} alarms after 300 samples");
        let last = &judgements[3999];
        assert!(last.lower < 100.0 + shift && 100.0 + shift < last.upper, "{shift}: {last:?}");
    }
}

#[test]
fn ordinary_noise_rarely_alarms() {
    let (mut all, mut samples) = (0, 0);
    for seed in 10..20 {
        let judgements = judge(series(noise(10_000, seed)));
        all += alarms(&judgements[1000..]).len();
        samples += 9_000;
    }
    // A score of 0.5 is that of one in 200 by the strangest of six components, before novelty.
    let per_sample = f64::from(all as u32) / f64::from(samples);
    assert!(per_sample < 0.004, "{all} alarms of {samples} samples");
    assert!(all > 0, "a detector that never alarms finds nothing");
}

#[test]
fn a_flat_line_is_ordinary_until_it_moves() {
    for level in [0.0, 45.0, -1e15, 1e-9] {
        let judgements = judge(series([level; 2000]));
        assert!(judgements.iter().all(|judgement| judgement.score == 0.0), "{level}");
        assert!(judgements.iter().skip(WARM_UP as usize).all(|judgement| judgement.warmed_up));
        let moved = judge(series([level; 2000].into_iter().chain([level + level.abs().max(1.0) * 1e-3])));
        assert!(moved[2000].score > 0.6, "{level}: {:?}", moved[2000]);
    }
}

/// Days of 288 samples with a high plateau from 9 to 18 h.
fn days(count: usize) -> Vec<f64> {
    let mut draws = Draws(5);
    let plateau = |n: usize| if (108..216).contains(&(n % 288)) { 60.0 } else { 0.0 };
    (0..count * 288).map(|n| 20.0 + plateau(n) + draws.uniform() * 4.0).collect()
}

#[test]
fn a_day_unlike_the_others_is_strange_though_its_values_are_not() {
    let ordinary = judge(series(days(14)));
    assert!(alarms(&ordinary[7 * 288..]).len() <= 4, "{:?}", alarms(&ordinary));
    let mut values = days(14);
    // The plateau does not come on the eleventh day.
    let missing = 10 * 288 + 108..10 * 288 + 216;
    values[missing.clone()].iter_mut().for_each(|value| *value -= 60.0);
    let judgements = judge(series(values));
    let found = alarms(&judgements).into_iter().find(|at| missing.contains(at)).expect("it is found");
    assert!(found < missing.start + 3, "{found}, {}", missing.start);
    assert_eq!(judgements[found].reason, Reason::Season);
    assert!(judgements[found].lower > 25.0, "the band knows of the plateau: {:?}", judgements[found]);
}

#[test]
fn scale_and_units_do_not_matter() {
    let values = days(8);
    let expected: Vec<f64> = judge(series(values.iter().copied())).iter().map(|j| j.score).collect();
    // Powers of two, which change no digit of a mantissa.
    for exponent in [-40, -10, 13, 50] {
        let scale = 2.0_f64.powi(exponent);
        let scores: Vec<f64> =
            judge(series(values.iter().map(|value| value * scale))).iter().map(|j| j.score).collect();
        assert_eq!(scores, expected, "2^{exponent}");
    }
    for scale in [1e-9, 1e15, -1.0] {
        let scores: Vec<f64> =
            judge(series(values.iter().map(|value| value * scale))).iter().map(|j| j.score).collect();
        let differ = (0..scores.len()).filter(|n| (scores[*n] - expected[*n]).abs() > 0.02).count();
        assert!(differ < scores.len() / 100, "{scale}: {differ} scores differ");
    }
}

#[test]
fn small_deviations_on_a_large_level_are_seen() {
    // Counters and Unix times: a level of 1e9 that moves by single units.
    let mut draws = Draws(8);
    let mut values: Vec<f64> = (0..3000).map(|_| 1e9 + (draws.normal() * 2.0).round()).collect();
    values[0] = 0.0;
    values[2800] += 60.0;
    let judgements = judge(series(values));
    assert!(judgements[2800].score > 0.5, "{:?}", judgements[2800]);
    let (lower, upper) = (judgements[2700].lower - 1e9, judgements[2700].upper - 1e9);
    assert!(lower > -60.0 && upper < 60.0 && lower < 0.0 && upper > 0.0, "{lower} to {upper}");
}

#[test]
fn missing_samples_are_not_strange() {
    let values = noise(6000, 9);
    // A gap of ten hours, then a gap at random every now and then.
    let mut draws = Draws(4);
    let kept: Vec<(TimeNs, f64)> = series(values)
        .into_iter()
        .filter(|(time_ns, _)| !(200 * HOUR..210 * HOUR).contains(time_ns) && draws.uniform() > 0.2)
        .collect();
    let judgements = judge(kept.iter().copied());
    let after = kept.iter().position(|(time_ns, _)| *time_ns >= 210 * HOUR).unwrap();
    assert!(judgements[after].score < 0.4, "{:?}", judgements[after]);
    assert!(alarms(&judgements).len() < 30, "{}", alarms(&judgements).len());
}

#[test]
fn extremes_give_finite_scores_and_bands() {
    let values = [
        0.0,
        -0.0,
        f64::MAX,
        f64::MIN,
        5e-324,
        f64::MIN_POSITIVE,
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        1e15,
        1e-9,
        1.0,
        -1e300,
        1e38,
        3.5e38,
    ];
    let times = [0, i64::MIN, i64::MAX, -1, 1, SECOND, HOUR];
    for row in METHODS {
        let mut detector = Detector::new(&Settings { method: row.name.parse().unwrap() });
        let mut draws = Draws(2);
        for n in 0..20_000 {
            let value = values[(draws.uniform() * values.len() as f64) as usize];
            let time_ns = if n % 2 == 0 { n * SECOND } else { times[(draws.uniform() * 7.0) as usize] };
            let judgement = detector.observe(time_ns, value);
            assert!((0.0..1.0).contains(&judgement.score), "{} {n}: {judgement:?}", row.name);
            if value.is_finite() {
                let (lower, upper) = (judgement.lower, judgement.upper);
                assert!(
                    lower.is_finite() && upper.is_finite() && lower <= upper,
                    "{} {n}: {judgement:?}",
                    row.name
                );
            }
        }
    }
}

#[test]
fn what_is_no_number_leaves_no_trace() {
    let samples = series(noise(600, 4));
    let expected = judge(samples.iter().copied());
    let mut detector = Detector::new(&Settings::default());
    let mut judgements = Vec::new();
    for (time_ns, value) in samples {
        for bad in [f64::NAN, f64::INFINITY] {
            assert_eq!(detector.observe(time_ns, bad).score, 0.0);
        }
        judgements.push(detector.observe(time_ns, value));
    }
    assert_eq!(judgements, expected);
    assert_eq!(detector.samples(), 600);
}

#[test]
fn a_saved_detector_goes_on_to_the_bit() {
    for row in METHODS {
        let settings = Settings { method: row.name.parse().unwrap() };
        let mut detector = Detector::new(&settings);
        let samples = series(days(6).into_iter().chain([1e15, -7.0, 0.1]).chain(noise(500, 2)));
        for (half, at) in [(0, 3), (1, 700), (2, 1700)] {
            let mut whole = Detector::new(&settings);
            let expected = observe_all(&mut whole, samples.iter().copied());
            detector = Detector::new(&settings);
            let mut judgements = observe_all(&mut detector, samples[..at].iter().copied());
            let saved = serde_json::to_string(&detector).unwrap();
            let mut restored: Detector = serde_json::from_str(&saved).unwrap();
            assert_eq!(restored, detector);
            judgements.extend(observe_all(&mut restored, samples[at..].iter().copied()));
            assert_eq!(judgements, expected, "{} {half}", row.name);
            assert_eq!(restored, whole);
        }
        assert!(detector.samples() > 0);
    }
}

#[test]
fn warm_up_is_silent() {
    let judgements = judge(series([1.0, 1e9, -1e9, 0.0].into_iter().cycle().take(300)));
    for (n, judgement) in judgements.iter().enumerate() {
        assert_eq!(judgement.warmed_up, n >= WARM_UP as usize);
        assert!(judgement.warmed_up || judgement.score == 0.0, "{n}: {judgement:?}");
    }
}

#[test]
fn every_reason_has_words() {
    let all = [
        Reason::Nothing,
        Reason::Spike,
        Reason::Record,
        Reason::Step,
        Reason::Level,
        Reason::Unrest,
        Reason::Flat,
        Reason::Season,
    ];
    let words: std::collections::BTreeSet<&str> = all.iter().flat_map(|r| [r.word(), r.text()]).collect();
    assert_eq!(words.len(), 2 * all.len());
    assert_eq!(format!("{:>6}", Reason::Step), "  step");
}
