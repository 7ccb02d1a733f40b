//! The rules as they are written: those of the configuration, of files, and of the API, which are in a file too. What
//! changes is brought into force by one function, which the service gives.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, RwLock};

use crate::delivery::overwrite;
use crate::settings::rules::files::API_FILE;
use crate::settings::{RuleSettings, Settings, SettingsErrors, load_rules, print_rules, read_rules};

/// What changed when rules were brought into force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RulesApplied {
    /// New rules, and those that are other rules under their name now.
    pub added: usize,
    /// Rules of which only the texts are other ones.
    pub changed: usize,
    /// Rules that are gone.
    pub removed: usize,
}

/// Brings rules into force, all at once, in place of those there were; or says why it can't.
pub type ApplyRules = Box<dyn Fn(Vec<RuleSettings>) -> Result<RulesApplied, String> + Send + Sync>;

/// Why rules stay as they are.
#[derive(Debug)]
pub enum Unchanged {
    /// `alerts.api_rules` is off.
    NotAllowed,
    /// There is no `alerts.rules_dir` to write to.
    NoDirectory,
    /// There is no such rule.
    NotFound(String),
    /// The rule stands in another file, or is there already.
    Conflict(String),
    /// Something is wrong with a file or a rule.
    Wrong(SettingsErrors),
    /// It can't be written, or brought into force.
    Failed(String),
}

impl std::fmt::Display for Unchanged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Unchanged::NotAllowed => f.write_str("expected alerts.api_rules to be true"),
            Unchanged::NoDirectory => f.write_str("expected alerts.rules_dir to name a directory"),
            Unchanged::NotFound(why) | Unchanged::Conflict(why) | Unchanged::Failed(why) => f.write_str(why),
            Unchanged::Wrong(errors) => write!(f, "{errors}"),
        }
    }
}

/// The rules.
pub struct RuleStore {
    settings: RwLock<Settings>,
    rules: RwLock<Arc<[RuleSettings]>>,
    /// Set once, by whoever can change what is in force.
    apply: OnceLock<ApplyRules>,
    /// Held while rules change, so that of two changes the later one stays.
    changing: Mutex<()>,
}

impl RuleStore {
    /// The rules of `settings`, which are in force already. Until [`RuleStore::wire`] they stay as they are.
    pub fn new(settings: &Settings) -> RuleStore {
        let rules = settings.alerts.all_rules().cloned().collect();
        let (settings, rules) = (RwLock::new(settings.clone()), RwLock::new(rules));
        RuleStore { settings, rules, apply: OnceLock::new(), changing: Mutex::default() }
    }

    /// Says how rules are brought into force. The first that says so stays.
    pub fn wire(&self, apply: ApplyRules) {
        let _ = self.apply.set(apply);
    }

    /// Takes note of settings that were read again elsewhere, and whose rules are in force now.
    pub fn note(&self, settings: &Settings) {
        *self.rules.write() = settings.alerts.all_rules().cloned().collect();
        *self.settings.write() = settings.clone();
    }

    /// All rules, in their order, those that are switched off included.
    pub fn rules(&self) -> Arc<[RuleSettings]> {
        self.rules.read().clone()
    }

    /// The settings that they are read with.
    pub fn settings(&self) -> Settings {
        self.settings.read().clone()
    }

    /// Reads the files in `alerts.rules_dir` again, and brings what they say into force; or the rules of `settings`, which
    /// were read anew with those files.
    ///
    /// # Errors
    /// Whatever is wrong; then all stays as it was.
    pub fn reload(&self, settings: Option<Settings>) -> Result<RulesApplied, Unchanged> {
        let _changing = self.changing.lock();
        self.read_and_apply(settings)
    }

    fn read_and_apply(&self, settings: Option<Settings>) -> Result<RulesApplied, Unchanged> {
        // Settings that were read anew have their files' rules with them.
        let (settings, rules): (Settings, Vec<RuleSettings>) = match settings {
            Some(settings) => {
                let rules = settings.alerts.all_rules().cloned().collect();
                (settings, rules)
            }
            None => {
                let settings = self.settings();
                let rules = load_rules(&settings).map_err(Unchanged::Wrong)?;
                (settings, rules)
            }
        };
        let active = rules.iter().filter(|rule| settings.alerts.enabled && rule.enabled).cloned().collect();
        let Some(apply) = self.apply.get() else {
            return Err(Unchanged::Failed("rules can't be changed while this runs".into()));
        };
        let applied = apply(active).map_err(Unchanged::Failed)?;
        *self.rules.write() = rules.into();
        *self.settings.write() = settings;
        Ok(applied)
    }

