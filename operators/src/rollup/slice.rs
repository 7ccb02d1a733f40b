//! A slice: what one member of a rollup has in one stretch of time, as it travels to the owner of its group.

use serde::{Deserialize, Serialize};

use crate::aggregate::{Aggregate, Values};
use crate::pane::Obs;
use crate::sample::TimeNs;

/// What a member has in one slice: at least one sample.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Slice {
    /// Start of the slice.
    pub start_ns: TimeNs,
    /// The member's last sample before it, where a function of the rollup looks at that one.
    pub before: Option<Obs>,
    content: Content,
}

/// The fold of the panes. Many slices have one sample, which needs a fifth of the memory.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Content {
    One(Obs),
    Many(Box<Aggregate>),
}

impl Slice {
    /// The slice of which `aggregate` is the fold, not closed yet; `None` where it has no sample.
    pub fn new(start_ns: TimeNs, before: Option<Obs>, aggregate: Aggregate) -> Option<Slice> {
        let moments = aggregate.moments?;
        let plain = aggregate.behind == 0 && !matches!(aggregate.values, Values::Sketch(_));
        let content = if moments.count == 1 && plain {
            Content::One(moments.first)
        } else {
            Content::Many(Box::new(aggregate))
        };
        Some(Slice { start_ns, before, content })
    }

    /// Appends it to a window of its member.
    pub fn append_to(&self, window: &mut Aggregate) {
        match &self.content {
            Content::One(obs) => window.append_one(*obs),
            Content::Many(aggregate) => window.append(aggregate),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::function::Function;
    use crate::pane::Pane;

    /// Windows of slices, some of one sample, some of many, some so full that they have a sketch.
    #[test]
    fn a_window_of_slices_is_the_window_of_their_panes() {
        for lens in [vec![1, 1, 1], vec![3, 1, 70], vec![1, 200, 2, 1], vec![30, 30, 30]] {
            let (mut whole, mut window) = (Aggregate::new(true), Aggregate::new(true));
            for (at, len) in (0i64..).zip(lens) {
                let mut pane = Pane::new(at * 1000, 1);
                for i in 0..len {
                    pane.insert(Obs { time_ns: at * 1000 + i, value: ((i * 37 + at) % 23) as f64 });
                }
                let mut part = Aggregate::new(true);
                part.append_pane(&pane);
                whole.append_pane(&pane);
                let slice = Slice::new(at * 1000, None, part).unwrap();
                let bytes = postcard::to_allocvec(&slice).unwrap();
                postcard::from_bytes::<Slice>(&bytes).unwrap().append_to(&mut window);
            }
            whole.close(None);
            window.close(None);
            for name in ["count", "sum", "min", "max", "first", "last", "increase", "rate", "p90", "stddev"] {
                let function = Function::parse(name).unwrap();
                let (a, b) = (function.finish(&whole).unwrap(), function.finish(&window).unwrap());
                assert!((a - b).abs() <= 1e-12 * a.abs(), "{name}: {a} and {b}");
            }
        }
        assert!(Slice::new(0, None, Aggregate::new(true)).is_none());
    }
}
