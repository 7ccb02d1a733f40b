//! `detect`: anomaly scores for the samples of a table, one row after the other, in constant memory.
//!
//! Reads `timestamp,value` and writes `timestamp,value,anomaly_score,lower,upper`, the first two as they were read. A row
//! that can't be read is told of by line and column and left out, its neighbours pass. A row without a value (empty,
//! `NaN`, `NA`, `null`) is a missing sample: it is written with a score of 0 and no band.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use operators::anomaly::{Detector, Method, Settings};
use operators::sample::TimeNs;

use crate::codec::time;

/// Bytes that a line may have.
const LINE_LEN_MAX: usize = 64 << 10;
/// Rows that can't be read of which each is told; of the others only how many they were.
const TOLD_MAX: u64 = 20;
/// Names of the column of times, and of that of values.
const TIME_NAMES: &[&str] = &["timestamp", "time", "date", "datetime", "ds"];
const VALUE_NAMES: &[&str] = &["value", "y"];
/// The first row of what is written.
const HEADER: &str = "timestamp,value,anomaly_score,lower,upper";

/// What to read, where to write, and how samples are judged.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Task {
    /// The table; `-` is standard input.
    pub input: PathBuf,
    /// Where scores go; otherwise standard output.
    pub output: Option<PathBuf>,
    /// How samples are judged.
    pub method: Method,
}

/// How many rows there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Written, those without a value included.
    pub written: u64,
    /// Of these, rows without a value.
    pub missing: u64,
    /// Left out.
    pub bad: u64,
}

/// Opens what the task names, and scores it. Bad rows are told of on `told`.
///
/// # Errors
/// What can't be opened, read or written, and a table without the two columns.
pub fn run(task: &Task, told: &mut dyn Write) -> Result<Summary, DetectError> {
    let named = |path: &Path, what: &str| format!("can't {what} {}", path.display());
    let source: Box<dyn Read> = if task.input == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        Box::new(File::open(&task.input).map_err(|why| DetectError::io(named(&task.input, "read"), why))?)
    };
    let Some(path) = &task.output else {
        return detect(BufReader::new(source), BufWriter::new(io::stdout().lock()), task.method, told);
    };
    if let (Ok(input), Ok(output)) = (fs::canonicalize(&task.input), fs::canonicalize(path))
        && input == output
    {
        return Err(DetectError::Table(format!("{}: expected another file for the output", path.display())));
    }
    let file = File::create(path).map_err(|why| DetectError::io(named(path, "write"), why))?;
    detect(BufReader::new(source), BufWriter::new(file), task.method, told)
}

/// Scores the rows of `table`, in their order.
///
/// # Errors
/// A failure to read or write, a table without the two columns.
pub fn detect(
    table: impl BufRead,
    mut scores: impl Write,
    method: Method,
    told: &mut dyn Write,
) -> Result<Summary, DetectError> {
    let mut lines = Lines { table, text: Vec::new(), number: 0 };
    let mut detector = Detector::new(&Settings { method });
    let mut summary = Summary::default();
    let mut columns = None;
    let writing = |why| DetectError::io("can't write scores".into(), why);
    while let Some((number, line)) = lines.next()? {
        let line = match line {
            Ok("") => continue,
            Ok(line) => line,
            Err(why) => {
                tell(&mut summary, told, number, &why);
                continue;
            }
        };
        if columns.is_none() {
            let (found, is_header) = Columns::of(line, number)?;
            columns = Some(found);
            writeln!(scores, "{HEADER}").map_err(writing)?;
            if is_header {
                continue;
            }
        }
        match columns.map(|columns| read(line, columns)) {
            Some(Ok(row)) => judge(&row, &mut detector, &mut scores, &mut summary).map_err(writing)?,
            Some(Err(why)) => tell(&mut summary, told, number, &why),
            None => {}
        }
    }
    if columns.is_none() {
        return Err(DetectError::Table("line 1: expected timestamp,value, found nothing".into()));
    }
    scores.flush().map_err(writing)?;
    if summary.bad > TOLD_MAX {
        // Nobody is left to be told that telling failed.
        let _ = writeln!(told, "{} more rows left out", summary.bad - TOLD_MAX);
    }
    Ok(summary)
}

