//! The program: arguments in, exit code out.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use dataflows::plan::Plan;
use plantd_metric::arguments::{Arguments, JournalTask, RulesReplay, RulesTask};
use plantd_metric::bus::topics::TopicTally;
use plantd_metric::bus::{Receiver, ReceiverConfig};
use plantd_metric::journal::files::{Files, RealFiles};
use plantd_metric::journal::{inspect, repair};
use plantd_metric::reload::Source;
use plantd_metric::rules::task::Answer;
use plantd_metric::service::{Service, wall_clock, wiring};
use plantd_metric::settings::{self, LogFormat, LoggingSettings, Origins, Settings, StorageKind};
use plantd_metric::sinks::prometheus::scrape::{ScrapeConfig, scrape_configs};
use plantd_metric::{detect, health, replay, rules, service};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::filter::LevelFilter;

/// What is here is allocated in many small pieces, on one thread, and freed on another: the C library's allocator takes a
/// sixth of the time of a sample for that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Exit code of a wrong configuration: `EX_CONFIG` of sysexits.h.
const EXIT_CONFIG: u8 = 78;
/// Exit code when something could not be started: `EX_UNAVAILABLE`.
const EXIT_UNAVAILABLE: u8 = 69;
/// Exit code of a journal task that found no journal to work on.
const EXIT_NO_JOURNAL: u8 = 2;
/// Exit codes of `detect`: a table with rows that could not be read, and no table at all.
const EXIT_ROWS_LEFT_OUT: u8 = 1;
const EXIT_NO_TABLE: u8 = 2;
/// Where in a journal's directory the journal itself is, beside outbox, checkpoints and cursors.
const SEGMENTS: &str = "segments";
/// Exit code when not everything taken in reached its place before the stop.
const EXIT_INCOMPLETE: u8 = 75;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(task) = arguments.detect_task() {
        return detect(&task);
    }
    let env = std::env::vars_os()
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()));
    match settings::load_traced(&arguments.flags(), env) {
        Ok((settings, origins)) => run(&arguments, &settings, &origins),
        Err(errors) => {
            eprintln!("{errors}");
            ExitCode::from(EXIT_CONFIG)
        }
    }
}

fn run(arguments: &Arguments, settings: &Settings, origins: &Origins) -> ExitCode {
    if arguments.check_config {
        println!("configuration is good: {}", settings.mode());
        return ExitCode::SUCCESS;
    }
    if arguments.print_config {
        print!("{}", settings::print(settings, origins));
        return ExitCode::SUCCESS;
    }
    if let Some(url) = &arguments.check_health {
        return match health::check(url.as_deref(), settings.http.listen) {
            Ok(()) => ExitCode::SUCCESS,
            Err(why) => failed(EXIT_UNAVAILABLE, &why),
        };
    }
    if arguments.print_scrape_config {
        return print_scrape_config(settings);
    }
    if let Some(task) = arguments.journal_task() {
        return journal(task, settings);
    }
    if let Some(task) = arguments.rules_task() {
        return rules(task, settings);
    }
    start_logging(&settings.logging);
    // Fewer than cores: the dataflow has its own, and threads that share little work mostly wake each other.
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(settings.performance.io_threads).enable_all();
    let runtime = match runtime.build() {
        Ok(runtime) => runtime,
        Err(why) => return failed(EXIT_UNAVAILABLE, &why),
    };
    // A producer is asked nothing.
    if arguments.list_topics.is_none() && settings.mode() != settings::Mode::Producer {
        start_query_threads();
    }
    let code = match arguments.list_topics {
        Some(watched) => runtime.block_on(list_topics(settings, watched)),
        None => runtime.block_on(serve(settings, source(arguments))),
    };
    // Blocking work that hangs does not keep the process.
    runtime.shutdown_timeout(Duration::from_millis(200));
    code
}

/// Starts the threads that answer long questions.
fn start_query_threads() {
    let threads = rayon::ThreadPoolBuilder::new().thread_name(|number| format!("query-{number}"));
    // Without, the first question starts some.
    if let Err(error) = threads.build_global() {
        tracing::warn!(%error, "the threads of queries");
    }
}

