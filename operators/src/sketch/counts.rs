//! A row of counters that are as wide as the largest of them needs: most sketches never leave one byte a bin.

/// Counters of 1, 2, 4 or 8 bytes. A counter saturates at `u64::MAX`.
#[derive(Clone, Debug)]
pub(super) enum Counts {
    /// Up to 255.
    U8(Vec<u8>),
    /// Up to 65,535.
    U16(Vec<u16>),
    /// Up to 4,294,967,295.
    U32(Vec<u32>),
    /// Beyond.
    U64(Vec<u64>),
}

/// Runs `$body` with `$row` bound to the vector, whatever its width.
macro_rules! with_row {
    ($counts:expr, $row:ident => $body:expr) => {
        match $counts {
            Counts::U8($row) => $body,
            Counts::U16($row) => $body,
            Counts::U32($row) => $body,
            Counts::U64($row) => $body,
        }
    };
}

impl Default for Counts {
    fn default() -> Self {
        Counts::U8(Vec::new())
    }
}

impl Counts {
    /// `len` counters at zero.
    pub(super) fn zeros(len: usize) -> Self {
        Counts::U8(vec![0; len])
    }

    pub(super) fn len(&self) -> usize {
        with_row!(self, row => row.len())
    }

    /// Bytes of one counter.
    pub(super) fn width(&self) -> usize {
        match self {
            Counts::U8(_) => 1,
            Counts::U16(_) => 2,
            Counts::U32(_) => 4,
            Counts::U64(_) => 8,
        }
    }

    pub(super) fn heap_bytes(&self) -> usize {
        with_row!(self, row => row.capacity()) * self.width()
    }

    pub(super) fn get(&self, at: usize) -> u64 {
        with_row!(self, row => wide(&row[at]))
    }

    /// Adds `count` to the counter `at`; true when it was zero.
    #[inline]
    pub(super) fn add(&mut self, at: usize, count: u64) -> bool {
        loop {
            let before = match self {
                Counts::U8(row) => add_narrow(&mut row[at], count),
                Counts::U16(row) => add_narrow(&mut row[at], count),
                Counts::U32(row) => add_narrow(&mut row[at], count),
                Counts::U64(row) => {
                    let before = row[at];
                    row[at] = before.saturating_add(count);
                    Some(before)
                }
            };
            match before {
                Some(before) => return before == 0,
                None => self.widen(),
            }
        }
    }

    /// Puts a new counter at zero before the counter `at`.
    pub(super) fn insert_zero(&mut self, at: usize) {
        with_row!(self, row => row.insert(at, 0));
    }

    /// Puts `front` counters at zero before the first and `back` behind the last.
    pub(super) fn grow(&mut self, front: usize, back: usize) {
        with_row!(self, row => {
            row.resize(row.len() + back, 0);
            if front > 0 {
                row.splice(0..0, std::iter::repeat_n(0, front));
            }
        });
    }

    /// Position of the counter in which the `rank`-th of all things counted lies (both from 0), and how many
    /// of that counter come before it.
    pub(super) fn at_rank(&self, rank: u64) -> Option<(usize, u64)> {
        with_row!(self, row => row_at_rank(row, rank))
    }

    /// Calls `visit` with position and count of every counter that is not zero, in order.
    pub(super) fn for_each(&self, mut visit: impl FnMut(usize, u64)) {
        with_row!(self, row => {
            for (at, counter) in row.iter().enumerate() {
                let count = wide(counter);
                if count > 0 {
                    visit(at, count);
                }
            }
        });
    }

    #[cold]
    fn widen(&mut self) {
        *self = match std::mem::take(self) {
            Counts::U8(row) => Counts::U16(row.into_iter().map(u16::from).collect()),
            Counts::U16(row) => Counts::U32(row.into_iter().map(u32::from).collect()),
            Counts::U32(row) => Counts::U64(row.into_iter().map(u64::from).collect()),
            widest => widest,
        };
    }
}

fn wide<T: Copy + Into<u64>>(counter: &T) -> u64 {
    (*counter).into()
}

/// Whole stretches are summed and passed over first: a sum without a branch takes a fraction of the time. (All
/// counters together are below 2^64 unless one has saturated.)
fn row_at_rank<T: Copy + Into<u64>>(row: &[T], rank: u64) -> Option<(usize, u64)> {
    const STRETCH: usize = 32;
    let mut left = rank;
    for (stretch, counters) in row.chunks(STRETCH).enumerate() {
        let sum = counters.iter().map(wide).fold(0, u64::wrapping_add);
        if left >= sum {
            left -= sum;
            continue;
        }
        for (at, count) in counters.iter().map(wide).enumerate() {
            if left < count {
                return Some((stretch * STRETCH + at, left));
            }
            left -= count;
        }
    }
    None
}

/// Adds if the sum fits, and gives what was there before.
#[inline]
fn add_narrow<T: Copy + Into<u64> + TryFrom<u64>>(counter: &mut T, count: u64) -> Option<u64> {
    let before = wide(counter);
    *counter = T::try_from(before.checked_add(count)?).ok()?;
    Some(before)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_widen_as_they_need() {
        for (add, width) in [
            (255, 1),
            (256, 2),
            (65_535, 2),
            (65_536, 4),
            (u64::from(u32::MAX), 4),
            (1 << 32, 8),
            (u64::MAX, 8),
        ] {
            let mut counts = Counts::zeros(3);
            assert!(counts.add(0, 7));
            assert!(counts.add(1, add));
            assert_eq!((counts.get(0), counts.get(1), counts.get(2)), (7, add, 0), "{add}");
            assert_eq!(counts.width(), width, "{add}");
            assert!(!counts.add(1, 1));
            assert_eq!(counts.get(1), add.saturating_add(1));
        }
    }

    #[test]
    fn growing_keeps_what_is_there() {
        let mut counts = Counts::zeros(1);
        counts.add(0, 300);
        counts.grow(2, 3);
        assert_eq!((counts.len(), counts.get(2)), (6, 300));
        assert_eq!(counts.at_rank(299), Some((2, 299)));
        assert_eq!(counts.at_rank(300), None);
    }
}
