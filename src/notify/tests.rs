//! What tests of this room share.

use std::sync::Arc;

use operators::series::Target;

use super::{Notification, Status};

/// 2024-01-01T12:00:00Z.
pub(super) const NOON_NS: i64 = 1_704_110_400_000_000_000;

/// An alert that fires.
pub(super) fn notification(id: u128) -> Notification {
    Notification {
        id,
        rule: "high_cpu_usage".into(),
        target: Arc::new(Target::new(
            "org.plantd.Broker",
            [("host", "broker-01"), ("environment", "production")],
        )),
        metric: "cpu_usage_percent".into(),
        severity: "warning".into(),
        message: "CPU usage is above 80% for 5 minutes".into(),
        value: 85.2,
        threshold: 80.0,
        labels: Arc::default(),
        annotations: Arc::default(),
        expected: None,
        time_ns: NOON_NS,
        started_ns: NOON_NS - 300_000_000_000,
        status: Status::Firing,
        receipt: Default::default(),
    }
}
