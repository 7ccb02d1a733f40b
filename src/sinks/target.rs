//! A blocking HTTP client for sinks: one server, bounded waits, bounded answers, and what an answer means.
//!
//! A [`Target`] owns a single-threaded runtime and no thread: a request runs on the thread that makes it,
//! and a connection is only looked at while somebody waits for an answer. It may be shared by threads, and made,
//! used and dropped anywhere; inside a runtime a request takes a thread of its own for its duration, since
//! a runtime may not wait inside another.
//!
//! It never follows a redirect (a post would become a get, and credentials could go to another host), asks no
//! proxy named in the environment, and never shows a password: neither that of the settings nor one in the address.

//!
//! # Layout
//! - `answer`: what an answer says and means
//! - `address`: addresses, queries and credentials as text

mod address;
mod answer;
#[cfg(test)]
pub(super) mod fake;
#[cfg(test)]
mod tests;

use std::fmt::Write as _;
use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Certificate, Client, Method, Response, Url};
use tokio::runtime::{Builder, Handle, Runtime};

use self::address::{address, base64, joined, shown, unusable};
pub use self::address::{percent_encode, with_query};
pub use self::answer::{Answer, ERROR_BYTES_MAX, RETRY_AFTER_MAX};
use super::SinkError;

/// The server, and how it is talked to.
#[derive(Clone, Debug, PartialEq)]
pub struct TargetConfig {
    /// `http` or `https`. A path is kept before that of each request. A name and password in it count
    /// where `auth` is [`Auth::None`].
    pub url: String,
    /// Time for one request, from the connection to the last byte of the answer.
    pub timeout: Duration,
    /// Sent with every request.
    pub headers: Vec<(String, String)>,
    /// Who we are.
    pub auth: Auth,
    /// PEM file with certificates that are trusted beside those of the system.
    pub ca_file: Option<PathBuf>,
    /// What we call ourselves.
    pub user_agent: String,
    /// A successful answer that is longer is an error.
    pub answer_bytes_max: usize,
}

impl Default for TargetConfig {
    fn default() -> Self {
        TargetConfig {
            url: String::new(),
            timeout: Duration::from_secs(10),
            headers: Vec::new(),
            auth: Auth::None,
            ca_file: None,
            user_agent: concat!("plantd-metric/", env!("CARGO_PKG_VERSION")).into(),
            answer_bytes_max: 64 << 20,
        }
    }
}

/// How a request says who we are.
#[derive(Clone, Default, PartialEq)]
pub enum Auth {
    /// Not at all.
    #[default]
    None,
    /// `Authorization: Basic`.
    Basic {
        /// Name.
        username: String,
        /// Password; may be empty.
        password: String,
    },
    /// `Authorization: Bearer TOKEN`.
    Bearer(String),
    /// `Authorization: Token TOKEN`, as InfluxDB has it.
    Token(String),
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Auth::None => "None",
            Auth::Basic { .. } => "Basic(..)",
            Auth::Bearer(_) => "Bearer(..)",
            Auth::Token(_) => "Token(..)",
        })
    }
}

/// A client for one server.
pub struct Target {
    url: Url,
    client: Client,
    timeout: Duration,
    answer_bytes_max: usize,
    runtime: Option<Runtime>,
}

