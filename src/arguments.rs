//! The command line. It names the sources of the configuration and what to do; it does nothing itself.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use operators::anomaly::Method;

use crate::detect;
use crate::settings::{Flags, Mode, units};

/// Streaming metrics engine: bus in, windowed aggregates, exact alerts and storage out.
#[derive(Clone, Debug, PartialEq, Parser)]
#[command(name = "plantd-metric", version, after_help = AFTER_HELP, max_term_width = 100)]
pub struct Arguments {
    /// What to run as, which stands above PLANTD_MODULE_METRIC_TYPE and service.type; or what to do with a journal.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// Configuration file (YAML); otherwise PLANTD_MODULE_METRIC_CONFIG, otherwise none.
    #[arg(short, long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,

    /// Address of the HTTP API, such as 127.0.0.1:8080; stands above http.listen.
    #[arg(long, value_name = "IP:PORT", global = true)]
    pub listen: Option<String>,

    /// Check the configuration and leave: exit code 0, or 78 with every problem on standard error.
    #[arg(long, global = true, conflicts_with_all = ["print_config", "list_topics"])]
    pub check_config: bool,

    /// Print the effective configuration as YAML, with where each value comes from and secrets masked, and leave.
    #[arg(long, global = true, conflicts_with = "list_topics")]
    pub print_config: bool,

    /// Print the part of a prometheus.yml that makes Prometheus scrape this service, and leave.
    #[arg(long, global = true, conflicts_with_all = ["check_config", "print_config", "list_topics"])]
    pub print_scrape_config: bool,

    /// List the topics seen on the bus, with their rates, for so many seconds (default 5), and leave.
    #[arg(
        long,
        value_name = "SECONDS",
        global = true,
        num_args = 0..=1,
        default_missing_value = "5",
        value_parser = seconds
    )]
    pub list_topics: Option<Duration>,

    /// Asks a running service whether it is healthy (default: where http.listen says), and exits 0 or 69
    #[arg(
        long,
        value_name = "URL",
        global = true,
        num_args = 0..=1,
        conflicts_with_all = ["check_config", "print_config", "list_topics"]
    )]
    pub check_health: Option<Option<String>>,
}

/// A mode, or a task.
#[derive(Clone, Debug, PartialEq, Subcommand)]
pub enum Command {
    /// Subscribe, aggregate, alert, store and answer queries (the default).
    Consumer,
    /// Measure this host and publish what is measured.
    Producer,
    /// Everything in one process: embedded bus, producer, consumer and HTTP API; no broker, no database.
    Standalone,
    /// Look at the journal of a consumer that is not running, put it right, or play it again.
    Journal {
        /// What to do with it.
        #[command(subcommand)]
        task: JournalTask,
    },
    /// Score the samples of a table `timestamp,value` for anomalies, from 0 to 1, with the band expected.
    Detect(DetectTable),
    /// Check, import and test alert rules, or try them on the past, before they go live.
    Rules {
        /// What to do with them.
        #[command(subcommand)]
        task: RulesTask,
    },
}

