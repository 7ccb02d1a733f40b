//! What a sink has taken and not yet synced.

use operators::sample::TimeNs;

use super::catalog::Block;
use super::parquet::Table;
use super::text::{self, Scratch, TextFormat};
use super::{FileFormat, Limits};
use crate::message::Message;

/// Rows in memory, held until they are synced.
pub(super) struct Pending {
    /// When the first of it came.
    pub since_ns: Option<TimeNs>,
    pub rows: PendingRows,
}

/// Rows as the format wants them.
pub(super) enum PendingRows {
    Text { format: &'static TextFormat, text: Vec<u8>, block: Block },
    Table(Table),
}

impl Pending {
    /// Nothing yet, for a sink of `format`.
    pub fn of(format: FileFormat) -> Self {
        let rows = match text::of(format) {
            Some(format) => PendingRows::Text { format, text: Vec::new(), block: Block::EMPTY },
            None => PendingRows::Table(Table::default()),
        };
        Pending { since_ns: None, rows }
    }

    /// Takes a message that came at `now_ns`.
    pub fn push(&mut self, message: &Message, scratch: &mut Scratch, now_ns: TimeNs) {
        self.since_ns.get_or_insert(now_ns);
        match &mut self.rows {
            PendingRows::Text { format, text, block } => {
                (format.encode)(message, scratch, text);
                block.add(message.time_ns, message.metrics.len() as u64);
            }
            PendingRows::Table(table) => table.push(message),
        }
    }

    /// Whether it must be stored before more is taken.
    pub fn is_full(&self, limits: &Limits) -> bool {
        match &self.rows {
            PendingRows::Text { text, .. } => text.len() >= limits.pending_bytes,
            PendingRows::Table(table) => table.len() >= limits.pending_rows,
        }
    }

    /// Everything was synced.
    pub fn clear(&mut self) {
        self.since_ns = None;
        match &mut self.rows {
            PendingRows::Text { text, block, .. } => {
                text.clear();
                *block = Block::EMPTY;
            }
            PendingRows::Table(table) => *table = Table::default(),
        }
    }
}
