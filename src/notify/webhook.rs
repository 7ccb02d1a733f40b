//! The webhook: the documented payload, posted once; what the answer means.

use std::time::{Duration, SystemTime};

use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode, Url};

use super::{Notification, NotifyError, retry};
use crate::message::{write_json_f64, write_json_str, write_json_tags, write_rfc3339};

/// One receiver. Redirects are not followed, since they would turn a post into a get; proxies named in
/// the environment are not asked.
pub(super) struct Webhook {
    url: Url,
    client: Client,
}

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

impl Webhook {
    pub(super) fn new(url: &str, timeout: Duration) -> Result<Self, NotifyError> {
        let parsed = Url::parse(url).ok().filter(|u| matches!(u.scheme(), "http" | "https") && u.has_host());
        let expected = || {
            // What stands before an '@' may be a password.
            let url = url.rsplit('@').next().unwrap_or_default();
            format!(
                "alerts.webhook_url: expected an address such as http://host:9093/api/v1/alerts, found '{url}'"
            )
        };
        let url = parsed.ok_or_else(|| NotifyError(expected()))?;
        // Already installed is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = Client::builder()
            .user_agent(concat!("plantd-metric/", env!("CARGO_PKG_VERSION")))
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .pool_idle_timeout(Duration::from_secs(30))
            .timeout(timeout);
        // An image without root certificates can still speak plain HTTP.
        let builder = if url.scheme() == "http" { builder.tls_certs_only([]) } else { builder };
        let client = builder.build();
        let client = client
            .map_err(|e| NotifyError(format!("alerts.webhook_url: expected an HTTP client: {}", told(&e))))?;
        Ok(Webhook { url, client })
    }

    /// Posts `notifications` once.
    pub(super) async fn post(&self, notifications: &[Notification]) -> Verdict {
        let request = self.client.post(self.url.clone()).header(CONTENT_TYPE, "application/json");
        match request.body(payload(notifications)).send().await {
            Ok(response) => verdict(response).await,
            Err(error) => Verdict::Again { after: None, reason: told(&error) },
        }
    }
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

/// The error with its causes, without the address, which may hold a password.
fn told(error: &reqwest::Error) -> String {
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

/// The documented payload: `{"alerts": [{"name", "service", "severity", "message", "value",
/// "threshold", "timestamp", "tags", ..}]}`, with `metric`, `status`, `started_at` and `id` beside.
/// Times are RFC 3339 in UTC; the id is 32 hexadecimal digits.
pub fn payload(notifications: &[Notification]) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + 512 * notifications.len());
    out.extend_from_slice(b"{\"alerts\":[");
    for (at, notification) in notifications.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write_alert(notification, &mut out);
    }
    out.extend_from_slice(b"]}");
    out
}

fn write_alert(alert: &Notification, out: &mut Vec<u8>) {
    out.push(b'{');
    let texts: [(&str, &str); 4] = [
        ("name", &alert.rule),
        ("service", &alert.target.service),
        ("severity", &alert.severity),
        ("message", &alert.message),
    ];
    for (key, text) in texts {
        write_key(key, out);
        write_json_str(text, out);
    }
    for (key, number) in [("value", alert.value), ("threshold", alert.threshold)] {
        write_key(key, out);
        write_json_f64(number, out);
    }
    write_time("timestamp", alert.time_ns, out);
    write_key("tags", out);
    write_json_tags(&alert.target.tags, out);
    write_key("metric", out);
    write_json_str(&alert.metric, out);
    write_key("status", out);
    write_json_str(alert.status.as_str(), out);
    write_time("started_at", alert.started_ns, out);
    write_key("id", out);
    write_json_str(&format!("{:032x}", alert.id), out);
    out.push(b'}');
}

fn write_time(key: &str, time_ns: i64, out: &mut Vec<u8>) {
    write_key(key, out);
    out.push(b'"');
    write_rfc3339(time_ns, out);
    out.push(b'"');
}

fn write_key(key: &str, out: &mut Vec<u8>) {
    if out.last() != Some(&b'{') {
        out.push(b',');
    }
    write_json_str(key, out);
    out.push(b':');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked() {
        for bad in ["", "alertmanager:9093", "ftp://h/", "/api/v1/alerts"] {
            let error = Webhook::new(bad, Duration::from_secs(1)).err().unwrap();
            assert!(error.0.starts_with("alerts.webhook_url: ") && error.0.ends_with(&format!("'{bad}'")));
        }
        assert!(Webhook::new("http://alertmanager:9093/api/v1/alerts", Duration::from_secs(1)).is_ok());
    }
}
