//! Exactly once: a journal that is offered again from the cursor, crashes at every call, failures at
//! every call, and random ones of both (`FILE_CRASH_SEEDS` says how many seeds; a failure prints its
//! own). The oracle is the journal itself.

use super::simulated::{Done, End, Fate, Simulated};
use super::*;

const JOURNAL: u128 = 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef;

/// A journal, the disk, and the delivery between them.
struct Run {
    place: Place,
    disk: Arc<Simulated>,
    epochs: u64,
    /// A process leaves in peace, without a flush, after it has written so many epochs.
    leave_after: u64,
    /// A flush after so many epochs.
    flush_every: u64,
    /// How long an epoch takes.
    epoch_ns: DurationNs,
    /// Up to here a flush has succeeded.
    flushed: u64,
    /// Deaths so far.
    ends: usize,
    what: String,
}

impl Run {
    fn new(format: FileFormat, compression: bool, seed: u64) -> Run {
        let mut place = Place::new(format, compression);
        place.config.rotation = Rotation::Hourly;
        place.config.retention_ns = None;
        place.config.journal_id = Some(JOURNAL);
        let disk = Arc::new(Simulated::new(place.dir.path(), seed));
        let what = format!("{format:?} compression {compression} seed {seed}");
        // A flush after each epoch has nothing to store now and then.
        let (epochs, flush_every) = if compression { (10, 1) } else { (14, 2) };
        Run {
            place,
            disk,
            epochs,
            leave_after: u64::MAX,
            flush_every,
            epoch_ns: 8 * 60 * SECOND,
            flushed: 0,
            ends: 0,
            what,
        }
    }

    /// The messages of an epoch; some have none.
    fn epoch(&self, epoch: u64) -> Vec<Message> {
        let row = |row: u64| {
            let time_ns = NOON + epoch as i64 * self.epoch_ns + row as i64;
            let value = (epoch * 10 + row) as f64;
            message(time_ns, ["s", "t"][row as usize % 2], &[("h", "a,\"\n")], &[("m", value), ("n", -value)])
        };
        (0..epoch * 7 % 5).map(row).collect()
    }

    /// Opens the sink, again and again while the disk only fails; `None` when the process ends in it.
    fn open(&self) -> Option<FileSink> {
        for _ in 0..100 {
            let now = self.place.now.clone();
            let clock: Clock = Arc::new(move || now.load(Relaxed));
            match FileSink::open_on(self.place.config.clone(), clock, self.disk.clone()) {
                Ok(mut sink) => {
                    sink.limits = Limits { pending_bytes: 300, pending_rows: 7, fan_in: 3 };
                    return Some(sink);
                }
                Err(_) if self.disk.has_ended() => return None,
                Err(error) => assert!(matches!(error, SinkError::Unusable { .. }), "{}: {error}", self.what),
            }
        }
        panic!("{}: does not open", self.what);
    }

    /// Repeats a call until it succeeds; `None` when the process ends in it.
    fn insist(&self, mut call: impl FnMut() -> Result<(), SinkError>) -> Option<()> {
        for _ in 0..100 {
            match call() {
                Ok(()) if !self.disk.has_ended() => return Some(()),
                _ if self.disk.has_ended() => return None,
                Err(SinkError::Retry { .. }) => {}
                other => panic!("{}: {other:?}", self.what),
            }
        }
        panic!("{}: never succeeds", self.what);
    }

    /// Delivers from the cursor up to the last epoch, in one process; says whether it came to its end.
    fn process(&mut self) -> bool {
        let Some(mut sink) = self.open() else { return false };
        let cursor = sink.cursor().unwrap();
        // What the journal may have forgotten, the sink must have.
        assert!(cursor >= self.flushed, "{}: cursor {cursor}, flushed {}", self.what, self.flushed);
        self.flushed = cursor;
        assert_eq!(sink.status().lost_cursors, 0, "{}", self.what);
        assert_eq!(sink.status().unreadable_files, 0, "{}", self.what);
        for epoch in cursor + 1..=self.epochs {
            if epoch > cursor.saturating_add(self.leave_after) {
                return false;
            }
            let messages = self.epoch(epoch);
            if self.insist(|| sink.write(&messages)).is_none() {
                return false;
            }
            self.place.wait(self.epoch_ns);
            if epoch % self.flush_every == 0 || epoch == self.epochs {
                if self.insist(|| sink.flush(epoch)).is_none() {
                    return false;
                }
                self.flushed = epoch;
            }
        }
        true
    }

