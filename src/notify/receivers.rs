//! All receivers together: each is told of every transition, and each has a position of its own in the log of what
//! was said, so that a restart goes on for each where the process ended.
//!
//! Two files keep that: a cursor, and a memory of what the cursor can't say: what was settled ahead of it, what
//! silences held back, and when groups were last told something. The memory is written first and has the position,
//! too, so that it is right by itself; without it the cursor is, and some things are told again.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::desk::Memory;
use super::receipt::{Position, Receipts};
use super::silence::Silences;
use super::{Notification, Notifier, NotifyError, ReceiverConfig, Running};
use crate::delivery::{CursorStore, Stored, replace};
use crate::intake::Clock;

/// The name of the position's file before there were several receivers.
const BEFORE: &str = "notifier.cursor";
/// Where their files are, below the folder of all cursors.
const FOLDER: &str = "receivers";

/// The folder of all cursors, in which receivers keep what has to outlive the process; `None`: there is none.
#[derive(Clone, Debug)]
pub struct Place(pub Option<PathBuf>);

impl Place {
    fn file(&self, name: &str, end: &str) -> Option<PathBuf> {
        Some(self.0.as_ref()?.join(FOLDER).join(format!("{name}.{end}")))
    }

    fn before(&self) -> Option<PathBuf> {
        Some(self.0.as_ref()?.join(BEFORE))
    }

    /// Takes the files of receivers away that there are no more: one that comes back starts at the present.
    ///
    /// # Errors
    /// The folder can't be read, or a file not be taken away.
    pub fn forget_others(&self, names: &[&str]) -> io::Result<()> {
        let Some(folder) = &self.0 else { return Ok(()) };
        let entries = match std::fs::read_dir(folder.join(FOLDER)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        for entry in entries {
            let path = entry?.path();
            let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
            if !names.contains(&name) {
                std::fs::remove_file(&path)?;
            }
        }
        Ok(())
    }
}

/// One of them.
struct Receiver {
    notifier: Notifier,
    receipts: Arc<Receipts>,
    kept: Mutex<Kept>,
}

/// What is in its files.
struct Kept {
    cursor: CursorStore,
    stored: Option<u64>,
    file: Option<PathBuf>,
    changes: Option<u64>,
    memory: Remembered,
}

/// What is in the memory.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Remembered {
    position: Position,
    desk: Memory,
}

/// A receiver whose position is known, to be told what came behind it.
pub struct Opened {
    receiver: Receiver,
    running: Running,
    position: Position,
    memory: Memory,
}

impl Opened {
    /// Starts the task of a receiver. One that was not there before starts at `present`, the last epoch of the log.
    ///
    /// # Errors
    /// Settings that can't be, or files that can't be read or written.
    pub fn open(
        config: ReceiverConfig,
        clock: Clock,
        silences: Arc<Silences>,
        place: &Place,
        present: u64,
    ) -> Result<Opened, NotifyError> {
        let name = config.name.clone();
        let wrong = |why: String| NotifyError(format!("receiver {name}: {why}"));
        let store_at = |file: Option<PathBuf>| file.map_or_else(CursorStore::none, CursorStore::at);
        let mut cursor = store_at(place.file(&name, "cursor"));
        let mut found = cursor.load().map_err(|e| wrong(e.to_string()))?;
        let before =
            place.before().filter(|file| found == Stored::Nothing && name == "webhook" && file.exists());
        if before.is_some() {
            found = store_at(before.clone()).load().map_err(|e| wrong(e.to_string()))?;
        }
        let settled = match found {
            Stored::At(position) => position,
            Stored::Nothing => present,
            Stored::Damaged(why) => {
                tracing::error!(
                    receiver = name,
                    why,
                    "the position is damaged; everything in the log is told again"
                );
                0
            }
        };
        let file = place.file(&name, "memory");
        let mut memory = file.as_deref().map_or_else(Remembered::default, |file| remembered(file, &name));
        if memory.position.epoch < settled {
            memory.position = Position { epoch: settled, ..Position::default() };
        }
        let settled = memory.position.epoch;
        // A process that ends before it has settled anything leaves where it began.
        cursor.store(settled).map_err(|e| wrong(e.to_string()))?;
        if let Some(before) = before {
            std::fs::remove_file(before).map_err(|e| wrong(e.to_string()))?;
        }
        let (notifier, running) = Notifier::start(config, clock, silences)?;
        let Remembered { position, desk } = memory.clone();
        let receipts = Receipts::after(position.clone());
        let kept = Mutex::new(Kept { cursor, stored: Some(settled), file, changes: None, memory });
        Ok(Opened { receiver: Receiver { notifier, receipts, kept }, running, position, memory: desk })
    }

    /// How far it had come.
    pub fn position(&self) -> &Position {
        &self.position
    }

