//! Rules in files of their own: those of `alerts.rules_dir`, and single ones.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use operators::stable_hash::StableHash;
use parking_lot::Mutex;

use super::{Names, Rule, RuleSettings, check_names, check_windows, complete, prometheus};
use crate::settings::compounds::List;
use crate::settings::kinds::Kind;
use crate::settings::report::{Origin, Problem, Report, SettingsErrors, closest};
use crate::settings::written::{Node, Value};
use crate::settings::{Flags, Settings, WindowsSettings, load, yaml};

/// Bytes of a file of rules, at most.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Nodes of a file of rules: of about 100,000 rules.
const NODES_MAX: usize = 1_000_000;

/// Files of a directory, at most.
const FILES_MAX: usize = 10_000;

/// The file that the API writes.
pub const API_FILE: &str = "api.yaml";

/// Reads all rules again: those of the configuration as `settings` have them, and those of the files in
/// `alerts.rules_dir` as they are now.
///
/// # Errors
/// Everything that is wrong with the files; then nothing should change.
pub fn load_rules(settings: &Settings) -> Result<Vec<RuleSettings>, SettingsErrors> {
    let mut report = Report::default();
    let from_files = read_dir(settings, &mut report);
    report.finish()?;
    Ok(settings.alerts.rules.iter().cloned().chain(from_files).collect())
}

/// The rules of the files in `alerts.rules_dir`, by name of the file.
pub(in crate::settings) fn read_dir(settings: &Settings, report: &mut Report) -> Vec<RuleSettings> {
    let Some(dir) = &settings.alerts.rules_dir else { return Vec::new() };
    let named_by = report.origins.of("alerts.rules_dir");
    let mut rules = Vec::new();
    // Names that occur twice in the configuration itself have been told already.
    let mut known = Names::default();
    check_names(&mut known, &settings.alerts.rules, &mut Report::default());
    let files = match files_of(Path::new(dir)) {
        Ok(files) => files,
        Err(why) => {
            let text = format!("expected a directory that can be read, found {dir}: {why}");
            report.problem(&named_by, "alerts.rules_dir", text);
            return rules;
        }
    };
    for file in files {
        let mut of_file = Report::default();
        let read = read_unless_known(&file, &settings.windows, &known, &mut of_file);
        check_names(&mut known, &read, &mut of_file);
        if !of_file.problems.is_empty() {
            KNOWN.lock().remove(&file);
        }
        report.problems.append(&mut of_file.problems);
        rules.extend(read);
    }
    rules
}

/// Files of a directory whose names end in `.yaml` or `.yml` and do not begin with a dot, by name.
fn files_of(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let is_yaml = path.extension().is_some_and(|end| end == "yaml" || end == "yml");
        let is_hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if is_yaml && !is_hidden && path.is_file() {
            files.push(path);
        }
    }
    if files.len() > FILES_MAX {
        return Err(std::io::Error::other(format!(
            "expected at most {FILES_MAX} files, found {}",
            files.len()
        )));
    }
    files.sort();
    Ok(files)
}

/// What a file of the directory said when it was last read, by its path: of ten thousand rules in many files a change of
/// one is to cost the reading of its own file.
static KNOWN: Mutex<BTreeMap<PathBuf, Known>> = Mutex::new(BTreeMap::new());

struct Known {
    /// Hash of its bytes.
    content: u128,
    windows: WindowsSettings,
    rules: Vec<RuleSettings>,
}

/// Reads a file unless it is as it was when nothing was wrong with it. One that has a name of `taken` is read for the
/// place of that name.
fn read_unless_known(
    path: &Path,
    windows: &WindowsSettings,
    taken: &Names,
    report: &mut Report,
) -> Vec<RuleSettings> {
    let text = match read_text(path) {
        Ok(text) => text,
        Err(problem) => {
            report.problems.push(problem);
            return Vec::new();
        }
    };
    let content = StableHash::new().bytes(text.as_bytes()).finish();
    if let Some(known) = KNOWN.lock().get(path)
        && (known.content, &known.windows) == (content, windows)
        && known.rules.iter().all(|rule| !taken.contains_key(&rule.name))
    {
        return known.rules.clone();
    }
    let before = report.problems.len();
    let rules = match parse(path, &text, report) {
        Ok(node) => node.map(|node| rules_of(&node, path, windows, report)).unwrap_or_default(),
        Err(problem) => {
            report.problems.push(problem);
            Vec::new()
        }
    };
    let mut all = KNOWN.lock();
    if report.problems.len() > before || all.len() >= FILES_MAX {
        all.remove(path);
    } else {
        all.insert(path.to_path_buf(), Known { content, windows: windows.clone(), rules: rules.clone() });
    }
    rules
}

pub(super) fn read_node(path: &Path, report: &mut Report) -> Result<Option<Node>, Problem> {
    parse(path, &read_text(path)?, report)
}

fn read_text(path: &Path) -> Result<String, Problem> {
    let refused = |why: String| Problem {
        origin: Origin::File { file: name_of(path), line: 1, column: 1 },
        key: String::new(),
        text: format!("expected a file that can be read, found {why}"),
    };
    let size = std::fs::metadata(path).map_err(|error| refused(error.to_string()))?;
    if size.len() > FILE_BYTES_MAX {
        return Err(refused("more than 16MiB".into()));
    }
    std::fs::read_to_string(path).map_err(|error| refused(error.to_string()))
}

