//! A process that dies at any step: nothing is lost, and what comes again is known.

use super::*;

const LENS: [u64; 9] = [5, 5, 30, 0, 40, 3, 0, 12, 5];

fn stage(own_cursor: bool) -> Stage {
    let mut world = World::new(&LENS);
    (world.own_cursor, world.per_message, world.poison) = (own_cursor, 4, [17, 60, 61].into());
    world.answers = [Ok(()), Err(later()), Ok(()), Ok(()), Err(later())].into();
    Stage::new(world, DeliveryConfig { flush_interval: 150 * MS, ..config() })
}

/// Runs `steps` steps, as the time passes.
fn run(stage: &mut Stage, steps: usize) {
    for _ in 0..steps {
        if let Next::At(at) = stage.step() {
            stage.shared.fresh.store(true, Release);
            stage.now_ms = (at - stage.begin).as_nanos().div_ceil(1_000_000) as u64;
        }
    }
}

/// Twice, at every pair of steps.
#[test]
fn with_its_own_cursor_a_sink_gets_every_sample_once() {
    for first in 0..60 {
        for second in [0, 2, 9, 31] {
            let mut stage = stage(true);
            run(&mut stage, first);
            stage.crash();
            run(&mut stage, second);
            stage.crash();
            stage.until_delivered();
            let stored: Vec<u64> = stage.world.lock().stored.iter().cloned().flatten().collect();
            let expected: Vec<u64> = (0..100).filter(|at| ![17, 60, 61].contains(at)).collect();
            assert_eq!(stored, expected, "after {first} and {second} steps");
            // A letter may stand there twice, never not at all.
            let mut lettered = stage.lettered();
            lettered.sort_unstable();
            lettered.dedup();
            assert_eq!(lettered, [17, 60, 61], "after {first} and {second} steps");
        }
    }
}

#[test]
fn without_one_it_gets_again_only_what_is_behind_the_stored_cursor() {
    let mut came_again = 0;
    for first in 0..60 {
        for second in [0, 2, 9, 31] {
            let mut stage = stage(false);
            let mut allowed = vec![];
            for steps in [first, second] {
                run(&mut stage, steps);
                let cursor = stage.shared.durable.load(Relaxed);
                let world = stage.world.lock();
                let from = world.starts[cursor as usize];
                let so_far: u64 = world.stored.iter().map(|range| range.end - range.start).sum();
                drop(world);
                allowed.push((so_far, from));
                stage.crash();
                assert_eq!(stage.shared.durable.load(Relaxed), cursor);
            }
            stage.until_delivered();
            let stored: Vec<u64> = stage.world.lock().stored.iter().cloned().flatten().collect();
            for (before, from) in allowed {
                let after = &stored[before as usize..];
                assert!(after.iter().all(|value| *value >= from), "{first}, {second}: {after:?} from {from}");
            }
            came_again += u32::from(stored.len() > 97);
            let mut all = [stored, stage.lettered()].concat();
            all.sort_unstable();
            all.dedup();
            assert_eq!(all, (0..100).collect::<Vec<_>>(), "after {first} and {second} steps");
        }
    }
    assert!(came_again > 100, "only {came_again} runs died with something to write again");
}
