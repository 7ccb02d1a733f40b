//! Commands that print JSON or Prometheus text: the custom metrics that need no code here.
//!
//! JSON may be the documented message, an array of them, the batch object `{"metrics": [..]}`, or a
//! flat object of numbers `{"temperature_celsius": 23.5}`.

use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use operators::sample::TimeNs;
use operators::series::Target;
use serde_json::{Map, Value};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};

use super::runtime::OwnRuntime;
use super::scrape::{Gathered, Origin};
use super::{CollectError, CollectionConfig, Collector};
use crate::codec::exposition::{self, TextFormat};
use crate::message::Message;

/// One command.
#[derive(Clone, Debug)]
pub struct CommandConfig {
    /// Name for logs.
    pub name: String,
    /// Program and arguments; no shell reads them. Variables of this service's own configuration are
    /// taken out of the environment that it gets, since they may hold secrets.
    pub argv: Vec<String>,
    /// Service of samples that don't name one.
    pub service: String,
    /// Tags that every sample gets unless it has one of that name.
    pub tags: Vec<(String, String)>,
    /// Time until it must have ended and its output be closed, by its own children too; then it is
    /// killed with its process group.
    pub timeout: Duration,
    /// Most bytes that it may print; past them it is killed.
    pub output_max_bytes: usize,
    /// How often; `None` for the producer's interval.
    pub interval: Option<Duration>,
}

impl Default for CommandConfig {
    fn default() -> Self {
        CommandConfig {
            name: "custom".into(),
            argv: Vec::new(),
            service: "custom".into(),
            tags: Vec::new(),
            timeout: Duration::from_secs(10),
            output_max_bytes: 1 << 20,
            interval: None,
        }
    }
}

/// Opens a collector for each command of `config`.
///
/// # Errors
/// A command without a program.
pub fn open(config: &CollectionConfig) -> Result<Vec<Box<dyn Collector>>, CollectError> {
    let opened =
        config.commands.iter().map(|c| Ok(Box::new(RunCommand::new(c.clone())?) as Box<dyn Collector>));
    opened.collect()
}

/// The collector of one command.
pub struct RunCommand {
    config: CommandConfig,
    name: String,
    origin: Origin,
    runtime: OwnRuntime,
}

impl RunCommand {
    /// A collector of `config`; nothing runs yet.
    ///
    /// # Errors
    /// A command without a program.
    pub fn new(config: CommandConfig) -> Result<Self, CollectError> {
        let name = format!("command {}", config.name);
        if config.argv.first().is_none_or(String::is_empty) {
            return Err(CollectError::new(format!("{name}: expected a program to run, found none")));
        }
        let origin = Origin { service: config.service.clone(), tags: config.tags.clone() };
        Ok(RunCommand { config, name, origin, runtime: OwnRuntime::default() })
    }
}

impl Collector for RunCommand {
    fn name(&self) -> &str {
        &self.name
    }

    fn interval(&self) -> Option<Duration> {
        self.config.interval
    }

    fn collect(&mut self, now_ns: TimeNs) -> Result<Vec<Message>, CollectError> {
        let printed = self.runtime.block_on(run(&self.config))?.map_err(CollectError::new);
        let read = printed.and_then(|printed| read_output(&printed, &self.origin, now_ns));
        read.map_err(|error| CollectError { reason: format!("{}: {}", self.name, error.reason), ..error })
    }
}

