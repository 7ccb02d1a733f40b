//! Requests that carry an idempotency key, remembered for as long as their senders may repeat them.

use std::collections::{HashMap, VecDeque};

use dataflows::epoch::Request;
use operators::sample::{DurationNs, TimeNs};
use operators::stable_hash::StableHash;
use serde::{Deserialize, Serialize};

/// A request, and where its samples went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RememberedRequest {
    /// When it came, by the arrival clock.
    pub arrival_ns: TimeNs,
    /// The epoch that carries its samples.
    pub epoch: u64,
    /// What its sender was told.
    pub request: Request,
}

/// A bounded memory of requests: the oldest are forgotten first.
pub struct Remembered {
    len_max: usize,
    retention_ns: DurationNs,
    by_key: HashMap<u128, RememberedRequest>,
    in_order: VecDeque<(TimeNs, u128)>,
}

impl Remembered {
    /// Remembers at most `len_max` requests, for `retention_ns` each.
    pub fn new(len_max: usize, retention_ns: DurationNs) -> Remembered {
        Remembered { len_max, retention_ns, by_key: HashMap::new(), in_order: VecDeque::new() }
    }

    /// What is remembered of the request with this key.
    pub fn find(&self, key: u128) -> Option<RememberedRequest> {
        self.by_key.get(&key).copied()
    }

    /// Remembers a request, and forgets what is too old or too much.
    pub fn add(&mut self, request: RememberedRequest) {
        let key = request.request.key;
        if self.by_key.insert(key, request).is_none() {
            self.in_order.push_back((request.arrival_ns, key));
        }
        let since_ns = request.arrival_ns.saturating_sub(self.retention_ns);
        while let Some((arrival_ns, oldest)) = self.in_order.front()
            && (self.in_order.len() > self.len_max || *arrival_ns < since_ns)
        {
            self.by_key.remove(oldest);
            self.in_order.pop_front();
        }
    }

    /// Requests whose samples went with epochs up to `epoch`, in order of arrival.
    pub fn upto(&self, epoch: u64) -> Vec<RememberedRequest> {
        let requests = self.in_order.iter().filter_map(|(_, key)| self.by_key.get(key));
        requests.filter(|request| request.epoch <= epoch).copied().collect()
    }
}

/// The hash by which a key is remembered.
pub fn key_hash(key: &[u8]) -> u128 {
    StableHash::new().bytes(key).finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_are_forgotten_by_number_and_by_age() {
        let request = |key: u128, arrival_ns| RememberedRequest {
            arrival_ns,
            epoch: key as u64,
            request: Request { key, accepted: 1, rejected: 0 },
        };
        let mut remembered = Remembered::new(3, 100);
        for key in 1..=4 {
            remembered.add(request(key, key as i64));
        }
        let known =
            |remembered: &Remembered| remembered.upto(u64::MAX).iter().map(|r| r.epoch).collect::<Vec<_>>();
        assert_eq!(known(&remembered), [2, 3, 4]);
        assert_eq!((remembered.find(1), remembered.find(2)), (None, Some(request(2, 2))));
        assert_eq!(remembered.upto(3).len(), 2);
        remembered.add(request(5, 103));
        assert_eq!(known(&remembered), [3, 4, 5]);
        remembered.add(request(6, 500));
        assert_eq!(known(&remembered), [6]);
    }
}
