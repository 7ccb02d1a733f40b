//! What is measured, from the command line.

use std::time::Duration;

/// What is sent, and by whom.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Format {
    /// Influx line protocol over HTTP.
    Line,
    /// The documented JSON over HTTP.
    Json,
    /// The documented JSON over the bus, from libzmq.
    Bus,
    /// The same from a socket of ours, which waits where a PUB would drop.
    Zmtp,
    /// Prometheus remote write 1.0.
    RemoteWrite,
    /// OTLP over HTTP, protobuf.
    Otlp,
}

/// Word, path and headers of each format.
const FORMATS: &[(Format, &str, &str, &str)] = &[
    (Format::Line, "line", "/write", ""),
    (Format::Json, "json", "/api/v1/metrics/batch", "Content-Type: application/json\r\n"),
    (Format::Bus, "bus", "", ""),
    (
        Format::RemoteWrite,
        "remote_write",
        "/api/v1/write",
        "Content-Type: application/x-protobuf\r\nContent-Encoding: snappy\r\n\
         X-Prometheus-Remote-Write-Version: 0.1.0\r\nUser-Agent: bench\r\n",
    ),
    (Format::Otlp, "otlp", "/v1/metrics", "Content-Type: application/x-protobuf\r\n"),
    (Format::Zmtp, "zmtp", "", ""),
];

impl Format {
    fn row(self) -> &'static (Format, &'static str, &'static str, &'static str) {
        let row = FORMATS.iter().find(|row| row.0 == self);
        row.expect("every format has a row")
    }

    /// As it is given on the command line.
    pub fn word(self) -> &'static str {
        self.row().1
    }

    /// Where its bodies go; empty for those that go over the bus.
    pub fn path(self) -> &'static str {
        self.row().2
    }

    /// What stands beside its bodies, each line ended.
    pub fn headers(self) -> &'static str {
        self.row().3
    }

    /// Whether its bodies go over HTTP.
    pub fn is_http(self) -> bool {
        !self.path().is_empty()
    }

    /// Whether wrk can send it: its bodies carry no time that would have to advance.
    pub fn is_fixed(self) -> bool {
        matches!(self, Format::Line | Format::Json)
    }
}

/// What to find out.
#[derive(Clone, Debug, PartialEq)]
pub enum Question {
    /// What a sample costs, flat out or at a rate.
    Cost,
    /// What queries and samples wait at half of the top rate.
    Latency,
    /// What happens at twice the top rate, and after it.
    Overload,
    /// How cost and memory grow with so many series.
    Growth(Vec<usize>),
}

/// What `journal.durability` may be.
const JOURNALS: &[&str] = &["memory", "os", "fsync"];

/// Everything given.
#[derive(Clone, Debug)]
pub struct Options {
    pub question: Question,
    pub formats: Vec<Format>,
    pub workers: Vec<usize>,
    pub time: Duration,
    /// Samples a second; 0 for as fast as they go.
    pub rate: f64,
    /// Of the bus; each has seven metrics.
    pub sensors: usize,
    pub connections: usize,
    /// Messages that libzmq keeps for a subscriber.
    pub hwm: u64,
    pub idle: Duration,
    /// `performance.buffer_size`, if not the default.
    pub buffer_size: Option<usize>,
    /// `journal.durability`, one or several in turn.
    pub journals: Vec<&'static str>,
    /// Runs of each.
    pub rounds: usize,
    pub binary: String,
}

const USAGE: &str = "expected formats (line json bus remote_write otlp zmtp), or options: --seconds N, --workers 1,2, \
    --rate SAMPLES_A_SECOND, --latency, --overload, --series 1000,10000, --sensors N, --connections N, --hwm MESSAGES, \
    --idle SECONDS, --buffer-size N, --journal memory,os,fsync, --rounds N, --binary PATH";

impl Options {
    /// From the command line; cargo's own `--bench` is left out.
    pub fn read() -> Options {
        let mut options = Options {
            question: Question::Cost,
            formats: Vec::new(),
            workers: Vec::new(),
            time: Duration::from_secs(10),
            rate: 0.0,
            sensors: 10_000,
            connections: 4,
            hwm: 100_000,
            idle: Duration::ZERO,
            buffer_size: None,
            journals: vec!["os"],
            rounds: 1,
            binary: env!("CARGO_BIN_EXE_plantd-metric").into(),
        };
        let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
        while let Some(name) = arguments.next() {
            if let Some(row) = FORMATS.iter().find(|row| row.1 == name) {
                options.formats.push(row.0);
            } else if name == "--latency" {
                options.question = Question::Latency;
            } else if name == "--overload" {
                options.question = Question::Overload;
            } else {
                options.set(&name, &arguments.next().unwrap_or_default());
            }
        }
        if options.formats.is_empty() {
            options.formats.push(Format::Zmtp);
        }
        if options.workers.is_empty() {
            options.workers.push(1);
        }
        if options.question != Question::Cost && (options.journals.len() > 1 || options.rounds > 1) {
            stop("--latency, --overload and --series: expected one --journal and one round, found more");
        }
        options
    }

    fn set(&mut self, name: &str, value: &str) {
        let number = || match value.parse::<u64>() {
            Ok(number) => number,
            Err(_) => stop(&format!("{name}: expected a number, found {value:?}")),
        };
        let list = || value.split(',').map_while(|word| word.parse().ok()).collect::<Vec<usize>>();
        match name {
            "--workers" => self.workers = list(),
            "--series" => self.question = Question::Growth(list()),
            "--seconds" => self.time = Duration::from_secs(number().max(1)),
            "--sensors" => self.sensors = number().max(1) as usize,
            "--rate" => self.rate = number() as f64,
            "--connections" => self.connections = number().clamp(1, 1_000) as usize,
            "--hwm" => self.hwm = number(),
            "--idle" => self.idle = Duration::from_secs(number()),
            "--buffer-size" => self.buffer_size = Some(number() as usize),
            "--journal" => self.journals = value.split(',').map(journal).collect(),
            "--rounds" => self.rounds = number().max(1) as usize,
            "--binary" => self.binary = value.to_owned(),
            _ => stop(&format!("{USAGE}; found {name:?}")),
        }
        if name == "--series" && list().len() != value.split(',').count() {
            stop(&format!("--series: expected numbers with commas between them, found {value:?}"));
        }
    }
}

fn journal(word: &str) -> &'static str {
    let known = JOURNALS.iter().copied().find(|known| *known == word);
    known.unwrap_or_else(|| stop(&format!("--journal: expected {}, found {word:?}", JOURNALS.join(", "))))
}

/// Ends with a message, as a wrong command line does (sysexits.h).
pub fn stop(why: &str) -> ! {
    eprintln!("ingest: {why}");
    std::process::exit(64);
}
