//! The outbox: what the workers say to the world, kept in a log of the journal's make until it has arrived.
//!
//! Each epoch that has something to say becomes one record. State being a function of the journal, a replay says
//! the same again under the same numbers: what the log holds already is passed over. Only epochs that the journal
//! keeps get in, so nothing leaves that a crash could take back.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use operators::alerts::AlertTransition;
use operators::closing::ClosedWindow;
use operators::rollup::RollupRow;
use parking_lot::{Condvar, Mutex};
use serde::{Deserialize, Serialize};

use crate::alert_history::{self, Past};
use crate::alerts::{AlertBoard, KnownRule};
use crate::journal::log::Log;
use crate::journal::reader::Record;
use crate::keeper::Keeper;
use crate::notify::receivers::Receivers;
use crate::rollups::{Rolled, RollupBook};

/// Record kind of what an epoch has to say.
const SAID: u8 = 5;
/// The same with rows of rollups behind it.
const SAID_AND_ROLLED: u8 = 6;
/// Items that wait to be written; beyond, nothing new is taken in until they are.
const WAITING_MAX: usize = 1_000_000;
/// Time between two syncs, and between two tries to write.
const SYNC_INTERVAL: Duration = Duration::from_secs(1);
/// Shortest time between two looks at what is to be said: under load each epoch says something, and a record is cheaper
/// than a wake-up.
const ROUND_MIN: Duration = Duration::from_millis(5);
const RETRY: Duration = Duration::from_millis(100);

/// What an epoch has to say, as it is written.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Said {
    /// Numbers and names of the rules that the transitions speak of: numbers change with the configuration.
    pub rules: Vec<(u32, String)>,
    /// Alert transitions, in the order of each alert.
    pub transitions: Vec<AlertTransition>,
    /// Names of the functions of closed windows, in the order of their values.
    pub functions: Vec<String>,
    /// Windows that were closed or corrected.
    pub windows: Vec<ClosedWindow>,
    /// Rows of rollups that are to be stored. Written behind the rest, in a record of another kind.
    #[serde(skip)]
    pub rolled: Rolled,
}

/// What a record says; `None` for one that is not of this log.
pub fn decode(record: &Record<'_>) -> Option<Said> {
    let said = match record.kind {
        SAID => postcard::from_bytes(record.payload),
        SAID_AND_ROLLED => postcard::take_from_bytes::<Said>(record.payload)
            .and_then(|(said, rest)| Ok(Said { rolled: postcard::from_bytes(rest)?, ..said })),
        _ => return None,
    };
    said.inspect_err(
        |error| tracing::error!(epoch = record.number, %error, "a record of the outbox can't be decoded"),
    )
    .ok()
}

fn encode(said: &Said) -> Result<Vec<u8>, postcard::Error> {
    let mut bytes = postcard::to_allocvec(said)?;
    if !said.rolled.rows.is_empty() {
        bytes.extend_from_slice(&postcard::to_allocvec(&said.rolled)?);
    }
    Ok(bytes)
}

/// What workers have said of an epoch so far.
#[derive(Default)]
struct Saying {
    transitions: Vec<AlertTransition>,
    windows: Vec<ClosedWindow>,
    rolled: Vec<RollupRow>,
}

impl Saying {
    fn len(&self) -> usize {
        self.transitions.len() + self.windows.len() + self.rolled.len()
    }
}

/// The outbox.
pub struct Outbox {
    log: Log,
    keeper: Arc<Keeper>,
    /// Names of the functions of closed windows.
    functions: Vec<String>,
    /// What rollups and their groups are called.
    rollups: Arc<RollupBook>,
    gathered: Mutex<Gathered>,
    changed: Condvar,
    /// Tries to write or sync that failed.
    pub failures: AtomicU64,
}

#[derive(Default)]
struct Gathered {
    epochs: BTreeMap<u64, Saying>,
    items: usize,
    /// Everything up to this epoch has been gathered.
    complete: u64,
    /// Everything up to this epoch has been written, where there was something to write.
    written: u64,
    /// How many wait for `written`.
    waiting: usize,
    closed: bool,
}

impl Outbox {
    /// An outbox over an open log; closed windows have the values of these functions. Where there are none, no storage
    /// wants windows, and those of rollups are not taken either.
    pub fn new(log: Log, keeper: Arc<Keeper>, functions: Vec<String>, rollups: Arc<RollupBook>) -> Outbox {
        Outbox {
            log,
            keeper,
            functions,
            rollups,
            gathered: Mutex::default(),
            changed: Condvar::new(),
            failures: AtomicU64::new(0),
        }
    }

    /// The log.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// The journal behind it.
    pub fn keeper(&self) -> &Keeper {
        &self.keeper
    }