    /// Adds a rule to the API's file, or with `replace` puts it in the place of the one of that name there.
    ///
    /// # Errors
    /// Whatever is wrong; then all stays as it was.
    pub fn put(&self, rule: RuleSettings, replace: bool) -> Result<RulesApplied, Unchanged> {
        let _changing = self.changing.lock();
        let path = self.file()?;
        let mut written = api_rules(&path, &self.settings())?;
        let place = written.iter().position(|known| known.name == rule.name);
        self.check_elsewhere(&rule.name, place.is_some())?;
        match place {
            Some(place) if replace => written[place] = rule,
            Some(_) => return Err(Unchanged::Conflict(format!("there is a rule {:?} already", rule.name))),
            None => written.push(rule),
        }
        self.write(&path, &written)
    }

    /// Takes a rule out of the API's file.
    ///
    /// # Errors
    /// Whatever is wrong; then all stays as it was.
    pub fn delete(&self, name: &str) -> Result<RulesApplied, Unchanged> {
        let _changing = self.changing.lock();
        let path = self.file()?;
        let mut written = api_rules(&path, &self.settings())?;
        let place = written.iter().position(|known| known.name == name);
        self.check_elsewhere(name, place.is_some())?;
        let Some(place) = place else { return Err(Unchanged::NotFound(name.into())) };
        written.remove(place);
        self.write(&path, &written)
    }

    /// Where the API writes, if it may.
    fn file(&self) -> Result<PathBuf, Unchanged> {
        let settings = self.settings.read();
        if !settings.alerts.api_rules {
            return Err(Unchanged::NotAllowed);
        }
        let dir = settings.alerts.rules_dir.as_ref().ok_or(Unchanged::NoDirectory)?;
        Ok(Path::new(dir).join(API_FILE))
    }

    /// A rule of another place is not the API's to change.
    fn check_elsewhere(&self, name: &str, is_ours: bool) -> Result<(), Unchanged> {
        let rules = self.rules();
        match rules.iter().find(|rule| rule.name == name).filter(|_| !is_ours) {
            Some(rule) => {
                Err(Unchanged::Conflict(format!("the rule {name:?} stands at {}", rule.source.origin)))
            }
            None => Ok(()),
        }
    }

    /// Writes the API's file and brings all rules into force; if they can't be, the file is as it was.
    fn write(&self, path: &Path, rules: &[RuleSettings]) -> Result<RulesApplied, Unchanged> {
        let failed = |error: std::io::Error| Unchanged::Failed(format!("{}: {error}", path.display()));
        let before = match std::fs::read(path) {
            Ok(bytes) => Some(bytes),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(failed(error)),
        };
        let text =
            format!("# Written by the API: POST, PUT and DELETE of /api/v1/rules.\n{}", print_rules(rules));
        overwrite(path, text.as_bytes()).map_err(failed)?;
        self.read_and_apply(None).inspect_err(|_| {
            let restored = match &before {
                Some(bytes) => overwrite(path, bytes),
                None => std::fs::remove_file(path),
            };
            if let Err(error) = restored {
                tracing::error!(path = %path.display(), %error, "rules that were refused can't be taken back");
            }
        })
    }
}