/// Judges a row, and writes it.
fn judge(
    row: &Row<'_>,
    detector: &mut Detector,
    scores: &mut impl Write,
    summary: &mut Summary,
) -> io::Result<()> {
    summary.written += 1;
    let Some(value) = row.value else {
        summary.missing += 1;
        return writeln!(scores, "{},{},0,,", row.time_text, row.value_text);
    };
    let judgement = detector.observe(row.time_ns, value);
    writeln!(
        scores,
        "{},{},{:.9},{},{}",
        row.time_text, row.value_text, judgement.score, judgement.lower, judgement.upper
    )
}

/// Counts a row that is left out, and says why.
fn tell(summary: &mut Summary, told: &mut dyn Write, line: u64, why: &str) {
    summary.bad += 1;
    if summary.bad <= TOLD_MAX {
        // What can't be told is still counted.
        let _ = writeln!(told, "line {line}: {why}");
    }
}

/// A row, its texts as they stand.
#[derive(Debug, PartialEq)]
struct Row<'a> {
    time_text: &'a str,
    value_text: &'a str,
    time_ns: TimeNs,
    /// Nothing of a missing sample.
    value: Option<f64>,
}

fn read(line: &str, columns: Columns) -> Result<Row<'_>, String> {
    let time_text = cell(line, columns.time).ok_or_else(|| absent(line, columns.time, "time"))?;
    let value_text = cell(line, columns.value).ok_or_else(|| absent(line, columns.value, "value"))?;
    let time_ns = parse_time(unquoted(time_text))
        .ok_or_else(|| wrong(columns.time, "a time such as 2024-01-01 12:00:00", time_text))?;
    let value =
        parse_value(unquoted(value_text)).ok_or_else(|| wrong(columns.value, "a number", value_text))?;
    Ok(Row { time_text, value_text, time_ns, value })
}

fn absent(line: &str, column: usize, what: &str) -> String {
    format!("column {}: expected a {what}, found {} columns", column + 1, line.split(',').count())
}

fn wrong(column: usize, expected: &str, found: &str) -> String {
    let found: String = found.chars().take(60).collect();
    format!("column {}: expected {expected}, found {found:?}", column + 1)
}

fn cell(line: &str, column: usize) -> Option<&str> {
    line.split(',').nth(column)
}

fn unquoted(text: &str) -> &str {
    let text = text.trim();
    text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text)
}

/// Reads a time: `YYYY-MM-DD HH:MM:SS[.fraction]` (with a `T`, too) in UTC, RFC 3339 with its offset, or a Unix number in
/// seconds, milliseconds, microseconds or nanoseconds, by its magnitude.
pub fn parse_time(text: &str) -> Option<TimeNs> {
    if text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'+' | b'e' | b'E'))
        && let Some(time_ns) = time::parse_number(text)
    {
        return Some(time_ns);
    }
    time::parse_text(text).or_else(|| time::parse_text(&format!("{text}Z")))
}

/// Reads a finite number, or what stands for none.
fn parse_value(text: &str) -> Option<Option<f64>> {
    if ["", "nan", "na", "n/a", "null", "none"].iter().any(|word| text.eq_ignore_ascii_case(word)) {
        return Some(None);
    }
    text.parse().ok().filter(|value: &f64| value.is_finite()).map(Some)
}

/// Which columns count, from 0.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Columns {
    time: usize,
    value: usize,
}

