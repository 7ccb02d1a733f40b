//! What this process says about itself: its own metrics, given by a closure.
//!
//! No row of the table opens it, since only the service knows what to hand in.

use operators::sample::TimeNs;
use operators::series::Target;

use super::{CollectError, Collector, scrape};
use crate::codec::exposition::{self, TextFormat};
use crate::message::Message;

/// A collector made of a closure.
pub struct Own<F> {
    name: String,
    measure: F,
}

impl<F: FnMut(TimeNs) -> Result<Vec<Message>, CollectError> + Send> Own<F> {
    /// `measure` gets the event time that its messages should carry.
    pub fn new(name: &str, measure: F) -> Self {
        Own { name: name.into(), measure }
    }
}

impl<F: FnMut(TimeNs) -> Result<Vec<Message>, CollectError> + Send> Collector for Own<F> {
    fn name(&self) -> &str {
        &self.name
    }

    fn collect(&mut self, now_ns: TimeNs) -> Result<Vec<Message>, CollectError> {
        (self.measure)(now_ns)
    }
}

/// A collector of Prometheus text that this process writes, such as its own `/metrics`; its samples
/// go to `target`, with their labels as further tags.
pub fn text(
    name: &str,
    target: &Target,
    mut text: impl FnMut() -> String + Send + 'static,
) -> impl Collector {
    let tags = target.tags.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    let origin = scrape::Origin { service: target.service.to_string(), tags };
    Own::new(name, move |now_ns| {
        let mut gathered = scrape::Gathered::new(&origin, &[], now_ns);
        let text = text();
        let format = TextFormat::of_text(text.as_bytes());
        let outcome = exposition::read(text.as_bytes(), format, |sample| gathered.add(&sample));
        gathered.finish(&outcome)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_text_becomes_messages_of_the_target() {
        let target = Target::new("org.plantd.Metric", [("host", "h")]);
        let mut own = text("self", &target, || "queue_depth{queue=\"in\"} 3\nuptime_seconds 5\n".into());
        let messages = own.collect(7).unwrap();
        let seen: Vec<_> =
            messages.iter().map(|m| (m.target.tag("host"), m.target.tag("queue"), m.time_ns)).collect();
        assert_eq!(seen, [(Some("h"), Some("in"), 7), (Some("h"), None, 7)]);
        assert_eq!(messages[1].metrics, vec![("uptime_seconds".into(), 5.0)]);
    }
}
