//! Journal and outbox as deliveries read them: whole epochs from any position on, as messages.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use operators::catalog::Catalog;
use operators::sample::{DurationNs, SeriesId, TimeNs};
use operators::series::Target;
use parking_lot::Mutex;

use crate::delivery::source::{Lag, Source, Stretch};
use crate::journal::epochs::{self, KIND_EPOCH};
use crate::journal::reader::Reader;
use crate::keeper::Keeper;
use crate::message::Message;
use crate::outbox::{self, Outbox, Said};
use crate::raw;
use crate::sinks::{Position, duration_text};

/// Raw samples out of the journal.
pub struct RawFeed {
    keeper: Arc<Keeper>,
    catalog: Arc<Catalog>,
    /// A reader, and the position that it stands at.
    open: Option<(Position, Reader)>,
    first_arrival: FirstArrival,
}

impl RawFeed {
    /// A feed that reads what is safe.
    pub fn new(keeper: Arc<Keeper>, catalog: Arc<Catalog>) -> RawFeed {
        RawFeed { keeper, catalog, open: None, first_arrival: FirstArrival::default() }
    }

    fn reader(&mut self, after: Position) -> Reader {
        match self.open.take() {
            Some((at, reader)) if at == after => reader,
            _ => self.keeper.log().reader(after),
        }
    }
}

impl Source for RawFeed {
    fn next(&mut self, after: Position, samples_max: u64) -> io::Result<Option<Stretch>> {
        let safe = self.keeper.safe();
        if safe <= after {
            return Ok(None);
        }
        let mut reader = self.reader(after);
        // Until the first epoch says when it came, nothing waits.
        let mut stretch = Stretch { upto: after, arrival_ns: TimeNs::MAX, ..Stretch::default() };
        let missed = reader.missed();
        while stretch.samples < samples_max {
            let Some(record) = reader.next(safe)? else {
                // Nothing more up to here: what is absent was counted by the reader.
                stretch.upto = stretch.upto.max(safe);
                break;
            };
            stretch.upto = record.number;
            if record.kind != KIND_EPOCH {
                continue;
            }
            match epochs::decode(record.payload) {
                Ok(epoch) => {
                    stretch.arrival_ns = stretch.arrival_ns.min(epoch.arrival_ns);
                    stretch.samples += epoch.len() as u64;
                    stretch.messages.append(&mut raw::messages(&epoch, &self.catalog));
                }
                Err(error) => {
                    tracing::error!(epoch = record.number, %error, "a record of the journal can't be decoded");
                    stretch.missed_epochs += 1;
                }
            }
        }
        stretch.missed_epochs += reader.missed() - missed;
        if stretch.upto == after {
            return Ok(None);
        }
        self.open = Some((stretch.upto, reader));
        Ok(Some(stretch))
    }

    fn lag(&self, after: Position) -> Lag {
        let safe = self.keeper.safe();
        let (_, bytes) = self.keeper.log().behind(after);
        Lag {
            epochs: safe.saturating_sub(after),
            bytes,
            since_ns: self.first_arrival.behind(after, &self.keeper),
        }
    }
}

/// The arrival time of the first epoch behind a position, remembered: it is asked for more often than it changes.
#[derive(Default)]
struct FirstArrival(Mutex<Option<(Position, TimeNs)>>);

impl FirstArrival {
    fn behind(&self, after: Position, keeper: &Keeper) -> Option<TimeNs> {
        let safe = keeper.safe();
        if safe <= after {
            return None;
        }
        let mut known = self.0.lock();
        if known.is_none_or(|(position, _)| position != after) {
            let mut reader = keeper.log().reader(after);
            *known = loop {
                match reader.next(safe) {
                    Ok(Some(record)) if record.kind == KIND_EPOCH => {
                        break epochs::decode(record.payload).ok().map(|epoch| (after, epoch.arrival_ns));
                    }
                    Ok(Some(_)) => {}
                    Ok(None) | Err(_) => break None,
                }
            };
        }
        known.map(|(_, arrival_ns)| arrival_ns)
    }
}

/// Closed windows out of the outbox, a message for each: the metrics are the functions, `cpu_usage_percent_avg`, and
/// the width is a tag, `window`. A corrected window is the same message with other values.
pub struct WindowFeed {
    outbox: Arc<Outbox>,
    catalog: Arc<Catalog>,
    functions: Vec<String>,
    open: Option<(Position, Reader)>,
    /// Of each series, what its rows look like.
    shapes: HashMap<(SeriesId, DurationNs), Shape>,
    first_arrival: FirstArrival,
}

/// Target and metric names of a series' rows.
#[derive(Clone)]
struct Shape {
    target: Arc<Target>,
    metrics: Arc<[Arc<str>]>,
}

/// The service of stored windows whose members have several.
const ROLLUP_SERVICE: &str = "rollup";

/// Shapes that are remembered; beyond, all are forgotten and made again.
const SHAPES_MAX: usize = 100_000;

