//! Figures of several runs, compared by their medians.

/// What a run came to.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    /// Throughput.
    pub samples_per_s: f64,
    /// CPU time of a sample, of all threads.
    pub cpu_ns: f64,
}

/// Prints the median of each durability of the journal, and what it costs against the first.
pub fn print_medians(workers: usize, journals: &[String], figures: &[Vec<Figures>]) {
    let mut first: Option<Figures> = None;
    for (journal, figures) in journals.iter().zip(figures) {
        let of = |what: fn(&Figures) -> f64| Spread::of(figures.iter().map(what).collect());
        let (rate, cpu) = (of(|run| run.samples_per_s), of(|run| run.cpu_ns));
        let median = Figures { samples_per_s: rate.median, cpu_ns: cpu.median };
        let first = *first.get_or_insert(median);
        println!(
            "{workers} worker(s), journal {journal}, median of {} (least to most): {:.2} M samples/s ({:.2} to {:.2}), \
             {:.1} CPU ns a sample ({:.1} to {:.1}); against {}: {:+.1} % throughput, {:+.1} CPU ns a sample",
            figures.len(),
            rate.median / 1e6,
            rate.least / 1e6,
            rate.most / 1e6,
            cpu.median,
            cpu.least,
            cpu.most,
            journals[0],
            (median.samples_per_s / first.samples_per_s - 1.0) * 100.0,
            median.cpu_ns - first.cpu_ns,
        );
    }
}

struct Spread {
    least: f64,
    median: f64,
    most: f64,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Spread {
        values.sort_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
        Spread { least: at(0), median: at(values.len() / 2), most: at(values.len().saturating_sub(1)) }
    }
}
