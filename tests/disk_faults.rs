//! The whole service over a disk that fails: full, and errors at every write and every sync. While it lasts the API
//! answers 503 with Retry-After and queries stay up; afterwards it goes on at once, and nothing acknowledged is lost.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use plantd_metric::journal::files::Files;
use plantd_metric::journal::simulated::{Call, Fault, SimulatedDisk};
use plantd_metric::service::{Service, wall_clock};

#[allow(dead_code, reason = "each file of tests uses its part")]
#[path = "durability/bodies.rs"]
mod bodies;
#[allow(dead_code, reason = "each file of tests uses its part")]
#[path = "durability/program.rs"]
mod program;
#[allow(dead_code, reason = "each file of tests uses its part")]
#[path = "service/running.rs"]
mod running;

use bodies::{SAMPLES, Told, balance, body};
use program::{Answer, Client};

const BATCH: &str = "/api/v1/metrics/batch";

/// A consumer in this process whose journal is on a simulated disk.
struct Rig {
    runtime: tokio::runtime::Runtime,
    service: Option<Service>,
    http: SocketAddr,
}

impl Rig {
    fn start(disk: &SimulatedDisk) -> Rig {
        let folder = tempfile::tempdir().expect("a folder");
        let yaml = "storage:\n  type: none\njournal:\n  path: /journal\n  segment_size: 1MiB\ningest:\n  ack_timeout: 2s\n";
        let settings = running::settings(yaml, folder.path());
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.expect("threads for the service");
        let files: Arc<dyn Files> = Arc::new(disk.clone());
        let service = runtime.block_on(Service::start_on(&settings, wall_clock(), files));
        let service = service.expect("the service starts");
        let http = service.http_addr.expect("the API is on");
        Rig { runtime, service: Some(service), http }
    }

    fn stop(mut self) {
        if let Some(service) = self.service.take() {
            self.runtime.block_on(service.stop());
        }
    }
}

fn post(http: SocketAddr, sender: u64, number: u64) -> Answer {
    Client::new(http).send("POST", BATCH, &[], &body(sender, number)).expect("an answer")
}

/// Posts bodies until one is accepted; gives how many were refused, and how long the acceptance took to come.
fn post_until_accepted(http: SocketAddr, told: &mut Vec<Told>) -> Duration {
    let began = Instant::now();
    loop {
        let answer = post(http, 0, told.len() as u64);
        match answer.status {
            200 => {
                told.push(Told::Accepted);
                return began.elapsed();
            }
            503 => {
                assert!(answer.head.to_ascii_lowercase().contains("retry-after: 1"), "{}", answer.head);
                // Refused at the door or not written in time: in the second case it may still come.
                told.push(Told::Refused);
            }
            other => panic!("expected 200 or 503, found {other}: {}", answer.body),
        }
        assert!(began.elapsed() < Duration::from_secs(30), "refused for too long: {}", answer.body);
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_full_disk_costs_nothing_acknowledged_and_intake_resumes_within_a_second() {
    let disk = SimulatedDisk::new(1);
    let rig = Rig::start(&disk);
    let mut told = Vec::new();
    for _ in 0..5 {
        post_until_accepted(rig.http, &mut told);
    }
    for _ in 0..3 {
        disk.set_space(Some(disk.used() + 3_000));
        let mut refused = 0;
        while refused < 3 {
            let answer = post(rig.http, 0, told.len() as u64);
            told.push(if answer.status == 200 { Told::Accepted } else { Told::Refused });
            if answer.status == 503 {
                assert!(answer.head.to_ascii_lowercase().contains("retry-after: 1"), "{}", answer.head);
                assert!(answer.body.contains("journal"), "{}", answer.body);
                refused += 1;
            }
            let query =
                Client::new(rig.http).send("GET", "/api/v1/metrics/aggregate?metric=m0&func=sum", &[], "");
            assert_eq!(query.expect("queries stay up").status, 200);
        }
        disk.set_space(None);
        let took = post_until_accepted(rig.http, &mut told);
        assert!(took < Duration::from_secs(1), "{took:?} after there was room again");
    }
    check(rig, &disk, told);
}

#[test]
fn an_error_at_any_write_or_sync_costs_nothing_acknowledged() {
    for call in [Call::Write, Call::Sync, Call::SyncDir, Call::Create, Call::Truncate] {
        for after in 0..6 {
            for times in [1, 3] {
                let disk = SimulatedDisk::new(after);
                let rig = Rig::start(&disk);
                let mut told = Vec::new();
                post_until_accepted(rig.http, &mut told);
                let error = std::io::ErrorKind::Other;
                disk.fail(Fault { call, from: disk.calls(call) + after, times, error });
                for _ in 0..10 {
                    post_until_accepted(rig.http, &mut told);
                }
                check(rig, &disk, told);
            }
        }
    }
}

/// Both the windows of the process that went through it, and those of one that starts after a power loss, hold
/// what was acknowledged.
fn check(rig: Rig, disk: &SimulatedDisk, told: Vec<Told>) {
    let told = BTreeMap::from([(0, told)]);
    let accepted = told[&0].iter().filter(|t| **t == Told::Accepted).count() as u64;
    // An answer says that samples are safe; they are visible a moment later.
    let sealed = program::json(rig.http, "/status")["epoch"]["sealed"].as_u64().expect("a number");
    running::until("all is visible", || {
        let completed = program::json(rig.http, "/status")["epoch"]["completed"].as_u64().expect("a number");
        (completed >= sealed).then_some(())
    });
    let windows = balance(rig.http, &told);
    assert!(windows.lost.is_empty() && windows.wrong.is_empty(), "{windows:?}");
    let after_power_loss = disk.power_loss(7);
    rig.stop();
    for disk in [&after_power_loss, disk] {
        disk.heal();
        let rig = Rig::start(disk);
        let windows = balance(rig.http, &told);
        assert!(windows.lost.is_empty() && windows.wrong.is_empty(), "{windows:?}");
        assert_eq!(windows.kept, accepted, "{SAMPLES} samples each: {windows:?}");
        rig.stop();
    }
}
