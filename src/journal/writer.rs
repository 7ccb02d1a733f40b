//! The writing side of the log: append, sync, and writing again what a failed sync may have lost; deleting segments.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::files::File;
use super::log::{Inner, Touched};
use super::record::{HEADER_LEN, Header, Place, move_frames, push_frame};
use super::recovery::Seen;
use super::segment::{Chain, Extent, Segment};

/// Buffers kept for later groups.
const SPARE_MAX: usize = 16;
/// The largest of them.
const SPARE_BYTES_MAX: usize = 256 << 10;

/// The state of the writing side.
pub(super) struct Writer {
    /// The segment that is appended to; without one, the next append begins one.
    current: Option<Current>,
    serial_next: u64,
    /// The last segment that counts, and where it ends.
    before: (u64, u64),
    /// What was appended last.
    seen: Seen,
    /// Records appended since the log was opened, and those that were there.
    total: u64,
    /// What is not durable yet, oldest first.
    pending: VecDeque<Group>,
    pending_bytes: usize,
    /// Index of the first group in `pending`, counted from the start.
    groups_gone: u64,
    /// Segments with something that is not durable, oldest first.
    dirty: Vec<Touched>,
    /// Names made, and of these the durable ones.
    names: (u64, u64),
    trouble: Option<Trouble>,
    /// Files of failed writes that could not be removed yet.
    leftovers: Vec<PathBuf>,
    /// Whether files were removed whose names may come back.
    removed: bool,
    spare: Vec<Vec<u8>>,
}

struct Current {
    segment: Arc<Segment>,
    file: Arc<dyn File>,
    len: u64,
}

/// A sync failed, and none has succeeded since.
struct Trouble {
    /// Whether what is pending must be written again, first of all.
    rewrite: bool,
    /// What the next segment is chained to: segments begun since are copies.
    before: (u64, u64),
    /// Where what is pending begins, in the files that are not trusted.
    again: Place,
    /// Segments begun since.
    copies: Vec<Arc<Segment>>,
}

/// Frames that were written together.
#[derive(Default)]
pub(super) struct Group {
    pub(super) bytes: Vec<u8>,
    /// Where they stand.
    place: Place,
    records: u64,
    last: u64,
}

impl Group {
    /// Appends a record. The place is that of nothing.
    pub(super) fn push(&mut self, header: &Header, payload: &[u8]) {
        let place = Place { serial: self.place.serial, offset: self.place.offset + self.bytes.len() as u64 };
        push_frame(&mut self.bytes, place, header, payload);
        self.records += 1;
        self.last = header.number;
    }

    /// Number and offset of each record.
    fn records(&self) -> Vec<(u64, u64)> {
        let mut records = Vec::with_capacity(self.records as usize);
        let mut at = 0;
        while at < self.bytes.len() {
            let offset = self.place.offset + at as u64;
            let place = Place { serial: self.place.serial, offset };
            let Some(header) = Header::decode(&self.bytes[at..], place) else { break };
            records.push((header.number, offset));
            at += header.frame_len() as usize;
        }
        records
    }
}

/// What one sync makes durable.
struct SyncPlan {
    dirty: Vec<(Arc<Segment>, Arc<dyn File>, Extent)>,
    groups_upto: u64,
    names: u64,
    last: u64,
}

impl Writer {
    pub(super) fn new(seen: Seen, before: (u64, u64), serial_next: u64, total: u64) -> Writer {
        Writer {
            current: None,
            serial_next,
            before,
            seen,
            total,
            pending: VecDeque::new(),
            pending_bytes: 0,
            groups_gone: 0,
            dirty: Vec::new(),
            names: (0, 0),
            trouble: None,
            leftovers: Vec::new(),
            removed: false,
            spare: Vec::new(),
        }
    }

    /// `group` stands in `touched`, from `again` on, and may not be durable.
    pub(super) fn distrust_loaded(&mut self, group: Group, again: Place, touched: Vec<Touched>) {
        self.pending_bytes = group.bytes.len();
        self.pending.push_back(group);
        self.dirty = touched;
        self.trouble = Some(Trouble { rewrite: true, before: self.before, again, copies: Vec::new() });
    }

