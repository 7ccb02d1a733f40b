//! Reads Protocol Buffers where they lie: fields one after another, as numbers or slices, nothing allocated.
//!
//! Source: Protocol Buffers, "Encoding". Groups are as good as gone from the format and are no fields here.

use std::fmt;

/// A field's value by its wire type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// Wire type 0.
    Varint(u64),
    /// Wire type 1: 64 bits, little endian.
    Fixed64(u64),
    /// Wire type 2: bytes, a text, packed numbers or a message.
    Bytes(&'a [u8]),
    /// Wire type 5: 32 bits, little endian.
    Fixed32(u32),
}

/// A number of exactly six bytes, as times in milliseconds are from 2004 to 3084: the sevens of bits are drawn together,
/// pairs first.
#[inline]
pub fn varint_of_six(bytes: &[u8; 6]) -> Option<u64> {
    // The top bit says that a byte follows.
    const GOES_ON: u64 = 0x0080_8080_8080;
    const TOPS: u64 = 0x8080_8080_8080;
    let [b0, b1, b2, b3, b4, b5] = *bytes;
    let bits = u64::from_le_bytes([b0, b1, b2, b3, b4, b5, 0, 0]);
    if bits & TOPS != GOES_ON {
        return None;
    }
    let twos = (bits & 0x007f_007f_007f_007f) | (bits & 0x7f00_7f00_7f00_7f00) >> 1;
    let fours = (twos & 0x0000_3fff_0000_3fff) | (twos & 0x3fff_0000_3fff_0000) >> 2;
    Some((fours & 0x0fff_ffff) | fours >> 32 << 28)
}

/// Bytes that are no field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Byte offset in what was read.
    pub at: usize,
    /// What was expected and found.
    pub what: &'static str,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "byte {}: {}", self.at, self.what)
    }
}

