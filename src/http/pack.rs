//! Answers as gzip, for clients that accept it.

use std::io::Write;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use flate2::Compression;
use flate2::write::GzEncoder;

/// Shorter answers are not worth it.
const LEN_MIN: usize = 1024;

/// Whether a client accepts gzip (RFC 9110, section 12.5.3; `q=0` says that it does not).
pub fn is_accepted(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let mut codings = values.flat_map(|value| value.split(',')).map(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, "q=1"));
        let weight = weight.trim().strip_prefix("q=").and_then(|q| q.parse::<f32>().ok());
        (name.trim().to_ascii_lowercase(), weight.unwrap_or(1.0))
    });
    codings.any(|(name, weight)| name == "gzip" && weight > 0.0)
}

/// The answer packed, if it is long enough. Our answers are whole in memory before they are sent.
pub async fn gzip(response: Response) -> Response {
    let (mut parts, body) = response.into_parts();
    let Ok(plain) = axum::body::to_bytes(body, usize::MAX).await else {
        return Response::from_parts(parts, Body::empty());
    };
    parts.headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    if plain.len() < LEN_MIN {
        return Response::from_parts(parts, Body::from(plain));
    }
    let pack = {
        let plain = plain.clone();
        move || {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(&plain).and_then(|()| encoder.finish())
        }
    };
    match tokio::task::spawn_blocking(pack).await {
        Ok(Ok(packed)) => {
            parts.headers.remove(header::CONTENT_LENGTH);
            parts.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            Response::from_parts(parts, Body::from(packed))
        }
        _ => Response::from_parts(parts, Body::from(plain)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_say_what_they_accept() {
        for (accept, expected) in [
            ("gzip", true),
            ("deflate, GZIP;q=0.5, br", true),
            ("gzip;q=0", false),
            ("gzip; q=0.0", false),
            ("identity", false),
            ("", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(accept));
            assert_eq!(is_accepted(&headers), expected, "{accept}");
        }
        assert!(!is_accepted(&HeaderMap::new()));
    }
}
