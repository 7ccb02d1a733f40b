//! Random logs, random targets, random ends of the process, against what must come of it.

use super::*;
use proptest::prelude::*;

/// What happens before the next steps.
#[derive(Clone, Debug)]
enum Turn {
    Append(u64),
    Answers(Vec<Answer>),
    ReadError,
    Steps(u8),
    Pass(u16),
    Crash,
}

#[derive(Clone, Copy, Debug)]
enum Answer {
    Takes,
    Later,
    Asks(u16),
    Unusable,
}

impl From<Answer> for Result<(), SinkError> {
    fn from(answer: Answer) -> Self {
        match answer {
            Answer::Takes => Ok(()),
            Answer::Later => Err(later()),
            Answer::Asks(ms) => Err(SinkError::Retry { why: "busy".into(), after: Some(u32::from(ms) * MS) }),
            Answer::Unusable => Err(SinkError::unusable("no such database")),
        }
    }
}

fn answer() -> impl Strategy<Value = Answer> {
    prop_oneof![
        4 => Just(Answer::Takes),
        3 => Just(Answer::Later),
        1 => (0..5_000_u16).prop_map(Answer::Asks),
        1 => Just(Answer::Unusable),
    ]
}

fn turn(crashes: bool) -> impl Strategy<Value = Turn> {
    prop_oneof![
        5 => (0..60_u64).prop_map(Turn::Append),
        2 => prop::collection::vec(answer(), 1..6).prop_map(Turn::Answers),
        1 => Just(Turn::ReadError),
        5 => (1..30_u8).prop_map(Turn::Steps),
        2 => (0..3_000_u16).prop_map(Turn::Pass),
        u32::from(crashes) => Just(Turn::Crash),
    ]
}

fn play(stage: &mut Stage, turn: &Turn) {
    match turn {
        Turn::Append(samples) => stage.world.lock().append(*samples),
        Turn::Answers(answers) => {
            stage.world.lock().answers = answers.iter().map(|answer| (*answer).into()).collect();
        }
        Turn::ReadError => stage.world.lock().read_errors.push_back(io::Error::other("bad block")),
        Turn::Steps(steps) => {
            stage.shared.fresh.store(true, Release);
            stage.steps(usize::from(*steps));
        }
        Turn::Pass(ms) => stage.until(stage.now_ms + u64::from(*ms)),
        Turn::Crash => stage.crash(),
    }
}

fn check(turns: &[Turn], poison: &[u64], own_cursor: bool, per_message: u64, seed: u64) {
    let mut world = World::new(&[]);
    (world.own_cursor, world.per_message) = (own_cursor, per_message);
    world.poison = poison.iter().copied().collect();
    let mut stage = Stage::new(world, DeliveryConfig { seed, refusals_max: 5, ..config() });
    let mut crashed = false;
    let mut cursor = 0;
    for turn in turns {
        play(&mut stage, turn);
        crashed |= matches!(turn, Turn::Crash);
        let now = stage.shared.durable.load(Relaxed);
        assert!(now >= cursor, "the cursor went back from {cursor} to {now}");
        cursor = now;
        // One stretch in memory: a batch that is almost full, and one epoch more.
        assert!(stage.courier.load.samples() < 10 + 60);
    }
    stage.world.lock().answers.clear();
    stage.until_delivered();

    let world = stage.world.lock();
    let expected = |poisonous: bool| (0..world.samples()).filter(move |at| poison.contains(at) == poisonous);
    let mut stored: Vec<u64> = world.stored.iter().cloned().flatten().collect();
    let mut lettered = stage.lettered();
    if crashed {
        lettered.sort_unstable();
        lettered.dedup();
    }
    if crashed && !own_cursor {
        stored.sort_unstable();
        stored.dedup();
    }
    assert_eq!(stored, expected(false).collect::<Vec<_>>());
    assert_eq!(lettered, expected(true).collect::<Vec<_>>());
    if !crashed {
        let status = stage.status();
        assert_eq!((status.delivered, status.dead_lettered), (stored.len() as u64, lettered.len() as u64));
        assert_eq!((status.lag_samples, status.lag_epochs), (0, 0));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(100) })]

    #[test]
    fn everything_is_delivered_or_dead_lettered_exactly_once(
        turns in prop::collection::vec(turn(false), 1..40),
        poison in prop::collection::vec(0..400_u64, 0..12),
        own_cursor: bool, per_message in 1..20_u64, seed: u64,
    ) {
        check(&turns, &poison, own_cursor, per_message, seed);
    }

    #[test]
    fn and_at_least_once_through_crashes(
        turns in prop::collection::vec(turn(true), 1..40),
        poison in prop::collection::vec(0..400_u64, 0..12),
        own_cursor: bool, per_message in 1..20_u64, seed: u64,
    ) {
        check(&turns, &poison, own_cursor, per_message, seed);
    }
}
