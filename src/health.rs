//! `--check-health`: asks a running service, for containers without curl.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(3);

/// Asks `url`, or `/health` where the service listens, and wants a 200.
///
/// # Errors
/// What came instead.
pub fn check(url: Option<&str>, listen: SocketAddr) -> Result<(), String> {
    let local = if listen.ip().is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { listen.ip() };
    let default = format!("http://{}/health", SocketAddr::new(local, listen.port()));
    let url = url.filter(|url| !url.is_empty()).unwrap_or(&default);
    let rest =
        url.strip_prefix("http://").ok_or_else(|| format!("expected http://HOST:PORT/PATH, found {url}"))?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, "health"));
    let host = if authority.contains(':') { authority.to_string() } else { format!("{authority}:80") };
    let answer = ask(&host, path).map_err(|e| format!("{url}: {e}"))?;
    let status = answer.lines().next().unwrap_or_default();
    if status.split(' ').nth(1) == Some("200") { Ok(()) } else { Err(format!("{url}: {status}")) }
}

fn ask(host: &str, path: &str) -> std::io::Result<String> {
    let addr = host.to_socket_addrs()?.next().ok_or_else(|| std::io::Error::other("no address"))?;
    let mut stream = TcpStream::connect_timeout(&addr, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    write!(stream, "GET /{path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(64 << 10).read_to_string(&mut answer)?;
    Ok(answer)
}