/// A message that is being read.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Fields<'a> {
    /// From its first byte.
    pub fn new(bytes: &'a [u8]) -> Fields<'a> {
        Fields { bytes, at: 0 }
    }

    /// Bytes read so far.
    pub fn at(&self) -> usize {
        self.at
    }

    /// The next field's bytes if its key is `key`, one byte, and its length is short. If not, nothing was read.
    #[inline]
    pub fn short_bytes(&mut self, key: u8) -> Option<&'a [u8]> {
        let (len, rest) = match self.bytes.get(self.at..)? {
            [found, len, rest @ ..] if *found == key && *len < 0x80 => (usize::from(*len), rest),
            [found, low, high, rest @ ..] if *found == key && *high < 0x80 => {
                (usize::from(low & 0x7f) | usize::from(*high) << 7, rest)
            }
            _ => return None,
        };
        let found = rest.get(..len)?;
        self.at = self.bytes.len() - rest.len() + len;
        Some(found)
    }

    /// The next field's number and value; `None` at the end.
    ///
    /// # Errors
    /// If what follows is no field, or goes on beyond the end.
    #[inline]
    pub fn field(&mut self) -> Result<Option<(u64, Value<'a>)>, Fault> {
        if self.at == self.bytes.len() {
            return Ok(None);
        }
        let at = self.at;
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(u64::from_le_bytes(self.fixed()?)),
            2 => Value::Bytes(self.bytes()?),
            5 => Value::Fixed32(u32::from_le_bytes(self.fixed()?)),
            _ => return Err(Fault { at, what: "expected a field, found a wire type that there is not" }),
        };
        if key >> 3 == 0 {
            return Err(Fault { at, what: "expected a field, found the number 0" });
        }
        Ok(Some((key >> 3, value)))
    }

    /// A number of seven bits a byte, the lowest first.
    ///
    /// # Errors
    /// If it is cut off, or longer than 64 bits.
    #[inline]
    pub fn varint(&mut self) -> Result<u64, Fault> {
        match self.bytes.get(self.at..) {
            Some([low, ..]) if *low < 0x80 => {
                self.at += 1;
                Ok(u64::from(*low))
            }
            Some([low, high, ..]) if *high < 0x80 => {
                self.at += 2;
                Ok(u64::from(low & 0x7f) | u64::from(*high) << 7)
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<u64, Fault> {
        let rest = &self.bytes[self.at..];
        let mut number = 0;
        for (place, byte) in rest.iter().take(10).enumerate() {
            number |= u64::from(byte & 0x7f) << (7 * place);
            if *byte < 0x80 {
                // Of the tenth byte one bit is left.
                if place == 9 && *byte > 1 {
                    break;
                }
                self.at += place + 1;
                return Ok(number);
            }
        }
        let cut = rest.len() < 10;
        let what = if cut { "expected a number, found the end" } else { "expected a number of 64 bits" };
        Err(Fault { at: self.at, what })
    }

    #[inline]
    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let found = self.bytes[self.at..].first_chunk::<N>();
        let number = *found.ok_or(Fault { at: self.at, what: "expected a fixed number, found the end" })?;
        self.at += N;
        Ok(number)
    }

    #[inline]
    fn bytes(&mut self) -> Result<&'a [u8], Fault> {
        let at = self.at;
        let len = self.varint()?;
        let rest = &self.bytes[self.at..];
        let cut = Fault { at, what: "expected as many bytes as the length says, found the end" };
        let found = usize::try_from(len).ok().and_then(|len| rest.get(..len)).ok_or(cut)?;
        self.at += found.len();
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fields_by_wire_type() {
        let bytes =
            b"\x08\x96\x01\x11\x00\x00\x00\x00\x00\x00\xf8\x3f\x1a\x02hi\x25\x01\x00\x00\x00\x28\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01";
        let mut fields = Fields::new(bytes);
        for expected in [
            (1, Value::Varint(150)),
            (2, Value::Fixed64(1.5f64.to_bits())),
            (3, Value::Bytes(b"hi")),
            (4, Value::Fixed32(1)),
            (5, Value::Varint(u64::MAX)),
        ] {
            assert_eq!(fields.field(), Ok(Some(expected)));
        }
        assert_eq!(fields.field(), Ok(None));
    }

    #[test]
    fn what_is_no_field() {
        for (bytes, at, what) in [
            (&b"\x80"[..], 0, "expected a number, found the end"),
            (b"\x08", 1, "expected a number, found the end"),
            (b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", 1, "expected a number of 64 bits"),
            (b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 1, "expected a number of 64 bits"),
            (b"\x09\x01", 1, "expected a fixed number, found the end"),
            (b"\x0a\x02x", 1, "expected as many bytes as the length says, found the end"),
            (
                b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
                1,
                "expected as many bytes as the length says, found the end",
            ),
            (b"\x0b", 0, "expected a field, found a wire type that there is not"),
            (b"\x00\x00", 0, "expected a field, found the number 0"),
        ] {
            assert_eq!(Fields::new(bytes).field(), Err(Fault { at, what }), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn six_bytes_are_the_number_that_they_are(bytes in any::<[u8; 6]>(), goes_on in any::<bool>()) {
            let bytes = bytes.map(|byte| if goes_on { byte | 0x80 } else { byte });
            let bytes = [bytes[0], bytes[1], bytes[2], bytes[3], bytes[4], if goes_on { bytes[5] & 0x7f } else { bytes[5] }];
            let mut fields = Fields::new(&bytes);
            let number = fields.varint().ok().filter(|_| fields.at() == 6);
            prop_assert_eq!(varint_of_six(&bytes), number);
        }

        #[test]
        fn no_bytes_panic_and_every_field_takes_some(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut fields = Fields::new(&bytes);
            let mut at = 0;
            while let Ok(Some(_)) = fields.field() {
                prop_assert!(fields.at() > at);
                at = fields.at();
            }
        }
    }
}
