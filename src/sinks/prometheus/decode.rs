//! For tests: a decoder of both versions' bodies, which knows the encoding's rules and nothing of our encoder.

use super::names::Labels;

/// Labels, and times in milliseconds with the bits of the values, of each series.
pub type Decoded = Vec<(Labels, Vec<(i64, u64)>)>;

enum Field<'a> {
    Varint(u64),
    Fixed(u64),
    Bytes(&'a [u8]),
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = bytes[0];
        *bytes = &bytes[1..];
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return number;
        }
    }
    panic!("a varint of more than ten bytes");
}

fn fields(mut bytes: &[u8]) -> Vec<(u64, Field<'_>)> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes);
        let field = match tag & 7 {
            0 => Field::Varint(varint(&mut bytes)),
            1 => {
                let (number, rest) = bytes.split_at(8);
                bytes = rest;
                Field::Fixed(u64::from_le_bytes(number.try_into().unwrap()))
            }
            2 => {
                let length = varint(&mut bytes) as usize;
                let (inner, rest) = bytes.split_at(length);
                bytes = rest;
                Field::Bytes(inner)
            }
            other => panic!("wire type {other}"),
        };
        found.push((tag >> 3, field));
    }
    found
}

fn text(bytes: &[u8]) -> Box<str> {
    std::str::from_utf8(bytes).unwrap().into()
}

fn sample(bytes: &[u8]) -> (i64, u64) {
    let (mut time_ms, mut bits) = (0, 0);
    for field in fields(bytes) {
        match field {
            (1, Field::Fixed(value)) => bits = value,
            (2, Field::Varint(number)) => time_ms = number as i64,
            (number, _) => panic!("field {number} of a sample"),
        }
    }
    (time_ms, bits)
}

fn label(bytes: &[u8]) -> (Box<str>, Box<str>) {
    let (mut name, mut value) = ("".into(), "".into());
    for field in fields(bytes) {
        match field {
            (1, Field::Bytes(inner)) => name = text(inner),
            (2, Field::Bytes(inner)) => value = text(inner),
            (number, _) => panic!("field {number} of a label"),
        }
    }
    (name, value)
}

/// A `prometheus.WriteRequest`.
pub fn decode_v1(body: &[u8]) -> Decoded {
    let mut found = Decoded::new();
    for field in fields(body) {
        let (1, Field::Bytes(series)) = field else { panic!("field {} of a request", field.0) };
        let (mut labels, mut samples) = (Labels::new(), Vec::new());
        for field in fields(series) {
            match field {
                (1, Field::Bytes(inner)) => labels.push(label(inner)),
                (2, Field::Bytes(inner)) => samples.push(sample(inner)),
                (number, _) => panic!("field {number} of a series"),
            }
        }
        found.push((labels, samples));
    }
    found
}

/// An `io.prometheus.write.v2.Request`.
pub fn decode_v2(body: &[u8]) -> Decoded {
    let (mut symbols, mut found) = (Vec::new(), Decoded::new());
    let all = fields(body);
    for field in &all {
        if let (4, Field::Bytes(inner)) = field {
            symbols.push(text(inner));
        }
    }
    assert_eq!(symbols.first().map(AsRef::as_ref), Some(""), "the first symbol is empty");
    for field in &all {
        let series = match field {
            (5, Field::Bytes(series)) => *series,
            (4, _) => continue,
            (number, _) => panic!("field {number} of a request"),
        };
        let (mut refs, mut samples) = (Vec::new(), Vec::new());
        for field in fields(series) {
            match field {
                (1, Field::Bytes(mut inner)) => {
                    while !inner.is_empty() {
                        refs.push(symbols[varint(&mut inner) as usize].clone());
                    }
                }
                (2, Field::Bytes(inner)) => samples.push(sample(inner)),
                (number, _) => panic!("field {number} of a series"),
            }
        }
        assert_eq!(refs.len() % 2, 0, "labels are pairs");
        found.push((refs.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect(), samples));
    }
    found
}