    /// Processes follow each other until one comes to its end.
    fn processes(&mut self, end: End) {
        while !self.process() || self.disk.has_ended() {
            assert!(self.ends < 1_000);
            self.ends += 1;
            self.disk.restart(end);
        }
    }

    /// Whether exactly the journal is stored: now, after a restart, and after a last power loss.
    #[track_caller]
    fn check(&self) {
        self.disk.plan(|_| Fate::Works);
        let all_epochs: Vec<Message> = (1..=self.epochs).flat_map(|epoch| self.epoch(epoch)).collect();
        for end in [End::Kill, End::Nothing] {
            let sink = self.open().unwrap();
            let found = rows(&read(&sink, &all()));
            assert_eq!(sink.cursor(), Some(self.epochs), "{}", self.what);
            assert_eq!(sink.status().corrupted_rows, 0, "{}", self.what);
            let expected = rows(&all_epochs);
            if self.place.config.retention_ns.is_none() {
                assert!(found == expected, "{}", difference(&self.what, &found, &expected));
            } else {
                self.check_kept(&found, &expected);
            }
            self.disk.end();
            drop(sink);
            self.disk.restart(end);
        }
    }

    /// Retention deletes whole files: what is young enough is there, and nothing twice.
    fn check_kept(&self, found: &[RowKey], expected: &[RowKey]) {
        let kept_ns = self.place.config.retention_ns.unwrap();
        let oldest_ns = self.place.now.load(Relaxed) - kept_ns;
        let young: Vec<RowKey> = expected.iter().filter(|row| row.0 >= oldest_ns).cloned().collect();
        let found_young: Vec<RowKey> = found.iter().filter(|row| row.0 >= oldest_ns).cloned().collect();
        assert!(found_young == young, "{}", difference(&self.what, &found_young, &young));
        assert!(found.windows(2).all(|pair| pair[0] != pair[1]), "{}: twice", self.what);
    }
}

fn difference(what: &str, found: &[RowKey], expected: &[RowKey]) -> String {
    let lost: Vec<&RowKey> = expected.iter().filter(|row| !found.contains(row)).collect();
    let twice: Vec<&RowKey> =
        found.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| &pair[0]).collect();
    let (lost, twice) = (lost.first(), twice.first());
    format!("{what}: {} rows of {}; lost {lost:?}, twice {twice:?}", found.len(), expected.len())
}

fn seeds(default: u64) -> u64 {
    std::env::var("FILE_CRASH_SEEDS").map_or(default, |seeds| seeds.parse().expect("a number"))
}

/// Calls that a run without any failure makes, and which of them have to do with names.
fn calls_of(mut run: Run) -> (usize, Vec<usize>) {
    assert!(run.process());
    let calls = (run.disk.calls(), run.disk.name_calls());
    run.check();
    calls
}

#[test]
fn a_crash_at_any_call_neither_loses_nor_doubles_a_row() {
    for (kind, (format, compression)) in KINDS.into_iter().enumerate() {
        let (calls, name_calls) = calls_of(Run::new(format, compression, 0));
        // Each call in one of the twenty ways to end, another for each kind, with seeds in more; where
        // names are made durable also in the worst.
        let mut crashes: Vec<(usize, Done, End)> =
            name_calls.into_iter().map(|at| (at, Done::Nothing, End::Reordered)).collect();
        for way in 0..seeds(1).min(20) as usize {
            let one = |at: usize| {
                let way = at * 7 + kind * 11 + way * 3;
                (at, Done::ALL[way % 4], End::ALL[way % 5])
            };
            crashes.extend((0..calls).map(one));
        }
        for (at, done, end) in crashes {
            let mut run = Run::new(format, compression, at as u64);
            run.what = format!("{format:?} compression {compression}, call {at} {done:?}, {end:?}");
            run.disk.plan(move |call| if call == at { Fate::Ends(done) } else { Fate::Works });
            run.processes(end);
            run.check();
        }
    }
}

