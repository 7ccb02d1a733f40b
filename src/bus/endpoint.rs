//! Endpoints: where to connect or bind, as libzmq and czmq write them.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::BusError;

/// Who waits for whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Attach {
    /// We connect to the peer, and again whenever it was away. czmq's prefix `>`.
    Connect,
    /// Peers connect to us. czmq's prefix `@`.
    Bind,
}

/// A place on the bus and how to attach to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Connect or bind.
    pub attach: Attach,
    /// Where.
    pub address: Address,
}

/// A place on the bus.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// `tcp://host:port`
    Tcp {
        /// Name or address of the host; `0.0.0.0` where `*` was written.
        host: String,
        /// Port; 0 (bind only) lets the system choose.
        port: u16,
    },
    /// `ipc:///path`
    Ipc(PathBuf),
}

const SHAPE: &str = "tcp://HOST:PORT or ipc://PATH, optionally after > (connect) or @ (bind)";

impl Endpoint {
    /// Reads one endpoint. A leading `>` or `@` decides how to attach, otherwise `attach` does.
    ///
    /// # Errors
    /// [`BusError::Endpoint`] says what was expected.
    pub fn parse(text: &str, attach: Attach) -> Result<Self, BusError> {
        let wrong = |expected| BusError::Endpoint { text: text.to_owned(), expected };
        let trimmed = text.trim();
        let (attach, rest) = match trimmed.as_bytes().first() {
            Some(b'>') => (Attach::Connect, &trimmed[1..]),
            Some(b'@') => (Attach::Bind, &trimmed[1..]),
            _ => (attach, trimmed),
        };
        let address = if let Some(place) = rest.strip_prefix("tcp://") {
            tcp_address(place, attach).map_err(wrong)?
        } else if let Some(path) = rest.strip_prefix("ipc://") {
            ipc_address(path).map_err(wrong)?
        } else {
            return Err(wrong(SHAPE));
        };
        Ok(Self { attach, address })
    }

    /// Reads a list of endpoints separated by commas, as czmq does.
    ///
    /// # Errors
    /// [`BusError::Endpoint`] for the first that is wrong, or if there is none.
    pub fn parse_list(text: &str, attach: Attach) -> Result<Vec<Self>, BusError> {
        text.split(',').map(|part| Self::parse(part, attach)).collect()
    }
}

impl FromStr for Endpoint {
    type Err = BusError;

    /// Reads one endpoint; without a prefix it is connected to.
    fn from_str(text: &str) -> Result<Self, BusError> {
        Self::parse(text, Attach::Connect)
    }
}

fn tcp_address(place: &str, attach: Attach) -> Result<Address, &'static str> {
    if place.contains(';') {
        return Err("one address (a source address before ; is not supported)");
    }
    let (host, port) = place.rsplit_once(':').ok_or("a port after the host")?;
    let port = match (port, attach) {
        ("*", Attach::Bind) => 0,
        _ => port.parse().map_err(|_| "a port from 0 to 65535")?,
    };
    if port == 0 && attach == Attach::Connect {
        return Err("a port above 0 to connect to");
    }
    let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    let host = match (host, attach) {
        ("", _) => return Err("a host before the port"),
        ("*", Attach::Bind) => "0.0.0.0",
        ("*", Attach::Connect) => return Err("a host to connect to (* can only be bound)"),
        (name, _) => name,
    };
    Ok(Address::Tcp { host: host.to_owned(), port })
}

fn ipc_address(path: &str) -> Result<Address, &'static str> {
    match path.as_bytes().first() {
        None => Err("a path after ipc://"),
        Some(b'@') => Err("a path in the file system (abstract names are not supported)"),
        Some(_) => Ok(Address::Ipc(PathBuf::from(path))),
    }
}

impl fmt::Display for Endpoint {
    /// As czmq writes it, with the prefix.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = match self.attach {
            Attach::Connect => '>',
            Attach::Bind => '@',
        };
        write!(f, "{prefix}{}", self.address)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "tcp://[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "tcp://{host}:{port}"),
            Self::Ipc(path) => write!(f, "ipc://{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_that_are_understood() {
        let cases = [
            ("tcp://localhost:11001", ">tcp://localhost:11001"),
            (">tcp://localhost:13001", ">tcp://localhost:13001"),
            ("@tcp://127.0.0.1:13000", "@tcp://127.0.0.1:13000"),
            ("@tcp://*:13000", "@tcp://0.0.0.0:13000"),
            ("@tcp://*:*", "@tcp://0.0.0.0:0"),
            ("@tcp://127.0.0.1:0", "@tcp://127.0.0.1:0"),
            (" tcp://[::1]:5555 ", ">tcp://[::1]:5555"),
            ("@ipc:///tmp/bus", "@ipc:///tmp/bus"),
        ];
        for (text, shown) in cases {
            let endpoint: Endpoint = text.parse().unwrap();
            assert_eq!(endpoint.to_string(), shown, "{text}");
        }
        let bound = Endpoint::parse("tcp://*:1", Attach::Bind).unwrap();
        assert_eq!(bound.attach, Attach::Bind);
    }

    #[test]
    fn endpoints_that_are_not() {
        let cases = [
            ("", "HOST:PORT"),
            ("localhost:11001", "HOST:PORT"),
            ("udp://localhost:1", "HOST:PORT"),
            ("tcp://localhost", "port"),
            ("tcp://localhost:", "0 to 65535"),
            ("tcp://localhost:65536", "0 to 65535"),
            ("tcp://localhost:0", "above 0"),
            ("tcp://*:5", "only be bound"),
            ("tcp://localhost:*", "0 to 65535"),
            ("tcp://:5", "a host"),
            ("tcp://1.2.3.4:0;5.6.7.8:1", "source address"),
            ("ipc://", "a path"),
            ("ipc://@x", "abstract"),
        ];
        for (text, part) in cases {
            let error = text.parse::<Endpoint>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn a_list_as_czmq_writes_it() {
        let list = Endpoint::parse_list("@tcp://127.0.0.1:1,>tcp://b:2,tcp://c:3", Attach::Bind).unwrap();
        let shown: Vec<String> = list.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["@tcp://127.0.0.1:1", ">tcp://b:2", "@tcp://c:3"]);
        assert!(Endpoint::parse_list("tcp://a:1,,tcp://b:2", Attach::Connect).is_err());
    }
}
