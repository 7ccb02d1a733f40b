//! Whom to notify, of what, and with how much patience.

use std::path::PathBuf;
use std::time::Duration;

use super::desk::DeskConfig;

/// One receiver.
#[derive(Clone, Debug)]
pub struct ReceiverConfig {
    /// Unique; names its files and its counters.
    pub name: String,
    /// What it is told of, and when.
    pub desk: DeskConfig,
    /// How it is spoken to.
    pub channel: Channel,
    /// Time for one attempt.
    pub timeout: Duration,
    /// Wait after the first failed attempt; doubles with each further one.
    pub backoff_min: Duration,
    /// Longest wait between two attempts.
    pub backoff_max: Duration,
    /// Longest wait that a receiver may ask for by `Retry-After`.
    pub retry_after_max: Duration,
    /// Time after which a batch that still fails is given up, counted and logged.
    pub give_up_after: Duration,
    /// Seed of the jitter; `None` takes another one in every process.
    pub jitter_seed: Option<u64>,
}

impl Default for ReceiverConfig {
    fn default() -> Self {
        ReceiverConfig {
            name: "webhook".into(),
            desk: DeskConfig::default(),
            channel: Channel::Http(HttpConfig::default()),
            timeout: Duration::from_secs(10),
            backoff_min: Duration::from_millis(500),
            backoff_max: Duration::from_secs(30),
            retry_after_max: Duration::from_secs(300),
            give_up_after: Duration::from_secs(3600),
            jitter_seed: None,
        }
    }
}

/// How a receiver is spoken to.
#[derive(Clone, Debug)]
pub enum Channel {
    /// Over HTTP.
    Http(HttpConfig),
    /// A program and its arguments; no shell reads them. It is given the documented payload on its standard input.
    Command(Vec<String>),
}

/// A receiver with an address.
#[derive(Clone)]
pub struct HttpConfig {
    /// `http` or `https`; a name and password in it are sent as basic authorization.
    pub url: String,
    /// What is posted there.
    pub dialect: Dialect,
    /// Sent with every request.
    pub headers: Vec<(String, String)>,
    /// Key of the signature; `None`: none is sent.
    pub hmac_secret: Option<String>,
    /// PEM file with certificates that are trusted beside those of the system.
    pub ca_file: Option<PathBuf>,
    /// PEM files with the certificate that is shown to the receiver, and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Whether any certificate will do.
    pub insecure_skip_verify: bool,
    /// Name that the receiver's certificate has to have; `None`: the host of the address.
    pub server_name: Option<String>,
    /// Where others reach our API, for links; `None`: no links.
    pub external_url: Option<String>,
}

impl Default for HttpConfig {
    fn default() -> Self {
        HttpConfig {
            url: "http://127.0.0.1:9093/api/v1/alerts".into(),
            dialect: Dialect::Documented,
            headers: Vec::new(),
            hmac_secret: None,
            ca_file: None,
            identity: None,
            insecure_skip_verify: false,
            server_name: None,
            external_url: None,
        }
    }
}

impl std::fmt::Debug for HttpConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // What stands before an '@' may be a password, and so may headers and what follows a '?'.
        let url = self.url.rsplit('@').next().unwrap_or_default().split('?').next().unwrap_or_default();
        f.debug_struct("HttpConfig")
            .field("url", &url)
            .field("dialect", &self.dialect)
            .finish_non_exhaustive()
    }
}

/// What is posted to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// The documented payload; where the address is one of Alertmanager's and its server is one, what that takes.
    Documented,
    /// Alertmanager's API v2.
    Alertmanager,
}
