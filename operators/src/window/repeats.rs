//! Samples of watched series that were found to be sent again while a checkpoint is being written.
//!
//! Histories are saved later than the alert machines, with samples in them that the machines have not seen. When
//! those samples are taken in again, their histories can't say which of them were duplicates: this can.

use std::collections::HashSet;

use crate::packed::{Reader, Unreadable, put_varint};

/// Duplicates that a checkpoint can bear: 16 MiB of them. With more it is given up.
const REPEATS_MAX: usize = 1 << 20;

/// Epochs and positions, ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repeats {
    found: Vec<(u64, u32)>,
}

impl Repeats {
    /// Notes one, if there is room.
    pub(super) fn note(&mut self, epoch: u64, position: u32) {
        if self.found.len() <= REPEATS_MAX {
            self.found.push((epoch, position));
        }
    }

    /// Whether there were so many that some are missing.
    pub fn are_too_many(&self) -> bool {
        self.found.len() > REPEATS_MAX
    }

    /// Adds them to a set.
    pub fn add_to(self, set: &mut HashSet<(u64, u32)>) {
        set.extend(self.found);
    }

    /// Appends them, in a snapshot of `epoch`.
    pub fn save(&self, epoch: u64, out: &mut Vec<u8>) {
        put_varint(out, self.found.len() as u64);
        let mut before: (u64, u32) = (epoch, 0);
        for found in &self.found {
            let same = found.0 == before.0;
            put_varint(out, found.0.wrapping_sub(before.0));
            put_varint(out, u64::from(if same { found.1.wrapping_sub(before.1) } else { found.1 }));
            before = *found;
        }
    }

    /// Reads what [`Self::save`] wrote.
    pub fn load(epoch: u64, reader: &mut Reader<'_>) -> Result<Repeats, Unreadable> {
        let len = reader.len(2)?;
        let mut found = Vec::with_capacity(len);
        let mut before: (u64, u32) = (epoch, 0);
        for _ in 0..len {
            let epochs = reader.varint()?;
            let position =
                u32::try_from(reader.varint()?).map_err(|_| reader.wrong("a position in an epoch"))?;
            let position = if epochs == 0 { before.1.wrapping_add(position) } else { position };
            before = (before.0.wrapping_add(epochs), position);
            found.push(before);
        }
        Ok(Repeats { found })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_read_back() {
        let repeats = Repeats { found: vec![(8, 0), (8, 3), (8, 70_000), (11, 2), (11, 3)] };
        let mut out = Vec::new();
        repeats.save(7, &mut out);
        let mut reader = Reader::new(&out);
        assert_eq!(Repeats::load(7, &mut reader), Ok(repeats));
        assert_eq!(reader.end(), Ok(()));
        assert!((0..out.len()).all(|len| Repeats::load(7, &mut Reader::new(&out[..len])).is_err()));
    }

    #[test]
    fn more_than_a_checkpoint_bears_are_noticed_and_not_held() {
        let mut repeats = Repeats::default();
        for at in 0..REPEATS_MAX as u32 + 5 {
            assert_eq!(repeats.are_too_many(), at > REPEATS_MAX as u32);
            repeats.note(1, at);
        }
        assert_eq!(repeats.found.len(), REPEATS_MAX + 1);
    }
}
