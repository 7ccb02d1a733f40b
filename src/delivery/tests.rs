//! Deliveries in virtual time, against a log and a target that do as they are told.

// What a target has stored is a list of ranges, often of one.
#![allow(clippy::single_range_in_vec_init)]

mod crash;
mod model;
mod outage;
mod poison;
mod world;

use std::io;

use super::*;
use crate::sinks::SinkError;
use world::{MS, Stage, World, config, later};

#[test]
fn batches_are_joined_and_flushed_at_the_interval() {
    let mut stage = Stage::new(World::new(&[4, 4, 0, 4, 30, 1]), config());
    // Three small epochs make a batch, a large one makes three, and the rest is waited for.
    assert_eq!(stage.at(0, "write 6, write 6, write 10, write 10, write 10"), Some(100));
    stage.at(999, "");
    assert_eq!((stage.count(|c| &c.delivered), stage.status().lag_samples), (0, 43));
    stage.at(1_000, "write 1, flush 6");
    assert_eq!((stage.count(|c| &c.delivered), stage.status().lag_samples), (43, 0));
    stage.at(1_999, "");
    stage.at(2_000, "flush 6");
    assert_eq!(stage.world.lock().stored, [0..43]);
}

#[test]
fn a_message_of_many_samples_is_handed_over_in_parts() {
    let mut world = World::new(&[35, 8]);
    world.per_message = 100;
    let mut stage = Stage::new(world, config());
    stage.at(0, "write 10, write 10, write 10, write 5");
    stage.at(1_000, "write 8, flush 2");
    assert_eq!(stage.world.lock().stored, [0..43]);
}

#[test]
fn at_the_end_of_the_log_small_epochs_are_gathered() {
    let mut stage = Stage::new(World::new(&[1]), config());
    assert_eq!(stage.at(0, ""), Some(100));
    stage.world.lock().append(20);
    assert_eq!(stage.at(99, ""), Some(100));
    assert_eq!(stage.at(100, "write 7, write 7, write 7"), Some(200));
    // Epochs without samples move the cursor on.
    stage.world.lock().append(0);
    stage.at(900, "");
    stage.at(1_000, "flush 3");
}

#[test]
fn pauses_grow_up_to_the_longest_and_end_with_success() {
    let mut stage = Stage::new(World::new(&[10]), config());
    stage.world.lock().down = Some(later());
    let mut now_ms = 0;
    for longest_ms in [100, 200, 350] {
        let next_ms = stage.at(now_ms, "write 10!").unwrap();
        assert!((100..=longest_ms).contains(&(next_ms - now_ms)), "{now_ms} to {next_ms}");
        assert_eq!(stage.at(next_ms - 1, ""), Some(next_ms));
        assert_eq!(stage.status().status, "error: disk full");
        now_ms = next_ms;
    }
    // A sink is flushed all the same, for its housekeeping; that alone is no success.
    stage.world.lock().answers = [Err(later()), Err(later()), Err(later()), Ok(())].into();
    stage.until(1_000 + 350);
    let log = std::mem::take(&mut stage.world.lock().log).join(", ");
    assert!(log.contains("flush 0, write 10!"), "{log}");
    assert_eq!(stage.status().status, "error: disk full");

    stage.world.lock().down = None;
    stage.until(2_500);
    assert_eq!((stage.status().status.as_str(), stage.status().delivered), ("connected", 10));
    assert_eq!(stage.status().retried, stage.world.lock().writes - 1);
}

#[test]
fn the_target_says_how_long_to_wait() {
    for (asked_s, waits_s) in [(7, 7), (100_000, 300)] {
        let busy = SinkError::Retry { why: "busy".into(), after: Some(Duration::from_secs(asked_s)) };
        let mut stage = Stage::new(World::new(&[10]), config());
        stage.world.lock().answers = [Err(busy)].into();
        stage.at(0, "write 10!");
        stage.until(waits_s * 1_000 - 1);
        stage.at(waits_s * 1_000 - 1, "");
        stage.at(waits_s * 1_000, "flush 0, write 10");
    }
}

#[test]
fn a_flush_that_fails_is_repeated_before_anything_is_written() {
    let mut stage = Stage::new(World::new(&[10]), config());
    stage.world.lock().answers = [Ok(()), Err(later())].into();
    stage.at(0, "write 10");
    assert_eq!(stage.at(1_000, "flush 1!"), Some(1_100));
    stage.world.lock().append(20);
    stage.at(1_099, "");
    assert_eq!((stage.count(|c| &c.delivered), stage.status().cursor), (0, 0));
    stage.at(1_100, "flush 1, write 10, write 10");
    assert_eq!((stage.count(|c| &c.delivered), stage.status().cursor), (10, 1));
}

#[test]
fn a_log_that_cannot_be_read_is_tried_again() {
    let mut stage = Stage::new(World::new(&[5, 20]), config());
    stage.world.lock().read_errors = [io::Error::other("bad block")].into();
    assert_eq!(stage.at(0, ""), Some(100));
    assert_eq!(stage.status().status, "error: log: bad block");
    stage.at(100, "write 9, write 9, write 7");
    assert_eq!(stage.status().status, "connected");
    // What was read before the error goes its way.
    stage.world.lock().append(5);
    stage.at(200, "");
    stage.world.lock().read_errors = [io::Error::other("bad block")].into();
    assert_eq!(stage.at(300, "write 5"), Some(400));
    assert_eq!(stage.status().status, "connected");
    assert_eq!(stage.count(|c| &c.retried), 1);
}

