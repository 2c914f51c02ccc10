//! Flights in a bucket: CSV files become compressed JSON lines in an object store, are read back from there by a pattern,
//! and asked which days were the worst.
//!
//! ```text
//! export AWS_ACCESS_KEY_ID=… AWS_SECRET_ACCESS_KEY=… AWS_REGION=…       # as for any other program
//! export AWS_ENDPOINT_URL=http://localhost:9000                          # if it is not Amazon's
//! cargo run --release --features object-store --example s3 -- s3://my-bucket/flights
//! cargo run --release --features object-store --example s3 -- s3://my-bucket/flights data/*.csv
//! ```
//!
//! The bucket has to be there. `gs://` and `az://` work the same, and so do plain directories. The mode is that of
//! `SWATH_SCHEDULER`, by default `processes`; each worker talks to the store by itself.

#[path = "support/mod.rs"]
mod support;

use serde::{Deserialize, Serialize};
use std::error::Error;
use std::io::{Write, stdout};
use std::path::Path;
use support::Look;
use swath::Bag;
use swath::bag::Csv;
use swath::client::Builder;
use swath::files::{Files, Output};

/// A line of the CSV files.
#[derive(Clone, Serialize, Deserialize)]
struct Row {
    month: u8,
    day: u8,
    dep_delay: String,
    carrier: String,
    origin: String,
}

/// What is kept of it: a flight that left.
#[derive(Clone, Serialize, Deserialize)]
struct Departure {
    date: (u8, u8),
    carrier: String,
    origin: String,
    minutes: f64,
}

fn departure(row: Row) -> Result<Option<Departure>, String> {
    let minutes = match row.dep_delay.trim() {
        "" | "NA" => return Ok(None),
        minutes => minutes.parse().map_err(|_| format!("dep_delay is `{minutes}`, not a number of minutes"))?,
    };
    Ok(Some(Departure { date: (row.month, row.day), carrier: row.carrier, origin: row.origin, minutes }))
}

/// Flights, and minutes of delay of all of them.
type Total = (u64, f64);

fn add(total: Total, departure: Departure) -> Total {
    (total.0 + 1, total.1 + departure.minutes)
}

fn merge(a: Total, b: Total) -> Total {
    (a.0 + b.0, a.1 + b.1)
}

/// The files that are shipped with swath, if there are no others.
fn sources(given: Vec<String>) -> Files {
    match given.is_empty() {
        true => Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data/flights/*.csv").into(),
        false => given.into(),
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let (look, arguments) = Look::from_args()?;
    let mut arguments = arguments.into_iter().map(|argument| argument.to_string_lossy().into_owned());
    let bucket = arguments.next().ok_or("say where to: `s3 s3://my-bucket/flights [FILE.csv]...`")?;
    let bucket = bucket.trim_end_matches('/');
    let client = look.client(Builder::from_env()?)?;
    let _report = look.report(&client);
    let mut out = stdout().lock();

    // Read, cleaned and written in one pass: each task holds only the record it is at.
    let departures = Bag::<Row>::read_csv(sources(arguments.collect()), Csv::new())?.try_map(departure).flatten();
    let months = Output::new(format!("{bucket}/month-*.jsonl.gz")).names(|i| format!("{:02}", i + 1));
    let objects = departures.write_json(months)?.compute(&client)?;
    writeln!(out, "{} objects, from {} to {}", objects.len(), objects[0], objects[objects.len() - 1])?;

    let stored = Bag::<Departure>::read_json(format!("{bucket}/month-*.jsonl.gz"))?;
    let days = stored.foldby(|departure| departure.date, (0, 0.0), add, merge);
    look.draw(&days)?;
    let days = days.compute(&client)?;
    let count: u64 = days.iter().map(|(_, total)| total.0).sum();
    writeln!(out, "{count} flights left on {} days; the worst of them:", days.len())?;

    let mut worst: Vec<_> = days.into_iter().map(|(day, (flights, minutes))| (minutes / flights as f64, day)).collect();
    worst.sort_by(|a, b| b.0.total_cmp(&a.0));
    for (minutes, (month, day)) in worst.into_iter().take(5) {
        writeln!(out, "{month:>4}/{day:02} {minutes:>8.2} minutes late on average")?;
    }
    Ok(())
}