    /// A sync failed: nothing that is not durable is trusted to be in the files. `again` is where
    /// the last durable record ends.
    fn distrust(&mut self, again: Place) {
        for (segment, _) in &self.dirty {
            segment.cut_to_durable();
        }
        self.current = None;
        let before = self.before;
        let trouble =
            self.trouble.get_or_insert_with(|| Trouble { rewrite: true, before, again, copies: Vec::new() });
        trouble.rewrite = true;
    }

    fn plan(&self) -> SyncPlan {
        let dirty = self.dirty.iter().map(|(s, f)| (s.clone(), f.clone(), s.extent())).collect();
        SyncPlan {
            dirty,
            groups_upto: self.groups_gone + self.pending.len() as u64,
            names: self.names.0,
            last: self.pending.back().map_or(0, |group| group.last),
        }
    }

    /// What was planned is durable.
    fn settle(&mut self, plan: &SyncPlan) {
        for (segment, _, extent) in &plan.dirty {
            segment.set_durable(extent);
        }
        self.dirty.retain(|(segment, _)| segment.extent() != segment.durable());
        self.names.1 = plan.names;
        while self.groups_gone < plan.groups_upto
            && let Some(group) = self.pending.pop_front()
        {
            self.groups_gone += 1;
            self.pending_bytes -= group.bytes.len();
            if self.spare.len() < SPARE_MAX && group.bytes.capacity() <= SPARE_BYTES_MAX {
                self.spare.push(group.bytes);
            }
        }
        self.trouble = None;
    }

    /// Whether `records` can follow what was appended.
    fn check(&self, records: &[(u8, u64, &[u8])], payload_max: u32) -> io::Result<()> {
        let mut seen = self.seen;
        for (kind, number, payload) in records {
            let refuse = |why: String| Err(io::Error::new(io::ErrorKind::InvalidInput, why));
            if !(1..64).contains(kind) {
                return refuse(format!("expected a kind from 1 to 63, found {kind}"));
            }
            if payload.len() > payload_max as usize {
                return refuse(format!("expected at most {payload_max} bytes, found {}", payload.len()));
            }
            if !seen.admits(*kind, *number) {
                return refuse(format!("expected a number above {}, found {number}", seen.last));
            }
            seen.note(*kind, *number);
        }
        Ok(())
    }
}

impl Inner {
    pub(super) fn append(&self, records: &[(u8, u64, &[u8])]) -> io::Result<()> {
        let mut writer = self.writer.lock();
        let writer = &mut *writer;
        writer.check(records, self.config.record_bytes_max)?;
        if records.is_empty() {
            return Ok(());
        }
        if writer.trouble.as_ref().is_some_and(|trouble| trouble.rewrite) {
            self.rewrite(writer)?;
        }
        let len: usize = records.iter().map(|(_, _, payload)| HEADER_LEN + payload.len()).sum();
        if !writer.pending.is_empty() && writer.pending_bytes + len > self.config.unsynced_bytes_max {
            let why = format!("{} bytes wait for a sync", writer.pending_bytes);
            return Err(io::Error::new(io::ErrorKind::WouldBlock, why));
        }
        let mut group = Group { bytes: writer.spare.pop().unwrap_or_default(), ..Group::default() };
        group.bytes.clear();
        group.bytes.reserve(len);
        let full = |current: &mut Current| current.len + len as u64 > self.config.segment_bytes;
        let durable = self.durable.load(Ordering::Relaxed);
        let fresh = writer.current.as_mut().is_none_or(full);
        group.place = match &writer.current {
            Some(current) if !fresh => Place { serial: current.segment.serial, offset: current.len },
            _ => Place { serial: writer.serial_next, offset: Chain::BYTES },
        };
        for (kind, number, payload) in records {
            group.push(&Header::of(*kind, *number, durable, payload), payload);
        }
        if fresh {
            let (before, before_end) = writer.before;
            let chain = Chain { before, before_end, again: None, again_bytes: 0 };
            self.begin(writer, chain, &group)?;
        } else {
            extend(writer, &group, records)?;
        }
        for (kind, number, _) in records {
            writer.seen.note(*kind, *number);
        }
        writer.total += group.records;
        writer.pending_bytes += group.bytes.len();
        writer.pending.push_back(group);
        self.appended.store(writer.seen.last, Ordering::Release);
        Ok(())
    }