fn parse(path: &Path, text: &str, report: &mut Report) -> Result<Option<Node>, Problem> {
    yaml::parse_up_to(NODES_MAX, &name_of(path), text, report)
}

fn name_of(path: &Path) -> Arc<str> {
    path.display().to_string().into()
}

/// The rules of a file with the key `rules` or `groups`.
fn rules_of(node: &Node, path: &Path, windows: &WindowsSettings, report: &mut Report) -> Vec<RuleSettings> {
    let Value::Map(entries) = &node.value else {
        if !matches!(node.value, Value::Null) {
            report.problem(
                &node.origin,
                "",
                format!("expected a mapping with the key rules or groups, found {node}"),
            );
        }
        return Vec::new();
    };
    let group: Arc<str> = path.file_stem().map(|stem| stem.to_string_lossy()).unwrap_or_default().into();
    let mut rules = Vec::new();
    for entry in entries {
        match entry.key.as_str() {
            _ if matches!(entry.node.value, Value::Null) => {}
            "rules" => {
                let mut read = Vec::new();
                List(Rule).read(&entry.node, &mut read, "rules", report);
                read.iter_mut().for_each(|rule: &mut RuleSettings| rule.source.group = group.clone());
                rules.extend(read);
            }
            "groups" => rules.extend(prometheus::read(&entry.node, report)),
            key => {
                let proposal = match closest(key, ["rules", "groups"]) {
                    Some(key) => format!("did you mean {key}?"),
                    None => "expected one of rules, groups".into(),
                };
                report.problem(&entry.origin, key, format!("unrecognised key; {proposal}"));
            }
        }
    }
    rules.iter_mut().for_each(|rule| complete(rule, windows));
    check_windows(&rules, windows, report);
    rules
}

/// What a file holds.
#[derive(Debug, Default)]
pub struct RuleFile {
    /// Its rules, those that are sound.
    pub rules: Vec<RuleSettings>,
    /// The windows that they are made for: those of a configuration, else the default.
    pub windows: WindowsSettings,
    /// Silence after which an alert ends: that of a configuration, else the default.
    pub stale: std::time::Duration,
    /// Whether it is a whole configuration.
    pub is_config: bool,
    /// What is wrong with others.
    pub problems: Vec<Problem>,
}

/// Reads a file with rules (`rules:`), one of Prometheus (`groups:`), or a whole configuration, with its `rules_dir`.
/// Windows of rules are checked against those of `config`, if the file is no configuration itself.
pub fn read_rules(path: &Path, config: Option<&Settings>) -> RuleFile {
    let mut report = Report::default();
    let default = Settings::default();
    let config = config.unwrap_or(&default);
    let node = match read_node(path, &mut report) {
        Ok(node) => node,
        Err(problem) => return RuleFile { problems: vec![problem], ..RuleFile::default() },
    };
    let keys: Vec<&str> = match node.as_ref().map(|node| &node.value) {
        Some(Value::Map(entries)) => entries.iter().map(|entry| entry.key.as_str()).collect(),
        _ => Vec::new(),
    };
    let is_config = !keys.iter().any(|key| matches!(*key, "rules" | "groups"))
        && keys.iter().any(|key| <Settings as crate::settings::section::Section>::KEYS.contains(key));
    if is_config {
        let flags = Flags { config: Some(path.to_path_buf()), ..Flags::default() };
        return match load(&flags, []) {
            Ok(settings) => RuleFile {
                rules: settings.alerts.all_rules().cloned().collect(),
                stale: settings.alerts.stale,
                windows: settings.windows,
                is_config: true,
                problems: Vec::new(),
            },
            Err(SettingsErrors(problems)) => RuleFile { problems, ..RuleFile::default() },
        };
    }
    let rules = node.map(|node| rules_of(&node, path, &config.windows, &mut report)).unwrap_or_default();
    check_names(&mut Names::default(), &rules, &mut report);
    report.problems.sort_by_key(|problem| problem.origin.rank());
    let (windows, stale) = (config.windows.clone(), config.alerts.stale);
    RuleFile { rules, windows, stale, is_config: false, problems: report.problems }
}

/// Reads one rule from JSON, as a request brings it; problems are named as if it stood in a file `body`.
///
/// # Errors
/// Everything that is wrong with it.
pub fn rule_of_json(
    value: &serde_json::Value,
    windows: &WindowsSettings,
) -> Result<RuleSettings, SettingsErrors> {
    let mut report = Report::default();
    let mut rules = vec![RuleSettings::default()];
    Rule.read(&node_of(value), &mut rules[0], "rule", &mut report);
    rules.iter_mut().for_each(|rule| complete(rule, windows));
    check_windows(&rules, windows, &mut report);
    report.finish()?;
    Ok(rules.remove(0))
}

fn node_of(value: &serde_json::Value) -> Node {
    use serde_json::Value as Json;
    let origin = Origin::Flag("body".into());
    let value = match value {
        Json::Null => Value::Null,
        Json::Bool(flag) => Value::Plain(flag.to_string()),
        Json::Number(number) => Value::Plain(number.to_string()),
        Json::String(text) => Value::Quoted(text.clone()),
        Json::Array(entries) => Value::List(entries.iter().map(node_of).collect()),
        Json::Object(entries) => {
            let entries = entries.iter().map(|(key, value)| crate::settings::written::Entry {
                key: key.clone(),
                origin: origin.clone(),
                node: node_of(value),
            });
            Value::Map(entries.collect())
        }
    };
    Node { origin, value }
}
