//! Lazy calls in ten minutes: every pattern of the Dask course on `delayed`, in Rust.
//!
//! ```text
//! cargo run --example quickstart
//! SWATH_SCHEDULER=sync cargo run --example quickstart       # one thread, the same order each time
//! SWATH_SCHEDULER=threads cargo run --example quickstart
//! SWATH_SCHEDULER=processes SWATH_WORKERS=2 cargo run --example quickstart
//! ```
//!
//! Each part describes a graph of calls, computes it, and compares the answer with the one worked out by hand.

#![allow(clippy::print_stdout, clippy::print_stderr)]

#[path = "support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::process::ExitCode;
use support::Look;
use swath::client::Builder;
use swath::delayed::value;
use swath::{Client, Delayed, delayed, try_delayed};

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

fn inc(x: i64) -> i64 {
    x + 1
}

fn double(x: i64) -> i64 {
    x * 2
}

fn add(x: i64, y: i64) -> i64 {
    x + y
}

fn is_even(x: i64) -> bool {
    x % 2 == 0
}

fn sum(numbers: Vec<i64>) -> i64 {
    numbers.iter().sum()
}

const DATA: [i64; 8] = [1, 2, 3, 4, 5, 6, 7, 8];

/// Wrap a function, call it, compute. Nothing runs before `compute`.
fn inc_and_add(client: &Client) -> Result {
    let x = delayed(inc).call(1);
    let y = delayed(inc).call(2);
    let z = delayed(add).call(&x, &y);
    println!("  {} needs {} and {}", z.key(), x.key(), y.key());
    check("inc and add", z.compute(client)?, 5)
}

/// A result is an argument of the next call; operators and `map` make calls as well.
fn chains(client: &Client) -> Result {
    let x = delayed(inc).call(10);
    let y = x.map(double).map(inc);
    let z = (&x + &y) * 2 - 1;
    check("a chain", client.compute((&y, &z))?, (23, 67))
}

/// A loop that collects lazy calls, then one call that takes the list.
fn a_loop(client: &Client) -> Result {
    let mut results = Vec::new();
    for x in DATA {
        results.push(delayed(inc).call(x));
    }
    let total = delayed(sum).call(&results);
    check("a loop", total.compute(client)?, 44)?;

    // The same in one line each.
    let results = delayed(inc).map(DATA);
    let total = results.iter().sum::<Delayed<i64>>();
    check("a loop by map", total.compute(client)?, 44)
}

/// Conditions on values that are known while the graph is described are ordinary `if`s.
fn a_loop_with_a_condition(client: &Client) -> Result {
    let mut results = Vec::new();
    for x in DATA {
        results.push(if is_even(x) { delayed(double).call(x) } else { delayed(inc).call(x) });
    }
    let total = delayed(sum).call(results);
    check("a loop with a condition", total.compute(client)?, 60)
}

/// Where a condition depends on a result, either a task decides, or the program computes that result first.
fn a_condition_on_a_result(client: &Client) -> Result {
    fn choose(condition: bool, yes: i64, no: i64) -> i64 {
        if condition { yes } else { no }
    }
    let x = delayed(inc).call(3);
    let chosen = delayed(choose).call(x.map(is_even), x.map(double), &x);
    check("a task that decides", chosen.compute(client)?, 8)?;

    // `persist` keeps the results, so that looking at one does not mean computing it twice.
    let x = delayed(inc).call(3).persist(client)?;
    let next = if x.map(is_even).compute(client)? { x.map(double) } else { x };
    check("a program that decides", next.compute(client)?, 8)
}

/// Calls of calls inside the loop, and a sum over them.
fn a_nested_sum(client: &Client) -> Result {
    let mut output = Vec::new();
    for x in DATA {
        let a = delayed(inc).call(x);
        let b = delayed(double).call(x);
        let c = delayed(add).call(a, b);
        output.push(c);
    }
    let total = delayed(sum).call(output);
    check("a nested sum", total.compute(client)?, 116)?;

    // Sums of sums: a tree, as deep as the data asks for.
    let mut level = delayed(inc).map(DATA);
    while level.len() > 1 {
        level = level.chunks(2).map(|pair| pair.iter().sum()).collect();
    }
    check("a tree", level[0].compute(client)?, 44)
}

