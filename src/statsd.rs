//! StatsD over UDP: datagrams -> the table of [`crate::codec::statsd`] -> the door.
//!
//! Intervals end at whole multiples of their length, by the arrival clock. While the door is full nothing is received:
//! what the kernel then drops is read from `/proc/net/udp` and counted. At the end what has arrived is still counted,
//! and the interval ends there.

use std::fmt::Display;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use operators::sample::{DurationNs, TimeNs};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;

use crate::codec::decoder::Decoder;
use crate::codec::reject::{Reason, RejectLog};
use crate::codec::statsd::table::{Table, TableConfig, stamp_of};
use crate::intake::Intake;
use crate::telemetry::Telemetry;

/// Where and how it listens.
#[derive(Clone, Debug)]
pub struct StatsdConfig {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Length of an interval.
    pub interval_ns: DurationNs,
    /// Bytes of a datagram.
    pub datagram_len_max: usize,
    /// Bytes that the kernel is asked to hold until they are read.
    pub receive_buffer_bytes: usize,
    /// What is counted.
    pub table: TableConfig,
}

/// What the listener has done so far.
#[derive(Debug, Default)]
pub struct StatsdCounters {
    /// Datagrams received.
    pub datagrams: AtomicU64,
    /// Bytes in them.
    pub bytes: AtomicU64,
    /// Lines in them, good and bad.
    pub lines: AtomicU64,
    /// Events and service checks, which are no metrics.
    pub skipped: AtomicU64,
    /// Datagrams that the kernel dropped, because they were not read in time.
    pub kernel_drops: AtomicU64,
    /// Intervals that ended and were handed down.
    pub intervals: AtomicU64,
    /// Series that are counted now.
    pub series: AtomicU64,
}

impl StatsdCounters {
    /// Names and counts.
    pub fn snapshot(&self) -> Vec<(&'static str, u64)> {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        vec![
            ("datagrams", load(&self.datagrams)),
            ("bytes", load(&self.bytes)),
            ("lines", load(&self.lines)),
            ("skipped", load(&self.skipped)),
            ("kernel_drops", load(&self.kernel_drops)),
            ("intervals", load(&self.intervals)),
            ("series", load(&self.series)),
        ]
    }
}

/// Where samples and rejects go.
pub struct StatsdFeed {
    /// The door.
    pub intake: Arc<Intake>,
    /// Rejects.
    pub rejects: Arc<RejectLog>,
    /// Own counters.
    pub telemetry: Arc<Telemetry>,
    /// Decodes, with the limits of the format.
    pub decoder: Decoder,
}

/// Samples and rejects after which they go down, before more is received.
const BATCH_LEN: usize = 8192;
/// Longest wait, so that a clock that is set is noticed.
const WAIT_MAX: Duration = Duration::from_millis(500);
/// Datagrams that are still read at the end.
const LAST_DATAGRAMS_MAX: usize = 100_000;

/// A socket that is bound.
pub struct Listener {
    config: StatsdConfig,
    socket: UdpSocket,
    counters: Arc<StatsdCounters>,
}