/// Where the settings come from, to read them again.
fn source(arguments: &Arguments) -> Source {
    let flags = arguments.flags();
    let variables = || {
        let text = |value: std::ffi::OsString| value.to_string_lossy().into_owned();
        std::env::vars_os().map(move |(name, value)| (text(name), text(value)))
    };
    let named = std::env::var_os(settings::CONFIG_VARIABLE).map(Into::into);
    Source {
        config: flags.config.clone().or(named),
        load: Box::new(move || {
            let loaded = settings::load_traced(&flags, variables()).map_err(|errors| errors.to_string());
            loaded.map(|(settings, _)| settings)
        }),
    }
}

/// Scores a table; no part of it depends on the configuration.
fn detect(task: &detect::Task) -> ExitCode {
    match detect::run(task, &mut std::io::stderr()) {
        Ok(summary) if summary.bad == 0 => ExitCode::SUCCESS,
        Ok(summary) => failed(EXIT_ROWS_LEFT_OUT, &format!("{} rows left out", summary.bad)),
        Err(why) if why.is_broken_pipe() => ExitCode::SUCCESS,
        Err(why) => failed(EXIT_NO_TABLE, &why),
    }
}

fn failed(code: u8, why: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("plantd-metric: {why}");
    ExitCode::from(code)
}

/// Prints what makes a Prometheus scrape us, as the storage of that type says.
fn print_scrape_config(settings: &Settings) -> ExitCode {
    let prometheus = settings.storage.used().find(|storage| storage.kind == StorageKind::Prometheus);
    let storage = prometheus.cloned().unwrap_or_default();
    let (job_name, metrics_path) = (storage.job_name, storage.metrics_path);
    let target = settings.http.listen.to_string();
    print!(
        "{}",
        scrape_configs(&ScrapeConfig {
            job_name,
            scrape_interval: storage.scrape_interval,
            metrics_path,
            target
        })
    );
    ExitCode::SUCCESS
}

/// Does what was asked with the journal that `task` or the settings name.
fn journal(task: &JournalTask, settings: &Settings) -> ExitCode {
    let path = task.path().unwrap_or(settings.journal.path.as_ref());
    let segments = path.join(SEGMENTS);
    if !segments.is_dir() {
        let text = format!("{}: expected a journal, found no directory {SEGMENTS:?} in it", path.display());
        return failed(EXIT_NO_JOURNAL, &text);
    }
    let files: Arc<dyn Files> = Arc::new(RealFiles);
    let config = inspect::config_of(&segments);
    let done = match task {
        JournalTask::Inspect(_) => {
            inspect::inspect(&*files, &config).map(|found| (found.to_string(), 0)).map_err(|e| e.to_string())
        }
        JournalTask::Verify(_) => inspect::verify(&*files, &config)
            .map(|found| (found.to_string(), found.exit_status()))
            .map_err(|e| e.to_string()),
        JournalTask::Repair(_) => {
            repair::repair(&files, &config).map(|done| (done.to_string(), 0)).map_err(|e| e.to_string())
        }
        JournalTask::Replay(how) => {
            let plan = Plan { rules: wiring::rules(settings), ..wiring::plan(settings) };
            let out = &mut std::io::stdout().lock();
            replay::replay(files, &segments, plan, how.speed, out)
                .map(|summary| (summary.to_string(), u8::from(summary.missing > 0)))
                .map_err(|e| e.to_string())
        }
    };
    match done {
        Ok((text, code)) => {
            println!("{text}");
            ExitCode::from(code)
        }
        Err(why) => failed(EXIT_NO_JOURNAL, &why),
    }
}

/// Does what was asked with rules.
fn rules(task: &RulesTask, settings: &Settings) -> ExitCode {
    let Answer { out, err, code } = match task {
        RulesTask::Check { files } => rules::task::check(files, settings),
        RulesTask::Import { file } => rules::task::import(file, settings),
        RulesTask::Test { files } => rules::task::test(files),
        RulesTask::Replay(RulesReplay { since, rules: file, journal, file: stored }) => {
            let dir = journal.as_deref().unwrap_or(settings.journal.path.as_ref()).join(SEGMENTS);
            let source = match stored {
                Some(file) => rules::task::Source::Stored(file),
                None => rules::task::Source::Journal(&dir),
            };
            rules::task::replay(since, file.as_deref(), &source, settings)
        }
    };
    print!("{out}");
    eprint!("{err}");
    ExitCode::from(code)
}

