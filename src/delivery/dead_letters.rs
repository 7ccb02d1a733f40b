//! Samples that a target refused for their content, kept for people: one JSON object a line,
//! `{"time", "delivery", "answer", "sample": {"timestamp", "service", "tags", "metric", "value"}}`.
//!
//! A letter is durable before the delivery's cursor moves past its sample. A crash in between writes it
//! twice: a letter may stand there twice, never not at all. When the file has reached its size, it is
//! renamed to `NAME.old` in the place of the one before, whose letters are forgotten, and counted.
//! Who moves a file away, to send its samples again, gets a new one in its place.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use operators::sample::TimeNs;

use crate::message::{Message, write_json_f64, write_json_str, write_json_tags, write_rfc3339};

/// Where dead letters are kept.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadLettersConfig {
    /// The file; beside it stands `NAME.old`.
    pub path: PathBuf,
    /// Size of each of the two files.
    pub bytes_max: u64,
}

impl Default for DeadLettersConfig {
    fn default() -> Self {
        DeadLettersConfig { path: "dead-letters/sink.jsonl".into(), bytes_max: 16 << 20 }
    }
}

/// The dead letters of one delivery.
pub struct DeadLetters {
    config: Option<DeadLettersConfig>,
    /// Opened with the first letter.
    open: Option<Open>,
    forgotten: u64,
    line: Vec<u8>,
}

struct Open {
    file: File,
    inode: u64,
    len: u64,
    synced: bool,
}

/// The longest answer that is kept, in bytes.
const ANSWER_LEN_MAX: usize = 2_048;

impl DeadLetters {
    /// Keeps letters in a file, which is made with the first one. A last line that a crash has torn is cut
    /// off: the cursor had not moved past its sample.
    pub fn at(config: DeadLettersConfig) -> Self {
        DeadLetters { config: Some(config), ..DeadLetters::none() }
    }

    /// Keeps no letters: refused samples are only counted.
    pub fn none() -> Self {
        DeadLetters { config: None, open: None, forgotten: 0, line: Vec::new() }
    }

    /// Letters that had to go for the size of the files, since the start.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// Bytes of both files.
    pub fn bytes(&self) -> u64 {
        let Some(config) = &self.config else { return 0 };
        [config.path.clone(), old(&config.path)]
            .iter()
            .filter_map(|path| fs::metadata(path).ok())
            .map(|m| m.len())
            .sum()
    }

    /// Appends the letter of `sample`, a message of one sample. Durable with the next [`DeadLetters::sync`].
    ///
    /// # Errors
    /// It can't be written; nothing of it is there.
    pub(super) fn append(
        &mut self,
        delivery: &str,
        time_ns: TimeNs,
        sample: &Message,
        answer: &str,
    ) -> io::Result<()> {
        let Some(config) = self.config.clone() else { return Ok(()) };
        self.line.clear();
        write_letter(delivery, time_ns, sample, answer, &mut self.line);
        self.append_line(&config).map_err(|error| of(&config.path, &error))
    }

    /// Makes every letter durable.
    ///
    /// # Errors
    /// They may not be.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        let (Some(config), Some(open)) = (&self.config, &mut self.open) else { return Ok(()) };
        open.sync().map_err(|error| of(&config.path, &error))
    }

    fn append_line(&mut self, config: &DeadLettersConfig) -> io::Result<()> {
        let moved = |open: &Open| fs::metadata(&config.path).map_or(true, |found| found.ino() != open.inode);
        if let Some(open) = self.open.as_mut().filter(|open| moved(open)) {
            open.sync()?;
            self.open = None;
        }
        let open = match self.open.take() {
            Some(open) => self.open.insert(open),
            None => self.open.insert(Open::at(&config.path)?),
        };
        if open.len > 0 && open.len + self.line.len() as u64 > config.bytes_max {
            open.sync()?;
            let forgotten = lines_of(&old(&config.path));
            fs::rename(&config.path, old(&config.path))?;
            self.forgotten += forgotten;
            *open = Open::at(&config.path)?;
        }
        open.append(&self.line)
    }
}

