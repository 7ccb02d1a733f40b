//! The subcommands of `rules`: what they print, and their exit codes.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::past::{self, Since};
use super::unit;
use crate::codec::time;
use crate::journal::files::RealFiles;
use crate::service::wiring;
use crate::settings::units::parse_duration;
use crate::settings::{RuleFile, Settings, SettingsErrors, print_rules, read_rules};

/// What a subcommand has to say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// For standard output.
    pub out: String,
    /// For standard error.
    pub err: String,
    /// Exit code.
    pub code: u8,
}

/// Exit code of a test that failed, and of rules that cannot be imported.
const FAILED: u8 = 1;
/// Exit code of a wrong file, as of a wrong configuration.
const WRONG: u8 = 78;
/// Exit code where there is nothing to play, as of wrong arguments.
const NOTHING: u8 = 2;

/// What rules are tried on.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// The segments of a journal.
    Journal(&'a Path),
    /// A stored file, or a directory of them.
    Stored(&'a Path),
}

/// `rules check FILE...`: each rule as it is understood, or everything that is wrong. Windows are those of `config`
/// where a file is no configuration itself.
pub fn check(files: &[PathBuf], config: &Settings) -> Answer {
    let mut answer = Answer::default();
    for file in files {
        let RuleFile { rules, problems, .. } = read_rules(file, Some(config));
        for rule in &rules {
            let mut line = format!("{}: {}", rule.name, rule.expression());
            if let Some(resolve) = rule.resolve_threshold {
                let _ = write!(line, ", until {resolve}");
            }
            for (word, duration) in [("for", rule.duration), ("keep firing for", rule.keep_firing_for)] {
                if !duration.is_zero() {
                    let _ = write!(line, ", {word} {}", crate::settings::units::show_duration(duration));
                }
            }
            let state = if rule.enabled { "" } else { ", switched off" };
            let _ = writeln!(answer.out, "{line}, {}{state}", rule.severity);
            rule.source.notes.iter().for_each(|note| answer.out += &format!("  note: {note}\n"));
        }
        match problems.len() {
            0 => answer.out += &format!("{}: {} rules are good\n", file.display(), rules.len()),
            _ => {
                answer.err += &format!("{}\n", SettingsErrors(problems));
                answer.code = WRONG;
            }
        }
    }
    answer
}

/// `rules import FILE`: the rules of a file of Prometheus as ours; what cannot be imported is named.
pub fn import(file: &Path, config: &Settings) -> Answer {
    let RuleFile { rules, problems, .. } = read_rules(file, Some(config));
    let mut answer = Answer { out: print_rules(&rules), ..Answer::default() };
    for rule in &rules {
        for note in &rule.source.notes {
            let _ = writeln!(answer.err, "{}: {}: {note}", rule.source.origin, rule.name);
        }
    }
    if !problems.is_empty() {
        let _ = writeln!(answer.err, "{}", SettingsErrors(problems));
        answer.code = FAILED;
    }
    answer
}

/// `rules test FILE...`: runs unit tests; says what was expected and found where that differs.
pub fn test(files: &[PathBuf]) -> Answer {
    let mut answer = Answer::default();
    for file in files {
        match unit::run(file) {
            Ok(outcome) if outcome.failures.is_empty() => {
                let _ = writeln!(answer.out, "{}: {} tests passed", file.display(), outcome.tests);
            }
            Ok(outcome) => {
                for failure in &outcome.failures {
                    let _ = writeln!(answer.err, "{}: {failure}", file.display());
                }
                let failed = outcome.failures.len();
                let _ =
                    writeln!(answer.out, "{}: {failed} failures in {} tests", file.display(), outcome.tests);
                answer.code = answer.code.max(FAILED);
            }
            Err(errors) => {
                let _ = writeln!(answer.err, "{errors}");
                answer.code = WRONG;
            }
        }
    }
    answer
}

/// `rules replay`: when rules would have fired on the past. They are those of `file`, or of the configuration.
pub fn replay(since: &str, file: Option<&Path>, source: &Source<'_>, config: &Settings) -> Answer {
    let failed =
        |code, text: String| Answer { err: format!("plantd-metric: {text}\n"), code, ..Answer::default() };
    let ago = parse_duration(since).and_then(|ago| i64::try_from(ago.as_nanos()).ok()).map(Since::BeforeEnd);
    let Some(since) = ago.or_else(|| time::parse_text(since).map(Since::At)) else {
        let text = format!("--since: expected a duration such as 24h, or an RFC 3339 time, found {since:?}");
        return failed(NOTHING, text);
    };
    let (rules, windows, stale) = match file {
        Some(file) => {
            let RuleFile { rules, windows, stale, problems, .. } = read_rules(file, Some(config));
            if !problems.is_empty() {
                return Answer {
                    err: format!("{}\n", SettingsErrors(problems)),
                    code: WRONG,
                    ..Answer::default()
                };
            }
            (rules, windows, stale)
        }
        None => {
            let rules = config.alerts.all_rules().cloned().collect();
            (rules, config.windows.clone(), config.alerts.stale)
        }
    };
    let rules: Vec<_> = rules.into_iter().filter(|rule| rule.enabled).collect();
    let wired: Vec<_> = rules.iter().map(|rule| wiring::rule(rule, stale)).collect();
    let windows = wiring::window_plan(&windows);
    let played = match source {
        Source::Journal(dir) if !dir.is_dir() => {
            return failed(
                NOTHING,
                format!("{}: expected a journal, found no such directory", dir.display()),
            );
        }
        Source::Journal(dir) => {
            let workers = config.performance.worker_count;
            past::of_journal(Arc::new(RealFiles), dir, windows, &wired, since, workers)
        }
        Source::Stored(path) => past::of_stored(path, windows, &wired, since),
    };
    match played {
        Ok(past) => {
            let names: Vec<&str> = rules.iter().map(|rule| rule.name.as_str()).collect();
            let code = if past.missing > 0 { FAILED } else { 0 };
            Answer { out: past.table(&names), code, ..Answer::default() }
        }
        Err(why) => failed(NOTHING, why),
    }
}
