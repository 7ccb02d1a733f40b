//! The protobuf wire format, as far as OTLP needs it: the fields of a message, and packed numbers.
//!
//! Source: Protocol Buffers, "Encoding". Groups are long gone from it and are refused. Nothing is copied, and nothing
//! is taken on trust: a length that goes beyond its message is an error where it stands.

/// A message that stops making sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken<'a> {
    /// What is left from that place on.
    pub rest: &'a [u8],
    /// What was expected there.
    pub expected: &'static str,
}

impl Broken<'_> {
    /// Its place in the body, which it is a part of.
    pub fn byte(&self, body: &[u8]) -> usize {
        (self.rest.as_ptr() as usize).saturating_sub(body.as_ptr() as usize).min(body.len())
    }
}

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// Wire type 0.
    Varint(u64),
    /// Wire type 1.
    Fixed64(u64),
    /// Wire type 2: text, bytes, a message, packed numbers.
    Bytes(&'a [u8]),
    /// Wire type 5.
    Fixed32(u32),
}

/// The fields of a message in their order.
#[derive(Clone, Copy)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// Those of `message`.
    pub fn of(message: &'a [u8]) -> Fields<'a> {
        Fields { rest: message }
    }

    /// Number and value of the next field; none at the end.
    ///
    /// # Errors
    /// Where the message stops making sense.
    #[inline]
    pub fn next_field(&mut self) -> Result<Option<(u64, Value<'a>)>, Broken<'a>> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let begin = self.rest;
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(u64::from_le_bytes(self.fixed()?)),
            2 => {
                let at = self.rest;
                let len = self.varint()?;
                let broken = Broken { rest: at, expected: "a length within its message" };
                let len = usize::try_from(len).map_err(|_| broken)?;
                let (value, rest) = self.rest.split_at_checked(len).ok_or(broken)?;
                self.rest = rest;
                Value::Bytes(value)
            }
            5 => Value::Fixed32(u32::from_le_bytes(self.fixed()?)),
            _ => return Err(Broken { rest: begin, expected: "a field of wire type 0, 1, 2 or 5" }),
        };
        if key >> 3 == 0 {
            return Err(Broken { rest: begin, expected: "a field number above 0" });
        }
        Ok(Some((key >> 3, value)))
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, Broken<'a>> {
        let mut value = 0;
        for (at, byte) in self.rest.iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * at);
            if byte & 0x80 == 0 {
                self.rest = &self.rest[at + 1..];
                return Ok(value);
            }
        }
        Err(Broken { rest: self.rest, expected: "a varint of at most 10 bytes" })
    }

    #[inline]
    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Broken<'a>> {
        let broken = Broken { rest: self.rest, expected: "the bytes of a fixed number" };
        let (value, rest) = self.rest.split_first_chunk::<N>().ok_or(broken)?;
        self.rest = rest;
        Ok(*value)
    }
}

/// Calls `take` with every number of a repeated `fixed64` or `double` field, packed or not.
///
/// # Errors
/// If the packed numbers are no whole number of them.
pub fn each_fixed64<'a>(value: Value<'a>, mut take: impl FnMut(u64)) -> Result<(), Broken<'a>> {
    match value {
        Value::Fixed64(number) => take(number),
        Value::Bytes(packed) => {
            let (numbers, rest) = packed.as_chunks::<8>();
            if !rest.is_empty() {
                return Err(Broken { rest, expected: "packed numbers of 8 bytes each" });
            }
            numbers.iter().for_each(|bytes| take(u64::from_le_bytes(*bytes)));
        }
        Value::Varint(_) | Value::Fixed32(_) => {}
    }
    Ok(())
}

/// Calls `take` with every number of a repeated varint field, packed or not.
///
/// # Errors
/// If a packed number is cut off.
pub fn each_varint<'a>(value: Value<'a>, mut take: impl FnMut(u64)) -> Result<(), Broken<'a>> {
    match value {
        Value::Varint(number) => take(number),
        Value::Bytes(packed) => {
            let mut numbers = Fields::of(packed);
            while !numbers.rest.is_empty() {
                take(numbers.varint()?);
            }
        }
        Value::Fixed64(_) | Value::Fixed32(_) => {}
    }
    Ok(())
}

/// The number that a `sint32` field spells (ZigZag).
pub fn zigzag32(number: u64) -> i32 {
    let number = number as u32;
    (number >> 1) as i32 ^ -((number & 1) as i32)
}

/// Appends a length-delimited field.
pub fn put_bytes(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    put_varint(out, field << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends a varint field, unless it has its default.
pub fn put_number(out: &mut Vec<u8>, field: u64, number: u64) {
    if number != 0 {
        put_varint(out, field << 3);
        put_varint(out, number);
    }
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_in_their_order() {
        let bytes = [0x08, 0xac, 0x02, 0x12, 0x01, b'a', 0x1d, 1, 0, 0, 0, 0x21, 2, 0, 0, 0, 0, 0, 0, 0];
        let mut fields = Fields::of(&bytes);
        let expected = [
            (1, Value::Varint(300)),
            (2, Value::Bytes(b"a")),
            (3, Value::Fixed32(1)),
            (4, Value::Fixed64(2)),
        ];
        for field in expected {
            assert_eq!(fields.next_field(), Ok(Some(field)));
        }
        assert_eq!(fields.next_field(), Ok(None));
    }

    #[test]
    fn what_makes_no_sense_is_told_with_its_place() {
        for (bytes, byte, expected) in [
            (&[0x08][..], 1, "a varint of at most 10 bytes"),
            (&[0x80; 11], 0, "a varint of at most 10 bytes"),
            (&[0x12, 0x02, b'a'], 1, "a length within its message"),
            (
                &[0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
                1,
                "a length within its message",
            ),
            (&[0x1d, 1, 2], 1, "the bytes of a fixed number"),
            (&[0x0b], 0, "a field of wire type 0, 1, 2 or 5"),
            (&[0x00, 0x00], 0, "a field number above 0"),
        ] {
            let broken = Fields::of(bytes).next_field().expect_err("it makes no sense");
            assert_eq!((broken.byte(bytes), broken.expected), (byte, expected), "{bytes:?}");
        }
    }

    #[test]
    fn repeated_numbers_come_packed_or_not() {
        let mut found = Vec::new();
        each_varint(Value::Bytes(&[1, 0x80, 1]), |n| found.push(n)).expect("two numbers");
        each_varint(Value::Varint(7), |n| found.push(n)).expect("a number");
        each_fixed64(Value::Bytes(&[2, 0, 0, 0, 0, 0, 0, 0]), |n| found.push(n)).expect("a number");
        each_fixed64(Value::Fixed64(3), |n| found.push(n)).expect("a number");
        assert_eq!(found, [1, 128, 7, 2, 3]);
        assert!(each_varint(Value::Bytes(&[0x80]), |_| ()).is_err());
        assert!(each_fixed64(Value::Bytes(&[0; 9]), |_| ()).is_err());
        assert_eq!([0, 1, 2, 3, u64::from(u32::MAX)].map(zigzag32), [0, -1, 1, -2, i32::MIN]);
    }
}