impl WindowFeed {
    /// A feed of these functions; those that a row does not have are left out.
    pub fn new(outbox: Arc<Outbox>, catalog: Arc<Catalog>, functions: &[String]) -> WindowFeed {
        WindowFeed {
            outbox,
            catalog,
            functions: functions.to_vec(),
            open: None,
            shapes: HashMap::new(),
            first_arrival: FirstArrival::default(),
        }
    }

    fn messages(&mut self, said: &Said, messages: &mut Vec<Message>) {
        let places: Vec<Option<usize>> =
            self.functions.iter().map(|name| said.functions.iter().position(|known| known == name)).collect();
        for row in &said.windows {
            let Some(shape) = self.shape(row.series, row.width_ns) else { continue };
            let value = |at: &Option<usize>| at.and_then(|at| row.values.get(at).copied());
            let values = places.iter().map(value).zip(shape.metrics.iter());
            let metrics: Vec<(Arc<str>, f64)> = values
                .filter_map(|(value, name)| Some((name.clone(), value.filter(|v| v.is_finite())?)))
                .collect();
            if !metrics.is_empty() {
                messages.push(Message { time_ns: row.start_ns, target: shape.target, metrics });
            }
        }
        messages.extend(rolled(said));
    }

    fn shape(&mut self, series: SeriesId, width_ns: DurationNs) -> Option<Shape> {
        if let Some(shape) = self.shapes.get(&(series, width_ns)) {
            return Some(shape.clone());
        }
        if self.shapes.len() >= SHAPES_MAX {
            self.shapes.clear();
        }
        let key = self.catalog.key(series)?;
        let shape = Shape {
            target: windowed(&key.target, &key.target.service, width_ns),
            metrics: self.functions.iter().map(|name| format!("{}_{name}", key.metric).into()).collect(),
        };
        self.shapes.insert((series, width_ns), shape.clone());
        Some(shape)
    }
}

/// A target with the width of its windows as a tag.
fn windowed(target: &Target, service: &str, width_ns: DurationNs) -> Arc<Target> {
    let width = duration_text(width_ns);
    let tags = target.tags.iter().map(|(name, value)| (&**name, &**value));
    Arc::new(Target::new(service, tags.filter(|(name, _)| *name != "window").chain([("window", &*width)])))
}

/// Windows of rollups, a message for each: the metrics are `NAME_FUNCTION`, the tags those that its group shares and the
/// width, `window`. The service is the group's; where its members may have several, the word for what it is.
fn rolled(said: &Said) -> impl Iterator<Item = Message> + '_ {
    let rolled = &said.rolled;
    rolled.rows.iter().filter_map(|row| {
        let (name, functions) = rolled.rollups.get(&row.rollup)?;
        let texts = rolled.groups.get(&(row.rollup, row.group))?;
        let service = if texts.service.is_empty() { ROLLUP_SERVICE } else { &*texts.service };
        let values = functions.iter().zip(&row.values).filter(|(_, value)| value.is_finite());
        let metrics: Vec<(Arc<str>, f64)> =
            values.map(|(function, value)| (format!("{name}_{function}").into(), *value)).collect();
        let target = windowed(texts, service, row.width_ns);
        (!metrics.is_empty()).then(|| Message { time_ns: row.start_ns(), target, metrics })
    })
}

impl Source for WindowFeed {
    fn next(&mut self, after: Position, samples_max: u64) -> io::Result<Option<Stretch>> {
        let written = self.outbox.written();
        if written <= after {
            return Ok(None);
        }
        let mut reader = match self.open.take() {
            Some((at, reader)) if at == after => reader,
            _ => self.outbox.log().reader(after),
        };
        let arrival_ns = self.first_arrival.behind(after, self.outbox.keeper()).unwrap_or(TimeNs::MAX);
        let mut stretch = Stretch { upto: after, arrival_ns, ..Stretch::default() };
        let damaged = reader.damaged();
        while stretch.samples < samples_max {
            let Some(record) = reader.next(written)? else {
                stretch.upto = written;
                break;
            };
            stretch.upto = record.number;
            match outbox::decode(&record) {
                Some(said) => {
                    let before = stretch.messages.len();
                    self.messages(&said, &mut stretch.messages);
                    stretch.samples += stretch.messages[before..]
                        .iter()
                        .map(|message| message.metrics.len() as u64)
                        .sum::<u64>();
                }
                None => stretch.missed_epochs += 1,
            }
        }
        stretch.missed_epochs += reader.damaged() - damaged;
        self.open = Some((stretch.upto, reader));
        Ok(Some(stretch))
    }

    fn lag(&self, after: Position) -> Lag {
        let (records, bytes) = self.outbox.log().behind(after);
        let since_ns = self.first_arrival.behind(after, self.outbox.keeper()).filter(|_| records > 0);
        Lag { epochs: records, bytes, since_ns }
    }
}
