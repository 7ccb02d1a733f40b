//! What was acknowledged is there once: kill -9, SIGTERM, repeated requests and a full disk, under load over HTTP.
//!
//! `DURABILITY_KILLS=200 cargo test --release --test durability -- --nocapture` is the long run.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

#[path = "durability/bodies.rs"]
mod bodies;
#[allow(dead_code, reason = "each file of tests uses its part")]
#[path = "durability/program.rs"]
mod program;
#[path = "durability/watched.rs"]
mod watched;

use bodies::{Balance, Content, MESSAGES, SAMPLES, Told, balance, balance_and_taken, body};
use program::{Client, Program};

/// Senders at a time.
const SENDERS: u64 = 4;
const BATCH: &str = "/api/v1/metrics/batch";
/// Samples acknowledged before each end of a program, at least.
const ROUND: u64 = 10_000;

/// Kills and stops of the short run; the long one is asked for by a variable.
fn rounds(variable: &str, short: u64) -> u64 {
    std::env::var(variable).map_or(short, |text| text.parse().expect("a number"))
}

/// What each sender was told, and where it may send now.
struct Load {
    told: Mutex<BTreeMap<u64, Vec<Told>>>,
    target: Mutex<Option<SocketAddr>>,
    accepted: AtomicU64,
    over: AtomicBool,
}

impl Load {
    fn new() -> Load {
        let told = (0..SENDERS).map(|sender| (sender, Vec::new())).collect();
        Load {
            told: Mutex::new(told),
            target: Mutex::new(None),
            accepted: AtomicU64::new(0),
            over: AtomicBool::new(false),
        }
    }

    fn set_target(&self, target: Option<SocketAddr>) {
        *self.target.lock().expect("no sender panicked") = target;
    }

