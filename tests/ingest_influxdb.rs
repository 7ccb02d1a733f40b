//! Lines as InfluxDB's Python clients write them, and the same lines written to Debian's influxd 1.6 and to us: what
//! is accepted, what is refused and the values that are held are compared.
//!
//! Needs: real servers

#[path = "storage/server.rs"]
mod server;

#[path = "storage/http.rs"]
mod http;

#[allow(dead_code, reason = "each file of tests uses its part")]
#[path = "service/running.rs"]
mod running;

#[path = "ingest/influx_clients.rs"]
mod influx_clients;

#[path = "ingest/influxd.rs"]
mod influxd;
