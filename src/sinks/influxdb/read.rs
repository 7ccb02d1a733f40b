//! Reading back: a query's messages, newest first.
//!
//! A row of an answer is a message: its strings are tags and its numbers are metrics. Each measurement is asked
//! for the newest rows, one after another, so that an answer is never longer than a few times the limit.

use std::collections::BTreeSet;
use std::sync::Arc;

use operators::sample::TimeNs;
use operators::series::Target;

use super::config::Api;
use super::flux::{self, Selection};
use super::influxql::{self, Cell, Series, identifier, string};
use super::line::Encoder;
use super::names;
use super::server::Server;
use crate::message::Message;
use crate::sinks::{Query, Reader, SinkError};

/// Times that 1.x and 2.x can hold.
const TIMES: (TimeNs, TimeNs) = (TimeNs::MIN + 2, TimeNs::MAX - 1);

/// Measurements that a query without a service looks at.
const MEASUREMENTS_MAX: usize = 10_000;

/// The reading side.
pub(super) struct InfluxReader {
    pub(super) server: Arc<Server>,
    pub(super) encoder: Encoder,
}

/// What a server says of one message, by stored names.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Row {
    pub(super) measurement: String,
    pub(super) time_ns: TimeNs,
    pub(super) tags: Vec<(String, String)>,
    pub(super) fields: Vec<(String, f64)>,
}

impl Reader for InfluxReader {
    fn read(&self, query: &Query) -> Result<Vec<Message>, SinkError> {
        if query.limit == 0 || query.start_ns >= query.end_ns {
            return Ok(Vec::new());
        }
        let mut found = match self.server.api()? {
            Api::V2 => self.by_flux(query)?,
            api => self.by_influxql(api, query)?,
        };
        newest(&mut found, query.limit);
        Ok(found)
    }
}

fn newest(messages: &mut Vec<Message>, limit: usize) {
    messages.sort_by_key(|message| std::cmp::Reverse(message.time_ns));
    messages.truncate(limit);
}

impl InfluxReader {
    fn by_flux(&self, query: &Query) -> Result<Vec<Message>, SinkError> {
        let template = &self.encoder.template;
        let rows = flux::ask(
            &self.server,
            &Selection {
                bucket: self.server.database(Api::V2),
                measurement: query.service.as_deref().and_then(|service| template.of_service(service)),
                around: template.around_service().unwrap_or_default(),
                tags: stored_tags(query),
                fields: stored_fields(query),
                start_ns: query.start_ns.max(TIMES.0),
                end_ns: query.end_ns.min(TIMES.1),
                limit: query.limit,
            },
        )?;
        Ok(rows.into_iter().filter_map(|row| self.message(row, query)).collect())
    }

    fn by_influxql(&self, api: Api, query: &Query) -> Result<Vec<Message>, SinkError> {
        let measurements = match &query.service {
            Some(service) => self.encoder.template.of_service(service).into_iter().collect(),
            None => self.measurements()?,
        };
        let mut found = Vec::new();
        let mut start_ns = query.start_ns;
        for some in measurements.chunks(influxql::statements_max(api)) {
            let statements: Vec<String> =
                some.iter().map(|measurement| self.select(api, measurement, start_ns, query)).collect();
            for series in self.ask(&statements.join("; "))?.into_iter().flatten() {
                for row in self.rows(series)? {
                    found.extend(self.message(row, query));
                }
            }
            newest(&mut found, query.limit);
            if found.len() == query.limit {
                start_ns = found.last().map_or(start_ns, |oldest| oldest.time_ns);
            }
        }
        Ok(found)
    }

    fn ask(&self, statements: &str) -> Result<Vec<Vec<Series>>, SinkError> {
        influxql::ask(&self.server, statements)?.map_err(SinkError::retry)
    }

    /// Every measurement that is a service's.
    fn measurements(&self) -> Result<Vec<String>, SinkError> {
        let tables = self.ask(&format!("SHOW MEASUREMENTS LIMIT {MEASUREMENTS_MAX}"))?;
        let mut found = Vec::new();
        for table in tables.into_iter().flatten().filter(|table| table.name == "measurements") {
            let name_at = table.columns.iter().position(|column| column == "name");
            let cells = table.values.into_iter().filter_map(|mut row| row.drain(..).nth(name_at?));
            found.extend(cells.filter_map(|cell| match cell {
                Cell::Text(name) if self.encoder.template.service(&name).is_some() => Some(name),
                _ => None,
            }));
        }
        Ok(found)
    }

    fn select(&self, api: Api, measurement: &str, start_ns: TimeNs, query: &Query) -> String {
        let fields = match stored_fields(query) {
            fields if fields.is_empty() => "*::field".to_string(),
            fields => {
                let columns = fields.iter().map(|field| format!("{}::field", identifier(field)));
                columns.collect::<Vec<_>>().join(", ")
            }
        };
        let policy = self.server.policy().filter(|_| api == Api::V1);
        let policy = policy.map(|policy| identifier(&policy) + ".").unwrap_or_default();
        let (start_ns, end_ns) = (start_ns.max(TIMES.0), query.end_ns.min(TIMES.1));
        let mut out = format!(
            "SELECT {fields}, *::tag FROM {policy}{} WHERE time >= {start_ns} AND time < {end_ns}",
            identifier(measurement)
        );
        for (key, value) in stored_tags(query) {
            out.push_str(&format!(" AND {}::tag = {}", identifier(&key), string(&value)));
        }
        out.push_str(&format!(" ORDER BY time DESC LIMIT {}", query.limit));
        out
    }

