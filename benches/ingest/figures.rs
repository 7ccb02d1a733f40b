//! Figures of several runs, compared by their medians.

/// What a run came to.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    /// Throughput.
    pub samples_per_s: f64,
    /// CPU time of a sample, of all threads.
    pub cpu_ns: f64,
}

/// Which journal each run has, with its place in the list: all of them in each round, which each begins now and then.
pub fn turns<'a>(
    journals: &'a [&'static str],
    rounds: usize,
) -> impl Iterator<Item = (usize, &'static str)> + 'a {
    let count = journals.len();
    (0..rounds)
        .flat_map(move |round| (0..count).map(move |at| (at + round) % count))
        .map(|at| (at, journals[at]))
}

/// The runs of one format and one number of workers, by durability of the journal.
pub struct Comparison {
    title: String,
    runs: Vec<(&'static str, Vec<Figures>)>,
}

impl Comparison {
    /// Without any runs yet.
    pub fn new(title: &str, journals: &[&'static str]) -> Comparison {
        Comparison {
            title: title.into(),
            runs: journals.iter().map(|journal| (*journal, Vec::new())).collect(),
        }
    }

    /// One more run with the journal at this place of the list.
    pub fn add(&mut self, at: usize, figures: Figures) {
        self.runs[at].1.push(figures);
    }

    /// Prints the medians of each journal, and how they differ from those of the first.
    pub fn print(&self) {
        let mut first = None;
        for (journal, runs) in &self.runs {
            let of = |what: fn(&Figures) -> f64| Spread::of(runs.iter().map(what).collect());
            let (rate, cpu) = (of(|run| run.samples_per_s), of(|run| run.cpu_ns));
            println!(
                "{}, journal {journal}, median of {} (least to most): {:.2} M samples/s ({:.2} to {:.2}), \
                 {:.1} CPU ns a sample ({:.1} to {:.1})",
                self.title,
                runs.len(),
                rate.median / 1e6,
                rate.least / 1e6,
                rate.most / 1e6,
                cpu.median,
                cpu.least,
                cpu.most,
            );
            let Some((name, first_rate, first_cpu)) = first else {
                first = Some((journal, rate.median, cpu.median));
                continue;
            };
            println!(
                "    against {name}: {:+.1} % samples/s, {:+.1} CPU ns a sample ({:+.1} %)",
                (rate.median / first_rate - 1.0) * 100.0,
                cpu.median - first_cpu,
                (cpu.median / first_cpu - 1.0) * 100.0,
            );
        }
    }
}

/// Of some values; NaN where there are none.
struct Spread {
    least: f64,
    median: f64,
    most: f64,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Spread {
        values.sort_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
        let last = values.len().saturating_sub(1);
        // Of an even number, what is between the two in the middle.
        Spread { least: at(0), median: f64::midpoint(at(last / 2), at(last.div_ceil(2))), most: at(last) }
    }
}
