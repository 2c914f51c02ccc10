//! Measures what the runtime costs: the workloads that other task runtimes are measured with, and beside each the floor
//! under it, which is what the machine itself needs for the same work.
//!
//! ```text
//! cargo run --release --bin bench -- noop --systems swath-threads,floor-threads --n 100000 --repeat 5
//! cargo run --release --bin bench -- all
//! cargo run --release --bin bench -- --list
//! ```
//!
//! Every measurement is one JSON object on a line of its own on standard output:
//! `{"bench", "system", "params", "metric", "value", "unit", "runs"}`. `value` is the median of `runs`, where there are
//! any. Every answer is checked; a failure is a line `{"bench", "system", "error"}`, and the exit code is 1 then. What is
//! said to people goes to standard error.

#![allow(clippy::print_stdout, clippy::print_stderr)]

mod bags;
mod chain;
mod coordination;
mod data_plane;
mod event_log;
mod failing;
mod fair;
mod fan_in;
mod fault;
mod first_result;
mod floors;
mod futures;
mod graph;
mod idle;
mod metg;
mod noop;
mod options;
mod out_of_core;
mod pattern;
mod pool;
mod printing;
mod process;
mod profile;
mod recording;
mod report;
mod roundtrip;
mod scaling;
mod scheduler;
mod service;
mod shapes;
mod shared_input;
mod shuffle;
mod sleep_loop;
mod spread;
mod startup;
mod systems;
mod tasks;
mod values;
mod views;
mod watching;

use options::{Options, Request};
use report::{Outcome, Report};
use std::process::ExitCode;

/// Something to measure.
struct Workload {
    name: &'static str,
    about: &'static str,
    systems: &'static [&'static str],
    run: fn(&mut Report, &Options),
}

const WORKLOADS: [Workload; 32] = [
    Workload {
        name: "noop",
        about: "N independent tasks that do nothing (--n, --via)",
        systems: &[
            "swath-sync",
            "swath-threads",
            "swath-processes",
            "floor-serial",
            "floor-rayon",
            "floor-threads",
            "floor-scheduler",
        ],
        run: noop::run,
    },
    Workload {
        name: "roundtrip",
        about: "one task at a time: submit it, wait for its result (--n, --via)",
        systems: &["swath-sync", "swath-threads", "swath-processes", "floor-unpark", "floor-socketpair"],
        run: roundtrip::run,
    },
    Workload {
        name: "coordination",
        about: "a lock had and let go, an item put and taken, from the program and from a task, beside a round trip (--n)",
        systems: &["swath-sync", "swath-threads", "swath-processes"],
        run: coordination::run,
    },
    Workload {
        name: "chain",
        about: "tasks of which each needs the one before (--n, --via)",
        systems: &["swath-sync", "swath-threads", "swath-processes", "floor-serial", "floor-socketpair"],
        run: chain::run,
    },
    Workload {
        name: "sleep_loop",
        about: "N tasks that sleep, on 4 workers (--n, --t-ms)",
        systems: &["swath-threads", "swath-processes", "floor-sleep"],
        run: sleep_loop::run,
    },
    Workload {
        name: "shapes",
        about: "the sum of N tasks, and a binary tree of 2^D - 1 tasks (--n, --d, --shape)",
        systems: &["swath-sync", "swath-threads", "swath-processes", "floor-serial", "floor-rayon"],
        run: shapes::run,
    },
    Workload {
        name: "metg",
        about: "the shortest tasks of Task Bench's patterns that still use the machine by half (--pattern, --steps, --width)",
        systems: &["swath-threads", "swath-processes", "floor-threads"],
        run: metg::run,
    },
    Workload {
        name: "data_plane",
        about: "a large array between workers and client, and given to all workers (--mib, --workers)",
        systems: &["swath-processes", "swath-threads", "floor-memcpy"],
        run: data_plane::run,
    },
    Workload {
        name: "values",
        about: "values that are no buffer, as argument and result, beside a clone of them (--part, --mib, --uses)",
        systems: &["swath-processes", "floor-clone"],
        run: values::run,
    },
    Workload {
        name: "shared_input",
        about: "many tasks that read one value, beside tasks that read a buffer (--n)",
        systems: &["swath-processes", "swath-threads", "floor-clone"],
        run: shared_input::run,
    },
    Workload {
        name: "spread",
        about: "tasks that sleep over one value that one worker holds (--mib, --n, --t-ms, --workers)",
        systems: &["swath-processes", "swath-threads", "floor-threads"],
        run: spread::run,
    },
    Workload {
        name: "views",
        about: "the length, an item and a part of a large value that is held (--mib)",
        systems: &["swath-processes", "swath-threads", "swath-sync", "floor-memcpy"],
        run: views::run,
    },
    Workload {
        name: "fan_in",
        about: "one task with many inputs, which succeed or fail (--n, --part failing)",
        systems: &["swath-processes", "swath-threads", "swath-sync", "floor-serial"],
        run: fan_in::run,
    },
    Workload {
        name: "fault",
        about: "tasks that sleep on workers that are killed (--n, --t-ms, --kills)",
        systems: &["swath-processes", "floor-sleep"],
        run: fault::run,
    },
    Workload {
        name: "first_result",
        about: "the first result of a map of N items (--n, --via)",
        systems: &["swath-threads", "swath-processes", "floor-rayon"],
        run: first_result::run,
    },
    Workload {
        name: "fair",
        about: "one-task requests beside a batch of N tasks; shares of two programs; results that four batches hold (--n)",
        systems: &["swath-threads", "swath-processes", "swath-cluster", "floor-socketpair"],
        run: fair::run,
    },
    Workload {
        name: "service",
        about: "a thousand small graphs at a time, from many threads (--n, --callers)",
        systems: &["swath-threads", "swath-processes", "floor-rayon"],
        run: service::run,
    },
    Workload {
        name: "startup",
        about: "from nothing to the first results, and what idles then",
        systems: &["swath-processes", "swath-threads", "floor-exec"],
        run: startup::run,
    },
    Workload {
        name: "scheduler",
        about: "the scheduler alone, without transport (--n)",
        systems: &["floor-scheduler"],
        run: scheduler::run,
    },
    Workload {
        name: "graph",
        about: "describing and submitting a large graph, and the memory it takes (--n)",
        systems: &["swath-threads", "swath-processes"],
        run: graph::run,
    },
    Workload {
        name: "bags",
        about: "words counted, JSON lines folded and grouped (--part, --data)",
        systems: &["swath-threads", "swath-processes", "floor-rayon"],
        run: bags::run,
    },
    Workload {
        name: "out_of_core",
        about: "more held than the workers' memory takes (--part, --gib, --directory)",
        systems: &["swath-processes", "floor-disk"],
        run: out_of_core::run,
    },
    Workload {
        name: "printing",
        about: "what tasks print, until this program's output has it (--part, --mib, --n)",
        systems: &["swath-processes", "floor-pipe"],
        run: printing::run,
    },
    Workload {
        name: "event_log",
        about: "tasks that do nothing, with the log of events and without (--n, --via)",
        systems: &["swath-sync", "swath-threads", "swath-processes"],
        run: event_log::run,
    },
    Workload {
        name: "profile",
        about: "tasks that compute, with threads sampled and without (--n)",
        systems: &["swath-sync", "swath-threads", "swath-processes"],
        run: profile::run,
    },
    Workload {
        name: "watching",
        about: "what progress bars and a performance report cost tasks of 1 ms (--n, --via)",
        systems: &["swath-sync", "swath-threads", "swath-processes"],
        run: watching::run,
    },
    Workload {
        name: "recording",
        about: "tasks that do nothing, recorded in a file and not (--n, --via)",
        systems: &["swath-sync", "swath-threads", "swath-processes"],
        run: recording::run,
    },
    Workload {
        name: "futures",
        about: "calls submitted one by one, with futures that are held (--n, --via)",
        systems: &["swath-sync", "swath-threads", "swath-processes", "floor-channel"],
        run: futures::run,
    },
    Workload {
        name: "failing",
        about: "tasks that panic or return an error, with backtraces and without (--n, --part)",
        systems: &["swath-sync", "swath-threads", "swath-processes"],
        run: failing::run,
    },
    Workload {
        name: "shuffle",
        about: "something from each of N partitions to each of N partitions (--n)",
        systems: &["swath-threads", "swath-processes", "floor-file"],
        run: shuffle::run,
    },
    Workload {
        name: "idle",
        about: "what workers cost that have nothing to do, or tasks that sleep (--busy: only these)",
        systems: &["swath-processes", "floor-sleep"],
        run: idle::run,
    },
    Workload {
        name: "scaling",
        about: "what a task costs as graphs grow to ten million tasks, and clients to 64 workers (--part)",
        systems: &["swath-threads", "swath-processes", "floor-scheduler"],
        run: scaling::run,
    },
];

