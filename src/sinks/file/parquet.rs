//! Parquet: one sample a row, sorted by series and time, so that a query of one series touches few
//! pages, and any reader of the format takes the files as they are.
//!
//! Columns: `time` (INT64, TIMESTAMP(NANOS, UTC)), `service`, `metric` (strings, dictionary),
//! `value` (DOUBLE), `tags` (string: a JSON object, names sorted; empty without tags). No column is
//! optional. Row groups hold at most [`ROW_GROUP_ROWS`] rows. A file is made in memory and written
//! once, since a parquet file cannot grow: its footer comes last.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use operators::sample::TimeNs;
use operators::series::Target;
use parquet::basic::{Compression, Encoding};
use parquet::column::reader::{ColumnReaderImpl, get_typed_column_reader};
use parquet::data_type::{ByteArray, ByteArrayType, DataType, DoubleType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::reader::{FileReader, RowGroupReader, SerializedFileReader};
use parquet::file::statistics::Statistics;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::ColumnPath;

use super::catalog::Block;
use super::newest::{Newest, Targets, write_tags};
use crate::message::Message;

/// Rows in a row group at most.
pub(super) const ROW_GROUP_ROWS: usize = 131_072;

const SCHEMA: &str = "message metrics {
    required int64 time (TIMESTAMP(NANOS,true));
    required binary service (STRING);
    required binary metric (STRING);
    required double value;
    required binary tags (STRING);
}";
const TIME: usize = 0;
const SERVICE: usize = 1;
const METRIC: usize = 2;
const VALUE: usize = 3;
const TAGS: usize = 4;

/// Rows in memory, each naming its series by number.
#[derive(Default)]
pub(super) struct Table {
    ids: HashMap<Arc<Target>, HashMap<Arc<str>, u32>>,
    series: Vec<(Arc<Target>, Arc<str>)>,
    rows: Vec<(u32, TimeNs, f64)>,
}

impl Table {
    /// Rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Adds the samples of a message.
    pub fn push(&mut self, message: &Message) {
        for (metric, value) in &message.metrics {
            let series = self.series_id(&message.target, metric);
            self.rows.push((series, message.time_ns, *value));
        }
    }

    fn series_id(&mut self, target: &Arc<Target>, metric: &Arc<str>) -> u32 {
        if let Some(id) = self.ids.get(target).and_then(|metrics| metrics.get(metric)) {
            return *id;
        }
        // A table holds fewer rows than u32 counts, and no series without a row.
        let id = self.series.len() as u32;
        self.series.push((target.clone(), metric.clone()));
        self.ids.entry(target.clone()).or_default().insert(metric.clone(), id);
        id
    }

    /// The rows as a parquet file, and its row groups.
    pub fn encode(&self, compression: bool) -> Result<(Vec<u8>, Vec<Block>), ParquetError> {
        let names = self.series.iter().map(|(target, metric)| SeriesNames::new(target, metric));
        let names: Vec<SeriesNames> = names.collect();
        let mut order: Vec<u32> = (0..names.len() as u32).collect();
        order.sort_by(|a, b| names[*a as usize].sort_key().cmp(&names[*b as usize].sort_key()));
        let mut rank = vec![0; names.len()];
        for (at, series) in order.iter().enumerate() {
            rank[*series as usize] = at;
        }
        let mut rows = self.rows.clone();
        rows.sort_by_key(|(series, time_ns, _)| (rank[*series as usize], *time_ns));

        let schema = Arc::new(parse_message_type(SCHEMA)?);
        let mut file = SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties(compression)))?;
        let mut blocks = Vec::new();
        for (number, group) in rows.chunks(ROW_GROUP_ROWS).enumerate() {
            let mut block = Block { offset: number as u64, ..Block::EMPTY };
            group.iter().for_each(|(_, time_ns, _)| block.add(*time_ns, 1));
            let mut writer = file.next_row_group()?;
            write_row_group(&mut writer, &names, group)?;
            block.len = writer.close()?.compressed_size().max(0) as u64;
            blocks.push(block);
        }
        Ok((file.into_inner()?, blocks))
    }
}

struct SeriesNames {
    service: ByteArray,
    metric: ByteArray,
    tags: ByteArray,
}

impl SeriesNames {
    fn new(target: &Target, metric: &str) -> Self {
        let mut tags = Vec::new();
        if !target.tags.is_empty() {
            write_tags(target, &mut tags);
        }
        SeriesNames { service: (&*target.service).into(), metric: metric.into(), tags: tags.into() }
    }

    fn sort_key(&self) -> (&[u8], &[u8], &[u8]) {
        (self.service.data(), self.metric.data(), self.tags.data())
    }
}

