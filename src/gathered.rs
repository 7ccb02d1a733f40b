//! What the alerts of an engine say, epoch by epoch, for those who look at epochs that are complete.

use std::collections::BTreeMap;
use std::sync::Arc;

use dataflows::engine::Callbacks;
use operators::alerts::AlertTransition;
use parking_lot::Mutex;

/// Transitions by epoch, as workers give them.
#[derive(Clone, Default)]
pub(crate) struct Gathered(Arc<Mutex<BTreeMap<u64, Vec<AlertTransition>>>>);

impl Gathered {
    /// Callbacks of an engine whose transitions come here.
    pub(crate) fn callbacks(&self) -> Callbacks {
        let gathered = self.0.clone();
        let outbox = move |epoch, transitions: &[AlertTransition]| {
            gathered.lock().entry(epoch).or_default().extend_from_slice(transitions);
        };
        Callbacks { outbox: Arc::new(outbox), ..Callbacks::default() }
    }

    /// Takes those of epochs up to `complete`. In an epoch they come in any order, but those of one alert in theirs.
    pub(crate) fn take(&self, complete: u64) -> BTreeMap<u64, Vec<AlertTransition>> {
        let mut gathered = self.0.lock();
        let later = gathered.split_off(&(complete + 1));
        std::mem::replace(&mut *gathered, later)
    }
}
