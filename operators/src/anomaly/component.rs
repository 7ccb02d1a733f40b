//! The components of a judgement: each looks at one way in which a sample can be strange, and why that is said.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One way to be strange. Each yields a strangeness, 0 or above and without a unit, and has a history of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Component {
    /// Distance from the median of the newest 64 samples, by their median absolute deviation.
    Spike,
    /// Distance beyond everything seen so far, by its range; the season taken out.
    Record,
    /// The same of the sample as it is.
    RawRecord,
    /// Distance from the sample before, by the usual distance.
    Step,
    /// Distance of a short exponentially weighted mean from a long one, by the long mean absolute deviation.
    Level,
    /// Ratio of the short to the long mean of the steps, either way.
    Variation,
    /// Distance from the long exponentially weighted mean, by the standard deviation.
    Deviation,
}

/// How many components there are.
pub(super) const COMPONENTS: usize = 7;

/// What made a sample strange.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    /// Nothing did, or too little has been seen.
    #[default]
    Nothing,
    /// Far from the samples around it.
    Spike,
    /// Outside of everything seen so far.
    Record,
    /// A jump from the sample before.
    Step,
    /// The level has moved.
    Level,
    /// Samples vary more than they use to.
    Unrest,
    /// Samples vary less than they use to.
    Flat,
    /// Unlike this time of the day or week, though the value itself is nothing new.
    Season,
}

impl Reason {
    /// A word for tables and JSON.
    pub fn word(self) -> &'static str {
        match self {
            Reason::Nothing => "nothing",
            Reason::Spike => "spike",
            Reason::Record => "record",
            Reason::Step => "step",
            Reason::Level => "level",
            Reason::Unrest => "unrest",
            Reason::Flat => "flat",
            Reason::Season => "season",
        }
    }

    /// A sentence for people, without its full stop.
    pub fn text(self) -> &'static str {
        match self {
            Reason::Nothing => "nothing unusual",
            Reason::Spike => "far from the samples around it",
            Reason::Record => "outside of everything seen so far",
            Reason::Step => "a jump from the sample before",
            Reason::Level => "the level has moved",
            Reason::Unrest => "varies more than usual",
            Reason::Flat => "varies less than usual",
            Reason::Season => "unlike this time of the day or week",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}
