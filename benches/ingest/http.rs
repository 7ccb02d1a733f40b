//! HTTP/1.1 on bare sockets, kept open: what it costs is the other side's affair.

use std::io::{self, Error, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection that is used again and again.
pub struct Connection {
    stream: TcpStream,
    /// What was read and not yet looked at.
    read: Vec<u8>,
}

/// What came back.
pub struct Answer {
    pub status: u16,
    /// Whether a `Retry-After` stood beside it.
    pub retry_after: bool,
    pub body: Vec<u8>,
}

impl Answer {
    /// Whether all was taken in.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status) && self.status != 207
    }
}

impl Connection {
    /// Connects to a port of this machine.
    pub fn open(port: u16) -> io::Result<Connection> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Connection { stream, read: Vec::new() })
    }

    /// Sends a whole request and reads the whole answer.
    pub fn exchange(&mut self, request: &[u8]) -> io::Result<Answer> {
        self.stream.write_all(request)?;
        let head_len = loop {
            match self.read.windows(4).position(|part| part == b"\r\n\r\n") {
                Some(at) => break at + 4,
                None => self.read_more()?,
            }
        };
        let head = String::from_utf8_lossy(&self.read[..head_len]).to_ascii_lowercase();
        let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
        let status = status.ok_or_else(|| Error::other(format!("expected a status line, found {head:?}")))?;
        let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        if field("transfer-encoding:").is_some() {
            return Err(Error::other("expected an answer with its length, found a chunked one"));
        }
        let retry_after = field("retry-after:").is_some();
        let end = head_len + field("content-length:").and_then(|len| len.parse().ok()).unwrap_or(0);
        while self.read.len() < end {
            self.read_more()?;
        }
        let body = self.read[head_len..end].to_vec();
        self.read.drain(..end);
        Ok(Answer { status, retry_after, body })
    }

    /// Asks for a path.
    pub fn get(&mut self, path: &str) -> io::Result<Answer> {
        self.exchange(format!("GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n").as_bytes())
    }

    fn read_more(&mut self) -> io::Result<()> {
        let mut part = [0; 16 * 1024];
        match self.stream.read(&mut part)? {
            0 => Err(Error::other("connection closed before the answer was complete")),
            len => {
                self.read.extend_from_slice(&part[..len]);
                Ok(())
            }
        }
    }
}

/// A request with a body.
pub fn post(path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let len = body.len();
    let head = format!("POST {path} HTTP/1.1\r\nHost: bench\r\n{headers}Content-Length: {len}\r\n\r\n");
    [head.as_bytes(), body].concat()
}