/// Runs the command to its end and returns what it printed.
async fn run(config: &CommandConfig) -> Result<Vec<u8>, String> {
    let mut command = Command::new(&config.argv[0]);
    command.args(&config.argv[1..]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.process_group(0).kill_on_drop(true);
    for (variable, _) in std::env::vars_os() {
        if variable.to_string_lossy().starts_with("PLANTD_MODULE_METRIC") {
            command.env_remove(variable);
        }
    }
    let mut child = command.spawn().map_err(|e| format!("expected '{}' to start: {e}", config.argv[0]))?;
    let done = tokio::time::timeout(config.timeout, finish(&mut child, config.output_max_bytes)).await;
    let late = || Err(format!("expected an end within {:?}, found it still running", config.timeout));
    let result = done.unwrap_or_else(|_| late());
    if result.is_err() {
        kill_group(&mut child).await;
    }
    let (status, printed, complaint) = result?;
    if status.success() {
        return Ok(printed);
    }
    let complaint = String::from_utf8_lossy(&complaint);
    Err(format!("expected exit status 0, found {status}, stderr {:?}", complaint.trim()))
}

/// Exit status, standard output, and the beginning of standard error.
async fn finish(child: &mut Child, max: usize) -> Result<(ExitStatus, Vec<u8>, Vec<u8>), String> {
    const COMPLAINT_MAX_BYTES: usize = 512;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let printed = async {
        let printed = read_some(stdout, max + 1, false).await?;
        let too_long = format!("expected at most {max} bytes of output, found more");
        if printed.len() > max { Err(too_long) } else { Ok(printed) }
    };
    let (printed, complaint) = tokio::try_join!(printed, read_some(stderr, COMPLAINT_MAX_BYTES, true))?;
    let status = child.wait().await.map_err(|e| format!("expected an exit status: {e}"))?;
    Ok((status, printed, complaint))
}

/// The first `max` bytes; with `drain` the rest is read too, and forgotten, so that nobody waits to write it.
async fn read_some(pipe: Option<impl AsyncRead + Unpin>, max: usize, drain: bool) -> Result<Vec<u8>, String> {
    let Some(mut pipe) = pipe else { return Ok(Vec::new()) };
    let mut read = Vec::new();
    let failed = |e| format!("expected to read its output: {e}");
    (&mut pipe).take(max as u64).read_to_end(&mut read).await.map_err(failed)?;
    if drain {
        tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await.map_err(failed)?;
    }
    Ok(read)
}

/// Kills the child and whatever it has started in its group. The child has not been waited for, so
/// its number, which is the group's, still belongs to it.
async fn kill_group(child: &mut Child) {
    let number = child.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
    if let Some(group) = number {
        // Nobody left to kill is what was wanted.
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
    let _ = child.wait().await;
}

fn read_output(printed: &[u8], origin: &Origin, now_ns: TimeNs) -> Result<Vec<Message>, CollectError> {
    let start = printed.trim_ascii_start();
    // The text format, too, can begin with a brace: a quoted metric name.
    if matches!(start.first(), Some(b'{' | b'[')) {
        match serde_json::from_slice::<Value>(start) {
            Ok(value) => return read_json(&value, origin, now_ns),
            Err(error) if start[0] == b'[' || start.contains(&b':') => {
                return Err(CollectError::new(format!("expected JSON: {error}")));
            }
            Err(_) => {}
        }
    }
    let mut gathered = Gathered::new(origin, &[], now_ns);
    let format = TextFormat::of_text(printed);
    let outcome = exposition::read(printed, format, |sample| gathered.add(&sample));
    gathered.finish(&outcome)
}

/// Reads the shapes named at the top of this file; what is no finite number is left out and told.
fn read_json(value: &Value, origin: &Origin, now_ns: TimeNs) -> Result<Vec<Message>, CollectError> {
    let batch = value.get("metrics").and_then(Value::as_array).or(value.as_array());
    let objects = batch.map_or(std::slice::from_ref(value), Vec::as_slice);
    let mut gathered = Vec::new();
    let mut reasons = Vec::new();
    for (at, object) in objects.iter().enumerate() {
        match object.as_object() {
            Some(object) => match read_object(object, origin, now_ns, &mut reasons) {
                Ok(message) => gathered.push(message),
                Err(reason) => reasons.push(reason),
            },
            None => reasons.push(format!("expected an object at {at}, found {}", kind(object))),
        }
    }
    gathered.retain(|message| !message.metrics.is_empty());
    match reasons.first() {
        None => Ok(gathered),
        Some(first) => {
            let reason = format!("{} values not read, the first: {first}", reasons.len());
            Err(CollectError { reason, gathered })
        }
    }
}

fn read_object(
    object: &Map<String, Value>,
    origin: &Origin,
    now_ns: TimeNs,
    reasons: &mut Vec<String>,
) -> Result<Message, String> {
    let Some(metrics) = object.get("metrics") else {
        return Ok(message(origin, now_ns, &origin.service, None, object, reasons));
    };
    let Some(metrics) = metrics.as_object() else {
        return Err(format!("metrics: expected an object, found {}", kind(metrics)));
    };
    let service = match object.get("service") {
        None | Some(Value::Null) => &origin.service,
        Some(Value::String(service)) if !service.is_empty() => service,
        Some(other) => return Err(format!("service: expected a name, found {}", kind(other))),
    };
    let time_ns = match object.get("timestamp") {
        None | Some(Value::Null) => now_ns,
        Some(time) => read_time(time).ok_or_else(|| format!("timestamp: expected RFC 3339, found {time}"))?,
    };
    let tags = object.get("tags").and_then(Value::as_object);
    Ok(message(origin, time_ns, service, tags, metrics, reasons))
}

fn message(
    origin: &Origin,
    time_ns: TimeNs,
    service: &str,
    tags: Option<&Map<String, Value>>,
    metrics: &Map<String, Value>,
    reasons: &mut Vec<String>,
) -> Message {
    let own = origin.tags.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let told = tags.into_iter().flatten().filter_map(|(name, value)| Some((name.as_str(), value.as_str()?)));
    let mut numbers = Vec::with_capacity(metrics.len());
    for (name, value) in metrics {
        match value.as_f64().filter(|number| number.is_finite()) {
            Some(number) if !name.is_empty() => numbers.push((Arc::from(name.as_str()), number)),
            Some(_) => reasons.push("expected a metric name, found an empty one".into()),
            None => reasons.push(format!("{name}: expected a finite number, found {}", kind(value))),
        }
    }
    Message { time_ns, target: Arc::new(Target::new(service, own.chain(told))), metrics: numbers }
}

/// RFC 3339, or a Unix number whose unit its magnitude tells: seconds below 1e11, milliseconds below
/// 1e14, microseconds below 1e17, else nanoseconds.
fn read_time(time: &Value) -> Option<TimeNs> {
    if let Some(text) = time.as_str() {
        return i64::try_from(text.parse::<jiff::Timestamp>().ok()?.as_nanosecond()).ok();
    }
    let unit = |magnitude: f64| match magnitude {
        m if m < 1e11 => 1_000_000_000,
        m if m < 1e14 => 1_000_000,
        m if m < 1e17 => 1000,
        _ => 1,
    };
    if let Some(whole) = time.as_i64() {
        return whole.checked_mul(unit(whole as f64));
    }
    let number = time.as_f64()?;
    let ns = number * unit(number.abs()) as f64;
    (ns.abs() < 9.2e18).then_some(ns as i64)
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_output_makes_it_panic(text in "([\\[\\]{}:,\" 0-9e.-]|\"metrics\":|\"timestamp\":|\"tags\":|null|a)*") {
            let gathered = match read_output(text.as_bytes(), &Origin::default(), 0) {
                Ok(messages) => messages,
                Err(error) => error.gathered,
            };
            prop_assert!(gathered.iter().flat_map(|m| &m.metrics).all(|(_, value)| value.is_finite()));
        }
    }

    fn check(printed: &str, messages: &[&str], error: Option<&str>) {
        let origin = Origin { service: "custom".into(), tags: vec![("site".into(), "x".into())] };
        let (found, reason) = match read_output(printed.as_bytes(), &origin, 1_704_110_400_000_000_000) {
            Ok(messages) => (messages, None),
            Err(error) => (error.gathered, Some(error.reason)),
        };
        let written = found.iter().map(|message| {
            let mut out = Vec::new();
            message.write_json(&mut out);
            String::from_utf8(out).unwrap()
        });
        assert_eq!(written.collect::<Vec<_>>(), messages, "{printed}");
        assert_eq!(reason.as_deref(), error, "{printed}");
    }

    #[test]
    fn reads_every_shape() {
        let flat = r#"{"timestamp":"2024-01-01T12:00:00Z","service":"custom","metrics":{"t":23.5},"tags":{"site":"x"}}"#;
        check(r#" {"t": 23.5}"#, &[flat], None);
        check("t 23.5\n", &[flat], None);
        check("{\"t\"} 23.5\n", &[flat], None);
        let documented = r#"{"timestamp":"2024-01-01T12:00:01.500Z","service":"s","metrics":{"a":1,"b":2},"tags":{"site":"y"}}"#;
        let seconds = documented.replace("\"2024-01-01T12:00:01.500Z\"", "1704110401.5");
        let millis = documented.replace("\"2024-01-01T12:00:01.500Z\"", "1704110401500");
        check(documented, &[documented], None);
        check(&format!("[{seconds},{{\"t\":23.5}}]"), &[documented, flat], None);
        check(&format!("{{\"metrics\":[{millis}]}}"), &[documented], None);
        check("", &[], None);
        check("[]", &[], None);
    }

    #[test]
    fn a_bad_value_leaves_its_neighbours() {
        let flat = r#"{"timestamp":"2024-01-01T12:00:00Z","service":"custom","metrics":{"t":23.5},"tags":{"site":"x"}}"#;
        for (printed, reason) in [
            (
                r#"{"t":23.5,"u":"1"}"#,
                "1 values not read, the first: u: expected a finite number, found a text",
            ),
            (
                r#"{"t":23.5,"":null,"v":{}}"#,
                "2 values not read, the first: : expected a finite number, found null",
            ),
            (r#"[3,{"t":23.5}]"#, "1 values not read, the first: expected an object at 0, found a number"),
            (
                r#"[{"metrics":7},{"t":23.5}]"#,
                "1 values not read, the first: metrics: expected an object, found a number",
            ),
            (
                "t 23.5\n???\n",
                "1 lines not read, the first: line 2: byte 1: expected a metric name, found '?'",
            ),
        ] {
            check(printed, &[flat], Some(reason));
        }
        check(r#"{"a": 1"#, &[], Some("expected JSON: EOF while parsing an object at line 1 column 7"));
        let time = r#"{"metrics":{"a":1},"timestamp":"noon"}"#;
        check(time, &[], Some("1 values not read, the first: timestamp: expected RFC 3339, found \"noon\""));
    }
}