/// Where it begins: the sink's own cursor, the stored one, the one that is given.
#[test]
fn it_begins_where_the_sink_the_file_or_the_caller_says() {
    let from = |own: Option<Position>, file: Option<&str>, start_after, lost| {
        let mut world = World::new(&[10; 9]);
        (world.own_cursor, world.stored_upto, world.lost) = (own.is_some(), own, lost);
        let mut stage = Stage::new(world, DeliveryConfig { start_after, ..config() });
        if let Some(text) = file {
            let path = stage.dir.path().join("cursors/d.json");
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            match text.parse() {
                Ok(position) => CursorStore::at(path).store(position).unwrap(),
                Err(_) => std::fs::write(path, text).unwrap(),
            }
            stage.crash();
        }
        stage.until(1_000);
        let first = stage.world.lock().stored.first().map_or(90, |range| range.start) / 10;
        (first, stage.status().missed_epochs, stage.count(|c| &c.damaged_cursors))
    };
    assert_eq!(from(Some(4), Some("7"), 2, 0), (4, 0, 0));
    assert_eq!(from(None, Some("7"), 2, 0), (7, 0, 0));
    assert_eq!(from(None, None, 2, 0), (2, 0, 0));
    assert_eq!(from(None, None, 9, 0), (9, 0, 0));
    assert_eq!(from(None, Some("{\"version\""), 9, 0), (0, 0, 1));
    // What the log had lost counts only where it is known to have been ours.
    assert_eq!(from(None, None, 0, 5), (5, 0, 0));
    assert_eq!(from(None, Some("3"), 0, 5), (5, 2, 0));
    assert_eq!(from(Some(1), None, 0, 5), (5, 4, 0));
}

#[test]
fn the_end_writes_and_flushes_what_is_there() {
    let mut stage = Stage::new(World::new(&[5, 20, 3]), config());
    stage.end_at(500);
    assert_eq!(stage.at(10, "write 9, write 9, write 7, write 3, flush 3"), None);
    assert!(stage.shared.complete.load(Relaxed));
    assert_eq!(stage.status().lag_epochs, 0);
    // What came too late for it is there at the next start.
    stage.world.lock().append(4);
    stage.crash();
    stage.end_at(500);
    assert_eq!(stage.at(20, "write 4, flush 4"), None);
}

#[test]
fn the_end_cuts_pauses_short_and_gives_up_at_its_deadline() {
    let mut stage = Stage::new(World::new(&[10, 10]), config());
    stage.world.lock().answers = [Ok(())].into();
    stage.world.lock().down = Some(later());
    stage.at(0, "write 10, write 10!");
    stage.end_at(120);
    assert_eq!(stage.at(10, "write 10!"), Some(60));
    assert_eq!(stage.at(60, "write 10!"), Some(110));
    // The next try would come too late. What was written gets its last chance.
    assert_eq!(stage.at(110, "write 10!, flush 1!"), None);
    assert!(!stage.shared.complete.load(Relaxed));
}

#[test]
fn the_end_does_not_cut_short_what_the_target_asked_for() {
    let asks = |seconds| SinkError::Retry { why: "busy".into(), after: Some(Duration::from_secs(seconds)) };
    let mut stage = Stage::new(World::new(&[10]), config());
    stage.world.lock().answers = [Err(asks(2)), Ok(()), Err(asks(60))].into();
    assert_eq!(stage.at(0, "write 10!"), Some(1_000));
    stage.end_at(5_000);
    stage.at(10, "");
    stage.at(1_999, "");
    // It would be asked again too late: nothing is waited for.
    assert_eq!(stage.at(2_000, "flush 0, write 10!"), None);
}

/// Should a wake be missed, what is new is found with the next flush.
#[test]
fn what_nobody_told_it_of_is_found_all_the_same() {
    let mut stage = Stage::new(World::new(&[10]), config());
    stage.until(500);
    stage.world.lock().append(10);
    for ms in (500..2_000).step_by(10) {
        stage.now_ms = ms;
        while stage.step() == Next::Now {}
    }
    assert_eq!(stage.world.lock().stored, [0..20]);
}