    /// The rows of a table whose strings are tags.
    fn rows(&self, series: Series) -> Result<Vec<Row>, SinkError> {
        let Some(time_at) = series.columns.iter().position(|column| column == "time") else {
            let why =
                format!("expected a column time, found {:?}: no InfluxQL is spoken here", series.columns);
            return Err(SinkError::retry(why));
        };
        let keys = self.tag_keys(&series)?;
        let row = |cells: Vec<Cell>| {
            let mut row = Row { measurement: series.name.clone(), ..Row::default() };
            row.tags.extend(series.tags.clone());
            for (at, cell) in cells.into_iter().enumerate() {
                let (Some(column), Some(key)) = (series.columns.get(at), keys.get(at)) else { continue };
                match cell {
                    Cell::Int(time_ns) if at == time_at => row.time_ns = time_ns,
                    Cell::Int(value) => row.fields.push((column.clone(), value as f64)),
                    Cell::Float(value) => row.fields.push((column.clone(), value)),
                    Cell::Text(value) if column != "iox::measurement" => row.tags.push((key.clone(), value)),
                    Cell::Text(_) | Cell::Null | Cell::Bool(_) => {}
                }
            }
            row
        };
        Ok(series.values.into_iter().map(row).collect())
    }

    /// For each column the tag that it would be. A tag that has the name of a field is shown as `name_1`, which
    /// may be a tag's own name, too; only then is the server asked for the names.
    fn tag_keys(&self, series: &Series) -> Result<Vec<String>, SinkError> {
        let renamed = |column: &str| {
            let (name, number) = column.rsplit_once('_')?;
            let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
            (is_number && series.columns.iter().any(|other| other == name)).then(|| name.to_string())
        };
        let is_tag = |at: usize| series.values.iter().any(|row| matches!(row.get(at), Some(Cell::Text(_))));
        let doubtful = |(at, column): (usize, &String)| is_tag(at) && renamed(column).is_some();
        if !series.columns.iter().enumerate().any(doubtful) {
            return Ok(series.columns.clone());
        }
        let tables = self.ask(&format!("SHOW TAG KEYS FROM {}", identifier(&series.name)))?;
        let cells = tables.into_iter().flatten().flat_map(|table| table.values).flatten();
        let known: BTreeSet<String> = cells
            .filter_map(|cell| match cell {
                Cell::Text(key) => Some(key),
                _ => None,
            })
            .collect();
        let key = |column: &String| match renamed(column) {
            Some(name) if !known.contains(column) => name,
            _ => column.clone(),
        };
        Ok(series.columns.iter().map(key).collect())
    }

    /// The message of a row, with the metrics that are asked for; `None` where nothing of it is.
    fn message(&self, row: Row, query: &Query) -> Option<Message> {
        let service = self.encoder.template.service(&row.measurement)?;
        let tags: Vec<_> = row.tags.iter().filter(|(_, value)| !value.is_empty()).collect();
        let keys: Vec<&str> = tags.iter().map(|(key, _)| key.as_str()).collect();
        let wanted = |name: &String| query.metrics.is_empty() || query.metrics.contains(name);
        let named = row.fields.iter().map(|(key, value)| (names::metric_name(key, &keys), *value));
        let metrics: Vec<(Arc<str>, f64)> =
            named.filter(|(name, _)| wanted(name)).map(|(name, value)| (name.into(), value)).collect();
        if metrics.is_empty() {
            return None;
        }
        let given = tags.into_iter().filter(|(key, value)| !self.encoder.is_own_tag(key, value));
        let tags: Vec<(String, String)> =
            given.map(|(key, value)| (names::tag_name(key), names::restored(value).into_owned())).collect();
        let target = Target::new(&service, tags.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        Some(Message { time_ns: row.time_ns, target: Arc::new(target), metrics })
    }
}

/// The tags asked for, by stored key and value.
fn stored_tags(query: &Query) -> Vec<(String, String)> {
    let stored = |(name, value): &(String, String)| {
        (names::tag_key(name).into_owned(), names::held(value).into_owned())
    };
    query.tags.iter().map(stored).collect()
}

/// The fields in which the metrics asked for may be: under their name, and with the mark of one that clashes.
fn stored_fields(query: &Query) -> Vec<String> {
    let none: [&str; 0] = [];
    let fields = query.metrics.iter().flat_map(|metric| {
        let held = names::held(metric).into_owned();
        [names::field_key(metric, &none).into_owned(), held + "_"]
    });
    let mut fields: Vec<String> = fields.collect();
    fields.dedup();
    fields
}