impl Listener {
    /// Binds the socket. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// If it can't be bound.
    pub fn bind(config: StatsdConfig) -> io::Result<Listener> {
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", config.listen));
        let socket = Socket::new(Domain::for_address(config.listen), Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        // The kernel gives what its own limit allows (net.core.rmem_max), without a word.
        socket.set_recv_buffer_size(config.receive_buffer_bytes)?;
        socket.bind(&config.listen.into()).map_err(named)?;
        let socket = UdpSocket::from_std(socket.into())?;
        Ok(Listener { config, socket, counters: Arc::default() })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// If the system does not tell.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// What it has done so far; counts on while it runs.
    pub fn counters(&self) -> Arc<StatsdCounters> {
        self.counters.clone()
    }

    /// Receives until `stop`, or the door closes.
    pub async fn run(self, feed: StatsdFeed, stop: CancellationToken) {
        let Listener { config, socket, counters } = self;
        let StatsdFeed { intake, rejects, telemetry, decoder } = feed;
        let now_ns = intake.now_ns();
        let mut running = Running {
            buffer: vec![0; config.datagram_len_max + 1],
            table: Table::new(config.table, decoder, now_ns),
            schedule: Schedule::at(now_ns, config.interval_ns),
            counted: (0, 0),
            has_ended: false,
            inode: inode_of(&socket),
            socket,
            counters,
            intake,
            rejects,
            telemetry,
        };
        while !stop.is_cancelled() {
            let wait = running.schedule.wait(running.intake.now_ns());
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                ready = running.socket.readable() => if ready.is_err() { tokio::time::sleep(WAIT_MAX).await },
                () = tokio::time::sleep(wait) => {}
            }
            let now_ns = running.intake.now_ns();
            running.table.begin(now_ns);
            if let Some(end_ns) = running.schedule.due(now_ns) {
                running.end_interval(stamp_of(end_ns));
            }
            running.receive();
            if !running.submit().await {
                return;
            }
        }
        running.end().await;
    }
}

struct Running {
    buffer: Vec<u8>,
    table: Table,
    schedule: Schedule,
    /// Lines and skipped ones that are in the counters.
    counted: (u64, u64),
    /// Whether an interval ended that was not handed down yet.
    has_ended: bool,
    inode: Option<String>,
    socket: UdpSocket,
    counters: Arc<StatsdCounters>,
    intake: Arc<Intake>,
    rejects: Arc<RejectLog>,
    telemetry: Arc<Telemetry>,
}

impl Running {
    /// Reads what has arrived, up to a batch; whether there was anything.
    fn receive(&mut self) -> bool {
        let mut datagrams = 0;
        while self.table.pending() < BATCH_LEN && datagrams < BATCH_LEN {
            // An error of an earlier answer (ICMP) can come up here; there is none to wait for.
            let Ok(len) = self.socket.try_recv(&mut self.buffer) else { break };
            datagrams += 1;
            self.counters.bytes.fetch_add(len as u64, Ordering::Relaxed);
            if len == self.buffer.len() {
                let found = format!("more than {} bytes", len - 1);
                self.table.refuse(Reason::DatagramTooLong, found);
            } else {
                self.table.datagram(&self.buffer[..len]);
            }
        }
        self.counters.datagrams.fetch_add(datagrams as u64, Ordering::Relaxed);
        datagrams > 0
    }

    fn end_interval(&mut self, stamp_ns: TimeNs) {
        self.table.end_interval(stamp_ns);
        self.has_ended = true;
        if let Some(drops) = self.inode.as_deref().and_then(kernel_drops) {
            self.counters.kernel_drops.store(drops, Ordering::Relaxed);
        }
    }

    /// Counts what the batch came to, and hands its samples down; waits for room. Whether the door is open.
    async fn submit(&mut self) -> bool {
        let (lines, skipped) = (self.table.lines, self.table.skipped);
        let (lines_before, skipped_before) = std::mem::replace(&mut self.counted, (lines, skipped));
        self.counters.lines.fetch_add(lines - lines_before, Ordering::Relaxed);
        self.counters.skipped.fetch_add(skipped - skipped_before, Ordering::Relaxed);
        self.counters.series.store(self.table.len() as u64, Ordering::Relaxed);
        self.rejects.add("statsd", self.intake.now_ns(), self.table.rejects());
        self.rejects.count(self.table.untold());
        let samples = self.table.take_samples();
        self.telemetry.accepted(samples.len(), samples.iter().map(|sample| sample.time_ns).max());
        let mut samples = Some(samples).filter(|samples| !samples.is_empty());
        while let Some(batch) = samples.take() {
            self.intake.room().await;
            samples = self.intake.submit(batch).err().map(|full| full.0);
            if samples.is_some() && !self.intake.is_open() {
                return false;
            }
        }
        self.counters.intervals.fetch_add(u64::from(self.has_ended), Ordering::Relaxed);
        self.has_ended = false;
        true
    }

