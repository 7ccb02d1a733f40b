//! Alertmanager, a receiver behind it, and a witness between it and us.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::server::{Program, Server};

const ALERTMANAGER: Program = Program { name: "prometheus-alertmanager", package: "prometheus-alertmanager" };

/// An Alertmanager that tells a hook of every alert by itself and at once.
pub struct Alertmanager {
    server: Option<Server>,
    arguments: Vec<String>,
    port: u16,
    /// Its files outlive a stop.
    _folder: tempfile::TempDir,
}

impl Alertmanager {
    pub fn start(hook: &Hook) -> Alertmanager {
        let folder = tempfile::tempdir().expect("a folder");
        let config = folder.path().join("alertmanager.yml");
        let yaml = format!(
            "route: {{ receiver: hook, group_by: ['...'], group_wait: 0s, group_interval: 1s, repeat_interval: 1h }}\n\
             receivers: [ {{ name: hook, webhook_configs: [ {{ url: \"http://127.0.0.1:{}/\" }} ] }} ]\n",
            hook.port
        );
        std::fs::write(&config, yaml).expect("a file");
        let arguments = |port: u16| {
            vec![
                format!("--config.file={}", config.display()),
                format!("--storage.path={}", folder.path().join("data").display()),
                format!("--web.listen-address=127.0.0.1:{port}"),
                "--cluster.listen-address=".to_string(),
            ]
        };
        let server = Server::start(ALERTMANAGER, 1, |_, ports| arguments(ports[0]));
        let port = server.port();
        let arguments = arguments(port);
        let alertmanager = Alertmanager { server: Some(server), arguments, port, _folder: folder };
        alertmanager.wait();
        alertmanager
    }

    fn wait(&self) {
        crate::until("Alertmanager is ready", || {
            ask(self.port, "/-/ready").filter(|(status, _)| *status == 200)
        });
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What it takes to fire.
    pub fn alerts(&self) -> Vec<Value> {
        let (status, body) = ask(self.port, "/api/v2/alerts").unwrap_or((0, String::new()));
        if status != 200 {
            return Vec::new();
        }
        serde_json::from_str(&body).expect("a list")
    }

    /// Ends it in an orderly way: what it has told it remembers.
    pub fn stop(&mut self) {
        self.server.take().into_iter().for_each(Server::stop);
    }

    pub fn start_again(&mut self) {
        let arguments = self.arguments.clone();
        let server = Server::start_on(ALERTMANAGER, vec![self.port], &arguments);
        self.server = Some(server);
        self.wait();
    }
}

/// Status and body of a `GET`; none if there is no answer.
fn ask(port: u16, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\nhost: t\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_string()))
}

/// What Alertmanager told: host, status, start and end.
pub type Told = (String, String, String, String);

/// A receiver behind Alertmanager that takes everything; it ends with the process.
pub struct Hook {
    port: u16,
    told: Arc<Mutex<Vec<Told>>>,
}

impl Hook {
    pub fn start() -> Hook {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("it is bound").port();
        let told = Arc::new(Mutex::new(Vec::new()));
        let record = told.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let Some(request) = Request::read(&stream) else { continue };
                let body: Value = serde_json::from_slice(&request.body).expect("JSON");
                let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
                let alerts = body["alerts"].as_array().expect("a list").iter().map(|alert| {
                    let [status, start, end] = ["status", "startsAt", "endsAt"].map(|key| text(&alert[key]));
                    (text(&alert["labels"]["host"]), status, start, end)
                });
                record.lock().expect("nobody panics").extend(alerts);
                answer(&stream, b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
            }
        });
        Hook { port, told }
    }

    pub fn told(&self) -> Vec<Told> {
        self.told.lock().expect("nobody panics").clone()
    }
}

/// What was sent and taken: host, start, and whether it says that the alert has ended.
pub type Taken = (String, String, bool);

/// Passes requests on and writes down the alerts of those that were taken.
pub struct Witness {
    port: u16,
    taken: Arc<Mutex<Vec<Taken>>>,
}

impl Witness {
    /// One before a port of this machine; where nobody listens there, it hangs up.
    pub fn before(port: u16) -> Witness {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let own_port = listener.local_addr().expect("it is bound").port();
        let taken = Arc::new(Mutex::new(Vec::new()));
        let record = taken.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let record = record.clone();
                std::thread::spawn(move || pass_on(&stream, port, &record));
            }
        });
        Witness { port: own_port, taken }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn taken(&self) -> Vec<Taken> {
        self.taken.lock().expect("nobody panics").clone()
    }
}

fn pass_on(stream: &TcpStream, port: u16, record: &Mutex<Vec<Taken>>) -> Option<()> {
    let request = Request::read(stream)?;
    let mut peer = TcpStream::connect(("127.0.0.1", port)).ok()?;
    let head = format!(
        "{} HTTP/1.0\r\nhost: t\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        request.line,
        request.body.len()
    );
    peer.write_all(head.as_bytes()).ok()?;
    peer.write_all(&request.body).ok()?;
    let mut said = Vec::new();
    peer.read_to_end(&mut said).ok()?;
    if said.starts_with(b"HTTP/1.0 200") && request.line.starts_with("POST /api/v2/alerts") {
        let alerts: Vec<Value> = serde_json::from_slice(&request.body).expect("a list");
        let now = jiff::Timestamp::now();
        let taken = alerts.iter().map(|alert| {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
            let end: jiff::Timestamp = text(&alert["endsAt"]).parse().expect("a time");
            (text(&alert["labels"]["host"]), text(&alert["startsAt"]), end <= now)
        });
        record.lock().expect("nobody panics").extend(taken);
    }
    answer(stream, &said);
    Some(())
}

/// The other side may have gone.
fn answer(mut stream: &TcpStream, bytes: &[u8]) {
    let _ = stream.write_all(bytes);
}

/// A request with its body.
struct Request {
    /// Method and path.
    line: String,
    body: Vec<u8>,
}

impl Request {
    fn read(stream: &TcpStream) -> Option<Request> {
        let mut stream = BufReader::new(stream);
        let (mut first, mut len) = (String::new(), 0);
        stream.read_line(&mut first).ok()?;
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).ok().filter(|read| *read > 0)?;
            if line == "\r\n" {
                break;
            }
            if let Some(text) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                len = text.trim().parse().ok()?;
            }
        }
        let mut body = vec![0; len];
        stream.read_exact(&mut body).ok()?;
        Some(Request { line: first.rsplit_once(' ')?.0.to_string(), body })
    }
}
