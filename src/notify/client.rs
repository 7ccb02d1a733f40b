//! The HTTP client of one receiver: its headers, its TLS, and the signature of what it is sent.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Certificate, Client, Identity, Url};
use ring::hmac;

use super::NotifyError;
use super::config::HttpConfig;

/// A client, and the address as it has to be asked.
pub(super) struct Opened {
    pub(super) client: Client,
    pub(super) url: Url,
    /// `Host` of requests, where the address names another.
    pub(super) host: Option<HeaderValue>,
}

/// Redirects are not followed, since they would turn a post into a get; proxies named in the environment are not
/// asked. Errors begin with `name`.
pub(super) fn open(config: &HttpConfig, timeout: Duration, name: &str) -> Result<Opened, NotifyError> {
    let wrong = |why: String| NotifyError(format!("{name}: {why}"));
    let parsed =
        Url::parse(&config.url).ok().filter(|u| matches!(u.scheme(), "http" | "https") && u.has_host());
    let mut url = parsed.ok_or_else(|| {
        // What stands before an '@' may be a password.
        let url = config.url.rsplit('@').next().unwrap_or_default();
        wrong(format!("expected an address such as http://host:9093/api/v1/alerts, found '{url}'"))
    })?;
    // Already installed is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = Client::builder()
        .user_agent(concat!("plantd-metric/", env!("CARGO_PKG_VERSION")))
        .default_headers(headers(&config.headers).map_err(wrong)?)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .pool_idle_timeout(Duration::from_secs(30))
        .tls_danger_accept_invalid_certs(config.insecure_skip_verify)
        .timeout(timeout);
    if let Some(path) = &config.ca_file {
        builder = builder.tls_certs_merge(certificates(path).map_err(wrong)?);
    } else if url.scheme() == "http" {
        // An image without root certificates can still speak plain HTTP.
        builder = builder.tls_certs_only([]);
    }
    if let Some((certificate, key)) = &config.identity {
        builder = builder.identity(identity(certificate, key).map_err(wrong)?);
    }
    let mut host = None;
    if let (Some(server_name), "https") = (&config.server_name, url.scheme()) {
        // The certificate's name is that of the address asked for: under that name it leads to the host that is meant.
        let meant = url.host_str().unwrap_or_default().to_string();
        let port = url.port().map_or(String::new(), |port| format!(":{port}"));
        host = HeaderValue::from_str(&format!("{meant}{port}")).ok();
        builder = builder.dns_resolver(std::sync::Arc::new(Elsewhere(meant.trim_matches(['[', ']']).into())));
        let renamed = url.set_host(Some(server_name)).is_ok() && url.domain().is_some();
        renamed.then_some(()).ok_or_else(|| {
            wrong(format!("expected a host's name for tls.server_name, found {server_name:?}"))
        })?;
    }
    let client = builder.build().map_err(|e| wrong(format!("expected an HTTP client: {}", told(&e))))?;
    Ok(Opened { client, url, host })
}

/// Finds one host, whatever is asked for.
struct Elsewhere(String);

impl Resolve for Elsewhere {
    fn resolve(&self, _: Name) -> Resolving {
        let host = self.0.clone();
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((host, 0)).await?.collect();
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

fn headers(given: &[(String, String)]) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (name, value) in given {
        let parsed = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value));
        let (Ok(name), Ok(mut value)) = parsed else {
            return Err(format!("expected a header's name and value, found one named {name:?}"));
        };
        value.set_sensitive(true);
        headers.append(name, value);
    }
    Ok(headers)
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path)
        .map_err(|error| format!("expected a file that can be read, found {}: {error}", path.display()))
}

fn certificates(path: &Path) -> Result<Vec<Certificate>, String> {
    match Certificate::from_pem_bundle(&read(path)?) {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(format!("expected certificates in PEM, found none in {}", path.display())),
    }
}

fn identity(certificate: &Path, key: &Path) -> Result<Identity, String> {
    let mut pem = read(certificate)?;
    pem.push(b'\n');
    pem.extend(read(key)?);
    Identity::from_pem(&pem).map_err(|_| {
        let (certificate, key) = (certificate.display(), key.display());
        format!("expected a certificate and its key in PEM, found none in {certificate} and {key}")
    })
}

/// What `X-Signature-256` says of a body: `sha256=` and the HMAC-SHA-256 (RFC 2104) in hexadecimal digits.
pub(super) fn signature(secret: &str, body: &[u8]) -> String {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), body);
    tag.as_ref().iter().fold(String::from("sha256="), |text, byte| text + &format!("{byte:02x}"))
}

/// The error with its causes, without the address, which may hold a password.
pub(super) fn told(error: &reqwest::Error) -> String {
    let mut text = String::from(match (error.is_timeout(), error.is_connect()) {
        (true, _) => "expected an answer in time",
        (_, true) => "expected a connection",
        _ => "expected an HTTP answer",
    });
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(change: impl FnOnce(&mut HttpConfig)) -> Result<Opened, String> {
        let mut config = HttpConfig { url: "https://alertmanager:9093/x".into(), ..HttpConfig::default() };
        change(&mut config);
        open(&config, Duration::from_secs(1), "alerts.receivers: r").map_err(|error| error.0)
    }

    #[test]
    fn addresses_are_checked() {
        for bad in ["", "alertmanager:9093", "ftp://h/", "/api/v1/alerts"] {
            let error = opened(|config| config.url = bad.into()).err().unwrap();
            assert!(
                error.starts_with("alerts.receivers: r: ") && error.ends_with(&format!("'{bad}'")),
                "{error}"
            );
        }
        assert!(opened(|config| config.url = "http://alertmanager:9093/api/v1/alerts".into()).is_ok());
    }

    #[test]
    fn what_cannot_be_used_is_told_without_secrets() {
        let folder = tempfile::tempdir().unwrap();
        let empty = folder.path().join("empty.pem");
        std::fs::write(&empty, "hush").unwrap();
        type Change = fn(&mut HttpConfig, &Path);
        let cases: [(Change, &str); 5] = [
            (|c, _| c.headers = vec![("a b".into(), "hush".into())], "expected a header's name"),
            (|c, p| c.ca_file = Some(p.into()), "expected certificates in PEM"),
            (|c, p| c.ca_file = Some(p.join("none")), "expected a file that can be read"),
            (|c, p| c.identity = Some((p.into(), p.into())), "expected a certificate and its key"),
            (|c, _| c.server_name = Some("10.0.0.1".into()), "expected a host's name"),
        ];
        for (change, expected) in cases {
            let error = opened(|config| change(config, &empty)).err().unwrap();
            assert!(error.contains(expected) && !error.contains("hush"), "{error}");
        }
        let renamed = opened(|config| config.server_name = Some("am.example".into())).unwrap();
        assert_eq!(renamed.url.as_str(), "https://am.example:9093/x");
        assert_eq!(renamed.host.unwrap(), "alertmanager:9093");
    }

    /// RFC 4231, test case 2.
    #[test]
    fn signatures_are_those_of_the_standard() {
        let expected = "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(signature("Jefe", b"what do ya want for nothing?"), expected);
    }
}
