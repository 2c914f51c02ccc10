//! Records before they have columns: a folder of CSV files becomes JSON lines, which are filtered, grouped and summed up.
//!
//! ```text
//! cargo run --release --example records                    # the flights that come with the project, into a temporary folder
//! cargo run --release --example records -- my/flights out  # `my/flights/*.csv` into `out/*.jsonl.gz`
//! ```
//!
//! The mode is that of `SWATH_SCHEDULER`, by default `processes`.

#[path = "support/mod.rs"]
mod support;

use serde::{Deserialize, Serialize};
use std::error::Error;
use std::io::{Write, stdout};
use support::Look;
use swath::bag::{Csv, Json};
use swath::client::Builder;
use swath::{Bag, Client};

/// A line of the CSV files.
#[derive(Clone, Serialize, Deserialize)]
struct Row {
    month: u8,
    day: u8,
    dep_delay: String,
    carrier: String,
    origin: String,
    dest: String,
}

/// A line of the JSON files: a flight that left.
#[derive(Clone, Serialize, Deserialize)]
struct Departure {
    date: (u8, u8),
    carrier: String,
    route: (String, String),
    delay: f64,
}

/// Cancelled flights have no delay, and are left out; what is no number is an error.
fn departure(row: Row) -> Result<Option<Departure>, String> {
    let delay = match row.dep_delay.trim() {
        "" | "NA" => return Ok(None),
        minutes => minutes.parse().map_err(|_| format!("dep_delay is `{minutes}`, not a number of minutes"))?,
    };
    let (date, route) = ((row.month, row.day), (row.origin, row.dest));
    Ok(Some(Departure { date, carrier: row.carrier, route, delay }))
}

/// Reads the CSV files and writes a file of JSON lines for each; gives their paths.
fn prepare(client: &Client, from: &str, to: &str) -> Result<Vec<String>, Box<dyn Error>> {
    let rows = Bag::<Row>::read_csv(format!("{from}/*.csv"), Csv::new())?;
    let departures = rows.try_map(departure).flatten();
    Ok(departures.write_json(format!("{to}/departures-*.jsonl.gz"))?.compute(client)?)
}

/// The flights of a route: how many, and how late in the middle.
fn summary(route: (String, String), departures: Vec<Departure>) -> ((String, String), usize, f64) {
    let mut delays: Vec<f64> = departures.iter().map(|d| d.delay).collect();
    delays.sort_by(f64::total_cmp);
    (route, delays.len(), delays[delays.len() / 2])
}

fn main() -> Result<(), Box<dyn Error>> {
    let temporary = tempfile::tempdir()?;
    let (look, arguments) = Look::from_args()?;
    let mut arguments = arguments.into_iter().map(|argument| argument.to_string_lossy().into_owned());
    let from = arguments.next().unwrap_or_else(|| format!("{}/examples/data/flights", env!("CARGO_MANIFEST_DIR")));
    let to = arguments.next().unwrap_or_else(|| temporary.path().display().to_string());
    let client = look.client(Builder::from_env()?)?;
    let _report = look.report(&client);
    let mut out = stdout().lock();

    let files = prepare(&client, &from, &to)?;
    writeln!(out, "{client}\n{} files of JSON lines", files.len())?;

    // Kept with the workers, as three questions are asked.
    let departures = Bag::<Departure>::read_json(files.clone())?.persist(&client)?;
    let late = departures.filter(|d| d.delay >= 60.0);

    // What fits a fold needs no groups: it moves a number for each carrier, not every record.
    let by_carrier = late.foldby(|d| d.carrier.clone(), 0_u64, |n, _| n + 1, |a, b| a + b).topk_by_key(3, |(_, n)| *n);
    // A median needs all values of a route in one place.
    let routes = departures.groupby(|d| d.route.clone(), None).starmap(summary);
    let worst = routes.filter(|(_, flights, _)| *flights >= 100).topk_by(3, |a, b| a.2.total_cmp(&b.2));
    let questions = (departures.count(), late.count(), by_carrier, worst);
    look.draw(&questions)?;
    let (flights, late, by_carrier, worst) = client.compute(questions)?;
    writeln!(out, "{late} of {flights} flights left an hour late or more; most of them")?;
    by_carrier.iter().try_for_each(|(carrier, n)| writeln!(out, "{n:>8}  {carrier}"))?;
    writeln!(out, "routes with the latest departures, by the median in minutes")?;
    worst.iter().try_for_each(|((origin, dest), _, delay)| writeln!(out, "{delay:>8}  {origin} to {dest}"))?;

    // The same lines without a type, for a look at what there is.
    let days = Bag::<Json>::read_json(files)?.pluck("date").distinct().count();
    writeln!(out, "{} days", days.compute(&client)?)?;
    Ok(())
}
