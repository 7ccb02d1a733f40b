//! The InfluxDB sink against Debian's influxd 1.6 and VictoriaMetrics (`/write` and `/api/v2/write`), what they
//! hold being judged by a client that knows nothing of the sink.
//!
//! Needs: real servers

#[path = "storage/server.rs"]
mod server;

#[path = "storage/http.rs"]
mod http;

#[path = "storage/odd.rs"]
mod odd;

#[path = "storage/influxd.rs"]
mod influxd;

#[path = "storage/victoria.rs"]
mod victoria;
