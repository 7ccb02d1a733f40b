//! Checkpoints: what a worker writes of its state, a little in each turn of its loop.
//!
//! A checkpoint belongs to an epoch S. Between S and the next epoch a worker writes its alert machines. Its
//! series follow over the epochs behind S, each as it is when its turn comes and stamped with the epoch it
//! then was at; epochs go on meanwhile. The last part holds the worker's counts and the epoch E it was at.
//! So a snapshot is a state of S only together with the epochs S+1 to E of the log: it must not be published
//! before those are durable, and what else derives from them too.
//!
//! A part is
//! ```text
//! u8      format, 3
//! u8      kind: 1 begin, 2 series, 3 end, 4 rollups
//! varint  number of the worker, number of workers, S, place among the parts of the worker from 0
//! begin:  signed floor, then alerts of series or of groups (see operators::alerts::saved)
//! rollups: the groups that the worker owns (see operators::rollup::saved)
//! series: see operators::window::saved
//! end:    varint E - S, sums, duplicates between S and E (see operators::window::Repeats), what rollups were given
//!         between S and E
//! u64 le  checksum of all before
//! ```

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use operators::alerts::Machines;
use operators::packed::{Reader, Unreadable, checksum, put_signed, put_varint};
use operators::rollup::Groups;
use operators::rollup::saved::Notes;
use operators::window::saved::{Origin, SeriesWriter};
use operators::window::{Repeats, Shard};
use parking_lot::RwLock;

/// How long a turn may take while epochs go on.
const TURN_MAX: Duration = Duration::from_millis(1);
/// The format written and understood.
const FORMAT: u8 = 3;
/// The checksum at the end.
const CHECKSUM_LEN: usize = size_of::<u64>();

/// A piece of one worker's state. Parts of different workers come in any order, and may be read in any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Number of the worker.
    pub worker: usize,
    /// What to keep, and to give to [`Snapshot::add`](crate::restore::Snapshot::add) again.
    pub bytes: Vec<u8>,
    /// Of the worker's last part: the epoch up to which epochs must be durable before the snapshot counts.
    pub end_epoch: Option<u64>,
}

/// Why a part was not taken.
pub enum Refused {
    /// No room now. The worker keeps it and asks again.
    Full(Part),
    /// Nobody wants it any more: the worker gives the checkpoint up.
    Gone,
}

/// Takes parts, on workers' threads; must not block.
pub type PartSink = Arc<dyn Fn(Part) -> Result<(), Refused> + Send + Sync>;

/// A sink in front of a queue of at most `parts_max` parts. A checkpoint that is given up ends the queue
/// without the last parts of all workers.
pub fn queue(parts_max: usize) -> (PartSink, Receiver<Part>) {
    let (sender, parts) = sync_channel(parts_max);
    let sink = move |part| match sender.try_send(part) {
        Ok(()) => Ok(()),
        Err(TrySendError::Full(part)) => Err(Refused::Full(part)),
        Err(TrySendError::Disconnected(_)) => Err(Refused::Gone),
    };
    (Arc::new(sink), parts)
}

/// What a part holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// Floor and alert machines.
    Begin = 1,
    /// Some series.
    Series = 2,
    /// End epoch and sums.
    End = 3,
    /// Groups of rollups.
    Rollups = 4,
}

/// What stands before the content of a part.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    pub(crate) kind: Kind,
    pub(crate) origin: Origin,
    /// Place among the parts of its worker.
    pub(crate) place: u64,
}

impl Head {
    fn put(self, out: &mut Vec<u8>) {
        let Origin { worker, workers, epoch } = self.origin;
        out.extend([FORMAT, self.kind as u8]);
        for number in [u64::from(worker), u64::from(workers), epoch, self.place] {
            put_varint(out, number);
        }
    }

    /// Checks a part, and reads up to its content.
    pub(crate) fn read(bytes: &[u8]) -> Result<(Head, Reader<'_>), Unreadable> {
        let at = |expected: &'static str, byte| Unreadable { expected: expected.into(), byte };
        let Some((content, sum)) = bytes.split_last_chunk::<CHECKSUM_LEN>() else {
            return Err(at("more bytes", bytes.len()));
        };
        if checksum(content) != u64::from_le_bytes(*sum) {
            return Err(at("the checksum of the bytes before", content.len()));
        }
        let mut reader = Reader::new(content);
        let format = reader.byte()?;
        if format != FORMAT {
            return Err(at("format 3, found another", 0));
        }
        let kind = match reader.byte()? {
            1 => Kind::Begin,
            2 => Kind::Series,
            3 => Kind::End,
            4 => Kind::Rollups,
            _ => return Err(at("a part of kind 1 to 4", 1)),
        };
        let worker = u32::try_from(reader.varint()?).map_err(|_| reader.wrong("the number of a worker"))?;
        let workers = u32::try_from(reader.varint()?).map_err(|_| reader.wrong("a number of workers"))?;
        let (epoch, place) = (reader.varint()?, reader.varint()?);
        if worker >= workers {
            return Err(reader.wrong(format!("a worker below {workers}, found {worker}")));
        }
        Ok((Head { kind, origin: Origin { worker, workers, epoch }, place }, reader))
    }
}