/// What to do with rules. Exit codes: 0 all is well, 1 a test failed or a rule can't be imported, 2 wrong arguments, 78
/// wrong rules.
#[derive(Clone, Debug, PartialEq, Subcommand)]
pub enum RulesTask {
    /// Say how each rule is understood, or everything that is wrong: exit code 0, or 78.
    Check {
        /// Files with rules (rules: or groups:), or whole configurations.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Write the rules of a rule file of Prometheus as ours to standard output, and name what can't be imported.
    Import {
        /// The file.
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Run unit tests of rules in virtual time: exit code 0, or 1 and what was expected and found.
    Test {
        /// Files with tests.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// When would rules have fired on what a journal or stored files hold?
    Replay(RulesReplay),
}

/// Which rules, on what.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub struct RulesReplay {
    /// Alerts from then on: so long before the end of what there is, or an RFC 3339 time.
    #[arg(long, value_name = "DURATION|TIME", default_value = "24h")]
    pub since: String,
    /// File with the rules; otherwise those of the configuration.
    #[arg(long, value_name = "FILE")]
    pub rules: Option<PathBuf>,
    /// Directory of a journal; otherwise journal.path.
    #[arg(long, value_name = "DIR", conflicts_with = "file")]
    pub journal: Option<PathBuf>,
    /// A stored file (.json, .csv, .parquet, .gz) or a directory of them, in place of a journal.
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
}

/// What to do with a journal. Exit codes: 0 it is sound (or was put right), 1 it is damaged (or could not be), 2 wrong
/// arguments, or there is no journal.
#[derive(Clone, Debug, PartialEq, Subcommand)]
pub enum JournalTask {
    /// List segments, checkpoints and cursors, with epochs, times and sizes.
    Inspect(JournalPlace),
    /// Read every record and say which are damaged: exit code 0, or 1.
    Verify(JournalPlace),
    /// Cut torn tails and leave out damaged records; what is taken away is kept beside it.
    Repair(JournalPlace),
    /// Read it as a start does, and print the windows and alerts that come out.
    Replay(JournalReplay),
}

/// Which journal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub struct JournalPlace {
    /// Its directory; otherwise journal.path.
    #[arg(long, value_name = "DIR")]
    pub path: Option<PathBuf>,
}

/// Which journal, and how fast.
#[derive(Clone, Debug, Default, PartialEq, Args)]
pub struct JournalReplay {
    /// Its directory; otherwise journal.path.
    #[arg(long, value_name = "DIR")]
    pub path: Option<PathBuf>,
    /// Times as fast as it was written; otherwise as fast as it goes.
    #[arg(long, value_name = "N", value_parser = speed)]
    pub speed: Option<f64>,
}

/// Which table, and where its scores go. Exit codes: 0 every row was read, 1 some were left out, 2 wrong arguments, or what
/// can't be read or written.
#[derive(Clone, Debug, PartialEq, Args)]
pub struct DetectTable {
    /// CSV with a column of times and one of values; - is standard input.
    #[arg(value_name = "FILE")]
    pub input: PathBuf,
    /// Where to write timestamp,value,anomaly_score,lower,upper; otherwise standard output.
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// How samples are judged: default, robust_z, ewma or seasonal.
    #[arg(long, value_name = "NAME", default_value_t)]
    pub method: Method,
}

impl Arguments {
    /// What they say about the configuration.
    pub fn flags(&self) -> Flags {
        let mode = self.command.as_ref().and_then(|command| match command {
            Command::Consumer => Some(Mode::Consumer),
            Command::Producer => Some(Mode::Producer),
            Command::Standalone => Some(Mode::Standalone),
            Command::Journal { .. } | Command::Rules { .. } | Command::Detect(_) => None,
        });
        Flags { config: self.config.clone(), mode, listen: self.listen.clone() }
    }

    /// Which table to score, in place of running.
    pub fn detect_task(&self) -> Option<detect::Task> {
        match &self.command {
            Some(Command::Detect(table)) => Some(table.into()),
            _ => None,
        }
    }

