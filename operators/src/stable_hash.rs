//! A hash that is the same in every process, version and machine: FNV-1a of 128 bits.
//!
//! It gives names to what leaves the process or outlives it, such as an alert. It is not keyed: who may
//! choose both inputs can make two that collide, so it is no defence, and no hash table uses it. Definition
//! and constants: draft-eastlake-fnv ("The FNV Non-Cryptographic Hash Algorithm", Fowler, Noll, Vo,
//! Eastlake).
//!
//! A changed result would rename every alert in every receiver: the constants and the way fields are put in
//! are a format.

/// The hash of no bytes.
const OFFSET_BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;

/// 2^88 + 2^8 + 0x3b.
const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;

/// A hash under way: fields in, a number out.
#[derive(Clone, Copy, Debug)]
pub struct StableHash(u128);

impl Default for StableHash {
    fn default() -> Self {
        StableHash::new()
    }
}

impl StableHash {
    /// The hash of nothing yet.
    pub const fn new() -> Self {
        StableHash(OFFSET_BASIS)
    }

    /// Puts in bytes as they are.
    #[must_use]
    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        for byte in bytes {
            self.0 = (self.0 ^ u128::from(*byte)).wrapping_mul(PRIME);
        }
        self
    }

    /// Puts in a text: its length in bytes as 8 bytes, lowest first, then the bytes, so that `"ab", "c"` and
    /// `"a", "bc"` differ.
    #[must_use]
    pub fn text(self, text: &str) -> Self {
        self.bytes(&(text.len() as u64).to_le_bytes()).bytes(text.as_bytes())
    }

    /// Puts in a number as 8 bytes, lowest first.
    #[must_use]
    pub fn number(self, number: i64) -> Self {
        self.bytes(&number.to_le_bytes())
    }

    /// Puts in an earlier result as 16 bytes, lowest first.
    #[must_use]
    pub fn id(self, id: u128) -> Self {
        self.bytes(&id.to_le_bytes())
    }

    /// The hash.
    pub const fn finish(self) -> u128 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_values() {
        for (text, expect) in [
            ("", 0x6c62272e07bb014262b821756295c58d),
            ("a", 0xd228cb696f1a8caf78912b704e4a8964),
            ("ab", 0x08809544bbab1be95aa0733055b69a62),
            ("abc", 0xa68d622cec8b5822836dbc7977af7f3b),
        ] {
            assert_eq!(StableHash::new().bytes(text.as_bytes()).finish(), expect, "{text:?}");
        }
    }

    #[test]
    fn fields_do_not_run_together() {
        let hash =
            |fields: &[&str]| fields.iter().fold(StableHash::new(), |hash, field| hash.text(field)).finish();
        assert_ne!(hash(&["ab", "c"]), hash(&["a", "bc"]));
        assert_ne!(hash(&["", "a"]), hash(&["a", ""]));
        assert_ne!(hash(&["a"]), hash(&["a", ""]));
    }
}
