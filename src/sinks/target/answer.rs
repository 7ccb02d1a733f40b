//! What a server answered, and what that means for what it was sent.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use reqwest::header::{HeaderMap, RETRY_AFTER};

use crate::sinks::SinkError;

/// What an answer that is no success says is read up to here.
pub const ERROR_BYTES_MAX: usize = 64 << 10;

/// Longest wait that a server may ask for by `Retry-After`.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);

/// Of what a refusing server says, so much goes into an error text.
const SHOWN_CHARS_MAX: usize = 1_000;

/// What a server answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The wait that a `Retry-After` asks for, at most [`RETRY_AFTER_MAX`].
    pub retry_after: Option<Duration>,
    /// The body: of a success all of it, else its first [`ERROR_BYTES_MAX`] bytes. What is no UTF-8 is replaced.
    pub body: String,
    /// Method and address, without credentials and query.
    asked: String,
}

impl Answer {
    pub(super) fn new(status: u16, headers: HeaderMap, body: String, asked: String) -> Self {
        let asked_for = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry_after = asked_for.and_then(|value| wait_asked_for(value, SystemTime::now()));
        Answer { status, headers, retry_after, body, asked }
    }

    /// Whether the status is 2xx.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// A header's value; `None` where it is not there or no text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The answer, if it is a success. Else what it means for a batch: 400, 413 and 422 speak of its content
    /// ([`SinkError::Poison`]); anything else may pass, by itself or by somebody's doing ([`SinkError::Retry`]).
    ///
    /// # Errors
    /// As told.
    pub fn check(self) -> Result<Answer, SinkError> {
        if self.is_success() {
            return Ok(self);
        }
        let why = self.told();
        Err(match self.status {
            400 | 413 | 422 => SinkError::Poison { why },
            _ => SinkError::Retry { why, after: self.retry_after },
        })
    }

    /// What a refusal says, in one line, with advice where there is some.
    pub fn told(&self) -> String {
        let mut text = format!("{}: expected status 2xx, found {}", self.asked, self.status);
        let advice = match self.status {
            300..=399 => " (redirects are not followed: configure the address that is meant)",
            401 => " (check the user and password, or the token)",
            403 => " (the user or token may not do this)",
            404 => " (check the address, and the database or bucket)",
            _ => "",
        };
        text.push_str(advice);
        let said = one_line(&self.body);
        if !said.is_empty() {
            // A String takes every text.
            let _ = write!(text, ": {said}");
        }
        text
    }
}

/// The wait that a `Retry-After` asks for (RFC 9110, 10.2.3): seconds, or a date. A date in the past is no
/// wait, and what is neither says nothing.
pub(super) fn wait_asked_for(header: &str, now: SystemTime) -> Option<Duration> {
    let header = header.trim();
    let wait = if let Ok(seconds) = header.parse::<u32>() {
        Duration::from_secs(seconds.into())
    } else {
        let at = SystemTime::from(jiff::fmt::rfc2822::parse(header).ok()?.timestamp());
        at.duration_since(now).unwrap_or_default()
    };
    Some(wait.min(RETRY_AFTER_MAX))
}

/// The beginning of `text`, each run of white space and control characters being one blank.
fn one_line(text: &str) -> String {
    let words = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    let line = words.collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{} …", &line[..end]),
        None => line,
    }
}