/// The rules of the API's file; none before there is one.
fn api_rules(path: &Path, settings: &Settings) -> Result<Vec<RuleSettings>, Unchanged> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let read = read_rules(path, Some(settings));
    if read.problems.is_empty() {
        Ok(read.rules)
    } else {
        Err(Unchanged::Wrong(SettingsErrors(read.problems)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::rule_of_json;
    use serde_json::json;

    struct World {
        folder: tempfile::TempDir,
        store: RuleStore,
        applied: Arc<Mutex<Vec<Vec<String>>>>,
        refuses: Arc<Mutex<bool>>,
    }

    fn world(api_rules: bool) -> World {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(
            folder.path().join("a.yaml"),
            "rules:\n  - { name: a, metric: m, operator: \">\", threshold: 1 }\n",
        )
        .unwrap();
        let mut settings = Settings::default();
        settings.alerts.rules_dir = Some(folder.path().display().to_string());
        settings.alerts.api_rules = api_rules;
        settings.alerts.from_files = load_rules(&settings).unwrap();
        let applied: Arc<Mutex<Vec<Vec<String>>>> = Arc::default();
        let refuses: Arc<Mutex<bool>> = Arc::default();
        let apply: ApplyRules = Box::new({
            let (applied, refuses) = (applied.clone(), refuses.clone());
            move |rules| {
                if *refuses.lock() {
                    return Err("not now".into());
                }
                applied.lock().push(rules.iter().map(|rule| rule.name.clone()).collect());
                Ok(RulesApplied { added: rules.len(), ..RulesApplied::default() })
            }
        });
        let store = RuleStore::new(&settings);
        store.wire(apply);
        World { store, folder, applied, refuses }
    }

    fn rule(name: &str, threshold: f64) -> RuleSettings {
        let json =
            json!({"name": name, "metric": "m", "operator": ">", "threshold": threshold, "for": "10s"});
        rule_of_json(&json, &Settings::default().windows).unwrap()
    }

    fn names(store: &RuleStore) -> Vec<String> {
        store.rules().iter().map(|rule| rule.name.clone()).collect()
    }

    #[test]
    fn rules_are_written_and_brought_into_force() {
        let world = world(true);
        world.store.put(rule("b", 1.0), false).unwrap();
        world.store.put(rule("c", 2.0), true).unwrap();
        world.store.put(rule("b", 3.0), true).unwrap();
        assert_eq!(names(&world.store), ["a", "b", "c"]);
        assert_eq!(world.store.rules()[1], rule("b", 3.0));
        assert!(matches!(world.store.put(rule("b", 4.0), false), Err(Unchanged::Conflict(_))));
        assert!(matches!(world.store.put(rule("a", 4.0), true), Err(Unchanged::Conflict(_))));
        assert!(matches!(world.store.delete("a"), Err(Unchanged::Conflict(_))));
        assert!(matches!(world.store.delete("x"), Err(Unchanged::NotFound(_))));
        world.store.delete("b").unwrap();
        assert_eq!(names(&world.store), ["a", "c"]);
        assert_eq!(world.applied.lock().last(), Some(&vec!["a".to_string(), "c".to_string()]));
        let left: Vec<String> = std::fs::read_dir(world.folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .filter(|name| name.starts_with('.'))
            .collect();
        assert_eq!(left, Vec::<String>::new());
    }

    #[test]
    fn what_is_refused_leaves_all_as_it_was() {
        let world = world(true);
        world.store.put(rule("b", 1.0), false).unwrap();
        let file = world.folder.path().join(API_FILE);
        let before = std::fs::read(&file).unwrap();
        *world.refuses.lock() = true;
        assert!(
            matches!(world.store.put(rule("c", 1.0), false), Err(Unchanged::Failed(why)) if why == "not now")
        );
        assert!(matches!(world.store.delete("b"), Err(Unchanged::Failed(_))));
        assert_eq!(
            (std::fs::read(&file).unwrap(), names(&world.store)),
            (before, vec!["a".into(), "b".into()])
        );
        *world.refuses.lock() = false;
        std::fs::write(world.folder.path().join("a.yaml"), "rules: 5\n").unwrap();
        assert!(matches!(world.store.reload(None), Err(Unchanged::Wrong(_))));
        assert_eq!(names(&world.store), ["a", "b"]);
        std::fs::remove_file(world.folder.path().join("a.yaml")).unwrap();
        world.store.reload(None).unwrap();
        assert_eq!(names(&world.store), ["b"]);
    }

    #[test]
    fn the_api_writes_only_where_it_may() {
        let world = world(false);
        assert!(matches!(world.store.put(rule("b", 1.0), false), Err(Unchanged::NotAllowed)));
        let mut settings = world.store.settings();
        (settings.alerts.api_rules, settings.alerts.rules_dir) = (true, None);
        let store = RuleStore::new(&settings);
        assert!(matches!(store.delete("b"), Err(Unchanged::NoDirectory)));
        assert!(matches!(store.reload(None), Err(Unchanged::Failed(_))), "nobody said how");
        assert_eq!(names(&store), ["a"]);
        settings.alerts.from_files.clear();
        store.note(&settings);
        assert_eq!(names(&store), Vec::<String>::new());
    }
}