    /// Begins a segment with `group`, which stands behind its first record.
    fn begin(&self, writer: &mut Writer, chain: Chain, group: &Group) -> io::Result<()> {
        // Once there may be a segment behind it, nothing is appended to the one before: its end is told there.
        writer.current = None;
        let serial = writer.serial_next;
        writer.serial_next += 1;
        let records = group.records();
        let first = records.first().map_or(0, |record| record.0);
        let ordinal = writer.total - if chain.again.is_some() { group.records } else { 0 };
        let segment = Arc::new(Segment::new(&self.config.dir, first, serial, ordinal));
        let mut bytes = Vec::with_capacity(Chain::BYTES as usize + group.bytes.len());
        chain.push(&mut bytes, serial, first, self.durable.load(Ordering::Relaxed));
        bytes.extend_from_slice(&group.bytes);
        let written =
            self.files.create(&segment.path).and_then(|file| file.write_at(0, &bytes).map(|()| file));
        let file = match written {
            Ok(file) => file,
            Err(e) => {
                // If it stays, the next one is not chained to it.
                writer.leftovers.push(segment.path.clone());
                let _ = self.tidy(writer);
                return Err(e);
            }
        };
        let len = bytes.len() as u64;
        segment.grow(records, len);
        self.segments.lock().push(segment.clone());
        writer.dirty.push((segment.clone(), file.clone()));
        writer.names.0 += 1;
        writer.before = (serial, len);
        if let Some(trouble) = &mut writer.trouble {
            trouble.copies.push(segment.clone());
        }
        writer.current = Some(Current { segment, file, len });
        Ok(())
    }

    /// Writes all that is not durable into a new segment.
    fn rewrite(&self, writer: &mut Writer) -> io::Result<()> {
        let Some(trouble) = &writer.trouble else { return Ok(()) };
        let ((before, before_end), again) = (trouble.before, trouble.again);
        let mut all =
            Group { place: Place { serial: writer.serial_next, offset: Chain::BYTES }, ..Group::default() };
        for group in &writer.pending {
            let from = all.bytes.len();
            all.bytes.extend_from_slice(&group.bytes);
            let to = Place { serial: all.place.serial, offset: all.place.offset + from as u64 };
            move_frames(&mut all.bytes[from..], group.place, to);
            all.records += group.records;
            all.last = group.last;
        }
        let old = writer.dirty.len();
        let chain = Chain { before, before_end, again: Some(again), again_bytes: all.bytes.len() as u64 };
        self.begin(writer, chain, &all)?;
        for (segment, _) in writer.dirty.drain(..old) {
            segment.cut_to_durable();
        }
        writer.groups_gone += writer.pending.len() as u64 - 1;
        writer.pending.clear();
        writer.pending.push_back(all);
        if let Some(trouble) = &mut writer.trouble {
            trouble.rewrite = false;
            // Copies of earlier attempts say nothing that the new one doesn't.
            let newest = trouble.copies.pop();
            let stale = std::mem::replace(&mut trouble.copies, newest.into_iter().collect());
            writer.removed |= !stale.is_empty();
            for segment in stale {
                let _ = self.remove(&segment);
            }
        }
        Ok(())
    }

    pub(super) fn sync(&self) -> io::Result<u64> {
        let _one = self.syncing.lock();
        let (plan, named) = {
            let mut writer = self.writer.lock();
            if writer.trouble.as_ref().is_some_and(|trouble| trouble.rewrite) {
                self.rewrite(&mut writer)?;
            }
            if writer.pending.is_empty() {
                return Ok(self.durable.load(Ordering::Acquire));
            }
            let named = writer.names.0 == writer.names.1;
            (writer.plan(), named)
        };
        let mut result = plan.dirty.iter().try_for_each(|(_, file, _)| file.sync_data());
        if result.is_ok() && !named {
            result = self.files.sync_dir(&self.config.dir);
        }
        let mut writer = self.writer.lock();
        match result {
            Ok(()) => {
                writer.settle(&plan);
                self.durable.store(plan.last, Ordering::Release);
                Ok(plan.last)
            }
            Err(e) => {
                let again = self.durable_end(&writer);
                writer.distrust(again);
                Err(e)
            }
        }
    }

