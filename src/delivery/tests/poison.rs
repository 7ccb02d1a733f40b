//! What the target refuses for its content: bisected to the sample, dead-lettered, never the whole world.

use super::*;

fn delivered_and_lettered(stage: &Stage) -> (u64, Vec<u64>) {
    (stage.world.lock().stored.iter().map(|range| range.end - range.start).sum(), stage.lettered())
}

/// The writes that a delivery of one batch of `n` costs, of which `poison` are refused.
fn deliver(n: u64, per_message: u64, poison: &[u64]) -> (u64, Stage) {
    let mut world = World::new(&[n]);
    world.per_message = per_message;
    world.poison = poison.iter().copied().collect();
    let mut stage = Stage::new(world, DeliveryConfig { batch_samples: n, ..config() });
    stage.until_delivered();
    let writes = stage.world.lock().writes;
    (writes, stage)
}

#[test]
fn one_poison_sample_in_n_costs_little_and_nobody_else() {
    for n in (1..=33).chain([64, 100, 127, 500, 999, 1_000]) {
        for poison in [0, n / 3, n / 2, n - 1] {
            let (writes, stage) = deliver(n, 1 + n % 7, &[poison]);
            let bound = (2.0 * (n as f64).log2() + 1.0).floor() as u64;
            assert!(writes <= bound, "{writes} writes for {poison} in {n}, expected {bound}");
            assert_eq!(delivered_and_lettered(&stage), (n - 1, vec![poison]), "{poison} in {n}");
            let status = stage.status();
            assert_eq!((status.delivered, status.dead_lettered, status.retried), (n - 1, 1, 0));
            assert_eq!(status.status, "connected");
        }
    }
}

#[test]
fn many_poison_samples_in_a_batch() {
    for (n, every) in [(1_000, 2), (1_000, 10), (777, 97)] {
        let poison: Vec<u64> = (0..n).step_by(every).collect();
        let (writes, stage) = deliver(n, 3, &poison);
        let bound = (2 * poison.len() as u64 * 10 + 1).min(2 * n - 1);
        assert!(writes <= bound, "{writes} for {n} every {every}, expected {bound}");
        assert_eq!(delivered_and_lettered(&stage), (n - poison.len() as u64, poison));
    }
}

#[test]
fn a_bisection_that_must_wait_goes_on_where_it_was() {
    let mut world = World::new(&[8]);
    world.poison = [5].into();
    let mut stage = Stage::new(world, DeliveryConfig { batch_samples: 8, ..config() });
    let no = || Err(SinkError::Poison { why: "no".into() });
    stage.world.lock().answers = [no(), Err(later())].into();
    assert_eq!(stage.at(0, "write 8!, write 4!"), Some(100));
    assert_eq!(stage.status().status, "error: disk full");
    // The second half is known to be bad, and not offered whole.
    stage.world.lock().answers = [Ok(()), Err(later())].into();
    stage.at(100, "write 4, write 2!");
    stage.at(200, "write 2!, write 1, write 1!, write 2");
    assert_eq!(delivered_and_lettered(&stage), (7, vec![5]));
    // Nothing was flushed in the midst of it.
    stage.at(1_000, "flush 1");
}

/// A target that refuses everything costs some samples for each pause, and says so.
#[test]
fn a_target_that_refuses_everything_is_taken_to_be_wrong() {
    let mut world = World::new(&[1_000; 20]);
    world.poison = (0..20_000).collect();
    let config = DeliveryConfig { batch_samples: 1_000, retry_max: 30_000 * MS, ..DeliveryConfig::default() };
    let mut stage = Stage::new(world, DeliveryConfig { retry_min: 100 * MS, ..config });
    stage.settle();
    assert_eq!(stage.lettered(), (0..100).collect::<Vec<_>>());
    let text =
        "error: 100 samples refused one after another and none taken, the next is offered again: no 100";
    assert_eq!(stage.status().status, text);
    // Ten minutes: about ten pauses up to the longest, then one each half of a minute or sooner.
    stage.until(600_000);
    let lost = stage.lettered().len();
    assert!((1_000..6_000).contains(&lost), "{lost} in ten minutes");
    assert!(stage.status().status.starts_with("error: 100 samples"), "{}", stage.status().status);

    // It takes samples again: so does everything after.
    stage.world.lock().poison.clear();
    stage.until_delivered();
    assert_eq!(stage.status().status, "connected");
    assert_eq!(stage.world.lock().stored, [lost as u64..20_000]);
    assert_eq!(stage.lettered(), (0..lost as u64).collect::<Vec<_>>());
}

/// Single refusals with successes between them are never taken for the target's fault.
#[test]
fn one_taken_sample_clears_the_target() {
    let poison: Vec<u64> = (0..5_000).filter(|at| at % 50 != 49).collect();
    let mut world = World::new(&[100; 50]);
    world.poison = poison.iter().copied().collect();
    let mut stage = Stage::new(world, DeliveryConfig { batch_samples: 100, ..config() });
    stage.until_delivered();
    assert_eq!(stage.count(|c| &c.retried), 0);
    assert_eq!(delivered_and_lettered(&stage), (100, poison));
}

#[test]
fn with_no_refusals_allowed_a_sample_is_never_given_up() {
    let mut world = World::new(&[10]);
    world.poison = [3].into();
    let mut stage = Stage::new(world, DeliveryConfig { refusals_max: 0, ..config() });
    stage.until(60_000);
    assert_eq!((stage.lettered(), stage.status().cursor), (vec![], 0));
    stage.world.lock().poison.clear();
    stage.until_delivered();
    assert_eq!(stage.world.lock().stored, [0..10]);
}

/// While the dead letters can't be written, the cursor stays before their samples.
#[test]
fn a_letter_that_cannot_be_written_holds_the_cursor() {
    let mut world = World::new(&[10, 10]);
    world.poison = [13].into();
    let mut stage = Stage::new(world, config());
    let dir = stage.letters().parent().unwrap().to_owned();
    std::fs::write(&dir, "in the way").unwrap();
    stage.until(30_000);
    let status = stage.status();
    assert_eq!((status.cursor, status.dead_lettered), (0, 0), "half of the second epoch was taken");
    assert!(status.status.starts_with("error: dead letters"), "{}", status.status);
    let writes = stage.world.lock().writes;
    std::fs::remove_file(&dir).unwrap();
    stage.until(40_000);
    assert_eq!((stage.status().cursor, stage.lettered()), (2, vec![13]));
    // The letter alone was tried again, then the rest was written: the halves of what was known to be bad.
    assert!(stage.world.lock().writes - writes <= 2);
}
