//! Load averages, as the kernel keeps them.

use std::sync::Arc;

use operators::sample::TimeNs;
use operators::series::Target;
use sysinfo::System;

use super::{CollectError, Collector, Host, message};
use crate::message::Message;

/// What it gives: tasks running or waiting, averaged over 1, 5 and 15 minutes.
pub const METRICS: &[&str] = &["load_average_1m", "load_average_5m", "load_average_15m"];

/// Opens the collector.
///
/// # Errors
/// None today; the signature is that of the table.
pub fn open(host: &Host) -> Result<Box<dyn Collector>, CollectError> {
    Ok(Box::new(Load { target: Arc::clone(&host.target) }))
}

struct Load {
    target: Arc<Target>,
}

impl Collector for Load {
    fn name(&self) -> &str {
        "load_average"
    }

    fn collect(&mut self, now_ns: TimeNs) -> Result<Vec<Message>, CollectError> {
        let load = System::load_average().map_err(|e| CollectError::new(format!("load_average: {e}")))?;
        let metrics = [
            ("load_average_1m", load.one),
            ("load_average_5m", load.five),
            ("load_average_15m", load.fifteen),
        ];
        Ok(vec![message(&self.target, now_ns, metrics)])
    }
}
