//! A server that answers as it is told to and records what it was sent, in the clear or over TLS; it ends with the
//! process.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;

/// A request.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Method and path.
    pub line: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub bytes: Vec<u8>,
    /// The body, where it is JSON.
    pub body: Value,
}

/// Status and body of the answer to a request.
type Answers = Box<dyn FnMut(&Seen) -> (u16, &'static str) + Send>;

struct Shared {
    seen: Mutex<Vec<Seen>>,
    answers: Mutex<Answers>,
}

pub struct Server {
    address: SocketAddr,
    is_tls: bool,
    shared: Arc<Shared>,
}

impl Server {
    /// In the clear; `answers` is given method and path.
    pub fn start(answers: fn(&str) -> (u16, &'static str)) -> Server {
        Server::start_with(move |seen: &Seen| answers(&seen.line))
    }

    pub fn start_with(answers: impl FnMut(&Seen) -> (u16, &'static str) + Send + 'static) -> Server {
        Server::on(Box::new(answers), None)
    }

    /// Over TLS, as receiver.example, to clients whose certificate its CA has signed.
    pub fn start_tls(answers: fn(&str) -> (u16, &'static str)) -> Server {
        Server::on(Box::new(move |seen: &Seen| answers(&seen.line)), Some(tls()))
    }

    fn on(answers: Answers, tls: Option<Arc<ServerConfig>>) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::new(Shared { seen: Mutex::default(), answers: Mutex::new(answers) });
        let is_tls = tls.is_some();
        std::thread::spawn({
            let shared = shared.clone();
            move || {
                for stream in listener.incoming().map_while(Result::ok) {
                    let (shared, tls) = (shared.clone(), tls.clone());
                    std::thread::spawn(move || match tls {
                        None => serve(stream, &shared),
                        Some(tls) => {
                            let connection = ServerConnection::new(tls).expect("its settings are sound");
                            serve(StreamOwned::new(connection, stream), &shared)
                        }
                    });
                }
            }
        });
        Server { address, is_tls, shared }
    }

    pub fn answer_with(&self, answers: fn(&str) -> (u16, &'static str)) {
        let answers = move |seen: &Seen| answers(&seen.line);
        *self.shared.answers.lock().expect("nobody panics") = Box::new(answers);
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", if self.is_tls { "https" } else { "http" }, self.address)
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().expect("nobody panics").clone()
    }
}

fn tls() -> Arc<ServerConfig> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let certificates = |pem: &[u8]| -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_slice_iter(pem).map(|certificate| certificate.expect("PEM")).collect()
    };
    let mut roots = RootCertStore::empty();
    roots.add(certificates(include_bytes!("ca.pem")).remove(0)).expect("it is a CA");
    let clients = WebPkiClientVerifier::builder(Arc::new(roots)).build().expect("there is a CA");
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("server.key")).expect("PEM");
    let config = ServerConfig::builder()
        .with_client_cert_verifier(clients)
        .with_single_cert(certificates(include_bytes!("server.pem")), key);
    Arc::new(config.expect("they belong together"))
}

/// Answers requests until the other side goes.
fn serve(stream: impl Read + Write, shared: &Shared) {
    let mut stream = BufReader::new(stream);
    while let Some(seen) = read(&mut stream) {
        let (status, body) = (shared.answers.lock().expect("nobody panics"))(&seen);
        shared.seen.lock().expect("nobody panics").push(seen);
        let answer = format!("HTTP/1.1 {status} .\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        if stream.get_mut().write_all(answer.as_bytes()).and_then(|()| stream.get_mut().flush()).is_err() {
            return;
        }
    }
}

fn read(stream: &mut impl BufRead) -> Option<Seen> {
    let mut line = String::new();
    stream.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let first = line.rsplit_once(' ')?.0.to_string();
    let mut headers = Vec::new();
    loop {
        line.clear();
        stream.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let Some((name, value)) = line.split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_string()));
    }
    let len = headers.iter().find(|(name, _)| name == "content-length").map_or("0", |(_, value)| value);
    let mut bytes = vec![0; len.parse().ok()?];
    stream.read_exact(&mut bytes).ok()?;
    let body = serde_json::from_slice(&bytes).unwrap_or_default();
    Some(Seen { line: first, headers, bytes, body })
}
