//! The part of the benchmark's corpus that is there: `FOLDER/NAME.csv` with `timestamp,value`, and `windows.json`.

use std::collections::BTreeMap;
use std::fs;
use std::ops::RangeInclusive;
use std::path::Path;

use operators::sample::TimeNs;
use plantd_metric::detect::parse_time;

/// One file.
pub struct Labelled {
    /// `FOLDER/NAME.csv`.
    pub name: String,
    pub samples: Vec<(TimeNs, f64)>,
    /// The windows as ranges of samples, in order.
    pub windows: Vec<RangeInclusive<usize>>,
}

impl Labelled {
    /// The folder, by which the corpus is grouped.
    pub fn group(&self) -> &str {
        self.name.split('/').next().unwrap_or_default()
    }
}

/// All files that `windows.json` (or the benchmark's own `labels/combined_windows.json`) names and that are there.
pub fn load(dir: &Path) -> Result<Vec<Labelled>, String> {
    let path = dir.join("windows.json");
    let text = fs::read_to_string(&path).map_err(|why| format!("can't read {}: {why}", path.display()))?;
    let windows: BTreeMap<String, Vec<[String; 2]>> =
        serde_json::from_str(&text).map_err(|why| format!("{}: {why}", path.display()))?;
    let there = windows.iter().filter(|(name, _)| dir.join(name).exists());
    let files: Result<Vec<Labelled>, String> =
        there.map(|(name, windows)| labelled(name, &column(&dir.join(name), "value")?, windows)).collect();
    files.and_then(
        |files| if files.is_empty() { Err("no file of windows.json is there".into()) } else { Ok(files) },
    )
}

/// The times and one column of a table.
pub fn column(path: &Path, name: &str) -> Result<Vec<(TimeNs, f64)>, String> {
    let named = |what: String| format!("{}: {what}", path.display());
    let text = fs::read_to_string(path).map_err(|why| named(why.to_string()))?;
    let mut lines = text.lines();
    let head = lines.next().unwrap_or_default();
    let at =
        head.split(',').position(|found| found == name).ok_or_else(|| named(format!("no column {name}")))?;
    let row = |(number, line): (usize, &str)| {
        let mut cells = line.split(',');
        let time_ns = cells.next().and_then(parse_time);
        let value = line.split(',').nth(at).and_then(|cell| cell.parse().ok());
        time_ns.zip(value).ok_or_else(|| named(format!("line {}: expected a time and a number", number + 2)))
    };
    lines.enumerate().map(row).collect()
}

fn labelled(name: &str, samples: &[(TimeNs, f64)], windows: &[[String; 2]]) -> Result<Labelled, String> {
    let find = |text: &String| {
        let time_ns = parse_time(text).ok_or_else(|| format!("{name}: expected a time, found {text:?}"))?;
        let at = samples.iter().position(|(found, _)| *found == time_ns);
        at.ok_or_else(|| format!("{name}: no sample at {text}, where a window ends"))
    };
    let range = |[from, to]: &[String; 2]| Ok(find(from)?..=find(to)?);
    let windows: Result<Vec<_>, String> = windows.iter().map(range).collect();
    Ok(Labelled { name: name.to_owned(), samples: samples.to_vec(), windows: windows? })
}