fn start_logging(logging: &LoggingSettings) {
    let level: LevelFilter = logging.level.word().parse().unwrap_or(LevelFilter::INFO);
    let in_colour = std::io::stderr().is_terminal();
    let plain =
        tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr).with_ansi(in_colour);
    match logging.format {
        LogFormat::Text => plain.init(),
        LogFormat::Json => plain.json().init(),
    }
}

/// Runs until SIGTERM or SIGINT; a second one stops at once.
async fn serve(settings: &Settings, source: Source) -> ExitCode {
    let (mut terminate, mut interrupt) =
        match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
            (Ok(terminate), Ok(interrupt)) => (terminate, interrupt),
            (Err(why), _) | (_, Err(why)) => return failed(EXIT_UNAVAILABLE, &why),
        };
    let Ok(mut hangup) = signal(SignalKind::hangup()) else {
        return failed(EXIT_UNAVAILABLE, &"SIGHUP can't be received");
    };
    let started = tokio::select! {
        started = Service::start_reloadable(settings, source, wall_clock()) => started,
        _ = terminate.recv() => return ExitCode::SUCCESS,
        _ = interrupt.recv() => return ExitCode::SUCCESS,
    };
    let service = match started {
        Ok(service) => service,
        Err(why) => return failed(EXIT_UNAVAILABLE, &why),
    };
    announce(settings, &service);
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            // What is wrong is told in the log.
            _ = hangup.recv() => drop(service.reload().await),
        }
    }
    tracing::info!("stopping: draining what was taken in; a second signal stops at once");
    tokio::select! {
        complete = service.stop() => {
            if complete {
                tracing::info!("stopped");
                ExitCode::SUCCESS
            } else {
                failed(EXIT_INCOMPLETE, &"stopped before everything was written out")
            }
        }
        _ = terminate.recv() => failed(EXIT_INCOMPLETE, &"stopped at once"),
        _ = interrupt.recv() => failed(EXIT_INCOMPLETE, &"stopped at once"),
    }
}

fn announce(settings: &Settings, service: &service::Service) {
    tracing::info!(mode = %settings.mode(), workers = settings.performance.worker_count, "started");
    if let Some(addr) = service.http_addr {
        tracing::info!("API on http://{addr}");
    }
    if let (Some(frontend), Some(backend)) = (service.frontend, service.backend) {
        tracing::info!(
            "embedded bus: publishers connect to tcp://{frontend}, subscribers to tcp://{backend}"
        );
    }
}

/// Prints the topics seen on the bus, with rates.
async fn list_topics(settings: &Settings, watched: Duration) -> ExitCode {
    // With an embedded bus, the process that runs it is asked like any other.
    let embedded = Some(&settings.bus.embedded).filter(|embedded| embedded.enabled);
    let inside = embedded.map(|embedded| embedded.backend.replace('*', "127.0.0.1"));
    let config = match wiring::receiver(settings, inside.as_deref()) {
        Ok(config) => ReceiverConfig { topics: vec!["*".into()], ..config },
        Err(why) => return failed(EXIT_CONFIG, &why),
    };
    let mut receiver = match Receiver::start(config).await {
        Ok(receiver) => receiver,
        Err(why) => return failed(EXIT_UNAVAILABLE, &why),
    };
    let mut tally = TopicTally::new(10_000);
    let listen = async {
        while let Some(batch) = receiver.recv().await {
            tally.add(&batch);
        }
    };
    // Runs into its time-out as a rule.
    let _ = tokio::time::timeout(watched, listen).await;
    println!("{:>12} {:>10} {:>14}  topic", "messages", "per s", "bytes");
    let seen = tally.seen(watched);
    for row in &seen {
        println!("{:>12} {:>10.1} {:>14}  {}", row.messages, row.per_second, row.bytes, row.topic);
    }
    let asked: Vec<&str> =
        settings.bus.endpoints.iter().map(String::as_str).chain(inside.as_deref()).collect();
    println!("{} topics in {watched:?} from {}", seen.len(), asked.join(", "));
    ExitCode::SUCCESS
}
