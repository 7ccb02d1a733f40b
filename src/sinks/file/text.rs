//! What the text formats have in common: a table of functions, and gzip members that name their own
//! length.
//!
//! Compressed text is a sequence of gzip members (RFC 1952), one for each flush, which any reader
//! takes for one file. Each carries an extra field `PM` with its length, its number of samples, and
//! its first and last event time; so a start finds the whole members without decompressing them,
//! and a query skips those out of its range.

use std::io::{self, Read, Write};

use flate2::read::MultiGzDecoder;
use flate2::{Compression, GzBuilder};

use super::FileFormat;
use super::catalog::Block;
use super::csv::CSV;
use super::json::JSON;
use super::newest::{Newest, Targets};
use super::time::TimeText;
use crate::message::Message;
use operators::sample::TimeNs;

/// How one text format writes and reads.
pub(super) struct TextFormat {
    /// What a file begins with.
    pub header: &'static [u8],
    /// Appends the rows of a message.
    pub encode: fn(&Message, &mut Scratch, &mut Vec<u8>),
    /// The first row of a text; `None` where its end is not there.
    pub first_row: fn(&[u8]) -> Option<Row>,
    /// Gives every row to the answer, and counts there what is no row.
    pub read: fn(&[u8], &mut Targets, &mut Newest<'_>),
}

/// The text format of `format`; `None` for parquet.
pub(super) fn of(format: FileFormat) -> Option<&'static TextFormat> {
    match format {
        FileFormat::Json => Some(&JSON),
        FileFormat::Csv => Some(&CSV),
        FileFormat::Parquet => None,
    }
}

/// Buffers that encoding uses again and again.
#[derive(Default)]
pub(super) struct Scratch {
    pub time: TimeText,
    pub head: Vec<u8>,
    pub tail: Vec<u8>,
    pub tags: Vec<u8>,
}

/// One row found while looking for the end of what is whole.
pub(super) struct Row {
    /// Bytes, with the line end.
    pub len: usize,
    /// Event time and number of samples; `None` for a header or something that is no row.
    pub valid: Option<(TimeNs, u64)>,
}

/// Looks through `text` row by row; the block ends with the last row that is one.
pub(super) fn scan(format: &TextFormat, text: &[u8]) -> Block {
    let mut block = Block::EMPTY;
    let mut at = 0;
    while let Some(row) = (format.first_row)(&text[at..]) {
        at += row.len;
        if let Some((time_ns, samples)) = row.valid {
            block.add(time_ns, samples);
            block.len = at as u64;
        } else if text[..at] == *format.header {
            block.len = at as u64;
        }
    }
    block
}

/// The most that one block is decompressed to; a larger one has been tampered with.
const INFLATED_MAX: u64 = 256 << 20;

/// Everything in the gzip members of `packed` up to the first damage, and whether there was any.
pub(super) fn inflate(packed: &[u8]) -> (Vec<u8>, bool) {
    let mut text = Vec::new();
    let result = MultiGzDecoder::new(packed).take(INFLATED_MAX).read_to_end(&mut text);
    (text, result.is_err())
}

/// Length of the header that [`deflate`] writes: fixed part, length of extra, subfield head, field.
pub(super) const MEMBER_HEADER: usize = 10 + 2 + 4 + FIELD;
const FIELD: usize = 28;
const LEN_AT: usize = 16;

/// Compresses `text`, whose rows `block` sums up, to one gzip member.
pub(super) fn deflate(text: &[u8], block: &Block) -> io::Result<Vec<u8>> {
    let mut extra = Vec::with_capacity(4 + FIELD);
    extra.extend_from_slice(b"PM");
    extra.extend_from_slice(&(FIELD as u16).to_le_bytes());
    extra.extend_from_slice(&0u32.to_le_bytes());
    extra.extend_from_slice(&block.samples.to_le_bytes());
    extra.extend_from_slice(&block.min_ns.to_le_bytes());
    extra.extend_from_slice(&block.max_ns.to_le_bytes());
    let packed = Vec::with_capacity(text.len() / 8);
    let mut member = GzBuilder::new().extra(extra).write(packed, Compression::new(2));
    member.write_all(text)?;
    let mut member = member.finish()?;
    let len = u32::try_from(member.len()).map_err(io::Error::other)?;
    member[LEN_AT..LEN_AT + 4].copy_from_slice(&len.to_le_bytes());
    Ok(member)
}

/// Reads the header of a member; its block begins at offset 0. `None` where it is not one of ours.
pub(super) fn member(header: &[u8; MEMBER_HEADER]) -> Option<Block> {
    let ours = header.starts_with(&[0x1f, 0x8b, 8, 4])
        && header[10..12] == ((4 + FIELD) as u16).to_le_bytes()
        && header[12..14] == *b"PM"
        && header[14..16] == (FIELD as u16).to_le_bytes();
    let eight = |at: usize| header[at..at + 8].try_into().unwrap_or([0; 8]);
    let len = header[LEN_AT..LEN_AT + 4].try_into().map_or(0, u32::from_le_bytes);
    let samples = u64::from_le_bytes(eight(20));
    let (min_ns, max_ns) = (i64::from_le_bytes(eight(28)), i64::from_le_bytes(eight(36)));
    let plausible = len as usize > MEMBER_HEADER;
    (ours && plausible).then_some(Block { offset: 0, len: len.into(), samples, min_ns, max_ns })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_names_its_length_and_inflates() {
        let block = Block { samples: 7, min_ns: -5, max_ns: 9, ..Block::EMPTY };
        let one = deflate(b"hello\n", &block).unwrap();
        let header = one[..MEMBER_HEADER].try_into().unwrap();
        assert_eq!(member(&header), Some(Block { len: one.len() as u64, ..block }));
        let two = [one.clone(), one.clone()].concat();
        assert_eq!(inflate(&two), (b"hello\nhello\n".to_vec(), false));
        assert_eq!(inflate(&two[..two.len() - 1]), (b"hello\nhello\n".to_vec(), true));
    }
}
