//! Who sends: wrk, libzmq, or sockets of ours. Always another process than the service.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::bodies::{self, Bodies, SAMPLES_PER_BODY};
use crate::options::{Format, Options};
use crate::publisher::{self, Publisher};
use crate::sender::{self, Plan, Tally, Until, quantile_ms};
use crate::service::{Service, free_port};

/// What a load is asked for.
#[derive(Clone, Copy)]
pub struct Pace {
    pub time: Duration,
    /// Samples a second; 0 for as fast as they go.
    pub rate: f64,
    pub connections: usize,
}

/// What went out.
#[derive(Default)]
pub struct Sent {
    /// Samples that the service has to have, at least and at most.
    pub least: u64,
    pub most: u64,
    /// From the sender's point of view, for people.
    pub said: String,
    /// Requests that were not taken in.
    pub failed: u64,
    /// The first of the reasons, if it is known.
    pub failure: Option<String>,
    /// What the raw sender counted.
    pub tally: Tally,
}

/// A sender that is ready.
pub enum Load {
    Wrk(Format, TempDir),
    Http(Bodies),
    Libzmq(Libzmq),
    Zmtp(Option<Publisher>),
}

impl Load {
    /// Makes one for a format; the service may then be started.
    pub fn prepare(format: Format, options: &Options, pace: Pace) -> Load {
        match format {
            Format::Bus => Load::Libzmq(Libzmq::start(options, pace)),
            Format::Zmtp => Load::Zmtp(Some(Publisher::bind(options.sensors))),
            _ => Load::Http(bodies::bodies(format)),
        }
    }

    /// As [`Load::prepare`], by wrk where it can: it can neither pace nor let times advance.
    pub fn prepare_flat_out(format: Format, options: &Options, pace: Pace) -> Load {
        if !format.is_fixed() || pace.rate > 0.0 {
            return Load::prepare(format, options, pace);
        }
        let folder = tempfile::tempdir().expect("a folder for the bodies");
        bodies::generate(if format == Format::Line { "line" } else { "seed" }, folder.path());
        Load::Wrk(format, folder)
    }

    /// Where it waits for the service to connect, if it does.
    pub fn bus_port(&self) -> Option<u16> {
        match self {
            Load::Libzmq(libzmq) => Some(libzmq.port),
            Load::Zmtp(publisher) => publisher.as_ref().map(Publisher::port),
            _ => None,
        }
    }

    /// Sends. `started` is called when the connection stands and before the first sample.
    pub fn send(&mut self, service: &Service, pace: Pace, started: impl FnOnce()) -> Sent {
        match self {
            Load::Wrk(format, folder) => {
                started();
                wrk(*format, folder, service.port(), pace)
            }
            Load::Http(bodies) => {
                started();
                let until = Until::Time(pace.time);
                let plan = Plan {
                    port: service.port(),
                    connections: pace.connections,
                    until,
                    rate: pace.rate,
                    time_ns: None,
                };
                sent_over_http(sender::send(bodies, plan))
            }
            Load::Libzmq(libzmq) => {
                libzmq.wait_for_subscriber();
                started();
                libzmq.send()
            }
            Load::Zmtp(publisher) => {
                let mut connection = publisher.take().expect("a publisher sends once").accept();
                started();
                let messages_per_s = (pace.rate / publisher::METRICS.len() as f64).round() as u64;
                let messages = connection.send(pace.time, messages_per_s);
                let samples = messages * publisher::METRICS.len() as u64;
                Sent { least: samples, most: samples, ..Sent::default() }
            }
        }
    }
}

/// What a tally means for the service. A request that was answered neither well nor with a refusal may have been
/// taken in.
pub fn sent_over_http(tally: Tally) -> Sent {
    let said = format!(
        "{} requests, {} refused with 503 ({} with Retry-After), {} failed, request to answer p50 {:.2} ms p99 {:.2} ms",
        tally.requests,
        tally.unavailable,
        tally.retry_after,
        tally.failed,
        quantile_ms(&tally.waits_us, 0.5),
        quantile_ms(&tally.waits_us, 0.99),
    );
    Sent {
        least: tally.samples,
        most: tally.samples + tally.failed * SAMPLES_PER_BODY,
        said,
        failed: tally.failed + tally.unavailable,
        failure: tally.failure.clone(),
        tally,
    }
}

