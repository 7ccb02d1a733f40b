//! The occupied bins of one sign: a dense run of counters where the bins lie close together, sorted indices
//! with their counters where they do not.
//!
//! Which of the two is a matter of bytes: a dense run may take up to [`DENSE_FAVOUR`] times the memory of the
//! sorted form, because adding to it is several times faster. The choice is remade only when a bin is added,
//! and is never visible outside.

use super::counts::Counts;

/// How many times the memory of sorted indices a dense run may take.
const DENSE_FAVOUR: usize = 2;

/// Bytes of one index of the sorted form.
const INDEX_BYTES: usize = 4;

/// Counters by bin index.
#[derive(Clone, Debug)]
pub(super) enum Store {
    /// The counter of bin `base + i` at position `i`.
    Dense { base: u32, occupied: usize, counts: Counts },
    /// The counter of bin `indices[i]` at position `i`; indices ascend, no counter is zero.
    Sorted { indices: Vec<u32>, counts: Counts },
}

impl Default for Store {
    fn default() -> Self {
        Store::Sorted { indices: Vec::new(), counts: Counts::default() }
    }
}

impl Store {
    /// Adds `count > 0` to the bin `index`; true when the bin was not occupied before.
    #[inline]
    pub(super) fn add(&mut self, index: u32, count: u64) -> bool {
        match self {
            Store::Dense { base, occupied, counts } => {
                let at = index.wrapping_sub(*base) as usize;
                if at < counts.len() {
                    let new_bin = counts.add(at, count);
                    *occupied += usize::from(new_bin);
                    return new_bin;
                }
            }
            Store::Sorted { indices, counts } => {
                if let Ok(at) = indices.binary_search(&index) {
                    return counts.add(at, count);
                }
            }
        }
        self.add_outside(index, count);
        true
    }

    /// Adds one to the bin of each index; sorts them on the way.
    pub(super) fn add_each(&mut self, indices: &mut [u32]) {
        let Some(ends) = ends(indices) else { return };
        if let Store::Dense { base, occupied, counts } = self {
            let end = *base + counts.len() as u32;
            let outside = indices.iter().filter(|index| !(*base..end).contains(*index)).count();
            if outside > 0 {
                let (first, end) = (ends.0.min(*base), (ends.1 + 1).max(end));
                // Two of them may share a bin: no more than a run that is made a little early.
                if !dense_is_worth((end - first) as usize, *occupied + outside, counts.width()) {
                    *self = self.sorted();
                    return self.add_each(indices);
                }
                counts.grow((*base - first) as usize, (end - *base) as usize - counts.len());
                *base = first;
            }
            for index in indices {
                *occupied += usize::from(counts.add((*index - *base) as usize, 1));
            }
            return;
        }
        let held = self.ends().unwrap_or(ends);
        let (first, last) = (held.0.min(ends.0), held.1.max(ends.1));
        if dense_is_worth((last - first) as usize + 1, self.occupied() + indices.len(), self.counts().width())
        {
            *self = self.dense(first, last);
            return self.add_each(indices);
        }
        indices.sort_unstable();
        let mut bins: Vec<(u32, u64)> = Vec::with_capacity(self.occupied() + indices.len());
        let mut more = indices.iter().copied().peekable();
        let push = |bins: &mut Vec<(u32, u64)>, index: u32, count: u64| match bins.last_mut() {
            Some((last, sum)) if *last == index => *sum = sum.saturating_add(count),
            _ => bins.push((index, count)),
        };
        self.for_each(|index, count| {
            while let Some(new) = more.next_if(|new| *new < index) {
                push(&mut bins, new, 1);
            }
            push(&mut bins, index, count);
        });
        more.for_each(|new| push(&mut bins, new, 1));
        *self = Store::from_sorted(&bins);
    }

    /// Adds all bins of `other`, each at `index >> shift`.
    pub(super) fn add_all(&mut self, other: &Store, shift: u8) {
        if self.occupied() == 0 && shift == 0 {
            *self = other.clone();
        } else {
            other.for_each(|index, count| _ = self.add(index >> shift, count));
        }
    }

    /// The same counts in bins that are `2^shift` times as wide.
    pub(super) fn joined(&self, shift: u8) -> Store {
        let mut bins: Vec<(u32, u64)> = Vec::with_capacity(self.occupied());
        self.for_each(|index, count| match bins.last_mut() {
            Some((last, sum)) if *last == index >> shift => *sum = sum.saturating_add(count),
            _ => bins.push((index >> shift, count)),
        });
        Store::from_sorted(&bins)
    }

    /// A store of `bins` (index and count), whose indices ascend and whose counts are not zero.
    pub(super) fn from_sorted(bins: &[(u32, u64)]) -> Store {
        let mut counts = Counts::zeros(bins.len());
        for (at, (_, count)) in bins.iter().enumerate() {
            counts.add(at, *count);
        }
        let mut store = Store::Sorted { indices: bins.iter().map(|(index, _)| *index).collect(), counts };
        store.make_dense_if_worth();
        store
    }

    pub(super) fn occupied(&self) -> usize {
        match self {
            Store::Dense { occupied, .. } => *occupied,
            Store::Sorted { indices, .. } => indices.len(),
        }
    }

