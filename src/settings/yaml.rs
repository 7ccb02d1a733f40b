//! YAML text -> [`Node`]s with lines and columns. Bounded: nesting, and what aliases multiply.

use std::collections::HashMap;
use std::sync::Arc;

use granit_parser::{Event, Parser, ScalarStyle, ScanError, Span, StrInput, options};

use super::report::{Origin, Problem, Report};
use super::written::{Entry, Node, Value};

/// Deepest nesting; the configuration needs 5.
const DEPTH_MAX: usize = 32;

/// Nodes of a file, those included that aliases repeat.
const NODES_MAX: usize = 100_000;

/// Reads `text`, the content of `file`. `None` where it holds nothing. Keys given twice go to `report`.
///
/// # Errors
/// Text that is not YAML, or beyond the limits.
pub(super) fn parse(file: &Arc<str>, text: &str, report: &mut Report) -> Result<Option<Node>, Problem> {
    parse_up_to(NODES_MAX, file, text, report)
}

/// The same for a file that may have so many nodes.
///
/// # Errors
/// As [`parse`].
pub(super) fn parse_up_to(
    nodes_max: usize,
    file: &Arc<str>,
    text: &str,
    report: &mut Report,
) -> Result<Option<Node>, Problem> {
    let limits =
        options! { emit_comments: false, flow_nesting_limit: DEPTH_MAX, block_nesting_limit: DEPTH_MAX };
    let parser = Parser::new_from_str_with_options(text.trim_start_matches('\u{feff}'), limits);
    let mut reader = Reader {
        file,
        parser,
        anchors: HashMap::new(),
        nodes_max,
        nodes_left: nodes_max,
        path: Vec::new(),
        report,
    };
    let mut document = None;
    loop {
        let (event, span) = reader.next()?;
        match event {
            Event::StreamEnd => return Ok(document),
            Event::StreamStart | Event::DocumentStart(..) | Event::DocumentEnd => {}
            event if document.is_none() => document = Some(reader.node(event, span)?),
            _ => return Err(reader.refused(span, "expected one YAML document, found another one")),
        }
    }
}

struct Reader<'a, 't> {
    file: &'a Arc<str>,
    parser: Parser<'t, StrInput<'t>>,
    anchors: HashMap<usize, Node>,
    nodes_max: usize,
    nodes_left: usize,
    /// Keys above the node that is read.
    path: Vec<String>,
    report: &'a mut Report,
}

impl<'t> Reader<'_, 't> {
    fn next(&mut self) -> Result<(Event<'t>, Span), Problem> {
        match self.parser.next_event() {
            Some(Ok(next)) => Ok(next),
            Some(Err(error)) => Err(self.not_yaml(&error)),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    /// The node that `event` begins.
    fn node(&mut self, event: Event<'t>, span: Span) -> Result<Node, Problem> {
        self.nodes_left = match self.nodes_left.checked_sub(1) {
            Some(left) => left,
            None => return Err(self.too_many(span)),
        };
        let origin = self.origin(&span);
        let (value, anchor) = match event {
            Event::Scalar(text, style, anchor, _) => (scalar(text.into_owned(), style), anchor),
            Event::SequenceStart(_, anchor, _) => (self.list()?, anchor),
            Event::MappingStart(_, anchor, _) => (self.map()?, anchor),
            Event::Alias(anchor) => (self.repeated(anchor, span)?, 0),
            _ => return Err(self.refused(span, "expected a value, found none")),
        };
        let node = Node { origin, value };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn list(&mut self) -> Result<Value, Problem> {
        let mut entries = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Value::List(entries)),
                (event, span) => entries.push(self.node(event, span)?),
            }
        }
    }

    fn map(&mut self) -> Result<Value, Problem> {
        let mut entries: Vec<Entry> = Vec::new();
        loop {
            let (key, origin) = match self.next()? {
                (Event::MappingEnd, _) => return Ok(Value::Map(entries)),
                (Event::Scalar(text, ..), span) => (text.into_owned(), self.origin(&span)),
                (_, span) => return Err(self.refused(span, "expected a key, found a list, mapping or alias")),
            };
            let (event, span) = self.next()?;
            self.path.push(key.clone());
            let node = self.node(event, span)?;
            match entries.iter().find(|entry| entry.key == key) {
                Some(first) => {
                    let text = format!("expected each key once, found it here and at {}", first.origin);
                    self.report.problem(&origin, &self.path.join("."), text);
                }
                None => entries.push(Entry { key, origin, node }),
            }
            self.path.pop();
        }
    }

    fn repeated(&mut self, anchor: usize, span: Span) -> Result<Value, Problem> {
        let Some(node) = self.anchors.get(&anchor) else {
            return Err(self.refused(span, "expected an anchor before its alias, found none"));
        };
        let size = size(&node.value);
        match self.nodes_left.checked_sub(size) {
            Some(left) => self.nodes_left = left,
            None => return Err(self.too_many(span)),
        }
        Ok(node.value.clone())
    }

    fn origin(&self, span: &Span) -> Origin {
        self.origin_at(span.start.line(), span.start.col() + 1)
    }

    fn origin_at(&self, line: usize, column: usize) -> Origin {
        Origin::File { file: self.file.clone(), line, column }
    }

    fn too_many(&self, span: Span) -> Problem {
        self.refused(span, &format!("expected at most {} values, found more", self.nodes_max))
    }

    fn refused(&self, span: Span, text: &str) -> Problem {
        Problem { origin: self.origin(&span), key: String::new(), text: text.into() }
    }

    fn not_yaml(&self, error: &ScanError) -> Problem {
        let origin = self.origin_at(error.marker().line(), error.marker().col() + 1);
        Problem { origin, key: String::new(), text: format!("expected YAML, found: {}", error.info()) }
    }
}

/// YAML 1.2, core schema: which plain scalars are null. Their other types are up to the key.
fn scalar(text: String, style: ScalarStyle) -> Value {
    match style {
        ScalarStyle::Plain if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL") => Value::Null,
        ScalarStyle::Plain => Value::Plain(text),
        _ => Value::Quoted(text),
    }
}

fn size(value: &Value) -> usize {
    match value {
        Value::List(entries) => entries.iter().map(|node| 1 + size(&node.value)).sum(),
        Value::Map(entries) => entries.iter().map(|entry| 1 + size(&entry.node.value)).sum(),
        _ => 0,
    }
}