    /// Everything that epochs up to this one say is in the log.
    pub fn written(&self) -> u64 {
        self.gathered.lock().written
    }

    /// Goes on behind `epoch`, the one that state was restored at.
    pub fn resume(&self, epoch: u64) {
        let mut gathered = self.gathered.lock();
        gathered.complete = epoch;
        gathered.written = epoch;
    }

    /// Takes a worker's alert transitions of an epoch. Does not block.
    pub fn take(&self, epoch: u64, transitions: &[AlertTransition]) {
        self.gather(epoch, transitions.len(), |saying| saying.transitions.extend_from_slice(transitions));
    }

    /// Takes a worker's closed and corrected windows of an epoch. Does not block.
    pub fn take_windows(&self, epoch: u64, mut windows: Vec<ClosedWindow>) {
        self.gather(epoch, windows.len(), |saying| saying.windows.append(&mut windows));
    }

    /// Takes a worker's rows of rollups of an epoch, as far as they are to be stored. Does not block.
    pub fn take_rolled(&self, epoch: u64, rows: &[RollupRow]) {
        if self.functions.is_empty() {
            return;
        }
        let mut rows = self.rollups.to_store(rows);
        if !rows.is_empty() {
            self.gather(epoch, rows.len(), |saying| saying.rolled.append(&mut rows));
        }
    }

    fn gather(&self, epoch: u64, len: usize, add: impl FnOnce(&mut Saying)) {
        let mut gathered = self.gathered.lock();
        gathered.items += len;
        let full = gathered.items > WAITING_MAX;
        add(gathered.epochs.entry(epoch).or_default());
        drop(gathered);
        self.keeper.urge();
        if full {
            self.keeper.hold(Some("too much waits for the outbox to be written"));
        }
    }

    /// All workers have said what they have to say of epochs up to `epoch`.
    pub fn completed(&self, epoch: u64) {
        let mut gathered = self.gathered.lock();
        gathered.complete = epoch;
        self.tell(&gathered);
    }

    /// Something may be written now: to be called when the journal is safe up to a later epoch.
    pub fn wake(&self) {
        self.tell(&self.gathered.lock());
    }

    /// Wakes the writer if there is something to write, or somebody waits for it to say so. Most epochs have nothing
    /// to say, and what is written up to them it finds by itself.
    fn tell(&self, gathered: &Gathered) {
        if !gathered.epochs.is_empty() || gathered.waiting > 0 {
            self.changed.notify_all();
        }
    }

    /// Ends [`Outbox::run`] when everything complete has been written.
    pub fn close(&self) {
        self.gathered.lock().closed = true;
        self.changed.notify_all();
    }

    /// Waits until what epochs up to `epoch` say has been written; `false` if that takes too long.
    pub fn wait_written(&self, epoch: u64, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let mut gathered = self.gathered.lock();
        gathered.waiting += 1;
        self.changed.notify_all();
        let mut in_time = true;
        while gathered.written < epoch && in_time {
            in_time = !self.changed.wait_until(&mut gathered, deadline).timed_out();
        }
        gathered.waiting -= 1;
        gathered.written >= epoch
    }

    /// Writes what comes, and tells the board and the receivers of it, until closed. On a thread of its own.
    pub fn run(&self, board: &AlertBoard, receivers: &Receivers) {
        let mut synced = Instant::now();
        loop {
            let (due, upto, closed) = self.next(synced + SYNC_INTERVAL);
            let said = !due.is_empty();
            for (epoch, mut saying) in due {
                // From several workers, in any order; of one alert and of one window they come in order.
                saying.transitions.sort_by_key(|moved| (moved.source, moved.rule));
                saying.windows.sort_by_key(|window| (window.series, window.start_ns));
                saying.rolled.sort_by_key(|row| (row.rollup, row.group, row.end_ns));
                let fresh = epoch > self.log.appended();
                if fresh && !self.write(epoch, &mut saying, board) {
                    return;
                }
                board.apply(epoch, &saying.transitions, fresh, |place, told| {
                    receivers.tell(epoch, place, &told);
                });
            }
            receivers.handed_over(upto);
            self.gathered.lock().written = upto;
            self.changed.notify_all();
            if closed || synced.elapsed() >= SYNC_INTERVAL {
                self.sync();
                synced = Instant::now();
            }
            if closed {
                return;
            }
            if said {
                std::thread::sleep(ROUND_MIN);
            }
        }
    }