    /// Reads what is left, ends the interval and hands all of it down.
    async fn end(mut self) {
        let now_ns = self.intake.now_ns();
        for _ in 0..LAST_DATAGRAMS_MAX / BATCH_LEN {
            self.table.begin(now_ns);
            if !self.receive() || !self.submit().await {
                break;
            }
        }
        self.table.begin(now_ns);
        self.end_interval(now_ns);
        self.submit().await;
    }
}

/// When intervals end: at each multiple of their length.
#[derive(Debug)]
struct Schedule {
    interval_ns: DurationNs,
    next_ns: TimeNs,
}

impl Schedule {
    fn at(now_ns: TimeNs, interval_ns: DurationNs) -> Schedule {
        let interval_ns = interval_ns.max(1_000_000);
        Schedule { interval_ns, next_ns: next(now_ns, interval_ns) }
    }

    /// The end of the last interval that is over at `now_ns`, if one is. A clock that was set back by more than an
    /// interval begins anew.
    fn due(&mut self, now_ns: TimeNs) -> Option<TimeNs> {
        let next_ns = next(now_ns, self.interval_ns);
        if now_ns < self.next_ns {
            if self.next_ns.saturating_sub(next_ns) > self.interval_ns {
                self.next_ns = next_ns;
            }
            return None;
        }
        self.next_ns = next_ns;
        Some(next_ns - self.interval_ns)
    }

    fn wait(&self, now_ns: TimeNs) -> Duration {
        let wait_ns = self.next_ns.saturating_sub(now_ns).max(0) as u64;
        Duration::from_nanos(wait_ns).min(WAIT_MAX)
    }
}

/// The first multiple of the interval after `now_ns`.
fn next(now_ns: TimeNs, interval_ns: DurationNs) -> TimeNs {
    (now_ns - now_ns.rem_euclid(interval_ns)).saturating_add(interval_ns)
}

/// The number by which the kernel's tables know a socket.
fn inode_of(socket: &impl AsRawFd) -> Option<String> {
    let link = std::fs::read_link(format!("/proc/self/fd/{}", socket.as_raw_fd())).ok()?;
    let text = link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?;
    Some(text.into())
}

/// Datagrams that the kernel dropped of the socket with this number.
fn kernel_drops(inode: &str) -> Option<u64> {
    ["/proc/net/udp", "/proc/net/udp6"].into_iter().find_map(|table| {
        let text = std::fs::read_to_string(table).ok()?;
        drops_in(&text, &inode)
    })
}

/// The last column of the line with that number in its tenth.
fn drops_in(table: &str, inode: &impl Display) -> Option<u64> {
    let inode = inode.to_string();
    table.lines().find_map(|line| {
        let mut columns = line.split_ascii_whitespace();
        (columns.nth(9)? == inode).then(|| columns.last()?.parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use operators::sample::SECOND;

    #[test]
    fn intervals_end_at_multiples() {
        let mut schedule = Schedule::at(1003 * SECOND, 10 * SECOND);
        for (now_s, expect_s) in [
            (1009, None),
            (1010, Some(1010)),
            (1010, None),
            (1034, Some(1030)), // 1020 was missed: it ended as one with this
            (1033, None),       // set back a little
            (1040, Some(1040)),
            (500, None), // set back a lot: anew
            (510, Some(510)),
        ] {
            assert_eq!(schedule.due(now_s * SECOND), expect_s.map(|s: i64| s * SECOND), "{now_s}");
        }
        assert_eq!(schedule.wait(519_900 * 1_000_000), Duration::from_millis(100));
        assert_eq!(schedule.wait(511 * SECOND), WAIT_MAX);
    }

    #[test]
    fn drops_are_found_in_the_kernels_table() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n\
            \x20 61: 0100007F:1FBD 00000000:0000 07 00000000:00000000 00:00000000 00000000  1000        0 4242 2 0000000000000000 0\n\
            \x20 99: 00000000:14E9 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 77 2 0000000000000000 315\n";
        assert_eq!(drops_in(table, &"77"), Some(315));
        assert_eq!(drops_in(table, &"4242"), Some(0));
        assert_eq!(drops_in(table, &"1"), None);
    }
}