impl Open {
    fn at(path: &Path) -> io::Result<Open> {
        let dir = super::directory_of(path);
        fs::create_dir_all(dir)?;
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
        let (len, _) = whole_lines(&mut file)?;
        file.set_len(len)?;
        File::open(dir)?.sync_all()?;
        let inode = file.metadata()?.ino();
        Ok(Open { file, inode, len, synced: false })
    }

    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        self.synced = false;
        if let Err(error) = self.file.write_all(line) {
            // What came of it would tear the next line; should this fail too, opening again cuts it off.
            let _ = self.file.set_len(self.len);
            return Err(error);
        }
        self.len += line.len() as u64;
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        if !self.synced {
            self.file.sync_data()?;
            self.synced = true;
        }
        Ok(())
    }
}

fn write_letter(delivery: &str, time_ns: TimeNs, sample: &Message, answer: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"time\":\"");
    write_rfc3339(time_ns, out);
    out.extend_from_slice(b"\",\"delivery\":");
    write_json_str(delivery, out);
    out.extend_from_slice(b",\"answer\":");
    write_json_str(&answer[..answer.floor_char_boundary(ANSWER_LEN_MAX)], out);
    out.extend_from_slice(b",\"sample\":{\"timestamp\":\"");
    write_rfc3339(sample.time_ns, out);
    out.extend_from_slice(b"\",\"service\":");
    write_json_str(&sample.target.service, out);
    out.extend_from_slice(b",\"tags\":");
    write_json_tags(&sample.target.tags, out);
    for (metric, value) in sample.metrics.iter().take(1) {
        out.extend_from_slice(b",\"metric\":");
        write_json_str(metric, out);
        out.extend_from_slice(b",\"value\":");
        write_json_f64(*value, out);
    }
    out.extend_from_slice(b"}}\n");
}

fn old(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".old");
    name.into()
}

/// Length up to the last line break, and the line breaks.
fn whole_lines(file: &mut File) -> io::Result<(u64, u64)> {
    file.seek(SeekFrom::Start(0))?;
    let (mut at, mut whole, mut lines) = (0, 0, 0);
    let mut chunk = vec![0; 1 << 16];
    loop {
        let len = file.read(&mut chunk)?;
        if len == 0 {
            return Ok((whole, lines));
        }
        for (offset, _) in chunk[..len].iter().enumerate().filter(|(_, byte)| **byte == b'\n') {
            (whole, lines) = (at + offset as u64 + 1, lines + 1);
        }
        at += len as u64;
    }
}

/// Lines of a file; none of one that isn't there or can't be read.
fn lines_of(path: &Path) -> u64 {
    File::open(path).and_then(|mut file| whole_lines(&mut file)).map_or(0, |(_, lines)| lines)
}