    /// What may be written now; waits for it, at most until `deadline`. Also up to which epoch that is all, and
    /// whether nothing more comes.
    fn next(&self, deadline: Instant) -> (BTreeMap<u64, Saying>, u64, bool) {
        let mut gathered = self.gathered.lock();
        loop {
            let upto = gathered.complete.min(self.keeper.safe());
            if upto > gathered.written || gathered.closed || Instant::now() >= deadline {
                let closed = gathered.closed && upto == gathered.complete;
                let later = gathered.epochs.split_off(&(upto + 1));
                let due = std::mem::replace(&mut gathered.epochs, later);
                gathered.items -= due.values().map(Saying::len).sum::<usize>();
                if gathered.items < WAITING_MAX / 2 {
                    self.keeper.hold(None);
                }
                // Closed with the journal refusing: what is not safe is said again by the next start.
                return (
                    due,
                    upto.max(gathered.written),
                    closed || (gathered.closed && self.keeper.trouble().is_some()),
                );
            }
            self.changed.wait_until(&mut gathered, deadline);
        }
    }

    /// Writes a record, trying until it is written or the service stops.
    fn write(&self, epoch: u64, saying: &mut Saying, board: &AlertBoard) -> bool {
        let mut rules: Vec<u32> = saying.transitions.iter().map(|moved| moved.rule).collect();
        rules.sort_unstable();
        rules.dedup();
        let name = |rule: u32| board.rule(rule).map(|rule| rule.texts.name.to_string());
        let mut said = Said {
            rules: rules.into_iter().filter_map(|rule| Some((rule, name(rule)?))).collect(),
            transitions: std::mem::take(&mut saying.transitions),
            functions: self.functions.clone(),
            windows: std::mem::take(&mut saying.windows),
            rolled: self.rollups.spell(std::mem::take(&mut saying.rolled)),
        };
        if said.rolled.unnamed > 0 {
            let rows = said.rolled.unnamed;
            tracing::warn!(epoch, rows, "rows of rollups that are gone are not stored");
        }
        let kind = if said.rolled.rows.is_empty() { SAID } else { SAID_AND_ROLLED };
        let bytes = encode(&said);
        saying.transitions = std::mem::take(&mut said.transitions);
        let bytes = match bytes {
            Ok(bytes) => bytes,
            Err(error) => {
                tracing::error!(%error, epoch, "what an epoch says can't be encoded");
                return true;
            }
        };
        loop {
            match self.log.append(&[(kind, epoch, &bytes)]) {
                Ok(()) => return true,
                Err(error) => {
                    if self.failures.fetch_add(1, Ordering::Relaxed) == 0 {
                        tracing::error!(%error, "the outbox can't be written; trying again");
                    }
                }
            }
            let mut gathered = self.gathered.lock();
            if gathered.closed {
                return false;
            }
            self.changed.wait_for(&mut gathered, RETRY);
        }
    }

    /// Makes what was written durable; says whether it is.
    pub fn sync(&self) -> bool {
        let synced = self.log.sync();
        if let Err(error) = &synced {
            self.failures.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(%error, "the outbox can't be synced; trying again");
        }
        synced.is_ok()
    }

    /// Deletes segments that hold nothing behind `number`.
    pub fn release(&self, number: u64) {
        if let Err(error) = self.log.release(number.min(self.log.appended())) {
            tracing::warn!(%error, "can't delete segments of the outbox that nobody needs; trying again later");
        }
    }

    /// Has `board` remember the transitions that the log still has.
    ///
    /// # Errors
    /// The log can't be read.
    pub fn recall(&self, board: &AlertBoard) -> io::Result<()> {
        // Numbers may be other rules' by now; names are not.
        let rules: HashMap<Arc<str>, Arc<KnownRule>> =
            board.rules().into_iter().map(|rule| (rule.texts.name.clone(), rule)).collect();
        alert_history::recall(&self.log, &board.history, |record| {
            let said = decode(record).unwrap_or_default();
            let past = |moved: &AlertTransition| {
                let (_, name) = said.rules.iter().find(|(number, _)| *number == moved.rule)?;
                let rule = rules.get(name.as_str()).cloned();
                let name = rule.as_ref().map_or_else(|| name.as_str().into(), |rule| rule.texts.name.clone());
                Some(Past { epoch: record.number, name, rule, moved: *moved })
            };
            said.transitions.iter().filter_map(past).collect()
        })
    }

    /// What was said behind the epoch `after`, in order: epoch and place in it, name of the rule, transition.
    ///
    /// # Errors
    /// The log can't be read.
    pub fn said(
        &self,
        after: u64,
        mut each: impl FnMut((u64, u32), &str, &AlertTransition),
    ) -> io::Result<()> {
        let mut reader = self.log.reader(after);
        while let Some(record) = reader.next(self.log.appended())? {
            let Some(said) = decode(&record) else { continue };
            for (place, moved) in (0..).zip(&said.transitions) {
                if let Some((_, rule)) = said.rules.iter().find(|(number, _)| *number == moved.rule) {
                    each((record.number, place), rule, moved);
                }
            }
        }
        Ok(())
    }
}