fn properties(compression: bool) -> WriterProperties {
    let codec = if compression { Compression::SNAPPY } else { Compression::UNCOMPRESSED };
    let time = ColumnPath::from("time");
    WriterProperties::builder()
        .set_compression(codec)
        .set_created_by(concat!("plantd-metric ", env!("CARGO_PKG_VERSION")).into())
        .set_column_dictionary_enabled(time.clone(), false)
        .set_column_encoding(time, Encoding::DELTA_BINARY_PACKED)
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .build()
}

type RowGroupWriter<'a> = SerializedRowGroupWriter<'a, Vec<u8>>;

fn write_row_group(
    to: &mut RowGroupWriter<'_>,
    names: &[SeriesNames],
    rows: &[(u32, TimeNs, f64)],
) -> Result<(), ParquetError> {
    let text = |column: fn(&SeriesNames) -> &ByteArray| -> Vec<ByteArray> {
        rows.iter().map(|(series, ..)| column(&names[*series as usize]).clone()).collect()
    };
    let times: Vec<i64> = rows.iter().map(|(_, time_ns, _)| *time_ns).collect();
    let values: Vec<f64> = rows.iter().map(|(.., value)| *value).collect();
    write_column::<Int64Type>(to, &times)?;
    write_column::<ByteArrayType>(to, &text(|names| &names.service))?;
    write_column::<ByteArrayType>(to, &text(|names| &names.metric))?;
    write_column::<DoubleType>(to, &values)?;
    write_column::<ByteArrayType>(to, &text(|names| &names.tags))
}

fn write_column<T: DataType>(to: &mut RowGroupWriter<'_>, values: &[T::T]) -> Result<(), ParquetError> {
    let Some(mut column) = to.next_column()? else {
        return Err(ParquetError::General("expected another column in the schema".into()));
    };
    column.typed::<T>().write_batch(values, None, None)?;
    column.close()
}

/// The row groups of a file, from its footer.
pub(super) fn row_groups(path: &Path) -> io::Result<Vec<Block>> {
    let file = open(path)?;
    let block = |(number, group): (usize, &parquet::file::metadata::RowGroupMetaData)| {
        let (min_ns, max_ns) = match group.column(TIME).statistics() {
            Some(Statistics::Int64(times)) => (times.min_opt().copied(), times.max_opt().copied()),
            _ => (None, None),
        };
        Block {
            offset: number as u64,
            len: group.compressed_size().max(0) as u64,
            samples: group.num_rows().max(0) as u64,
            min_ns: min_ns.unwrap_or(TimeNs::MIN),
            max_ns: max_ns.unwrap_or(TimeNs::MAX),
        }
    };
    Ok(file.metadata().row_groups().iter().enumerate().map(block).collect())
}

/// Opens a file that has our columns.
fn open(path: &Path) -> io::Result<SerializedFileReader<File>> {
    let file = SerializedFileReader::new(File::open(path)?).map_err(io::Error::other)?;
    let columns = file.metadata().file_metadata().schema_descr().columns();
    let found: Vec<&str> = columns.iter().map(|column| column.name()).collect();
    if found != ["time", "service", "metric", "value", "tags"] {
        let why = format!("expected columns time, service, metric, value, tags, found {}", found.join(", "));
        return Err(io::Error::other(why));
    }
    Ok(file)
}

/// Adds all rows of a file to `table`.
pub(super) fn load(path: &Path, table: &mut Table) -> io::Result<()> {
    let file = open(path)?;
    let mut targets = Targets::new();
    for number in 0..file.num_row_groups() {
        let group = file.get_row_group(number).map_err(io::Error::other)?;
        let mut series = Series::default();
        let mut id = 0;
        each_row(&*group, |row| {
            if series.changed(&row) {
                let target = series.turn(&row, &mut targets)?;
                id = table.series_id(&target, &series.metric);
            }
            table.rows.push((id, row.time_ns, row.value));
            Some(())
        })?;
    }
    Ok(())
}

/// Gives the rows of one row group to the answer. `file_number` keeps apart messages of different
/// files that share time and target.
pub(super) fn read(
    path: &Path,
    row_group: u64,
    file_number: u64,
    targets: &mut Targets,
    newest: &mut Newest<'_>,
) -> io::Result<()> {
    let file = open(path)?;
    let number = usize::try_from(row_group).map_err(io::Error::other)?;
    let group = file.get_row_group(number).map_err(io::Error::other)?;
    if !may_hold_service(&*group, newest) {
        return Ok(());
    }
    let mut series = Series::default();
    let mut wanted: Option<Arc<Target>> = None;
    // Several observations of a series at one time are neighbours here; each goes to another message.
    let (mut last_ns, mut repeated) = (None, 0);
    each_row(&*group, |row| {
        if series.changed(&row) {
            let target = series.turn(&row, targets)?;
            let asked = newest.wants_service(&target.service)
                && newest.wants_metric(&series.metric)
                && newest.wants_tags(&target);
            wanted = asked.then_some(target);
            last_ns = None;
        }
        repeated = if last_ns == Some(row.time_ns) { repeated + 1 } else { 0 };
        last_ns = Some(row.time_ns);
        if let Some(target) = &wanted
            && newest.wants_time(row.time_ns)
        {
            let place = file_number << 32 | repeated;
            newest.put_row(row.time_ns, target, place, (&series.metric, row.value));
        }
        Some(())
    })
}

