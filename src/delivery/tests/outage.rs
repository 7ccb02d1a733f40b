//! A target that is away for long: memory stays where it was, and everything comes, in order.

use super::*;

/// Ten minutes at 10,000 samples a second, and one process that dies in between.
#[test]
fn ten_minutes_away_cost_no_memory_and_no_sample() {
    for own_cursor in [false, true] {
        let mut world = World::new(&[]);
        (world.own_cursor, world.per_message) = (own_cursor, 10);
        let config = DeliveryConfig { batch_samples: 5_000, ..DeliveryConfig::default() };
        let mut stage = Stage::new(world, config);
        let mut held_max = 0;
        for second in 0..630 {
            stage.world.lock().down =
                (10..610).contains(&second).then(|| SinkError::retry("connection refused"));
            (0..100).for_each(|_| stage.world.lock().append(100));
            stage.until((second + 1) * 1_000);
            held_max = held_max.max(stage.courier.load.samples());
            if second == 300 {
                assert!(stage.status().lag_epochs >= 29_000 && stage.status().status.starts_with("error"));
                stage.crash();
            }
        }
        stage.until_delivered();
        assert!(held_max < 5_000 + 100, "{held_max} samples in memory");
        let world = stage.world.lock();
        assert_eq!(world.samples(), 6_300_000);
        let once = |stored: &[std::ops::Range<u64>]| stored == [0..6_300_000];
        match own_cursor {
            true => assert!(once(&world.stored), "{:?}", world.stored),
            // What was written behind the cursor and not flushed when the process died came again.
            false => {
                let again = world.stored.len() > 1;
                let from = world.stored.get(1).map_or(0, |range| range.start);
                assert!(once(&world.stored) || (again && from <= world.stored[0].end), "{:?}", world.stored);
            }
        }
        // Pauses of up to half a minute: no storm of requests.
        assert!(stage.shared.counters.retried.load(Relaxed) < 60);
    }
}