fn usage() -> String {
    let mut text = format!("{}\n\nworkloads:\n", options::USAGE);
    for workload in &WORKLOADS {
        text += &format!("  {:<12}{}\n  {:<12}{}\n", workload.name, workload.about, "", workload.systems.join(", "));
    }
    text
}

/// Runs what was asked for; whether all of it went well.
fn measure(options: &Options) -> Result<bool, String> {
    let chosen: Vec<&Workload> = match options.workload.as_str() {
        "all" => WORKLOADS.iter().collect(),
        name => WORKLOADS.iter().filter(|w| w.name == name).collect(),
    };
    if chosen.is_empty() {
        return Err(format!("there is no workload `{}`\n\n{}", options.workload, usage()));
    }
    for system in options.systems.iter().flatten() {
        if !WORKLOADS.iter().any(|w| w.systems.contains(&system.as_str())) {
            return Err(format!("there is no system `{system}`\n\n{}", usage()));
        }
    }
    if cfg!(debug_assertions) {
        eprintln!("bench: this is a debug build; its numbers say nothing");
    }
    let mut well = true;
    for workload in chosen {
        let wanted = |s: &&str| options.systems.as_ref().is_none_or(|only| only.iter().any(|o| o == s));
        let systems: Vec<&'static str> = workload.systems.iter().copied().filter(wanted).collect();
        if systems.is_empty() {
            eprintln!("bench: {}: none of the systems named is measured there", workload.name);
            continue;
        }
        eprintln!("bench: {}", workload.name);
        let mut report = Report::new(workload.name, systems);
        (workload.run)(&mut report, options);
        well &= report.is_well();
    }
    Ok(well)
}

fn main() -> ExitCode {
    swath::client::init();
    let done: Outcome<bool> = match options::parse(lexopt::Parser::from_env()) {
        Ok(Request::Help) => {
            report::print(&usage());
            Ok(true)
        }
        Ok(Request::List) => {
            WORKLOADS.iter().for_each(|w| report::print(w.name));
            Ok(true)
        }
        Ok(Request::Measure(options)) => measure(&options).map_err(Into::into),
        Ok(Request::Child(child, options)) => process::child(child, &options).map(|()| true),
        Err(error) => Err(format!("{error}\n\n{}", usage()).into()),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::from(2)
        }
    }
}
