//! Addresses, queries and credentials as text.

use std::fmt::Write as _;

use reqwest::Url;

use super::Auth;
use crate::sinks::SinkError;

/// `path` with `parameters` as its query, each percent-encoded.
pub fn with_query(path: &str, parameters: &[(&str, &str)]) -> String {
    let mut out = path.to_string();
    for (at, (name, value)) in parameters.iter().enumerate() {
        out.push(if at == 0 { '?' } else { '&' });
        percent_encode(name, &mut out);
        out.push('=');
        percent_encode(value, &mut out);
    }
    out
}

/// Appends `text` with every byte that is not unreserved (RFC 3986, 2.3) as `%XX`.
pub fn percent_encode(text: &str, out: &mut String) {
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => {
                // A String takes every text.
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
}

/// The address without credentials, and the credentials that were in it.
pub(super) fn address(text: &str) -> Result<(Url, Auth), SinkError> {
    let parsed = Url::parse(text).ok().filter(|u| matches!(u.scheme(), "http" | "https") && u.has_host());
    let Some(mut url) = parsed else {
        // What stands before an '@' may be a password.
        let text = text.rsplit('@').next().unwrap_or_default();
        return Err(unusable(format!("expected an address such as http://host:8086, found '{text}'")));
    };
    let decoded = |text: &str| percent_decode(text);
    let auth = match (url.username(), url.password()) {
        ("", None) => Auth::None,
        (name, password) => {
            Auth::Basic { username: decoded(name), password: decoded(password.unwrap_or_default()) }
        }
    };
    // Both fail only where there is no host.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_fragment(None);
    Ok((url, auth))
}

fn percent_decode(text: &str) -> String {
    let hex = |byte: Option<&u8>| byte.and_then(|b| char::from(*b).to_digit(16));
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match (bytes[at], hex(bytes.get(at + 1)), hex(bytes.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                at += 3;
            }
            (byte, ..) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// `base` with the path of a request behind its own, and both queries.
pub(super) fn joined(base: &Url, path_and_query: &str) -> Url {
    if path_and_query.is_empty() {
        return base.clone();
    }
    let (path, query) = path_and_query.split_once('?').unwrap_or((path_and_query, ""));
    let mut url = base.clone();
    if !path.is_empty() {
        url.set_path(&format!("{}{path}", base.path().trim_end_matches('/')));
    }
    let both: Vec<&str> =
        [base.query().unwrap_or_default(), query].into_iter().filter(|q| !q.is_empty()).collect();
    url.set_query((!both.is_empty()).then(|| both.join("&")).as_deref());
    url
}

pub(super) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.to_string()
}

/// Base64 with padding (RFC 4648, 4).
pub(super) fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let at = |index: usize| u32::from(three.get(index).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for place in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * place)) as usize & 63];
            out.push(if place <= three.len() { char::from(letter) } else { '=' });
        }
    }
    out
}

pub(super) fn unusable(why: String) -> SinkError {
    SinkError::unusable(format!("storage.url: {why}"))
}
