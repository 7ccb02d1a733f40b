//! Query parameters: every handler says which it knows, and an unknown one is an error that lists them.

use operators::sample::{DurationNs, TimeNs};
use operators::series::TargetMatcher;

use super::error::ApiError;
use crate::codec::time;
use crate::message::write_rfc3339;

/// The parameters of one request.
pub struct Params(Vec<(String, String)>);

impl Params {
    /// Checks that all names are among `known`; `tag.` stands for every `tag.NAME`.
    ///
    /// # Errors
    /// On an unknown name, or one given twice that may stand only once.
    pub fn new(pairs: Vec<(String, String)>, known: &[&str]) -> Result<Params, ApiError> {
        for (at, (name, _)) in pairs.iter().enumerate() {
            let is_tag =
                known.contains(&"tag.NAME") && name.strip_prefix("tag.").is_some_and(|n| !n.is_empty());
            if !is_tag && !known.contains(&name.as_str()) {
                let known = known.join(", ");
                return Err(ApiError::bad_request(format!(
                    "unknown parameter {name:?}, expected one of {known}"
                )));
            }
            if pairs[..at].iter().any(|(before, _)| before == name) {
                return Err(ApiError::bad_request(format!("parameter {name:?} given twice")));
            }
        }
        Ok(Params(pairs))
    }

    /// The value of `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// The comma-separated values of `name`.
    pub fn list(&self, name: &str) -> Vec<&str> {
        let parts = self.get(name).unwrap_or_default().split(',');
        parts.map(str::trim).filter(|part| !part.is_empty()).collect()
    }

    /// `service` and all `tag.NAME`.
    pub fn matcher(&self) -> TargetMatcher {
        let tags = self.0.iter().filter_map(|(n, v)| Some((n.strip_prefix("tag.")?.to_string(), v.clone())));
        TargetMatcher { service: self.get("service").map(String::from), tags: tags.collect() }
    }

    /// A time: RFC 3339 or a Unix number.
    ///
    /// # Errors
    /// If it is neither.
    pub fn time(&self, name: &str) -> Result<Option<TimeNs>, ApiError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        // A `+` in a query stands for a blank: an offset that was not escaped arrives as one.
        let escaped = text.replace(' ', "+");
        let time_ns = time::parse_text(&escaped).or_else(|| time::parse_number(text));
        time_ns.map(Some).ok_or_else(|| {
            ApiError::bad_request(format!(
                "{name}: expected an RFC 3339 time or a Unix number, found {text:?}"
            ))
        })
    }

    /// A whole number.
    ///
    /// # Errors
    /// If it is none.
    pub fn number(&self, name: &str) -> Result<Option<u64>, ApiError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let error = || ApiError::bad_request(format!("{name}: expected a whole number, found {text:?}"));
        text.parse().map(Some).map_err(|_| error())
    }

    /// `limit`, `default` (or `max`, if that is less) where it is absent.
    ///
    /// # Errors
    /// If it is no number, or not within 1 and `max`.
    pub fn limit(&self, default: usize, max: usize) -> Result<usize, ApiError> {
        let Some(limit) = self.number("limit")? else { return Ok(default.min(max)) };
        let within = usize::try_from(limit).ok().filter(|limit| (1..=max).contains(limit));
        within.ok_or_else(|| ApiError::bad_request(format!("limit: expected 1 to {max}, found {limit}")))
    }

    /// A duration such as `10s`, `5m`, `1h30m`.
    ///
    /// # Errors
    /// If it is none, or not above zero.
    pub fn duration(&self, name: &str) -> Result<Option<DurationNs>, ApiError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let parsed = crate::settings::units::parse_duration(text);
        let ns = parsed.and_then(|d| i64::try_from(d.as_nanos()).ok()).filter(|ns| *ns > 0);
        ns.map(Some).ok_or_else(|| {
            ApiError::bad_request(format!(
                "{name}: expected a duration such as 10s, 5m or 1h, found {text:?}"
            ))
        })
    }
}

/// RFC 3339 in UTC, as messages have it.
pub fn rfc3339(time_ns: TimeNs) -> String {
    let mut text = Vec::new();
    write_rfc3339(time_ns, &mut text);
    String::from_utf8_lossy(&text).into_owned()
}