/// Whatever it is at, the end comes by its deadline, and nothing is lost by it.
#[test]
fn it_ends_in_every_state() {
    let asked = || SinkError::Retry { why: "busy".into(), after: Some(Duration::from_secs(60)) };
    type Set = fn(&mut World, SinkError);
    let states: [(&str, Set); 7] = [
        ("well", |_, _| {}),
        ("away", |world, _| world.down = Some(later())),
        ("asks to wait", |world, asked| world.down = Some(asked)),
        ("half a load written", |world, _| {
            world.answers = vec![Ok(()); 3].into();
            world.down = Some(later());
        }),
        ("half a load written, asks to wait", |world, asked| {
            world.answers = [Ok(()), Ok(()), Ok(()), Err(asked)].into();
        }),
        ("bisecting", |world, _| world.poison = (40..60).collect()),
        ("unreadable", |world, _| {
            world.read_errors = (0..1_000).map(|_| io::Error::other("gone")).collect();
        }),
    ];
    for own_cursor in [false, true] {
        for (state, set) in &states {
            for steps in 0..40 {
                let mut world = World::new(&[5, 5, 30, 0, 40, 5]);
                world.own_cursor = own_cursor;
                let mut stage = Stage::new(world, config());
                set(&mut stage.world.lock(), asked());
                stage.steps(steps);
                stage.end_at(200);
                let mut ended = false;
                while let Some(next) = stage.settle() {
                    assert!(next <= 200 && !ended, "{state} after {steps} steps");
                    (stage.now_ms, ended) = (next, next >= 200);
                }
                let complete = stage.shared.complete.load(Relaxed);
                let calm = ["well", "bisecting"].contains(state);
                assert_eq!(complete, calm, "{state} after {steps} steps");

                // The next start brings the rest.
                let mut world = stage.world.lock();
                (world.down, world.answers, world.read_errors) = Default::default();
                drop(world);
                stage.crash();
                stage.until_delivered();
                let mut all: Vec<u64> = stage.world.lock().stored.iter().cloned().flatten().collect();
                all.extend(stage.lettered());
                all.sort_unstable();
                if !own_cursor {
                    all.dedup();
                }
                assert_eq!(all, (0..85).collect::<Vec<_>>(), "{state} after {steps} steps");
            }
        }
    }
}

#[test]
fn the_figures_are_shown() {
    let mut world = World::new(&[10, 10, 10, 4]);
    (world.lost, world.stored_upto) = (1, Some(0));
    world.poison = [25].into();
    world.answers = [Ok(()), Err(later())].into();
    let mut stage = Stage::new(world, config());
    stage.at(0, "write 10, write 10!");
    let status = stage.shared.status(500_000_000);
    assert_eq!((status.cursor, status.lag_epochs, status.lag_bytes), (0, 3, 30));
    assert_eq!((status.lag_seconds, status.lag_samples, status.missed_epochs), (0.498, 20, 1));
    stage.until(3_000);
    let status = stage.status();
    assert_eq!((status.name.as_str(), status.status.as_str()), ("d", "connected"));
    assert_eq!((status.cursor, status.lag_epochs, status.lag_seconds), (4, 0, 0.0));
    assert_eq!((status.delivered, status.dead_lettered, status.retried), (23, 1, 1));
    assert_eq!(status.dead_letter_bytes, std::fs::metadata(stage.letters()).unwrap().len());
}

/// The lag grows while the target is away, and while nothing else happens.
#[test]
fn the_lag_is_looked_at_also_in_a_pause() {
    let mut stage = Stage::new(World::new(&[10]), DeliveryConfig { flush_interval: 60_000 * MS, ..config() });
    let busy = SinkError::Retry { why: "busy".into(), after: Some(Duration::from_secs(60)) };
    stage.world.lock().down = Some(busy);
    stage.at(0, "write 10!");
    for second in 1..50 {
        stage.world.lock().append(10);
        stage.until(second * 1_000);
        stage.settle();
        assert_eq!(stage.status().lag_epochs, 1 + second);
    }
}

#[test]
fn a_real_thread_delivers_and_ends() {
    for _ in 0..20 {
        let world = World { answers: [Ok(()), Err(later())].into(), ..World::new(&[]) };
        let world = Arc::new(Mutex::new(world));
        let sink = Box::new(world::Target(world.clone(), Vec::new()));
        let source = Box::new(world::Log(world.clone()));
        let (cursor, letters) = (CursorStore::none(), DeadLetters::none());
        let config = DeliveryConfig { flush_interval: MS, gather: Duration::ZERO, ..config() };
        let delivery = Delivery::start("d", sink, source, cursor, letters, config).unwrap();
        for _ in 0..100 {
            world.lock().append(7);
            delivery.wake();
        }
        let stopped = delivery.stop(Duration::from_secs(20));
        assert_eq!(stopped, Stopped { complete: true, cursor: 100, left: Lag::default() });
        assert_eq!(world.lock().stored, [0..700]);
    }
}

/// A sink that hangs keeps nobody.
#[test]
fn a_sink_that_hangs_is_left_alone() {
    let world = Arc::new(Mutex::new(World::new(&[10])));
    let sink = Box::new(world::Target(world.clone(), Vec::new()));
    let log = memory::MemoryLog::new(100, 0);
    let (cursor, letters) = (CursorStore::none(), DeadLetters::none());
    // The sink waits for the world, which is ours.
    let delivery =
        Delivery::start("d", sink, Box::new(log.clone()), cursor, letters, DeliveryConfig::default())
            .unwrap();
    let held = world.lock();
    log.append(0, vec![]);
    delivery.wake();
    let stopped = delivery.stop(20 * MS);
    drop(held);
    assert!(!stopped.complete && stopped.cursor == 0, "{stopped:?}");
}