/// Lists, arrays, options, tuples and maps may hold lazy calls wherever a task takes such a collection.
fn list_arguments(client: &Client) -> Result {
    let x = delayed(inc).call(1);
    let y = delayed(double).call(&x);

    // `value` makes a lazy value of a plain one, for a list of both.
    let mixed = delayed(sum).call(vec![x.clone(), y.clone(), value(10)]);
    check("a list of both", mixed.compute(client)?, 16)?;

    let rows = vec![delayed(inc).map([1, 2]), delayed(double).map([1, 2, 3])];
    let nested = delayed(|rows: Vec<Vec<i64>>| rows.iter().map(Vec::len).collect::<Vec<_>>()).call(rows);
    check("a list of lists", nested.compute(client)?, vec![2, 3])?;

    fn describe(named: BTreeMap<String, i64>) -> String {
        named.iter().map(|(name, x)| format!("{name}={x}")).collect::<Vec<_>>().join(" ")
    }
    let named = BTreeMap::from([("x".to_string(), x), ("y".to_string(), y)]);
    check("a map", delayed(describe).call(named).compute(client)?, "x=2 y=4".to_string())
}

/// A function with several results returns a tuple or a list; `unpack` makes each of them a value of its own.
fn several_outputs(client: &Client) -> Result {
    fn divide(a: i64, b: i64) -> (i64, i64) {
        (a / b, a % b)
    }
    let (quotient, rest) = delayed(divide).call(17, 5).unpack();
    check("outputs", client.compute((&quotient, &rest))?, (3, 2))?;
    check("outputs used", (quotient * 5 + rest).compute(client)?, 17)
}

/// Several results at once: what they share runs once.
fn several_at_once(client: &Client) -> Result {
    let numbers = delayed(inc).map(DATA);
    let total = delayed(sum).call(&numbers);
    let largest = delayed(|v: Vec<i64>| v.into_iter().max()).call(&numbers);
    check("two results", client.compute((&total, &largest))?, (44, Some(9)))?;
    check("a list of results", client.compute(&numbers)?, DATA.map(inc).to_vec())
}

/// A function that fails returns a `Result`; the error arrives with the task's name and key.
fn errors(client: &Client) -> Result {
    fn half(x: i64) -> std::result::Result<i64, String> {
        if is_even(x) { Ok(x / 2) } else { Err(format!("{x} is odd")) }
    }
    let total = try_delayed(half).map([4, 5]).iter().sum::<Delayed<i64>>();
    let Err(error) = total.compute(client) else { return Err("half of 5 should have failed".into()) };
    println!("  as it should be: {error}");
    let task = error.task().ok_or("not an error of a task")?;
    check("the failed task", task.name(), "half")?;
    check("its error", task.downcast::<String>(), Some("5 is odd".to_string()))
}

fn check<T: PartialEq + Debug>(what: &str, got: T, wanted: T) -> Result {
    if got != wanted {
        return Err(format!("{what}: got {got:?}, wanted {wanted:?}").into());
    }
    println!("{what}: {got:?}");
    Ok(())
}

fn run() -> Result {
    let look = Look::alone()?;
    let client = look.client(Builder::from_env()?)?;
    let _report = look.report(&client);
    println!("{client}\n");
    look.draw(&delayed(sum).call(delayed(inc).map(DATA)))?;
    inc_and_add(&client)?;
    chains(&client)?;
    a_loop(&client)?;
    a_loop_with_a_condition(&client)?;
    a_condition_on_a_result(&client)?;
    a_nested_sum(&client)?;
    list_arguments(&client)?;
    several_outputs(&client)?;
    several_at_once(&client)?;
    errors(&client)?;
    println!("\nall right");
    Ok(())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("quickstart: {error}");
            ExitCode::FAILURE
        }
    }
}
