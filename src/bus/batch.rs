//! The unit of delivery: many messages in one slab, and the bounded queue that batches go through.

use std::ops::Range;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::BusCounters;

/// Most bytes of a slab, unless one message is longer.
pub(super) const SLAB_LEN_MAX: usize = 256 * 1024;
/// Slabs kept for reuse. Fresh ones would cost a page fault for every 4 KiB.
const SPARE_MAX: usize = 16;

/// Messages received together, in the order they came on their connection.
#[derive(Debug, Default)]
pub struct Batch {
    slab: Vec<u8>,
    entries: Vec<Entry>,
    spare: Option<Arc<Spare>>,
}

/// Positions of a message in its slab, which is shorter than 4 GiB.
#[derive(Clone, Copy, Debug)]
struct Entry {
    topic: [u32; 2],
    payload: [u32; 2],
}

impl Batch {
    /// A batch of the given (topic, payload) pairs, for tests and for input that came another way.
    pub fn of(messages: &[(&[u8], &[u8])]) -> Self {
        let mut batch = Self::default();
        for (topic, payload) in messages {
            batch.append(topic, payload);
        }
        batch
    }

    /// Topic and payload of every message.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&[u8], &[u8])> {
        self.entries.iter().map(|entry| {
            let part = |[start, end]: [u32; 2]| &self.slab[start as usize..end as usize];
            (part(entry.topic), part(entry.payload))
        })
    }

    /// Number of messages.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none; a receiver never delivers such a batch.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Copies a message in.
    pub(super) fn append(&mut self, topic: &[u8], payload: &[u8]) {
        let start = self.slab.len();
        self.slab.extend_from_slice(topic);
        let cut = self.slab.len();
        self.slab.extend_from_slice(payload);
        self.entries.push(Entry::new(start..cut, cut..self.slab.len()));
    }

    /// Bytes of topics and payloads.
    fn content_len(&self) -> u64 {
        let len = |[start, end]: [u32; 2]| u64::from(end - start);
        self.entries.iter().map(|entry| len(entry.topic) + len(entry.payload)).sum()
    }

    /// Bytes of memory that it holds.
    fn memory_len(&self) -> usize {
        self.slab.capacity() + self.entries.capacity() * size_of::<Entry>()
    }
}

impl Entry {
    fn new(topic: Range<usize>, payload: Range<usize>) -> Self {
        let place = |range: Range<usize>| [range.start as u32, range.end as u32];
        Self { topic: place(topic), payload: place(payload) }
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        if let Some(spare) = &self.spare {
            spare.put(std::mem::take(&mut self.slab), std::mem::take(&mut self.entries));
        }
    }
}

/// Slabs and lists of positions that wait to be used again.
#[derive(Debug, Default)]
struct Spare {
    slabs: Mutex<Vec<Vec<u8>>>,
    entries: Mutex<Vec<Vec<Entry>>>,
}

impl Spare {
    fn slab(&self, capacity: usize) -> Vec<u8> {
        let spare = if capacity >= SLAB_LEN_MAX { self.slabs.lock().pop() } else { None };
        spare.unwrap_or_else(|| Vec::with_capacity(capacity))
    }

    fn put(&self, mut slab: Vec<u8>, mut entries: Vec<Entry>) {
        if (SLAB_LEN_MAX..=2 * SLAB_LEN_MAX).contains(&slab.capacity()) {
            slab.clear();
            let mut slabs = self.slabs.lock();
            if slabs.len() < SPARE_MAX {
                slabs.push(slab);
            }
        }
        if (256..=64 * 1024).contains(&entries.capacity()) {
            entries.clear();
            let mut lists = self.entries.lock();
            if lists.len() < SPARE_MAX {
                lists.push(entries);
            }
        }
    }
}

/// Positions of messages in a slab that is still being read into.
#[derive(Debug, Default)]
pub(super) struct Draft(Vec<Entry>);

impl Draft {
    pub(super) fn add(&mut self, topic: Range<usize>, payload: Range<usize>) {
        self.0.push(Entry::new(topic, payload));
    }
}

/// The receiver is gone.
#[derive(Debug)]
pub(super) struct Gone;

/// The sending end of the queue to the decoder; bounded in batches and in bytes.
#[derive(Clone, Debug)]
pub(crate) struct Intake {
    queue: mpsc::Sender<Queued>,
    room_kib: Arc<Semaphore>,
    limit_kib: u32,
    spare: Arc<Spare>,
    counters: Arc<BusCounters>,
}

/// A batch in the queue and the room that it takes there.
#[derive(Debug)]
pub(super) struct Queued {
    pub batch: Batch,
    _room: OwnedSemaphorePermit,
}

