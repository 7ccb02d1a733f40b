//! Requests over several connections at once, flat out or at a rate.

use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::bodies::{Bodies, Body, Stamp};
use crate::http::Connection;

/// Pause after a refusal or a lost connection: a sender that asks on at once measures only itself.
const PAUSE: Duration = Duration::from_millis(5);

/// How it is sent.
#[derive(Clone, Copy)]
pub struct Plan {
    pub port: u16,
    pub connections: usize,
    pub until: Until,
    /// Samples a second of all connections; 0 for as fast as they go.
    pub rate: f64,
    /// The event time that is written, where bodies carry one; else now.
    pub time_ns: Option<i64>,
}

/// When a sender is done.
#[derive(Clone, Copy)]
pub enum Until {
    /// After a time.
    Time(Duration),
    /// When each body went out so often.
    Passes(u64),
}

/// What became of it.
#[derive(Default)]
pub struct Tally {
    /// Samples acknowledged.
    pub samples: u64,
    /// Samples that the rate asked for.
    pub due: f64,
    pub requests: u64,
    /// Requests answered 503, and of these with `Retry-After`.
    pub unavailable: u64,
    pub retry_after: u64,
    /// Requests answered otherwise or not at all, with the first of the answers.
    pub failed: u64,
    pub failure: Option<String>,
    /// From request to answer.
    pub waits_us: Vec<u32>,
    pub took: Duration,
}

impl Tally {
    fn add(&mut self, other: Tally) {
        self.samples += other.samples;
        self.due += other.due;
        self.requests += other.requests;
        self.unavailable += other.unavailable;
        self.retry_after += other.retry_after;
        self.failed += other.failed;
        self.failure = self.failure.take().or(other.failure);
        self.waits_us.extend(other.waits_us);
        self.took = self.took.max(other.took);
    }
}

/// A quantile of waits, in milliseconds.
pub fn quantile_ms(waits_us: &[u32], q: f64) -> f64 {
    let mut sorted = waits_us.to_vec();
    sorted.sort_unstable();
    let at = ((sorted.len() as f64 * q) as usize).min(sorted.len().saturating_sub(1));
    sorted.get(at).map_or(f64::NAN, |us| f64::from(*us) / 1_000.0)
}

/// Sends and waits until all answers are there.
pub fn send(bodies: &Bodies, plan: Plan) -> Tally {
    let shares = shares(bodies, plan.connections);
    let rate = plan.rate / shares.len() as f64;
    let senders: Vec<_> = shares
        .into_iter()
        .zip(0u32..)
        .map(|(share, number)| {
            let stamp = bodies.stamp;
            let small = thread::Builder::new().stack_size(256 * 1024);
            // Those with a rate do not all begin in the same moment.
            let delay =
                Duration::from_micros(if plan.rate > 0.0 { u64::from(number) * 37 % 5_000 } else { 0 });
            small.spawn(move || one(share, stamp, plan, rate, delay)).expect("the system has threads")
        })
        .collect();
    let mut tally = Tally::default();
    for sender in senders {
        tally.add(sender.join().expect("a sender ends"));
    }
    tally
}

/// What each connection sends. Of bodies with times, those of the same series stay on one connection, in their order.
fn shares(bodies: &Bodies, connections: usize) -> Vec<Vec<(usize, Body)>> {
    let groups = if bodies.stamp == Stamp::None { bodies.all.len() } else { bodies.groups };
    let used = if bodies.stamp == Stamp::None { connections } else { connections.min(groups) };
    let share = |number: usize| {
        let mine = bodies.all.iter().enumerate().map(|(at, body)| (at % groups, body));
        let mine = mine.filter(|(group, _)| group % used == number % groups);
        mine.map(|(group, body)| (group, body.clone())).collect()
    };
    (0..used).map(share).collect()
}

/// One connection.
fn one(mut share: Vec<(usize, Body)>, stamp: Stamp, plan: Plan, rate: f64, delay: Duration) -> Tally {
    thread::sleep(delay);
    let began = Instant::now();
    let mut tally = Tally::default();
    let mut connection = Connection::open(plan.port).ok();
    let mut last_ns = vec![i64::MIN; share.iter().map(|(group, _)| group + 1).max().unwrap_or(0)];
    let (mut offered, count) = (0u64, share.len() as u64);
    loop {
        let is_over = match plan.until {
            Until::Time(time) => began.elapsed() >= time,
            Until::Passes(passes) => tally.requests >= passes * count,
        };
        if is_over {
            break;
        }
        let (group, body) = &mut share[(tally.requests % count) as usize];
        if stamp != Stamp::None {
            let next_ns = last_ns[*group].saturating_add(stamp.step_ns());
            let time_ns = plan.time_ns.unwrap_or_else(|| now_ns().max(next_ns));
            last_ns[*group] = time_ns;
            body.write_time(&stamp.encode(time_ns));
        }
        exchange(&mut connection, plan.port, body, &mut tally);
        offered += body.samples;
        if rate > 0.0 {
            let due = Duration::from_secs_f64(offered as f64 / rate);
            thread::sleep(due.saturating_sub(began.elapsed()));
        }
    }
    tally.took = began.elapsed();
    tally.due = rate * tally.took.as_secs_f64();
    tally
}

/// One request, counted.
fn exchange(connection: &mut Option<Connection>, port: u16, body: &Body, tally: &mut Tally) {
    tally.requests += 1;
    let asked = Instant::now();
    let answer = match connection.as_mut() {
        Some(open) => open.exchange(&body.request),
        None => Err(std::io::Error::other("expected a connection, found none")),
    };
    let failure = match answer {
        Ok(answer) if answer.is_success() => {
            tally.samples += body.samples;
            tally.waits_us.push(asked.elapsed().as_micros() as u32);
            return;
        }
        Ok(answer) if answer.status == 503 => {
            tally.unavailable += 1;
            tally.retry_after += u64::from(answer.retry_after);
            thread::sleep(PAUSE);
            return;
        }
        Ok(answer) => format!("{}: {}", answer.status, String::from_utf8_lossy(&answer.body)),
        Err(error) => {
            thread::sleep(PAUSE);
            *connection = Connection::open(port).ok();
            error.to_string()
        }
    };
    tally.failed += 1;
    tally.failure.get_or_insert(failure);
}

/// Nanoseconds since 1970.
pub fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_nanos() as i64)
}