    /// The alerts that fired at its position.
    pub fn resume(&self, firing: impl IntoIterator<Item = Notification>) {
        self.receiver.notifier.resume(firing, &self.memory);
    }

    /// Tells it again of the transition at `place` of `epoch`, unless that is settled.
    pub fn tell_again(&self, epoch: u64, place: u32, mut notification: Notification) {
        if let Some(receipt) = self.receiver.receipts.issue(epoch, place) {
            notification.receipt = receipt;
            self.receiver.notifier.notify_again(notification);
        }
    }

    /// Every transition up to `epoch` has been told.
    pub fn handed_over(&self, epoch: u64) {
        self.receiver.receipts.handed_over(epoch);
    }
}

/// What a file holds; nothing where there is none, or it makes no sense.
fn remembered(file: &Path, name: &str) -> Remembered {
    let text = match std::fs::read(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Remembered::default(),
        Err(error) => {
            tracing::error!(receiver = name, %error, "its memory can't be read");
            return Remembered::default();
        }
    };
    serde_json::from_slice(&text).unwrap_or_else(|error| {
        tracing::error!(receiver = name, %error, "its memory can't be understood");
        Remembered::default()
    })
}

impl Receiver {
    fn tell(&self, epoch: u64, place: u32, mut notification: Notification) {
        if let Some(receipt) = self.receipts.issue(epoch, place) {
            notification.receipt = receipt;
            self.notifier.notify(notification);
        }
    }

    fn store(&self) {
        let mut kept = self.kept.lock();
        let name = self.notifier.name();
        // Read first: what settles from now on is in the memory of the desk that is read behind it.
        let position = self.receipts.position();
        let settled = position.epoch;
        let changed = self.notifier.memory(kept.changes);
        let has_more = !position.ahead.is_empty() || !kept.memory.position.ahead.is_empty();
        if changed.is_some() || (has_more && kept.memory.position != position) {
            kept.memory.position = position;
            if let Some((changes, memory)) = changed {
                (kept.changes, kept.memory.desk) = (Some(changes), memory);
            }
            let written = serde_json::to_vec(&kept.memory).map_err(io::Error::from);
            let written =
                written.and_then(|text| kept.file.as_ref().map_or(Ok(()), |file| replace(file, &text)));
            if let Err(error) = written {
                tracing::warn!(receiver = name, %error, "a receiver's memory can't be stored; trying again");
                kept.changes = None;
                return;
            }
        }
        if kept.stored == Some(settled) {
            return;
        }
        match kept.cursor.store(settled) {
            Ok(()) => kept.stored = Some(settled),
            Err(error) => {
                tracing::warn!(receiver = name, %error, "a receiver's position can't be stored; trying again");
            }
        }
    }
}

/// All of them.
#[derive(Default)]
pub struct Receivers(Vec<Receiver>);

