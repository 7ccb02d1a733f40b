//! The configuration as written: a tree of nodes that know where they were given. No meaning yet.

use std::fmt;

use super::report::Origin;

/// A value as written, and where.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) origin: Origin,
    pub(super) value: Value,
}

/// What was written.
#[derive(Clone, Debug)]
pub(super) enum Value {
    /// Nothing: the default holds.
    Null,
    /// A YAML scalar without quotes.
    Plain(String),
    /// A YAML scalar in quotes, or a block of text.
    Quoted(String),
    /// A text from the environment or the command line: its type is what the key expects.
    Raw(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A key of a mapping with its value.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    /// Where the key stands.
    pub(super) origin: Origin,
    pub(super) node: Node,
}

impl Node {
    pub(super) fn raw(origin: Origin, text: &str) -> Self {
        Node { origin, value: Value::Raw(text.to_string()) }
    }

    /// The text of a scalar.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Plain(text) | Value::Quoted(text) | Value::Raw(text) => Some(text),
            Value::Null | Value::List(_) | Value::Map(_) => None,
        }
    }

    /// The text of a scalar without quotes, or of untyped text.
    pub(super) fn unquoted(&self) -> Option<&str> {
        match &self.value {
            Value::Plain(text) | Value::Raw(text) => Some(text),
            _ => None,
        }
    }

    /// Puts `node` at `path` below this one. Digits are positions of a list, everything else keys of a mapping;
    /// what stood there goes.
    ///
    /// # Errors
    /// What is wrong with the path.
    pub(super) fn put(&mut self, path: &[&str], node: Node) -> Result<(), String> {
        let Some((first, rest)) = path.split_first() else {
            *self = node;
            return Ok(());
        };
        if let Ok(at) = first.parse::<usize>() {
            return self.list_entry(at, &node.origin)?.put(rest, node);
        }
        self.map_entry(first, &node.origin)?.put(rest, node)
    }

    fn list_entry(&mut self, at: usize, origin: &Origin) -> Result<&mut Node, String> {
        if !matches!(self.value, Value::List(_)) {
            *self = Node { origin: origin.clone(), value: Value::List(Vec::new()) };
        }
        let Value::List(entries) = &mut self.value else { return Err("not a list".into()) };
        if at > entries.len() {
            return Err(format!(
                "expected a position up to {}, as the list has {} entries, found {at}",
                entries.len(),
                entries.len()
            ));
        }
        if at == entries.len() {
            entries.push(Node { origin: origin.clone(), value: Value::Null });
        }
        Ok(&mut entries[at])
    }

    fn map_entry(&mut self, key: &str, origin: &Origin) -> Result<&mut Node, String> {
        if !matches!(self.value, Value::Map(_)) {
            *self = Node { origin: origin.clone(), value: Value::Map(Vec::new()) };
        }
        let Value::Map(entries) = &mut self.value else { return Err("not a mapping".into()) };
        let at = entries.iter().position(|entry| entry.key == key).unwrap_or_else(|| {
            let node = Node { origin: origin.clone(), value: Value::Null };
            entries.push(Entry { key: key.to_string(), origin: origin.clone(), node });
            entries.len() - 1
        });
        Ok(&mut entries[at].node)
    }
}

/// What was found, as an error names it.
impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Value::Null => f.write_str("nothing"),
            Value::Plain(text) => f.write_str(&shortened(text)),
            Value::Quoted(text) | Value::Raw(text) => write!(f, "{:?}", shortened(text)),
            Value::List(_) => f.write_str("a list"),
            Value::Map(_) => f.write_str("a mapping"),
        }
    }
}

/// At most 60 characters of `text`.
fn shortened(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_string(),
    }
}