/// Runs wrk with the script of `benches/load`, as its header says.
fn wrk(format: Format, bodies: &TempDir, port: u16, pace: Pace) -> Sent {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/load/post.lua");
    let mut command = Command::new("wrk");
    command
        .args([
            "-t1",
            &format!("-c{}", pace.connections),
            &format!("-d{}s", pace.time.as_secs()),
            "--latency",
        ])
        .args(["-s", script, &format!("http://127.0.0.1:{port}{}", format.path())])
        .env("BODIES", bodies.path());
    if format == Format::Json {
        command.env("CTYPE", "application/json");
    }
    let output = command.output().unwrap_or_else(|why| panic!("wrk: {why}: apt-get install wrk"));
    let text = String::from_utf8_lossy(&output.stdout);
    let result = text.lines().find_map(|line| line.strip_prefix("RESULT "));
    let result = result.unwrap_or_else(|| panic!("wrk should print its result, it printed {text}"));
    let number = |name: &str| number_of(result, name);
    let (requests, failed) = (number("requests") as u64, number("non2xx") as u64);
    // wrk leaves at once: what was on its way then is not counted by it and may have been taken in.
    let on_their_way = pace.connections as u64;
    Sent {
        least: (requests - failed) * SAMPLES_PER_BODY,
        most: (requests + on_their_way) * SAMPLES_PER_BODY,
        said: format!(
            "wrk: {requests} requests, {failed} failed, request to answer p50 {} ms p99 {} ms",
            number("p50_ms"),
            number("p99_ms")
        ),
        failed,
        failure: None,
        tally: Tally::default(),
    }
}

/// `name=number` in a line of such.
fn number_of(line: &str, name: &str) -> f64 {
    let value =
        line.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('=')?.parse().ok());
    value.unwrap_or_else(|| panic!("expected {name}=NUMBER, found {line:?}"))
}

/// `benches/load/publish.c`, running.
pub struct Libzmq {
    port: u16,
    child: Child,
    /// It stays until this is closed.
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    /// A folder with the program, to be deleted after it.
    _folder: TempDir,
}

impl Libzmq {
    fn start(options: &Options, pace: Pace) -> Libzmq {
        let folder = tempfile::tempdir().expect("a folder for the program");
        let program = folder.path().join("publish");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/load/publish.c");
        let compiled =
            Command::new("cc").args(["-O2", "-o"]).arg(&program).args([source, "-lzmq", "-lm"]).status();
        assert!(
            compiled.is_ok_and(|s| s.success()),
            "cc should compile {source}: apt-get install gcc libzmq3-dev"
        );
        let port = free_port();
        let messages_per_s = pace.rate / publisher::METRICS.len() as f64;
        let mut child = Command::new(&program)
            .arg(format!("tcp://127.0.0.1:{port}"))
            .args([options.sensors.to_string(), pace.time.as_secs_f64().to_string()])
            .args([messages_per_s.to_string(), options.hwm.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it was just compiled");
        let (input, output) = (child.stdin.take(), child.stdout.take().expect("it is piped"));
        Libzmq { port, child, input, output: BufReader::new(output), _folder: folder }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("publish.c prints text");
        line.trim().to_owned()
    }

    fn wait_for_subscriber(&mut self) {
        assert_eq!(self.line(), "SUBSCRIBED", "the publisher should say so");
    }

    fn send(&mut self) -> Sent {
        self.input.as_mut().expect("it is open").write_all(b"\n").expect("the publisher reads");
        let result = self.line();
        let number = |name: &str| number_of(&result, name);
        let samples = number("sent") as u64 * publisher::METRICS.len() as u64;
        Sent {
            least: samples,
            most: samples,
            said: format!(
                "libzmq: {} messages offered, {} dropped at its high-water mark, {} sent",
                number("offered"),
                number("dropped"),
                number("sent")
            ),
            ..Sent::default()
        }
    }
}

impl Drop for Libzmq {
    fn drop(&mut self) {
        self.input = None;
        let _ = self.output.read_to_end(&mut Vec::new());
        let _ = self.child.wait();
    }
}
