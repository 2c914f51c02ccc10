//! Finding the bug: a task of a large graph fails; replay it alone, in this thread, with its real inputs.
//!
//! ```text
//! cargo run --example debug
//! RUST_BACKTRACE=1 cargo run --example debug     # the backtrace leads straight into `spread`
//! rust-gdb -ex 'break debug::spread' -ex run target/debug/examples/debug
//! ```
//!
//! The sync client runs every task in the calling thread, in the same order each time: breakpoints, prints and
//! backtraces work as in any program. To debug a program that makes its client with `Client::from_env()`, change nothing
//! in it and run it with `SWATH_SCHEDULER=sync`.

#![allow(clippy::print_stdout, clippy::print_stderr)]

#[path = "support/mod.rs"]
mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use support::Look;
use swath::error::Cause;
use swath::status::Mode;
use swath::{Client, Delayed, delayed};

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

const STATIONS: [&str; 4] = ["north", "east", "south", "west"];

/// The calls in the order in which they ran: tasks of a sync client run in this process, so a static sees them all.
static CALLS: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn note(call: String) {
    CALLS.lock().unwrap_or_else(PoisonError::into_inner).push(call);
}

fn take_calls() -> Vec<String> {
    std::mem::take(&mut *CALLS.lock().unwrap_or_else(PoisonError::into_inner))
}

/// The readings of one station; the instrument in the south was broken all day.
fn load(station: String) -> Vec<f64> {
    note(format!("load {station}"));
    match station.as_str() {
        "south" => vec![f64::NAN; 24],
        name => (0..24).map(|hour| name.len() as f64 + f64::from(hour % 12)).collect(),
    }
}

fn keep_valid(readings: Vec<f64>) -> Vec<f64> {
    note(format!("keep_valid {}", readings.len()));
    readings.into_iter().filter(|r| r.is_finite()).collect()
}

/// The bug: nobody thought of a day without a single valid reading.
fn spread(readings: Vec<f64>) -> f64 {
    note(format!("spread {}", readings.len()));
    let smallest = readings.iter().copied().reduce(f64::min);
    let largest = readings.iter().copied().reduce(f64::max);
    largest.expect("a largest reading") - smallest.expect("a smallest reading")
}

fn widest(spreads: Vec<f64>) -> f64 {
    note(format!("widest {}", spreads.len()));
    spreads.into_iter().fold(0.0, f64::max)
}

fn describe() -> Delayed<f64> {
    let spreads: Vec<_> = STATIONS.map(|s| delayed(load).call(s).map(keep_valid).map(spread)).into();
    delayed(widest).call(spreads)
}

fn run() -> Result {
    let look = Look::alone()?;
    let client = look.client(Client::builder().mode(Mode::Sync))?;
    let _report = look.report(&client);
    println!("{client}\n");
    let report = describe();
    look.draw(&report)?;

    // 1. The error says which task, where in the code, and who needed it.
    let Err(error) = client.compute(&report) else { return Err("the graph with the bug gave a result".into()) };
    println!("the error:\n  {error}\n");
    let task = error.task().ok_or("not an error of a task")?;
    let Cause::Panic { message, location, .. } = task.cause() else {
        return Err(format!("expected a panic, got {}", task.cause()).into());
    };
    check("name of the failed task", task.name(), "spread")?;
    check("its key starts with its name", task.key().starts_with("spread-"), true)?;
    check("its message", message.as_str(), "a largest reading")?;
    check("the place is in this file", location.contains("debug.rs:"), true)?;
    let first = take_calls();

    // 2. The same graph fails in the same way after the same steps, as often as it is run.
    let again = client.compute(&report);
    check("it fails again", again.is_err(), true)?;
    check("the calls of the second run", take_calls(), first)?;

    // 3. Replay: the inputs of the failing task are computed, and its function is called here, with nothing around it
    //    that would catch the panic. A debugger stops in it; without one the program would end with a plain panic. This
    //    example goes on, hence the `catch_unwind`.
    println!("\nreplaying; what follows is an ordinary panic of this thread:");
    let replayed = catch_unwind(AssertUnwindSafe(|| client.replay(&report)));
    let Err(payload) = replayed else { return Err("the replay should have panicked".into()) };
    let said = payload.downcast_ref::<&str>().copied().or(payload.downcast_ref::<String>().map(String::as_str));
    check("the panic says the same", said, Some(message.as_str()))?;
    let calls = take_calls();
    check("the last call was the failing one, with its real input", calls.last(), Some(&"spread 0".to_string()))?;

    // 4. Fixed: stations without a valid reading are left out.
    fn spread_if_any(readings: Vec<f64>) -> Option<f64> {
        (!readings.is_empty()).then(|| spread(readings))
    }
    let spreads: Vec<_> = STATIONS.map(|s| delayed(load).call(s).map(keep_valid).map(spread_if_any)).into();
    let fixed = delayed(|spreads: Vec<Option<f64>>| widest(spreads.into_iter().flatten().collect())).call(spreads);
    check("the fixed graph", client.replay(&fixed)?, 11.0)?;
    check("computed", client.compute(&fixed)?, 11.0)?;
    println!("\nall right");
    Ok(())
}

fn check<T: PartialEq + std::fmt::Debug>(what: &str, got: T, wanted: T) -> Result {
    if got != wanted {
        return Err(format!("{what}: got {got:?}, wanted {wanted:?}").into());
    }
    println!("{what}: {got:?}");
    Ok(())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("debug: {error}");
            ExitCode::FAILURE
        }
    }
}