    /// Occupied bins with their counts, in order of index.
    pub(super) fn bins(&self) -> impl Iterator<Item = (u32, u64)> + '_ {
        let (counts, len) = (self.counts(), self.counts().len());
        (0..len).map(move |at| (self.index_at(at), counts.get(at))).filter(|(_, count)| *count > 0)
    }

    /// The lowest and the highest occupied bin.
    pub(super) fn ends(&self) -> Option<(u32, u32)> {
        let occupied = |at: &usize| self.counts().get(*at) > 0;
        let len = self.counts().len();
        Some((self.index_at((0..len).find(occupied)?), self.index_at((0..len).rfind(occupied)?)))
    }

    /// The index of the bin in which the `rank`-th value in order of magnitude lies (from 0), and how many of
    /// the bin come before it.
    pub(super) fn at_rank(&self, rank: u64) -> Option<(u32, u64)> {
        let (at, before) = self.counts().at_rank(rank)?;
        Some((self.index_at(at), before))
    }

    /// The count of the bin `index`.
    pub(super) fn get(&self, index: u32) -> u64 {
        let at = match self {
            Store::Dense { base, .. } => Some(index.wrapping_sub(*base) as usize),
            Store::Sorted { indices, .. } => indices.binary_search(&index).ok(),
        };
        at.filter(|at| *at < self.counts().len()).map_or(0, |at| self.counts().get(at))
    }

    pub(super) fn heap_bytes(&self) -> usize {
        match self {
            Store::Dense { counts, .. } => counts.heap_bytes(),
            Store::Sorted { indices, counts } => indices.capacity() * INDEX_BYTES + counts.heap_bytes(),
        }
    }

    /// Calls `visit` with index and count of every occupied bin, in order of index.
    pub(super) fn for_each(&self, mut visit: impl FnMut(u32, u64)) {
        match self {
            Store::Dense { base, counts, .. } => counts.for_each(|at, count| visit(base + at as u32, count)),
            Store::Sorted { indices, counts } => counts.for_each(|at, count| visit(indices[at], count)),
        }
    }

    fn counts(&self) -> &Counts {
        match self {
            Store::Dense { counts, .. } | Store::Sorted { counts, .. } => counts,
        }
    }

    fn index_at(&self, at: usize) -> u32 {
        match self {
            Store::Dense { base, .. } => base + at as u32,
            Store::Sorted { indices, .. } => indices[at],
        }
    }

    /// Adds a bin that has no counter yet, and picks the form that fits then.
    fn add_outside(&mut self, index: u32, count: u64) {
        match self {
            Store::Dense { base, occupied, counts } => {
                let first = index.min(*base);
                let end = (index + 1).max(*base + counts.len() as u32);
                if dense_is_worth((end - first) as usize, *occupied + 1, counts.width()) {
                    // Room for an eighth more in front, so that a falling series does not move the run every
                    // time.
                    let front = (*base - first) as usize;
                    let front = if front > 0 { (front + counts.len() / 8).min(*base as usize) } else { 0 };
                    counts.grow(front, (end - *base) as usize - counts.len());
                    *base -= front as u32;
                    counts.add((index - *base) as usize, count);
                    *occupied += 1;
                    return;
                }
                *self = self.sorted();
                self.add_outside_sorted(index, count);
            }
            Store::Sorted { .. } => {
                self.add_outside_sorted(index, count);
                self.make_dense_if_worth();
            }
        }
    }

    fn add_outside_sorted(&mut self, index: u32, count: u64) {
        if let Store::Sorted { indices, counts } = self
            && let Err(at) = indices.binary_search(&index)
        {
            indices.insert(at, index);
            counts.insert_zero(at);
            counts.add(at, count);
        }
    }

    fn make_dense_if_worth(&mut self) {
        let Store::Sorted { indices, counts } = self else {
            return;
        };
        let (Some(first), Some(last)) = (indices.first().copied(), indices.last().copied()) else {
            return;
        };
        if dense_is_worth((last - first) as usize + 1, indices.len(), counts.width()) {
            *self = self.dense(first, last);
        }
    }

    /// The same as a dense run from one bin to another.
    fn dense(&self, first: u32, last: u32) -> Store {
        let mut dense = Counts::zeros((last - first) as usize + 1);
        self.for_each(|index, count| _ = dense.add((index - first) as usize, count));
        Store::Dense { base: first, occupied: self.occupied(), counts: dense }
    }

    fn sorted(&self) -> Store {
        let mut indices = Vec::with_capacity(self.occupied() + 1);
        let mut counts = Counts::zeros(self.occupied());
        self.for_each(|index, count| {
            counts.add(indices.len(), count);
            indices.push(index);
        });
        Store::Sorted { indices, counts }
    }
}

/// The least and the greatest.
fn ends(indices: &[u32]) -> Option<(u32, u32)> {
    Some((indices.iter().copied().min()?, indices.iter().copied().max()?))
}

fn dense_is_worth(span: usize, occupied: usize, width: usize) -> bool {
    span * width <= DENSE_FAVOUR * occupied * (INDEX_BYTES + width)
}