    /// What to do with a journal, in place of running.
    pub fn journal_task(&self) -> Option<&JournalTask> {
        match &self.command {
            Some(Command::Journal { task }) => Some(task),
            _ => None,
        }
    }
}

impl From<&DetectTable> for detect::Task {
    fn from(table: &DetectTable) -> detect::Task {
        detect::Task { input: table.input.clone(), output: table.output.clone(), method: table.method }
    }
}

impl Arguments {
    /// What to do with rules, in place of running.
    pub fn rules_task(&self) -> Option<&RulesTask> {
        match &self.command {
            Some(Command::Rules { task }) => Some(task),
            _ => None,
        }
    }
}

impl JournalTask {
    /// The directory that it names.
    pub fn path(&self) -> Option<&Path> {
        match self {
            JournalTask::Inspect(place) | JournalTask::Verify(place) | JournalTask::Repair(place) => {
                place.path.as_deref()
            }
            JournalTask::Replay(replay) => replay.path.as_deref(),
        }
    }
}

/// Reads a number above 0.
fn speed(text: &str) -> Result<f64, String> {
    let speed = text.parse().ok().filter(|speed: &f64| speed.is_finite() && *speed > 0.0);
    speed.ok_or_else(|| "expected a number above 0, such as 1 or 60".into())
}

/// Reads `5`, `5s` or `500ms`.
fn seconds(text: &str) -> Result<Duration, String> {
    let duration = match text.parse::<u32>() {
        Ok(seconds) => Some(Duration::from_secs(seconds.into())),
        Err(_) => units::parse_duration(text),
    };
    let in_range = |duration: &Duration| !duration.is_zero() && *duration <= Duration::from_secs(86_400);
    duration.filter(in_range).ok_or_else(|| "expected seconds such as 5, or a duration up to 1d".into())
}

const AFTER_HELP: &str = "\
Examples:
  plantd-metric standalone                        a whole system on this machine, API on 127.0.0.1:8080
  plantd-metric --config config/metric.yaml       a consumer as the file says
  PLANTD_MODULE_METRIC_TYPE=producer plantd-metric
  plantd-metric --check-config -c metric.yaml     exit code 0, or 78 and what is wrong
  plantd-metric --list-topics 10                  what is on the bus
  plantd-metric journal verify --path ./data/journal
  plantd-metric detect samples.csv                anomaly scores for timestamp,value
  plantd-metric rules test config/rules-test.yaml

Configuration: flags stand above the environment, it above the file, that above the defaults. Every key has a
variable: windows.lateness is PLANTD_MODULE_METRIC__WINDOWS__LATENESS. config/metric.yaml explains each.

Exit codes: 0 stopped in order, 2 wrong arguments, 69 could not start, 75 stopped before everything was written, 78 wrong
configuration. Of journal: 0 sound, 1 damaged, 2 wrong arguments or no journal. Of rules: 0 all is well, 1 a test
failed, 2 wrong arguments, 78 wrong rules. Of detect: 0 all rows, 1 some were left out, 2 wrong arguments or no table.";

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parsed(words: &str) -> Result<Arguments, String> {
        let words = ["plantd-metric"].into_iter().chain(words.split_whitespace());
        Arguments::try_parse_from(words).map_err(|error| error.to_string())
    }

    #[test]
    fn the_declaration_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn flags_stand_before_or_after_the_subcommand() {
        for words in ["standalone -c a.yaml --listen :9", "-c a.yaml --listen :9 standalone"] {
            let flags = parsed(words).expect("these are right").flags();
            let expected = Flags {
                config: Some("a.yaml".into()),
                mode: Some(Mode::Standalone),
                listen: Some(":9".into()),
            };
            assert_eq!(flags, expected, "{words}");
        }
        assert_eq!(parsed("").expect("these are right").flags(), Flags::default());
    }

    #[test]
    fn list_topics_takes_a_time_or_not() {
        for (words, expected) in [
            ("", None),
            ("--list-topics", Some(5_000)),
            ("--list-topics 10", Some(10_000)),
            ("--list-topics=250ms", Some(250)),
            ("consumer --list-topics", Some(5_000)),
        ] {
            let list_topics = parsed(words).expect("these are right").list_topics;
            assert_eq!(list_topics, expected.map(Duration::from_millis), "{words}");
        }
        for words in ["--list-topics 0", "--list-topics soon", "--list-topics 2d", "--nothing", "observer"] {
            assert!(parsed(words).is_err(), "{words}");
        }
        assert!(parsed("--check-config --print-config").is_err());
    }

