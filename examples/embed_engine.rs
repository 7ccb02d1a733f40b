//! The engine without the service: epochs in, windows out, with a window function of one's own.
//!
//! `cargo run --example embed_engine`

use std::sync::Arc;

use dataflows::engine::{Callbacks, Engine};
use dataflows::epoch::Epoch;
use dataflows::plan::Plan;
use dataflows::view::{self, WindowQuery};
use operators::aggregate::Aggregate;
use operators::catalog::{Catalog, CatalogLimits};
use operators::function::{Function, WindowFunction};
use operators::sample::{MINUTE, SECOND, Sample};
use operators::series::Target;

/// The spread of a window: largest minus smallest value. To have it in queries, its file would go into
/// `operators/src/function/` and its row into `FUNCTIONS`.
struct Spread;

impl WindowFunction for Spread {
    fn name(&self) -> &'static str {
        "spread"
    }

    fn help(&self) -> &'static str {
        "largest minus smallest value"
    }

    fn finish(&self, _parameter: f64, window: &Aggregate) -> Option<f64> {
        window.moments.map(|moments| moments.max - moments.min)
    }
}

fn main() -> Result<(), String> {
    let catalog = Catalog::new(CatalogLimits::default());
    let engine = Engine::start(Plan { workers: 2, ..Plan::default() }, Callbacks::default())?;

    let target = Arc::new(Target::new("org.plantd.TempSensor", [("location", "server_room")]));
    let series = catalog.resolve(&target, "temperature_celsius").map_err(|full| format!("{full:?}"))?;

    // Ten minutes of one sample a second, a minute to an epoch: much faster than real time.
    let start_ns = 1_704_110_400 * SECOND;
    for minute in 0..10 {
        let from_ns = start_ns + minute * MINUTE;
        let sample = |s: i64| Sample {
            series,
            seq: 0,
            time_ns: from_ns + s * SECOND,
            value: 20.0 + ((minute * 60 + s) as f64 / 100.0).sin(),
        };
        engine.submit(Arc::new(Epoch {
            number: minute as u64 + 1,
            arrival_ns: from_ns + MINUTE,
            floor_ns: i64::MIN,
            batches: vec![(0..60).map(sample).collect()],
            entries: catalog.take_fresh(),
            ..Epoch::default()
        }));
    }
    engine.wait_for(10);

    let query =
        WindowQuery { range_ns: start_ns..start_ns + 10 * MINUTE, window_ns: 5 * MINUTE, with_values: true };
    let (as_of, groups) =
        view::windows(&engine, &[vec![series]], &query).map_err(|why| format!("{why:?}"))?;
    let p95 = Function::parse("p95").ok_or("p95 is a function")?;
    println!("as of epoch {as_of}:");
    for window in &groups[0].windows {
        println!(
            "  {} s: {} samples, p95 {:.3}, spread {:.3}, {}",
            (window.start_ns - start_ns) / SECOND,
            window.aggregate.count(),
            p95.finish(&window.aggregate).unwrap_or(f64::NAN),
            Spread.finish(0.0, &window.aggregate).unwrap_or(f64::NAN),
            if window.is_final { "final" } else { "provisional" },
        );
    }
    engine.stop();
    Ok(())
}
