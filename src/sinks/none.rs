//! `storage.type: none`: takes everything, keeps nothing.

use std::sync::Arc;

use super::{Position, Reader, Sink, SinkError, SinkStatus};
use crate::message::Message;

/// The sink that stores nothing.
pub struct NoSink;

impl Sink for NoSink {
    fn write(&mut self, _: &[Message]) -> Result<(), SinkError> {
        Ok(())
    }

    fn flush(&mut self, _upto: Position) -> Result<(), SinkError> {
        Ok(())
    }

    fn status(&self) -> SinkStatus {
        SinkStatus::connected("none")
    }

    fn reader(&self) -> Option<Arc<dyn Reader>> {
        None
    }
}
