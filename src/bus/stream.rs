//! Sockets of the operating system: TCP and `ipc`, connected and bound.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::time::timeout;

use super::LinkConfig;
use super::endpoint::Address;

/// A connection, before anything is said.
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    pub(super) async fn connect(address: &Address, config: &LinkConfig) -> io::Result<Self> {
        let (host, port) = match address {
            Address::Ipc(path) => return Ok(Self::Unix(UnixStream::connect(path).await?)),
            Address::Tcp { host, port } => (host.as_str(), *port),
        };
        let mut trouble = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
        for place in resolve(host, port).await? {
            match timeout(config.connect_timeout, TcpStream::connect(place)).await {
                Ok(Ok(stream)) => {
                    let stream = Self::Tcp(stream);
                    stream.tune(config)?;
                    return Ok(stream);
                }
                Ok(Err(error)) => trouble = error,
                Err(_) => {
                    trouble = io::Error::new(io::ErrorKind::TimedOut, "no answer to the connection request");
                }
            }
        }
        Err(trouble)
    }

    /// Without delay, and with keepalive: a host that vanished is noticed even by peers that send no heartbeats.
    pub(super) fn tune(&self, config: &LinkConfig) -> io::Result<()> {
        let Self::Tcp(stream) = self else {
            return Ok(());
        };
        stream.set_nodelay(true)?;
        if !config.tcp_keepalive.is_zero() {
            let interval = (config.tcp_keepalive / 3).max(Duration::from_secs(1));
            let keepalive = socket2::TcpKeepalive::new()
                .with_time(config.tcp_keepalive.max(Duration::from_secs(1)))
                .with_interval(interval)
                .with_retries(3);
            socket2::SockRef::from(stream).set_tcp_keepalive(&keepalive)?;
        }
        Ok(())
    }

    pub(super) fn split(self) -> (Box<dyn AsyncRead + Send + Unpin>, Box<dyn AsyncWrite + Send + Unpin>) {
        match self {
            Self::Tcp(stream) => {
                let (reader, writer) = stream.into_split();
                (Box::new(reader), Box::new(writer))
            }
            Self::Unix(stream) => {
                let (reader, writer) = stream.into_split();
                (Box::new(reader), Box::new(writer))
            }
        }
    }
}

/// Addresses of a host, IPv4 first as libzmq prefers it: `localhost` shall mean the same to both ends.
async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let mut places: Vec<SocketAddr> = tokio::net::lookup_host((host, port)).await?.collect();
    places.sort_by_key(SocketAddr::is_ipv6);
    Ok(places)
}

/// A bound endpoint.
pub(super) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

impl Listener {
    pub(super) async fn bind(address: &Address) -> io::Result<Self> {
        match address {
            Address::Tcp { host, port } => {
                let places = resolve(host, *port).await?;
                Ok(Self::Tcp(TcpListener::bind(&places[..]).await?))
            }
            Address::Ipc(path) => {
                remove_stale(path).await;
                Ok(Self::Unix(UnixListener::bind(path)?, path.clone()))
            }
        }
    }

    pub(super) fn local_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok(),
            Self::Unix(..) => None,
        }
    }

    pub(super) async fn accept(&self) -> io::Result<(Stream, String)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                Ok((Stream::Tcp(stream), peer.to_string()))
            }
            Self::Unix(listener, path) => {
                let (stream, _) = listener.accept().await?;
                Ok((Stream::Unix(stream), path.display().to_string()))
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Self::Unix(_, path) = self {
            // Nobody can connect to it any more; if it can't be removed, the next bind will try.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Removes a socket file that nobody listens at.
async fn remove_stale(path: &Path) {
    if let Err(error) = UnixStream::connect(path).await
        && error.kind() == io::ErrorKind::ConnectionRefused
    {
        let _ = std::fs::remove_file(path);
    }
}
