//! A scripted HTTP server for the tests of sinks: it records every request and answers as it is told.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

/// A request as it came over the wire.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// `POST /write?db=x HTTP/1.1`.
    pub line: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// The path and query.
    pub fn path(&self) -> &str {
        self.line.split(' ').nth(1).unwrap_or_default()
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }
}

/// What the server does with a request.
#[derive(Clone, Debug)]
pub enum Reply {
    /// Status line without the version (`204 No Content`), headers, body.
    Answer(&'static str, Vec<(&'static str, String)>, Vec<u8>),
    /// No answer for this long, then the connection is closed.
    Silence(Duration),
}

impl Reply {
    pub fn status(status: &'static str) -> Reply {
        Reply::Answer(status, Vec::new(), Vec::new())
    }

    pub fn text(status: &'static str, body: &str) -> Reply {
        Reply::Answer(status, Vec::new(), body.into())
    }

    pub fn and(mut self, name: &'static str, value: &str) -> Reply {
        if let Reply::Answer(_, headers, _) = &mut self {
            headers.push((name, value.into()));
        }
        self
    }
}

type Script = Arc<Mutex<dyn FnMut(&Request) -> Reply + Send>>;

/// A server on a port of its own, which ends with the test's process.
pub struct FakeServer {
    pub address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl FakeServer {
    pub fn start(script: impl FnMut(&Request) -> Reply + Send + 'static) -> FakeServer {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let record = Arc::clone(&requests);
        let script: Script = Arc::new(Mutex::new(script));
        std::thread::spawn(move || {
            for connection in listener.incoming().map_while(Result::ok) {
                let (script, record) = (Arc::clone(&script), Arc::clone(&record));
                std::thread::spawn(move || serve(connection, &script, &record));
            }
        });
        FakeServer { address, requests }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The requests so far.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().clone()
    }

    /// The only request so far.
    pub fn request(&self) -> Request {
        let requests = self.requests();
        assert_eq!(requests.len(), 1, "{requests:?}");
        requests[0].clone()
    }
}

fn serve(connection: TcpStream, script: &Script, record: &Mutex<Vec<Request>>) {
    let mut connection = BufReader::new(connection);
    while let Some(request) = read(&mut connection) {
        record.lock().push(request.clone());
        let reply = (script.lock())(&request);
        let (status, headers, body) = match reply {
            Reply::Answer(status, headers, body) => (status, headers, body),
            Reply::Silence(wait) => return std::thread::sleep(wait),
        };
        let mut answer = format!("HTTP/1.1 {status}\r\n");
        for (name, value) in headers {
            answer.push_str(&format!("{name}: {value}\r\n"));
        }
        if !status.starts_with("204") {
            answer.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        answer.push_str("\r\n");
        let bytes = [answer.as_bytes(), &body].concat();
        if connection.get_mut().write_all(&bytes).is_err() {
            return;
        }
    }
}

fn read(connection: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if connection.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_string()),
        }
    }
    let header = |line: &String| {
        let (name, value) = line.split_once(": ").unwrap_or((line, ""));
        (name.to_ascii_lowercase(), value.to_string())
    };
    let mut request =
        Request { line: lines.remove(0), headers: lines.iter().map(header).collect(), body: Vec::new() };
    let length = request.header("content-length").and_then(|value| value.parse().ok()).unwrap_or(0);
    request.body = vec![0; length];
    connection.read_exact(&mut request.body).ok()?;
    Some(request)
}
