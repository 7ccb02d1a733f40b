//! Endpoints that answer Prometheus or OpenMetrics text: applications that are asked, not waited for.

use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, Instant};

use operators::sample::TimeNs;
use operators::series::Target;
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE};
use reqwest::{Client, Response, Url};

use super::runtime::OwnRuntime;
use super::{CollectError, CollectionConfig, Collector, message};
use crate::codec::exposition::{self, Outcome, TextFormat, TextSample};
use crate::message::Message;

/// What it says of each endpoint, beside the endpoint's own samples: 1 or 0, and seconds.
pub const METRICS: &[&str] = &["scrape_up", "scrape_duration_seconds"];

const ACCEPTED: &str = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
const METRICS_PER_MESSAGE_MAX: usize = 500;

/// One endpoint.
#[derive(Clone, Debug)]
pub struct ScrapeConfig {
    /// Its address, `http` or `https`. A name and password in it are sent as basic authorization.
    pub url: String,
    /// Service of samples that have neither a label `service` nor a label `job`.
    pub service: String,
    /// Tags that every sample gets unless it has a label of that name. The tag `instance` (host and
    /// port of the address) is given in the same way.
    pub tags: Vec<(String, String)>,
    /// Metric families to take, such as `response_time`; unit and kind suffixes (`response_time_ms`,
    /// `response_time_seconds_bucket`) and the prefix `plantd_` don't matter. None takes all.
    pub families: Vec<String>,
    /// Time for the whole answer.
    pub timeout: Duration,
    /// Largest body, as sent and as unpacked, in bytes.
    pub body_max_bytes: usize,
    /// How often; `None` for the producer's interval.
    pub interval: Option<Duration>,
}

impl Default for ScrapeConfig {
    fn default() -> Self {
        ScrapeConfig {
            url: "http://127.0.0.1:8080/metrics".into(),
            service: "application".into(),
            tags: Vec::new(),
            families: Vec::new(),
            timeout: Duration::from_secs(5),
            body_max_bytes: 8 << 20,
            interval: None,
        }
    }
}

/// Opens a collector for each endpoint of `config`.
///
/// # Errors
/// An address that is none, or TLS roots that cannot be read.
pub fn open(config: &CollectionConfig) -> Result<Vec<Box<dyn Collector>>, CollectError> {
    let opened = config.scrapes.iter().map(|s| Ok(Box::new(Scrape::new(s.clone())?) as Box<dyn Collector>));
    opened.collect()
}

/// The collector of one endpoint. Every scrape opens a connection of its own; proxies named in the
/// environment are not asked, redirects are followed up to five times.
pub struct Scrape {
    config: ScrapeConfig,
    name: String,
    url: Url,
    origin: Origin,
    client: Client,
    runtime: OwnRuntime,
}

impl Scrape {
    /// A collector of `config`; nothing is asked yet.
    ///
    /// # Errors
    /// An address that is none, or TLS roots that cannot be read.
    pub fn new(config: ScrapeConfig) -> Result<Self, CollectError> {
        let url =
            Url::parse(&config.url).ok().filter(|u| matches!(u.scheme(), "http" | "https") && u.has_host());
        let expected = || {
            // What stands before an '@' may be a password.
            let found = config.url.rsplit('@').next().unwrap_or_default();
            format!("scrape: expected an address such as http://host:9100/metrics, found '{found}'")
        };
        let url = url.ok_or_else(|| CollectError::new(expected()))?;
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        let instance = format!("{}{port}", url.host_str().unwrap_or_default());
        let mut tags = config.tags.clone();
        if !tags.iter().any(|(name, _)| name == "instance") {
            tags.push(("instance".into(), instance.clone()));
        }
        Ok(Scrape {
            name: format!("scrape {instance}{}", url.path()),
            client: client(&url)?,
            origin: Origin { service: config.service.clone(), tags },
            runtime: OwnRuntime::default(),
            url,
            config,
        })
    }

    fn fetch(&mut self) -> Result<(TextFormat, Vec<u8>), CollectError> {
        let request =
            self.client.get(self.url.clone()).header(ACCEPT, ACCEPTED).header(ACCEPT_ENCODING, "gzip");
        let (timeout, max) = (self.config.timeout, self.config.body_max_bytes);
        let fetched = self.runtime.block_on(async move {
            let answer = async {
                let response = request.send().await.map_err(|e| told(&e))?;
                read_body(response, max).await
            };
            let late = |_| format!("expected an answer within {timeout:?}, found none");
            tokio::time::timeout(timeout, answer).await.map_err(late)?
        })?;
        fetched.map_err(CollectError::new)
    }

    fn scrape(&mut self, now_ns: TimeNs) -> Result<Vec<Message>, CollectError> {
        let (format, body) = self.fetch()?;
        let mut gathered = Gathered::new(&self.origin, &self.config.families, now_ns);
        let outcome = exposition::read(&body, format, |sample| gathered.add(&sample));
        gathered.finish(&outcome)
    }
}

