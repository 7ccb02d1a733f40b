//! The door: which epoch carries a batch, what is given up for memory, when it is full, and how long an epoch stays open.

use super::*;
use dataflows::engine::Callbacks;
use dataflows::plan::Plan;
use operators::catalog::CatalogLimits;
use operators::sample::HOUR;
use operators::series::Target;
use std::sync::atomic::AtomicI64;

fn keeper() -> Arc<Keeper> {
    Arc::new(Keeper::in_memory(64 << 20).unwrap())
}

/// An engine with a door whose clock the test moves.
struct Rig {
    engine: Arc<Engine>,
    intake: Arc<Intake>,
    clock: Arc<AtomicI64>,
    catalog: Arc<Catalog>,
}

fn rig(config: IntakeConfig) -> (Rig, std::thread::JoinHandle<()>) {
    let catalog = Arc::new(Catalog::new(CatalogLimits::default()));
    let clock = Arc::new(AtomicI64::new(0));
    let read = clock.clone();
    let telemetry = Arc::new(Telemetry::default());
    let now: Clock = Arc::new(move || read.load(Ordering::SeqCst));
    let intake = Arc::new(Intake::new(config, catalog.clone(), now, keeper(), telemetry));
    let told = intake.clone();
    let callbacks =
        Callbacks { progress: Box::new(move |epoch| told.completed(epoch)), ..Callbacks::default() };
    let engine = Arc::new(Engine::start(Plan::default(), callbacks).unwrap());
    let sealer = {
        let (intake, engine) = (intake.clone(), engine.clone());
        std::thread::spawn(move || intake.seal_until_closed(&engine, |_| {}))
    };
    (Rig { engine, intake, clock, catalog }, sealer)
}

#[test]
fn over_the_budget_the_oldest_panes_go_and_are_counted() {
    let config = IntakeConfig {
        memory_budget_bytes: 2_000,
        heartbeat: Duration::from_millis(1),
        ..IntakeConfig::default()
    };
    let (rig, sealer) = rig(config);
    let series = rig.catalog.resolve(&Arc::new(Target::new("s", [])), "m").unwrap();
    let sample = |s: i64| Sample { series, seq: 0, time_ns: s * SECOND, value: 1.0 };
    let epoch = rig.intake.submit((0..3600).step_by(10).map(sample).collect()).unwrap();
    rig.engine.wait_for(epoch);
    let held = || rig.engine.shards()[0].read().counts;
    assert!(held().bytes > 2_000, "{:?}", held());
    // Each virtual second the floor rises; heartbeats carry it to the workers.
    for second in 1..40 {
        rig.clock.store(second * SECOND, Ordering::SeqCst);
        let sealed = rig.intake.sealed();
        rig.engine.wait_for(sealed + 2);
    }
    let counts = held();
    assert!(counts.bytes <= 2_000 && counts.panes_given_up > 0, "{counts:?}");
    let oldest_ns = rig.engine.shards()[0].read().span_ns(0).unwrap().0;
    assert!(oldest_ns > 0 && oldest_ns < HOUR);
    rig.intake.close();
    sealer.join().unwrap();
}

#[test]
fn the_epoch_that_is_told_is_the_one_that_carries_the_batch() {
    let told: Arc<Mutex<Vec<(i64, u64)>>> = Arc::default();
    let (door, log) = (Arc::new(std::sync::OnceLock::<Arc<Intake>>::new()), told.clone());
    let knocked = door.clone();
    // The clock is read while an epoch is being sealed: the worst moment to come.
    let clock: Clock = Arc::new(move || {
        let mut log = log.lock();
        let (Some(intake), true) = (knocked.get(), log.len() < 20) else { return 0 };
        let time_ns = log.len() as i64;
        let sample = Sample { series: 0, seq: 0, time_ns, value: 1.0 };
        log.push((time_ns, intake.submit(vec![sample]).unwrap()));
        0
    });
    let config = IntakeConfig { heartbeat: Duration::from_millis(1), ..IntakeConfig::default() };
    let catalog = Arc::new(Catalog::new(CatalogLimits::default()));
    let intake = Arc::new(Intake::new(config, catalog, clock, keeper(), Arc::new(Telemetry::default())));
    assert!(door.set(intake.clone()).is_ok());
    let engine = Engine::start(Plan::default(), Callbacks::default()).unwrap();
    let carried: Arc<Mutex<Vec<(i64, u64)>>> = Arc::default();
    let seen = carried.clone();
    let see = move |epoch: &SharedEpoch| {
        seen.lock().extend(epoch.batches.iter().flatten().map(|s| (s.time_ns, epoch.number)));
    };
    std::thread::scope(|scope| {
        scope.spawn(|| intake.seal_until_closed(&engine, see));
        let deadline = Instant::now() + Duration::from_secs(60);
        while carried.lock().len() < 20 && Instant::now() < deadline {
            std::thread::yield_now();
        }
        intake.close();
    });
    assert_eq!((*carried.lock()).len(), 20);
    assert_eq!(*carried.lock(), *told.lock());
}

#[test]
fn a_full_door_gives_the_batch_back() {
    let config = IntakeConfig { in_flight_max: 2, ..IntakeConfig::default() };
    let catalog = Arc::new(Catalog::new(CatalogLimits::default()));
    let intake = Intake::new(config, catalog, Arc::new(|| 0), keeper(), Arc::new(Telemetry::default()));
    let sample = Sample { series: 0, seq: 0, time_ns: 0, value: 1.0 };
    assert_eq!(intake.submit(vec![sample; 3]), Ok(1));
    assert_eq!(intake.submit(vec![sample]), Err(Full(vec![sample])));
    intake.close();
    assert!(intake.submit(Vec::new()).is_err());
}

/// An epoch that takes minutes closes as soon as all that were announced have come, and not before.
#[test]
fn an_epoch_closes_when_everybody_who_waits_is_in() {
    let config = IntakeConfig { epoch_busy: Duration::from_secs(600), ..IntakeConfig::default() };
    let (rig, sealer) = rig(config);
    let series = rig.catalog.resolve(&Arc::new(Target::new("s", [])), "m").unwrap();
    let batch = || vec![Sample { series, seq: 0, time_ns: 0, value: 1.0 }];
    // Two epochs in a row that did not have to wait for a sample: from now on they take their time.
    let busy = || {
        let epoch = rig.intake.submit(batch()).unwrap();
        let _one = rig.intake.announce();
        epoch
    };
    let first = busy();
    rig.engine.wait_for(first);
    for _ in 0..100 {
        let (one, other) = (rig.intake.announce(), rig.intake.announce());
        let epoch = rig.intake.submit(batch()).unwrap();
        drop(one);
        assert_eq!(rig.intake.submit(batch()), Ok(rig.intake.sealed() + 1));
        drop(other);
        rig.engine.wait_for(epoch);
    }
    // What nobody waits for gathers until the door closes.
    rig.intake.submit(batch()).unwrap();
    rig.intake.close();
    sealer.join().unwrap();
}