impl Columns {
    /// By the first line; the second says whether that is a header. Without one, the first two columns count.
    fn of(line: &str, number: u64) -> Result<(Columns, bool), DetectError> {
        let first_two = Columns { time: 0, value: 1 };
        if read(line, first_two).is_ok() {
            return Ok((first_two, false));
        }
        // A byte order mark is part of no name.
        let line = line.trim_start_matches('\u{feff}');
        let find = |names: &[&str]| {
            line.split(',').position(|name| names.iter().any(|one| unquoted(name).eq_ignore_ascii_case(one)))
        };
        match (find(TIME_NAMES), find(VALUE_NAMES)) {
            (Some(time), Some(value)) => Ok((Columns { time, value }, true)),
            _ => {
                let found: String = line.chars().take(60).collect();
                let text =
                    format!("line {number}: expected the columns timestamp and value, found {found:?}");
                Err(DetectError::Table(text))
            }
        }
    }
}

/// A line's number, and its text or what is wrong with it.
type Numbered<'a> = (u64, Result<&'a str, String>);

/// Lines of a table, none longer than a limit in memory.
struct Lines<T> {
    table: T,
    text: Vec<u8>,
    /// Of the last line, from 1.
    number: u64,
}

impl<T: BufRead> Lines<T> {
    /// The next line without its end, and its number; what is wrong with it, if it can't be one.
    fn next(&mut self) -> Result<Option<Numbered<'_>>, DetectError> {
        let reading = |why| DetectError::io("can't read the table".into(), why);
        self.text.clear();
        self.number += 1;
        let limit = LINE_LEN_MAX as u64 + 1;
        let len = self.table.by_ref().take(limit).read_until(b'\n', &mut self.text).map_err(reading)?;
        if len == 0 {
            return Ok(None);
        }
        if len > LINE_LEN_MAX && self.text.last() != Some(&b'\n') {
            self.skip_rest().map_err(reading)?;
            let why = format!("column 1: expected at most {LINE_LEN_MAX} bytes in a line");
            return Ok(Some((self.number, Err(why))));
        }
        let line = std::str::from_utf8(&self.text).map(|line| line.trim_end_matches(['\n', '\r']));
        let line = line
            .map_err(|why| format!("column 1: expected UTF-8, found another byte at {}", why.valid_up_to()));
        Ok(Some((self.number, line)))
    }

    fn skip_rest(&mut self) -> io::Result<()> {
        loop {
            let held = self.table.fill_buf()?;
            let end = held.iter().position(|byte| *byte == b'\n');
            let (len, is_last) = (end.map_or(held.len(), |end| end + 1), end.is_some() || held.is_empty());
            self.table.consume(len);
            if is_last {
                return Ok(());
            }
        }
    }
}

/// Why no scores were written, or not all of them.
#[derive(Debug)]
pub enum DetectError {
    /// Reading or writing failed: what was being done, and why.
    Io(String, io::Error),
    /// The table is none, and where.
    Table(String),
}

impl DetectError {
    fn io(doing: String, why: io::Error) -> DetectError {
        DetectError::Io(doing, why)
    }

    /// Whether the reader of the scores has gone, as `head` does: no error of ours.
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self, DetectError::Io(_, why) if why.kind() == io::ErrorKind::BrokenPipe)
    }
}