/// What is counted: its name, whether it only grows, and its value.
pub type Figure = (&'static str, bool, u64);

/// The tasks of all of them.
pub struct AllRunning(Vec<Running>);

impl Receivers {
    /// Those that have been opened.
    pub fn new(opened: Vec<Opened>) -> (Receivers, AllRunning) {
        let (receivers, running) = opened.into_iter().map(|opened| (opened.receiver, opened.running)).unzip();
        (Receivers(receivers), AllRunning(running))
    }

    /// Tells each of the transition at `place` of `epoch`. Never waits.
    pub fn tell(&self, epoch: u64, place: u32, notification: &Notification) {
        for receiver in &self.0 {
            receiver.tell(epoch, place, notification.clone());
        }
    }

    /// Every transition up to `epoch` has been told.
    pub fn handed_over(&self, epoch: u64) {
        self.0.iter().for_each(|receiver| receiver.receipts.handed_over(epoch));
    }

    /// The last epoch up to which every receiver has settled everything; `None`: there is no receiver.
    pub fn settled(&self) -> Option<u64> {
        self.0.iter().map(|receiver| receiver.receipts.settled()).min()
    }

    /// Keeps in mind what each has settled.
    pub fn store(&self) {
        self.0.iter().for_each(Receiver::store);
    }

    /// Name and figures of each, for `/metrics`.
    pub fn figures(&self) -> Vec<(String, Vec<Figure>)> {
        let figures = |receiver: &Receiver| {
            let notifier = &receiver.notifier;
            let counted = notifier.counters().snapshot().into_iter().map(|(name, value)| (name, true, value));
            let now = [("waiting", notifier.waiting()), ("held", notifier.held_len())];
            counted.chain(now.map(|(name, value)| (name, false, value as u64))).collect()
        };
        self.0.iter().map(|receiver| (receiver.notifier.name().to_string(), figures(receiver))).collect()
    }

    /// The same for `/status`.
    pub fn report(&self) -> Value {
        let receivers = self.0.iter().zip(self.figures()).map(|(receiver, (name, figures))| {
            let mut told: serde_json::Map<String, Value> =
                figures.into_iter().map(|(figure, _, value)| (figure.to_string(), json!(value))).collect();
            told.insert("alertmanager".into(), json!(receiver.notifier.is_alertmanager()));
            told.insert("settled_epoch".into(), json!(receiver.receipts.settled()));
            (name, Value::Object(told))
        });
        Value::Object(receivers.collect())
    }
}

impl AllRunning {
    /// Stops all at the same time. See [`Running::stop`]. Returns how many transitions were left.
    pub async fn stop(self, deadline: Duration) -> usize {
        let mut tasks = tokio::task::JoinSet::new();
        for running in self.0 {
            tasks.spawn(running.stop(deadline));
        }
        tasks.join_all().await.into_iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::notify::config::Channel;
    use crate::notify::matcher::AlertMatcher;
    use crate::notify::tests::{NOON_NS, notification};

    /// A program that takes everything, or never anything.
    fn config(name: &str, takes: bool) -> ReceiverConfig {
        let program = if takes { "/bin/true" } else { "/bin/false" };
        let mut config = ReceiverConfig { name: name.into(), ..ReceiverConfig::default() };
        config.channel = Channel::Command(vec![program.into()]);
        config.desk.wanted = AlertMatcher { rules: vec!["high_*".into()], ..AlertMatcher::default() };
        config
    }

    fn open(config: ReceiverConfig, place: &Place, present: u64) -> Opened {
        Opened::open(config, Arc::new(|| NOON_NS), Arc::default(), place, present).unwrap()
    }

    async fn eventually(what: &str, done: impl Fn() -> bool) {
        let began = Instant::now();
        while !done() {
            assert!(began.elapsed() < Duration::from_secs(20), "waited too long: {what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn positions_begin_at_the_present_and_end_with_their_receivers() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place(Some(folder.path().into()));
        let at = |file: &str| CursorStore::at(folder.path().join(file));
        assert!(place.forget_others(&[]).is_ok(), "there is no folder yet");
        // Where the one receiver was that there used to be, the one of its name goes on.
        at("notifier.cursor").store(7).unwrap();
        assert_eq!(open(config("webhook", true), &place, 10).position().epoch, 7);
        assert_eq!(at("notifier.cursor").load().unwrap(), Stored::Nothing);
        assert_eq!(at("receivers/webhook.cursor").load().unwrap(), Stored::At(7));
        assert_eq!(open(config("other", true), &place, 10).position().epoch, 10);
        assert_eq!(
            open(config("other", true), &place, 20).position().epoch,
            10,
            "known from its first moment"
        );
        place.forget_others(&["webhook"]).unwrap();
        assert_eq!(open(config("other", true), &place, 20).position().epoch, 20);
        assert_eq!(open(config("webhook", true), &place, 20).position().epoch, 7);
        std::fs::write(folder.path().join("receivers/webhook.cursor"), "{").unwrap();
        assert_eq!(
            open(config("webhook", true), &place, 20).position().epoch,
            0,
            "rather all again than none"
        );
    }

    #[tokio::test]
    async fn what_is_settled_is_not_told_again_in_whatever_order_that_was() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place(Some(folder.path().into()));
        let opened = vec![open(config("takes", true), &place, 10), open(config("fails", false), &place, 10)];
        let (receivers, running) = Receivers::new(opened);
        receivers.tell(11, 4, &notification(1));
        // Not for them: settled at once, ahead of the other.
        receivers.tell(13, 2, &Notification { rule: "low".into(), ..notification(2) });
        receivers.handed_over(14);
        eventually("one has taken it", || receivers.0[0].receipts.settled() == 14).await;
        assert_eq!(receivers.settled(), Some(10), "the other has not");
        receivers.store();
        drop((receivers, running));

        assert_eq!(
            open(config("takes", true), &place, 20).position(),
            &Position { epoch: 14, ..Position::default() }
        );
        let fails = open(config("fails", false), &place, 20);
        assert_eq!(fails.position(), &Position { epoch: 10, ahead: [(13, [2].into())].into() });
        fails.tell_again(11, 4, notification(1));
        fails.tell_again(13, 2, notification(2));
        fails.handed_over(14);
        let notified = fails.receiver.notifier.counters().snapshot()[0];
        assert_eq!((notified, fails.receiver.notifier.waiting()), (("notified", 1), 1));
        // A memory that makes no sense costs what it knew beyond the position.
        std::fs::write(folder.path().join("receivers/fails.memory"), "{").unwrap();
        assert_eq!(
            open(config("fails", false), &place, 20).position(),
            &Position { epoch: 10, ..Position::default() }
        );
    }

    #[test]
    fn without_receivers_nothing_is_held_back() {
        let receivers = Receivers::default();
        receivers.tell(1, 0, &notification(1));
        receivers.handed_over(1);
        receivers.store();
        assert_eq!((receivers.settled(), receivers.figures().len()), (None, 0));
    }
}