/// A queue of at most so many batches and bytes.
pub(super) fn queue(
    batches: usize,
    bytes: usize,
    counters: Arc<BusCounters>,
) -> (Intake, mpsc::Receiver<Queued>) {
    let (sender, receiver) = mpsc::channel(batches.max(1));
    let limit_kib = u32::try_from(bytes / 1024).unwrap_or(u32::MAX).max(1);
    let intake = Intake {
        queue: sender,
        room_kib: Arc::new(Semaphore::new(limit_kib as usize)),
        limit_kib,
        spare: Arc::default(),
        counters,
    };
    (intake, receiver)
}

impl Intake {
    /// Queues a batch; waits while there is no room for it.
    pub(super) async fn deliver(&self, batch: Batch) -> Result<(), Gone> {
        let kib = u32::try_from(batch.memory_len().div_ceil(1024)).unwrap_or(u32::MAX);
        let kib = kib.clamp(1, self.limit_kib);
        let room = Arc::clone(&self.room_kib);
        let (messages, bytes) = (batch.len() as u64, batch.content_len());
        let (slot, room) = match (self.queue.try_reserve(), room.clone().try_acquire_many_owned(kib)) {
            (Ok(slot), Ok(room)) => (slot, room),
            (slot, room_now) => {
                drop((slot, room_now));
                self.counters.queue_full_waits.add(1);
                let slot = self.queue.reserve().await.map_err(|_| Gone)?;
                (slot, room.acquire_many_owned(kib).await.map_err(|_| Gone)?)
            }
        };
        slot.send(Queued { batch, _room: room });
        self.counters.messages.add(messages);
        self.counters.bytes.add(bytes);
        Ok(())
    }

    /// Delivers the messages of `draft`, all within the first `consumed` bytes of `slab`, and leaves in `slab` what
    /// follows them, with room for `capacity` bytes. A slab that is mostly empty is copied rather than given away.
    pub(super) async fn deliver_draft(
        &self,
        draft: &mut Draft,
        slab: &mut Vec<u8>,
        consumed: usize,
        capacity: usize,
    ) -> Result<(), Gone> {
        if draft.0.is_empty() {
            slab.drain(..consumed);
            return Ok(());
        }
        let (full, entries) = if consumed < slab.capacity() / 4 {
            let copy = slab[..consumed].to_vec();
            slab.drain(..consumed);
            (copy, draft.0.drain(..).collect())
        } else {
            let mut next = self.spare.slab(capacity);
            next.extend_from_slice(&slab[consumed..]);
            slab.truncate(consumed);
            let list = self.spare.entries.lock().pop().unwrap_or_default();
            (std::mem::replace(slab, next), std::mem::replace(&mut draft.0, list))
        };
        let batch = Batch { slab: full, entries, spare: Some(Arc::clone(&self.spare)) };
        self.deliver(batch).await
    }

    /// The counters of the receiver.
    pub(super) fn counters(&self) -> &Arc<BusCounters> {
        &self.counters
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn intake(batches: usize, bytes: usize) -> (Intake, mpsc::Receiver<Queued>) {
        queue(batches, bytes, Arc::default())
    }

    #[tokio::test]
    async fn a_draft_becomes_a_batch_and_the_rest_stays() {
        for capacity in [16, 1 << 12] {
            let (intake, mut receiver) = intake(4, 1 << 20);
            let mut slab = Vec::with_capacity(capacity);
            slab.extend_from_slice(b"topic{1}topic{2}rest");
            let mut draft = Draft::default();
            draft.add(0..5, 5..8);
            draft.add(8..13, 13..16);
            intake.deliver_draft(&mut draft, &mut slab, 16, 64).await.unwrap();
            assert_eq!(slab, b"rest");
            let batch = receiver.recv().await.unwrap().batch;
            let seen: Vec<_> = batch.iter().collect();
            assert_eq!(seen, [(&b"topic"[..], &b"{1}"[..]), (b"topic", b"{2}")]);
            assert_eq!((intake.counters.messages.get(), intake.counters.bytes.get()), (2, 16));
        }
    }

    #[tokio::test]
    async fn both_bounds_hold_the_sender_back() {
        for (batches, bytes) in [(1, 1 << 20), (100, 1024)] {
            let (intake, mut receiver) = intake(batches, bytes);
            let message = Batch::of(&[(b"t", b"{}")]);
            intake.deliver(message).await.unwrap();
            let mut second = Box::pin(intake.deliver(Batch::of(&[(b"t", b"[]")])));
            let waiting = tokio::select! {
                biased;
                _ = &mut second => false,
                () = std::future::ready(()) => true,
            };
            assert!(waiting, "{batches} batches, {bytes} bytes");
            assert_eq!(intake.counters.queue_full_waits.get(), 1);
            drop(receiver.recv().await);
            second.await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_batch_longer_than_the_whole_queue_passes_alone() {
        let (intake, mut receiver) = intake(4, 1024);
        let long = vec![b'x'; 100_000];
        intake.deliver(Batch::of(&[(b"t", &long)])).await.unwrap();
        assert_eq!(receiver.recv().await.unwrap().batch.len(), 1);
    }
}
