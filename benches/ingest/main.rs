//! End to end: the release binary in a process of its own, its load from another.
//!
//! ```text
//! cargo bench --bench ingest                                   the bus, flat out, from a bare ZMTP socket
//! cargo bench --bench ingest -- line json bus remote_write     what a sample costs in each format
//! cargo bench --bench ingest -- bus --rate 1000000             samples a second, for latencies and loss
//! cargo bench --bench ingest -- json --latency                 waits at half of the top rate, with queries beside
//! cargo bench --bench ingest -- json bus --overload            twice the top rate, and how it recovers
//! cargo bench --bench ingest -- --series 1000,1000000          how cost and memory grow
//! cargo bench --bench ingest -- --journal memory,os,fsync --rounds 7    what the journal costs, in turn
//! cargo bench --bench ingest -- --binary /path/to/another      to compare two builds
//! ```
//!
//! `scripts/bench-ingest` is the same with what it needs from outside (wrk, libzmq, python3). Whatever is asked, it
//! fails unless the windows hold every sample sent.
//!
//! # Layout
//! - [`options`]: the command line; [`service`]: the service, looked at from outside
//! - [`load`]: who sends; [`sender`], [`http`]: sockets of ours; [`publisher`]: a bare ZMTP socket
//! - [`bodies`], [`binary`]: what is sent
//! - [`measure`]: one load and its report; [`latency`], [`overload`], [`growth`]: the other questions
//! - [`figures`]: medians of several runs, compared

mod binary;
mod bodies;
mod figures;
mod growth;
mod http;
mod latency;
mod load;
mod measure;
mod options;
mod overload;
mod publisher;
mod sender;
mod service;

use figures::Comparison;
use options::{Options, Question};

fn main() {
    let options = Options::read();
    let mut comparisons = Vec::new();
    let mut failures = 0;
    let mut note = |what: String, result: Result<(), String>| {
        if let Err(why) = result {
            println!("FAILED: {what}: {why}");
            failures += 1;
        }
    };
    for workers in &options.workers {
        if let Question::Growth(counts) = &options.question {
            note("growth".into(), growth::run(counts, *workers, &options));
            continue;
        }
        for format in &options.formats {
            let title = format!("{}, {workers} worker(s)", format.word());
            match options.question {
                Question::Latency => note(title, latency::run(*format, *workers, &options)),
                Question::Overload => note(title, overload::run(*format, *workers, &options)),
                _ => {
                    let mut comparison = Comparison::new(&title, &options.journals);
                    for (at, journal) in figures::turns(&options.journals, options.rounds) {
                        match measure::run(*format, *workers, journal, &options) {
                            Ok(run) => comparison.add(at, run),
                            Err(why) => note(format!("{title}, journal {journal}"), Err(why)),
                        }
                    }
                    comparisons.push(comparison);
                }
            }
        }
    }
    if options.journals.len() > 1 || options.rounds > 1 {
        comparisons.iter().for_each(Comparison::print);
    }
    if failures > 0 {
        std::process::exit(1);
    }
}
