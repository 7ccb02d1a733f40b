//! What the process publishes about itself, under the documented application metrics' names.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use operators::family;
use operators::series::Target;

use super::consumer::Consumer;
use crate::collectors::BoxedCollector;
use crate::collectors::own::Own;
use crate::message::Message;
use crate::settings::Settings;

/// The service under which the process speaks of itself.
const SERVICE: &str = "org.plantd.Metric";

/// A collector of this process's own metrics: those that `collection.application` names, uptime and message count.
pub fn collector(settings: &Settings, consumer: &Consumer) -> BoxedCollector {
    let wanted: Vec<String> = settings.collection.own_metrics().map(String::from).collect();
    let host = settings.service.host.clone().or_else(crate::collectors::host_name);
    let tags = host.iter().map(|host| ("host", host.as_str()));
    let target = Arc::new(Target::new(SERVICE, tags));
    let (telemetry, intake, rejects) =
        (consumer.telemetry.clone(), consumer.intake.clone(), consumer.rejects.clone());
    let mut before = (Instant::now(), 0, 0);
    Box::new(Own::new("own", move |now_ns| {
        let (messages, errors) = (telemetry.messages(), rejects.total());
        let seconds = before.0.elapsed().as_secs_f64().max(1e-9);
        let per_second = |now: u64, then: u64| now.saturating_sub(then) as f64 / seconds;
        let queries = telemetry.aggregate_query.summary();
        let all = [
            ("uptime_seconds", telemetry.started.elapsed().as_secs_f64().floor()),
            ("message_count", messages as f64),
            ("message_rate", per_second(messages, before.1)),
            ("request_count", telemetry.http_requests.load(Ordering::Relaxed) as f64),
            ("response_time_ms", queries.quantiles_s[0].1 * 1e3),
            ("error_count", errors as f64),
            ("error_rate", per_second(errors, before.2)),
            ("queue_depth", intake.in_flight() as f64),
        ];
        before = (Instant::now(), messages, errors);
        let always = ["uptime_seconds", "message_count", "message_rate", "error_count"];
        let is_wanted = |name: &str| {
            always.contains(&name) || wanted.iter().any(|wanted| family::rank(wanted, name).is_some())
        };
        let metrics = all.into_iter().filter(|(name, _)| is_wanted(name)).map(|(name, v)| (name.into(), v));
        Ok(vec![Message { time_ns: now_ns, target: target.clone(), metrics: metrics.collect() }])
    }))
}
