//! Receivers with an address: one attempt to post a batch, and what the answer means.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::{Duration, SystemTime};

use operators::sample::TimeNs;
use reqwest::header::{CONTENT_TYPE, HOST, HeaderValue, RETRY_AFTER};
use reqwest::{Client, RequestBuilder, Response, StatusCode, Url};

use super::alertmanager::{self, Style};
use super::client::{self, told};
use super::config::{Dialect, HttpConfig};
use super::desk::Entry;
use super::{NotifyError, payload, retry};

/// Longest wait for what a server says of itself.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of that which are read.
const PROBE_BYTES_MAX: usize = 1 << 20;

/// One receiver.
pub(super) struct Webhook {
    client: Client,
    url: Url,
    host: Option<HeaderValue>,
    secret: Option<String>,
    timeout: Duration,
    style: Style,
    /// The address of an Alertmanager, as far as this may be one.
    alertmanager: Option<Url>,
    /// [`UNKNOWN`], [`DOCUMENTED`] or [`ALERTMANAGER`]: what it was when it last said.
    known: AtomicU8,
    /// It has failed since.
    is_doubted: AtomicBool,
    /// Whether that is to be found out.
    is_probed: bool,
}

const UNKNOWN: u8 = 0;
const DOCUMENTED: u8 = 1;
const ALERTMANAGER: u8 = 2;

/// What an attempt came to.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    /// The receiver has taken all of it.
    Delivered,
    /// The receiver could not read it (400, 413, 422): perhaps one transition of many.
    Unreadable(String),
    /// The receiver will not take it, whatever it holds.
    Refused(String),
    /// Worth another attempt, not before `after`.
    Again { after: Option<Duration>, reason: String },
}

/// What asking a server what it is came to.
enum Probed {
    Alertmanager,
    Other,
    Down(String),
}

impl Webhook {
    /// Makes a client; connects to nothing yet. Errors begin with `name`.
    pub(super) fn new(
        config: &HttpConfig,
        timeout: Duration,
        resend_ns: i64,
        name: &str,
    ) -> Result<Self, NotifyError> {
        let client::Opened { client, url, host } = client::open(config, timeout, name)?;
        let base = alertmanager::base_of(url.path());
        let is_given = config.dialect == Dialect::Alertmanager;
        let alertmanager = base.or_else(|| is_given.then(|| url.path().trim_end_matches('/'))).map(|base| {
            let mut of = url.clone();
            of.set_path(base);
            of
        });
        let known = match (is_given, alertmanager.is_some()) {
            (true, _) => ALERTMANAGER,
            (false, true) => UNKNOWN,
            (false, false) => DOCUMENTED,
        };
        Ok(Webhook {
            client,
            url,
            host,
            secret: config.hmac_secret.clone(),
            timeout,
            style: Style { resend_ns, external_url: config.external_url.clone() },
            alertmanager,
            known: AtomicU8::new(known),
            is_doubted: AtomicBool::new(known == UNKNOWN),
            is_probed: known == UNKNOWN,
        })
    }

    /// Whether the receiver is known to be an Alertmanager.
    pub(super) fn is_alertmanager(&self) -> bool {
        self.known.load(Ordering::Relaxed) == ALERTMANAGER
    }

    /// Finds out what the receiver is, if that is not known; says whether it is known now.
    pub(super) async fn find_out(&self) -> bool {
        if self.known.load(Ordering::Relaxed) == UNKNOWN {
            self.probe().await;
        }
        self.known.load(Ordering::Relaxed) != UNKNOWN
    }

