//! Stored files read whole, by whoever names one, while no sink writes them.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

use super::name::FileName;
use super::newest::{Newest, Targets};
use super::{FileFormat, parquet, text};
use crate::message::Message;
use crate::sinks::Query;

/// Bytes of text that are read before their rows are.
const PART_BYTES: usize = 8 << 20;
/// Longest row.
const ROW_BYTES_MAX: usize = 64 << 20;

/// Gives every message of a stored file, or of all that are in a directory, to `each`; says how many rows could not be
/// read. What a file is its name says: `.json`, `.csv`, both perhaps with `.gz`, or `.parquet`.
///
/// # Errors
/// A file that can't be opened, or whose name says nothing.
pub fn read_stored(path: &Path, each: &mut dyn FnMut(Message)) -> io::Result<u64> {
    let named =
        |path: &Path, error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let mut damaged = 0;
    for file in files(path).map_err(|error| named(path, error))? {
        damaged += read_file(&file, each).map_err(|error| named(&file, error))?;
    }
    Ok(damaged)
}

/// The file itself, or the data files of a directory but for those that were merged into another.
fn files(path: &Path) -> io::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_path_buf()]);
    }
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path)? {
        names.extend(FileName::parse(&entry?.file_name().to_string_lossy()));
    }
    names.sort_by_key(|name| name.first);
    let merged = |name: &&FileName| !names.iter().any(|other| other.covers(name));
    let files: Vec<PathBuf> = names.iter().filter(merged).map(|name| path.join(name.text())).collect();
    if files.is_empty() {
        return Err(io::Error::other("expected stored files, found none"));
    }
    Ok(files)
}

fn read_file(path: &Path, each: &mut dyn FnMut(Message)) -> io::Result<u64> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let (plain, gzip) = match name.strip_suffix(".gz") {
        Some(plain) => (plain.to_string(), true),
        None => (name, false),
    };
    let ending = Path::new(&plain).extension().map(|ending| ending.to_string_lossy().into_owned());
    let format = FileFormat::ALL.into_iter().find(|format| Some(format.ending()) == ending.as_deref());
    let Some(format) = format else {
        return Err(io::Error::other(
            "expected a name that ends in .json, .csv, .json.gz, .csv.gz or .parquet",
        ));
    };
    let Some(format) = text::of(format) else { return read_parquet(path, each) };
    let file = BufReader::new(File::open(path)?);
    match gzip {
        true => read_text(format, MultiGzDecoder::new(file), each),
        false => read_text(format, file, each),
    }
}

fn all() -> Query {
    Query { limit: usize::MAX, ..Query::default() }
}

fn read_parquet(path: &Path, each: &mut dyn FnMut(Message)) -> io::Result<u64> {
    let (query, mut targets) = (all(), Targets::new());
    for group in parquet::row_groups(path)? {
        let mut found = Newest::new(&query);
        parquet::read(path, group.offset, 0, &mut targets, &mut found)?;
        found.finish().into_iter().rev().for_each(&mut *each);
    }
    Ok(0)
}

fn read_text(
    format: &text::TextFormat,
    mut from: impl Read,
    each: &mut dyn FnMut(Message),
) -> io::Result<u64> {
    let (query, mut targets) = (all(), Targets::new());
    let (mut held, mut damaged) = (Vec::new(), 0);
    loop {
        let read = from.by_ref().take(PART_BYTES as u64).read_to_end(&mut held);
        // What a torn end has before it is whole.
        let (at_end, torn) = match &read {
            Ok(len) => (*len < PART_BYTES, false),
            Err(_) => (true, true),
        };
        let whole = if at_end { held.len() } else { text::scan(format, &held).len as usize };
        let mut found = Newest::new(&query);
        (format.read)(&held[..whole], &mut targets, &mut found);
        damaged += found.corrupted + u64::from(torn);
        found.finish().into_iter().rev().for_each(&mut *each);
        held.drain(..whole);
        if at_end {
            return Ok(damaged);
        }
        if held.len() > ROW_BYTES_MAX {
            return Err(io::Error::other(format!(
                "expected rows of at most {ROW_BYTES_MAX} bytes, found a longer one"
            )));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use operators::sample::SECOND;
    use operators::series::Target;

    use super::*;
    use crate::sinks::Sink;
    use crate::sinks::file::{FileConfig, FileSink};

    #[test]
    fn what_a_sink_stores_is_read_whole() {
        let target = Arc::new(Target::new("s", [("host", "a,\"b\"\n")]));
        let messages: Vec<Message> = (0..500)
            .map(|at| Message {
                time_ns: 1_704_110_400 * SECOND + at * SECOND,
                target: target.clone(),
                metrics: vec![("a".into(), at as f64), ("b".into(), -0.5)],
            })
            .collect();
        for format in FileFormat::ALL {
            for compression in [false, true] {
                let folder = tempfile::tempdir().unwrap();
                let config = FileConfig {
                    path: folder.path().into(),
                    format,
                    compression,
                    retention_ns: None,
                    ..FileConfig::default()
                };
                let mut sink = FileSink::open(config).unwrap();
                sink.write(&messages).unwrap();
                sink.flush(1).unwrap();
                drop(sink);
                let mut found = Vec::new();
                let damaged = read_stored(folder.path(), &mut |message| found.push(message)).unwrap();
                let samples = |messages: &[Message]| {
                    let of = |m: &Message| {
                        let one =
                            |(name, value): &(Arc<str>, f64)| (m.time_ns, name.clone(), value.to_bits());
                        m.metrics.iter().map(one).collect::<Vec<_>>()
                    };
                    let mut all: Vec<_> = messages.iter().flat_map(of).collect();
                    all.sort();
                    all
                };
                assert_eq!((damaged, samples(&found)), (0, samples(&messages)), "{format:?} {compression}");
                assert!(found.iter().all(|message| message.target == target));
            }
        }
        let error = read_stored(Path::new("/nowhere/notes.txt"), &mut |_| {}).unwrap_err().to_string();
        assert!(error.starts_with("/nowhere/notes.txt: expected a name that ends in"), "{error}");
    }
}