impl Collector for Scrape {
    fn name(&self) -> &str {
        &self.name
    }

    fn interval(&self) -> Option<Duration> {
        self.config.interval
    }

    /// Endpoint down: an error that has gathered `scrape_up` 0. Some bad lines: an error with all good ones.
    fn collect(&mut self, now_ns: TimeNs) -> Result<Vec<Message>, CollectError> {
        let started = Instant::now();
        let mut result = self.scrape(now_ns);
        let up = match &result {
            Ok(_) => 1.0,
            Err(error) => f64::from(!error.gathered.is_empty()),
        };
        let metrics = [("scrape_up", up), ("scrape_duration_seconds", started.elapsed().as_secs_f64())];
        let about = message(&self.origin.target([]), now_ns, metrics);
        match &mut result {
            Ok(messages) => messages.push(about),
            Err(error) => {
                error.reason = format!("{}: {}", self.name, error.reason);
                error.gathered.push(about);
            }
        }
        result
    }
}

fn client(url: &Url) -> Result<Client, CollectError> {
    // Already installed is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = Client::builder()
        .user_agent(concat!("plantd-metric/", env!("CARGO_PKG_VERSION")))
        .no_proxy()
        .redirect(reqwest::redirect::Policy::limited(5))
        .pool_max_idle_per_host(0);
    // An image without root certificates can still speak plain HTTP.
    let builder = if url.scheme() == "http" { builder.tls_certs_only([]) } else { builder };
    builder.build().map_err(|e| CollectError::new(format!("scrape: expected an HTTP client: {}", told(&e))))
}

/// The error with its causes, without the address, which may hold a password.
fn told(error: &reqwest::Error) -> String {
    let mut text = match (error.is_connect(), error.is_body() || error.is_decode()) {
        (true, _) => "expected a connection".to_string(),
        (_, true) => "expected a whole body".to_string(),
        _ => "expected an HTTP answer".to_string(),
    };
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}

async fn read_body(mut response: Response, max: usize) -> Result<(TextFormat, Vec<u8>), String> {
    if !response.status().is_success() {
        return Err(format!("expected status 200, found {}", response.status().as_u16()));
    }
    let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
    let format = TextFormat::of_content_type(header(CONTENT_TYPE));
    let encoding = header(CONTENT_ENCODING).unwrap_or("identity").to_ascii_lowercase();
    let too_long = || format!("expected a body of at most {max} bytes, found a longer one");
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|e| told(&e))? {
        if body.len() + chunk.len() > max {
            return Err(too_long());
        }
        body.extend_from_slice(&chunk);
    }
    match encoding.trim() {
        "identity" | "" => Ok((format, body)),
        "gzip" | "x-gzip" => {
            let mut unpacked = Vec::new();
            let mut reader = flate2::read::MultiGzDecoder::new(body.as_slice()).take(max as u64 + 1);
            reader.read_to_end(&mut unpacked).map_err(|e| format!("expected a gzip body: {e}"))?;
            if unpacked.len() > max { Err(too_long()) } else { Ok((format, unpacked)) }
        }
        other => Err(format!("expected content encoding gzip or identity, found '{other}'")),
    }
}

/// Service and tags of samples that do not name them.
#[derive(Clone, Debug, Default)]
pub(super) struct Origin {
    pub(super) service: String,
    pub(super) tags: Vec<(String, String)>,
}

impl Origin {
    /// The target of a sample with `labels`. Label `service` names the service, or else `job`; the
    /// label so used is no tag. Empty labels are as absent.
    fn target<'a>(&'a self, labels: impl IntoIterator<Item = (&'a str, &'a str)>) -> Arc<Target> {
        let labels: Vec<_> = labels.into_iter().filter(|(_, value)| !value.is_empty()).collect();
        let named = |name| labels.iter().find(|(n, _)| *n == name).copied();
        let (label, service) = named("service").or_else(|| named("job")).unwrap_or(("", &self.service));
        let own = self.tags.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        Arc::new(Target::new(service, own.chain(labels.iter().filter(|(n, _)| *n != label).copied())))
    }
}

/// Samples on their way into messages: one for each target and event time.
pub(super) struct Gathered<'a> {
    origin: &'a Origin,
    families: &'a [String],
    now_ns: TimeNs,
    messages: Vec<Message>,
    open: HashMap<(TimeNs, Arc<Target>), usize>,
    held: HashSet<(usize, Arc<str>)>,
    names: HashSet<Arc<str>>,
}

impl<'a> Gathered<'a> {
    pub(super) fn new(origin: &'a Origin, families: &'a [String], now_ns: TimeNs) -> Self {
        let (messages, open, held, names) = Default::default();
        Gathered { origin, families, now_ns, messages, open, held, names }
    }