/// How a turn went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// There is more to do.
    Busy,
    /// There is no room for what is done.
    Full,
    /// All is written and taken, or given up.
    Over,
}

/// A checkpoint under way on one worker. What it holds is bounded: the machines, and one part of series.
pub(crate) struct Saving {
    sink: PartSink,
    origin: Origin,
    part_bytes: usize,
    places: u64,
    /// Finished, in order.
    waiting: VecDeque<Part>,
    writer: SeriesWriter,
    /// The part being written; empty before its head is.
    open: Vec<u8>,
    /// Whether the last part is finished.
    written: bool,
}

impl Saving {
    /// Begins, with the state of `origin.epoch` before any sample of a later one.
    pub(crate) fn begin(
        sink: PartSink,
        origin: Origin,
        part_bytes: usize,
        shard: &Shard,
        groups: &Groups,
        [of_series, of_groups]: [&mut Machines; 2],
    ) -> Saving {
        let writer = SeriesWriter::new(origin.epoch);
        let (waiting, open) = (VecDeque::new(), Vec::new());
        let mut saving =
            Saving { sink, origin, part_bytes, places: 0, waiting, writer, open, written: false };
        for (machines, shard_of) in [(of_series, Some(shard)), (of_groups, None)] {
            machines.save(part_bytes, shard_of, |content| {
                saving.open(Kind::Begin);
                // Nobody takes samples in meanwhile: it is copied once. A number and the checksum come to it.
                saving.open.reserve_exact(content.len() + 18);
                put_signed(&mut saving.open, shard.floor_ns);
                saving.open.extend_from_slice(content);
                saving.close(None);
            });
        }
        groups.save(part_bytes, |content| {
            saving.open(Kind::Rollups);
            saving.open.extend_from_slice(&content);
            saving.close(None);
        });
        saving
    }

    /// Writes on. Takes no longer than about a millisecond and a single series, unless `at_once`.
    pub(crate) fn turn(&mut self, shard: &RwLock<Shard>, at_once: bool) -> Turn {
        loop {
            while let Some(part) = self.waiting.pop_front() {
                match (self.sink)(part) {
                    Ok(()) => {}
                    Err(Refused::Full(part)) => {
                        self.waiting.push_front(part);
                        return Turn::Full;
                    }
                    Err(Refused::Gone) => return Turn::Over,
                }
            }
            if self.written {
                return Turn::Over;
            }
            // A reader like others: nobody else writes.
            let shard = shard.read();
            let noted = shard.sliced_notes();
            if shard.repeats().is_some_and(Repeats::are_too_many) || noted.is_some_and(Notes::are_too_many) {
                return Turn::Over;
            }
            self.write(&shard);
            if !at_once {
                return Turn::Busy;
            }
        }
    }

    fn write(&mut self, shard: &Shard) {
        let began = Instant::now();
        if self.open.is_empty() {
            self.open(Kind::Series);
            self.writer.begin(shard, &mut self.open);
        }
        loop {
            if !self.writer.write_next(shard, &mut self.open) {
                self.close(None);
                self.open(Kind::End);
                put_varint(&mut self.open, shard.epoch - self.origin.epoch);
                shard.counts.save(&mut self.open);
                shard.repeats().unwrap_or(&Repeats::default()).save(self.origin.epoch, &mut self.open);
                shard.sliced_notes().unwrap_or(&Notes::default()).save(self.origin.epoch, &mut self.open);
                self.close(Some(shard.epoch));
                self.written = true;
                return;
            }
            if self.open.len() >= self.part_bytes {
                return self.close(None);
            }
            if began.elapsed() >= TURN_MAX {
                return;
            }
        }
    }

    fn open(&mut self, kind: Kind) {
        let place = self.places;
        self.places += 1;
        // Room for a usual series beyond the length at which it is finished.
        let len = self.part_bytes + self.part_bytes / 16;
        self.open = Vec::with_capacity(if kind == Kind::Series { len } else { 64 });
        Head { kind, origin: self.origin, place }.put(&mut self.open);
    }

    fn close(&mut self, end_epoch: Option<u64>) {
        let mut bytes = std::mem::take(&mut self.open);
        bytes.extend_from_slice(&checksum(&bytes).to_le_bytes());
        bytes.shrink_to_fit();
        self.waiting.push_back(Part { worker: self.origin.worker as usize, bytes, end_epoch });
    }
}