    /// Sends bodies as fast as they are answered, each once, until it is over.
    fn send_until_over(&self, sender: u64) {
        let mut client: Option<(SocketAddr, Client)> = None;
        let mut number = 0;
        while !self.over.load(Ordering::SeqCst) {
            let Some(target) = *self.target.lock().expect("no sender panicked") else {
                std::thread::sleep(Duration::from_millis(1));
                continue;
            };
            if client.as_ref().is_none_or(|(known, _)| *known != target) {
                client = Some((target, Client::new(target)));
            }
            let Some((_, connection)) = &mut client else { continue };
            let (body, samples) = watched::body(sender, number);
            let told = match connection.send("POST", BATCH, &[], &body) {
                Some(answer) if answer.status == 200 => Told::Accepted,
                Some(answer) => {
                    assert_eq!(answer.status, 503, "{}", answer.body);
                    Told::Refused
                }
                None => Told::Nothing,
            };
            if told == Told::Accepted {
                self.accepted.fetch_add(samples, Ordering::SeqCst);
            }
            self.told.lock().expect("no sender panicked").entry(sender).or_default().push(told);
            number += 1;
            if told != Told::Accepted {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }

    /// Ends the load and gives what everybody was told.
    fn end(&self) -> BTreeMap<u64, Vec<Told>> {
        self.over.store(true, Ordering::SeqCst);
        self.told.lock().expect("no sender panicked").clone()
    }
}

/// What a load came to.
struct Outcome {
    balance: Balance,
    /// The numbers of each sender's bodies that are there.
    taken: BTreeMap<u64, Vec<u64>>,
    /// Bodies acknowledged, to be kept, and samples in them.
    kept: u64,
    accepted: u64,
    /// The program that has them.
    program: Program,
}

/// Runs `rounds` rounds of load, each on a program of its own over the same folder, ended by `end`.
fn under_load(
    folder: &Path,
    variables: &[(&str, &str)],
    rounds: u64,
    mut end: impl FnMut(&mut Program),
) -> Outcome {
    let load = Arc::new(Load::new());
    std::thread::scope(|scope| {
        let senders: Vec<_> = (0..SENDERS)
            .map(|sender| {
                scope.spawn({
                    let load = load.clone();
                    move || load.send_until_over(sender)
                })
            })
            .collect();
        for round in 0..rounds {
            let mut program = Program::start(folder, variables);
            let before = load.accepted.load(Ordering::SeqCst);
            load.set_target(Some(program.http));
            // Some load first, then a moment that differs from round to round.
            let began = Instant::now();
            while load.accepted.load(Ordering::SeqCst) < before + ROUND && began.elapsed() < program::PATIENCE
            {
                std::thread::sleep(Duration::from_millis(1));
            }
            std::thread::sleep(Duration::from_micros(round * 7_919 % 40_000));
            end(&mut program);
            load.set_target(None);
        }
        load.over.store(true, Ordering::SeqCst);
        for sender in senders {
            sender.join().expect("a sender panicked");
        }
    });
    let told = load.end();
    let program = Program::start(folder, variables);
    let (balance, taken) = balance_and_taken(program.http, &told);
    let kept = told.values().flatten().filter(|told| **told == Told::Accepted).count() as u64;
    Outcome { balance, taken, kept, accepted: load.accepted.load(Ordering::SeqCst), program }
}

/// Sends the same bodies, each sender's in their order, to a program that nobody interrupts.
fn uninterrupted(folder: &Path, variables: &[(&str, &str)], taken: &BTreeMap<u64, Vec<u64>>) -> Program {
    let program = Program::start(folder, variables);
    std::thread::scope(|scope| {
        for (sender, numbers) in taken {
            let mut client = Client::new(program.http);
            scope.spawn(move || {
                for number in numbers {
                    let (body, _) = watched::body(*sender, *number);
                    let answer = client.send("POST", BATCH, &[], &body).expect("an answer");
                    assert_eq!(answer.status, 200, "{}", answer.body);
                }
            });
        }
    });
    program
}

#[test]
fn nothing_acknowledged_is_lost_or_counted_twice_by_kill_9() {
    let folders = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
    let [(folder, variable), (other, _)] =
        folders.each_ref().map(|folder| (folder.path(), watched::configure(folder.path())));
    let kills = rounds("DURABILITY_KILLS", 8);
    let Outcome { balance, taken, kept, accepted, program } =
        under_load(folder, &[variable], kills, Program::kill);
    println!("{kills} kills, {accepted} samples acknowledged; bodies: {balance:?}");
    assert!(balance.lost.is_empty() && balance.wrong.is_empty(), "{balance:?}");
    assert_eq!(balance.kept, kept);
    assert!(accepted >= kills * ROUND);

    // Open windows, pending alerts and all else: as if nothing had happened.
    let other = uninterrupted(other, &[variable], &taken);
    let said = watched::compare(program.http, other.http, &taken);
    let seen = watched::Seen::of(&said);
    println!("{} answers equal to those of a run that was not interrupted: {seen:?}", said.len());
    let watched::Seen { pending, firing, open, closed, late } = seen;
    assert!(pending > 0 && firing > 0 && open > 0 && closed > 0 && late > 0, "{seen:?}");
}

#[test]
fn sigterm_under_load_leaves_nothing_to_replay() {
    let folder = tempfile::tempdir().expect("a folder");
    let stops = rounds("DURABILITY_STOPS", 4);
    let mut slowest = Duration::ZERO;
    let Outcome { balance, accepted, program, .. } = under_load(folder.path(), &[], stops, |program| {
        let (code, took) = program.terminate();
        assert_eq!(code, Some(0));
        slowest = slowest.max(took);
    });
    println!("{stops} stops, slowest {slowest:?}, {accepted} samples acknowledged; bodies: {balance:?}");
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
    assert!(balance.lost.is_empty() && balance.wrong.is_empty(), "{balance:?}");
    let mut program = program;
    program.terminate();
    let program = Program::start(folder.path(), &[]);
    let journal = &program::json(program.http, "/status")["journal"];
    assert_eq!(journal["replayed_epochs"], 0, "{journal}");
}

/// Each request three times with its key, the second and third partly after a crash; refusals are repeated too.
#[test]
fn a_repeated_request_counts_once_through_two_crashes() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut program = Program::start(folder.path(), &[]);
    let mut told: BTreeMap<u64, Vec<Told>> = BTreeMap::new();
    let (bodies, mut repeated) = (60, 0);
    for time in 0..3 {
        for sender in 0..SENDERS {
            let mut client = Client::new(program.http);
            for number in 0..bodies {
                let key = format!("\"{sender}-{number}\"");
                let headers = [("idempotency-key", key.as_str())];
                let answer = client.send("POST", BATCH, &headers, &body(sender, number)).expect("an answer");
                assert_eq!(answer.status, 200, "{}", answer.body);
                let answer: serde_json::Value = serde_json::from_str(&answer.body).expect("JSON");
                assert_eq!(answer["accepted"], SAMPLES, "{answer}");
                repeated += u64::from(answer["repeated"] == true);
                if time == 0 {
                    told.entry(sender).or_default().push(Told::Accepted);
                }
                if time == 1 && sender == 1 && number == 20 {
                    program.kill();
                    program = Program::start(folder.path(), &[]);
                    client = Client::new(program.http);
                }
            }
        }
        program.kill();
        program = Program::start(folder.path(), &[]);
    }
    let balance = balance(program.http, &told);
    assert_eq!((balance.kept, repeated), (SENDERS * bodies, 2 * SENDERS * bodies), "{balance:?}");
    assert!(balance.lost.is_empty() && balance.wrong.is_empty(), "{balance:?}");
}

/// What a window holds when a message was replaced by another one of its body, for each two of them.
#[test]
fn a_loss_and_a_duplicate_do_not_cancel_out() {
    const { assert!(MESSAGES << bodies::CHECK_BITS <= 1 << 53) };
    for (lost, twice) in (0..MESSAGES).flat_map(|a| (0..MESSAGES).map(move |b| (a, b))) {
        let places = (0..MESSAGES).map(|at| if at == lost { twice } else { at });
        let (found, whole) = (Content::of(3, 7, places), Content::of(3, 7, 0..MESSAGES));
        assert_eq!((found.counts, found.check == whole.check), (whole.counts, lost == twice));
        let mut balance = Balance::default();
        assert!(balance.note(3, 7, Told::Accepted, Some(found)));
        assert_eq!((balance.kept, balance.wrong.is_empty()), (u64::from(lost == twice), lost == twice));
    }
}