    pub(super) fn add(&mut self, sample: &TextSample<'_>) {
        if !self.families.is_empty() && !self.families.iter().any(|f| is_of_family(&sample.name, f)) {
            return;
        }
        let time_ns = sample.time_ns.unwrap_or(self.now_ns);
        let target = self.origin.target(sample.labels.iter().map(|(name, value)| (&**name, &**value)));
        let name = self.names.get(&*sample.name).cloned().unwrap_or_else(|| Arc::from(&*sample.name));
        self.names.insert(Arc::clone(&name));
        let key = (time_ns, target);
        let open = self.open.get(&key).copied().filter(|at| {
            self.messages[*at].metrics.len() < METRICS_PER_MESSAGE_MAX
                && !self.held.contains(&(*at, Arc::clone(&name)))
        });
        let at = open.unwrap_or_else(|| {
            self.messages.push(Message { time_ns, target: Arc::clone(&key.1), metrics: Vec::new() });
            self.open.insert(key, self.messages.len() - 1);
            self.messages.len() - 1
        });
        self.messages[at].metrics.push((Arc::clone(&name), sample.value));
        self.held.insert((at, name));
    }

    /// The messages; with an error when lines were turned away.
    pub(super) fn finish(self, outcome: &Outcome) -> Result<Vec<Message>, CollectError> {
        match outcome.errors.first() {
            None => Ok(self.messages),
            Some(first) => {
                let (lines, at, why) = (outcome.rejected, first.line, &first.reason);
                let reason = format!("{lines} lines not read, the first: line {at}: {why}");
                Err(CollectError { reason, gathered: self.messages })
            }
        }
    }
}

/// Words that a metric name may have after its family's name.
const SUFFIXES: &[&str] = &[
    "ns",
    "us",
    "ms",
    "seconds",
    "milliseconds",
    "microseconds",
    "nanoseconds",
    "minutes",
    "bytes",
    "percent",
    "ratio",
    "total",
    "count",
    "sum",
    "bucket",
    "created",
    "info",
    "max",
    "min",
    "avg",
    "mean",
];

/// Whether `name` is `family`, or `family` with unit and kind words behind it, or one of these with
/// the prefix `plantd_`.
fn is_of_family(name: &str, family: &str) -> bool {
    let suffixed = |name: &str| {
        let rest = name.strip_prefix(family)?;
        let words = if rest.is_empty() { Some(rest) } else { rest.strip_prefix('_') };
        Some(rest.is_empty() || words?.split('_').all(|word| SUFFIXES.contains(&word)))
    };
    let matches = |name| suffixed(name) == Some(true);
    matches(name) || name.strip_prefix("plantd_").is_some_and(matches)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_have_aliases() {
        for (name, family, expect) in [
            ("response_time", "response_time", true),
            ("response_time_ms", "response_time", true),
            ("response_time_seconds_bucket", "response_time", true),
            ("plantd_request_count_total", "request_count", true),
            ("response_times", "response_time", false),
            ("response_time_of_day", "response_time", false),
            ("http_response_time", "response_time", false),
            ("response", "response_time", false),
        ] {
            assert_eq!(is_of_family(name, family), expect, "{name}");
        }
    }

    #[test]
    fn labels_name_the_service_or_else_the_configuration() {
        let tags = vec![("instance".into(), "h:1".into()), ("zone".into(), "a".into())];
        let origin = Origin { service: "application".into(), tags };
        for (labels, service, tags) in [
            (vec![], "application", "instance=h:1 zone=a"),
            (vec![("job", "api"), ("zone", "b")], "api", "instance=h:1 zone=b"),
            (vec![("job", "api"), ("service", "s")], "s", "instance=h:1 job=api zone=a"),
            (vec![("service", ""), ("instance", "x")], "application", "instance=x zone=a"),
        ] {
            let target = origin.target(labels);
            let found: Vec<_> = target.tags.iter().map(|(n, v)| format!("{n}={v}")).collect();
            assert_eq!((&*target.service, found.join(" ").as_str()), (service, tags));
        }
    }

    #[test]
    fn samples_of_a_target_share_messages_of_a_limited_size() {
        let origin = Origin { service: "s".into(), tags: vec![] };
        let text: String = (0..700).map(|n| format!("m{n} {n}\nm{n}{{a=\"1\"}} 1\n")).collect();
        let mut gathered = Gathered::new(&origin, &[], 5);
        let outcome = exposition::read(text.as_bytes(), TextFormat::Prometheus, |s| gathered.add(&s));
        let messages = gathered.finish(&outcome).unwrap();
        let sizes: Vec<_> = messages.iter().map(|m| m.metrics.len()).collect();
        assert_eq!(sizes, [500, 500, 200, 200]);
    }

    #[test]
    fn addresses_are_checked() {
        for bad in ["", "host:9100", "ftp://h/metrics", "/metrics"] {
            let error = Scrape::new(ScrapeConfig { url: bad.into(), ..Default::default() }).err().unwrap();
            assert!(error.reason.ends_with(&format!("found '{bad}'")), "{error}");
        }
        let config = ScrapeConfig { url: "http://u:secret@h:9100/m?x=1".into(), ..Default::default() };
        assert_eq!(Scrape::new(config).ok().unwrap().name(), "scrape h:9100/m");
    }
}