/// What a killed process left is built upon, although the power may still take it away.
#[test]
fn a_power_loss_soon_after_a_kill_neither_loses_nor_doubles_a_row() {
    let kinds = [(FileFormat::Json, false), (FileFormat::Csv, true), (FileFormat::Parquet, true)];
    for (format, compression) in kinds {
        let new = |at: usize| {
            let mut run = Run::new(format, compression, at as u64);
            (run.epochs, run.flush_every) = (6, 1);
            run
        };
        for at in calls_of(new(0)).1 {
            // So many calls are a start and the first flush.
            for then in 0..12 {
                let mut run = new(at);
                run.what = format!("{format:?} compression {compression}, call {at}, then {then}");
                run.disk.plan(move |call| if call == at { Fate::Ends(Done::Nothing) } else { Fate::Works });
                run.process();
                run.disk.restart(End::Kill);
                run.disk.plan(move |call| if call == then { Fate::Ends(Done::Nothing) } else { Fate::Works });
                run.processes(End::Reordered);
                run.check();
            }
        }
    }
}

#[test]
fn a_full_or_failing_disk_at_any_call_is_tried_again_and_loses_nothing() {
    for (kind, (format, compression)) in KINDS.into_iter().enumerate() {
        let (calls, _) = calls_of(Run::new(format, compression, 0));
        let step = if format == FileFormat::Parquet { 3 } else { 1 };
        for at in (kind % step..calls).step_by(step) {
            let done = Done::ALL[(at / step) % 4];
            let mut run = Run::new(format, compression, at as u64);
            run.what = format!("{format:?} compression {compression}, calls {at} and on {done:?}");
            let failing = at..at + 1 + at % 3;
            run.disk.plan(move |call| if failing.contains(&call) { Fate::Fails(done) } else { Fate::Works });
            assert!(run.process(), "{}", run.what);
            run.check();
        }
    }
}

#[test]
fn any_number_of_crashes_and_failures_neither_loses_nor_doubles_a_row() {
    for seed in 0..seeds(120) {
        random_run(seed);
    }
}

fn random_run(seed: u64) {
    let mut dice = Dice(seed ^ 0x5eed);
    let (format, compression) = KINDS[dice.below(6) as usize];
    let mut run = Run::new(format, compression, seed);
    run.flush_every = 1 + dice.below(5);
    run.epoch_ns = [SECOND, 8 * 60 * SECOND, 3 * HOUR][dice.below(3) as usize];
    run.place.config.retention_ns = [None, None, Some(6 * run.epoch_ns)][dice.below(3) as usize];
    let failing = [0, 0, 5][dice.below(3) as usize];
    for _ in 0..dice.below(6) {
        // Settings may be others with each start.
        run.place.config.rotation =
            [Rotation::Hourly, Rotation::Daily, Rotation::Size][dice.below(3) as usize];
        run.place.config.file_bytes_max = [400, 2_000, 1 << 30][dice.below(3) as usize];
        run.leave_after = [u64::MAX, 1 + dice.below(8)][dice.below(2) as usize];
        let calls = [12, 150, 150][dice.below(3) as usize];
        let at = dice.below(calls) as usize;
        let mut fates = Dice(dice.below(1 << 30));
        run.disk.plan(move |call| {
            let done = Done::ALL[fates.below(4) as usize];
            match call == at {
                true => Fate::Ends(done),
                false if fates.below(100) < failing => Fate::Fails(done),
                false => Fate::Works,
            }
        });
        if run.process() {
            // Also an end in peace, or between two calls.
            run.disk.end();
        }
        run.disk.restart(End::ALL[dice.below(5) as usize]);
    }
    run.leave_after = u64::MAX;
    run.processes(End::Anything);
    run.check();
}