    /// Where the last durable record ends. Told from the segment before, if a segment has none: its own first record
    /// may be lost too.
    fn durable_end(&self, writer: &Writer) -> Place {
        let Some((first, _)) = writer.dirty.first() else { return Place::default() };
        let durable = first.durable();
        if durable.records > 0 {
            return Place { serial: first.serial, offset: durable.end };
        }
        let segments = self.segments.lock();
        let older = segments.iter().rfind(|s| s.serial < first.serial && s.extent().records > 0);
        older.map_or_else(Place::default, |s| Place { serial: s.serial, offset: s.end() })
    }

    pub(super) fn release(&self, upto: u64) -> io::Result<u64> {
        let mut unsynced_removal = self.releasing.lock();
        let upto = upto.min(self.durable.load(Ordering::Acquire));
        let mut freed = 0;
        {
            // A leftover that outlives its neighbours would look like one that was not released.
            let mut writer = self.writer.lock();
            self.tidy(&mut writer)?;
            *unsynced_removal |= std::mem::take(&mut writer.removed);
        }
        loop {
            if *unsynced_removal {
                // One at a time, so that after a power loss no older segment stands before a gap.
                self.files.sync_dir(&self.config.dir)?;
                *unsynced_removal = false;
            }
            if self.writer.lock().trouble.is_some() {
                return Ok(freed);
            }
            let oldest = match self.segments.lock().as_slice() {
                [oldest, _, ..] => oldest.clone(),
                _ => return Ok(freed),
            };
            let extent = oldest.extent();
            if extent.records > 0 && extent.last > upto {
                return Ok(freed);
            }
            *unsynced_removal = true;
            self.remove(&oldest)?;
            freed += extent.end;
        }
    }

    /// Removes what failed writes have left.
    fn tidy(&self, writer: &mut Writer) -> io::Result<()> {
        while let Some(path) = writer.leftovers.last() {
            match self.files.remove(path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => writer.leftovers.pop(),
            };
            writer.removed = true;
        }
        Ok(())
    }

    fn remove(&self, segment: &Arc<Segment>) -> io::Result<()> {
        // First, so that no reader finds it gone without knowing why.
        segment.removed.store(true, Ordering::Release);
        match self.files.remove(&segment.path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                segment.removed.store(false, Ordering::Release);
                return Err(e);
            }
            _ => {}
        }
        self.segments.lock().retain(|other| other.serial != segment.serial);
        Ok(())
    }
}

/// Appends `group` to the current segment.
fn extend(writer: &mut Writer, group: &Group, records: &[(u8, u64, &[u8])]) -> io::Result<()> {
    let Some(current) = &mut writer.current else { return Err(io::ErrorKind::NotFound.into()) };
    if let Err(e) = current.file.write_at(current.len, &group.bytes) {
        // What is half written must not stand between records. Where it can't be cut, the segment ends here.
        if current.file.truncate(current.len).is_err() {
            writer.current = None;
        }
        return Err(e);
    }
    current.len += group.bytes.len() as u64;
    current.segment.grow(places(records, group.place.offset), current.len);
    writer.before = (current.segment.serial, current.len);
    if writer.dirty.last().is_none_or(|(segment, _)| segment.serial != current.segment.serial) {
        writer.dirty.push((current.segment.clone(), current.file.clone()));
    }
    Ok(())
}

/// Number and offset of each of `records`, whose frames stand from `offset` on.
fn places(records: &[(u8, u64, &[u8])], mut offset: u64) -> impl Iterator<Item = (u64, u64)> {
    records.iter().map(move |(_, number, payload)| {
        let at = offset;
        offset += (HEADER_LEN + payload.len()) as u64;
        (*number, at)
    })
}