/// Whether the services of a row group, as its footer bounds them, include one that is asked for.
fn may_hold_service(group: &dyn RowGroupReader, newest: &Newest<'_>) -> bool {
    match (newest.service(), group.metadata().column(SERVICE).statistics()) {
        (Some(service), Some(Statistics::ByteArray(names))) => {
            let service = service.as_bytes();
            // The bounds may be shortened, which only widens them.
            names.min_opt().is_none_or(|min| min.data() <= service)
                && names.max_opt().is_none_or(|max| service <= max.data())
        }
        _ => true,
    }
}

/// The series of the last row, since rows of a series stand together.
struct Series {
    service: ByteArray,
    tags: ByteArray,
    metric: Arc<str>,
    known: bool,
}

impl Default for Series {
    fn default() -> Self {
        Series { service: "".into(), tags: "".into(), metric: "".into(), known: false }
    }
}

impl Series {
    fn changed(&self, row: &Row<'_>) -> bool {
        !self.known
            || self.metric.as_bytes() != row.metric.data()
            || self.service.data() != row.service.data()
            || self.tags.data() != row.tags.data()
    }

    /// Goes over to the series of `row`; `None` where its names are no text.
    fn turn(&mut self, row: &Row<'_>, targets: &mut Targets) -> Option<Arc<Target>> {
        self.metric = row.metric.as_utf8().ok()?.into();
        (self.service, self.tags, self.known) = (row.service.clone(), row.tags.clone(), true);
        targets.get(row.service.as_utf8().ok()?, row.tags.as_utf8().ok()?)
    }
}

struct Row<'a> {
    time_ns: TimeNs,
    service: &'a ByteArray,
    metric: &'a ByteArray,
    value: f64,
    tags: &'a ByteArray,
}

/// How many rows are decoded at a time.
const BATCH_ROWS: usize = 8_192;

/// Visits all rows; a row that the visitor answers with `None` is damage and ends the visit.
fn each_row(group: &dyn RowGroupReader, mut visit: impl FnMut(Row<'_>) -> Option<()>) -> io::Result<()> {
    let mut times = column::<Int64Type>(group, TIME)?;
    let mut services = column::<ByteArrayType>(group, SERVICE)?;
    let mut metrics = column::<ByteArrayType>(group, METRIC)?;
    let mut values = column::<DoubleType>(group, VALUE)?;
    let mut tags = column::<ByteArrayType>(group, TAGS)?;
    loop {
        let times = batch(&mut times)?;
        let (services, metrics) = (batch(&mut services)?, batch(&mut metrics)?);
        let (values, tags) = (batch(&mut values)?, batch(&mut tags)?);
        if [services.len(), metrics.len(), values.len(), tags.len()] != [times.len(); 4] {
            return Err(io::Error::other("expected columns of one length, found several"));
        }
        if times.is_empty() {
            return Ok(());
        }
        for (at, time_ns) in times.into_iter().enumerate() {
            let (service, metric) = (&services[at], &metrics[at]);
            let row = Row { time_ns, service, metric, value: values[at], tags: &tags[at] };
            visit(row).ok_or_else(|| io::Error::other("expected names as text, found other bytes"))?;
        }
    }
}

fn column<T: DataType>(group: &dyn RowGroupReader, number: usize) -> io::Result<ColumnReaderImpl<T>> {
    let descriptor = group.metadata().column(number).column_descr();
    if descriptor.physical_type() != T::get_physical_type() || descriptor.max_def_level() != 0 {
        return Err(io::Error::other(format!("column {} has another type", descriptor.name())));
    }
    Ok(get_typed_column_reader::<T>(group.get_column_reader(number).map_err(io::Error::other)?))
}

fn batch<T: DataType>(column: &mut ColumnReaderImpl<T>) -> io::Result<Vec<T::T>> {
    let mut values = Vec::with_capacity(BATCH_ROWS);
    column.read_records(BATCH_ROWS, None, None, &mut values).map_err(io::Error::other)?;
    Ok(values)
}