impl Target {
    /// Makes a client; connects to nothing yet.
    ///
    /// # Errors
    /// [`SinkError::Unusable`]: an address, header or certificate that can't be right.
    pub fn new(config: TargetConfig) -> Result<Self, SinkError> {
        let (url, in_url) = address(&config.url)?;
        let auth = if config.auth == Auth::None { in_url } else { config.auth };
        // Already installed is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = Client::builder()
            .user_agent(&config.user_agent)
            .default_headers(headers(&config.headers, &auth)?)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            // Less than the time after which servers close an idle connection.
            .pool_idle_timeout(Duration::from_secs(15))
            .pool_max_idle_per_host(2)
            .tcp_nodelay(true)
            .timeout(config.timeout);
        if let Some(path) = &config.ca_file {
            builder = builder.tls_certs_merge(certificates(path)?);
        } else if url.scheme() == "http" {
            // An image without root certificates can still speak plain HTTP.
            builder = builder.tls_certs_only([]);
        }
        let client = builder.build();
        let client = client.map_err(|e| unusable(format!("expected an HTTP client: {}", causes(&e))))?;
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|e| unusable(format!("expected a runtime for HTTP: {e}")))?;
        let (timeout, answer_bytes_max) = (config.timeout, config.answer_bytes_max);
        Ok(Target { url, client, timeout, answer_bytes_max, runtime: Some(runtime) })
    }

    /// Posts `body` and waits for the answer, whatever its status is.
    ///
    /// # Errors
    /// [`SinkError::Retry`]: no connection, no answer in time, or one that is too long.
    pub fn post(
        &self,
        path_and_query: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Result<Answer, SinkError> {
        self.ask(Method::POST, path_and_query, headers, body)
    }

    /// Gets what is at `path_and_query`, whatever the status is.
    ///
    /// # Errors
    /// As of [`Target::post`].
    pub fn get(&self, path_and_query: &str, headers: &[(&str, &str)]) -> Result<Answer, SinkError> {
        self.ask(Method::GET, path_and_query, headers, Vec::new())
    }

    /// As [`Target::post`], with the method `PATCH`.
    ///
    /// # Errors
    /// As of [`Target::post`].
    pub fn patch(
        &self,
        path_and_query: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Result<Answer, SinkError> {
        self.ask(Method::PATCH, path_and_query, headers, body)
    }

    /// The address without credentials and query, for people.
    pub fn shown(&self) -> String {
        shown(&self.url)
    }

    fn ask(
        &self,
        method: Method,
        path_and_query: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Result<Answer, SinkError> {
        let url = joined(&self.url, path_and_query);
        let asked = format!("{method} {}", shown(&url));
        let mut request = self.client.request(method, url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if !body.is_empty() {
            request = request.body(body);
        }
        self.wait(async {
            // Nobody has looked at idle connections since the last request: turn by turn, sockets are asked,
            // their tasks run, and what the server has closed leaves the pool before it is used.
            for _ in 0..3 {
                tokio::task::yield_now().await;
            }
            match request.send().await {
                Ok(response) => self.answer(response, &asked).await,
                Err(error) => Err(self.failed(&error, &asked)),
            }
        })
    }

    async fn answer(&self, mut response: Response, asked: &str) -> Result<Answer, SinkError> {
        let status = response.status();
        let headers = response.headers().clone();
        let bytes_max = if status.is_success() { self.answer_bytes_max } else { ERROR_BYTES_MAX };
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.failed(&error, asked))? {
            let room = bytes_max - body.len();
            body.extend_from_slice(&chunk[..chunk.len().min(room)]);
            if chunk.len() > room {
                if status.is_success() {
                    return Err(SinkError::retry(format!(
                        "{asked}: expected an answer of at most {bytes_max} bytes, found more"
                    )));
                }
                break;
            }
        }
        let body = String::from_utf8(body).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into());
        Ok(Answer::new(status.as_u16(), headers, body, asked.into()))
    }

    fn failed(&self, error: &reqwest::Error, asked: &str) -> SinkError {
        let expected = match (error.is_timeout(), error.is_connect()) {
            (true, _) => return SinkError::retry(format!("{asked}: no answer within {:?}", self.timeout)),
            (_, true) => "expected a connection",
            _ => "expected an HTTP answer",
        };
        SinkError::retry(format!("{asked}: {expected}{}", causes(error)))
    }

    fn wait<F: Future<Output = Result<Answer, SinkError>> + Send>(&self, request: F) -> F::Output {
        let runtime = self.runtime.as_ref().expect("taken by drop alone");
        if Handle::try_current().is_err() {
            return runtime.block_on(request);
        }
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("sink-http".into());
            match thread.spawn_scoped(scope, || runtime.block_on(request)) {
                Ok(thread) => thread.join().unwrap_or_else(|_| Err(SinkError::retry("the request panicked"))),
                Err(error) => Err(SinkError::retry(format!("expected a thread for HTTP: {error}"))),
            }
        })
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        // Waiting for its end, as its own drop does, is not allowed inside another runtime.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn headers(given: &[(String, String)], auth: &Auth) -> Result<HeaderMap, SinkError> {
    let mut headers = HeaderMap::new();
    for (name, value) in given {
        let parsed = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value));
        let (Ok(name), Ok(value)) = parsed else {
            return Err(unusable(format!("expected a header's name and value, found one named {name:?}")));
        };
        headers.append(name, value);
    }
    let authorization = match auth {
        Auth::None => return Ok(headers),
        Auth::Basic { username, password } => {
            format!("Basic {}", base64(format!("{username}:{password}").as_bytes()))
        }
        Auth::Bearer(token) => format!("Bearer {token}"),
        Auth::Token(token) => format!("Token {token}"),
    };
    let Ok(mut value) = HeaderValue::from_str(&authorization) else {
        return Err(unusable("expected a token of printable characters, found others".into()));
    };
    value.set_sensitive(true);
    headers.insert(AUTHORIZATION, value);
    Ok(headers)
}

fn certificates(path: &PathBuf) -> Result<Vec<Certificate>, SinkError> {
    let wrong = |why: String| SinkError::unusable(format!("storage.ca_file: {}: {why}", path.display()));
    let pem = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
    match Certificate::from_pem_bundle(&pem) {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(wrong("expected certificates in PEM, found none".into())),
        Err(error) => Err(wrong(format!("expected certificates in PEM{}", causes(&error)))),
    }
}

/// The causes of an error, without its own text, which has the address.
fn causes(error: &reqwest::Error) -> String {
    let mut text = String::new();
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        // A String takes every text.
        let _ = write!(text, ": {next}");
        cause = next.source();
    }
    text
}
