//! From the sources to [`Settings`]: defaults, then file, then environment, then flags; each stands above the
//! ones before it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::report::{Origin, Origins, Problem, Report, SettingsErrors};
use super::section::read_section;
use super::written::{Node, Value};
use super::{Mode, Settings, check, complete, env, rules, yaml};

/// Bytes of a configuration file, at most.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// What the command line says about the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// `--config`: the file; otherwise `PLANTD_MODULE_METRIC_CONFIG`, otherwise none.
    pub config: Option<PathBuf>,
    /// The subcommand.
    pub mode: Option<Mode>,
    /// `--listen`.
    pub listen: Option<String>,
}

/// Reads the whole configuration. `env` is the environment, as names and values.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load(
    flags: &Flags,
    env: impl IntoIterator<Item = (String, String)>,
) -> Result<Settings, SettingsErrors> {
    load_traced(flags, env).map(|(settings, _)| settings)
}

/// As [`load`], with where each value was given.
///
/// # Errors
/// As [`load`].
pub fn load_traced(
    flags: &Flags,
    env: impl IntoIterator<Item = (String, String)>,
) -> Result<(Settings, Origins), SettingsErrors> {
    let variables = env::ours(env);
    let mut report = Report::default();
    let from_variable =
        || variables.get(env::CONFIG).map(|path| (PathBuf::from(path), Origin::Variable(env::CONFIG.into())));
    let from_flag = flags.config.clone().map(|path| (path, Origin::Flag("--config".into())));
    let mut root = Node { origin: Origin::Default, value: Value::Map(Vec::new()) };
    if let Some((path, named_by)) = from_flag.or_else(from_variable) {
        match read_file(&path, &named_by, &mut report) {
            Ok(Some(node)) => root = node,
            Ok(None) => {}
            Err(problem) => report.problems.push(problem),
        }
    }
    if matches!(root.value, Value::Null) {
        root.value = Value::Map(Vec::new());
    }
    if !matches!(root.value, Value::Map(_)) {
        report.problem(&root.origin, "", format!("expected a mapping of sections, found {root}"));
        root.value = Value::Map(Vec::new());
    }
    env::overlay(&mut root, &variables, &mut report);
    overlay_flags(&mut root, flags);
    let mut settings = Settings::default();
    read_section(&root, &mut settings, "", &mut report);
    complete::complete(&mut settings, &report.origins);
    check::check(&settings, &mut report);
    settings.alerts.from_files = rules::files::read_dir(&settings, &mut report);
    report.finish().map(|origins| (settings, origins))
}

fn read_file(path: &Path, named_by: &Origin, report: &mut Report) -> Result<Option<Node>, Problem> {
    let refused = |why: String| Problem {
        origin: named_by.clone(),
        key: String::new(),
        text: format!("expected a configuration file that can be read, found {}: {why}", path.display()),
    };
    let size = std::fs::metadata(path).map_err(|error| refused(error.to_string()))?;
    if size.is_file() && size.len() > FILE_BYTES_MAX {
        return Err(refused("more than 4MiB".into()));
    }
    let text = std::fs::read_to_string(path).map_err(|error| refused(error.to_string()))?;
    yaml::parse(&Arc::from(path.display().to_string()), &text, report)
}

fn overlay_flags(root: &mut Node, flags: &Flags) {
    let mode = flags.mode.map(|mode| (["service", "type"], mode.word(), "subcommand"));
    let listen = flags.listen.as_deref().map(|listen| (["http", "listen"], listen, "--listen"));
    for (path, text, flag) in mode.into_iter().chain(listen) {
        // Paths of keys alone, without positions in lists, always have a place.
        let _ = root.put(&path, Node::raw(Origin::Flag(flag.into()), text));
    }
}
