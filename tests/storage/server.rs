//! Servers of others: each test starts its own on free ports of the loopback, in a directory of its own, and ends
//! it by its process id.

#![allow(dead_code, reason = "each test file uses its part of it")]

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// Longest wait for anything that should happen.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A program that a Debian package brings.
#[derive(Clone, Copy)]
pub struct Program {
    pub name: &'static str,
    pub package: &'static str,
}

/// A server as long as this lives.
pub struct Server {
    child: Child,
    directory: TempDir,
    ports: Vec<u16>,
}

impl Server {
    /// Starts `program` and waits until it answers on its first port. `arguments` is given the directory and as
    /// many free ports as are asked for.
    pub fn start(
        program: Program,
        ports: usize,
        mut arguments: impl FnMut(&Path, &[u16]) -> Vec<String>,
    ) -> Server {
        // Another process may take a free port before the server does.
        for _ in 0..3 {
            let directory = tempfile::tempdir().unwrap();
            let ports = free_ports(ports);
            let arguments = arguments(directory.path(), &ports);
            let child = spawn(program, &arguments, directory.path());
            let mut server = Server { child, directory, ports };
            if server.answers() {
                return server;
            }
            eprintln!("{} ended at once:\n{}", program.name, server.log());
        }
        panic!("{} did not start", program.name);
    }

    /// Starts `program` once more on ports that were its own, in a new directory for its log.
    pub fn start_on(program: Program, ports: Vec<u16>, arguments: &[String]) -> Server {
        let directory = tempfile::tempdir().unwrap();
        let child = spawn(program, arguments, directory.path());
        let mut server = Server { child, directory, ports };
        assert!(server.answers(), "{}", server.log());
        server
    }

    /// The first port.
    pub fn port(&self) -> u16 {
        self.ports[0]
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port())
    }

    /// Where its files are.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// What it printed.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// Ends it in an orderly way.
    pub fn stop(mut self) {
        self.end(Signal::TERM);
    }

    /// Ends it in an orderly way, starts it again on the same ports and directory, and waits until it answers.
    pub fn restart(&mut self, program: Program, arguments: &[String], meanwhile: impl FnOnce()) {
        self.end(Signal::TERM);
        meanwhile();
        self.child = spawn(program, arguments, self.directory.path());
        assert!(self.answers(), "{}", self.log());
    }

    fn end(&mut self, signal: Signal) {
        let _ = kill_process(Pid::from_child(&self.child), signal);
        self.child.wait().unwrap();
    }

    /// Waits until it takes connections; says whether it did before it ended.
    fn answers(&mut self) -> bool {
        let port = self.port();
        let child = &mut self.child;
        until("the server takes connections", || {
            if child.try_wait().unwrap().is_some() {
                return Some(false);
            }
            std::net::TcpStream::connect(("127.0.0.1", port)).ok().map(|_| true)
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("the server's last words:\n{}", lines[lines.len().saturating_sub(20)..].join("\n"));
        }
    }
}

fn spawn(program: Program, arguments: &[String], directory: &Path) -> Child {
    let log = File::options().create(true).append(true).open(directory.join("log")).unwrap();
    Command::new(path_of(program))
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}

fn path_of(program: Program) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/bin".into()]);
    let found = folders.map(|folder| folder.join(program.name)).find(|path| path.is_file());
    let Program { name, package } = program;
    found.unwrap_or_else(|| panic!("no {name} here: install {package} (Debian: apt install {package})"))
}

/// Ports that were free a moment ago.
pub fn free_ports(count: usize) -> Vec<u16> {
    let listeners: Vec<_> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    listeners.iter().map(|listener| listener.local_addr().unwrap().port()).collect()
}

/// Asks again and again until there is an answer.
pub fn until<T>(what: &str, mut answer: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = answer() {
            return answer;
        }
        assert!(Instant::now() < end, "waited too long: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