fn of(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("dead letters {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use operators::series::Target;
    use std::sync::Arc;

    fn sample(value: f64) -> Message {
        let target = Arc::new(Target::new("web \"1\"", [("host", "a"), ("zone", "ü")]));
        Message { time_ns: 1_704_110_400_250_000_000, target, metrics: vec![("cpu".into(), value)] }
    }

    fn letters(dir: &Path, bytes_max: u64) -> DeadLetters {
        DeadLetters::at(DeadLettersConfig { path: dir.join("dead/x.jsonl"), bytes_max })
    }

    fn read(path: PathBuf) -> Vec<f64> {
        let text = fs::read_to_string(path).unwrap_or_default();
        text.lines()
            .map(|line| {
                serde_json::from_str::<serde_json::Value>(line).unwrap()["sample"]["value"].as_f64().unwrap()
            })
            .collect()
    }

    #[test]
    fn a_letter_says_what_was_refused_and_why() {
        let dir = tempfile::tempdir().unwrap();
        let mut letters = letters(dir.path(), 1 << 20);
        assert_eq!(letters.bytes(), 0);
        letters.append("influx", 1_704_110_401_000_000_000, &sample(1.5), "field type\nconflict").unwrap();
        letters.append("influx", 0, &sample(2.0), &"é".repeat(5_000)).unwrap();
        letters.sync().unwrap();
        let text = fs::read_to_string(dir.path().join("dead/x.jsonl")).unwrap();
        let expected = r#"{"time":"2024-01-01T12:00:01Z","delivery":"influx","answer":"field type\nconflict","sample":{"timestamp":"2024-01-01T12:00:00.250Z","service":"web \"1\"","tags":{"host":"a","zone":"ü"},"metric":"cpu","value":1.5}}"#;
        assert_eq!(text.lines().next(), Some(expected));
        let long: serde_json::Value = serde_json::from_str(text.lines().nth(1).unwrap()).unwrap();
        assert_eq!(long["answer"].as_str().unwrap().len(), ANSWER_LEN_MAX);
        assert_eq!(letters.bytes(), text.len() as u64);
    }

    #[test]
    fn the_oldest_go_when_there_are_too_many_and_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dead/x.jsonl");
        let mut line = Vec::new();
        write_letter("d", 0, &sample(10.0), "no", &mut line);
        // Three letters to a file.
        let bytes_max = 3 * line.len() as u64;
        let mut forgotten = 0;
        for from in (10..40).step_by(5) {
            // Opened again every five letters: the counts are those of the files.
            let mut letters = letters(dir.path(), bytes_max);
            for value in from..from + 5 {
                letters.append("d", 0, &sample(f64::from(value)), "no").unwrap();
            }
            letters.sync().unwrap();
            assert!(letters.bytes() <= 2 * bytes_max);
            forgotten += letters.forgotten();
            let kept = [read(old(&path)), read(path.clone())].concat();
            let expected: Vec<f64> =
                (0..).map(f64::from).skip(10 + forgotten as usize).take(kept.len()).collect();
            assert_eq!(kept, expected);
            assert_eq!(kept.len() as u64 + forgotten, u64::from(from as u32) + 5 - 10);
        }
        assert_eq!(forgotten, 24);
        // One that is longer than the file may be is kept all the same.
        let mut letters = letters(dir.path(), 1);
        letters.append("d", 0, &sample(99.0), "no").unwrap();
        assert_eq!(read(path), [99.0]);
    }

    #[test]
    fn a_torn_last_line_is_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dead/x.jsonl");
        letters(dir.path(), 1 << 20).append("d", 0, &sample(1.0), "no").unwrap();
        let whole = fs::read(&path).unwrap();
        for torn in 0..whole.len() {
            fs::write(&path, [&whole[..], &whole[..torn]].concat()).unwrap();
            letters(dir.path(), 1 << 20).append("d", 0, &sample(2.0), "no").unwrap();
            assert_eq!(read(path.clone()), [1.0, 2.0], "torn at {torn}");
        }
    }

    #[test]
    fn a_file_that_was_moved_away_is_begun_anew() {
        let dir = tempfile::tempdir().unwrap();
        let (path, away) = (dir.path().join("dead/x.jsonl"), dir.path().join("away"));
        let mut letters = letters(dir.path(), 1 << 20);
        letters.append("d", 0, &sample(1.0), "no").unwrap();
        fs::rename(&path, &away).unwrap();
        letters.append("d", 0, &sample(2.0), "no").unwrap();
        assert_eq!((read(away), read(path)), (vec![1.0], vec![2.0]));
    }

    #[test]
    fn an_error_names_the_file_and_the_next_try_succeeds() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("dead"), "in the way").unwrap();
        let mut letters = letters(dir.path(), 1 << 20);
        let error = letters.append("d", 0, &sample(1.0), "no").unwrap_err();
        assert!(error.to_string().contains("dead/x.jsonl"), "{error}");
        fs::remove_file(dir.path().join("dead")).unwrap();
        letters.append("d", 0, &sample(1.0), "no").unwrap();
        assert_eq!(read(dir.path().join("dead/x.jsonl")), [1.0]);
    }
}