    #[test]
    fn journal_tasks() {
        let place = |path: Option<&str>| JournalPlace { path: path.map(PathBuf::from) };
        for (words, expected) in [
            ("journal inspect", JournalTask::Inspect(place(None))),
            ("journal verify --path /j", JournalTask::Verify(place(Some("/j")))),
            ("journal repair --path=j -c a.yaml", JournalTask::Repair(place(Some("j")))),
            ("journal replay", JournalTask::Replay(JournalReplay::default())),
            (
                "-c a.yaml journal replay --speed 60 --path j",
                JournalTask::Replay(JournalReplay { path: Some("j".into()), speed: Some(60.0) }),
            ),
        ] {
            let arguments = parsed(words).expect("these are right");
            assert_eq!(arguments.journal_task(), Some(&expected), "{words}");
            assert_eq!(arguments.flags().mode, None, "{words}");
            assert_eq!(expected.path().is_some(), words.contains("--path"), "{words}");
        }
        for words in ["journal", "journal mend", "journal verify --speed 2", "journal inspect here"] {
            assert!(parsed(words).is_err(), "{words}");
        }
        for words in ["0", "-1", "NaN", "inf", "fast"] {
            assert!(parsed(&format!("journal replay --speed={words}")).is_err(), "{words}");
        }
        assert_eq!(parsed("consumer").expect("it is right").journal_task(), None);
    }

    #[test]
    fn detect_tasks() {
        let task = |words: &str| parsed(words).expect("these are right").detect_task();
        let expected = |input: &str, output: Option<&str>, method| {
            Some(detect::Task { input: input.into(), output: output.map(PathBuf::from), method })
        };
        assert_eq!(task("detect a.csv"), expected("a.csv", None, Method::Default));
        assert_eq!(
            task("detect - -o b.csv --method robust_z"),
            expected("-", Some("b.csv"), Method::RobustZ)
        );
        assert_eq!(task("consumer"), None);
        for words in ["detect", "detect a.csv b.csv"] {
            assert!(parsed(words).is_err(), "{words}");
        }
        let error = parsed("detect a.csv --method prophet").expect_err("there is no such method");
        assert!(error.contains("expected a method (default, robust_z, ewma, seasonal)"), "{error}");
    }

    #[test]
    fn rules_tasks() {
        let files = |names: &[&str]| names.iter().map(PathBuf::from).collect();
        let replay = |change: &dyn Fn(&mut RulesReplay)| {
            let mut replay = RulesReplay { since: "24h".into(), ..RulesReplay::default() };
            change(&mut replay);
            RulesTask::Replay(replay)
        };
        for (words, expected) in [
            ("rules check a.yaml b.yaml", RulesTask::Check { files: files(&["a.yaml", "b.yaml"]) }),
            ("rules import a.yaml", RulesTask::Import { file: "a.yaml".into() }),
            ("-c m.yaml rules test t.yaml", RulesTask::Test { files: files(&["t.yaml"]) }),
            ("rules replay", replay(&|_| {})),
            (
                "rules replay --since 1h --rules r.yaml --journal j",
                replay(&|r| {
                    (r.since, r.rules, r.journal) = ("1h".into(), Some("r.yaml".into()), Some("j".into()))
                }),
            ),
            ("rules replay --file a.csv.gz", replay(&|r| r.file = Some("a.csv.gz".into()))),
        ] {
            assert_eq!(parsed(words).expect("these are right").rules_task(), Some(&expected), "{words}");
        }
        for words in ["rules", "rules check", "rules mend", "rules replay --file a --journal b"] {
            assert!(parsed(words).is_err(), "{words}");
        }
    }

    #[test]
    fn help_shows_every_mode_and_flag() {
        let help = Arguments::command().render_long_help().to_string();
        for word in [
            "consumer",
            "producer",
            "standalone",
            "journal",
            "detect",
            "--config",
            "--check-config",
            "--print-config",
        ] {
            assert!(help.contains(word), "{word}");
        }
        for word in ["--list-topics", "--listen", "--version", "Examples:", "78"] {
            assert!(help.contains(word), "{word}");
        }
    }
}
