//! Reading the configuration again while the service runs: rules change, everything else wants a restart.
//!
//! Asked by SIGHUP, by `POST /-/reload`, or by a file that changed. Rules come into force together, with one epoch; what
//! is wrong with any file changes nothing, and is told.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use serde::Serialize;

use crate::rules::store::{RuleStore, RulesApplied};
use crate::settings::Settings;

/// Where the settings come from.
pub struct Source {
    /// Reads them again; the error names every mistake.
    pub load: Box<dyn Fn() -> Result<Settings, String> + Send + Sync>,
    /// The configuration file, if there is one.
    pub config: Option<PathBuf>,
}

impl Source {
    /// Settings that are given: of them only the files in `alerts.rules_dir` are read again.
    pub fn given(settings: &Settings) -> Source {
        let settings = settings.clone();
        let load = move || {
            let mut again = settings.clone();
            let all = crate::settings::load_rules(&settings).map_err(|errors| errors.to_string())?;
            again.alerts.from_files = all[again.alerts.rules.len()..].to_vec();
            Ok(again)
        };
        Source { load: Box::new(load), config: None }
    }
}

/// What a reload did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Reloaded {
    /// Rules in force.
    pub rules: usize,
    /// New rules, and those that are other rules under their name now.
    pub added: usize,
    /// Rules of which only the texts are other ones.
    pub changed: usize,
    /// Rules that are gone.
    pub removed: usize,
    /// Whether other settings differ from those in force, for which the service has to start again.
    pub restart_needed: bool,
}

/// How the last reload went.
#[derive(Clone, Debug, Default, Serialize)]
pub struct LastReload {
    /// When, in seconds since 1970; 0 for none yet.
    pub at_s: u64,
    /// What it did.
    pub done: Option<Reloaded>,
    /// Why it did nothing.
    pub error: Option<String>,
}

/// Reloads.
pub struct Reloader {
    source: Source,
    store: Arc<RuleStore>,
    /// As they were at the start.
    settings: Settings,
    last: Mutex<LastReload>,
    seen: Mutex<Vec<Seen>>,
    /// Reloads that came to an end, well or not.
    pub reloads: AtomicU64,
    /// Those that found something wrong.
    pub failures: AtomicU64,
}

/// A file as it was seen: its path, when it was changed, its length.
type Seen = (PathBuf, Option<SystemTime>, u64);

impl Reloader {
    /// Nothing is read yet.
    pub fn new(source: Source, store: Arc<RuleStore>, settings: &Settings) -> Reloader {
        let reloader = Reloader {
            source,
            store,
            settings: settings.clone(),
            last: Mutex::default(),
            seen: Mutex::default(),
            reloads: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        };
        *reloader.seen.lock() = reloader.look();
        reloader
    }

    /// Reads everything again, and brings the rules into force.
    ///
    /// # Errors
    /// What is wrong with the files; nothing has changed then.
    pub fn reload(&self) -> Result<Reloaded, String> {
        // One at a time, and each as of what it read.
        let mut last = self.last.lock();
        *self.seen.lock() = self.look();
        let done = (self.source.load)().and_then(|settings| self.apply(settings));
        self.reloads.fetch_add(1, Ordering::Relaxed);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        *last = LastReload {
            at_s: now.as_secs(),
            done: done.as_ref().ok().cloned(),
            error: done.as_ref().err().cloned(),
        };
        match &done {
            Ok(done) => tracing::info!(?done, "rules reloaded"),
            Err(why) => {
                self.failures.fetch_add(1, Ordering::Relaxed);
                tracing::error!(why, "the configuration can't be reloaded; nothing has changed");
            }
        }
        done
    }

    fn apply(&self, settings: Settings) -> Result<Reloaded, String> {
        let without_rules = |settings: &Settings| {
            let mut rest = settings.clone();
            rest.alerts.rules.clear();
            rest.alerts.from_files.clear();
            rest
        };
        let restart_needed = without_rules(&settings) != without_rules(&self.settings);
        let applied = self.store.reload(Some(settings)).map_err(|why| why.to_string())?;
        let RulesApplied { added, changed, removed } = applied;
        Ok(Reloaded { rules: self.store.rules().len(), added, changed, removed, restart_needed })
    }

    /// How the last one went.
    pub fn last(&self) -> LastReload {
        self.last.lock().clone()
    }

    /// Looks at the files every `interval`, and reloads when one has changed and then stayed as it is for another.
    pub async fn watch(self: Arc<Self>, interval: Duration) {
        let mut changing: Option<Vec<Seen>> = None;
        loop {
            tokio::time::sleep(interval).await;
            let reloader = self.clone();
            let looked = tokio::task::spawn_blocking(move || reloader.look()).await;
            let Ok(now) = looked else { return };
            if now == *self.seen.lock() {
                changing = None;
            } else if changing.as_ref() == Some(&now) {
                changing = None;
                let reloader = self.clone();
                // Errors are told where they are found.
                let _ = tokio::task::spawn_blocking(move || reloader.reload()).await;
            } else {
                // Somebody may still be writing.
                changing = Some(now);
            }
        }
    }

    /// The files as they are.
    fn look(&self) -> Vec<Seen> {
        let seen = |path: &Path| {
            let found = std::fs::metadata(path).ok();
            let changed = found.as_ref().and_then(|found| found.modified().ok());
            (path.to_path_buf(), changed, found.map_or(0, |found| found.len()))
        };
        let mut all: Vec<Seen> = self.source.config.iter().map(|path| seen(path)).collect();
        if let Some(dir) = &self.settings.alerts.rules_dir {
            let files = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
            all.extend(files.map(|path| seen(&path)));
        }
        all.sort();
        all
    }
}