    /// Posts `entries` once. `now_ns` is the wall clock.
    pub(super) async fn post(&self, entries: &[Entry], now_ns: TimeNs) -> Verdict {
        let mut is_fresh = false;
        if self.is_doubted.load(Ordering::Relaxed) {
            if let Probed::Down(reason) = self.probe().await {
                return Verdict::Again { after: None, reason };
            }
            is_fresh = true;
        }
        let was_alertmanager = self.is_alertmanager();
        let mut verdict = self.post_as_known(entries, now_ns).await;
        // A server that has changed since: an Alertmanager refuses what others take, and answers 410 at its old path.
        let refused = matches!(verdict, Verdict::Refused(_) | Verdict::Unreadable(_));
        if self.is_probed && refused && !is_fresh {
            match self.probe().await {
                Probed::Down(reason) => return Verdict::Again { after: None, reason },
                Probed::Alertmanager | Probed::Other if self.is_alertmanager() != was_alertmanager => {
                    verdict = self.post_as_known(entries, now_ns).await;
                }
                Probed::Alertmanager | Probed::Other => {}
            }
        }
        if self.is_probed && matches!(verdict, Verdict::Again { .. }) {
            self.is_doubted.store(true, Ordering::Relaxed);
        }
        verdict
    }

    async fn post_as_known(&self, entries: &[Entry], now_ns: TimeNs) -> Verdict {
        let (url, body) = match self.alertmanager.as_ref().filter(|_| self.is_alertmanager()) {
            Some(base) => {
                (below(base, "/api/v2/alerts"), alertmanager::payload(entries, now_ns, &self.style))
            }
            None => (self.url.clone(), payload::of_entries(entries)),
        };
        let mut request = self.with_host(self.client.post(url)).header(CONTENT_TYPE, "application/json");
        if let Some(secret) = &self.secret {
            request = request.header("X-Signature-256", client::signature(secret, &body));
        }
        match request.body(body).send().await {
            Ok(response) => verdict(response).await,
            Err(error) => Verdict::Again { after: None, reason: told(&error) },
        }
    }

    /// Asks what the server is and remembers it. One that takes the connection but does not answer as an
    /// Alertmanager is none.
    async fn probe(&self) -> Probed {
        let Some(base) = &self.alertmanager else { return Probed::Other };
        let request = self.client.get(below(base, "/api/v2/status")).timeout(self.timeout.min(PROBE_TIMEOUT));
        let probed = match self.with_host(request).send().await {
            Ok(response) if response.status() == StatusCode::OK => {
                if says_alertmanager(response).await {
                    Probed::Alertmanager
                } else {
                    Probed::Other
                }
            }
            Err(error) if error.is_connect() => Probed::Down(told(&error)),
            Ok(_) | Err(_) => Probed::Other,
        };
        let known = match &probed {
            Probed::Alertmanager => ALERTMANAGER,
            Probed::Other => DOCUMENTED,
            Probed::Down(_) => return probed,
        };
        self.known.store(known, Ordering::Relaxed);
        self.is_doubted.store(false, Ordering::Relaxed);
        probed
    }

    fn with_host(&self, request: RequestBuilder) -> RequestBuilder {
        match &self.host {
            Some(host) => request.header(HOST, host),
            None => request,
        }
    }
}

fn below(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}{path}", base.path().trim_end_matches('/')));
    url.set_query(None);
    url
}

/// Whether an answer to `GET /api/v2/status` is that of an Alertmanager.
async fn says_alertmanager(mut response: Response) -> bool {
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        body.extend_from_slice(&chunk);
        if body.len() > PROBE_BYTES_MAX {
            return false;
        }
    }
    let said: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    said["cluster"].is_object() && said["versionInfo"].is_object()
}

async fn verdict(response: Response) -> Verdict {
    let status = response.status();
    if status.is_success() {
        return Verdict::Delivered;
    }
    let header = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let after = header.and_then(|header| retry::retry_after(header, SystemTime::now()));
    let again = status.is_server_error()
        || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS);
    if again {
        return Verdict::Again { after, reason: format!("expected status 200, found {}", status.as_u16()) };
    }
    let reason = format!("expected status 200, found {}: {:?}", status.as_u16(), beginning(response).await);
    match status.as_u16() {
        400 | 413 | 422 => Verdict::Unreadable(reason),
        _ => Verdict::Refused(reason),
    }
}

/// The beginning of what the receiver says, for the log.
async fn beginning(mut response: Response) -> String {
    const SHOWN_MAX: usize = 200;
    let chunk = response.chunk().await.ok().flatten().unwrap_or_default();
    String::from_utf8_lossy(&chunk[..chunk.len().min(SHOWN_MAX)]).trim().to_string()
}