impl fmt::Display for DetectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DetectError::Io(doing, why) => write!(f, "{doing}: {why}"),
            DetectError::Table(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for DetectError {}

#[cfg(test)]
mod tests {
    use operators::sample::SECOND;

    use super::*;

    fn detected(table: &[u8]) -> (Result<Summary, String>, String, String) {
        let (mut scores, mut told) = (Vec::new(), Vec::new());
        let summary = detect(table, &mut scores, Method::Default, &mut told).map_err(|e| e.to_string());
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8 is written");
        (summary, text(scores), text(told))
    }

    #[test]
    fn times_of_every_kind() {
        let noon = 1_704_110_400 * SECOND;
        for (text, expected) in [
            ("2024-01-01 12:00:00", Some(noon)),
            ("2024-01-01 12:00:00.250000", Some(noon + SECOND / 4)),
            ("2024-01-01T12:00:00", Some(noon)),
            ("2024-01-01T12:00:00Z", Some(noon)),
            ("2024-01-01T13:00:00+01:00", Some(noon)),
            ("2024-01-01 13:00:00 +0100", Some(noon)),
            ("1704110400", Some(noon)),
            ("1704110400.5", Some(noon + SECOND / 2)),
            ("1704110400000", Some(noon)),
            ("1704110400000000000", Some(noon)),
            ("2024-01-01", None),
            ("2024-13-01 12:00:00", None),
            ("12:00", None),
            ("", None),
            ("soon", None),
        ] {
            assert_eq!(parse_time(text), expected, "{text:?}");
        }
    }

    #[test]
    fn columns_are_found_by_name_or_place() {
        for (head, first) in [
            ("timestamp,value\n1,5\n", "1,5,"),
            ("1,5\n", "1,5,"),
            ("Value,label,Time\r\n5,x,1\r\n", "1,5,"),
            ("\u{feff}\"timestamp\",\"value\"\n\"1\",\"5\"\n", "\"1\",\"5\","),
            ("\n\ndate,y\n2024-01-01 00:00:00,5.50\n", "2024-01-01 00:00:00,5.50,"),
        ] {
            let (summary, scores, told) = detected(head.as_bytes());
            assert_eq!(summary, Ok(Summary { written: 1, ..Summary::default() }), "{head:?}");
            let mut lines = scores.lines();
            assert_eq!(lines.next(), Some(HEADER));
            let row = lines.next().expect("a row is written");
            assert!(row.starts_with(first) && told.is_empty(), "{head:?}: {row}, {told}");
        }
        for (table, expected) in [
            ("", "line 1: expected timestamp,value, found nothing"),
            ("a,b\n1,5\n", "line 1: expected the columns timestamp and value, found \"a,b\""),
            ("\ntimestamp\n", "line 2: expected the columns timestamp and value, found \"timestamp\""),
        ] {
            assert_eq!(detected(table.as_bytes()).0, Err(expected.to_owned()), "{table:?}");
        }
    }

    #[test]
    fn a_bad_row_costs_only_itself() {
        let table = b"timestamp,value\n1,5\nsoon,5\n2,much\n3\n4,\n5,NaN\n6,inf\n7,\xff\n8,5\n";
        let (summary, scores, told) = detected(table);
        assert_eq!(summary, Ok(Summary { written: 4, missing: 2, bad: 5 }));
        let expected = "line 3: column 1: expected a time such as 2024-01-01 12:00:00, found \"soon\"\n\
                        line 4: column 2: expected a number, found \"much\"\n\
                        line 5: column 2: expected a value, found 1 columns\n\
                        line 8: column 2: expected a number, found \"inf\"\n\
                        line 9: column 1: expected UTF-8, found another byte at 2\n";
        assert_eq!(told, expected);
        assert_eq!(
            scores,
            format!("{HEADER}\n1,5,0.000000000,5,5\n4,,0,,\n5,NaN,0,,\n8,5,0.000000000,5,5\n")
        );
    }

    #[test]
    fn long_lines_and_many_bad_rows_stay_bounded() {
        let mut table = b"timestamp,value\n".to_vec();
        table.extend(vec![b'9'; 3 * LINE_LEN_MAX]);
        table.extend(b"\n1,5\n");
        for _ in 0..30 {
            table.extend(b"x,5\n");
        }
        table.extend(b"2,5");
        let (summary, _, told) = detected(&table);
        assert_eq!(summary, Ok(Summary { written: 2, missing: 0, bad: 31 }));
        assert!(
            told.starts_with("line 2: column 1: expected at most 65536 bytes in a line\nline 4: "),
            "{told}"
        );
        assert_eq!(told.lines().count(), 21);
        assert!(told.ends_with("11 more rows left out\n"), "{told}");
    }
}
